"""Whether what a model fills in makes a molecule: ``python -m mmm_smiles.validity RUN FILE.smi``. Needs RDKit.

Shape suffixes: N tokens, V output size.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mmm
import numpy as np
import torch
from mmm.core.draw import Draw, hash64
from mmm.core.errors import BadRecipe
from mmm.loaded import Loaded

from mmm_smiles._atoms import MASK, SPECIALS, split
from mmm_smiles.chemistry import fault_of
from mmm_smiles.tokenizer import SmilesTokenizer

RESAMPLINGS = 2000


@dataclass(frozen=True)
class Validity:
    """Shares of strings, each with its 99 % interval by resampling the strings.

    Args:
        strings: molecules that were filled. holes: of them all.
        valid: share that RDKit takes for molecules once filled by the model. same: share that is the very string again.
        by_chance: valid share where each hole holds an atom or sign drawn from all strings instead.
    """

    strings: int
    holes: int
    valid: tuple[float, float, float]
    same: tuple[float, float, float]
    by_chance: tuple[float, float, float]


def with_holes(tokenizer: SmilesTokenizer, smiles: str, rate: float, draw: Draw) -> str:
    """The string with "[MASK]" in place of round(rate x atoms and signs) of them, at least one, once a token of the atom."""
    atoms = split(smiles)
    count = max(1, round(rate * len(atoms)))
    hidden = set(torch.argsort(draw.bits(torch.arange(len(atoms))), stable=True)[:count].tolist())
    return "".join(
        SPECIALS[MASK] * len(tokenizer.vocabulary.spell(atom)) if n in hidden else atom for n, atom in enumerate(atoms)
    )


def filled(model: Loaded, strings: Sequence[str]) -> list[str]:
    """Strings with the likeliest token at every "[MASK]" of theirs, all of a string at once.

    Args:
        model: of ``mmm.load``, with one modality of SMILES.
    """
    name, tokenizer = _modality(model)
    with torch.no_grad():
        logits = model.logits(strings, name)
    found = []
    for smiles, logits_NV in zip(strings, logits, strict=True):
        ids = tokenizer.tokenize(smiles).content
        guess = tokenizer.choices[logits_NV.cpu()[:, tokenizer.choices].argmax(-1)]
        found.append(tokenizer.detokenize(torch.where(ids == MASK, guess, ids)))
    return found


def measure(model: Loaded, strings: Sequence[str], rate: float = 0.15, seed: int = 0) -> Validity:
    """Hide, fill, ask RDKit. Strings that are longer than the model reads, or no molecules, are left out.

    Raises:
        ImportError: without RDKit. BadRecipe: nothing is left.
    """
    _, tokenizer = _modality(model)
    whole = [s for s in strings if not tokenizer.tokenize(s).cut and fault_of(s) is None]
    if not whole:
        raise BadRecipe("none of these strings is a molecule that the model can read whole")
    draw = Draw(seed)
    names = [hash64(s.encode()) for s in whole]
    holed = [with_holes(tokenizer, s, rate, draw.stream("hide").at(n)) for s, n in zip(whole, names, strict=True)]
    pool = [atom for s in whole for atom in split(s)]
    chance = []
    for smiles, name in zip(holed, names, strict=True):
        parts = smiles.split(SPECIALS[MASK])
        picks = draw.stream("chance").at(name).integers(len(pool), torch.arange(len(parts) - 1)).tolist()
        chance.append(parts[0] + "".join(pool[i] + part for i, part in zip(picks, parts[1:], strict=True)))
    said = filled(model, holed)
    numbers = np.random.default_rng(draw.stream("bootstrap").seed())

    def share(hits: Sequence[bool]) -> tuple[float, float, float]:
        hit = np.array(hits, dtype=float)
        means = numbers.binomial(len(hit), hit.mean(), RESAMPLINGS) / len(hit)
        return float(hit.mean()), *map(float, np.quantile(means, [0.005, 0.995]))  # type: ignore[return-value]

    return Validity(
        strings=len(whole),
        holes=sum(s.count(SPECIALS[MASK]) for s in holed),
        valid=share([fault_of(s) is None for s in said]),
        same=share([s == t for s, t in zip(said, whole, strict=True)]),
        by_chance=share([fault_of(s) is None for s in chance]),
    )


def _modality(model: Loaded) -> tuple[str, SmilesTokenizer]:
    for name in model.model.names:
        tokenizer = model.model.modalities[name].tokenizer
        if isinstance(tokenizer, SmilesTokenizer):
            return name, tokenizer
    raise BadRecipe(f"this model has no modality of SMILES, but {', '.join(model.model.names)}")


def main(words: Sequence[str] | None = None) -> None:
    """Print the shares of one model on one file."""
    parser = argparse.ArgumentParser(prog="python -m mmm_smiles.validity", description=measure.__doc__)
    parser.add_argument("run", help="a run folder, or another source of a model")
    parser.add_argument("file", type=Path, help="strings that the model was not trained on, a .smi file")
    parser.add_argument("--rate", type=float, default=0.15, help="share of atoms and signs that is hidden")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(words)
    try:
        model = mmm.load(args.run)
        strings = [record.raw for record in _modality(model)[1].records(args.file)]
        found = measure(model, strings, args.rate, args.seed)
    except (ImportError, ValueError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{found.strings} molecules, {found.holes} holes; 99 % intervals")
    for label, (value, low, high) in (
        ("a molecule, filled by the model", found.valid),
        ("the very string", found.same),
        ("a molecule, filled by chance", found.by_chance),
    ):
        print(f"{label:34} {value:.3f}  [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
