"""Sound as Audio's pieces: log-mel frames, or samples that a convolutional front end turns into tokens.

Shape suffixes: R content rows, N tokens of this modality, L samples, F frames, M mel bands.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe
from mmm.core.modality import Assets, Record
from mmm.core.tokens import Piece
from mmm.modalities._waveforms import SoundTokenizer
from mmm.nn.spectral import LogMel
from mmm.nn.waveform import KERNELS, STRIDES

FrontEnd = Literal["logmel", "waveform"]


class AudioTokenizer(SoundTokenizer):
    """Sound to log-mel frames or samples. What is left after the last whole token is cut off.

    Args:
        front_end, rate, max_seconds, mels, hop_ms, frames_per_token, standardise, centre: see ``Audio``.
        kernels, strides: of the convolutions that read samples.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        rate: int,
        max_seconds: float,
        mels: int,
        hop_ms: float,
        frames_per_token: int,
        standardise: float | None = 1e-7,
        kernels: Sequence[int] = KERNELS,
        strides: Sequence[int] = STRIDES,
        centre: bool = False,
    ):
        super().__init__(rate, f"max_seconds={max_seconds:g}")
        self.rowwise = front_end == "logmel"
        if len(kernels) != len(strides) or not all(0 < s <= k for k, s in zip(kernels, strides, strict=False)):
            raise BadRecipe(
                f"Audio(conv_kernels={kernels}, conv_strides={strides}): needs as many, no stride beyond its kernel"
            )
        if centre and not self.rowwise:
            raise BadRecipe("Audio(centre=True): samples have no bands to centre; choose front_end: logmel")
        if not self.rowwise:  # frames of a spectrogram that goes with the tokens: two of them each, if their stride is even
            frames_per_token = 2 - math.prod(strides) % 2
            hop_ms = 1000 * math.prod(strides) / frames_per_token / rate
        if frames_per_token < 1:
            raise BadRecipe(f"Audio(frames_per_token={frames_per_token}): needs 1 or more")
        self.log_mel = LogMel(rate, mels, 2.5 * hop_ms, hop_ms)
        self.max_seconds, self.frames_per_token, self.standardise = max_seconds, frames_per_token, standardise
        self.kernels, self.strides, self.centre = tuple(kernels), tuple(strides), centre
        if self._tokens(int(max_seconds * rate)) < 1 or max_seconds * rate >= 2**24:
            raise BadRecipe(f"Audio(max_seconds={max_seconds}): needs a token at least and 2**24 samples at most, at {rate} Hz")
        self.mean_M: Tensor | None = None
        self.deviation_M: Tensor | None = None

    def fit(self, records: Sequence[Record]) -> None:
        """Mean and deviation of each mel band over the records; see ``learnable``. Raises ValueError where there are none."""
        if not self.rowwise:
            return
        total_M = torch.zeros(self.log_mel.mels, dtype=torch.float64)
        square_M, frames = torch.zeros_like(total_M), 0
        for sample_L in self.learnable(records, "Audio"):
            energy_FM = self._energies(sample_L).double()
            total_M += energy_FM.sum(0)
            square_M += energy_FM.square().sum(0)
            frames += len(energy_FM)
        if frames == 0:
            raise ValueError(f"Audio: no record of {len(records)} to take mean and deviation of")
        mean_M = total_M / frames
        variance_M = square_M / frames - mean_M.square()
        self.mean_M, self.deviation_M = mean_M.float(), variance_M.clamp(min=1e-4).sqrt().float()

    def assets(self) -> Assets:
        if not self.rowwise:
            return {}
        mean_M, deviation_M = self._fitted()
        return {"logmel.json": json.dumps({"mean": mean_M.tolist(), "deviation": deviation_M.tolist()}).encode()}

    def restore(self, assets: Assets) -> None:
        """Raises ValueError where the assets are of other mel bands."""
        if not self.rowwise:
            return
        fitted = json.loads(assets["logmel.json"])
        if len(fitted["mean"]) != self.log_mel.mels:
            raise ValueError(f"Audio(mels={self.log_mel.mels}): logmel.json holds {len(fitted['mean'])} bands")
        self.mean_M, self.deviation_M = torch.tensor(fitted["mean"]), torch.tensor(fitted["deviation"])

    def _fitted(self) -> tuple[Tensor, Tensor]:
        if self.mean_M is None or self.deviation_M is None:
            raise ValueError("Audio has no mean and deviation yet: call fit(records) or restore(assets) first")
        return self.mean_M, self.deviation_M

    def tokenize(self, raw: Any, draw: Draw | None = None) -> Piece:
        """Raises BadRecord: no sound file, too short for a token, truncated, samples that are no numbers."""
        sample_L, cut = self.waveform(raw, draw)
        tokens = self._tokens(len(sample_L))
        if self.rowwise:
            mean_M, deviation_M = self._fitted()
            energy_FM = self._energies(sample_L)[: tokens * self.frames_per_token]
            content_R = ((energy_FM - mean_M) / deviation_M).view(tokens, -1)
        elif self.standardise is None:
            content_R = sample_L
        else:
            variance, mean = torch.var_mean(sample_L, correction=0)
            content_R = (sample_L - mean) / (variance + self.standardise).sqrt()
        return Piece(content_R, torch.arange(tokens), cut=cut)

    def detokenize(self, content_R: Tensor) -> Any:
        """Of samples: (waveform, rate) as the model hears it, by default at zero mean and unit variance.

        Of log-mel rows: the frames (F, M) in natural logarithms, with ``centre`` those around their mean. Their phases are
        gone, so a waveform cannot be had back.
        """
        return self.energies(content_R) if self.rowwise else (content_R, self.rate)

    def energies(self, content_R: Tensor) -> Tensor:
        """energy_FM of one piece, natural logarithms: ``frames_per_token`` frames a token, from either kind of content."""
        if self.rowwise:
            mean_M, deviation_M = (x.to(content_R.device) for x in self._fitted())
            return content_R.reshape(-1, self.log_mel.mels) * deviation_M + mean_M
        return self.log_mel(content_R)[: self._tokens(len(content_R)) * self.frames_per_token]

    def _energies(self, sample_L: Tensor) -> Tensor:
        energy_FM = self.log_mel(sample_L)
        return energy_FM - energy_FM.mean(0) if self.centre else energy_FM

    def empty(self) -> Tensor:
        return torch.zeros(0, self.frames_per_token * self.log_mel.mels) if self.rowwise else torch.zeros(0)

    def _tokens(self, samples: int) -> int:
        if self.rowwise:
            return samples // (self.log_mel.hop * self.frames_per_token)
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            samples = max(0, (samples - kernel) // stride + 1)
        return samples

    def _most(self, rate: int) -> int:
        return int(self.max_seconds * rate)
