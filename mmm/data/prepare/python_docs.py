"""Text: the reference topics and the longer docstrings of the Python that runs.

Nothing of the standard library is imported: topics and docstrings are read from its sources with ``ast``.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sysconfig
import textwrap
from collections.abc import Iterator
from pathlib import Path

from mmm.core.errors import BadRecipe

WORDS = 64
"""Words of the shortest record."""

# Tests, vendored packages, and parts that distributions of Python leave out or patch.
_LEFT_OUT = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "tkinter", "distutils", "ensurepip"}
_LEFT_OUT |= {"site-packages", "dist-packages", "pydoc_data"}
_RULE = re.compile(r"\s*([=\-~*^#_+])\1{2,}\s*")


def prepare(folder: Path) -> str:
    """Write ``train.txt`` and ``validation.txt``: records of at least 64 words, a blank line between them.

    A record is a run of paragraphs of one document, its inner blank lines taken out. A document is a reference topic or
    a docstring. Every ninth document, by the hash of the topic's or the module's name, is validation: no document and
    no module is on both sides. All topics are taken, then docstrings, in the order of their hashes, of at most as many
    characters.

    Args:
        folder: an empty folder to fill.
    """
    kept: dict[str, list[str]] = {"train": [], "validation": []}
    seen: set[str] = set()
    short = room = 0
    topics, docstrings = [], []
    for name, text in documents():
        (docstrings if name.endswith(".py") else topics).append((name, text))
    docstrings.sort(key=lambda d: hashlib.sha256("\n".join(d).encode()).digest())
    for name, text in topics + docstrings:
        split = "validation" if hashlib.sha256(name.encode()).digest()[0] % 9 == 0 else "train"
        found = [r for r in dict.fromkeys(records(text)) if r not in seen]
        size = sum(map(len, found))
        short += not found
        if name.endswith(".py"):
            if size > room:
                break
            room -= size
        else:
            room += size
        kept[split] += found
        seen.update(found)
    for split, texts in kept.items():
        (folder / f"{split}.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8", newline="\n")
    words = sum(len(t.split()) for texts in kept.values() for t in texts)
    train, validation = len(kept["train"]), len(kept["validation"])
    return f"{train:,} + {validation:,} records, {words:,} words; {short:,} documents under {WORDS} words or repeated left out"


def documents() -> Iterator[tuple[str, str]]:
    """(name, text) of the reference topics by name, then of the docstrings by module and place."""
    library = Path(sysconfig.get_paths()["stdlib"])
    topics = library / "pydoc_data" / "topics.py"
    if not topics.is_file():
        raise BadRecipe(f"this Python comes without the sources of its standard library: no {topics}")
    yield from sorted(_topics(topics).items())
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library)
        if _LEFT_OUT.isdisjoint(name.parts):
            for text in _docstrings(path):
                yield name.as_posix(), text


def records(text: str) -> list[str]:
    """A document in runs of whole paragraphs of at least 64 words; the last run takes the rest. Empty if it is shorter."""
    runs: list[list[str]] = [[]]
    for paragraph in paragraphs(text):
        if sum(len(p.split()) for p in runs[-1]) >= WORDS:
            runs.append([])
        runs[-1].append(paragraph)
    if sum(len(p.split()) for p in runs[-1]) < WORDS:
        rest = runs.pop()
        if not runs:
            return []
        runs[-1] += rest
    return ["\n".join(run) for run in runs]


def paragraphs(text: str) -> list[str]:
    """Paragraphs without their common indent, and without lines that only underline."""
    blocks = re.split(r"\n\s*\n", text.expandtabs().replace("\x0c", ""))
    lines = [[line.rstrip() for line in textwrap.dedent(b).splitlines() if not _RULE.fullmatch(line)] for b in blocks]
    return ["\n".join(block) for block in lines if block]


def _topics(path: Path) -> dict[str, str]:
    """The dictionary ``topics`` that the module spells out."""
    for node in ast.parse(path.read_bytes()).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(node, ast.Assign) and isinstance(target, ast.Name) and target.id == "topics":
            return dict(ast.literal_eval(node.value))
    raise BadRecipe(f"{path}: expected a dictionary named `topics`")


def _docstrings(path: Path) -> Iterator[str]:
    """Docstrings of the module, its classes and functions."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield text
