"""Small vision models of other libraries with weights that show every mistake, and what is asked of their imports."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmm.interop.links import convert, revert
from mmm.loaded import Loaded
from mmm.sources import check, open_source

SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "image_size": 24,
    "patch_size": 8,
}


def noisy(model: nn.Module, seed: int = 0, std: float = 0.15) -> Any:
    """No parameter is what it was at first: biases are not zero, norms not one, positions no sines."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * std)
    return model.eval()


def pictures(channels: int = 3, side: int = 24, records: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(channels, side, side, generator=generator) for _ in range(records)]


def close(ours: Sequence[Tensor], theirs: Sequence[Tensor], within: float = 1e-4) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        gap = float((a - b).detach().abs().max())
        assert gap <= within, gap


def gradients_agree(ours: Loaded, source: Path, loss: Callable[[Any, Tensor], Tensor], own: Callable[[Loaded, Tensor], Tensor]):
    """The gradients of a square sum, ours and theirs, of every parameter that stands alone under both names."""
    opened = open_source(str(source))
    theirs = opened.original.model
    for parameter in theirs.parameters():
        parameter.requires_grad_(True)
    for picture in pictures():
        loss(theirs, picture).backward()
        own(ours, picture).backward()
    named, found = dict(theirs.named_parameters()), dict(ours.model.named_parameters())
    compared = 0
    for link in opened.architecture.links(opened.original.config, theirs.state_dict().keys()):
        there = {t: named[t].grad for t in link.theirs}
        if not link.ours or not link.theirs or any(g is None for g in there.values()):
            continue
        for name, want in convert({t: g for t, g in there.items() if g is not None}, [link]).items():
            got = found[name].grad
            got = torch.zeros_like(want) if got is None else got  # a mask vector, where nothing is masked
            if name.endswith("specials"):  # a token and its position take the same gradient
                want = torch.cat([there[t][0] for t in link.theirs if t.endswith("_token")])
            scale = max(1.0, float(want.abs().max()))
            assert float((got - want).abs().max()) <= 1e-4 * scale, name
            compared += 1
    assert compared > 20


def back(training: Loaded, architecture: Any) -> nn.Module:
    """The foreign model an export makes, filled with our weights and asked once more."""
    original = architecture.export(training)
    links = architecture.links(original.config, original.model.state_dict().keys())
    original.model.load_state_dict(revert(training.model.state_dict(), links), strict=True)
    check(training, original, architecture, "export")
    return original.model
