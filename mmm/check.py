"""Parse, resolve and build a recipe on the meta device: everything but memory, data and time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from .core.errors import BadRecipe, did_you_mean
from .core.training import Fitted, Training
from .data.cards import load_card
from .data.files import find_files
from .data.module import Data
from .recipe import build, read
from .start import Pretrained


def check(path: str, overrides: Sequence[str] = ()) -> str:
    """What a recipe would build, in a few lines; absent data are a warning among them.

    Raises:
        ValueError: with one clear line where it cannot be built.
    """
    recipe = read(path, overrides)
    start = Pretrained.of(recipe.values["init_from"], recipe.source) if recipe.source is not None else None

    def settle(address: str, part: Fitted, name: str) -> None:
        given = start.assets(address) if start is not None else None
        if given is not None:
            part.restore(given)

    with torch.device("meta"):
        cli = build(recipe, {"logger": False, "enable_checkpointing": False, "barebones": False})
        training: Training = cli.model
        training.build(settle)
    if start is not None:
        start.check(training.model)
    lines = [f"{path}: sound"]
    total = sum(p.numel() for p in training.trained())
    lines.append(
        f"parameters: {total:,} (encoder {_count(training.model.encoder):,}, decoder {_count(training.model.decoder):,})"
    )
    for name in training.model.names:
        shared = {id(p) for p in training.model.modalities[name].parameters()}
        heads = sum(p.numel() for p in training.model.of_modality(name) if id(p) not in shared)
        lines.append(f"  {name}: embedding {_count(training.model.modalities[name]):,}, heads {heads:,}")
    lines += [f"warning: {problem}" for problem in missing(cli.datamodule, training)]
    return "\n".join(lines)


def missing(data: Data, training: Training) -> list[str]:
    """What the recipe's data still need, a line each."""
    problems = [*_of_files(data, training)]
    for name in data.cards:
        card = load_card(name)
        if card.modality in data.files:
            continue
        if not card.prepared():
            problems.append(f"the data of card {name!r} are not there; mmm data prepare {name}")
        if card.modality not in training.modalities:
            problems.append(f"card {name!r} holds {card.modality!r}, which this model does not have")
    if not data.cards and not data.files and not data.joint:
        problems.append("no data are named; give --data.files.MODALITY")
    return problems


def _of_files(data: Data, training: Training) -> Iterator[str]:
    """What one's own files lack: a modality of that name, or the files themselves."""
    wanted = []
    for argument in ("files", "test"):
        for name, patterns in getattr(data, argument).items():
            if name not in training.modalities:
                yield f"data.{argument}: the model has no modality {name!r}. {did_you_mean(name, training.modalities)}"
            elif name not in data.files:
                yield f"data.{argument}: {name!r} has no training data of its own; give --data.files.{name}, too"
            else:
                wanted.append((f"data.{argument}.{name}", patterns, training.modalities[name].tokenizer.suffixes))
    for where, patterns, suffixes in [*wanted, ("data.joint", data.joint, ())]:
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            try:
                find_files(pattern, suffixes, where)
            except BadRecipe as error:
                yield str(error)


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
