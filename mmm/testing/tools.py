"""What the checks share: comparing, finding, gradients, random state.

Shape suffixes: T packed tokens, S segments.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mmm.core.draw import Draw
from mmm.core.tokens import Tokens

P = TypeVar("P")


def found(family: str, base: type[P]) -> dict[str, type[P]]:
    """The public concrete classes in the public files of one family folder, by name: ``found("masking", Masking)``."""
    package = importlib.import_module(f"mmm.{family}")
    classes = {}
    for file in pkgutil.iter_modules(package.__path__):
        if file.name.startswith("_"):
            continue
        module = importlib.import_module(f"{package.__name__}.{file.name}")
        for name, cls in vars(module).items():
            own = inspect.isclass(cls) and cls.__module__ == module.__name__ and not name.startswith("_")
            if own and issubclass(cls, base) and not inspect.isabstract(cls):
                classes[name] = cls
    return dict(sorted(classes.items()))


def named(part: object) -> str:
    """How messages call a part."""
    return type(part).__name__


def near(a: Tensor, b: Tensor, within: float = 1e-5) -> bool:
    """Equal shapes, and no two values further apart than ``within``, measured against the largest where that is above 1."""
    if a.shape != b.shape:
        return False
    scale = max(1.0, float(b.detach().abs().max())) if b.numel() else 1.0
    return bool(((a - b).abs() <= within * scale).all())


def mixed(x: Tensor) -> Tensor:
    """A scalar with a different weight for every value, so that no norm can make its gradient vanish."""
    weight = Draw(11).uniform(torch.arange(x.numel())).view(x.shape) - 0.5
    return (x.float() * weight.to(x.device)).sum()


def check_gradients(owner: object, module: nn.Module) -> None:
    """After a backward pass: every trainable parameter has a finite gradient that is not all zero."""
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        assert parameter.grad is not None, (
            f"{named(owner)}: no gradient reaches {name}. Use it in the forward pass, or set requires_grad=False."
        )
        assert parameter.grad.isfinite().all(), f"{named(owner)}: the gradient of {name} is not finite."
        assert parameter.grad.abs().sum() > 0, (
            f"{named(owner)}: the gradient of {name} is zero everywhere. Is it multiplied by 0, detached, or never picked?"
        )


@contextmanager
def keyed(part: object) -> Iterator[None]:
    """Fails where the block draws from the global random state of torch."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(before, torch.get_rng_state()), (
        f"{named(part)} draws from torch's global random state. Take every random number from the `draw` that is passed in."
    )


def frozen(tokens: Tokens) -> dict[str, Tensor]:
    """A copy of the content and layout, to see afterwards that nobody wrote into them."""
    layout = {k: v.clone() for k, v in vars(tokens.layout).items() if isinstance(v, Tensor)}
    return {**layout, **{f"content of {n}": c.clone() for n, c in tokens.content.items()}}


def check_untouched(part: object, tokens: Tokens, before: dict[str, Tensor]) -> None:
    """The tokens are what ``frozen`` saw."""
    after = frozen(tokens)
    for name, value in before.items():
        assert torch.equal(value, after[name]), f"{named(part)} wrote into the {name} of its input. Clone before changing."


def equal(a: Any, b: Any) -> bool:
    """Equal, also where the two are tensors or hold them."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and bool(torch.equal(a, b))
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)
