"""``mmm new modality NAME [DIR]``: a plugin of one's own, from the template in ``mmm/templates``.

The template is itself a plugin that works, called by three placeholders; they are replaced in its files and in their names.
"""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from . import plugins
from .core.errors import BadRecipe, did_you_mean
from .data.packages import packages, same
from .yaml import loads

TEMPLATES = Path(__file__).parent / "templates"


def kinds() -> list[str]:
    """What there are templates of."""
    return sorted(p.name for p in TEMPLATES.iterdir() if p.is_dir())


def new(kind: str | None, name: str | None, folder: str | None = None) -> str:
    """Write a new plugin.

    Args:
        kind: ``modality``. name: what recipes will call it, in snake_case; the distribution is ``mmm-NAME``.
        folder: where ``pyproject.toml`` will lie; ``./mmm-NAME`` by default.

    Returns:
        What was written, and what to do next.

    Raises:
        BadRecipe: no such template, a name that cannot be used, or a folder that holds something.
    """
    if kind not in kinds():
        asked = f"there is no template of {kind!r}" if kind else "say what is to be new, and its name"
        raise BadRecipe(
            f"{asked}: mmm new modality NAME [DIR]. {did_you_mean(kind or '', kinds())} Any other part is one class in a "
            "file of a plugin; it needs no template"
        )
    name = _checked(name)
    place = Path(folder or f"mmm-{name}")
    if place.is_file() or (place.is_dir() and any(place.iterdir())):
        raise BadRecipe(
            f"{place} is {'a file' if place.is_file() else 'not empty'}: name a new folder, mmm new {kind} {name} DIR"
        )
    words = {"example_name": name, "example-name": name.replace("_", "-"), "ExampleName": _class(name)}
    written = []
    for source in sorted(p for p in (TEMPLATES / kind).rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        path = place / _replaced(str(source.relative_to(TEMPLATES / kind)), words)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_replaced(source.read_text(encoding="utf-8"), words), encoding="utf-8", newline="\n")
        written.append(path)
    return "\n".join(
        [
            *(f"wrote {path}" for path in written),
            "",
            "It works as it is. Next:",
            f"  pip install --no-deps -e {place}",
            f"  mmm plugin check mmm-{name}",
            f"  lightning run {place}/recipes/{name}-tiny.yaml",
            f"Then make it yours, from {place}/mmm_{name}/tokenizer.py on; {place}/README.md says what lies where.",
        ]
    )


def _checked(name: str | None) -> str:
    """The name, if a plugin can be called so. Raises BadRecipe: why it cannot."""
    if not name:
        raise BadRecipe("the new modality needs a name, in snake_case: mmm new modality NAME [DIR]")
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        snake = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")
        hint = f"; {snake} would do" if re.fullmatch(r"[a-z][a-z0-9_]*", snake) else ""
        raise BadRecipe(f"{name!r} is no name for a modality: lower-case words, joined by _, a letter first{hint}")
    if keyword.iskeyword(name):
        raise BadRecipe(f"{name!r} is a word of Python's own and cannot name a module; add one to it: {name}_data")
    if [*loads(f"{name}: 1", name)] != [name]:
        raise BadRecipe(f"YAML does not read {name!r} as a word, so no recipe could name it; add one to it: {name}_data")
    from .core.model import fault_of_name

    if fault := fault_of_name(name):
        raise BadRecipe(fault)
    taken = plugins.index().get(_class(name))
    if taken is not None:
        raise BadRecipe(f"there is a class {_class(name)} already, of {taken.distribution}; recipes could not tell them apart")
    if any(same(p.distribution, f"mmm-{name}") or p.name == f"mmm_{name}" for p in packages()):
        raise BadRecipe(f"a plugin mmm-{name} is installed already; choose another name, or pip uninstall it first")
    return name


def _class(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _replaced(text: str, words: dict[str, str]) -> str:
    for placeholder, word in words.items():
        text = text.replace(placeholder, word)
    return text
