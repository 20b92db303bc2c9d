"""What an evaluation found: a table for people, and the same as JSON."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

from .evaluate import Done, Evaluation

PACKAGES = ("mmm-pretrain", "torch", "numpy", "scikit-learn", "scipy")
"""Those that figures depend on."""

COLUMNS = ("task", "measure", "metric", "value", "99 % interval", "n", "seeds", "baseline", "reference", "seconds")


def markdown(evaluation: Evaluation) -> str:
    """A table, then what is to be known of tasks, then what was left out and why."""
    suite = evaluation.suite
    lines = [f"# {suite.name} v{suite.version}: {suite.title}", "", f"Model: {evaluation.source}", ""]
    if evaluation.done:
        lines += [_row(COLUMNS), _row(["---"] * len(COLUMNS))]
        lines += [_row(_cells(name, done)) for name, done in evaluation.done.items()]
        lines.append("")
    data = [f"- {name}: {_said(done)} (sha256 {done.digest[:12]})" for name, done in evaluation.done.items()]
    if data:
        lines += ["Data:", "", *data, ""]
    notes = [f"- {name}: {note}" for name, done in evaluation.done.items() for note in done.outcome.notes]
    if notes:
        lines += ["Notes:", "", *notes, ""]
    if evaluation.left_out:
        lines += ["Left out:", "", *(f"- {name}: {why}" for name, why in evaluation.left_out.items()), ""]
    lines += [
        "Values are means over the seeds; the interval resamples the test records. "
        f"Digest of the suite: {suite.digest()[:12]}; "
        + ", ".join(f"{package} {version}" for package, version in _versions().items()),
    ]
    return "\n".join(lines) + "\n"


def _cells(name: str, done: Done) -> list[str]:
    o = done.outcome
    seeds = ", ".join(map(str, done.seeds)) or "none needed"
    interval = f"{_number(o.low)} to {_number(o.high)}"
    baseline = f"{_number(o.baseline)} ({o.guess})"
    figures = (_number(o.value), interval, str(o.n), seeds, baseline, done.task.reference, f"{done.seconds:.1f}")
    return [name, done.task.measure, o.metric, *figures]


def _said(done: Done) -> str:
    return ", ".join(f"{side} {path}".strip() for side, path in done.paths.items())


def _row(cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def values(evaluation: Evaluation) -> dict[str, Any]:
    """The same as plain values."""
    suite = evaluation.suite
    tasks = {}
    for name, done in evaluation.done.items():
        o = done.outcome
        tasks[name] = {
            "data": {"paths": {side or "all": str(path) for side, path in done.paths.items()}, "sha256": done.digest},
            "measure": done.task.measure,
            "metric": o.metric,
            "value": _finite(o.value),
            "low": _finite(o.low),
            "high": _finite(o.high),
            "n": o.n,
            "seeds": list(done.seeds),
            "by_seed": {str(seed): _finite(value) for seed, value in o.by_seed.items()},
            "baseline": _finite(o.baseline),
            "baseline_is": o.guess,
            "reference": done.task.reference,
            "notes": o.notes,
            "parts": o.parts,
            "seconds": round(done.seconds, 3),
        }
    return {
        "suite": suite.name,
        "version": suite.version,
        "digest": suite.digest(),
        "source": evaluation.source,
        "packages": _versions(),
        "tasks": tasks,
        "left_out": evaluation.left_out,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def write(evaluation: Evaluation, folder: Path) -> Path:
    """Leave ``eval-<suite>.md`` and ``eval-<suite>.json``, each whole or not at all. Returns the path of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / f"eval-{evaluation.suite.name}.md"
    _put(table, markdown(evaluation))
    _put(table.with_suffix(".json"), json.dumps(values(evaluation), indent=2, allow_nan=False) + "\n")
    return table


def _put(path: Path, content: str) -> None:
    handle, name = tempfile.mkstemp(prefix=path.name, suffix=".part", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(content)
    os.replace(name, path)
