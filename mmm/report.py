"""The report of a run: ``summary.json`` for programs, ``report.html`` for people, one file that opens without a network.

Shape suffixes: N tokens of one modality.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from . import plugins
from .core.objective import Answer
from .core.picture import Picture
from .core.training import Training
from .data.cards import load_card
from .data.module import Data
from .doctor import FLOORS
from .masks import audit
from .page import page
from .page.losses import LAST, Curve
from .runlog import RunLog, losses, trained_share, write_whole
from .skill import Skill, ask, evaluate, scoring
from .task import Result, check, predictions_csv
from .task import evaluate as evaluate_task

if TYPE_CHECKING:
    from .growth import Growth

SHOWN = 6
"""Validation records of each modality that are shown."""


class Report(Callback):
    """Evaluates when training ends, on every process, and writes the report, on the first.

    Args:
        runlog: of the same run. growth: of the same run, where a pretrained model grows.
    """

    def __init__(self, runlog: RunLog, growth: Growth | None = None):
        self.runlog, self.growth = runlog, growth

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Training)
        check(pl_module, trainer.datamodule)  # type: ignore[attr-defined]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Training)
        data: Data = trainer.datamodule  # type: ignore[attr-defined]
        skills, task = evaluate(pl_module, data), evaluate_task(pl_module, data)
        grown = self.growth.facts(trainer, pl_module) if self.growth is not None else None
        if trainer.is_global_zero:
            write_report(Path(trainer.default_root_dir), pl_module, data, skills, self.runlog.summary(), task, grown)
        trainer.strategy.barrier()


def write_report(
    run_dir: Path,
    training: Training,
    data: Data,
    skills: Mapping[str, Skill],
    runlog_summary: Mapping[str, Any],
    task: Result | None = None,
    grown: Mapping[str, Any] | None = None,
) -> None:
    """Write ``summary.json`` and ``report.html``, and ``predictions.csv`` where labels are predicted.

    Args:
        run_dir: holds ``losses.csv`` and ``recipe.yaml``, where there are any.
        training, data: at the end of training. skills: of ``evaluate``. runlog_summary: of ``RunLog.summary``.
        task: of ``task.evaluate``. grown: of ``Growth.facts``.
    """
    table, recipe = run_dir / "losses.csv", run_dir / "recipe.yaml"
    curves = losses(table) if table.exists() else {}
    facts = summary(training, data, skills, runlog_summary, curves)
    if grown is not None:
        facts = {"grown": dict(grown), **facts}
    if task is not None:
        facts = {"task": task.summary(), **facts}
        write_whole(run_dir / "predictions.csv", predictions_csv(task.rows))
    write_whole(run_dir / "summary.json", json.dumps(_finite(facts), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    text = recipe.read_text(encoding="utf-8") if recipe.exists() else ""
    shown = page(run_dir.resolve().name, facts, curves, gallery(training, data), cards(data), text)
    write_whole(run_dir / "report.html", shown)


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
        "fill": pace["fill"],
        "seconds": pace["seconds"],
        "tokens_per_second": pace["tokens_per_second"],
        "flops": pace["flops"],
        "utilisation": pace["utilisation"],
        "waiting": pace["waiting"],
        "processes": pace["processes"],
        "device": torch.cuda.get_device_name(training.device) if training.device.type == "cuda" else training.device.type,
        "precision": None if trainer is None else str(trainer.precision),
        "seed": training.seed,
        "parameters": parameters(training),
        "trained_parameters": trained_share(training.trained())[0],
        "init_from": getattr(training.start, "report", None),
        "data": {**data.describe(), "trained_on": trained_on(data)},
        "masks": audit(training, data),
        "versions": versions(),
    }


def _finite(value: Any) -> Any:
    """The same, with null where a number is none: JSON knows no other word for it."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
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


def trained_on(data: Data) -> dict[str, int]:
    """Held-out records that are used and are training records, too, of each source that has any."""
    if not data.repeated:
        return {}
    train, held = ({s.name: s for s in data.sources(split)} for split in ("train", "validation"))
    return {name: int(torch.isin(held[name].samples, train[name].samples).sum()) for name in data.repeated}


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
    tokens = data.pack([example])
    views, answers = ask(training, tokens)
    if not answers:
        return []
    asked_T = torch.zeros(len(tokens), dtype=torch.bool).index_fill(0, views[0].answer_N, True)
    answers = [_on_host(a) for a in answers if a.name == name]
    return training.modalities[name].pictures(tokens, name, asked_T[tokens.index[name]], answers)


def _on_host(answer: Answer) -> Answer:
    fields = ("answer_N", "output_NV", "truth_N", "loss_N", "weight_N")
    return replace(answer, **{f: getattr(answer, f).detach().cpu() for f in fields})
