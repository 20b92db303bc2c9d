"""Which foreign architecture can hold a model of ours, and that foreign model with our weights in it.

Shape suffixes: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmm import plugins
from mmm.interop.architecture import Architecture, Misfit, Original
from mmm.interop.links import revert
from mmm.loaded import Loaded
from mmm.sources import Source


@dataclass
class Fit:
    """A foreign model that says what ours says.

    Args:
        original: the foreign model with our weights. architecture: that made it. training: ours, adapters folded in.
        left: our parameters that the foreign model has no place for.
        untouched: whether it is the very model that was imported.
    """

    original: Original
    architecture: Architecture
    training: Loaded
    left: list[str]
    untouched: bool = False

    @property
    def kind(self) -> str:
        """Its name: class of the foreign model."""
        return type(self.original.model).__name__


def fit(source: Source, library: str) -> tuple[Fit | None, dict[str, str]]:
    """The foreign model of a library that holds ours; without one, the reasons, by architecture.

    What was imported and not changed is written as it was: what our model does not need (a pooler, a second type of token)
    stays in it.
    """
    original, architecture = source.original, source.architecture
    if original is not None and architecture is not None and original.library == library:
        return Fit(original, architecture, source.loaded(), [], untouched=True), {}
    try:
        training = plain(source)
    except Misfit as reason:
        return None, {"every one": str(reason)}
    reasons = {}
    for name in plugins.of_role("Architecture"):
        candidate: Architecture = plugins.find(name, "Architecture", "export").load()()
        if candidate.writes != library or type(candidate).export is Architecture.export:
            continue
        try:
            original = candidate.export(training)
            left = fill(original, candidate, training)
        except Misfit as reason:
            reasons[name] = str(reason)
            continue
        return Fit(original, candidate, training, left), {}
    return None, reasons


def lines(reasons: Mapping[str, str]) -> list[str]:
    """The same, architectures of one reason together."""
    together: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        together.setdefault(reason, []).append(name)
    return [f"{', '.join(names)}: {reason}" for reason, names in together.items()]


def plain(source: Source) -> Loaded:
    """The model with its adapter folded into its weights. Raises Misfit where that is not defined."""
    training = source.loaded()
    if training.adapter is not None:
        try:
            training.adapter.merge(training.model)
        except ValueError as reason:
            raise Misfit(str(reason)) from reason
    return training


def fill(original: Original, architecture: Architecture, training: Loaded) -> list[str]:
    """Put our weights into a foreign model. Returns the names of ours that it has no place for, whole modules as one.

    Raises:
        Misfit: it needs a parameter that ours has not, or one of another shape.
    """
    theirs: Any = original.model
    ours = training.model.state_dict(keep_vars=True)
    links = architecture.links(original.config, theirs.state_dict().keys())
    wanted = {name for link in links for name in link.ours}
    if lacking := sorted(wanted - ours.keys()):
        raise Misfit(f"it needs {_some(lacking)}, which this model has not")
    state = revert({name: tensor.detach() for name, tensor in ours.items()}, links)
    try:
        unexpected = theirs.load_state_dict(state, strict=False).unexpected_keys
    except RuntimeError as error:
        raise Misfit(f"shapes differ: {' '.join(str(error).split())[:200]}") from error
    assert not unexpected, f"links name parameters that a {type(theirs).__name__} has not: {unexpected}"
    named = list(theirs.named_parameters(remove_duplicate=False))
    filled = {id(parameter) for name, parameter in named if name in state}
    if empty := sorted(name for name, parameter in named if id(parameter) not in filled):
        raise Misfit(f"its {_some(empty)} {'has' if len(empty) == 1 else 'have'} no counterpart in this model")
    written = {id(ours[name]) for link in links if link.theirs for name in link.ours}
    return _whole({name for name, tensor in ours.items() if id(tensor) not in written}, set(ours))


def _whole(names: set[str], of: set[str]) -> list[str]:
    """Names of parameters, those of a module that are all among them by the name of the module."""
    found = set()
    for name in names:
        parts = name.split(".")
        prefixes = [".".join(parts[:i]) for i in range(1, len(parts))]
        found.add(next((p for p in prefixes if all(n in names for n in of if n.startswith(f"{p}."))), name))
    return sorted(found)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
