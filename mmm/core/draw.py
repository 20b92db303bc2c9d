"""Keyed randomness: every random number is a hash of (seed, stream, keys, index), never of what was drawn before.

So a record's crop, mask and noise do not depend on its batch mates, on the worker, the rank or the device, and a resumed
run needs no random state. Integer arithmetic only: bit-equal on every device.

Shape suffixes: T packed tokens, S segments.

Source: counter-based generators, Salmon et al. 2011 ("Parallel random numbers: as easy as 1, 2, 3"); the mixing function is
the finaliser of splitmix64 (Steele et al. 2014).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .layout import Layout


Bits = Any
"""64 bits: an int, or a tensor of int64."""


def _signed(value: int) -> int:
    """The same 64 bits as a two's-complement integer, as torch's int64 holds them."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


_GOLDEN, _M1, _M2 = _signed(0x9E3779B97F4A7C15), _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def _mix(x: Bits) -> Bits:
    """Finaliser of splitmix64 on int64 (products wrap; a right shift of a negative number is masked to a logical one)."""
    x = _wrapped((x ^ ((x >> 30) & ((1 << 34) - 1))) * _M1)
    x = _wrapped((x ^ ((x >> 27) & ((1 << 37) - 1))) * _M2)
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def _wrapped(x: Bits) -> Bits:
    """A single key is Python's own integer, which is much quicker than a tensor of one, and does not wrap by itself."""
    return _signed(x) if isinstance(x, int) else x


def _fold(key: Bits, index: Bits) -> Bits:
    return _mix(key ^ _mix(_wrapped(index + _GOLDEN)))


def hash64(data: bytes) -> int:
    """A stable signed 64-bit name of ``data``: the identity of a record, the half of a split it falls in."""
    return _signed(int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little"))


class Draw:
    """A stream of keyed random numbers.

    Args:
        seed: the run's seed. Two draws with one seed, the same streams and the same keys give the same numbers.
    """

    __slots__ = ("_index", "_known", "_parent")
    _parent: Draw
    _index: int
    _known: int | None

    def __init__(self, seed: int):
        self._known = _mix(_signed(_signed(seed) + _GOLDEN))

    def _child(self, index: int) -> Draw:
        child = Draw.__new__(Draw)
        child._known, child._parent, child._index = None, self, index
        return child

    @property
    def _key(self) -> int:
        if self._known is None:
            self._known = _fold(self._parent._key, _signed(self._index))
        return self._known

    @property
    def asked(self) -> bool:
        """Of a draw under a stream or keys: whether a number was drawn from it or from one under it. What was made with one
        that was not asked is always the same."""
        return self._known is not None

    def stream(self, name: str) -> Draw:
        """An independent stream, by name: ``draw.stream("crop")``."""
        return self._child(hash64(name.encode()))

    def at(self, *keys: int) -> Draw:
        """The draw under further integer keys, such as a record and an epoch."""
        draw = self
        for key in keys:
            draw = draw._child(key)
        return draw

    def bits(self, *index: Tensor | int) -> Tensor:
        """int64 hashes; the shape is the broadcast of ``index`` (a scalar without one)."""
        key: Bits = self._key
        for i in index:
            key = _fold(key, i.long() if isinstance(i, Tensor) else _signed(i))
        return torch.tensor(key, device="cpu") if isinstance(key, int) else key  # also inside a `with torch.device(...)`

    def uniform(self, *index: Tensor | int) -> Tensor:
        """float32 in [0, 1), exact multiples of 2**-24."""
        return ((self.bits(*index) >> 40) & 0xFFFFFF).float() * 2.0**-24

    def integers(self, high: Tensor | int, *index: Tensor | int) -> Tensor:
        """int64 in [0, high): the top 31 bits of the hash, scaled (bias below 2**-31 x high)."""
        return (((self.bits(*index) >> 33) & 0x7FFFFFFF) * high) >> 31

    def seed(self) -> int:
        """A non-negative seed for a library that keeps its own generator."""
        return int(self.bits()) & 0x7FFFFFFF

    def bits_S(self, layout: Layout) -> Tensor:
        """One hash a segment, keyed by (record, epoch, part)."""
        return self.bits(layout.sample_S, layout.epoch_S, layout.part_S)

    def per_segment(self, layout: Layout, index: int = 0) -> Tensor:
        """uniform_S in [0, 1): number ``index`` of each segment."""
        return self.uniform(layout.sample_S, layout.epoch_S, layout.part_S, index)

    def bits_per_token(self, layout: Layout, index: int = 0) -> Tensor:
        """bits_T: one hash a token, keyed by its segment and its place there."""
        bits_T: Tensor = _fold(_fold(self.bits_S(layout), index)[layout.segment_T], layout.place_T)
        return bits_T

    def per_token(self, layout: Layout, index: int = 0) -> Tensor:
        """uniform_T in [0, 1): number ``index`` of each token."""
        return ((self.bits_per_token(layout, index) >> 40) & 0xFFFFFF).float() * 2.0**-24
