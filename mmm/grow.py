"""``mmm grow``: a trained model gets further modalities, and keeps those it has.

What stands in a recipe for the new modality (its class, how it is masked and corrupted, its targets and heads, its data) joins
what the model has; what the recipe says of the run (optimiser, trainer, seed, batches) is the run's. Encoder, decoder and
modality vectors are the model's; the recipe's own are left aside, which is said. The result is a recipe too, with ``init_from``
and the adapter ``NewModalities``, and is trained like any other.

By default the run sees the data of the new modalities alone, and everything that the model had is frozen. With a factor the
body follows, and old data can be mixed in by naming them: ``--body 0.1 --data.cards.NAME 1`` (a card of an old modality) or
``--data.files.text FILES``.
"""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import plugins
from .core.errors import BadRecipe, did_you_mean
from .growth import PROOF, STEP0, Growth, lines
from .join import join
from .old_data import modality_of, old_data
from .overrides import parse_overrides, set_value
from .recipe import Recipe, resolve, settled
from .sources import open_source
from .start import narrowed
from .yaml import load

log = logging.getLogger("mmm")

BY_MODALITY = ("cards", "files", "test")
FROZEN = "frozen"
RECIPE = "recipe.yaml"


def grow(
    source: str,
    add: Sequence[str],
    overrides: Sequence[str] = (),
    body: str = FROZEN,
    records: Sequence[str] = (),
    run_dir: str | None = None,
    resume: bool = False,
    devices: int | None = None,
    checkpoint_every: int | None = None,
) -> Path:
    """Train the new modalities of a model in a run folder. Returns the folder.

    Before the first step ``step0`` is written there, the grown model as it begins, which ``mmm.load`` opens; the run goes on
    only where its outputs for records of every old modality are those of the source, bit for bit. (Where the source was trained
    with an adapter that can be folded into its weights, it is folded first.) After the last step, the skill of the old
    modalities is measured before and after, on the validation data of the run they were learned in.

    Args:
        source: a run folder, or whatever ``mmm.load`` opens. add: ``NAME=recipe.yaml``, one or several.
        overrides: ``--a.b.c value`` words, on the grown recipe. body: ``frozen``, or a factor on the learning rate of all the
            model had, above 0 and at most 1.
        records: ``NAME=FILES``, records of an old modality in place of its own data, to prove and to measure on.
        run_dir: ``runs/SOURCE-NAME`` by default. resume, devices, checkpoint_every: see ``run``.

    Raises:
        ValueError: with one clear line for whatever the user can mend.
    """
    from .run import check_free, train

    recipe = compose(source, add, overrides, body)
    opened = recipe.source
    assert opened is not None
    new = recipe.values["init_from"]["new"]
    folder = Path(run_dir or Path("runs") / recipe.name)
    growth = Growth(opened, old_data(opened, pairs(records, "--records", "FILES"), recipe.values["data"]), new, factor(body))
    first = int(os.environ.get("LOCAL_RANK", 0)) == 0 and int(os.environ.get("RANK", 0)) == 0
    if first:
        check_free(folder, resume)
    if first and not (resume and (folder / STEP0 / PROOF).exists()):
        growth.prepare()
    return train(recipe, _files(pairs(add, "--add", RECIPE)), str(folder), resume, devices, checkpoint_every, growth)


def report(folder: Path) -> str:
    """What became of the old modalities, of a run that is done."""
    facts = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return "\n".join([*lines(facts["grown"], facts["skill"]), f"step 0: {folder / STEP0}", f"report: {folder / 'report.html'}"])


# -- the grown recipe ----------------------------------------------------------------------------------------------------------


def compose(source: str, add: Sequence[str], overrides: Sequence[str] = (), body: str = FROZEN) -> Recipe:
    """The recipe of the grown model; see ``grow``.

    Raises:
        BadRecipe: a name is taken or is not described, a part does not fit the model's, new data are missing.
    """
    added = pairs(add, "--add", RECIPE)
    if not added:
        raise BadRecipe(f"nothing is added: give --add NAME={RECIPE}")
    share, opened = factor(body), open_source(source)
    theirs = opened.values["model"]
    old, objective, modalities = list(theirs["modalities"]), theirs["objective"], dict(theirs["modalities"])
    parts: dict[str, dict[str, Any]] = {}
    for name, path in added.items():
        if name in old:
            raise BadRecipe(f"--add {name}={path}: {source} has a modality of that name already; it has {', '.join(old)}")
        parts[name] = part = _described(name, path, theirs)
        objective = join(objective, part["model"]["objective"], list(modalities), name, path)
        modalities |= part["model"]["modalities"]
    given = {key: {k: v for part in parts.values() for k, v in part["data"][key].items()} for key in BY_MODALITY}
    run = _of_run(parts, added)
    composed = {
        "plugins": list(dict.fromkeys([*opened.values["plugins"], *(p for part in parts.values() for p in part["plugins"])])),
        "seed": run["seed"],
        "init_from": {"source": source, "new": list(added)},
        "model": {
            "modalities": modalities,
            "decoder": theirs["decoder"],
            "objective": objective,
            "optimizer": run["optimizer"],
            "adapter": {"class_path": "NewModalities", "init_args": {"old": old, "body": share}},
        },
        "data": {**run["data"], **given},
        "trainer": run["trainer"],
    }
    values = copy.deepcopy(composed)  # what the source says of itself stays as it is
    for key, value in parse_overrides(overrides):
        if key in ("adapter", "init_from") or key.startswith(("model.adapter", "init_from.")):
            raise BadRecipe(f"--{key}: a growing model learns what is new; --body says what becomes of the rest")
        set_value(values, key, value)
    recipe = settled(values, f"{Path(source).name}-{'-'.join(added)}", _files(added), opened)
    _check_data(recipe.values["data"], added, old, share)
    return recipe


