"""ONNX graphs: one record's content in, hidden states and answers out, for one modality each.

A graph takes what the modality's tokenizer makes of one record (``content``: ids, patches, frames or samples), with as many
rows as the record has, and no batch axis, as everything here has none.

Shape suffixes: N tokens of the record, D width, V output size.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmm.core.errors import BadRecipe, did_you_mean
from mmm.core.modality import Tokenizer
from mmm.core.tokens import Piece
from mmm.interop.architecture import Misfit
from mmm.interop.probe import difference
from mmm.loaded import Loaded
from mmm.modalities._patches import ImageTokenizer
from mmm.sources import CLOSE, Source

from .examples import examples
from .fit import plain
from .graph import Record, trace
from .written import Written

GRAPH, EXAMPLE, ABOUT = "model.onnx", "example.npz", "input.json"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def write(source: Source, folder: Path, modality: str | None = None) -> Written:
    """Write a graph for each modality, each in a folder of its own where there are several; and compare it in onnxruntime.

    Args:
        modality: this one alone.

    Raises:
        ValueError: a package is missing, there is no such modality, its front end cannot be written as a graph for records of
            any length, or a graph does not answer as the model here does.
    """
    _packages()
    try:
        training = plain(source)
    except Misfit:  # an adapter that is a part of its own stays one
        training = source.loaded()
    names = training.model.names
    if modality is not None and modality not in names:
        raise BadRecipe(f"--modality {modality}: the model has none of this name. {did_you_mean(modality, names)}")
    chosen = names if modality is None else (modality,)
    told, usage, inputs = [], [], []
    for name in chosen:
        place = folder / name if len(chosen) > 1 else folder
        place.mkdir(exist_ok=True)
        told.append(_one(training, name, place, source))
        usage.append(_usage(place.relative_to(folder)))
        inputs.append(f"{name}: {_content(training.modalities[name].tokenizer)}")
    return Written("onnx", usage[0], told, training, ["onnx"], inputs)


def _one(training: Loaded, name: str, folder: Path, source: Source) -> str:
    """Write and check one graph. Returns what is to be told of it."""
    tokenizer = training.modalities[name].tokenizer
    pieces = examples(tokenizer, f"--to onnx: {name!r}")
    record = Record(training, name, pieces[0]).eval()
    if record.fixed and any(not torch.equal(p.position_NC, record.position_NC) for p in pieces):
        raise BadRecipe(
            f"--to onnx: the tokens of {name!r} stand in a grid that follows from a record's own size, which its content does "
            "not tell; a graph needs records of one size (Image: size, Spectrogram: pad)"
        )
    try:
        trace(record, pieces[0], folder / GRAPH)
    except Exception as error:  # torch.export raises many kinds
        raise BadRecipe(
            f"{source.name}: {name!r} cannot be written as one graph for records of any length: {_line(error)}"
        ) from error
    worst = _compare(training, name, record, pieces, folder / GRAPH)
    told = f"{name}: {GRAPH} in onnxruntime, largest difference to the model here on {len(pieces)} records {worst:.1e}"
    if worst > CLOSE:
        raise BadRecipe(f"{told}, more than {CLOSE:.0e}: the export is refused")
    _beside(training, name, record, pieces[-1], folder)
    return told + ("" if record.head else "; hidden states only, no head answers at its tokens")


def _compare(training: Loaded, name: str, record: Record, pieces: Sequence[Piece], path: Path) -> float:
    """The largest difference between what the graph answers in onnxruntime and what the model here answers."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    with torch.no_grad():
        for piece in pieces:
            _, _, view = training.view(name, [(0, piece)])
            hidden_ND = training.model.encode(view).x_KD
            ours = [hidden_ND]
            if record.head is not None:
                ours.append(training.model.heads[record.head](training.model.decoder(hidden_ND, view)))
            theirs = [torch.from_numpy(x) for x in session.run(None, {"content": piece.content.numpy()})]
            worst = max(worst, difference(ours, theirs))
    return worst


def _beside(training: Loaded, name: str, record: Record, piece: Piece, folder: Path) -> None:
    """Write the tokenizer's files, its arguments, and a record with its answers."""
    for file, data in training.assets.get(f"modalities/{name}", {}).items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)
    tokenizer: Tokenizer = training.modalities[name].tokenizer
    about: dict[str, Any] = {"modality": name, "class": type(training.modalities[name]).__name__}
    if isinstance(ids := getattr(tokenizer, "tokens", None), dict):
        about["tokens"] = [ids[i] for i in sorted(ids)]
    if (frames := getattr(tokenizer, "frames", None)) is not None:
        about["before"], about["after"] = frames[0].fences
    for key in ("mask", "max_length", "side", "patch", "channels", "specials", "mean", "std", "rate"):
        if isinstance(value := getattr(tokenizer, key, None), (int, float, str, list, tuple)):
            about[key] = value
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    with torch.no_grad():
        answers = record(piece.content)
    names = ("hidden", "logits")
    np.savez(
        folder / EXAMPLE,
        content=piece.content.numpy(),
        **{n: a.numpy() for n, a in zip(names, answers, strict=False)},
    )


def _usage(place: Path) -> str:
    """Python that runs a graph without this package."""
    at = f"DIR/{place}/" if place.parts else "DIR/"
    return f"""import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{at}{GRAPH}")
example = np.load("{at}{EXAMPLE}")  # content of one record, and what the model answers
names = [output.name for output in session.get_outputs()]
answers = session.run(names, {{"content": example["content"]}})
for name, answer in zip(names, answers):
    print(name, answer.shape, abs(answer - example[name]).max())"""


def _content(tokenizer: Tokenizer) -> str:
    """What ``content`` is, for who has to make it."""
    if tokenizer.choices is not None:
        return (
            f"content is the int64 ids of one record, (N,): those under `before` in {ABOUT}, the record's own, those under "
            "`after`; its own are Tokenizer.from_file('tokenizer.json').encode(text, add_special_tokens=False).ids of the "
            "library tokenizers where there is that file, else the places of its letters in `tokens`"
        )
    if isinstance(tokenizer, ImageTokenizer):
        return (
            "content is the float32 patches of one image, (N, numbers a patch): first as many rows of zeros as `specials` in "
            f"{ABOUT}, then patches line by line, each by row, column, channel, of pixels in 0..1 less `mean`, over `std`"
        )
    return "content is one record as mmm.load(SOURCE).piece(record)[1].content gives it, float32"


def _packages() -> None:
    """Raises BadRecipe where a package is missing."""
    import importlib.util

    missing = [p for p in PACKAGES if importlib.util.find_spec(p) is None]
    if missing:
        raise BadRecipe(f"--to onnx needs {', '.join(missing)}: pip install 'mmm-pretrain[onnx]'")


def _line(error: Exception) -> str:
    """The first line that says something."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:300]
