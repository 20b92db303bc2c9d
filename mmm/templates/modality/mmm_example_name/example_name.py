"""Series of numbers as a modality: tokens to vectors, and pictures.

Shape suffixes: R content rows (one a token), N tokens, P numbers a patch, D width; H height, W width of a picture.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmm.core.errors import BadRecipe
from mmm.core.layout import Layout
from mmm.core.modality import Assets, Modality, Record
from mmm.core.objective import Answer
from mmm.core.picture import Picture, Raster
from mmm.core.tokens import Tokens
from mmm.nn.positions import sinusoidal

from .tokenizer import ExampleNameTokenizer

HEIGHT = 48
"""Pixels of a picture, from the least number to the greatest."""


class ExampleName(Modality):
    """Series of numbers, a token a patch.

    Life: constructed from a recipe; ``fit`` on the training records of a fresh run, or ``restore`` from what it learned then;
    ``build`` makes the parameters; ``embed`` from then on.

    Args:
        patch: numbers a token. max_length: tokens of the longest piece; longer series are cut to a random window.
    """

    adjustable = ("max_length",)  # arguments that may differ between a pretrained model and a run that begins from it

    def __init__(self, patch: int = 16, max_length: int = 64):
        super().__init__()
        if patch < 1 or max_length < 1:
            raise BadRecipe(f"ExampleName(patch={patch}, max_length={max_length}): both are 1 or more")
        self.tokenizer: ExampleNameTokenizer = ExampleNameTokenizer(patch, max_length)

    # -- what is learned before training; leave these three out where nothing is -----------------------------------------------

    def fit(self, records: Sequence[Record]) -> None:
        """Learn what the tokenizer needs of the training records: their mean and deviation. A vocabulary would be learned here.

        Called once, by one process, in a fresh run; never again.
        """
        numbers = torch.cat([torch.as_tensor(record.raw, dtype=torch.float64) for record in records])
        self.tokenizer.mean = float(numbers.mean())
        self.tokenizer.std = float(numbers.std(correction=0)) or 1.0

    def assets(self) -> Assets:
        """What ``fit`` learned, as named files: in the run's folder, and in every checkpoint."""
        return {"numbers.json": json.dumps({"mean": self.tokenizer.mean, "std": self.tokenizer.std}).encode()}

    def restore(self, assets: Assets) -> None:
        """Take that up: in every process, on resume, and when a checkpoint is loaded."""
        found = json.loads(assets["numbers.json"])
        self.tokenizer.mean, self.tokenizer.std = float(found["mean"]), float(found["std"])

    # -- vectors ---------------------------------------------------------------------------------------------------------------

    def build(self, width: int) -> None:
        """Make the parameters for an encoder of this width. Each of them must have a part in ``embed``."""
        self.project = nn.Linear(self.tokenizer.patch, width)
        self.mask = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.mask, std=0.02)

    def embed(self, content_R: Tensor, layout_N: Layout, hidden_N: Tensor) -> Tensor:
        """x_ND, complete: the patch, or the mask vector where a token is hidden, and its position.

        All records of a batch come as one packed axis, without padding; ``layout_N.segment_T`` tells them apart. A hidden token
        may show its position, and nothing of its content. Leave positions out where the recipe's encoder has its own (rotary),
        or where order means nothing.

        Args:
            content_R: (R, P). layout_N: where the tokens stand: ``position_TC`` holds the positions that ``tokenize`` gave.
            hidden_N: which are hidden.
        """
        x_ND = torch.where(hidden_N[:, None], self.mask, self.project(content_R))
        return x_ND + sinusoidal(layout_N.position_TC, x_ND.shape[1], self.tokenizer.coordinates).to(x_ND.dtype)

    # Where content is ids, `tied()` returns the embedding's weight, and heads may share it ("heads: {example_name: tied}").

    # -- what people see -------------------------------------------------------------------------------------------------------

    def pictures(self, tokens: Tokens, name: str, hidden_N: Tensor, answers: Sequence[Answer]) -> list[Picture]:
        """One record for the report: whole, with its hidden patches grey, and with what was predicted in their places.

        ``Raster`` is a picture, ``Marked`` a line of words; a modality that shows nothing leaves this method out.

        Args:
            tokens: the record alone. name: of the modality in the model. hidden_N: its hidden tokens.
            answers: what was predicted, one entry a target.
        """
        patches_NP, hidden_N = tokens.part(name).content_R.cpu(), hidden_N.cpu()
        grey_NP = hidden_N[:, None].expand_as(patches_NP)
        low, high = float(patches_NP.min()), float(patches_NP.max())
        pictures: list[Picture] = [
            Raster("original", _drawn(patches_NP, torch.zeros_like(grey_NP), low, high)),
            Raster("hidden", _drawn(patches_NP, grey_NP, low, high)),
        ]
        for answer in answers:
            said_NV = answer.output_NV.detach().float().cpu()
            if (
                answer.name == name
                and said_NV.shape[1] == self.tokenizer.patch
                and not getattr(answer.target, "normalise", False)
            ):
                filled_NP = patches_NP.clone()
                filled_NP[tokens.number_T[answer.answer_N].cpu()] = said_NV
                pictures.append(Raster("filled", _drawn(filled_NP, torch.zeros_like(grey_NP), low, high)))
        return pictures


def _drawn(numbers_NP: Tensor, grey_NP: Tensor, low: float, high: float) -> Tensor:
    """pixels_HW: a column a number, black up to it; grey columns tell nothing of theirs."""
    height_W = (numbers_NP.flatten() - low) / max(high - low, 1e-9) * HEIGHT
    row_H = torch.arange(HEIGHT, 0, -1)
    pixels_HW = 1.0 - (row_H[:, None] <= height_W.round().clamp(min=1)).float()
    pixels_HW[:, grey_NP.flatten()] = 0.6
    return pixels_HW
