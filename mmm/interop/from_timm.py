"""Models of the timm library, by name or from a folder as timm writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmm.core.errors import BadRecipe, did_you_mean

from .architecture import Original
from .library import Library

PREFIXES = ("timm/", "timm:")


class Timm(Library):
    """A model's name (``vit_tiny_patch16_224``, with a tag or without, alone or after ``timm/`` or ``timm:``), or a folder
    whose config.json names an architecture of timm.
    """

    def claims(self, source: str) -> bool:
        """Names are those timm knows; the folder's file is read, no weights."""
        if Path(source).exists():
            return "architecture" in (values := _config(source)) and "model_type" not in values
        if source.startswith(PREFIXES):
            return True
        if not source or any(c in source for c in "/\\: "):
            return False
        import timm

        return bool(timm.is_model(source))

    def open(self, source: str) -> Original:
        """The model with its pretrained weights.

        Raises:
            ValueError: no such name, weights that are neither here nor to be had, a file that is cut short, pickled code.
        """
        import timm

        folder = Path(source) if Path(source).is_dir() else None
        name = source[len("timm/") :] if folder is None and source.startswith(PREFIXES) else source
        if folder is None and not timm.is_model(name):
            raise BadRecipe(f"{source}: timm has no model of this name. {_nearest(name)}")
        try:
            model = timm.create_model(name if folder is None else f"local-dir:{folder}", pretrained=True)
        except Exception as error:  # the library and the hub raise many kinds
            told = " ".join(str(error).split())[:300] or type(error).__name__
            where = (
                "its weights are neither in the hub's cache nor can they be fetched"
                if folder is None
                else "cannot be read safely"
            )
            raise BadRecipe(f"{source}: {where}: {told}") from error
        return Original(source, "timm", describe(model), model.eval().float(), folder, headed=False)


def describe(model: Any) -> dict[str, Any]:
    """What a built model says of itself, as plain values: its architecture, how it reads pictures, and where tokens stand."""
    from timm.data import resolve_model_data_config

    kept = ("in_chans", "num_prefix_tokens", "num_reg_tokens", "no_embed_class", "embed_dim")
    data = json.loads(json.dumps(resolve_model_data_config(model)))
    size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if size is not None:  # of the model as built; its configuration may tell that of the weights' first training
        data["input_size"] = [model.in_chans, *size]
    return {
        "architecture": model.pretrained_cfg.get("architecture"),
        "pretrained_cfg": {k: v for k, v in model.pretrained_cfg.items() if k not in ("file", "state_dict")},
        "data": data,
        **{k: getattr(model, k) for k in kept if hasattr(model, k)},
    }


def _config(folder: str) -> dict[str, Any]:
    path = Path(folder) / "config.json"
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadRecipe(f"{path}: no JSON that can be read: {error}") from error
    return values if isinstance(values, dict) else {}


def _nearest(name: str) -> str:
    import timm

    known = timm.list_models()
    return did_you_mean(name, known).partition("Choices:")[0] + f"It has {len(known)}: timm.list_models()."
