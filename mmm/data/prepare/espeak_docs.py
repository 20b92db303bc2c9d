"""Speech: sentences of Python's documentation, spoken by eSpeak NG in a process of its own.

Shape suffixes: L samples.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mmm.core.errors import BadRecipe
from mmm.data.prepare import python_docs, wheel

HERTZ = 16_000
SHORTEST, LONGEST = 2.0, 8.0
"""Seconds of a sentence that is kept."""

RATES = (140, 160, 180)
"""Words a minute."""

# None with "breath" in its definition (f2, f3, f5, whisper): eSpeak's breath is noise that differs from run to run.
_ACCENTS, _TIMBRES = ("en-us", "en", "en-gb-scotland", "en-029"), ("f1", "f4", "m1", "m3", "m7", "m8")
VOICES = tuple(f"{accent}+{timbre}" for accent in _ACCENTS for timbre in _TIMBRES)

_SENTENCE = re.compile(r"[A-Z][a-z]+(?:,? [A-Za-z]+(?:['-][a-z]+)?){4,29}\.")


def prepare(folder: Path, minutes: float = 35.0) -> str:
    """Write ``wav/0001.wav`` and so on, 16 kHz mono 16 bit, 2 to 8 seconds each, and ``transcripts.jsonl``.

    A line of the transcripts is ``{"audio": "wav/0001.wav", "text": ..., "voice": ..., "rate": ...}``. Sentences come in the
    order of their hashes, which choose voice and rate too, until there are enough; fewer minutes are the beginning of more.

    Args:
        folder: an empty folder to fill.
        minutes: of speech.
    """
    if minutes <= 0:
        raise BadRecipe(f"espeak_docs: minutes {minutes}: expected more than 0")
    (folder / "wav").mkdir()
    transcripts: list[dict[str, Any]] = []
    enough, seconds, left_out = minutes * 60, 0.0, 0
    for sentence, sound_L in _spoken(folder / "spoken.wav"):
        if not SHORTEST <= len(sound_L) / HERTZ <= LONGEST:
            left_out += 1
            continue
        name = f"wav/{len(transcripts) + 1:04}.wav"
        with wave.open(str(folder / name), "wb") as file:
            file.setparams((1, 2, HERTZ, 0, "NONE", "not compressed"))
            file.writeframes(sound_L.astype("<i2").tobytes())
        transcripts.append({"audio": name, **sentence})
        seconds += len(sound_L) / HERTZ
        if seconds >= enough:
            break
    lines = "".join(json.dumps(t) + "\n" for t in transcripts)
    (folder / "transcripts.jsonl").write_text(lines, encoding="utf-8", newline="\n")
    (folder / "spoken.wav").unlink()
    said = f"{len(transcripts):,} sentences, {seconds / 60:.1f} minutes; {left_out:,} too short or too long left out"
    return said if seconds >= enough else f"{said}; the documentation holds no more, {minutes:g} minutes were asked"


def sentences() -> list[dict[str, Any]]:
    """Every different sentence of 5 to 30 plain words, with its voice and rate, in the order of the hashes."""
    found: dict[bytes, str] = {}
    for _, text in python_docs.documents():
        for paragraph in python_docs.paragraphs(text):
            for sentence in re.split(r"(?<=\.)\s+(?=[A-Z])", " ".join(paragraph.split())):
                if _SENTENCE.fullmatch(sentence):
                    found[hashlib.sha256(sentence.encode()).digest()] = sentence
    return [
        {"text": text, "voice": VOICES[key[-1] % len(VOICES)], "rate": RATES[key[-2] % len(RATES)]}
        for key, text in sorted(found.items())
    ]


def _spoken(scratch: Path) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """The sentences and their sounds, one after the other, from a speaker that is another program."""
    home = wheel("espeakng_loader", "espeakng-loader==0.2.4")
    library = next((p for p in sorted(home.iterdir()) if p.suffix in (".so", ".dylib", ".dll")), None)
    if library is None:
        raise BadRecipe(f"{home}: no eSpeak NG library for this machine in it")
    command = [sys.executable, "-I", str(Path(__file__).with_name("_speak.py")), str(library), str(home / "espeak-ng-data")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8") as speaker:
        assert speaker.stdin and speaker.stdout
        try:
            for sentence in sentences():
                with contextlib.suppress(BrokenPipeError):  # it has ended; the empty answer says so
                    print(json.dumps({**sentence, "path": str(scratch)}), file=speaker.stdin, flush=True)
                if not speaker.stdout.readline():
                    raise BadRecipe(f"eSpeak NG stopped at {sentence['text']!r}; its own message stands above")
                with wave.open(str(scratch), "rb") as file:
                    sound_L = np.frombuffer(file.readframes(file.getnframes()), "<i2")
                    yield sentence, _resampled(sound_L, file.getframerate())
        finally:
            with contextlib.suppress(BrokenPipeError):
                speaker.stdin.close()


def _resampled(sound_L: np.ndarray, hertz: int) -> np.ndarray:
    """The sound at 16 kHz, to the same bit on every machine: the filter's taps are whole numbers, so no sum is rounded."""
    from scipy.signal import firwin, resample_poly

    common = int(np.gcd(HERTZ, hertz))
    up, down = HERTZ // common, hertz // common
    longer = max(up, down)
    taps = np.rint(firwin(20 * longer + 1, 1 / longer, window=("kaiser", 5.0)) * 2.0**24)
    resampled_L = np.rint(resample_poly(sound_L.astype(np.float64), up, down, window=taps) / 2.0**24)
    return np.asarray(resampled_L.clip(-(2**15), 2**15 - 1), dtype=np.int16)
