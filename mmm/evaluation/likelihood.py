"""What a masked head says of tokens: of each one alone, hidden from the model, or of all at once.

Shape suffixes: T packed tokens, N asked tokens, V ids, Q questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mmm.core.errors import BadRecipe
from mmm.core.tokens import Piece
from mmm.core.view import View
from mmm.loaded import BUDGET

from .features import Frozen, batches

Question = tuple[Piece, int]
"""A piece, and the place of the one token in it that is hidden and asked for."""


class MaskedHead:
    """The head of a frozen model that answers with the ids of its tokenizer.

    Where the model was trained on dropped tokens, the hidden token is dropped, not replaced by the mask.

    Args:
        frozen: the model and the modality.

    Raises:
        ValueError: it has no such head.
    """

    def __init__(self, frozen: Frozen):
        model, name = frozen.model.model, frozen.modality
        self.frozen, self.head = frozen, model.heads[model.id_head(name)]
        self.drops = frozen.model.drops

    def piece(self, record: Any) -> Piece:
        """Its tokens. Raises ValueError where it is longer than the model reads."""
        piece = self.frozen.tokenizer.tokenize(record)
        if piece.cut:
            raise BadRecipe(f"{str(record)[:60]!r} is longer than the model reads")
        return piece

    def ask(self, questions: Sequence[Question]) -> Iterator[tuple[list[int], Tensor]]:
        """(numbers of the questions, logp_QV), a batch at a time; questions of like length go together."""
        order = sorted(range(len(questions)), key=lambda i: len(questions[i][0]))
        start = 0
        while start < len(order):
            end, room = start, BUDGET
            while end < len(order) and (end == start or len(questions[order[end]][0]) <= room):
                room -= len(questions[order[end]][0])
                end += 1
            yield self._answers([(i, *questions[i]) for i in order[start:end]])
            start = end

    def _answers(self, asked: Sequence[tuple[int, Piece, int]]) -> tuple[list[int], Tensor]:
        numbers, _, plain = self.frozen.model.view(self.frozen.modality, [(i, piece) for i, piece, _ in asked])
        place = {i: place for i, _, place in asked}
        tokens = plain.tokens.to("cpu")
        hidden_T = torch.zeros(len(tokens), dtype=torch.bool)
        hidden_T[tokens.layout.start_S + torch.tensor([place[i] for i in numbers])] = True
        view = View.of(tokens, hidden_T, kept_K=(~hidden_T).nonzero()[:, 0] if self.drops else None)
        return numbers, self._log_probabilities(view)

    def _log_probabilities(self, view: View) -> Tensor:
        model = self.frozen.model
        with torch.inference_mode():
            return self.head(model.model(view.to(model.device))).float().log_softmax(-1).cpu()  # type: ignore[no-any-return]

    def pseudo_log_likelihoods(self, records: Sequence[Any]) -> list[float]:
        """The sum over a record's tokens of log p(token | all others), each hidden in turn, in nats.

        Paper: Salazar et al. 2020, "Masked language model scoring", arXiv:1910.14659, section 2.
        """
        pieces = [self.piece(record) for record in records]
        owner = [(n, place) for n, piece in enumerate(pieces) for place in _places(piece)]
        total = [0.0] * len(pieces)
        for numbers, logp_QV in self.ask([(pieces[n], place) for n, place in owner]):
            truth_Q = torch.stack([pieces[owner[q][0]].content[owner[q][1]] for q in numbers])
            for q, value in zip(numbers, logp_QV.gather(1, truth_Q[:, None])[:, 0].tolist(), strict=True):
                total[owner[q][0]] += value
        return total

    def unmasked_log_likelihoods(self, records: Sequence[Any]) -> list[float]:
        """The same sum of one pass that hides nothing: n times faster, but each token is seen where it is asked."""
        pieces = [self.piece(record) for record in records]
        total = [0.0] * len(pieces)
        for batch in batches(enumerate(pieces), BUDGET):
            numbers, _, plain = self.frozen.model.view(self.frozen.modality, batch)
            tokens = plain.tokens.to("cpu")
            asked_N = tokens.layout.maskable_T.nonzero()[:, 0]
            logp_NV = self._log_probabilities(View.of(tokens, torch.zeros(len(tokens), dtype=torch.bool), answer_N=asked_N))
            truth_N = tokens.content[self.frozen.modality][asked_N]
            logp_N = logp_NV.gather(1, truth_N[:, None])[:, 0].double()
            sum_S = torch.zeros(len(numbers), dtype=torch.float64).index_add_(0, tokens.layout.segment_T[asked_N], logp_N)
            for number, value in zip(numbers, sum_S.tolist(), strict=True):
                total[number] = value
        return total


def _places(piece: Piece) -> list[int]:
    """Where its tokens stand that are no specials."""
    return list(range(len(piece))) if piece.maskable is None else piece.maskable.nonzero()[:, 0].tolist()
