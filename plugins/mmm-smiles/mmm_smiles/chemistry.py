"""What only RDKit knows: whether a string is a molecule, and other strings of the same one."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from mmm.core.draw import Draw

INSTALL = "needs RDKit: pip install mmm-smiles[rdkit]"


def has_rdkit() -> bool:
    """Whether RDKit is installed."""
    return importlib.util.find_spec("rdkit") is not None


def fault_of(smiles: str) -> str | None:
    """Why a string is no molecule by RDKit's rules (grammar, ring closures, valences, aromatic rings); None where it is one.

    Raises:
        ImportError: without RDKit.
    """
    chem, quiet = _rdkit()
    with quiet():
        molecule = chem.MolFromSmiles(smiles, sanitize=False) if smiles else None
        if molecule is None:
            return "no SMILES string (its brackets, branches or ring closures do not match)"
        for problem in chem.DetectChemistryProblems(molecule):
            return str(problem.Message())
        return None if chem.MolFromSmiles(smiles) is not None else "RDKit cannot read it"


def rewritten(smiles: str, draw: Draw) -> str:
    """The same molecule, written from an atom and along a path that ``draw`` chooses.

    Paper: SMILES enumeration, Bjerrum 2017, arXiv:1703.07076.

    Raises:
        ValueError: the string is no molecule. ImportError: without RDKit.
    """
    chem, quiet = _rdkit()
    with quiet():
        molecule = chem.MolFromSmiles(smiles)
        if molecule is None:
            raise ValueError(f"{smiles!r:.80} is no molecule: {fault_of(smiles)}")
        order = torch.argsort(draw.bits(torch.arange(molecule.GetNumAtoms())), stable=True).tolist()
        return str(chem.MolToSmiles(chem.RenumberAtoms(molecule, order), canonical=False))


def _rdkit() -> tuple[Any, Any]:
    """(rdkit.Chem, a context in which RDKit writes nothing). Raises ImportError."""
    try:
        from rdkit import Chem, rdBase
    except ImportError as error:
        raise ImportError(f"this {INSTALL}") from error
    return Chem, rdBase.BlockLogs
