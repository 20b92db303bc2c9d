"""What a data loader hands to training: all that one process does in one optimiser step."""

from __future__ import annotations

from dataclasses import dataclass, field

from .tokens import Tokens


@dataclass(frozen=True)
class StepBatch:
    """Micro-batches of one optimiser step.

    Args:
        micro: packed batches, one after the other; a process without records has one empty batch.
        cursor: where the global order stands after this step; a resumed run goes on from there.
    """

    micro: tuple[Tokens, ...]
    cursor: dict[str, int] = field(default_factory=dict)
