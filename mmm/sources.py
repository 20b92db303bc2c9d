"""Where a pretrained model comes from: a run of ours, a checkpoint file, or another library."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import plugins
from .checkpoint import load_checkpoint, newest
from .core.errors import BadRecipe
from .core.modality import Assets
from .interop import from_safetensors
from .interop.architecture import Architecture, Original
from .interop.library import Library
from .interop.links import convert
from .interop.probe import difference
from .loaded import Loaded
from .recipe import Recipe, instantiate, resolve
from .yaml import loads

log = logging.getLogger("mmm")

CLOSE = 1e-4
"""Largest difference of float32 outputs between an original and its import."""


@dataclass
class Source:
    """A pretrained model, taken apart.

    Args:
        name: what the user called it. values: its whole recipe, resolved. assets: of its fitted parts, by address.
        state: its parameters, as ``Training.state_dict`` names them.
        notes: what was left aside while it was read, for people.
        original: the foreign model it was made of. architecture: that knew it.
    """

    name: str
    values: dict[str, Any]
    assets: dict[str, Assets]
    state: dict[str, Tensor]
    notes: list[str] = field(default_factory=list)
    original: Original | None = None
    architecture: Architecture | None = None

    def loaded(self) -> Loaded:
        """The model, in evaluation mode on the CPU.

        Raises:
            ValueError: where its parts do not fit its recipe.
        """
        cpu = torch.device("cpu")  # whatever device is the default now
        with cpu:
            training = instantiate(Recipe(Path(self.name).stem, self.values), Loaded)
        assert isinstance(training, Loaded)
        try:
            with cpu, torch.random.fork_rng(devices=[]):
                training.restore(self.assets)
            training.load_state_dict(self.state)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise BadRecipe(f"{self.name}: its parts do not fit its recipe: {' '.join(str(error).split())[:400]}") from error
        return training.eval()


def open_source(source: str | Path) -> Source:
    """A run folder (its newest checkpoint), a checkpoint file of a run, or what another library can load.

    Args:
        source: besides, ``package:NAME/FOLDER``: what lies in an installed Python package, none of whose code is run.

    Raises:
        ValueError: nothing is there, it cannot be read safely, no architecture here knows it, or its outputs do not agree.
    """
    name, told = str(source), str(source)
    if name.startswith("package:"):
        name = _in_package(name)
    path = Path(name)
    if path.is_dir() and (checkpoint := newest(path)) is not None:
        return _run(checkpoint, told)
    if path.is_dir() and from_safetensors.claims(path):
        parts = from_safetensors.read(path)
        return Source(told, resolve(parts.recipe, told), parts.assets, parts.state)
    library: Library | None = next((found for found in _all("Library") if found.claims(name)), None)
    if library is None and path.is_dir():
        raise BadRecipe(
            f"{path}: holds no checkpoint of a run (checkpoints/step-*.ckpt) and no model of another library (config.json)"
        )
    if library is None and "://" in name:
        raise BadRecipe(f"{name}: only local checkpoint files are read; fetch it first, or name a hub's model as OWNER/NAME")
    if library is None and (path.exists() or path.suffix == ".ckpt"):
        return _run(path, told)
    original = (library or plugins.find("Transformers", "Library", "load").load()()).open(name)
    original.source = told
    return _foreign(original)


def _in_package(source: str) -> str:
    """The path that ``package:NAME/FOLDER`` stands for. Raises BadRecipe where there is none."""
    package, _, inside = source.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise BadRecipe(f"{source}: no package {package!r} is installed here")
    root = Path(spec.submodule_search_locations[0])
    if ".." in Path(inside).parts or Path(inside).is_absolute() or not (root / inside).exists():
        held = ", ".join(sorted(p.name for p in root.iterdir()))
        raise BadRecipe(f"{source}: the package holds no {inside!r}; it has {held}")
    return str(root / inside)


def _all(role: str) -> Sequence[Any]:
    return [plugins.find(name, role, "load").load()() for name in plugins.of_role(role)]


def _run(path: Path, name: str) -> Source:
    checkpoint = load_checkpoint(path)
    if not isinstance(checkpoint.get("mmm_recipe"), str):
        raise BadRecipe(f"{path}: a checkpoint, but not of a run of this package (it names no recipe)")
    values = resolve(loads(checkpoint["mmm_recipe"], str(path)), str(path))
    return Source(name, values, assets_of(checkpoint), checkpoint["state_dict"])


def assets_of(checkpoint: dict[str, Any]) -> dict[str, Assets]:
    """The fitted parts' files, by address. Raises BadRecipe where a name would lie outside the folder they are written to."""
    from_safetensors.check_inside("this checkpoint's assets", checkpoint["mmm_assets"])
    return {
        address: {file: bytes(data.numpy().tobytes()) for file, data in assets.items()}
        for address, assets in checkpoint["mmm_assets"].items()
    }


def _foreign(original: Original) -> Source:
    """Convert a foreign model, and believe it only where its outputs agree."""
    architecture: Architecture | None = next((a for a in _all("Architecture") if a.reads(original)), None)
    kind = original.config.get("model_type") or original.config.get("architecture") or type(original.model).__name__
    if architecture is None:
        known = ", ".join(plugins.of_role("Architecture"))
        raise BadRecipe(f"{original.source}: no import for {kind!r} of {original.library}; there are: {known}")
    values = resolve({"model": architecture.model(original)}, f"{original.source} ({kind})")
    theirs = original.model.state_dict()
    links = architecture.links(original.config, theirs.keys())
    state = {f"model.{name}": tensor for name, tensor in convert(theirs, links).items()}
    used = {name for link in links for name in link.theirs}
    unused = sorted({*original.skipped, *(theirs.keys() - used)})
    notes = [*([f"not used: {', '.join(unused)}"] if unused else []), *architecture.notes(original)]
    source = Source(original.source, values, architecture.assets(original), state, notes, original, architecture)
    check(source.loaded(), original, architecture)
    return source


def check(training: Loaded, original: Original, architecture: Architecture, what: str = "import") -> float:
    """Ask both models the same; returns the largest difference of what they answer.

    Args:
        what: is refused where they differ, for the error.

    Raises:
        ValueError: it is larger than ``CLOSE``.
    """
    pieces = architecture.pieces(training)
    with torch.no_grad():
        answers = [architecture.ask(original.model, piece) for piece in pieces]
        numbers, name, view = training.view(training.model.names[0], list(enumerate(pieces)))
        encoded = training.model.encode(view)
        lengths = list(view.layout_K.lengths)
        hidden = dict(zip(numbers, encoded.x_KD.split(lengths), strict=True))
        worst = difference([hidden[i] for i in range(len(pieces))], [h for h, _ in answers])
        if answers[0][1] is not None:
            logits_TV = training.model.heads[training.head_of(name)](training.model.decoder(encoded.x_KD, view))
            logits = dict(zip(numbers, logits_TV.split(lengths), strict=True))
            worst = max(worst, difference([logits[i] for i in range(len(pieces))], [a for _, a in answers if a is not None]))
    told = f"{original.source} ({original.library}): largest difference of outputs on {len(pieces)} records {worst:.1e}"
    if worst > CLOSE:
        raise BadRecipe(f"{told}, more than {CLOSE:.0e}: the {what} is refused")
    log.info(told)
    return worst
