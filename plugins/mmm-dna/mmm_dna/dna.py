"""DNA as a modality: ids with one embedding row each.

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
from mmm.nn.waveform import Neighbours, conv_positions
from torch import Tensor, nn

from mmm_dna._words import CLS, MASK, SEP, Kmers, Letters, Pieces
from mmm_dna.tokenizer import DnaTokenizer


class Dna(Modality):
    """DNA, one token a base, a k-mer or a learned piece.

    Overlapping k-mers are hidden in units of k, so that no hidden one can be put together from its neighbours; the corruption
    must then keep none of them as it is (``MaskVector`` without ``keep``): one that is shown gives its unit away.

    Paper: DNABERT, doi:10.1093/bioinformatics/btab083; Nucleotide Transformer, doi:10.1038/s41592-024-02523-z (k-mers side by
    side); DNABERT-2, arXiv:2306.15006 (BPE); convolutions of neighbouring bases, GPN, doi:10.1073/pnas.2311219120.

    Args:
        split: what a token is. k: bases a k-mer. overlap: k-mers begin at every base, else they lie side by side.
        vocabulary: tokens of BPE to learn, at most.
        max_length: tokens of the longest piece, [CLS] and [SEP] among them; longer sequences are cut to a random window.
        reverse: share of the training sequences that are read as their reverse complement, anew in every epoch.
        positions: absolute positions, of ``max_length`` places where learned; "conv" adds a convolution of the neighbours,
            hidden ones as [MASK], which finds motifs long before attention does; "none" where rotary ones are enough.
        neighbours: of "conv": the kernel, in tokens, and groups of channels.
        norm: LayerNorm after the embedding.
    """

    adjustable = ("max_length", "reverse")

    def __init__(
        self,
        split: Literal["base", "kmer", "bpe"] = "base",
        k: int = 6,
        overlap: bool = True,
        vocabulary: int = 1024,
        max_length: int = 512,
        reverse: float = 0.5,
        positions: Literal["none", "learned", "sinusoidal", "conv"] = "none",
        neighbours: Neighbours | None = None,
        norm: bool = False,
    ):
        super().__init__()
        if split == "kmer" and not 2 <= k <= 8:
            raise BadRecipe(f"Dna(split='kmer', k={k}): from 2 to 8 (65,536 different ones); single bases are split 'base'")
        if split == "bpe" and vocabulary < 32:
            raise BadRecipe(f"Dna(split='bpe', vocabulary={vocabulary}): needs 32 or more: specials, letters, and pieces")
        if max_length < 3:
            raise BadRecipe(f"Dna(max_length={max_length}): needs 3 or more: [CLS], a token, [SEP]")
        if not 0 <= reverse <= 1:
            raise BadRecipe(f"Dna(reverse={reverse}): a share of the sequences lies in 0 to 1")
        words = Kmers(k, overlap) if split == "kmer" else Pieces(vocabulary) if split == "bpe" else Letters()
        self.positions, self.with_norm = positions, norm
        self.neighbours = neighbours or Neighbours(kernel=9, groups=4, norm="layer")
        self.tokenizer: DnaTokenizer = DnaTokenizer(words, max_length, reverse)

    def fit(self, records: Sequence[Record]) -> None:
        """Learn the pieces of BPE; nothing else is learned beforehand."""
        if isinstance(self.tokenizer.words, Pieces):
            self.tokenizer.words.fit(record.raw for record in records)

    def assets(self) -> Assets:
        """``pieces.json``, where pieces were learned."""
        words = self.tokenizer.words
        return {"pieces.json": words.model.to_str().encode()} if isinstance(words, Pieces) and words.model is not None else {}

    def restore(self, assets: Assets) -> None:
        """Raises ValueError where the pieces cannot be read."""
        if isinstance(self.tokenizer.words, Pieces):
            self.tokenizer.words.restore(assets["pieces.json"].decode())

    def build(self, width: int) -> None:
        """One row an id (normal, std 0.02: BERT), positions and norm as asked.

        Raises:
            BadRecipe: the width is no multiple of the groups of "conv".
        """
        if self.positions == "conv" and width % self.neighbours.groups:
            raise BadRecipe(f"Dna(neighbours={self.neighbours}): the encoder's width {width} is no multiple of these groups")
        self.embedding = nn.Embedding(self.tokenizer.size, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.position = LearnedPositions((self.tokenizer.max_length,), width) if self.positions == "learned" else None
        self.conv = conv_positions(width, self.neighbours) if self.positions == "conv" else None
        self.norm = nn.LayerNorm(width) if self.with_norm else nn.Identity()

    def embed(self, content_R: Tensor, layout_N: Layout, hidden_N: Tensor) -> Tensor:
        """x_ND. A hidden token is embedded as [MASK]."""
        x_ND = self.embedding(torch.where(hidden_N, MASK, content_R))
        if self.position is not None:
            x_ND = x_ND + self.position(layout_N.position_TC, 1)
        elif self.conv is not None:
            x_ND = x_ND + self.conv(x_ND, layout_N)
        elif self.positions == "sinusoidal":
            x_ND = x_ND + sinusoidal(layout_N.position_TC, x_ND.shape[1], 1).to(x_ND.dtype)
        normed_ND: Tensor = self.norm(x_ND)
        return normed_ND

    def tied(self) -> Tensor:
        """The rows of the ids."""
        return self.embedding.weight

    def pictures(self, tokens: Tokens, name: str, hidden_N: Tensor, answers: Sequence[Answer]) -> list[Picture]:
        """The sequence whole, with holes, and filled with the likeliest token of every target that predicts ids."""
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
            caption = f"filled: {judged.count('right')} of {len(answer.answer_N)} right"
            pictures.append(Marked(caption, self._told(filled, judged, true)))
        return pictures

    def _told(self, ids: list[int], marks: list[str], true: list[int]) -> tuple[tuple[str, str, str], ...]:
        """Runs of seen tokens as one string; every other token alone, with the true one as its note."""
        join, told = self.tokenizer.words.join, list[tuple[str, str, str]]()
        entries = [e for e in zip(ids, marks, true, strict=True) if e[2] not in (CLS, SEP)]
        for seen, run in groupby(entries, key=lambda e: e[1] == "seen"):
            if seen:
                told.append((join([i for i, _, _ in run]), "seen", ""))
            else:
                told += [(join([i]), mark, join([was])) for i, mark, was in run]
        return tuple(told)
