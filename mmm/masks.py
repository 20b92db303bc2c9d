"""What a recipe really hides, counted on training records; no weights are needed.

Shape suffixes: T packed tokens, N tokens of one modality, U units, S segments.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from .core.tokens import pack
from .core.training import Training
from .data.module import Data
from .look import Look
from .skill import by_key

BATCH = 32
"""Records that are looked at together."""
LINE = 64
"""Characters of a line of a one-dimensional picture."""

ROWS = (
    ("records", "records looked at", "{:,}"),
    ("tokens", "maskable tokens", "{:,}"),
    ("rate", "hidden", "{:.2%}"),
    ("drawn", "hidden, as the rate was drawn", "{:.2%}"),
    ("asked", "asked", "{:.2%}"),
    ("shown_mask", "of the hidden: mask vector or left out", "{:.2%}"),
    ("random", "of the hidden: other content", "{:.2%}"),
    ("kept", "of the hidden: shown as they are", "{:.2%}"),
    ("span_mean", "neighbours hidden together, mean", "{:.2f}"),
    ("span_max", "neighbours hidden together, most", "{:,}"),
    ("visible", "tokens that enter the encoder", "{:,}"),
    ("nothing_hidden", "records with nothing hidden", "{:,}"),
    ("units_split", "units hidden in part", "{:,}"),
    ("specials_hidden", "specials hidden", "{:,}"),
)
"""Key of an audit, its words, its form."""


@dataclass
class _Count:
    """Sums over the looks at one modality."""

    records: int = 0
    tokens: int = 0
    hidden: int = 0
    asked: int = 0
    replaced: int = 0
    kept: int = 0
    visible: int = 0
    specials_hidden: int = 0
    nothing_hidden: int = 0
    units_split: int = 0
    spans: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def add(self, look: Look) -> None:
        """Count one more look."""
        layout, hidden_T = look.tokens.layout, look.hidden_T
        hidden_S = torch.bincount(layout.segment_T[hidden_T], minlength=layout.segments)
        maskable_S = torch.bincount(layout.segment_T[layout.maskable_T], minlength=layout.segments)
        unit_T = layout.unit_T
        size_U, hidden_U = torch.bincount(unit_T), torch.bincount(unit_T, weights=hidden_T.double())
        self.records += layout.segments
        self.tokens += int(layout.maskable_T.sum())
        self.hidden += int(hidden_T.sum())
        self.asked += int(look.asked_T.sum())
        self.replaced += int(look.replaced_T.sum())
        self.kept += int((look.shown_T & hidden_T).sum())
        self.visible += len(look.view.layout_K)
        self.specials_hidden += int((hidden_T & ~layout.maskable_T).sum())
        self.nothing_hidden += int(((hidden_S == 0) & (maskable_S > 0)).sum())
        self.units_split += int(((hidden_U > 0) & (hidden_U < size_U)).sum())
        self.spans += spans(hidden_T, layout.segment_T)
        if look.view.rate_S is not None:
            self.rates += look.view.rate_S.tolist()

    def result(self) -> dict[str, Any]:
        """The audit of the modality."""
        tokens, hidden = max(1, self.tokens), max(1, self.hidden)
        return {
            "records": self.records,
            "tokens": self.tokens,
            "rate": self.hidden / tokens,
            "drawn": math.fsum(self.rates) / len(self.rates) if self.rates else None,
            "asked": self.asked / tokens,
            "shown_mask": (self.hidden - self.replaced - self.kept) / hidden,
            "random": self.replaced / hidden,
            "kept": self.kept / hidden,
            "span_lengths": {"mean": sum(self.spans) / max(1, len(self.spans)), "max": max(self.spans, default=0)},
            "visible": self.visible,
            "nothing_hidden": self.nothing_hidden,
            "units_split": self.units_split,
            "specials_hidden": self.specials_hidden,
        }


def audit(training: Training, data: Data, records: int = 256) -> dict[str, dict[str, Any]]:
    """What the objective hides of each modality, on training records, each modality alone.

    Schedules are looked at over the whole of training: the batches stand for equal shares of it.

    Args:
        training: its modalities fitted; a model is not needed. data: read.
        records: of each modality, at most; chosen by their keys.

    Returns:
        For each modality that has training records: ``records``, ``tokens`` (maskable ones), ``rate`` (share of them hidden),
        ``drawn`` (the same, as the rate was drawn; None where the objective does not tell), ``asked`` (share of them asked),
        ``shown_mask``, ``random``, ``kept`` (shares of the hidden: mask vector or left out, other content, as they are),
        ``span_lengths`` (``mean`` and ``max`` of neighbours hidden together), ``visible`` (tokens that enter the encoder),
        ``nothing_hidden`` (records), ``units_split`` and ``specials_hidden``.
    """
    found = {}
    for name in training.modalities:
        count = _Count()
        for look in looks(training, data, name, records):
            count.add(look)
        if count.records:
            found[name] = count.result()
    return found


def looks(training: Training, data: Data, name: str, records: int) -> Iterator[Look]:
    """Looks at batches of training records of one modality, tokenised as in the first epoch."""
    chosen = by_key(data.training_records(name), training.draw.stream("audit"), records)
    for start in range(0, len(chosen), BATCH):
        samples = [data.tokenize({name: record}, 0) for record in chosen[start : start + BATCH]]
        tokens = pack(samples, data.tokenizers)
        progress = (start + len(samples) / 2) / len(chosen)
        for view in training.objective.views(tokens, progress, training.draw):
            if len(view.answer_N) == len(view.read_N):  # a task reads records and asks nothing of their tokens
                yield Look.at(tokens, view)


def spans(hidden_T: Tensor, segment_T: Tensor) -> list[int]:
    """Lengths of the runs of hidden neighbours."""
    before_T = torch.cat([hidden_T.new_zeros(1), hidden_T[:-1] & (segment_T[1:] == segment_T[:-1])])
    number_T = (hidden_T & ~before_T).cumsum(0)
    return torch.bincount(number_T[hidden_T] - 1).tolist() if bool(hidden_T.any()) else []


def character_picture(look: Look, segment: int = 0) -> str:
    """One record of a look in characters: hidden ■, seen ·, special ○; a grid where the modality has two coordinates."""
    layout = look.tokens.layout
    own_T = layout.segment_T == segment
    hidden, maskable = look.hidden_T[own_T].tolist(), layout.maskable_T[own_T].tolist()
    marks = ["■" if h else "·" if m else "○" for h, m in zip(hidden, maskable, strict=True)]
    name = look.tokens.names[int(layout.modality_T[own_T][0])]
    if look.tokens.tokenizers[name].coordinates != 2:
        return "\n".join("".join(marks[i : i + LINE]) for i in range(0, len(marks), LINE))
    places = layout.position_TC[own_T][:, -2:].long().tolist()
    grid = {tuple(p): m for p, m, free in zip(places, marks, maskable, strict=True) if free}
    specials = " ".join(m for m, free in zip(marks, maskable, strict=True) if not free)
    height, width = (max(p[i] for p in grid) + 1 for i in (0, 1))
    lines = [" ".join(grid.get((y, x), " ") for x in range(width)) for y in range(height)]
    return "\n".join([specials, *lines] if specials else lines)


def table(found: dict[str, dict[str, Any]]) -> Table:
    """An audit as a table, a modality a column."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    made.add_column("")
    for name in found:
        made.add_column(name, justify="right")
    for key, words, cells in rows(found):
        fault = key == "specials_hidden" and any(f[key] for f in found.values())
        made.add_row(words, *cells, style="bold red" if fault else None)
    return made


