"""One class for each token of a record.

Shape suffixes: T packed tokens, N asked tokens, V output size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.model import Model
from mmm.core.objective import Prediction
from mmm.core.tokens import Tokens
from mmm.core.view import View
from mmm.objectives._tags import Tags
from mmm.objectives._task import Task


class Tag(Task):
    """Classify every token: one linear head at each.

    The label of a protein is a string as long as it is, a character a residue; that of a text has a word for each of its words
    (white space parts them), of anything else a word for each token. A text's word is read at the first of its tokens; specials
    are not asked, nor what a piece has no room for.

    Paper: BERT, arXiv:1810.04805, section 5.3; secondary structure: TAPE, arXiv:1906.08230.

    Args:
        modality: whose records are labelled; a model of one modality needs no word.
        ignore: tokens with this tag are not asked.
        skip_unlabelled: see ``Classify``.
    """

    metric = "token accuracy"
    target: Tags

    def __init__(self, modality: str | None = None, ignore: str = "", skip_unlabelled: bool = False):
        super().__init__(Tags(skip_unlabelled, ignore), modality)

    def views(self, tokens: Tokens, progress: float, draw: Draw) -> list[View]:
        """One, of which nothing is hidden and the tagged tokens are read."""
        records = self.records(tokens)
        truth_T = torch.full((len(tokens),), -1)
        own_T = torch.zeros(len(tokens), dtype=torch.bool).index_fill(0, tokens.index[self.name], True)
        for s, record in enumerate(records):
            if record is not None:
                truth_T[own_T & (tokens.layout.segment_T == s)] = self.target.of_piece(tokens, s)
        read_N = (truth_T >= 0).nonzero()[:, 0]
        lengths = torch.bincount(tokens.layout.segment_T[read_N], minlength=len(records)).tolist()
        truths = truth_T[read_N].split(lengths) if lengths else ()
        seen = replace(tokens, aux={**tokens.aux, "record": records, "truth": list(truths)})
        none_N = torch.zeros(0, dtype=torch.int64)
        return [View.of(seen, torch.zeros(len(tokens), dtype=torch.bool), answer_N=none_N, read_N=read_N)]

    def asked(self, view: View) -> int:
        return sum(len(truth_N) for truth_N in view.tokens.aux["truth"])

    def outputs(self, model: Model, view: View) -> tuple[Tensor, Tensor]:
        output_NV = model.heads[self.address](model(view))
        truth_N = torch.cat([self.target.none(), *view.tokens.aux["truth"]])
        return output_NV, truth_N.to(output_NV.device)

    def predictions(self, model: Model, tokens: Tokens, views: Sequence[View]) -> list[Prediction]:
        (view,) = views
        truths = view.tokens.aux["truth"]
        output_NV = self.outputs(model, view)[0].detach().cpu()
        answers = self.target.answer(output_NV).split([len(t) for t in truths]) if truths else ()
        said = zip(view.tokens.aux["record"], answers, truths, strict=True)
        return [
            Prediction(r, self.target.text(a), self.target.text(t), a, t, self.target.guess.expand(len(t)))
            for r, a, t in said
            if r is not None and len(t)
        ]
