"""Models of ours as a folder: weights in safetensors, the recipe, the files of the fitted parts. Nothing in it is code.

Shape suffixes: none; tensors are only moved.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from torch import Tensor, nn

from mmm.core.errors import BadRecipe
from mmm.core.modality import Assets
from mmm.yaml import dump, load, loads

WEIGHTS, RECIPE, CONFIG, ASSETS, INDEX = "model.safetensors", "recipe.yaml", "config.json", "assets", "index.json"
MODEL_TYPE = "mmm"
"""What config.json of a folder that AutoModel reads calls a model of ours; it then holds the recipe."""


@dataclass(frozen=True)
class Parts:
    """What a folder holds.

    Args:
        recipe: as written. assets: of the fitted parts, by address. state: parameters, as ``Training.state_dict`` names them.
    """

    recipe: dict[str, Any]
    assets: dict[str, Assets]
    state: dict[str, Tensor]


def claims(folder: Path) -> bool:
    """Whether a folder is one of these, told without reading the weights."""
    if (folder / RECIPE).is_file() and (folder / WEIGHTS).is_file():
        return True
    return (folder / CONFIG).is_file() and _json(folder / CONFIG).get("model_type") == MODEL_TYPE


def read(folder: Path) -> Parts:
    """Everything in a folder.

    Raises:
        BadRecipe: a file is missing, cut short, or not what its name says; names it.
    """
    if (folder / RECIPE).is_file():
        return Parts(load(folder / RECIPE), read_assets(folder), _state(folder / WEIGHTS, {}))
    config = _json(folder / CONFIG)
    if not isinstance(config.get("recipe"), str):
        raise BadRecipe(f"{folder / CONFIG}: holds no recipe, which every model of ours has")
    return Parts(
        loads(config["recipe"], str(folder / CONFIG)), read_assets(folder), _state(folder / WEIGHTS, config.get("tied") or {})
    )


def write(folder: Path, recipe: Mapping[str, Any], assets: Mapping[str, Assets], module: nn.Module) -> None:
    """Write the weights of a module, the recipe and the assets."""
    from safetensors.torch import save_file

    tied = ties(module)
    state = {n: t.detach().clone().contiguous() for n, t in module.state_dict().items() if n not in tied}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt", **tied})
    (folder / RECIPE).write_text(dump(portable(recipe)), encoding="utf-8")
    write_assets(folder, assets)


def ties(module: nn.Module) -> dict[str, str]:
    """The names of parameters that are another one under a second name, and the first name of each."""
    first: dict[int, str] = {}
    named = module.state_dict(keep_vars=True).items()
    return {name: first[id(tensor)] for name, tensor in named if first.setdefault(id(tensor), name) != name}


def write_assets(folder: Path, assets: Mapping[str, Assets]) -> None:
    """Write the fitted parts' files, and an index of them: a part without any counts too."""
    (folder / ASSETS).mkdir(exist_ok=True)
    index = {address: sorted(files) for address, files in sorted(assets.items())}
    (folder / ASSETS / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    for address, files in assets.items():
        place = folder / ASSETS / address
        place.mkdir(parents=True, exist_ok=True)
        for file, data in files.items():
            (place / file).write_bytes(data)


def asset_files(index: Path) -> dict[str, list[str]]:
    """The files of each fitted part by its address, as an index tells.

    Raises:
        BadRecipe: there is no index, or it names files outside its folder.
    """
    listed = _json(index)
    check_inside(str(index), listed)
    return listed


def check_inside(where: str, listed: Mapping[str, Iterable[str]]) -> None:
    """Raises BadRecipe where an address, or the name of a file of it, would lie outside the folder it is written to."""
    for address, files in listed.items():
        for name in (address, *files):
            if ".." in PurePosixPath(name).parts or name.startswith("/") or "\\" in name or ":" in name:
                raise BadRecipe(f"{where}: {name!r} lies outside its folder; nothing of it is read")


def read_assets(folder: Path) -> dict[str, Assets]:
    """The fitted parts' files, by address.

    Raises:
        BadRecipe: one is missing; names it.
    """
    found: dict[str, Assets] = {}
    for address, files in asset_files(folder / ASSETS / INDEX).items():
        found[address] = {}
        for file in files:
            path = folder / ASSETS / address / file
            if not path.is_file():
                raise BadRecipe(f"{path}: missing; the model cannot read records without it, so copy the whole folder")
            found[address][file] = path.read_bytes()
    return found


def portable(value: Any) -> Any:
    """Plain values in which absolute paths, which mean nothing on another machine, are only their last part."""
    if isinstance(value, Mapping):
        return {k: portable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [portable(v) for v in value]
    if isinstance(value, str) and (value.startswith("~") or PurePosixPath(value).is_absolute()):
        return PurePosixPath(value).name or value
    if isinstance(value, str) and PureWindowsPath(value).is_absolute():
        return PureWindowsPath(value).name or value
    return value


def _state(path: Path, tied: Mapping[str, str]) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (the file is no mapping)
            tied = {**{n: o for n, o in (file.metadata() or {}).items() if o in state}, **tied}
    except (OSError, SafetensorError) as error:
        raise BadRecipe(f"{path}: no weights that can be read; it is missing or cut short ({error})") from error
    return {**state, **{name: state[other] for name, other in tied.items() if other in state}}


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadRecipe(f"{path}: no JSON that can be read: {error}") from error
    if not isinstance(value, dict):
        raise BadRecipe(f"{path}: expected a JSON object, found a {type(value).__name__}")
    return value
