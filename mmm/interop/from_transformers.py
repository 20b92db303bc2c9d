"""Models of the transformers library, from a folder or a hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmm.core.errors import BadRecipe

from .architecture import Original
from .library import Library

HEADED = ("AutoModelForMaskedLM", "AutoModelForPreTraining", "AutoModelForMaskedImageModeling")
"""Classes with a head that predicts what is masked, by preference."""


class Transformers(Library):
    """A folder with config.json and weights, or a name on the hub."""

    def claims(self, source: str) -> bool:
        """A folder whose config.json names a model type."""
        config = Path(source) / "config.json"
        return config.is_file() and "model_type" in _json(config)

    def open(self, source: str) -> Original:
        """The model with its masked-modelling head where the weights have one, else the bare encoder.

        Raises:
            ValueError: no such folder or name, a file that is cut short, pickled code, parameters that are missing.
        """
        import transformers

        folder = Path(source)
        try:
            config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
        except Exception as error:  # the library raises many kinds
            raise BadRecipe(f"{source}: no configuration of a model could be read: {_line(error)}") from error
        lacking: set[str] = set()
        for name in (*_unlisted(config), *(c for c in HEADED if _known(c, config)), "AutoModel"):
            model, info = self._load(getattr(transformers, name), source, config)
            missing = {k for k in info["missing_keys"] if "pooler" not in k}
            if not missing and not info["mismatched_keys"]:
                headed = name != "AutoModel"
                skipped = sorted(info["unexpected_keys"])
                at = folder if folder.is_dir() else _cached(source)
                return Original(source, "transformers", config.to_dict(), model.eval().float(), at, headed, skipped)
            lacking = missing | {str(k[0]) for k in info["mismatched_keys"]}
        raise BadRecipe(
            f"{source}: its weights lack {len(lacking)} parameters of a {config.model_type} of its configuration, "
            f"such as {', '.join(sorted(lacking)[:3])}; the weights and config.json do not belong together"
        )

    def _load(self, cls: Any, source: str, config: Any) -> tuple[Any, dict[str, Any]]:
        import torch

        with silent():
            try:
                return cls.from_pretrained(  # type: ignore[no-any-return]
                    source,
                    config=config,
                    trust_remote_code=False,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,
                    dtype=torch.float32,
                    attn_implementation="eager",
                )
            except Exception as error:
                raise BadRecipe(f"{source}: its weights cannot be read safely: {_line(error)}") from error


def _unlisted(config: Any) -> list[str]:
    """The class the weights were saved from, where it predicts what is masked and no auto class lists it (BEiT's)."""
    import transformers

    return [a for a in config.architectures or () if a.endswith("ForMaskedImageModeling") and hasattr(transformers, a)]


def _known(auto: str, config: Any) -> bool:
    """Whether this class of heads knows the configuration's type."""
    import transformers

    return type(config) in getattr(transformers, auto)._model_mapping


def _cached(source: str) -> Path | None:
    """The folder of a hub name's files on this machine."""
    from transformers.utils.hub import cached_file

    found = cached_file(source, "config.json")
    return Path(found).parent if found else None


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadRecipe(f"{path}: no JSON that can be read: {error}") from error
    return value if isinstance(value, dict) else {}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


@contextmanager
def silent() -> Iterator[None]:
    """The library reports what it loads; what matters of it is reported by us."""
    import transformers

    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()
