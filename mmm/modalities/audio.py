"""Sound: log-mel frames, or samples that a convolutional front end turns into frames.

Shape suffixes: R content rows, N tokens of this modality, F frames, M mel bands, D width, V output size, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from mmm.core.layout import Layout
from mmm.core.modality import Assets, Modality, Record
from mmm.core.objective import Answer
from mmm.core.picture import Marked, Picture, Raster
from mmm.core.tokens import Tokens
from mmm.modalities._audio_tokens import AudioTokenizer, FrontEnd
from mmm.modalities._heat import heat
from mmm.nn.positions import sinusoidal
from mmm.nn.waveform import KERNELS, STRIDES, Convolutions, Neighbours, conv_positions


class Audio(Modality):
    """Sound, by one of two front ends.

    - ``logmel``: a token is ``frames_per_token`` frames of log-mel energies, by default 2 x 10 ms x 80 bands = 160
      numbers; each band is normalised by its mean and deviation over the training records. Windows are 2.5 hops long.
      One linear product embeds it.
    - ``waveform``: samples, each record at zero mean and unit variance, through the seven convolutions of wav2vec 2.0
      and HuBERT, a LayerNorm and a product. A token is made of 400 samples and stands 320 after the one before: 20 ms
      at 16 kHz. What begins with ``conv``, ``standardise`` and ``feature_norm`` are about this front end.

    A masked token's features are replaced after the product, before the positions.

    Paper: wav2vec 2.0, arXiv:2006.11477, section 2; HuBERT, arXiv:2106.07447, section II; log-mel input: SpecAugment,
    arXiv:1904.08779.

    Args:
        front_end: what content is: log-mel frames or samples.
        rate: samples a second that everything is resampled to.
        max_seconds: longer records are cropped to a random stretch.
        mels: bands of a log-mel frame (for ``waveform``: of the pictures and of MFCC targets).
        hop_ms: milliseconds a log-mel frame. frames_per_token: frames a token. Without meaning for ``waveform``.
        positions: "conv": what convolutions over neighbouring tokens say is added (HuBERT); "none" where the encoder's are
            rotary. neighbours: these convolutions; by default one, weight-normed, over 128 tokens in 16 groups.
        norm: LayerNorm after the positions (HuBERT base). eps: of it and of the LayerNorm before the product.
        conv_width: channels of the convolutions of ``waveform``.
        conv_norm: "group": the first of them is normalised over time (HuBERT base); "layer": all are, over channels
            (HuBERT large).
        conv_bias: whether they have biases; by default with "layer".
        conv_kernels, conv_strides: in samples, then in rows of the convolution before.
        feature_norm: the LayerNorm between the convolutions and the product.
        standardise: added to a record's variance before it is brought to one; null: samples stay as they are.
        centre: take the mean over the record off each log-mel band first, which takes microphone and loudness away, and
            something of the voice (cepstral mean normalisation, Atal 1974, doi:10.1121/1.1914702). ``logmel`` alone.
    """

    adjustable = ("max_seconds",)

    def __init__(
        self,
        front_end: FrontEnd = "logmel",
        rate: int = 16000,
        max_seconds: float = 15.0,
        mels: int = 80,
        hop_ms: float = 10.0,
        frames_per_token: int = 2,
        positions: Literal["none", "sinusoidal", "conv"] = "sinusoidal",
        norm: bool = False,
        conv_width: int = 512,
        conv_norm: Literal["group", "layer"] = "layer",
        conv_bias: bool | None = None,
        conv_kernels: Sequence[int] = KERNELS,
        conv_strides: Sequence[int] = STRIDES,
        feature_norm: bool = True,
        standardise: float | None = 1e-7,
        neighbours: Neighbours | None = None,
        eps: float = 1e-5,
        centre: bool = False,
    ):
        super().__init__()
        self.tokenizer: AudioTokenizer = AudioTokenizer(
            front_end, rate, max_seconds, mels, hop_ms, frames_per_token, standardise, conv_kernels, conv_strides, centre
        )
        self.positions, self.with_norm, self.feature_norm, self.eps = positions, norm, feature_norm, eps
        self.conv_width, self.conv_norm, self.conv_bias = conv_width, conv_norm, conv_bias
        self.neighbours = neighbours or Neighbours()

    def fit(self, records: Sequence[Record]) -> None:
        self.tokenizer.fit(records)

    def assets(self) -> Assets:
        return self.tokenizer.assets()

    def restore(self, assets: Assets) -> None:
        self.tokenizer.restore(assets)

    def build(self, width: int) -> None:
        """Raises ValueError where the width is no multiple of the groups of convolutional positions."""
        if self.tokenizer.rowwise:
            self.convolutions = None
            self.project: nn.Module = nn.Linear(self.tokenizer.empty().shape[1], width)
        else:
            kernels, strides = self.tokenizer.kernels, self.tokenizer.strides
            self.convolutions = Convolutions(self.conv_width, self.conv_norm, self.conv_bias, kernels, strides)
            norm = nn.LayerNorm(self.conv_width, eps=self.eps) if self.feature_norm else nn.Identity()
            self.project = nn.Sequential(norm, nn.Linear(self.conv_width, width))
        self.mask = nn.Parameter(torch.empty(width))
        nn.init.normal_(self.mask, std=0.02)
        self.conv_positions = conv_positions(width, self.neighbours) if self.positions == "conv" else None
        self.norm = nn.LayerNorm(width, eps=self.eps) if self.with_norm else nn.Identity()

    def embed(self, content_R: Tensor, layout_N: Layout, hidden_N: Tensor) -> Tensor:
        """x_ND."""
        content_R = content_R.to(self.mask.dtype)
        features_N = content_R if self.convolutions is None else self.convolutions(content_R, layout_N.runs)
        x_ND = self.project(features_N)
        x_ND = torch.where(hidden_N[:, None], self.mask.to(x_ND.dtype), x_ND)
        if self.conv_positions is not None:
            x_ND = x_ND + self.conv_positions(x_ND, layout_N)
        elif self.positions == "sinusoidal":
            x_ND = x_ND + sinusoidal(layout_N.position_TC, x_ND.shape[1], 1).to(x_ND.dtype)
        return self.norm(x_ND)

    def pictures(self, tokens: Tokens, name: str, hidden_N: Tensor, answers: Sequence[Answer]) -> list[Picture]:
        """Spectrograms of the record whole, masked, and filled by every target that regresses its rows.

        One pixel a frame and band, low bands at the bottom, 80 dB deep. For every target that predicts units, those of the
        hidden tokens, guessed and true.
        """
        part = tokens.part(name)
        energy_FM = self.tokenizer.energies(part.content_R)
        hidden_F = hidden_N.repeat_interleave(self.tokenizer.frames_per_token)
        loudest = energy_FM.max()
        pictures: list[Picture] = [
            Raster("original", heat(energy_FM, loudest)),
            Raster("masked", heat(energy_FM, loudest, hidden_F)),
        ]
        for answer in answers:
            if answer.name != name:
                continue
            number_N = tokens.number_T[answer.answer_N.cpu()]
            if not answer.truth_N.is_floating_point():
                pictures.append(_units(number_N, answer))
            elif self.tokenizer.rowwise and (filled := _as_rows(answer, part.content_R[number_N])) is not None:
                content_R = part.content_R.clone()
                content_R[number_N] = filled.to(content_R.dtype)
                pictures.append(Raster("filled", heat(self.tokenizer.energies(content_R), loudest)))
        return pictures


def _as_rows(answer: Answer, content_NV: Tensor) -> Tensor | None:
    """The prediction as content rows, where the target regresses the rows, or the rows normalised each by itself."""
    if answer.truth_N.shape != content_NV.shape:
        return None
    truth_NV, output_NV = answer.truth_N.float().cpu(), answer.output_NV.detach().float().cpu()
    deviation, mean = content_NV.std(-1, keepdim=True), content_NV.mean(-1, keepdim=True)
    for scale, shift in ((1.0, 0.0), (deviation, mean)):
        if torch.allclose(truth_NV * scale + shift, content_NV, atol=1e-2):
            return output_NV * scale + shift
    return None


def _units(number_N: Tensor, answer: Answer) -> Marked:
    """The guessed units of the hidden tokens, the true ones as notes, dots for what is seen between them."""
    guesses, truths = answer.output_NV.argmax(-1).tolist(), answer.truth_N.tolist()
    words, places = [], number_N.tolist()
    for (before, place), guess, truth in zip(pairwise([-1, *places]), guesses, truths, strict=True):
        if place > before + 1:
            words.append(("…", "seen", f"{place - before - 1} tokens seen"))
        words.append((str(guess), "right" if guess == truth else "wrong", str(truth)))
    right = sum(mark == "right" for _, mark, _ in words)
    return Marked(f"{type(answer.target).__name__}: {right} of {len(truths)} right", tuple(words))
