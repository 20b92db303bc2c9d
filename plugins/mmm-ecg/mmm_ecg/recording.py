"""An electrocardiogram in memory.

Shape suffixes: L leads, M samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

STANDARD = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The leads of a standard electrocardiogram, in the order they are printed in."""

_CANONICAL = {name.lower(): name for name in STANDARD}


@dataclass(frozen=True)
class Recording:
    """Some leads over some time.

    Args:
        sample_LM: numbers, in millivolts where the file knows; NaN where a lead has a gap.
        rate: samples a second. leads: a name each.

    Raises:
        ValueError: not as many leads as names, no samples, or a rate that is none.
    """

    sample_LM: np.ndarray
    rate: Fraction
    leads: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.sample_LM.ndim != 2 or len(self.sample_LM) != len(self.leads) or not self.sample_LM.size or not self.rate > 0:
            shape = self.sample_LM.shape
            raise ValueError(f"a recording of shape {shape} at {self.rate} a second with the leads {', '.join(self.leads)}")
        object.__setattr__(self, "rate", Fraction(str(self.rate)))


def lead_names(names: Iterable[str]) -> tuple[str, ...]:
    """The standard leads as they are usually written, others as they are; what is there a second time gets a number."""
    made: list[str] = []
    for name in names:
        name = _CANONICAL.get(name.strip().lower(), name.strip())
        again = sum(other == name or other.startswith(f"{name} (") for other in made)
        made.append(f"{name} ({again + 1})" if again else name)
    return tuple(made)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """The standard leads first, then the others by their names."""
    return tuple(sorted(names, key=lambda name: (STANDARD.index(name) if name in STANDARD else len(STANDARD), name)))


def chosen(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Places of the leads that are wanted; all where nothing is said. Raises ValueError where there is none."""
    places = [i for i, name in enumerate(names) if not wanted or name in wanted]
    if not places:
        raise ValueError(f"has the leads {', '.join(names) or 'none'}, none of those wanted: {', '.join(wanted)}")
    return places
