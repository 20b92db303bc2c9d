"""Text as pixels: a strip of patches, embedded as those of an image are.

Shape suffixes: R content rows (one a token), N tokens of this modality, T packed tokens, D width, C coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from mmm.core.errors import BadRecipe
from mmm.core.layout import Layout
from mmm.core.modality import Assets, Modality, Record
from mmm.core.objective import Answer
from mmm.core.picture import Picture
from mmm.core.tokens import Tokens
from mmm.modalities.image import Image
from mmm.modalities.text import Text
from mmm.nn.positions import sinusoidal
from torch import Tensor

from mmm_rendered_text._folded import folded
from mmm_rendered_text._typeface import Typeface
from mmm_rendered_text.tokenizer import RenderedTextTokenizer

SMALLEST = 8
"""Pixels of a line in which letters can be told apart."""


class RenderedText(Modality):
    """Text as pixels: drawn on one line, cut into square patches as high as it; a black patch ends it. There is no vocabulary,
    so nothing is out of it, and what looks alike begins alike.

    ``Image`` embeds the patches and makes the pictures, ``Text`` reads the files; positions are of one coordinate.

    Paper: PIXEL, Rust et al. 2022, arXiv:2207.06991, section 2.1 (the renderer: one line, patches of 16 x 16 pixels, black ones
    as ends) and 2.2 (spans of patches are masked and reconstructed as in MAE). There is no CLS: tasks pool the patches.

    Args:
        patch: height of the line and side of a patch, in pixels; the font's size follows.
        max_length: tokens of the longest piece, black patches among them; longer texts are cut to a random stretch.
        font: a TrueType or OpenType file, which the checkpoint takes along; null: Aileron Regular, which comes with Pillow and
            has ASCII and few characters more.
        apart: every word begins a patch, so that it looks the same wherever it stands ("words" of Lotz et al. 2023,
            arXiv:2311.00522); else words follow each other wherever patches end, as in PIXEL.
        unit: what is hidden as a whole: each patch, or, where words stand apart, all patches of a word.
        lacking: characters that the font lacks are spelled out (é as \\u00e9) and said aloud, or refused.
        positions: absolute positions; "none" where the encoder's are rotary.
        record_words: words of a record of a .txt file, at least; about twice as many at most.
        field: key or column of the text in .jsonl and table files.
    """

    adjustable = ("max_length", "unit", "lacking", "record_words", "field")
    tokenizer: RenderedTextTokenizer

    def __init__(
        self,
        patch: int = 16,
        max_length: int = 256,
        font: str | None = None,
        apart: bool = False,
        unit: Literal["patch", "word"] = "patch",
        lacking: Literal["spell", "refuse"] = "spell",
        positions: Literal["none", "sinusoidal"] = "sinusoidal",
        record_words: int = 64,
        field: str = "text",
    ):
        super().__init__()
        if patch < SMALLEST:
            raise BadRecipe(f"RenderedText(patch={patch}): needs {SMALLEST} or more; smaller letters cannot be told apart")
        if max_length < 4:
            raise BadRecipe(f"RenderedText(max_length={max_length}): needs 4 or more: a patch and a black one, of two texts")
        if unit == "word" and not apart:
            raise BadRecipe("RenderedText(unit='word', apart=False): a patch holds parts of several words; set apart: true")
        self.positions = positions
        # White is 0: most of a page is, and says nothing. The deviation is about that of drawn English.
        self.image = Image(size=None, patch=patch, channels=1, augment=False, mean=[1.0], std=[0.25], positions="none")
        texts = Text(record_words=record_words, field=field)
        self.tokenizer = RenderedTextTokenizer(texts, self.image, font, max_length, apart, unit, lacking)

    def fit(self, records: Sequence[Record]) -> None:
        """Read the font, and say which characters of the training texts it lacks.

        Raises:
            BadRecipe: it is no font, or lacks what others are spelled with.
        """
        tokenizer = self.tokenizer
        if tokenizer.lacking == "spell" and (lacking := tokenizer.lacks([r"\uU0123456789abcdef"])):
            raise BadRecipe(
                f"RenderedText(font={tokenizer.font!r}): the font lacks {''.join(lacking)}, which other characters are spelled "
                "with; name another, or set lacking: refuse"
            )
        tokenizer.tell(tokenizer.lacks(record.raw for record in records))

    def assets(self) -> Assets:
        return {"font.ttf": self.tokenizer.typeface.data}

    def restore(self, assets: Assets) -> None:
        self.tokenizer.typeface = Typeface(assets["font.ttf"], self.image.tokenizer.patch)

    def build(self, width: int) -> None:
        """What ``Image`` has: a product (Xavier, as MAE) and the mask vector."""
        self.image.build(width)

    def embed(self, content_R: Tensor, layout_N: Layout, hidden_N: Tensor) -> Tensor:
        x_ND = self.image.embed(content_R, layout_N, hidden_N)
        if self.positions == "sinusoidal":
            x_ND = x_ND + sinusoidal(layout_N.position_TC, x_ND.shape[1], 1).to(x_ND.dtype)
        return x_ND

    def pictures(self, tokens: Tokens, name: str, hidden_N: Tensor, answers: Sequence[Answer]) -> list[Picture]:
        """The strip, the same with hidden patches grey, and with what was predicted of them, on yellow; folded into lines."""
        layout = tokens.layout
        line_TC = layout.position_TC * layout.position_TC.new_tensor([0, 0, 1])  # an image one patch high
        whole = replace(tokens, layout=replace(layout, position_TC=line_TC, maskable_T=torch.ones_like(layout.maskable_T)))
        original, masked, *filled = self.image.pictures(whole, name, hidden_N, answers)
        return [folded(original), folded(masked), *(folded(picture, hidden_N) for picture in filled)]
