"""``report.html``: one file without scripts and without anything from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from mmm.core.picture import Picture
from mmm.masks import rows as mask_rows

from .gallery import gallery
from .grown import grown_section
from .losses import Curve, charts
from .parts import details, duration, section, short, table
from .skills import skill_table, verdict
from .style import STYLE
from .task import task_section, task_verdict


def page(
    title: str,
    facts: Mapping[str, Any],
    curves: Mapping[str, Curve],
    shown: Mapping[str, list[list[Picture]]],
    sources: Sequence[Mapping[str, Any]],
    recipe: str,
) -> str:
    """The whole page.

    Args:
        title: of the run. facts: the summary. curves: of each term. shown: pictures of some records of each modality.
        sources: a row a source of the data. recipe: its text, empty where there is none.
    """
    task = facts.get("task")
    masked = facts["skill"] or not task
    both = facts["data"]["trained_on"]
    sections = [
        section("The task", task_section(task, both)) if task else "",
        section("What was learned", skill_table(facts["skill"], facts["masks"], both)) if masked else "",
        section("What became of the rest", grown_section(facts["grown"])) if "grown" in facts else "",
        section("Losses", charts(facts, curves)),
        section("What it fills in", gallery(shown)) if masked else "",
        section("What was hidden", _masks(facts["masks"])) if masked else "",
        section("Data", _data(sources)),
        section("Model and machine", _model(facts)),
        details("Recipe, with every default filled in", f"<pre>{escape(recipe)}</pre>") if recipe else "",
        details("Versions", table(("package", "version"), facts["versions"].items())),
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
<p class="verdict">{escape(task_verdict(task) if task else verdict(facts["skill"]))}</p>
{_tiles(facts)}
</header>
<main>
{"".join(sections)}
</main>
</body>
</html>
"""


def _tiles(facts: Mapping[str, Any]) -> str:
    machine = facts["device"] + (f" × {facts['processes']}" if facts["processes"] > 1 else "")
    tiles = {
        "parameters": short(facts["parameters"]["total"]),
        "steps": f"{facts['steps']:,}",
        "training": duration(facts["seconds"]),
        "tokens a second": short(facts["tokens_per_second"]),
        "waiting for data": "-" if facts["waiting"] is None else f"{facts['waiting']:.1%}",
        "of the peak": "-" if facts["utilisation"] is None else f"{facts['utilisation']:.0%}",
        f"on {machine}": facts["precision"] or "-",
    }
    boxes = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in tiles.items())
    return f'<dl class="tiles">{boxes}</dl>'


def _masks(masks: Mapping[str, Any]) -> str:
    if not masks:
        return "<p>No training record was looked at.</p>"
    records = max(m["records"] for m in masks.values())
    words = f"<p>Counted on training records, {records:,} of a modality at most, over the schedules of the whole run.</p>"
    return words + table(("", *masks), [(w, *cells) for _, w, cells in mask_rows(dict(masks))])


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
    return words + table(head, rows, "sources stack", raw=True, names=("", "", "licence", *head[3:]))


def _model(facts: Mapping[str, Any]) -> str:
    counts = facts["parameters"]
    rows = [(part, f"{n:,}", f"{n / max(1, counts['total']):.1%}") for part, n in counts.items()]
    waiting = "" if facts["waiting"] is None else f", {facts['waiting']:.1%} of the time waiting for data"
    used = ""
    if facts["utilisation"] is not None:
        used = f" {facts['flops'] / 1e12:.3g} TFLOP/s in products, {facts['utilisation']:.0%} of what a large one reaches here."
    fill = "" if facts["fill"] is None else f"; batches were filled to {facts['fill']:.1%}"
    words = (
        f"<p>{facts['steps']:,} steps over {facts['tokens']:,} tokens (real ones, there is no padding{fill}) in "
        f"{duration(facts['seconds'])}: {facts['tokens_per_second']:,.0f} tokens a second{waiting}.{used} "
        f"Processes: {facts['processes']}, on {escape(facts['device'])}. Seed: {facts['seed']}. "
        f"Precision: {escape(facts['precision'] or 'not told')}.</p>"
    )
    return words + table(("part", "parameters", "share"), rows)
