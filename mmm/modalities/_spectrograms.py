"""Sound as patches of a spectrogram.

Shape suffixes: R content rows, F frames, M mel bands.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe, BadRecord
from mmm.core.modality import Assets, Record
from mmm.core.tokens import Piece
from mmm.modalities._waveforms import LOUDEST, SoundTokenizer
from mmm.nn.spectral import KaldiMel

FEATURES = "a spectrogram in memory"
"""Named in errors where there is no file."""


class SpectrogramTokenizer(SoundTokenizer):
    """[CLS] [registers] patches, all of the lowest bands first, in the order of time. Rows are (bands frames), normalised.

    A raw value is sound, or its log-mel energies (F, M) as an array. What is left after the last whole patch is cut off.

    Args:
        rate, mels, frames, pad, patch, stride, mean, std: see ``Spectrogram``. specials: CLS and registers.
    """

    coordinates = 2

    def __init__(
        self,
        rate: int,
        mels: int,
        frames: int,
        pad: bool,
        patch: tuple[int, int],
        stride: tuple[int, int],
        specials: int,
        mean: float | None,
        std: float | None,
    ):
        super().__init__(rate, f"frames={frames}")
        self.log_mel = KaldiMel(rate, mels)
        self.frames, self.pad, self.patch, self.stride = frames, pad, patch, stride
        self.specials, self.mean, self.std = specials, mean, std
        self.row = patch[0] * patch[1]
        self.bands = (mels - patch[0]) // stride[0] + 1
        if self._most(rate) >= 2**24:
            raise BadRecipe(f"Spectrogram(frames={frames}): needs 2**24 samples at most, at {rate} Hz")

    def fit(self, records: Sequence[Record]) -> None:
        """One mean and deviation over all frames and bands; see ``learnable``. Raises ValueError where there are none."""
        total, square, count = 0.0, 0.0, 0
        for sample_L in self.learnable(records, "Spectrogram"):
            energy_FM = self.log_mel(sample_L).double()
            total, square = total + float(energy_FM.sum()), square + float(energy_FM.square().sum())
            count += energy_FM.numel()
        if count == 0:
            raise ValueError(f"Spectrogram: no record of {len(records)} to take mean and deviation of")
        self.mean = total / count
        self.std = max(square / count - self.mean**2, 1e-4) ** 0.5

    def assets(self) -> Assets:
        mean, std = self._fitted()
        return {"spectrogram.json": json.dumps({"mean": mean, "std": std}).encode()}

    def restore(self, assets: Assets) -> None:
        fitted = json.loads(assets["spectrogram.json"])
        self.mean, self.std = float(fitted["mean"]), float(fitted["std"])

    def _fitted(self) -> tuple[float, float]:
        if self.mean is None or self.std is None:
            raise ValueError("Spectrogram has no mean and std yet: call fit(records) or restore(assets) first")
        return self.mean, self.std

    def tokenize(self, raw: Any, draw: Draw | None = None) -> Piece:
        """Raises BadRecord: no sound file, too short for a patch, truncated, numbers that are none."""
        energy_FM, cut = self._energies(raw, draw)
        mean, std = self._fitted()
        if self.pad:
            energy_FM = functional.pad(energy_FM, (0, 0, 0, self.frames - len(energy_FM)))
        picture_MF = ((energy_FM - mean) / std).T
        patches_R = functional.unfold(picture_MF[None, None], self.patch, stride=self.stride)[0].T
        places = torch.cartesian_prod(torch.arange(self.bands), torch.arange(len(patches_R) // self.bands))
        return Piece(
            content=torch.cat([torch.zeros(self.specials, self.row), patches_R]),
            positions=torch.cat([torch.full((self.specials, 2), -1), places]),
            maskable=torch.arange(self.specials + len(patches_R)) >= self.specials,
            cut=cut,
        )

    def detokenize(self, content_R: Tensor) -> Tensor:
        """energy_FM, natural logarithms. The phases are gone, so a waveform cannot be had back."""
        return self.assembled(content_R[self.specials :])

    def assembled(self, patches_R: Tensor) -> Tensor:
        """energy_FM of the patches of one record; where they overlap, their mean."""
        mean, std = self._fitted()
        summed_FM = self.laid(patches_R.float())
        return summed_FM / self.laid(torch.ones_like(patches_R, dtype=torch.float32)).clamp(min=1) * std + mean

    def laid(self, patches_R: Tensor) -> Tensor:
        """sum_FM of patches laid where they stand; 0 where none does, between patches or above the highest."""
        frames = (len(patches_R) // self.bands - 1) * self.stride[1] + self.patch[1]
        shape = (self.log_mel.mels, frames)
        return functional.fold(patches_R.T[None], shape, self.patch, stride=self.stride)[0, 0].T

    def empty(self) -> Tensor:
        return torch.zeros(0, self.row)

    def length(self, record: Record) -> int:
        if isinstance(record.raw, (Tensor, np.ndarray)):
            return self._of_frames(min(len(record.raw), self.frames))
        return super().length(record)

    def _energies(self, raw: Any, draw: Draw | None) -> tuple[Tensor, bool]:
        """(energy_FM, whether a part was left out), at most ``frames`` of them."""
        if not isinstance(raw, (Tensor, np.ndarray)):
            sample_L, cut = self.waveform(raw, draw)
            return self.log_mel(sample_L)[: self.frames], cut
        energy_FM = torch.as_tensor(raw)
        if energy_FM.ndim != 2 or energy_FM.shape[1] != self.log_mel.mels or not energy_FM.is_floating_point():
            what = f"{energy_FM.dtype} of shape {tuple(energy_FM.shape)}"
            choices = "the path of a sound file, (waveform, rate)"
            raise BadRecord(
                FEATURES, None, f"{what}, where floats (frames, {self.log_mel.mels}) are needed; other choices: {choices}"
            )
        if self._of_frames(len(energy_FM)) == 0:
            raise BadRecord(FEATURES, None, f"{len(energy_FM)} frames are too short for a patch of {self.patch[1]}")
        if not bool(energy_FM.abs().max() <= LOUDEST):
            raise BadRecord(FEATURES, None, f"holds energies that are no numbers, or beyond {LOUDEST:g}")
        beyond = max(0, len(energy_FM) - self.frames)
        start = 0 if draw is None or not beyond else int(draw.stream("crop").integers(beyond + 1))
        return energy_FM[start : start + self.frames].float(), beyond > 0

    def _tokens(self, samples: int) -> int:
        return self._of_frames(min(self.log_mel.frames(samples), self.frames))

    def _of_frames(self, frames: int) -> int:
        """Tokens of so many frames; 0 where there is no patch."""
        if self.pad and frames:
            frames = self.frames
        steps = (frames - self.patch[1]) // self.stride[1] + 1
        return self.specials + self.bands * steps if steps > 0 else 0

    def _most(self, rate: int) -> int:
        """All samples that make ``frames`` frames; rounded up, so that none is lost when they are resampled."""
        own = self.frames * self.log_mel.hop + self.log_mel.window - 1
        return -(-own * rate // self.rate)
