"""What the models of several libraries that read sound have in common.

Shape suffixes: none.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from mmm.core.errors import BadRecipe

from ._vision import ACTIVATIONS, activation, refuse
from .architecture import Misfit, Original
from .links import Link

log = logging.getLogger("mmm")

PROCESSOR = "preprocessor_config.json"


def feature_extractor(original: Original, kind: str) -> dict[str, Any] | None:
    """The settings of the source's feature extractor; None, said aloud, where it has none.

    Args:
        kind: the class it must be of.

    Raises:
        ValueError: it is of another class, or no file that can be read.
    """
    from transformers.models.auto.feature_extraction_auto import get_feature_extractor_config

    try:
        values = get_feature_extractor_config(original.source)
    except Exception as error:  # the library raises many kinds
        raise BadRecipe(f"{original.source}: its {PROCESSOR} cannot be read: {' '.join(str(error).split())[:300]}") from error
    if not values:
        log.warning("%s has no %s: its input is taken as it is given", original.source, PROCESSOR)
        return None
    found = values.get("feature_extractor_type", kind)
    if found != kind:
        raise refuse(original, "feature_extractor_type", found, f"its sound is prepared by a {kind}")
    if values.get("feature_size", 1) != 1:
        raise refuse(original, "feature_size", values["feature_size"], "sound has one channel")
    return dict(values)


def transformer(original: Original, **arguments: Any) -> dict[str, Any]:
    """The encoder section of a configuration in transformers' words; ``arguments`` go on top."""
    config = original.config
    init = {
        "width": config["hidden_size"],
        "depth": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "ff": config["intermediate_size"],
        "activation": activation(original, config["hidden_act"]),
        "eps": config["layer_norm_eps"],
    }
    return {"class_path": "Transformer", "init_args": init | arguments}


def say_no_mask(original: Original) -> None:
    """Said of an original that never learned a mask vector, or lost it."""
    log.warning("%s has no mask vector: it is zero here, until it is trained", original.source)


def no_mask(width: int, ours: str) -> Link:
    """The mask vector of a modality whose original has none: zero, until it is trained."""
    return Link((), (f"{ours}.mask",), lambda: (torch.zeros(width),), lambda mask: ())


# -- the way out ---------------------------------------------------------------------------------------------------------------


def parts(training: Any, name: str, kind: str) -> tuple[Any, Any]:
    """(modality, Transformer) of a model that an encoder of sound can hold.

    Args:
        name, kind: what its one modality is called, and of which class it is.

    Raises:
        Misfit: says which part it cannot hold.
    """
    model = training.model
    if model.names != (name,) or type(model.modalities[name]).__name__ != kind:
        raise Misfit(f"it reads {', '.join(model.names)}; this architecture reads one modality, {kind}, called {name}")
    modality, encoder = model.modalities[name], model.encoder
    misfit(
        {
            "an encoder that is no Transformer": type(encoder).__name__ != "Transformer",
            f"decoder {type(model.decoder).__name__}": type(model.decoder).__name__ != "Readout",
            "a modality vector": model.modality_vector is not None,
        }
    )
    misfit(
        {
            "RMS norms": encoder.kind != "layer",
            f"activation {encoder.activation}": encoder.activation not in ACTIVATIONS.values(),
            "products without a bias": not encoder.bias,
            "rotary positions": bool(encoder.rotary),
            "relative positions": encoder.grid is not None,
            "local attention": encoder.local is not None,
            "layer scale": encoder.scale is not None,
            "no first norm": not encoder.first_norm,
            "no last norm": encoder.order == "pre" and not encoder.last_norm,
        }
    )
    return modality, encoder


def misfit(found: Mapping[str, bool]) -> None:
    """Raise Misfit naming the first thing that is there and has no place."""
    for what, there in found.items():
        if there:
            raise Misfit(f"it has {what}, which this architecture has not")


def config_of(encoder: Any) -> dict[str, Any]:
    """What configurations of transformers share, of our encoder."""
    return {
        "hidden_size": encoder.width,
        "num_hidden_layers": encoder.depth,
        "num_attention_heads": encoder.heads,
        "intermediate_size": encoder.ff,
        "hidden_act": next(theirs for theirs, ours in ACTIVATIONS.items() if ours == encoder.activation),
        "layer_norm_eps": encoder.eps,
    }
