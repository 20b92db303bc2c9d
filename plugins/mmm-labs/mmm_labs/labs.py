"""Tables of laboratory values.

Shape suffixes: R content rows (one a token), N tokens of this modality, M codes of numbers, B bins, D width, V output size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmm.core.errors import BadRecipe, BadRecord
from mmm.core.layout import Layout
from mmm.core.modality import Assets, Modality, Record
from mmm.core.objective import Answer
from mmm.core.picture import Marked, Picture
from mmm.core.tokens import Tokens

from ._panel import Panel
from ._tokenizer import LabTokenizer

NEAR = 0.5
"""Deviations within which a number is shown as right."""


class Labs(Modality):
    """Laboratory values: a (code, value) pair is one token, a missing cell is none, and their order means nothing.

    A number is scaled by its code's training mean and deviation, and embedded by a piecewise linear encoding of its own: bins
    between training quantiles, a learned vector each. A word, as of a column ``sex``, is an item with a vector of its own.

    Paper: Gorishniy et al. 2022, "On embeddings for numerical features in tabular deep learning", arXiv:2203.05556, section
    3.2; no positions: Lee et al. 2019, "Set Transformer", arXiv:1810.00825.

    Args:
        hide: what a hidden token does not show: "pair", the code and the value, so that both are predicted; "value", the value
            alone, so that it is predicted of its code. The code then takes the place that positions have elsewhere: it is
            told by the layout, which is never hidden.
        label: names of columns, in any case, that hold the record's label; they make no token.
        ignore: columns that are left out: identifiers, dates.
        categories: columns whose values are words though they look like numbers.
    """

    adjustable = ("label", "ignore")
    tokenizer: LabTokenizer

    def __init__(
        self,
        hide: Literal["pair", "value"] = "pair",
        label: Sequence[str] = ("label", "class"),
        ignore: Sequence[str] = (),
        categories: Sequence[str] = (),
    ):
        super().__init__()
        for argument, names in (("label", label), ("ignore", ignore), ("categories", categories)):
            if isinstance(names, str):
                raise BadRecipe(f"Labs({argument}={names!r}): needs a list of columns, [{names}]")
        self.tokenizer = LabTokenizer(hide == "value", label, ignore, categories)

    def fit(self, records: Sequence[Record]) -> None:
        """Learn the codes, their means, deviations and quantiles, and the categories.

        Raises:
            BadRecord: a record without a value. ValueError: a code that has both numbers and words.
        """
        rows = []
        for record in records:
            try:
                rows.append(self.tokenizer.values(record.raw))
            except ValueError as error:
                raise BadRecord(record.path, record.record, str(error)) from error
        self.tokenizer.panel = Panel.of(rows)

    def assets(self) -> Assets:
        return {} if self.tokenizer.panel is None else {"panel.json": self.tokenizer.panel.to_json()}

    def restore(self, assets: Assets) -> None:
        if "panel.json" in assets:
            self.tokenizer.panel = Panel.of_json(assets["panel.json"])

    def build(self, width: int) -> None:
        """A vector an item, one a bin, and the mask vector (normal, std 0.02); where codes are seen, one a code."""
        panel = self.tokenizer.fitted
        self.item = nn.Embedding(len(panel.items), width)
        low_MB, width_MB = panel.edges()
        self.register_buffer("low_MB", low_MB, persistent=False)  # the panel, an asset, holds them
        self.register_buffer("width_MB", width_MB, persistent=False)
        self.bin = nn.Embedding(low_MB.numel() + 1, width)  # and a last one, of words, which is never added
        self.code = nn.Embedding(len(panel.items), width) if self.tokenizer.shown else None
        self.mask = nn.Parameter(torch.zeros(width))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02)

    def embed(self, content_R: Tensor, layout_N: Layout, hidden_N: Tensor) -> Tensor:
        """x_ND, with no position."""
        shown_R2 = content_R.masked_fill(hidden_N[:, None], 0.0)
        item_N = shown_R2[:, 0].long()
        x_ND = torch.where(hidden_N[:, None], self.mask, self.item(item_N) + self._value(item_N, shown_R2[:, 1]))
        return x_ND if self.code is None else x_ND + self.code(layout_N.position_TC[:, -1].long())

    def _value(self, item_N: Tensor, scaled_N: Tensor) -> Tensor:
        """x_ND of the numbers, 0 of words: the share of each bin that lies below a number (arXiv:2203.05556, equation 1)."""
        codes, bins = self.low_MB.shape
        m_N = item_N.clamp(max=codes - 1)
        if codes == 0:
            return torch.zeros(len(item_N), self.mask.shape[0], device=item_N.device)
        low_NB, width_NB = self.low_MB[m_N], self.width_MB[m_N]
        share_NB = (scaled_N[:, None] - low_NB) / width_NB.clamp(min=torch.finfo(torch.float32).tiny)
        there_NB = width_NB > 0
        place_B = torch.arange(bins, device=item_N.device)
        last_N1 = there_NB.sum(1, keepdim=True) - 1
        share_NB = torch.where(place_B > 0, share_NB.clamp(min=0), share_NB)  # the first and the last bin have no end
        share_NB = torch.where(place_B < last_N1, share_NB.clamp(max=1), share_NB)
        share_NB = torch.where(there_NB & (item_N < codes)[:, None], share_NB, 0.0)
        number_NB = m_N[:, None] * bins + place_B
        return F.embedding_bag(number_NB, self.bin.weight.float(), mode="sum", per_sample_weights=share_NB.float())

    def pictures(self, tokens: Tokens, name: str, hidden_N: Tensor, answers: Sequence[Answer]) -> list[Picture]:
        """The values, the same with hidden ones left out, and with the likeliest codes and values in their places.

        A filled token is right where its code is, its word if it has one, and a number lies within half a deviation.
        """
        part = tokens.part(name)
        truth = [(int(item), scaled) for item, scaled in part.content_R.tolist()]
        hidden = hidden_N.tolist()
        words = [self._word(*pair) for pair in truth]
        masked = [
            (self._hidden(pair) if h else w, "hidden" if h else "seen", w)
            for pair, h, w in zip(truth, hidden, words, strict=True)
        ]
        pictures: list[Picture] = [
            Marked("original", tuple((w + "  ", "seen", "") for w in words)),
            Marked("masked", tuple((w + "  ", mark, note if mark == "hidden" else "") for w, mark, note in masked)),
        ]
        guesses = self._guesses(tokens, name, answers, truth)
        if guesses:
            filled = list(masked)
            for n, pair in guesses.items():
                good = pair[0] == truth[n][0] and abs(pair[1] - truth[n][1]) <= NEAR
                filled[n] = (self._word(*pair), "right" if good else "wrong", words[n])
            right = sum(mark == "right" for _, mark, _ in filled)
            caption = f"filled: {right} of {len(guesses)} right (numbers to half a deviation)"
            pictures.append(Marked(caption, tuple((w + "  ", m, n if m != "seen" else "") for w, m, n in filled)))
        return pictures

    def _guesses(
        self, tokens: Tokens, name: str, answers: Sequence[Answer], truth: Sequence[tuple[int, float]]
    ) -> dict[int, tuple[int, float]]:
        """(item, deviations) of every asked token; the true item where only the number was asked."""
        said: dict[int, tuple[int, Tensor | None]] = {}
        for answer in (a for a in answers if a.name == name and hasattr(a.target, "likeliest")):
            items = answer.target.likeliest(answer.output_NV, answer.truth_N).tolist()
            for n, item in zip(tokens.number_T[answer.answer_N.cpu()].tolist(), items, strict=True):
                said[n] = (item, None)
        for answer in (a for a in answers if a.name == name and hasattr(a.target, "numbers")):
            numbers = tokens.number_T[answer.answer_N.cpu()].tolist()
            for n, output_V in zip(numbers, answer.output_NV.detach().float().cpu(), strict=True):
                said[n] = (said[n][0] if n in said else truth[n][0], output_V)
        codes = len(self.tokenizer.fitted.numbers)
        return {n: (i, float(v[i]) if v is not None and i < codes else 0.0) for n, (i, v) in said.items()}

    def _word(self, item: int, scaled: float) -> str:
        code, value = self.tokenizer.pair(item, scaled)
        return f"{code} {value:g}" if isinstance(value, float) else f"{code} {value}"

    def _hidden(self, pair: tuple[int, float]) -> str:
        return f"{self.tokenizer.fitted.items[pair[0]][0]} ?" if self.tokenizer.shown else "?"
