"""How the cost of a training step grows: with the spread of lengths, their mean, the batch, the depth.

    python tools/bench/growth.py [--threads 1] [--repeats 3]

BERT's objective on random proteins, an encoder of ESM-2's width with six heads. All cases are timed in turn, by process time;
each figure is the median time of a useful token, and its ratio to the first line's.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from mmm.core.draw import Draw
from mmm.core.tokens import Sample, Tokens, pack
from mmm.core.training import Training
from mmm.corruptions.mask_vector import MaskVector
from mmm.decoders.readout import Readout
from mmm.encoders.transformer import Transformer
from mmm.masking.uniform import Uniform
from mmm.modalities.protein import Protein
from mmm.objectives.masked_modeling import MaskedModeling
from mmm.optimizers.adamw import AdamW
from mmm.targets.token_ids import TokenIds

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"


@dataclass(frozen=True)
class Case:
    """A batch of so many records, ``length`` tokens each in the mean, and an encoder of so many blocks."""

    name: str
    spread: str = "equal"
    length: int = 128
    records: int = 16
    depth: int = 4

    def lengths(self, rng: random.Random) -> list[int]:
        """Of the records: equal; uniform from a quarter of the mean on; lognormal (sigma 0.5). All with the mean asked for."""
        if self.spread == "equal":
            return [self.length] * self.records
        if self.spread == "uniform":
            found = [rng.uniform(0.25, 1.75) for _ in range(self.records)]
        else:
            found = [rng.lognormvariate(0, 0.5) for _ in range(self.records)]
        scale = self.length * self.records / sum(found)
        return [max(8, round(scale * x)) for x in found]


CASES = (
    Case("equal lengths, 16 records of 128"),
    *(replace(Case(f"{spread} lengths"), spread=spread) for spread in ("uniform", "lognormal")),
    *(Case(f"uniform, {n} records", "uniform", records=n) for n in (8, 32, 64)),
    *(Case(f"length {n}, as many tokens", length=n, records=2048 // n) for n in (32, 64, 256, 512, 1024)),
    *(Case(f"depth {n}", depth=n) for n in (2, 8)),
)


def stepper(case: Case, batches: int = 3, seed: int = 0) -> tuple[Callable[[], None], float]:
    """(a step on the next batch, useful tokens of a step)."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    masked = MaskedModeling(Uniform(0.15), MaskVector(), {"protein": TokenIds()}, {"protein": "tied"})
    training = Training(
        {"protein": Protein(max_length=8192)}, Transformer(384, case.depth, 6, rotary=1), masked, Readout(), AdamW(lr=1e-4)
    )
    training.restore({"modalities/protein": {}, "targets/protein/TokenIds": {}})
    tokenizers = {"protein": training.modalities["protein"].tokenizer}
    looks = []
    for b in range(batches):
        texts = ["".join(rng.choices(RESIDUES, k=n - 2)) for n in case.lengths(rng)]  # and two specials
        pieces = [tokenizers["protein"].tokenize(text) for text in texts]
        tokens = pack([Sample({"protein": piece}, 1000 * b + i) for i, piece in enumerate(pieces)], tokenizers)
        looks.append((tokens, masked.views(tokens, 0.0, Draw(seed))))
    optimizer = training.optimizer_settings.build(training.trained())
    turn = iter(range(10**9))

    def step() -> None:
        tokens, views = looks[next(turn) % batches]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            (term,) = masked(training.model, tokens, views, 0.0)
        (term.total / term.count).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step, sum(map(_tokens, looks)) / batches


def _tokens(look: tuple[Tokens, object]) -> int:
    return len(look[0])


def timed(cases: tuple[Case, ...], repeats: int) -> dict[str, float]:
    """Microseconds a useful token; three steps of each case in turn, the median of the rounds."""
    steppers = {case.name: stepper(case) for case in cases}
    for step, _ in steppers.values():
        for _ in range(3):
            step()
    rounds: dict[str, list[float]] = {name: [] for name in steppers}
    for _ in range(repeats):
        for name, (step, tokens) in steppers.items():
            start = time.process_time()
            for _ in range(3):
                step()
            rounds[name].append((time.process_time() - start) / (3 * tokens) * 1e6)
    return {name: statistics.median(found) for name, found in rounds.items()}


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description="How the cost of a training step grows.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(words)
    torch.set_num_threads(args.threads)
    found = timed(CASES, args.repeats)
    first = next(iter(found.values()))
    print(f"{args.threads} threads, process time\n| case | microseconds a token | relative |\n|---|--:|--:|")
    for name, value in found.items():
        print(f"| {name} | {value:.1f} | {value / first:.2f} |")


if __name__ == "__main__":
    main(sys.argv[1:])
