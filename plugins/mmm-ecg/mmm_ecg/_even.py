"""Recordings at one rate, cut into patches.

Shape suffixes: L leads, M samples, J patches in time, P samples a patch.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from .recording import Recording

MOST_TAPS = 2**24
"""The product of the two rates in lowest terms, at most: the filters' size."""
LARGEST = 1e9
"""Samples beyond this are none."""


def samples_at(samples: int, own: Fraction, rate: Fraction) -> int:
    """Whole samples that so many have at another rate."""
    return int(samples * rate / own)


def patches(recording: Recording, rate: Fraction, patch: int) -> tuple[Tensor, Tensor]:
    """(sample_LJP, gap_LJ): the recording at another rate, and which patches touch a gap. What is left after the last whole
    patch is cut off.

    A windowed sinc with 6 zero crossings (torchaudio's); each lead's mean is taken off before and put back, so that its ends do
    not ring. Gaps are filled with the mean.

    Raises:
        ValueError: samples that are no numbers, or no simple ratio of the two rates.
    """
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
        sample_LM = recording.sample_LM.astype(np.float32)
    gap_LM = np.isnan(sample_LM)
    if (np.abs(sample_LM) > LARGEST).any():
        raise ValueError(f"holds samples that are no numbers, or beyond {LARGEST:g}")
    count_L1 = (~gap_LM).sum(1, keepdims=True).clip(1)
    mean_L1 = np.where(gap_LM, 0, sample_LM).sum(1, keepdims=True, dtype=np.float64) / count_L1
    centred_LM = torch.from_numpy(np.where(gap_LM, 0, sample_LM - mean_L1).astype(np.float32))
    length = samples_at(sample_LM.shape[1], recording.rate, rate)
    even_LM = _resampled(centred_LM, recording.rate / rate)[:, :length] + torch.from_numpy(mean_L1).float()
    steps = length // patch
    sample_LJP = even_LM[:, : steps * patch].reshape(len(even_LM), steps, patch)
    before_LM = np.concatenate([np.zeros((len(gap_LM), 1), np.int64), gap_LM.cumsum(1)], 1)
    span = patch * recording.rate / rate
    first = [int(j * span) for j in range(steps)]
    last = [min(math.ceil((j + 1) * span), sample_LM.shape[1]) for j in range(steps)]
    return sample_LJP, torch.from_numpy(before_LM[:, last] > before_LM[:, first])


def _resampled(sample_LM: Tensor, ratio: Fraction) -> Tensor:
    """At 1 / ratio of the samples."""
    if ratio == 1:
        return sample_LM
    if ratio.numerator * ratio.denominator > MOST_TAPS:
        raise ValueError(f"its rate is {float(ratio):g} times the model's, no simple ratio; resample the file")
    import torchaudio.functional as AF

    return AF.resample(sample_LM, ratio.numerator, ratio.denominator)
