"""A folder that ``mmm.load`` reads: weights, recipe, the files of the fitted parts.

Shape suffixes: none.
"""

from __future__ import annotations

from pathlib import Path

import torch

from mmm.core.training import Training
from mmm.interop import from_safetensors
from mmm.loaded import Loaded
from mmm.sources import Source, open_source

from .written import Written


def write(source: Source, folder: Path) -> Written:
    """Write a model whole: what was trained, its objective, its adapter, its tokenizers.

    Raises:
        ValueError: what was written does not read back equal, which a full disk can do.
    """
    training = source.loaded()
    from_safetensors.write(folder, source.values, source.assets, training)
    count = read_back(folder, training)
    usage = (
        'import mmm\n\nmodel = mmm.load("DIR")\nprint(model.model.names)  # model.hidden([record, ...]) gives a tensor for each'
    )
    told = [f"safetensors, recipe and assets of this package; read back, {count:,} numbers bit-equal"]
    return Written("mmm", usage, told, training)


def read_back(folder: Path, training: Loaded) -> int:
    """Read a folder of ours again. Returns how many numbers of its parameters and buffers are those of the model: all.

    Raises:
        ValueError: some are not.
    """
    again = open_source(folder).loaded()
    assert again.assets == training.assets
    return equal(training, again)


def equal(training: Training, again: torch.nn.Module) -> int:
    """How many numbers two models have, all of them bit-equal. Raises ValueError where one differs."""
    ours, theirs = training.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        if not torch.equal(tensor, theirs[name]):
            raise ValueError(f"{name} was not written as it is; is the disk full?")
    return sum(p.numel() for p in training.parameters())
