"""Parse, resolve and build a recipe on the meta device: everything but memory, data and time."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .core.training import Fitted, Training
from .data.cards import load_card
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
    problems = []
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


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
