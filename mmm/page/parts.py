"""The bricks of the page: sections, tables, numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape


def section(title: str, body: str) -> str:
    """A titled part of the page."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n"


def details(title: str, body: str) -> str:
    """A part that is folded away."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>\n"


def table(
    head: Sequence[str], body: Iterable[Sequence[str]], style: str = "", raw: bool = False, names: Sequence[str] = ()
) -> str:
    """A table; cells are escaped unless ``raw``. ``names`` stand before the cells where a narrow screen stacks them."""

    def safe(cell: str) -> str:
        return cell if raw else escape(str(cell))

    def cells(row: Sequence[str]) -> Iterator[str]:
        for i, cell in enumerate(row):
            label = f' data-label="{escape(names[i])}"' if names and names[i] else ""
            yield f'<th scope="row"{label}>{safe(cell)}</th>' if i == 0 else f"<td{label}>{safe(cell)}</td>"

    columns = "".join(f'<th scope="col">{safe(h)}</th>' for h in head)
    lines = "".join(f"<tr>{''.join(cells(row))}</tr>" for row in body)
    return f'<div class="scroll"><table class="{style}"><thead><tr>{columns}</tr></thead><tbody>{lines}</tbody></table></div>'


def number(value: float, digits: int = 3) -> str:
    """With so many decimals, and a real minus sign."""
    return f"{value:.{digits}f}".replace("-", "−")


def short(value: float) -> str:
    """Three figures and a letter."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def unseen(trained_on: Mapping[str, int]) -> str:
    """How many of the records a run is judged by are training records, too: a clause."""
    both = sum(trained_on.values())
    return f"{both:,} of which are training records, too, so the figures flatter it" if both else "none of which was trained on"


def duration(seconds: float) -> str:
    """Hours, minutes, seconds, as coarse as they may be."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
