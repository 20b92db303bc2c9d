"""What came of a check, and how a failure is mended.

Shape suffixes: none.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmm

MEND = {
    "imports": "make the package import with its own dependencies alone, and name those in its pyproject.toml",
    "recipe": "run `mmm check` on it and follow what it says",
    "data card": "follow the schema, as `mmm data show` tells",
    "sample records": "put a few small files that its tokenizer reads into the package's folder examples/",
    "constructs": "give it defaults, or ship a recipe that constructs it",
    "fits": "see Modality.fit, assets and restore",
    "pieces": "see Tokenizer.tokenize and empty; take random numbers from its draw alone",
    "round trip": "see Tokenizer.detokenize: it returns what tokenize reads, as nearly as it can be had",
    "workers": "keep plain values in the tokenizer; open files inside its methods",
    "positions": "see Piece.positions and Tokenizer.coordinates",
    "specials and units": "see Piece.maskable, Piece.units and Tokenizer.choices",
    "length": "see Tokenizer.length",
    "gradients": "see Modality.build and embed: no parameter without use, hidden tokens too",
    "mask vector": "see Modality.embed: at hidden_N stands the mask vector, then what depends on the position alone",
    "packed = alone": "see Modality.embed: no statistics over the batch; layout_N.segment_T tells records apart",
    "empty in a batch": "see Tokenizer.empty: zero rows of the shape and type that tokenize makes",
    "save and load": "see Modality.assets and restore; what is learned later is a parameter or a buffer",
    "mask counts": "see Masking.rank and hidden, or Piece.units and maskable",
    "targets": "name targets in a recipe of the package: TokenIds predicts ids, Pixels numbers, or bring a Target",
    "objective": "see Target.truth and loss: sums over tokens, nothing of batch mates",
    "malformed files": "see Tokenizer.records: catch what a decoder raises, raise BadRecord(path, record, reason)",
    "speed": "see Tokenizer.tokenize: work on whole arrays, read files once",
    "trains": "run a recipe of it on its sample records and follow what it says",
    "loads": "see Modality.restore and build: they make what a checkpoint holds, without the records",
    "exact resume": "keep no state outside parameters, buffers and assets; take random numbers from the draw",
    "two processes": "see Modality.embed and Target.fit: what a process does may not depend on which one it is",
    "target": "see Target",
    "masking": "see Masking",
    "corruption": "see Corruption",
    "encoder": "see Encoder",
    "sampler": "see Sampler: draw ids with `guess`, keyed by record and place",
    "decoder": "see Decoder",
}
"""Every check, with where a failure is mended."""


@dataclass(frozen=True)
class Outcome:
    """What came of one check of one part.

    Args:
        part: what was checked. check: a key of ``MEND``. failure: what is wrong, None where nothing is.
        note: what was found or measured.
    """

    part: str
    check: str
    failure: str | None = None
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.failure is None

    @property
    def mend(self) -> str | None:
        """Where a failure is mended; None where there is none."""
        return None if self.ok else MEND[self.check]


def attempt(part: str, check: str, function: Callable[..., Any], *arguments: Any) -> Outcome:
    """Call a check; what it returns is the note, what it raises the failure."""
    try:
        note = function(*arguments)
    except AssertionError as error:
        return Outcome(part, check, _line(str(error) or _where(error)))
    except ValueError as error:  # a sentence for people, unless it comes out of somebody's code by accident
        return Outcome(part, check, _line(f"{error}" if _is_ours(error) else f"{error} ({_where(error)})"))
    except Exception as error:
        return Outcome(part, check, _line(f"{type(error).__name__}: {error} ({_where(error)})"))
    return Outcome(part, check, note=note if isinstance(note, str) else "")


def _where(error: BaseException) -> str:
    """The file and line that raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}, line {last.lineno}"


def _is_ours(error: BaseException) -> bool:
    return Path(traceback.extract_tb(error.__traceback__)[-1].filename).is_relative_to(Path(mmm.__file__).parent)


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 600 else f"{line[:400]} ... {line[-190:]}"