def _described(name: str, path: str, theirs: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe says of one modality and of its run, resolved; the encoder is the model's."""
    values = load(path)
    plugins.require(values.get("plugins"), path)
    model = values["model"] if isinstance(values.get("model"), dict) else {}
    described = model["modalities"] if isinstance(model.get("modalities"), dict) else {}
    if name not in described:
        raise BadRecipe(f"{path}: describes no modality {name!r} in model.modalities. {did_you_mean(name, described)}")
    for key in ("init_from", "adapter"):
        if values.get(key) is not None or model.get(key) is not None:
            raise BadRecipe(f"{path}: {key} cannot stand in the recipe of what is added, which is new; --body says the rest")
    if "objective" not in model:
        raise BadRecipe(f"{path}: model.objective is missing; it says how {name!r} is masked and what is predicted")
    if aside := [key for key in ("encoder", "decoder", "modality_vector") if key in model]:
        log.info("%s: left aside for what the model has: %s", path, ", ".join(aside))
    alone = {
        "modalities": {name: described[name]},
        "encoder": theirs["encoder"],
        "objective": narrowed(model["objective"], set(described) - {name}, set(described)),
    }
    part = resolve({**values, "model": {**model, **alone}}, path)
    data = part["data"]
    held = {
        "cards": {card: share for card, share in (data["cards"] or {}).items() if modality_of(card) == name},
        **{key: {n: files for n, files in (data[key] or {}).items() if n == name} for key in ("files", "test")},
    }
    return {**part, "data": {**data, **held}}


def _of_run(parts: Mapping[str, Mapping[str, Any]], added: Mapping[str, str]) -> dict[str, Any]:
    """How the first recipe trains; says aloud where another one would train otherwise."""
    runs = {
        added[name]: {
            "seed": part["seed"],
            "optimizer": part["model"]["optimizer"],
            "data": {key: value for key, value in part["data"].items() if key not in BY_MODALITY},
            "trainer": part["trainer"],
        }
        for name, part in parts.items()
    }
    first, *others = runs
    for path in others:
        if differing := [key for key in runs[path] if runs[path][key] != runs[first][key]]:
            log.info("%s: its %s differ from those of %s, which are taken", path, ", ".join(differing), first)
    return runs[first]


def _check_data(data: Mapping[str, Any], added: Mapping[str, str], old: Sequence[str], share: float) -> None:
    """Raises BadRecipe where a new modality has no data; says aloud where old data are there for nothing."""
    present = {*(data["files"] or {}), *map(modality_of, data["cards"] or {})}
    for name, path in added.items():
        if name not in present:
            raise BadRecipe(f"{path}: has no data of {name!r}; give --data.files.{name} FILES")
    replayed = [name for name in old if name in present]
    if replayed and not share:
        log.warning("the data of %s teach nothing while all that the model had is frozen; give --body 0.1", ", ".join(replayed))


def _files(added: Mapping[str, str]) -> str:
    """The recipes, for errors."""
    return ", ".join(dict.fromkeys(added.values()))


def factor(body: str) -> float:
    """The learning rate's factor on what a model had. Raises BadRecipe where it is none."""
    try:
        value = 0.0 if body == FROZEN else float(body)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1 or (body != FROZEN and value == 0):
        raise BadRecipe(f"--body {body}: give 'frozen', or a factor on the learning rate above 0 and at most 1, as 0.1")
    return value


def pairs(words: Sequence[str], option: str, value: str) -> dict[str, str]:
    """``NAME=VALUE`` words. Raises BadRecipe where one is none, or a name is given twice."""
    found: dict[str, str] = {}
    for word in words:
        name, is_pair, right = word.partition("=")
        if not is_pair or not name or not right:
            raise BadRecipe(f"{option} {word}: give a name and what it is, {option} NAME={value}")
        if name in found:
            raise BadRecipe(f"{option}: {name!r} is given twice, {found[name]} and {right}; keep one")
        found[name] = right
    return found
