"""Labelled toys of every modality, and training on them without a trainer: for tests of tasks."""

import csv
import random
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import PIL.Image
import soundfile
import torch

from mmm.core.objective import Objective
from mmm.core.training import Training
from mmm.data.module import Data, Steps
from mmm.decoders.readout import Readout
from mmm.encoders.transformer import Transformer
from mmm.modalities.audio import Audio
from mmm.modalities.image import Image
from mmm.modalities.protein import Protein
from mmm.modalities.text import Text
from mmm.optimizers.adamw import AdamW

WORDS = ["stream", "token", "mask", "hidden", "shared", "row", "layout", "of", "the"]
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"

MAKE = {
    "text": lambda: Text(vocabulary=400, max_length=48),
    "image": lambda: Image(size=8, patch=4, channels=1, augment=False, cls=True),
    "audio": lambda: Audio(rate=4000, mels=8, hop_ms=20.0, max_seconds=0.6),
    "protein": lambda: Protein(max_length=32),
}


def table(path: Path, rows: Iterable[Sequence[str]], header: Sequence[str] = ("record", "label")) -> str:
    """Write a table. Returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([header, *rows])
    return str(path)


def sentence(rng: random.Random, *of: str) -> str:
    """Some words, and these among them."""
    words = [*rng.choices(WORDS, k=rng.randint(3, 7)), *of]
    rng.shuffle(words)
    return " ".join(words)


def protein(rng: random.Random, low: int = 8, high: int = 24) -> str:
    return "".join(rng.choices(RESIDUES, k=rng.randint(low, high)))


def halves(folder: Path, name: str, records: int = 80, seed: int = 0) -> str:
    """Two classes: a word, a pair of neighbours, the bright half of a picture, the pitch of a tone."""
    rng, rows = random.Random(seed), []
    numbers = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(records):
        label = rng.choice(("a", "b"))
        if name == "text":
            record = sentence(rng, "fine" if label == "a" else "poor")
        elif name == "protein":
            record = protein(rng)
            place = rng.randrange(len(record))
            record = record.replace("W", "G")[:place] + ("WW" if label == "a" else "GG") + record[place:].replace("W", "G")
        elif name == "image":
            pixels = numbers.integers(0, 120, (8, 8))
            pixels[:, :4] += 100 * (label == "a")
            pixels[:, 4:] += 100 * (label == "b")
            record = f"{i}.png"
            PIL.Image.fromarray(pixels.astype(np.uint8)).save(folder / record)
        else:
            time = np.arange(int(numbers.integers(1200, 2400))) / 4000
            tone = np.sin(2 * np.pi * (300 if label == "a" else 900) * time)
            record = f"{i}.wav"
            soundfile.write(folder / record, 0.1 * tone + numbers.normal(0, 0.05, len(time)), 4000)
        rows.append((record, label))
    return table(folder / f"{name}.csv", rows)


def built(name: str, files: str | list[str], objective: Objective, test: str | None = None, **data) -> tuple[Training, Data]:
    """A model of one modality and its data, read, fitted and built."""
    torch.manual_seed(0)
    training = Training({name: MAKE[name]()}, Transformer(32, 1, 4, rotary=2), objective, Readout(), AdamW(), seed=1)
    arguments = {"tokens_per_batch": 160 if name == "image" else 400, "validation": 0.3, "validation_records": None} | data
    module = Data(files={name: files}, test=None if test is None else {name: test}, **arguments)
    module.read(training.modalities, training.seed)

    def settle(address, part, modality):
        part.fit(module.training_records(modality))
        assets = part.assets()
        if assets:
            part.restore(assets)

    training.build(settle)
    return training, module


def learn(training: Training, data: Data, steps: int = 40, rate: float = 3e-3) -> list[float]:
    """Plain steps. Returns the losses."""
    parameters = {*training.model.parameters(), *training.objective.parameters()}
    optimiser, losses = torch.optim.AdamW(parameters, rate), []
    training.train()
    for step, batch in enumerate(islice(Steps(data, 0, 1, {}), steps)):
        (tokens,) = batch.micro
        views = training.objective.views(tokens, step / steps, training.draw)
        terms = training.objective(training.model, tokens, views, step / steps)
        loss = sum(t.weight * t.total / t.count for t in terms if t.count)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses
