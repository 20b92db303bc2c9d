"""A label as a word that the masked head fills in.

Shape suffixes: N records, V vocabulary, C classes, W words of all classes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.errors import BadRecord
from mmm.core.head import HeadKind, HeadSettings
from mmm.core.modality import Record, Tokenizer
from mmm.core.model import Model
from mmm.core.objective import Prediction
from mmm.core.target import Target
from mmm.core.tokens import Piece, Sample, Tokens, pack
from mmm.core.view import View
from mmm.objectives._labels import Classes
from mmm.objectives._task import Task, predictions

RECORD, MASK = "{record}", "[MASK]"


class Cloze(Task):
    """Classify by filling in: a record is put into a pattern, and the masked head's word there is its label (PET).

    No parameter is new: the head is the one of masked modelling, at its address, so pretrained weights answer from the first
    step, and a few labelled records are enough. The loss is the cross-entropy over the words of the verbalizer; a class with
    several words has their mean logit. A record that leaves no room for the pattern loses words at its end.

    Paper: PET, arXiv:2001.07676, section 3.1.

    Args:
        pattern: holds ``{record}`` once and ``[MASK]`` once, whatever the tokenizer calls its mask.
        verbalizer: the word or words of each class, one token each as they stand in the pattern.
        target: what the masked head answers, as in pre-training (TokenIds). head: its kind there.
        modality, skip_unlabelled: see ``Classify``.
    """

    metric = "accuracy"
    target: Classes

    def __init__(
        self,
        pattern: str,
        verbalizer: dict[str, str | list[str]],
        target: Target,
        head: HeadKind | HeadSettings = "tied",
        modality: str | None = None,
        skip_unlabelled: bool = False,
    ):
        if pattern.count(RECORD) != 1 or pattern.count(MASK) != 1:
            raise ValueError(f"Cloze pattern {pattern!r}: it must hold {RECORD} once and {MASK} once")
        if len(verbalizer) < 2:
            raise ValueError(f"Cloze verbalizer {verbalizer!r}: it needs two classes or more")
        super().__init__(Classes(skip_unlabelled, list(verbalizer)), modality)
        self.pattern, self.filled, self.kind = pattern, target, head
        self.verbalizer = {name: [w] if isinstance(w, str) else list(w) for name, w in verbalizer.items()}

    def setup(self, model: Model) -> None:
        super().setup(model)
        self.tokenizer: Tokenizer = self.target.tokenizer
        self.filled.bind(self.name, self.tokenizer)
        self.address = model.make_head("", self.name, self.filled, self.kind)

    def build(self, model: Model) -> None:
        """Nothing: the head is the pretrained one."""

    @cached_property
    def place(self) -> _Place:
        """Where the word stands and which token each word is.

        Raises:
            ValueError: where a word is not a single token, or the modality has no mask.
        """
        mask = getattr(self.tokenizer, "mask", None)
        if mask is None:
            raise ValueError(f"Cloze on {self.name!r}: it has no mask among its ids; Cloze needs a modality such as Text")
        masked = self._ids(self.tokenizer.detokenize(torch.tensor([mask])).strip())
        at = masked.index(mask)
        words, starts = {}, set()
        for word in (word for words in self.verbalizer.values() for word in words):
            ids = self._ids(word)
            # In some vocabularies the space before a word belongs to its token, but stands alone before the mask.
            start = at - (len(ids) == len(masked) - 1)
            if start < 1 or ids[:start] != masked[:start] or ids[start + 1 :] != masked[at + 1 :]:
                tokens = [self.tokenizer.detokenize(torch.tensor([i])) for i in ids]
                raise ValueError(
                    f"Cloze verbalizer: {word!r} is not one token of the vocabulary where {MASK} stands: {' '.join(tokens)!r}"
                )
            words[word] = ids[start]
            starts.add((start, len(ids)))
        if len(starts) > 1:
            raise ValueError(f"Cloze verbalizer: some of {', '.join(words)} take in the space before {MASK}, others do not")
        ((start, length),) = starts
        behind = self.pattern.index(MASK) > self.pattern.index(RECORD)
        return _Place(start - length if behind else start, next(iter(words)), words)

    def _ids(self, word: str) -> list[int]:
        """Ids of the pattern with a word, around a record of one letter."""
        return self.tokenizer.tokenize(self._text("A", word)).content.tolist()  # type: ignore[no-any-return]

    def _text(self, record: str, word: str) -> str:
        return self.pattern.replace(MASK, word).replace(RECORD, record)

    def check(self, record: Record) -> None:
        super().check(record)
        assert self.place

    def views(self, tokens: Tokens, progress: float, draw: Draw) -> list[View]:
        """One, of the filled-in patterns in place of the records, in which the word is hidden."""
        samples = []
        for s, record in enumerate(self.records(tokens)):
            if record is not None:
                name = int(tokens.layout.sample_S[s]), int(tokens.layout.epoch_S[s])
                aux = {"record": record, "truth": self.target.read(record)}
                samples.append(Sample({self.name: self._piece(record)}, *name, aux))
        filled = pack(samples, tokens.tokenizers)
        length_S = torch.tensor(filled.layout.lengths, dtype=torch.int64)
        offset = self.place.offset if samples else 0
        read_N = filled.layout.start_S + (length_S + offset if offset < 0 else offset)
        hidden_T = torch.zeros(len(filled), dtype=torch.bool).index_fill(0, read_N, True)
        return [View.of(filled, hidden_T, answer_N=torch.zeros(0, dtype=torch.int64), read_N=read_N)]

    def _piece(self, record: Record) -> Piece:
        """The pattern with the record and a word in it.

        Raises:
            BadRecord: where the word is not found again, because the record's end changes the tokens around it.
        """
        place, raw = self.place, record.raw
        piece = self.tokenizer.tokenize(self._text(raw, place.word))
        if piece.cut:
            fits = bisect_left(range(len(raw)), True, key=lambda n: self._tokenized(raw[:n], place.word).cut) - 1
            shorter = raw[: max(0, fits)]
            piece = self._tokenized(shorter.rpartition(" ")[0] or shorter, place.word)
        if piece.cut or piece.content[place.offset] != place.ids[place.word]:
            raise BadRecord(
                record.path, record.record, f"does not fit the pattern {self.pattern!r}: its word is not found there"
            )
        return piece

    def _tokenized(self, raw: str, word: str) -> Piece:
        return self.tokenizer.tokenize(self._text(raw, word))

    def asked(self, view: View) -> int:
        return len(view.read_N)

    def outputs(self, model: Model, view: View) -> tuple[Tensor, Tensor]:
        logits_NV = model.heads[self.address](model(view))
        place = self.place
        columns = [logits_NV[:, [place.ids[w] for w in self.verbalizer[name]]].mean(1) for name in self.target.names]
        truths = view.tokens.aux.get("truth", [])
        return torch.stack(columns, 1), (torch.stack(truths) if truths else self.target.none()).to(logits_NV.device)

    def predictions(self, model: Model, tokens: Tokens, views: Sequence[View]) -> list[Prediction]:
        output_NC, truth_N = (x.detach().cpu() for x in self.outputs(model, views[0]))
        return predictions(self.target, views[0].tokens.aux.get("record", []), output_NC, truth_N)


@dataclass(frozen=True)
class _Place:
    """Where the word stands in a piece, from its end if below 0; the word that is put there and hidden; each word's id."""

    offset: int
    word: str
    ids: dict[str, int]
