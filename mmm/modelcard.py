"""Model cards: README.md of an exported model, written from the recipe, the data cards and the run's own figures.

Shape suffixes: none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .core.errors import BadRecipe
from .data.cards import Card, load_card
from .exports.written import Written
from .interop.from_safetensors import portable
from .sources import Source
from .yaml import dump


def card(source: Source, written: Written, name: str) -> str:
    """The text of a card, with the front matter that model hubs read.

    Args:
        source: what was exported. written: what it became. name: of the folder.
    """
    figures = _figures(source)
    cards, missing = _cards(source.values)
    parts = [
        f"# {name}",
        _what(source, written),
        "## Load it",
        f"```python\n{written.usage.replace('DIR', name)}\n```",
        "\n".join(f"- {line}" for line in (*written.told, *written.inputs)),
        "## Data",
        _data(source, cards, missing),
        "## Figures",
        _told(figures),
        "## Intended use and limits",
        _limits(source, cards, figures),
        "## Licence",
        _licence(cards),
        "## Recipe",
        f"```yaml\n{dump(portable(source.values))}```",
    ]
    return f"---\n{dump(_front(source, written, cards, figures))}---\n\n" + "\n\n".join(p for p in parts if p) + "\n"


def _front(source: Source, written: Written, cards: list[Card], figures: Mapping[str, Any]) -> dict[str, Any]:
    model = source.values["model"]
    metrics = [figures["task"]["metric"]] if figures.get("task") else ["skill"] if figures.get("skill") else []
    front = {
        "license": "other",
        "license_name": "see-licence-section",
        "license_link": "README.md#licence",
        "library_name": written.library,
        "tags": ["mmm", "masked-modelling", *model["modalities"], _class(model["objective"]), *written.tags],
        "datasets": [c.name for c in cards],
        "metrics": metrics,
    }
    return {key: value for key, value in front.items() if value}


def _what(source: Source, written: Written) -> str:
    """What the model is and where it comes from."""
    model = source.values["model"]
    parameters = sum(p.numel() for p in written.training.model.parameters())
    modalities = ", ".join(f"{name} ({_class(part)})" for name, part in model["modalities"].items())
    lines = [
        f"One {_class(model['encoder'])} encoder of width {written.training.model.encoder.width} for {modalities}; "
        f"{parameters:,} parameters with heads. Objective: {_class(model['objective'])}."
    ]
    original = source.original
    if original is not None:
        kind = original.config.get("model_type") or original.config.get("architecture") or type(original.model).__name__
        lines.append(
            f"It was not trained here: it is {portable(original.source)!r}, of type {kind} of {original.library}, imported, "
            "compared with the original on the same records, and written anew."
        )
    elif begun := source.values.get("init_from"):
        begun = begun["source"] if isinstance(begun, Mapping) else begun
        lines.append(f"Its training began from {portable(begun)!r}; what that had learned from, its own card tells.")
    if model.get("adapter"):
        lines.append(f"It was fine-tuned with the adapter {_class(model['adapter'])}.")
    return "\n\n".join(lines)


def _cards(values: Mapping[str, Any]) -> tuple[list[Card], list[str]]:
    """(the data cards of a recipe, names of those that are not on this machine)."""
    found, missing = [], []
    for name in values["data"].get("cards") or {}:
        try:
            found.append(load_card(name))
        except BadRecipe:
            missing.append(name)
    return found, missing


def _data(source: Source, cards: list[Card], missing: list[str]) -> str:
    lines = [f"- **{c.name}** ({c.modality}): {c.title}. {c.source['url']} Licence: {c.licence}." for c in cards]
    lines += [f"- **{name}**: its card was not on the machine that wrote this." for name in missing]
    files = source.values["data"].get("files") or {}
    lines += [f"- Files of its own for {modality}, which no card describes." for modality in files]
    if lines:
        return "\n".join(lines)
    return "Not known here: see the original." if source.original is not None else "The recipe names none."


def _figures(source: Source) -> dict[str, Any]:
    """``summary.json`` of a run folder; nothing for other sources."""
    path = Path(source.name) / "summary.json"
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadRecipe(f"{path}: no JSON that can be read: {error}") from error
    return value if isinstance(value, dict) else {}


def _told(figures: Mapping[str, Any]) -> str:
    """The run's figures as tables."""
    if not figures:
        return "None: the source is no finished run."
    parts = []
    if task := figures.get("task"):
        low, high = _number(task["low"]), _number(task["high"])
        on = f"{task['records']:,} records of {task['on']}" if {"records", "on"} <= task.keys() else "held-out records"
        parts.append(f"Task: {task['metric']} {_number(task['value'])} on {on} (99 % interval {low} to {high}).")
    if skills := figures.get("skill"):
        rows = [
            f"| {name} | {s['target']} | {_number(s['value'])} | {_number(s['low'])} to {_number(s['high'])} "
            f"| {_number(s['loss'])} | {_number(s['baseline'])} | {s['unit']} | {s['records']} |"
            for name, s in skills.items()
        ]
        parts.append(
            "Skill is 1 - loss / baseline on validation records; the baseline is the best guess without context.\n\n"
            "| modality | target | skill | 99 % interval | loss | baseline | unit | records |\n"
            + "|---" * 8
            + "|\n"
            + "\n".join(rows)
        )
    parts.append(
        f"Trained for {figures['steps']:,} steps over {figures['tokens']:,} tokens, precision {figures['precision']}, "
        f"seed {figures['seed']}."
    )
    return "\n\n".join(parts)


def _limits(source: Source, cards: list[Card], figures: Mapping[str, Any]) -> str:
    """What it is for and what not, as far as the recipe and the cards tell."""
    model = source.values["model"]
    lines = [
        f"- Meant for features of {', '.join(model['modalities'])}, for fine-tuning, and for the task of its objective "
        f"({_class(model['objective'])}). No other use was evaluated.",
        "- It repeats what stood in its data, errors and biases included. Its answers are likely, not true.",
    ]
    if figures:
        lines.append(f"- The figures above are of one run (seed {figures['seed']}) on records held out of the same data.")
    lines += [f"- {c.name} is meant for: {_flat(c.intended_use)}" for c in cards]
    lines += [f"- Known limits of {c.name}: {_flat(c.known_limits)}" for c in cards]
    return "\n".join(lines)


def _licence(cards: list[Card]) -> str:
    """Whose choice the licence is, and what it depends on."""
    lines = ["Whoever publishes these weights states their licence here. It depends on what they were learned from:"]
    lines += [f"- {c.name}: {c.licence}" for c in cards]
    return "\n".join(lines if cards else [lines[0].partition(" It depends")[0], "The source states none that is known here."])


def _class(part: Any) -> str:
    return str(part["class_path"] if isinstance(part, Mapping) else part).rpartition(".")[2]


def _flat(text: str) -> str:
    return " ".join(text.split())


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else "not measured"
