"""Sound as a picture: a log-mel spectrogram cut into patches of bands and frames.

Shape suffixes: R content rows, N tokens of this modality, F frames, M mel bands, D width, V output size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mmm.core.errors import BadRecipe
from mmm.core.layout import Layout
from mmm.core.modality import Assets, Modality, Record
from mmm.core.objective import Answer
from mmm.core.picture import Picture, Raster
from mmm.core.tokens import Tokens
from mmm.modalities._heat import heat
from mmm.modalities._spectrograms import SpectrogramTokenizer
from mmm.nn.positions import LearnedPositions, sinusoidal


class Spectrogram(Modality):
    """Sound as patches of a Kaldi log-mel spectrogram (windows of 25 ms every 10 ms), each one product away from its token.

    Patches that overlap show a part of their hidden neighbours: leave ``stride`` out where they are to be predicted.

    Paper: AST, arXiv:2104.01778; masked: SSAST, arXiv:2110.09784; AudioMAE, arXiv:2207.06405.

    Args:
        rate: samples a second that everything is resampled to. mels: bands.
        frames: of the longest record; longer ones are cropped to a random stretch.
        pad: fill shorter records up with energies of 0 (AST); by default a record has as many tokens as it is long.
        patch: bands and frames of a patch. stride: from patch to patch; by default they do not overlap.
        cls: put one learned token in front. registers: and so many more (AST has one, for distillation).
        mean, std: of all energies; by default the training data's.
        positions: absolute positions of the patches; "learned" for so many ``frames``; "none" where the encoder's are rotary.
        norm: LayerNorm after them.
    """

    adjustable = ("frames",)

    def __init__(
        self,
        rate: int = 16000,
        mels: int = 128,
        frames: int = 1024,
        pad: bool = False,
        patch: tuple[int, int] = (16, 16),
        stride: tuple[int, int] | None = None,
        cls: bool = False,
        registers: int = 0,
        mean: float | None = None,
        std: float | None = None,
        positions: Literal["none", "learned", "sinusoidal"] = "sinusoidal",
        norm: bool = False,
    ):
        super().__init__()
        stride = patch if stride is None else stride
        if min(patch) < 1 or min(stride) < 1 or patch[0] > mels or patch[1] > frames:
            raise BadRecipe(f"Spectrogram(patch={patch}, stride={stride}): a patch lies within {mels} bands x {frames} frames")
        if registers < 0:
            raise BadRecipe(f"Spectrogram(registers={registers}): needs 0 or more")
        if (mean is None) != (std is None) or (std is not None and std <= 0):
            raise BadRecipe(f"Spectrogram(mean={mean}, std={std}): give both, std above 0, or neither")
        self.fitted = mean is None
        self.cls, self.registers, self.positions, self.with_norm = cls, registers, positions, norm
        self.tokenizer: SpectrogramTokenizer = SpectrogramTokenizer(
            rate, mels, frames, pad, (patch[0], patch[1]), (stride[0], stride[1]), int(cls) + registers, mean, std
        )

    def fit(self, records: Sequence[Record]) -> None:
        if self.fitted:
            self.tokenizer.fit(records)

    def assets(self) -> Assets:
        return self.tokenizer.assets() if self.fitted else {}

    def restore(self, assets: Assets) -> None:
        if self.fitted:
            self.tokenizer.restore(assets)

    def build(self, width: int) -> None:
        """A product (Xavier, as MAE), the mask vector, CLS and registers (normal, std 0.02), positions and norm as asked."""
        tokenizer = self.tokenizer
        self.project = nn.Linear(tokenizer.row, width)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        self.mask = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.mask, std=0.02)
        self.specials = None
        if tokenizer.specials:
            self.specials = nn.Parameter(torch.zeros(tokenizer.specials, width))
            nn.init.normal_(self.specials, std=0.02)
        self.position = None
        if self.positions == "learned":
            steps = (tokenizer.frames - tokenizer.patch[1]) // tokenizer.stride[1] + 1
            self.position = LearnedPositions((tokenizer.bands, steps), width)
        self.norm = nn.LayerNorm(width) if self.with_norm else nn.Identity()

    def embed(self, content_R: Tensor, layout_N: Layout, hidden_N: Tensor) -> Tensor:
        """x_ND. CLS and registers have no position besides their own vector."""
        x_ND = torch.where(hidden_N[:, None], self.mask, self.project(content_R.to(self.mask.dtype)))
        position_TC = layout_N.position_TC.clamp(min=0)
        if self.position is not None:
            x_ND = x_ND + self.position(position_TC, 2)
        elif self.positions == "sinusoidal":
            x_ND = x_ND + sinusoidal(position_TC, x_ND.shape[1], 2).to(x_ND.dtype)
        if self.specials is not None:  # never hidden nor dropped, so each piece has all of its own, in order
            special_N = ~layout_N.maskable_T
            number_N = (special_N.cumsum(0) - 1) % len(self.specials)
            x_ND = torch.where(special_N[:, None], self.specials[number_N], x_ND)
        normed_ND: Tensor = self.norm(x_ND)
        return normed_ND

    def pictures(self, tokens: Tokens, name: str, hidden_N: Tensor, answers: Sequence[Answer]) -> list[Picture]:
        """The spectrogram, the same with what no visible patch shows grey, and with the patches that were predicted.

        One pixel a frame and band, low bands at the bottom, 80 dB deep.
        """
        part, tokenizer = tokens.part(name), self.tokenizer
        patch_N = part.layout_N.maskable_T
        energy_FM = tokenizer.assembled(part.content_R[patch_N])
        loudest = energy_FM.max()
        pictures: list[Picture] = [
            Raster("original", heat(energy_FM, loudest)),
            Raster("masked", heat(energy_FM, loudest, self._unseen(hidden_N[patch_N]))),
        ]
        for answer in answers:
            if answer.name != name or not hasattr(answer.target, "normalise") or answer.output_NV.shape[1] != tokenizer.row:
                continue
            asked_N = tokens.number_T[answer.answer_N.cpu()]
            output_NV, caption = answer.output_NV.detach().float().cpu(), "reconstructed"
            if answer.target.normalise:
                truth_NV = part.content_R[asked_N]
                output_NV = output_NV * (truth_NV.var(1, keepdim=True) + 1e-6).sqrt() + truth_NV.mean(1, keepdim=True)
                caption += " (mean and deviation of each patch taken from the original)"
            filled_R = part.content_R.clone()
            hidden = hidden_N[asked_N]  # visible patches are shown as they are
            filled_R[asked_N[hidden]] = output_NV[hidden]
            unasked_N = hidden_N & ~torch.isin(torch.arange(len(hidden_N)), asked_N)
            grey_FM = self._unseen(unasked_N[patch_N])
            pictures.append(Raster(caption, heat(tokenizer.assembled(filled_R[patch_N]), loudest, grey_FM)))
        return pictures

    def _unseen(self, hidden_N: Tensor) -> Tensor:
        """unseen_FM: places that hidden patches cover and no visible one does."""
        tokenizer = self.tokenizer
        one_R = torch.ones(len(hidden_N), tokenizer.row)
        seen_FM = tokenizer.laid(one_R * ~hidden_N[:, None].cpu())
        return (tokenizer.laid(one_R) > 0) & (seen_FM == 0)
