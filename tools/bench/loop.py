"""What the Trainer costs: the run of a recipe (data, masks, logging) beside its bare step (forward, loss, backward, update).

    python tools/bench/loop.py [RECIPE ...] [--steps 60] [--skip 10] [--data.workers 1 ...]

By default the tiny recipes and the quickstart; what is not an option of its own overrides the recipe.

A run is timed from the end of one step to the end of the next, with checkpoints as often as in the whole run; its batches are
kept, and then learned again by the bare step, whose masks are made before. Wall clock, sums over the same steps; nothing else
should run meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from mmm.process import settle

if __name__ == "__main__":
    settle()  # as the command line does, before torch is there

import torch
from lightning.pytorch import Callback
from torch import nn

import mmm.run
from mmm.core.batch import StepBatch
from mmm.core.training import Training
from mmm.recipe import read

ROOT = Path(__file__).parents[2]


@dataclass
class Watch(Callback):
    """Keeps what a run learned, and when it had."""

    skip: int
    batches: list[StepBatch] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    training: Training | None = None
    again: float = 0.0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: StepBatch, batch_idx: int) -> None:
        if trainer.global_step >= self.skip:
            self.ends.append(time.perf_counter())
            if trainer.global_step > self.skip:
                self.batches.append(batch)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.again = bare(pl_module, self.batches)

    @property
    def seconds(self) -> float:
        return self.ends[-1] - self.ends[0]


def bare(training: Training, batches: list[StepBatch]) -> float:
    """Seconds of forward, loss, backward, clipping and update on batches whose views are made before."""
    optimizer = training.optimizers()
    clip, precision = training.optimizer_settings.clip, training.trainer.precision_plugin
    work = [[(tokens, training.objective.views(tokens, 1.0, training.draw)) for tokens in batch.micro] for batch in batches]
    seconds = 0.0
    for micro in work:
        counts, _ = training._count(micro)
        start = time.perf_counter()
        for tokens, views in micro:
            with precision.forward_context():
                loss = training._loss(training._terms(tokens, views, 1.0), counts)
            loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_([p for p in training.trained() if p.grad is not None], clip)
        optimizer.step()  # type: ignore[union-attr]
        optimizer.zero_grad()  # type: ignore[union-attr]
        float(loss.detach())
        seconds += time.perf_counter() - start
    return seconds


def compared(recipe: Path, steps: int, skip: int, overrides: Sequence[str] = ()) -> tuple[float, float]:
    """(seconds a step of the run, seconds a bare step)."""
    watch = Watch(skip)
    defaults = mmm.run._trainer_defaults

    def watched(*args: Any) -> dict[str, Any]:
        given = defaults(*args)
        return {**given, "callbacks": [*given["callbacks"], watch], "limit_val_batches": 0}

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(mmm.run, "_trainer_defaults", watched):
        whole = read(recipe, overrides).values["trainer"].get("max_steps", steps)
        found = read(recipe, [*overrides, "--trainer.max_steps", str(steps)])
        with contextlib.redirect_stderr(io.StringIO()):
            mmm.run.train(found, str(recipe), f"{folder}/run", checkpoint_every=max(1, whole // 10))
    return watch.seconds / len(watch.batches), watch.again / len(watch.batches)


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description="A recipe's run beside its bare step.")
    parser.add_argument("recipes", nargs="*", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--skip", type=int, default=10, help="first steps that are not counted")
    args, overrides = parser.parse_known_args(words)
    tiny = [ROOT / "recipes/quickstart.yaml", *sorted((ROOT / "recipes").glob("*/*-tiny.yaml"))]
    print(f"{torch.get_num_threads()} threads\n| recipe | run, ms a step | bare, ms | bare / run |\n|---|--:|--:|--:|")
    for recipe in args.recipes or [r for r in tiny if "round2" not in r.name]:
        run, alone = compared(recipe, args.steps, args.skip, overrides)
        print(f"| {recipe.stem} | {1000 * run:.0f} | {1000 * alone:.0f} | {alone / run:.0%} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
