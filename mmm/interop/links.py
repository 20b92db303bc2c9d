"""Which parameter of a foreign model is which of ours, both ways.

Shape suffixes: D width, V rows of an embedding, p side of a patch, c colour channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

State = dict[str, Tensor]
Change = Callable[..., tuple[Tensor, ...]]


def _as_it_is(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tensors


@dataclass(frozen=True)
class Link:
    """Some foreign parameters and the parameters of ours that hold the same numbers.

    Args:
        theirs, ours: full names. inward: tensors of theirs, in order, to tensors of ours; outward: back.
    """

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    inward: Change = _as_it_is
    outward: Change = _as_it_is


def same(theirs: str, ours: str) -> Link:
    """One parameter under two names."""
    return Link((theirs,), (ours,))


def layer(theirs: str, ours: str, bias: bool = True) -> list[Link]:
    """Weight and bias of a product or a norm."""
    return [same(f"{theirs}.{p}", f"{ours}.{p}") for p in (("weight", "bias") if bias else ("weight",))]


def fused(theirs: Iterable[str], ours: str, bias: bool = True) -> list[Link]:
    """Several products (query, key, value) that are one of ours, one under the other."""
    names = tuple(theirs)
    return [
        Link(
            tuple(f"{name}.{p}" for name in names),
            (f"{ours}.{p}",),
            lambda *parts: (torch.cat(parts),),
            lambda whole: whole.chunk(len(names)),
        )
        for p in (("weight", "bias") if bias else ("weight",))
    ]


def patches(theirs: str, ours: str, channels: int = 3) -> Link:
    """The convolution of a patch embedding, (D, c, p, p), as our product of rows (p p c)."""

    def outward(weight: Tensor) -> tuple[Tensor, ...]:
        side = round((weight.shape[1] / channels) ** 0.5)
        return (rearrange(weight, "d (p q c) -> d c p q", c=channels, p=side),)

    return Link((theirs,), (ours,), lambda weight: (rearrange(weight, "d c p q -> d (p q c)"),), outward)


def convert(state: Mapping[str, Tensor], links: Iterable[Link]) -> State:
    """Our parameters of theirs. Raises KeyError where one of theirs is missing."""
    return {
        n: t.contiguous()
        for link in links
        for n, t in zip(link.ours, link.inward(*(state[t] for t in link.theirs)), strict=True)
    }


def revert(state: Mapping[str, Tensor], links: Iterable[Link]) -> State:
    """Their parameters of ours. Raises KeyError where one of ours is missing."""
    return {
        n: t.contiguous()
        for link in links
        for n, t in zip(link.theirs, link.outward(*(state[o] for o in link.ours)), strict=True)
    }
