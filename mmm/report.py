"""The report of a run: ``summary.json`` for programs, ``report.html`` for people, one file that opens without a network.

Shape suffixes: N tokens of one modality.
"""

from __future__ import annotations

import base64
import importlib.metadata
import io
import json
import math
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from . import plugins
from .core.objective import Answer
from .core.picture import Marked, Picture, Raster
from .core.tokens import pack
from .core.training import Training
from .data.cards import load_card
from .data.module import VALIDATION_EPOCH, Data
from .doctor import FLOORS
from .masks import audit
from .masks import rows as mask_rows
from .runlog import RunLog, losses, write_whole
from .skill import Skill, ask, evaluate, scoring

SHOWN = 6
"""Validation records of each modality that are shown."""
LAST = 0.05
"""Share of the steps that a final training loss is the mean of."""

Curve = Sequence[tuple[int, float, float]]
"""(step, total, count)."""


class Report(Callback):
    """Evaluates when training ends, on every process, and writes the report, on the first.

    Args:
        runlog: of the same run.
    """

    def __init__(self, runlog: RunLog):
        self.runlog = runlog

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Training)
        data: Data = trainer.datamodule  # type: ignore[attr-defined]
        skills = evaluate(pl_module, data)
        if trainer.is_global_zero:
            write_report(Path(trainer.default_root_dir), pl_module, data, skills, self.runlog.summary())
        trainer.strategy.barrier()


