"""Validation records, as they are, masked and filled in."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape

from mmm.core.picture import Marked, Picture, Raster


def gallery(shown: Mapping[str, list[list[Picture]]]) -> str:
    """The section: some records of each modality."""
    if not shown:
        return "<p>No modality of this run makes pictures.</p>"
    words = (
        "<p>Some validation records, chosen by their keys and not by how well they went: as they are, as the model saw them, "
        "and with its likeliest answers. What was asked is shown as hidden. Point at a word to see what was there.</p>"
    )
    legend = "".join(f'<span class="w {mark}">{mark}</span>' for mark in ("hidden", "right", "wrong"))
    parts = []
    for i, (name, records) in enumerate(shown.items()):
        rows = "".join(f'<div class="record">{"".join(map(_picture, pictures))}</div>' for pictures in records)
        marked = any(isinstance(p, Marked) for pictures in records for p in pictures)
        key = f'<p class="legend">{legend}</p>' if marked else ""
        parts.append(f'<h3 class="c{i % 6}">{escape(name)}</h3>{key}<div class="records">{rows}</div>')
    return words + "".join(parts)


def _picture(picture: Picture) -> str:
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>"
    if isinstance(picture, Raster):
        height, width = picture.pixels.shape[:2]
        kind = "raster small" if width <= 1.6 * height else "raster"
        image = f'<img alt="{escape(picture.caption)}" src="{data_uri(picture)}" width="{width}" height="{height}">'
        return f'<figure class="{kind}">{image}{caption}</figure>'
    words = "".join(_word(*word) for word in picture.words)
    return f'<figure class="marked">{caption}<p>{words}</p></figure>'


def _word(text: str, mark: str, note: str) -> str:
    if mark == "seen":
        return escape(text)
    title = f' title="{escape(note)}"' if note else ""
    return f'<span class="w {escape(mark)}"{title}>{escape(text)}</span>'


def data_uri(raster: Raster) -> str:
    """A PNG of a picture, as an address that holds it."""
    from PIL import Image

    pixels = raster.pixels.detach().cpu().float().nan_to_num().clamp(0, 1).mul(255).round().byte().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
