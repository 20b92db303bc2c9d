"""What the contract tests need to know of the built-in parts: a small form of each. A plugin gives its own to `mmm.testing`."""

import logging
import multiprocessing
import operator
import os
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before torch: tests are small, and on a busy machine several threads wait for each other more than they work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import hypothesis
import numpy as np
import pytest
import torch

from mmm.core.modality import Modality, Record
from mmm.testing import near

# How long an example takes is the machine's affair: on a busy one, time limits fail what is right.
hypothesis.settings.register_profile("mmm", deadline=None)
hypothesis.settings.load_profile("mmm")

TEXTS = [
    "A small cat sat on the mat, and the mat was warm.",
    "Nobody saw the cat; the dog did.",
    "Überall schläft die Katze – überall!",
    "The mat was warm because the cat sat on it all day long.",
    "One word.",
]
PROTEINS = ["MKTAYIAKQRQISFVKSHFSRQ", "GAVLIMFWPSTCYNQDEKRH", "MSTNPKPQRKTKRNTNRRPQDVKFPGGG", "ACDX"]


@dataclass(frozen=True)
class Example:
    """A small form of a modality.

    Args:
        make: neither fitted nor built. raws: small raw values. same: see ``check_modality``.
        fitted: whether it learns from records. write: makes a good file in a folder.
        random: whether a random replacement of its content exists.
    """

    make: Callable[[], Modality]
    raws: Sequence[Any]
    same: Callable[[Any, Any], bool] | None = None
    fitted: bool = False
    write: Callable[[Path], Path] | None = None
    random: bool = True

    @property
    def records(self) -> list[Record]:
        """The raw values as records of a file that nobody has to read."""
        return [Record("memory", i, raw, f"record {i}".encode()) for i, raw in enumerate(self.raws)]


def _text(**arguments: Any) -> Callable[[], Modality]:
    def make() -> Modality:
        from mmm.modalities.text import Text

        return Text(**arguments)

    return make


def _protein(**arguments: Any) -> Callable[[], Modality]:
    def make() -> Modality:
        from mmm.modalities.protein import Protein

        return Protein(max_length=40, **arguments)

    return make


def _image(**arguments: Any) -> Callable[[], Modality]:
    def make() -> Modality:
        from mmm.modalities.image import Image

        return Image(patch=4, **arguments)

    return make


def _audio(**arguments: Any) -> Callable[[], Modality]:
    def make() -> Modality:
        from mmm.modalities.audio import Audio

        return Audio(**arguments)

    return make


def _spectrogram(**arguments: Any) -> Callable[[], Modality]:
    def make() -> Modality:
        from mmm.modalities.spectrogram import Spectrogram

        return Spectrogram(rate=4000, mels=8, **arguments)

    return make


def _pictures(channels: int, sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    shapes = [(h, w, 3) if channels == 3 else (h, w) for h, w in sizes]
    return [random.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]


def _sounds(rate: int, seconds: Sequence[float]) -> list[tuple[torch.Tensor, int]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(int(rate * s), generator=generator) * 0.1, rate) for s in seconds]


def _same_picture(raw: np.ndarray, back: torch.Tensor) -> bool:
    return near(torch.from_numpy(raw).permute(2, 0, 1) / 255, back, 1e-5)


def _write_text(folder: Path) -> Path:
    path = folder / "good.txt"
    path.write_text("\n\n".join(TEXTS), encoding="utf-8")
    return path


def _write_fasta(folder: Path) -> Path:
    path = folder / "good.fasta"
    path.write_text("".join(f">p{i} a protein\n{p}\n" for i, p in enumerate(PROTEINS)), encoding="utf-8")
    return path


def _write_png(folder: Path) -> Path:
    import PIL.Image

    path = folder / "good.png"
    PIL.Image.fromarray(_pictures(3, [(16, 16)])[0]).save(path)
    return path


def _write_wav(folder: Path) -> Path:
    path = folder / "good.wav"
    (samples, rate), *_ = _sounds(4000, [0.5])
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples.clamp(-1, 1) * 32767).short().numpy().tobytes())
    return path


LOGMEL = {"rate": 4000, "mels": 8, "max_seconds": 0.6, "hop_ms": 20.0}

EXAMPLES = {
    "Text": Example(_text(vocabulary=300, max_length=40), TEXTS, operator.eq, True, _write_text),
    "Text, whole words": Example(
        _text(vocabulary=120, algorithm="wordpiece", unit="word", max_length=64, positions="learned", norm=True),
        TEXTS,
        fitted=True,
    ),
    "Image": Example(_image(size=16, augment=False), _pictures(3, [(16, 16)] * 4), _same_picture, write=_write_png),
    "Image, any size": Example(
        _image(size=None, channels=1, cls=True, registers=2, positions="none", norm=True),
        _pictures(1, [(12, 20), (8, 8), (17, 9), (20, 12)]),
        fitted=True,
    ),
    "Image, augmented": Example(_image(size=12, cls=True, positions="learned"), _pictures(3, [(20, 16), (13, 30), (12, 12)])),
    "Audio": Example(_audio(**LOGMEL), _sounds(4000, [0.5, 0.31, 0.9, 0.2]), fitted=True, write=_write_wav),
    "Audio, waveform": Example(
        _audio(front_end="waveform", mels=8, conv_width=16, positions="conv", conv_norm="group", norm=True),
        _sounds(16000, [0.3, 0.14, 0.21]),
        random=False,
    ),
    "Spectrogram": Example(
        _spectrogram(frames=64, patch=(4, 4)), _sounds(4000, [0.5, 0.31, 0.9, 0.2]), fitted=True, write=_write_wav
    ),
    "Spectrogram, filled up, overlapping": Example(
        _spectrogram(
            frames=32, pad=True, patch=(4, 6), stride=(2, 5), cls=True, registers=1, mean=-9.0, std=6.0, positions="learned"
        ),
        _sounds(4000, [0.3, 0.31, 0.5]),
    ),
    "Protein": Example(_protein(), PROTEINS, operator.eq, write=_write_fasta),
    "Protein, learned places": Example(_protein(positions="learned", norm=True), PROTEINS, operator.eq),
}
"""By class name; variants of a class behind a comma."""

SMALL: dict[str, dict[str, Any]] = {
    "Transformer": {"width": 32, "depth": 2, "heads": 4},
    "TransformerDecoder": {"width": 24, "depth": 1, "heads": 4},
    "AcousticUnits": {"clusters": 4},
}
"""Arguments that make a part small; the others are made with their defaults."""


@pytest.fixture(autouse=True)
def quiet():
    """How loud a command makes the log of this process is no matter of the next test."""
    logger = logging.getLogger("mmm")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture(scope="session")
def pool():
    """One other process, started afresh."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield pool


@pytest.fixture(scope="session")
def examples() -> dict[str, Example]:
    return EXAMPLES


@pytest.fixture(scope="session")
def small() -> dict[str, dict[str, Any]]:
    return SMALL
