"""The plain view of a model: records in, one tensor a record out.

Shape suffixes: N tokens of a record, D width, V output size, T packed tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .core.draw import Draw
from .core.errors import did_you_mean
from .core.modality import Tokenizer
from .core.objective import Objective
from .core.sampler import Sampler
from .core.tokens import Piece, Sample, pack
from .core.training import Training
from .core.view import View

BUDGET = 8192
"""Tokens that are encoded at once; a longer record goes alone."""


def learned_dropped(objective: Objective) -> bool:
    """Whether a model was trained on hidden tokens that are left out, not on mask vectors."""
    from .corruptions.drop import Drop

    parts = [objective, *getattr(objective, "parts", {}).values()]  # those of a Sum
    return any(isinstance(getattr(part, "corruption", None), Drop) for part in parts)


class Loaded(Training):
    """A model with its tokenizers and weights, to be asked, exported or trained on.

    Gradients flow through ``hidden`` and ``logits``; ask under ``torch.no_grad()`` where none are wanted.
    """

    def hidden(self, records: Sequence[Any], modality: str | None = None) -> list[Tensor]:
        """What the encoder makes of each record: hidden_ND, specials included, in the order of the tokens.

        Nothing is masked but what the record itself masks ("a [MASK] b", "MK<mask>AY").

        Args:
            records: strings, paths, PIL images, arrays, (waveform, rate): whatever the modality's tokenizer takes.
            modality: which one they are; by default the first of the model that can read each record.

        Raises:
            ValueError: a record that no modality can read, one that is longer than the model reads, an unknown modality.
        """
        found: dict[int, Tensor] = {}
        for numbers, _, view in self._views(records, modality):
            hidden_TD = self.model.encode(view).x_KD
            found |= dict(zip(numbers, hidden_TD.split(list(view.layout_K.lengths)), strict=True))
        return [found[i] for i in range(len(found))]

    def logits(self, records: Sequence[Any], modality: str | None = None) -> list[Tensor]:
        """What the modality's head answers at every token of each record: logits_NV; see ``hidden``.

        Raises:
            ValueError: besides, where the model has no head for the modality.
        """
        found: dict[int, Tensor] = {}
        for numbers, name, view in self._views(records, modality):
            logits_TV = self.model.heads[self.head_of(name)](self.model(view))
            found |= dict(zip(numbers, logits_TV.split(list(view.layout_K.lengths)), strict=True))
        return [found[i] for i in range(len(found))]

    def fill(
        self, records: Sequence[Any], modality: str | None = None, sampler: Sampler | None = None, seed: int = 0
    ) -> list[Any]:
        """Each record with ids in the place of its masks ("a [MASK] b"), as the tokenizer writes it down.

        Args:
            records, modality: see ``hidden``. sampler: in which order, and how ids are drawn; by default the likeliest, the
                surest first.
            seed: of what is drawn; a record's own draws are keyed by its number in the list.

        Raises:
            ValueError: besides, where records of the modality cannot hold masks, or no head predicts ids that are masked.
        """
        from .samplers.mask_git import MaskGit

        sampler, draw = sampler or MaskGit(temperature=0, choice=0), Draw(seed).stream("fill")
        found: dict[int, Any] = {}
        for numbers, name, view in self._views(records, modality):
            tokens = view.tokens.to("cpu")
            tokenizer = tokens.tokenizers[name]
            if tokenizer.mask is None:
                raise ValueError(f"a record of {name!r} has no way to say that a token is masked; it cannot be filled in")
            hidden_T = tokens.content[name] == tokenizer.mask
            tokens = sampler(self.model, tokens, hidden_T, draw, self.drops)
            pieces = tokens.content[name].split(list(tokens.layout.lengths))
            found |= {n: tokenizer.detokenize(content_R) for n, content_R in zip(numbers, pieces, strict=True)}
        return [found[i] for i in range(len(found))]

    @property
    def drops(self) -> bool:
        """See ``learned_dropped``."""
        return learned_dropped(self.objective)

    def head_of(self, name: str) -> str:
        """The address of the head that answers at a modality's tokens. Raises ValueError where there is none."""
        heads = [address for address in self.model.heads if address.split("/")[0] == name]
        if not heads:
            raise ValueError(
                f"this model has no head for the tokens of {name!r}; heads: {', '.join(self.model.heads) or 'none'}"
            )
        return heads[0]

    def piece(self, record: Any, modality: str | None = None) -> tuple[str, Piece]:
        """(modality, tokens) of one record. Raises ValueError: see ``hidden``."""
        names = self.model.names
        if modality is not None and modality not in names:
            raise ValueError(f"the model has no modality {modality!r}. {did_you_mean(modality, names)}")
        faults = {}
        for name in names if modality is None else (modality,):
            tokenizer = self.model.modalities[name].tokenizer
            assert isinstance(tokenizer, Tokenizer)
            try:
                piece = tokenizer.tokenize(_raw(record, tokenizer))
            except (AttributeError, OSError, TypeError, ValueError) as error:
                faults[name] = str(error).removeprefix(f"{name}: ")  # which is told below
                continue
            if piece.cut:
                raise ValueError(f"a record of {name!r} is longer than this model reads: cut it, or read it in stretches")
            return name, piece
        shown = repr(record) if isinstance(record, (str, Path)) else type(record).__name__
        raise ValueError(f"{shown:.80}: no modality can read it: " + "; ".join(f"{n}: {f}" for n, f in faults.items()))

    def _views(self, records: Sequence[Any], modality: str | None) -> Iterator[tuple[list[int], str, View]]:
        """(numbers of the records, their modality, the view in which nothing is hidden), a batch of tokens at a time."""
        if isinstance(records, (str, bytes, Path)) or not isinstance(records, Sequence):
            raise ValueError(f"records are given as a list, not as a {type(records).__name__}: put the one record in a list")
        by_name: dict[str, list[tuple[int, Piece]]] = {}
        for number, record in enumerate(records):
            name, piece = self.piece(record, modality)
            by_name.setdefault(name, []).append((number, piece))
        for name, pieces in by_name.items():
            for batch in _batches(pieces):
                yield self.view(name, batch)

    def view(self, name: str, pieces: Sequence[tuple[int, Piece]]) -> tuple[list[int], str, View]:
        """The same for numbered pieces of one modality, on the model's device."""
        tokenizers = {n: m.tokenizer for n, m in self.model.modalities.items()}
        tokens = pack([Sample({name: piece}, number) for number, piece in pieces], tokenizers)  # type: ignore[arg-type]
        everywhere_T = torch.arange(len(tokens))
        view = View.of(tokens, torch.zeros(len(tokens), dtype=torch.bool), answer_N=everywhere_T)
        return tokens.layout.sample_S.tolist(), name, view.to(self.device)


def _batches(pieces: list[tuple[int, Piece]]) -> Iterator[list[tuple[int, Piece]]]:
    """Neighbours in length together, at most ``BUDGET`` tokens."""
    batch: list[tuple[int, Piece]] = []
    room = BUDGET
    for number, piece in sorted(pieces, key=lambda p: len(p[1])):
        if batch and len(piece) > room:
            yield batch
            batch, room = [], BUDGET
        batch.append((number, piece))
        room -= len(piece)
    if batch:
        yield batch


def _raw(record: Any, tokenizer: Tokenizer) -> Any:
    """What the tokenizer takes of a record: a file's own record where a path is given."""
    if not isinstance(record, Path):
        return record
    if not record.name.lower().endswith(tokenizer.suffixes):
        raise ValueError(f"{record}: endings that can be read: {', '.join(tokenizer.suffixes)}")
    found = list(tokenizer.records(record))
    if len(found) != 1:
        raise ValueError(f"{record} holds {len(found)} records; give them one by one")
    return found[0].raw
