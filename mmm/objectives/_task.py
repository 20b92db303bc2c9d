"""What tasks share: a label, the records that have one, a head for them.

Shape suffixes: T packed tokens, K kept tokens, N asked records, S segments, D width, V output size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mmm.core.draw import Draw
from mmm.core.errors import did_you_mean
from mmm.core.modality import Record
from mmm.core.model import Model
from mmm.core.objective import Objective, Prediction, Term
from mmm.core.tokens import Sample, Tokens, pack
from mmm.core.view import View
from mmm.nn.pool import Pool, Pooling
from mmm.objectives._labels import Label


class Task(Objective):
    """An objective whose truth is the label of a record; its head stands at ``task/<modality>/<target>``.

    A batch's view keeps the truths, one a segment, in its tokens' extras: they are looked up once, on the host.

    Args:
        target: what the label says. modality: whose label it is; a model of one modality needs no word.
    """

    def __init__(self, target: Label, modality: str | None = None):
        super().__init__()
        self.target, self.modality = target, modality
        self.name = self.address = ""

    def setup(self, model: Model) -> None:
        """Raises ValueError where it is not clear which modality is meant."""
        who = type(self).__name__
        if self.modality is None and len(model.names) > 1:
            raise ValueError(
                f"{who}: the model has the modalities {', '.join(model.names)}; say whose label is learned, as in "
                f"--model.objective.init_args.modality {model.names[0]}"
            )
        self.name = model.names[0] if self.modality is None else self.modality
        if self.name not in model.names:
            raise ValueError(f"{who}: no modality {self.name!r}. {did_you_mean(self.name, model.names)}")
        self.target.bind(self.name, model.modalities[self.name].tokenizer)  # type: ignore[arg-type]

    def targets(self) -> dict[str, Label]:  # type: ignore[override]
        return {f"task/{self.term}": self.target}

    @property
    def term(self) -> str:
        """What its one term is called."""
        return f"{self.name}/{type(self.target).__name__}"

    def build(self, model: Model) -> None:
        self.address = model.make_head("task", self.name, self.target)

    def check(self, record: Record) -> None:
        if self.target.has(record):
            self.target.read(record)

    def records(self, tokens: Tokens) -> list[Record | None]:
        """The labelled record of each segment, None where there is none."""
        found = [example.get(self.name) for example in tokens.aux.get("example", [])]
        return [record if record is not None and self.target.has(record) else None for record in found]

    def counts(self, tokens: Tokens, views: Sequence[View]) -> dict[str, float]:
        return {self.term: float(self.asked(views[0]))}

    def forward(self, model: Model, tokens: Tokens, views: Sequence[View], progress: float) -> list[Term]:
        output_NV, truth_N = self.outputs(model, views[0])
        return [Term(self.term, self.target.loss(output_NV, truth_N).sum(), float(len(truth_N)))]

    def asked(self, view: View) -> int:
        """How many answers the view asks for."""
        raise NotImplementedError

    def outputs(self, model: Model, view: View) -> tuple[Tensor, Tensor]:
        """(output_NV, truth_N) of a batch."""
        raise NotImplementedError


class RecordTask(Task):
    """A task about whole records, or about pairs of them: nothing is hidden, all tokens are pooled, the head reads that.

    The two records of a pair are one piece where the tokenizer can make one of them (``together``: texts). Else each is encoded
    by itself, and the head reads both, their difference and their product (InferSent, arXiv:1705.02364).

    Args:
        target, modality: see ``Task``. pool: see ``mmm.nn.pool.Pool``. pairs: records are the rows of a table with ``record2``.
        neighbours: see ``Classify``.

    Attributes:
        apart: pairs are never one piece.
    """

    apart = False

    def __init__(
        self,
        target: Label,
        modality: str | None = None,
        pool: Pooling = "mean",
        pairs: bool = False,
        neighbours: int | None = None,
    ):
        super().__init__(target, modality)
        if neighbours is not None and (neighbours < 1 or pool == "attention"):
            raise ValueError(
                f"{type(self).__name__}(neighbours={neighbours}, pool={pool!r}): needs 1 or more, and a pool that is "
                "not learned (mean, first)"
            )
        self.pooling: Pooling = pool
        self.pairs, self.neighbours = pairs, neighbours
        self._memory: tuple[Any, Tensor] | None = None  # the training records' features, to be searched, and their truths

    def setup(self, model: Model) -> None:
        super().setup(model)
        self.together = not self.apart and getattr(self.target.tokenizer, "together", False)
        self.segments_each = 2 if self.pairs and not self.together else 1

    def build(self, model: Model) -> None:
        super().build(model)
        width = model.decoder.width
        self.pool = Pool(self.pooling, width)
        self.both = nn.Sequential(nn.Linear(4 * width, width), nn.GELU()) if self.segments_each == 2 else None

    def views(self, tokens: Tokens, progress: float, draw: Draw) -> list[View]:
        """One, of which nothing is hidden; segments without a label stay outside the encoder."""
        if self.together and any(tokens.aux.get("part", [])):
            tokens = self._joined(tokens)
        records = self.records(tokens)
        truths = [None if record is None else self.target.read(record) for record in records]
        there_S = torch.tensor([truth is not None for truth in truths], dtype=torch.bool)
        kept_K = None if all(there_S) else there_S[tokens.layout.segment_T].nonzero()[:, 0]
        none_N = torch.zeros(0, dtype=torch.int64)
        view = View.of(
            replace(tokens, aux={**tokens.aux, "record": records, "truth": truths}),
            torch.zeros(len(tokens), dtype=torch.bool),
            answer_N=none_N,
            read_N=torch.arange(len(tokens)) if kept_K is None else kept_K,
            kept_K=kept_K,
        )
        return [view]

    def _joined(self, tokens: Tokens) -> Tokens:
        """The same records, the two of a pair as one piece."""
        aux = tokens.aux
        by_group: dict[int, list[int]] = {}
        for s in sorted(range(tokens.layout.segments), key=lambda s: aux["part"][s]):
            by_group.setdefault(aux["group"][s], []).append(s)
        samples = []
        for found in by_group.values():
            raws = tuple(aux["example"][s][self.name].raw for s in found)
            s = found[0]
            piece = self.target.tokenizer.tokenize(raws if len(raws) > 1 else raws[0], aux["draw"][s])
            name = int(tokens.layout.sample_S[s]), int(tokens.layout.epoch_S[s])
            samples.append(Sample({self.name: piece}, *name, {key: aux[key][s] for key in aux}))
        return pack(samples, tokens.tokenizers)

    def segments(self, view: View) -> list[tuple[int, ...]]:
        """The segments of every record that is asked: one, or the two of a pair.

        Raises:
            ValueError: where there are pairs and none were expected, or the other way round.
        """
        aux = view.tokens.aux
        there = [s for s, truth in enumerate(aux["truth"]) if truth is not None]
        by_group: dict[int, list[int]] = {}
        for s in there:
            by_group.setdefault(aux["group"][s] if "group" in aux else s, []).append(s)
        for found in by_group.values():
            if len(found) != self.segments_each:
                if self.segments_each == 2:
                    raise ValueError(f"{type(self).__name__} learns from pairs: the table needs the column 'record2'")
                raise ValueError(
                    f"{type(self).__name__}: the table has pairs (record2); say so by --model.objective.init_args.pairs true"
                )
        return [tuple(sorted(found, key=lambda s: aux["part"][s] if "part" in aux else 0)) for found in by_group.values()]

    def asked(self, view: View) -> int:
        return len(self.segments(view))

    def outputs(self, model: Model, view: View) -> tuple[Tensor, Tensor]:
        parts, truth_N = self.pooled(model, view)
        return self.head(model, parts), truth_N

    def pooled(self, model: Model, view: View) -> tuple[list[Tensor], Tensor]:
        """([part_ND], truth_N): each asked record, or the first and the second of each pair; and the truths."""
        pooled_SD = self.pool(model(view), view.layout_K)
        segments = self.segments(view)
        truths = [view.tokens.aux["truth"][s] for s, *_ in segments]
        truth_N = (torch.stack(truths) if truths else self.target.none()).to(pooled_SD.device)
        parts = [pooled_SD[list(of_part)] for of_part in zip(*segments, strict=True)]
        return parts or [pooled_SD[:0]] * self.segments_each, truth_N

    def head(self, model: Model, parts: Sequence[Tensor]) -> Tensor:
        """output_NV of the pooled records, or of the first and the second of pairs."""
        if self.both is None:
            return model.heads[self.address](parts[0])  # type: ignore[no-any-return]
        first_ND, second_ND = parts
        both = torch.cat([first_ND, second_ND, (first_ND - second_ND).abs(), first_ND * second_ND], dim=1)
        return model.heads[self.address](self.both(both))  # type: ignore[no-any-return]

    def remember(self, model: Model, batches: Iterable[Tokens], draw: Draw) -> bool:
        """With ``neighbours``: keep what the model makes of every training record."""
        if self.neighbours is None:
            return False
        from sklearn.neighbors import NearestNeighbors

        features, truths = [], []
        for tokens in batches:
            (view,) = self.views(tokens, 1.0, draw)
            parts, truth_N = self.pooled(model, view.to(next(model.parameters()).device))
            features.append(torch.cat(parts, 1).float().cpu())
            truths.append(truth_N.cpu())
        feature_ND, truth_N = torch.cat(features), torch.cat(truths)
        nearest = NearestNeighbors(n_neighbors=min(self.neighbours, len(truth_N)), metric="cosine")
        self._memory = (nearest.fit(feature_ND.numpy()), truth_N)
        return True

    def predictions(self, model: Model, tokens: Tokens, views: Sequence[View]) -> list[Prediction]:
        (view,) = views
        output_NV, truth_N = (x.detach().cpu() for x in self.outputs(model, view))
        if self._memory is not None and len(truth_N):
            nearest, known = self._memory
            feature_ND = torch.cat(self.pooled(model, view)[0], 1).float().cpu()
            output_NV = self.target.vote(known[torch.from_numpy(nearest.kneighbors(feature_ND, return_distance=False))])
        records = [view.tokens.aux["record"][s] for s, *_ in self.segments(view)]
        return predictions(self.target, records, output_NV, truth_N)


def predictions(target: Label, records: Sequence[Record], output_NV: Tensor, truth_N: Tensor) -> list[Prediction]:
    """One of each record."""
    rows = zip(records, target.answer(output_NV.float()), truth_N, target.score(output_NV), strict=True)
    return [
        Prediction(record, target.words(answer), str(record.label), answer, target.own(truth), target.guess, score)
        for record, answer, truth, score in rows
    ]
