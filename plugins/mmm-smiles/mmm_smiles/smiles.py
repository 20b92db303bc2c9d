"""Molecules as a modality: ids with one embedding row each.

Shape suffixes: R content rows, N tokens of this modality, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

import torch
from mmm.core.errors import BadRecipe
from mmm.core.layout import Layout
from mmm.core.modality import Assets, Modality, Record
from mmm.core.objective import Answer
from mmm.core.picture import Marked, Picture
from mmm.core.tokens import Tokens
from mmm.nn.positions import LearnedPositions, sinusoidal
from torch import Tensor, nn

from mmm_smiles._atoms import CLS, MASK, SEP, Vocabulary
from mmm_smiles.chemistry import INSTALL, fault_of, has_rdkit
from mmm_smiles.tokenizer import SmilesTokenizer


class Smiles(Modality):
    """Molecules as SMILES strings, one token an atom or sign.

    Atoms in brackets and ring closures of two digits are learned from the training strings; what was not seen is spelled by its
    characters and hidden as a whole, so every string comes back exactly.

    Paper: SMILES, Weininger 1988, doi:10.1021/ci00057a005; atom-wise tokens, arXiv:1711.04810; masked, ChemBERTa,
    arXiv:2010.09885; random forms, arXiv:1703.07076.

    Args:
        vocabulary: ids, at most; 99 of them are given. least: training strings that an atom must stand in to be learned.
        max_length: tokens of the longest piece, [CLS] and [SEP] among them; longer strings are cut to a random stretch.
        randomise: share of the training strings that are written otherwise, anew in every epoch; needs RDKit.
        positions: absolute positions, of ``max_length`` places where learned; "none" where the encoder's are rotary.
        norm: LayerNorm after the embedding.
    """

    adjustable = ("max_length", "randomise", "least")

    def __init__(
        self,
        vocabulary: int = 512,
        least: int = 3,
        max_length: int = 256,
        randomise: float = 0.0,
        positions: Literal["none", "learned", "sinusoidal"] = "none",
        norm: bool = False,
    ):
        super().__init__()
        given = len(Vocabulary().tokens)
        if vocabulary < given:
            raise BadRecipe(f"Smiles(vocabulary={vocabulary}): needs {given} or more: specials, characters, Br and Cl")
        if least < 1:
            raise BadRecipe(f"Smiles(least={least}): needs 1 or more")
        if max_length < 3:
            raise BadRecipe(f"Smiles(max_length={max_length}): needs 3 or more: [CLS], an atom, [SEP]")
        if not 0 <= randomise <= 1:
            raise BadRecipe(f"Smiles(randomise={randomise}): a share of the strings lies in 0 to 1")
        if randomise and not has_rdkit():
            raise BadRecipe(f"Smiles(randomise={randomise}): {INSTALL}, or set randomise: 0")
        self.most, self.least = vocabulary, least
        self.positions, self.with_norm = positions, norm
        self.tokenizer: SmilesTokenizer = SmilesTokenizer(max_length, randomise)

    def fit(self, records: Sequence[Record]) -> None:
        """Learn the atoms in brackets and the ring closures of two digits."""
        self.tokenizer.vocabulary = Vocabulary.fit((record.raw for record in records), self.least, self.most)

    def assets(self) -> Assets:
        return {"atoms.json": self.tokenizer.vocabulary.to_json()}

    def restore(self, assets: Assets) -> None:
        self.tokenizer.vocabulary = Vocabulary.of_json(assets["atoms.json"])

    def build(self, width: int) -> None:
        """One row an id (normal, std 0.02: BERT), positions and norm as asked."""
        self.embedding = nn.Embedding(self.tokenizer.size, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.position = LearnedPositions((self.tokenizer.max_length,), width) if self.positions == "learned" else None
        self.norm = nn.LayerNorm(width) if self.with_norm else nn.Identity()

    def embed(self, content_R: Tensor, layout_N: Layout, hidden_N: Tensor) -> Tensor:
        """x_ND. A hidden token is embedded as [MASK]."""
        x_ND = self.embedding(torch.where(hidden_N, MASK, content_R))
        if self.position is not None:
            x_ND = x_ND + self.position(layout_N.position_TC, 1)
        elif self.positions == "sinusoidal":
            x_ND = x_ND + sinusoidal(layout_N.position_TC, x_ND.shape[1], 1).to(x_ND.dtype)
        normed_ND: Tensor = self.norm(x_ND)
        return normed_ND

    def tied(self) -> Tensor:
        return self.embedding.weight

    def pictures(self, tokens: Tokens, name: str, hidden_N: Tensor, answers: Sequence[Answer]) -> list[Picture]:
        """The string whole, with holes, and filled with the likeliest token of every target that predicts ids; the caption says
        whether RDKit takes it for a molecule, where it is installed."""
        part = tokens.part(name)
        true = part.content_R.tolist()
        shown = [MASK if hidden else i for hidden, i in zip(hidden_N.tolist(), true, strict=True)]
        marks = ["hidden" if hidden else "seen" for hidden in hidden_N.tolist()]
        pictures: list[Picture] = [
            Marked("original", self._told(true, ["seen"] * len(true), true)),
            Marked("masked", self._told(shown, marks, true)),
        ]
        row = {place: n for n, place in enumerate(part.index_N.tolist())}
        for answer in answers:
            if answer.name != name or answer.output_NV.shape[-1] != self.tokenizer.size:
                continue
            filled, judged = list(shown), list(marks)
            for place, guess in zip(answer.answer_N.tolist(), answer.output_NV.argmax(-1).tolist(), strict=True):
                filled[row[place]] = guess
                judged[row[place]] = "right" if guess == true[row[place]] else "wrong"
            caption = f"filled: {judged.count('right')} of {len(answer.answer_N)} right{self._verdict(filled)}"
            pictures.append(Marked(caption, self._told(filled, judged, true)))
        return pictures

    def _verdict(self, ids: list[int]) -> str:
        if not has_rdkit():
            return ""
        fault = fault_of(self.tokenizer.detokenize(torch.tensor(ids)))
        return ", a molecule" if fault is None else f", no molecule: {fault}"

    def _told(self, ids: list[int], marks: list[str], true: list[int]) -> tuple[tuple[str, str, str], ...]:
        """Runs of seen tokens as one string; every other token alone, with the true one as its note."""
        names, told = self.tokenizer.vocabulary.tokens, list[tuple[str, str, str]]()
        entries = [e for e in zip(ids, marks, true, strict=True) if e[2] not in (CLS, SEP)]
        for seen, run in groupby(entries, key=lambda e: e[1] == "seen"):
            if seen:
                told.append(("".join(names[i] for i, _, _ in run), "seen", ""))
            else:
                told += [(names[i], mark, names[was]) for i, mark, was in run]
        return tuple(told)
