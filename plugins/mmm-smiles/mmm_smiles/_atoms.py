"""A SMILES string in atoms, bonds, branches and ring closures, and how those become ids."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

SPECIALS = ("[CLS]", "[SEP]", "[MASK]")
CLS, SEP, MASK = range(3)

ATOMS = re.compile(
    r"\[[^\[\]]+]|Br|Cl|N|O|S|P|F|I|B|C|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|/|:|~|@|\?|>|\*|\$|%[0-9]{2}|[0-9]", re.ASCII
)
"""The pattern of Schwaller et al., arXiv:1711.04810, section 2.1."""

CHARACTERS = "".join(chr(i) for i in range(33, 127))
"""What anything that has no id of its own is spelled with."""


def split(smiles: str) -> list[str]:
    """The atoms and signs of a string; joined, they are the string.

    Raises:
        ValueError: a character that no SMILES holds there; names it and its place (from 1).
    """
    bad = re.search(r"[^!-~]", smiles)
    found, at = [], 0
    while bad is None and at < len(smiles):
        match = ATOMS.match(smiles, at)
        if match is None:
            bad = re.compile(".").match(smiles, at)
            break
        found.append(match[0])
        at = match.end()
    if bad is not None:
        what = "a bracket that is not closed" if bad[0] == "[" else "no part of a SMILES string"
        header = "; is this a header line? leave it out" if smiles.lower() == "smiles" else ""
        raise ValueError(f"{bad[0]!r} at character {bad.start() + 1} is {what}{header}")
    return found


class Vocabulary:
    """Ids of atoms and signs: three specials, every character, the two halogens of two letters, then what was learned (atoms in
    brackets, ring closures of two digits).

    An atom that was never learned is spelled by its characters, so that every string comes back exactly.

    Args:
        learned: atoms besides.
    """

    def __init__(self, learned: Iterable[str] = ()):
        self.learned = tuple(learned)
        self.tokens = [*SPECIALS, *CHARACTERS, "Br", "Cl", *self.learned]
        self.ids = {token: i for i, token in enumerate(self.tokens)}

    @classmethod
    def fit(cls, strings: Iterable[str], least: int, most: int) -> Vocabulary:
        """That of training strings: atoms that stand in ``least`` of them or more, the commonest ones, ``most`` ids in all."""
        base = cls()
        counts = Counter(atom for smiles in strings for atom in {*split(smiles)} if atom not in base.ids)
        often = sorted((atom for atom, n in counts.items() if n >= least), key=lambda atom: (-counts[atom], atom))
        return cls(often[: max(0, most - len(base.tokens))])

    @classmethod
    def of_json(cls, data: bytes) -> Vocabulary:
        """Raises ValueError where it is none."""
        try:
            learned: Any = json.loads(data)
        except ValueError as error:
            raise ValueError(f"atoms.json is no list of atoms: {error}") from error
        if not isinstance(learned, list) or not all(isinstance(a, str) and ATOMS.fullmatch(a) for a in learned):
            raise ValueError("atoms.json is no list of atoms")
        return cls(learned)

    def to_json(self) -> bytes:
        """What ``of_json`` reads."""
        return json.dumps(self.learned).encode()

    def spell(self, atom: str) -> list[int]:
        """Ids of one atom or sign: its own, or those of its characters."""
        return [self.ids[atom]] if atom in self.ids else [self.ids[character] for character in atom]
