"""Spectra of a waveform, one frame a hop: log-mel energies and MFCC.

Conventions of ``LogMel``, the same wherever sound is looked at (``KaldiMel`` has those of models from elsewhere):

- Frame i covers samples [i x hop, (i + 1) x hop); its Hann window is centred there and reaches over both ends.
  Samples beyond the ends of the waveform are mirrored. There are exactly ``samples // hop`` frames.
- Energies are |FFT|**2 in mel bands: the Slaney scale, linear below 1 kHz, and triangles of equal area (librosa's
  default).
- They are given as natural logarithms, floored at 1e-10 (-23.03): 1 unit is 10 / ln 10 = 4.343 dB.

Shape suffixes: L samples, F frames, M mel bands, Q coefficients, B waveforms of one length.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache

import torch
import torchaudio.functional as AF
from torch import Tensor
from torchaudio.compliance import kaldi

FLOOR = 1e-10
DECIBEL = 10 / torch.log(torch.tensor(10.0)).item()
"""dB in one unit of the natural logarithm of an energy."""


@dataclass(frozen=True)
class LogMel:
    """The log-mel spectrogram of waveforms. Plain and picklable.

    Args:
        rate: samples a second. mels: bands between 0 Hz and half the rate.
        window_ms, hop_ms: of the short-time Fourier transform, in milliseconds; a window of 1 to 3 hops.

    Raises:
        ValueError: a window without room for the hop or the bands.
    """

    rate: int = 16000
    mels: int = 80
    window_ms: float = 25.0
    hop_ms: float = 10.0

    def __post_init__(self) -> None:
        if self.rate < 1 or self.mels < 1 or self.hop < 1 or not self.hop <= self.window <= 3 * self.hop:
            raise ValueError(f"{self}: needs positive numbers, a hop of a sample or more, and a window of 1 to 3 hops")
        if (_filterbank(self.rate, self.window, self.mels).sum(0) == 0).any():
            raise ValueError(
                f"{self}: with a window of {self.window_ms:g} ms some of {self.mels} bands hold no frequency; ask for fewer"
            )

    @property
    def hop(self) -> int:
        """Samples a frame."""
        return round(self.rate * self.hop_ms / 1000)

    @property
    def window(self) -> int:
        """Samples a window."""
        return round(self.rate * self.window_ms / 1000)

    def __call__(self, sample_L: Tensor) -> Tensor:
        """energy_FM of one waveform (L,), or (B, F, M) of several of one length (B, L); float32."""
        wave_BL = sample_L.float() if sample_L.ndim == 2 else sample_L.float()[None]
        frames = wave_BL.shape[1] // self.hop
        if frames == 0:
            return wave_BL.new_zeros(*sample_L.shape[:-1], 0, self.mels)
        left = (self.window - self.hop) // 2
        right = self.window - self.hop - left
        wave_BL = torch.nn.functional.pad(wave_BL[:, None, : frames * self.hop], (left, right), mode="reflect")[:, 0]
        hann = torch.hann_window(self.window, device=wave_BL.device)
        spectrum = torch.stft(wave_BL, self.window, self.hop, window=hann, center=False, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()  # the absolute value would take a root first
        energy_BFM = power.mT @ _filterbank(self.rate, self.window, self.mels).to(wave_BL.device)
        energy_BFM = energy_BFM.clamp(min=FLOOR).log()
        return energy_BFM if sample_L.ndim == 2 else energy_BFM[0]


@dataclass(frozen=True)
class KaldiMel:
    """The log-mel spectrogram of Kaldi, as torchaudio computes it. Plain and picklable.

    Frames lie wholly inside the waveform; each is brought to zero mean, pre-emphasised by 0.97 and seen through a Hann
    window; bands are triangles on the mel scale of HTK from 20 Hz, and those that hold no frequency say so with the floor.
    Energies are natural logarithms, floored at 1.2e-7 (-15.94).

    Args:
        rate: samples a second. mels: bands between 20 Hz and half the rate.
        window_ms, hop_ms: in milliseconds.

    Raises:
        ValueError: a window or a hop without a sample, fewer than 4 bands, or no room above 20 Hz.
    """

    rate: int = 16000
    mels: int = 128
    window_ms: float = 25.0
    hop_ms: float = 10.0

    def __post_init__(self) -> None:
        if self.rate <= 40 or self.mels < 4 or self.hop < 1 or self.window < 2:
            raise ValueError(f"{self}: needs a rate above 40 Hz, 4 bands or more, a hop of 1 sample and a window of 2")

    @property
    def hop(self) -> int:
        """Samples from frame to frame."""
        return int(self.rate * self.hop_ms * 0.001)  # cut, not rounded, as Kaldi does

    @property
    def window(self) -> int:
        """Samples a window."""
        return int(self.rate * self.window_ms * 0.001)

    def frames(self, samples: int) -> int:
        """Frames of so many samples."""
        return max(0, (samples - self.window) // self.hop + 1)

    def __call__(self, sample_L: Tensor) -> Tensor:
        """energy_FM of one waveform; float32."""
        if self.frames(len(sample_L)) == 0:
            return torch.zeros(0, self.mels)
        energy_FM: Tensor = kaldi.fbank(
            sample_L.float()[None],
            sample_frequency=self.rate,
            frame_length=self.window_ms,
            frame_shift=self.hop_ms,
            window_type="hanning",
            num_mel_bins=self.mels,
        )
        return energy_FM


def mfcc(energy_FM: Tensor, coefficients: int = 13) -> Tensor:
    """(..., F, 3 x coefficients) of log-mel energies: cosine transform over the bands, then its first and second
    differences in time.

    The transform is orthonormal (DCT-II); differences are regressions over 5 frames, the ends repeated.
    """
    cepstrum_FQ = energy_FM @ _cosines(coefficients, energy_FM.shape[-1]).to(energy_FM.device)
    delta_QF = AF.compute_deltas(cepstrum_FQ.mT)
    return torch.cat([cepstrum_FQ, delta_QF.mT, AF.compute_deltas(delta_QF).mT], dim=-1)


@lru_cache(maxsize=16)
def _filterbank(rate: int, window: int, mels: int) -> Tensor:
    """(window // 2 + 1, M)."""
    # On the CPU also inside `with torch.device(...)`; an empty band is an error of ours, with the cause.
    with torch.device("cpu"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return AF.melscale_fbanks(window // 2 + 1, 0.0, rate / 2, mels, rate, norm="slaney", mel_scale="slaney")


@lru_cache(maxsize=16)
def _cosines(coefficients: int, mels: int) -> Tensor:
    """(M, Q)."""
    with torch.device("cpu"):
        return AF.create_dct(coefficients, mels, norm="ortho")