def rows(found: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str, list[str]]]:
    """(key, words, a cell a modality) of an audit."""
    flat = {n: f | {f"span_{k}": v for k, v in f["span_lengths"].items()} for n, f in found.items()}
    for key, words, form in ROWS:
        yield key, words, ["-" if f[key] is None else form.format(f[key]) for f in flat.values()]


def command(path: str, overrides: Sequence[str] = (), as_json: bool = False, records: int = 256) -> int:
    """``mmm masks``: print the audit of a recipe. Returns 1 where a special is hidden, else 0.

    Raises:
        ValueError: with one clear line where the recipe or its data cannot be used.
    """
    from .recipe import build, read

    cli = build(read(path, overrides), {"logger": False, "enable_checkpointing": False})
    training, data = cli.model, cli.datamodule
    data.prepare_data()
    data.read(training.modalities, training.seed)
    for name, modality in training.modalities.items():
        modality.fit(data.training_records(name))
    with torch.device("meta"):  # the objective's own checks, without memory
        training.build(lambda address, part, name: None)
    for address, target in training.objective.targets().items():
        if address.startswith("task/"):  # labels are looked up as the views are made
            target.fit(data.training_records(target.name))
    found = audit(training, data, records)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        console = Console(highlight=False, soft_wrap=True)
        console.print(table(found))
        console.print("\nOne record of each: ■ hidden, · seen, ○ special")
        for name in found:
            console.print(f"\n[bold]{name}[/bold]")
            console.print(character_picture(next(looks(training, data, name, 1))), markup=False)
    return int(any(f["specials_hidden"] for f in found.values()))
