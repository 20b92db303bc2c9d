"""What a format says of the files it has written.

Shape suffixes: none.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mmm.loaded import Loaded


@dataclass
class Written:
    """A model that was written.

    Args:
        library: what loads it, as a model hub calls it. usage: Python that loads it from the folder ``DIR``.
        told: what it became, why, and how that was checked; a line each. training: the model that was written.
        tags: more words for the hub. inputs: what it is to be given, a line each, where that is not in the usage.
    """

    library: str
    usage: str
    told: list[str]
    training: Loaded
    tags: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
