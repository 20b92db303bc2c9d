"""What a frozen model makes of records: one vector a record, kept for the next measure, or one a token.

Shape suffixes: K tokens of a batch, N tokens of a record, S segments, R records, D width.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mmm.core.errors import BadRecipe, did_you_mean
from mmm.core.layout import Layout
from mmm.core.modality import Tokenizer
from mmm.core.tokens import Piece
from mmm.loaded import BUDGET, Loaded

log = logging.getLogger("mmm")

Pool = Literal["mean", "first"]
CHUNK = 1024
"""Records that are tokenised before they are sorted by length and encoded."""


class Frozen:
    """A loaded model that is only asked.

    Args:
        model: it. modality: which of its modalities the records are of; its only one where None.

    Raises:
        ValueError: the model has no such modality, or several and none was named.
    """

    def __init__(self, model: Loaded, modality: str | None, cache: dict[Any, tuple[np.ndarray, bool]] | None = None):
        names = model.model.names
        if modality is None and len(names) > 1:
            raise BadRecipe(f"the model has the modalities {', '.join(names)}; say which one is meant by --modality")
        if modality is not None and modality not in names:
            raise BadRecipe(f"the model has no modality {modality!r}. {did_you_mean(modality, names)}")
        self.model, self.modality = model, modality or names[0]
        self.cache = {} if cache is None else cache
        self._cut: set[str] = set()

    @property
    def cut(self) -> int:
        """Records whose vectors were asked for, and that are longer than the model reads."""
        return len(self._cut)

    @property
    def tokenizer(self) -> Tokenizer:
        """Of the modality."""
        return self.model.model.modalities[self.modality].tokenizer  # type: ignore[return-value]

    def vectors(self, records: Sequence[Any], keys: Sequence[str], pool: Pool = "mean", layer: int | None = None) -> np.ndarray:
        """One vector a record, (R, D) float32; worked out once for each key.

        Args:
            records: what the tokenizer takes; of one that is longer than the model reads, the beginning (``cut`` counts them).
            keys: of the records.
            pool: the mean of its tokens without specials (of all of them, where there are only specials), or its first token.
            layer: output of this block (0: the embedding); None: what the encoder returns.
        """
        address = (self.modality, layer)
        missing = {key: record for record, key in zip(records, keys, strict=True) if (*address, key) not in self.cache}
        names = list(missing)
        for numbers, cut, layout, x_KD in self._encoded(missing.values(), layer):
            for number, its_cut, vector_2D in zip(numbers, cut, _pooled(x_KD, layout), strict=True):
                self.cache[(*address, names[number])] = vector_2D, its_cut
        found = [self.cache[(*address, key)] for key in keys]
        self._cut |= {key for key, (_, its_cut) in zip(keys, found, strict=True) if its_cut}
        which = 0 if pool == "mean" else 1
        return np.stack([vector_2D[which] for vector_2D, _ in found])

    def tokens(self, records: Sequence[Any], layer: int | None = None) -> list[np.ndarray]:
        """One vector a token, (N, D) float32 for each record; specials are left out."""
        found: dict[int, np.ndarray] = {}
        for numbers, _, layout, x_KD in self._encoded(records, layer):
            lengths = list(layout.lengths)
            maskable = layout.maskable_T.split(lengths)
            for number, x_ND, free_N in zip(numbers, x_KD.split(lengths), maskable, strict=True):
                found[number] = x_ND[free_N].float().cpu().numpy()
        return [found[i] for i in range(len(found))]

    def pieces(self, records: Iterable[Any]) -> Iterator[tuple[int, Piece]]:
        """Their tokens, numbered."""
        for number, record in enumerate(records):
            yield number, self.tokenizer.tokenize(record)

    def _encoded(self, records: Iterable[Any], layer: int | None) -> Iterator[tuple[list[int], list[bool], Layout, Tensor]]:
        """(numbers of the records, whether each is longer than the model reads, layout_K, x_KD), a batch at a time."""
        depth = self.model.model.encoder.depth
        if layer is not None and not 0 <= layer <= depth:
            raise BadRecipe(f"layer {layer}: the encoder has {depth} blocks; 0 is what enters the first")
        for batch in batches(self.pieces(records), BUDGET):
            numbers, _, view = self.model.view(self.modality, batch)
            pieces = dict(batch)
            cut = [pieces[number].cut for number in numbers]
            with torch.inference_mode():
                encoded = self.model.model.encode(view, () if layer is None else (layer,))
                yield numbers, cut, view.layout_K, encoded.x_KD if layer is None else encoded.layers[layer]


def batches(pieces: Iterable[tuple[int, Piece]], budget: int) -> Iterator[list[tuple[int, Piece]]]:
    """Neighbours in length together, at most so many tokens; ``CHUNK`` records are sorted at a time."""
    source, more = iter(pieces), True
    while more:
        chunk = list(islice(source, CHUNK))
        more = len(chunk) == CHUNK
        batch: list[tuple[int, Piece]] = []
        room = budget
        for number, piece in sorted(chunk, key=lambda p: len(p[1])):
            if batch and len(piece) > room:
                yield batch
                batch, room = [], budget
            batch.append((number, piece))
            room -= len(piece)
        if batch:
            yield batch


def _pooled(x_KD: Tensor, layout: Layout) -> np.ndarray:
    """(S, 2, D): mean without specials, and first token, of each segment."""
    weight_K = layout.maskable_T.to(x_KD.dtype)
    free_S = torch.zeros(layout.segments, device=x_KD.device, dtype=x_KD.dtype).index_add_(0, layout.segment_T, weight_K)
    weight_K = torch.where(free_S[layout.segment_T] > 0, weight_K, torch.ones_like(weight_K))
    free_S = torch.zeros_like(free_S).index_add_(0, layout.segment_T, weight_K)
    total_SD = x_KD.new_zeros(layout.segments, x_KD.shape[1]).index_add_(0, layout.segment_T, x_KD * weight_K[:, None])
    return torch.stack([total_SD / free_S[:, None], x_KD[layout.start_S]], dim=1).float().cpu().numpy()
