"""A program of its own, outside mmm: speaks sentences with an eSpeak NG library. Standard library only.

    python -I _speak.py LIBRARY VOICES < sentences.jsonl > done

A line of input is ``{"text", "voice", "rate", "path"}``. For each, ``path`` becomes a mono 16-bit wav file at the library's own
sampling rate, and an empty line comes out. eSpeak NG is under the GPL-3.0; mmm runs this program as a separate process and
neither links to the library nor imports it.
"""

import ctypes
import json
import sys
import wave
from typing import Any

RETRIEVAL, UTF8, RATE = 1, 1, 1  # of speak_lib.h: AUDIO_OUTPUT_RETRIEVAL, espeakCHARS_UTF8, espeakRATE
Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def main(library: str, voices: str) -> None:
    """Speak every sentence of the standard input with this library and these voices."""
    espeak = ctypes.CDLL(library)
    hertz = espeak.espeak_Initialize(RETRIEVAL, 0, voices.encode(), 0)
    if hertz <= 0:
        sys.exit(f"eSpeak NG cannot start with the voices in {voices}")
    heard = bytearray()

    @Callback
    def hear(samples: Any, count: int, _events: Any) -> int:
        if samples and count:
            heard.extend(ctypes.string_at(samples, 2 * count))
        return 0

    espeak.espeak_SetSynthCallback(hear)
    for line in sys.stdin:
        sentence = json.loads(line)
        if espeak.espeak_SetVoiceByName(sentence["voice"].encode()):
            sys.exit(f"eSpeak NG has no voice {sentence['voice']!r}")
        espeak.espeak_SetParameter(RATE, sentence["rate"], 0)
        heard.clear()
        text = sentence["text"].encode()
        if espeak.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 1, 0, UTF8, None, None):
            sys.exit(f"eSpeak NG cannot speak {sentence['text']!r}")
        espeak.espeak_Synchronize()
        with wave.open(sentence["path"], "wb") as file:
            file.setparams((1, 2, hertz, 0, "NONE", "not compressed"))
            file.writeframes(heard)
        print(flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