def write_report(
    run_dir: Path, training: Training, data: Data, skills: Mapping[str, Skill], runlog_summary: Mapping[str, Any]
) -> None:
    """Write ``summary.json`` and ``report.html``.

    Args:
        run_dir: holds ``losses.csv`` and ``recipe.yaml``, where there are any.
        training, data: at the end of training. skills: of ``evaluate``. runlog_summary: of ``RunLog.summary``.
    """
    table, recipe = run_dir / "losses.csv", run_dir / "recipe.yaml"
    curves = losses(table) if table.exists() else {}
    facts = summary(training, data, skills, runlog_summary, curves)
    write_whole(run_dir / "summary.json", json.dumps(_finite(facts), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    text = recipe.read_text(encoding="utf-8") if recipe.exists() else ""
    page = _page(run_dir.resolve().name, facts, curves, gallery(training, data), cards(data), text)
    write_whole(run_dir / "report.html", page)


# -- facts ---------------------------------------------------------------------------------------------------------------------


def summary(
    training: Training, data: Data, skills: Mapping[str, Skill], pace: Mapping[str, Any], curves: Mapping[str, Curve]
) -> dict[str, Any]:
    """All the numbers of a run."""
    validation = pace["validation"]
    trainer = data.trainer
    return {
        "skill": {name: asdict(skill) for name, skill in skills.items()},
        "losses": {
            term: {"train": final_loss(curves.get(term, ())), "validation": validation.get(term)}
            for term in sorted({*curves, *validation})
        },
        "steps": pace["steps"],
        "tokens": pace["tokens"],
        "seconds": pace["seconds"],
        "tokens_per_second": pace["tokens_per_second"],
        "waiting": pace["waiting"],
        "processes": pace["processes"],
        "device": torch.cuda.get_device_name(training.device) if training.device.type == "cuda" else training.device.type,
        "precision": None if trainer is None else str(trainer.precision),
        "seed": training.seed,
        "parameters": parameters(training),
        "data": data.describe(),
        "masks": audit(training, data),
        "versions": versions(),
    }


def _finite(value: Any) -> Any:
    """The same, with null where a number is none: JSON knows no other word for it."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def final_loss(curve: Curve) -> float | None:
    """The loss over the last twentieth of the steps; None where a term was never asked."""
    steps = max((step for step, _, _ in curve), default=0)
    last = [(total, count) for step, total, count in curve if step > steps * (1 - LAST)]
    count = sum(c for _, c in last)
    return sum(t for t, _ in last) / count if count else None


def parameters(training: Training) -> dict[str, int]:
    """Numbers of parameters: ``total``, then each part's. One that two parts share is the first one's."""
    model = training.model
    parts: dict[str, nn.Module] = {"encoder": model.encoder, "decoder": model.decoder}
    parts |= {name: model.modalities[name] for name in model.names}
    parts |= {f"head {address}": head for address, head in model.heads.items()}
    parts |= {"rest": training}
    seen: set[int] = set()
    counts = {}
    for part, module in parts.items():
        own = {id(p): p.numel() for p in module.parameters() if id(p) not in seen}
        seen |= own.keys()
        counts[part] = sum(own.values())
    return {"total": sum(counts.values())} | {part: n for part, n in counts.items() if n}


def versions() -> dict[str, str]:
    """Of Python and of every package that takes part."""
    found = {"python": platform.python_version()}
    for package in ("mmm-pretrain", *FLOORS, *sorted({e.distribution for e in plugins.index().values()})):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def cards(data: Data) -> list[dict[str, Any]]:
    """A row a source of the data: its name, title, licence and origin, and its records."""
    counts = data.describe()
    found = []
    for name in counts["train"]:
        row = {"name": name, "title": "own files", "licence": "not told", "url": ""}
        if name in data.cards:
            card = load_card(name)
            row |= {"title": card.title, "licence": card.licence, "url": card.source.get("url", "")}
        found.append(row | {split: counts[split].get(name, 0) for split in ("train", "validation")})
    return found


def gallery(training: Training, data: Data) -> dict[str, list[list[Picture]]]:
    """For each modality that has pictures: those of some validation records, chosen by their keys."""
    examples = [e for source in data.sources("validation") for e in source.examples]
    draw = training.draw.stream("gallery")
    shown: dict[str, list[list[Picture]]] = {}
    with scoring(training, data):
        for name in training.model.names:
            own = sorted((int(draw.bits(e[name].sample)), i) for i, e in enumerate(examples) if name in e)[:SHOWN]
            found = [_pictures(training, data, name, examples[i]) for _, i in own]
            if any(found):
                shown[name] = [pictures for pictures in found if pictures]
    return shown


def _pictures(training: Training, data: Data, name: str, example: Mapping[str, Any]) -> list[Picture]:
    tokens = pack([data.tokenize(example, VALIDATION_EPOCH)], data.tokenizers)
    views, answers = ask(training, tokens)
    asked_T = torch.zeros(len(tokens), dtype=torch.bool).index_fill(0, views[0].answer_N, True)
    answers = [_on_host(a) for a in answers if a.name == name]
    return training.modalities[name].pictures(tokens, name, asked_T[tokens.index[name]], answers)


def _on_host(answer: Answer) -> Answer:
    fields = ("answer_N", "output_NV", "truth_N", "loss_N", "weight_N")
    return replace(answer, **{f: getattr(answer, f).detach().cpu() for f in fields})


# -- the page ------------------------------------------------------------------------------------------------------------------


def _page(
    title: str,
    facts: Mapping[str, Any],
    curves: Mapping[str, Curve],
    shown: Mapping[str, list[list[Picture]]],
    sources: Sequence[Mapping[str, Any]],
    recipe: str,
) -> str:
    sections = [
        _section("What was learned", _skills(facts["skill"], facts["masks"])),
        _section("Losses", _losses(facts, curves)),
        _section("What it fills in", _gallery(shown)),
        _section("What was hidden", _masks(facts["masks"])),
        _section("Data", _data(sources)),
        _section("Model and machine", _model(facts)),
        _details("Recipe, with every default filled in", f"<pre>{escape(recipe)}</pre>") if recipe else "",
        _details("Versions", _table(("package", "version"), facts["versions"].items())),
    ]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{escape(title)}: report</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<p class="eyebrow">Report of a run</p>
<h1>{escape(title)}</h1>
<p class="verdict">{escape(verdict(facts["skill"]))}</p>
{_tiles(facts)}
</header>
<main>
{"".join(sections)}
</main>
</body>
</html>
"""


def verdict(skills: Mapping[str, Mapping[str, Any]]) -> str:
    """One sentence on all modalities: learned is what lies above the guess with its whole interval."""
    if not skills:
        return "Nothing was scored: this objective gives no answers, or nothing was asked."
    learned = [n for n, s in skills.items() if s["low"] > 0]
    rest = [n for n in skills if n not in learned]
    if not learned:
        return f"No better than a guess that looks at no context: {_listed(rest)}."
    words = f"The model learned to use context in {_listed(learned)}"
    return f"{words}; in {_listed(rest)} it is not yet better than a guess." if rest else f"{words}."


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _tiles(facts: Mapping[str, Any]) -> str:
    machine = facts["device"] + (f" × {facts['processes']}" if facts["processes"] > 1 else "")
    tiles = {
        "parameters": _short(facts["parameters"]["total"]),
        "steps": f"{facts['steps']:,}",
        "training": _duration(facts["seconds"]),
        "tokens a second": _short(facts["tokens_per_second"]),
        "waiting for data": "-" if facts["waiting"] is None else f"{facts['waiting']:.1%}",
        f"on {machine}": facts["precision"] or "-",
    }
    boxes = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in tiles.items())
    return f'<dl class="tiles">{boxes}</dl>'


def _skills(skills: Mapping[str, Mapping[str, Any]], masks: Mapping[str, Any]) -> str:
    if not skills:
        return "<p>No answer of this run could be scored.</p>"
    copied = max((m["kept"] for m in masks.values()), default=0.0)
    words = (
        "<p><strong>Skill</strong> is the share of a guess's error that the model takes away: 1 − loss / baseline, over all "
        "tokens that were asked in validation records, none of which was trained on. At 1 every answer is perfect, at 0 the "
        "model is no better than the guess, below 0 it is worse. The <strong>baseline</strong> is the best guess that looks "
        "at no context, so what is above 0 was learned from the tokens around. Bars are 99 % intervals over the records."
        + (f" Up to {copied:.0%} of what was asked was shown as it is, and so could be copied." if copied else "")
        + "</p>"
    )
    low = min([0.0, *(math.floor(s["low"] * 10) / 10 for s in skills.values() if math.isfinite(s["low"]))])
    head = ("modality", "skill", _axis(low), "loss", "baseline", "predicts", "records", "tokens")
    body = []
    for i, (name, s) in enumerate(skills.items()):
        choice = f"{s['target']}, one of {s['vocabulary']:,}" if s["vocabulary"] else s["target"]
        body.append(
            (
                f'<strong class="c{i % 6}">{escape(name)}</strong>',
                f'<span class="big">{_number(s["value"])}</span> <small>{_number(s["low"])} to {_number(s["high"])}</small>',
                _bar(s["value"], s["low"], s["high"], low, f"c{i % 6}", name),
                f"{_number(s['loss'])} <small>{escape(s['unit'])}</small>",
                f"{_number(s['baseline'])} <small>{escape(s['guess'])}</small>",
                escape(choice),
                f"{s['records']:,}",
                f"{s['tokens']:,}",
            )
        )
    return words + _table(head, body, "skills stack", raw=True, names=("", "skill", "", *head[3:]))


def _axis(low: float) -> str:
    texts = (
        f'<text x="{_percent(x, low)}" y="11" text-anchor="{anchor}">{_number(x, 1)}</text>' for x, anchor in _ticks_of_bar(low)
    )
    return f'<svg class="axis" role="img" aria-label="scale of the bars">{"".join(texts)}</svg>'


def _ticks_of_bar(low: float) -> list[tuple[float, str]]:
    ticks = [(0.0, "middle" if low else "start"), (0.5, "middle"), (1.0, "end")]
    return [(low, "start"), *ticks] if low < -0.15 else ticks


def _bar(value: float, least: float, most: float, low: float, colour: str, name: str) -> str:
    v, a, b, zero, half = (_percent(max(low, min(1.0, x)), low) for x in (value, least, most, 0.0, 0.5))
    label = escape(f"skill of {name}: {value:.3f}, from {least:.3f} to {most:.3f}")
    return (
        f'<svg class="bar {colour}" role="img" aria-label="{label}">'
        f'<line class="track" x1="0" x2="100%" y1="14" y2="14"/>'
        f'<line class="grid" x1="{half}" x2="{half}" y1="4" y2="24"/>'
        f'<line class="zero" x1="{zero}" x2="{zero}" y1="2" y2="26"/>'
        f'<line class="from0" x1="{zero}" x2="{v}" y1="14" y2="14"/>'
        f'<line class="interval" x1="{a}" x2="{b}" y1="14" y2="14"/>'
        f'<circle cx="{v}" cy="14" r="4.5"/></svg>'
    )


def _percent(value: float, low: float) -> str:
    """Where a skill lies on an axis from ``low`` to 1, with a little room on both sides."""
    return f"{1.5 + 97 * (value - low) / (1 - low):.2f}%"


# -- losses --------------------------------------------------------------------------------------------------------------------


def _losses(facts: Mapping[str, Any], curves: Mapping[str, Curve]) -> str:
    names = list(facts["skill"])
    baselines = {f"{n}/{s['target']}": s for n, s in facts["skill"].items()}
    charts = []
    for term, curve in curves.items():
        asked = [row for row in curve if row[2] and math.isfinite(row[1])]
        if not asked:
            continue
        final, skill, name = facts["losses"][term], baselines.get(term), term.split("/")[0]
        numbers = {"training": final["train"], "validation": final["validation"], "guess": skill and skill["baseline"]}
        known = {k: v for k, v in numbers.items() if v is not None and math.isfinite(v)}
        words = " · ".join(f"{k} {_number(v)}" for k, v in known.items())
        unit = f" <small>{escape(skill['unit'])}</small>" if skill else ""
        colour = f"c{names.index(name) % 6 if name in names else 0}"
        chart = _Chart.of(asked, known.get("validation"), known.get("guess"))
        drawn = chart.svg(colour, f"loss {term} over {asked[-1][0]} steps: {words}")
        caption = f"<figcaption><strong>{escape(term)}</strong><br>{escape(words)}{unit}</figcaption>"
        charts.append(f"<figure>{caption}{drawn}</figure>")
    if not charts:
        return "<p>No losses were kept.</p>"
    words = (
        "<p>Thin: the loss of each step. Thick: its mean over a twenty-fifth of the run. Ring: validation, asked as at the end "
        "of training. Dashes: the guess without context. Training losses in words are means of the last "
        f"{LAST:.0%} of the steps.</p>"
    )
    return words + f'<div class="charts">{"".join(charts)}</div>'


@dataclass
class _Chart:
    """Loss over steps, in a box of 400 x 230: one value a bucket of steps, raw and smoothed."""

    steps: np.ndarray
    raw: np.ndarray
    smooth: np.ndarray
    validation: float | None
    baseline: float | None

    LEFT, RIGHT, TOP, BOTTOM = 46, 392, 8, 196

    @classmethod
    def of(cls, curve: Curve, validation: float | None, baseline: float | None) -> _Chart:
        step, total, count = (np.array(column, dtype=np.float64) for column in zip(*curve, strict=True))
        window = max(1, len(step) // 25)
        smooth = _window(total, window) / _window(count, window)
        buckets = np.array_split(np.arange(len(step)), min(300, len(step)))
        raw = [total[b].sum() / count[b].sum() for b in buckets]
        middle = np.array([step[b].mean() for b in buckets])
        return cls(middle, np.array(raw), np.array([smooth[b].mean() for b in buckets]), validation, baseline)

    def svg(self, colour: str, label: str) -> str:
        """The drawing; ``label`` says in words what it shows."""
        extra = [v for v in (self.validation, self.baseline) if v is not None]
        low, high = min(*self.raw, *extra, self.smooth.min()), max(*self.raw, *extra, self.smooth.max())
        log = low > 0 and high / low > 20
        last = max(1.0, float(self.steps[-1]))
        ticks = _log_ticks(low, high) if log else _ticks(low, high)
        low, high = min(low, ticks[0]), max(high, ticks[-1])
        scale = math.log if log else float

        def x(step: float) -> float:
            return self.LEFT + (self.RIGHT - self.LEFT) * step / last

        def y(value: float) -> float:
            share = (scale(value) - scale(low)) / ((scale(high) - scale(low)) or 1.0)
            return self.BOTTOM - (self.BOTTOM - self.TOP) * share

        def path(values: np.ndarray) -> str:
            return " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in zip(self.steps, values, strict=True))

        curves = {"raw": self.raw, "smooth": self.smooth}
        marks = [f'<polyline class="{kind}" points="{path(values)}"/>' for kind, values in curves.items()]
        if self.baseline is not None:
            at = y(self.baseline)
            marks.append(f'<line class="guess" x1="{self.LEFT}" x2="{self.RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        if self.validation is not None:
            marks.append(f'<circle class="ring" cx="{x(last):.1f}" cy="{y(self.validation):.1f}" r="4.5"/>')
        grid = [
            f'<line class="grid" x1="{self.LEFT}" x2="{self.RIGHT}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
            f'<text x="{self.LEFT - 6}" y="{y(t) + 4:.1f}" text-anchor="end">{t:g}</text>'
            for t in ticks
        ]
        for t in _ticks(0.0, last, 4):
            if t <= last:
                anchor = "end" if t > 0.97 * last else "middle"
                grid.append(f'<text x="{x(t):.1f}" y="{self.BOTTOM + 15}" text-anchor="{anchor}">{t:,.0f}</text>')
        axes = (
            f'<text x="{(self.LEFT + self.RIGHT) / 2}" y="{self.BOTTOM + 31}" text-anchor="middle">step</text>'
            f'<text transform="translate(10 {(self.TOP + self.BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
            f"loss{' (log scale)' if log else ''}</text>"
        )
        inside = "".join([*grid, axes, *marks])
        return f'<svg class="chart {colour}" viewBox="0 0 400 230" role="img" aria-label="{escape(label)}">{inside}</svg>'


def _window(values: np.ndarray, width: int) -> np.ndarray:
    """Sums over ``width`` neighbours, fewer at the ends."""
    sums = np.concatenate([[0.0], values.cumsum()])
    at = np.arange(len(values))
    first, end = np.maximum(0, at - (width - 1) // 2), np.minimum(len(values), at + width // 2 + 1)
    return np.asarray(sums[end] - sums[first])


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that reach from ``low`` or just below to ``high`` or just above."""
    span = (high - low) or abs(high) or 1.0
    size = 10.0 ** math.floor(math.log10(span / about))
    step = next(size * m for m in (1, 2, 5, 10) if span / (size * m) <= about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    ticks = [m * 10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in (1, 2, 5)]
    return [t for t in ticks if low / 2.5 < t < high * 2.5]


# -- pictures, tables ----------------------------------------------------------------------------------------------------------


def _gallery(shown: Mapping[str, list[list[Picture]]]) -> str:
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


def _masks(masks: Mapping[str, Any]) -> str:
    if not masks:
        return "<p>No training record was looked at.</p>"
    records = max(m["records"] for m in masks.values())
    words = f"<p>Counted on training records, {records:,} of a modality at most, over the schedules of the whole run.</p>"
    return words + _table(("", *masks), [(w, *cells) for _, w, cells in mask_rows(dict(masks))])


def _data(sources: Sequence[Mapping[str, Any]]) -> str:
    head = ("source", "what it is", "licence", "training", "validation")
    rows = [
        (
            f"<strong>{escape(s['name'])}</strong>",
            f"{escape(s['title'])} <small>{escape(s['url'])}</small>",
            escape(s["licence"]),
            f"{s['train']:,}",
            f"{s['validation']:,}",
        )
        for s in sources
    ]
    words = (
        "<p>Records of each source. Where it names no validation set of its own, a record falls on one side by its content "
        "alone, so equal records are never on both.</p>"
    )
    return words + _table(head, rows, "sources stack", raw=True, names=("", "", "licence", *head[3:]))


def _model(facts: Mapping[str, Any]) -> str:
    counts = facts["parameters"]
    rows = [(part, f"{n:,}", f"{n / max(1, counts['total']):.1%}") for part, n in counts.items()]
    waiting = "" if facts["waiting"] is None else f", {facts['waiting']:.1%} of the time waiting for data"
    words = (
        f"<p>{facts['steps']:,} steps over {facts['tokens']:,} tokens (real ones, there is no padding) in "
        f"{_duration(facts['seconds'])}: {facts['tokens_per_second']:,.0f} tokens a second{waiting}. "
        f"Processes: {facts['processes']}, on {escape(facts['device'])}. Seed: {facts['seed']}. "
        f"Precision: {escape(facts['precision'] or 'not told')}.</p>"
    )
    return words + _table(("part", "parameters", "share"), rows)


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n"


def _details(title: str, body: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{body}</details>\n"


def _table(
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


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _short(value: float) -> str:
    """Three figures and a letter."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


STYLE = """
:root { color-scheme: light dark; --page: #fbfaf7; --ink: #22252a; --soft: #666b73; --line: #e5e2da; --card: #fff;
  --quiet: #efece4; --c0: #3366b0; --c1: #b85c1e; --c2: #237f5d; --c3: #86499f; --c4: #8a6d1b; --c5: #b03a62;
  --right: #1c7a46; --right-bg: #dff2e4; --wrong: #a8321f; --wrong-bg: #fbe4dd; }
@media (prefers-color-scheme: dark) { :root { --page: #16181c; --ink: #e4e5e8; --soft: #9aa0a8; --line: #2e3238;
  --card: #1d2025; --quiet: #2a2e34; --c0: #7fa8e6; --c1: #e79a62; --c2: #62c39c; --c3: #c391dc; --c4: #d2b35a; --c5: #e985a6;
  --right: #7fd8a2; --right-bg: #1c3a28; --wrong: #f0a08c; --wrong-bg: #47251d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 56px 32px 96px; background: var(--page); color: var(--ink);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  font-variant-numeric: tabular-nums; }
h1 { margin: 0; font-size: 40px; line-height: 1.15; letter-spacing: -.02em; overflow-wrap: anywhere; }
h2 { margin: 72px 0 8px; font-size: 22px; letter-spacing: -.01em; }
h3 { margin: 40px 0 8px; font-size: 17px; }
p { max-width: 72ch; color: var(--soft); } p strong { color: var(--ink); }
small { color: var(--soft); font-size: 13px; white-space: nowrap; }
.eyebrow { margin: 0 0 8px; font-size: 13px; letter-spacing: .08em; text-transform: uppercase; }
.verdict { margin: 16px 0 32px; font-size: 20px; line-height: 1.45; color: var(--ink); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 1px; margin: 0; overflow: hidden;
  border: 1px solid var(--line); border-radius: 12px; background: var(--line); }
.tiles div { padding: 14px 18px; background: var(--card); display: flex; flex-direction: column-reverse; }
.tiles dt { font-size: 13px; color: var(--soft); } .tiles dd { margin: 0; font-size: 20px; font-weight: 600; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); } .c4 { --c: var(--c4); }
.c5 { --c: var(--c5); }
strong[class^=c], h3[class^=c] { color: var(--c); }
.scroll { overflow-x: auto; margin: 16px 0; }
table { border-collapse: collapse; width: 100%; font-size: 15px; }
th, td { padding: 9px 18px 9px 0; text-align: right; vertical-align: middle; border-bottom: 1px solid var(--line);
  font-weight: 400; }
th:first-child, td:first-child { text-align: left; } th:last-child, td:last-child { padding-right: 0; }
thead th { font-size: 13px; color: var(--soft); vertical-align: bottom; }
.skills small { display: block; max-width: 22ch; margin-left: auto; white-space: normal; line-height: 1.35; }
.skills td:nth-child(3), .skills th:nth-child(3) { width: 26%; min-width: 180px; }
.skills td:nth-child(2) small { white-space: nowrap; }
.sources td:nth-child(-n+3), .sources th:nth-child(-n+3) { text-align: left; } .sources small { display: block; }
.skills td:nth-child(6) { max-width: 13ch; } .big { font-size: 20px; font-weight: 600; }
.bar { display: block; width: 100%; height: 28px; } .axis { display: block; width: 100%; height: 14px; overflow: visible; }
.track { stroke: var(--line); } .grid { stroke: var(--line); } .zero { stroke: var(--soft); }
.from0 { stroke: var(--c); stroke-width: 3; stroke-opacity: .35; }
.interval { stroke: var(--c); stroke-width: 9; stroke-opacity: .4; stroke-linecap: butt; } .bar circle { fill: var(--c); }
svg text { font-size: 12px; fill: var(--soft); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 32px 40px;
  margin-top: 24px; }
figure { margin: 0; } figcaption { font-size: 14px; color: var(--soft); } figcaption strong { color: var(--ink); }
.chart { display: block; width: 100%; height: auto; margin-top: 8px; }
.chart polyline { fill: none; stroke: var(--c); stroke-linejoin: round; } .raw { stroke-opacity: .35; stroke-width: .8; }
.smooth { stroke-width: 2.2; } .guess { stroke: var(--soft); stroke-width: 1.2; stroke-dasharray: 5 4; }
.ring { fill: var(--page); stroke: var(--c); stroke-width: 2.2; }
.records { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 16px; }
.record { display: flex; flex-wrap: wrap; gap: 14px 18px; align-content: flex-start; padding: 18px; background: var(--card);
  border: 1px solid var(--line); border-radius: 12px; min-width: 0; }
.raster { flex: 1 1 100%; } .small { flex: 1 1 0; min-width: 90px; max-width: 148px; }
.raster figcaption { font-size: 13px; line-height: 1.4; }
.raster img { display: block; width: 100%; height: auto; max-height: 170px; image-rendering: pixelated;
  border-radius: 4px; margin-bottom: 5px; }
.marked { width: 100%; min-width: 0; } .marked figcaption { font-size: 13px; }
.marked p { margin: 2px 0 0; max-width: none; max-height: 11em; overflow: auto; color: var(--ink); font-size: 15px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.w { padding: 1px 3px; margin: 0 1px; border-radius: 4px; white-space: nowrap; }
.hidden { background: var(--quiet); color: var(--soft); border-bottom: 2px dotted var(--soft); }
.right { background: var(--right-bg); color: var(--right); border-bottom: 2px solid var(--right); }
.wrong { background: var(--wrong-bg); color: var(--wrong); text-decoration: underline wavy 1px; text-underline-offset: 3px; }
.legend { font-size: 14px; } .legend .w { margin-right: 10px; }
details { margin-top: 16px; padding: 14px 18px; background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
h2 + details, section + details { margin-top: 72px; }
summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; font: 13px/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
@media (max-width: 640px) {
  body { padding: 32px 16px 64px; } h1 { font-size: 30px; } h2 { margin-top: 56px; } .verdict { font-size: 18px; }
  .tiles { grid-template-columns: 1fr 1fr; } table { font-size: 14px; } th, td { padding-right: 12px; }
  .stack thead { display: none; } .stack, .stack tbody, .stack tr, .stack th, .stack td { display: block; width: 100%; }
  .stack tr { padding: 14px 0; border-bottom: 1px solid var(--line); }
  .stack th, .stack td { padding: 2px 0; border: 0; text-align: left; }
  .stack td[data-label]::before { content: attr(data-label) " "; color: var(--soft); font-size: 13px; }
  .stack small { white-space: normal; overflow-wrap: anywhere; }
  .skills td:nth-child(3) { width: 100%; } .skills td:nth-child(6) { max-width: none; }
  .skills small { display: inline; margin-left: 6px; }
}
@media print { body { max-width: none; padding: 0; } .record, figure { break-inside: avoid; } }
"""
