"""What the vision transformers of several libraries have in common.

Shape suffixes: N tokens of a record, D width, V output size; p side of a patch, c colour channels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe
from mmm.core.modality import Assets
from mmm.core.tokens import Piece
from mmm.nn.positions import sinusoidal

from .architecture import Misfit, Original
from .links import Link, fused, layer, patches, same

IMAGE = "modalities.image"
FILE = "preprocessor_config.json"

ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh"}
"""Of transformers' names; ours."""


def refuse(original: Original, switch: str, value: Any, why: str) -> BadRecipe:
    """The error that names a switch which has no counterpart here."""
    return BadRecipe(f"{original.source}: {switch} {value!r} has no counterpart here: {why}")


def side(original: Original, name: str, value: Any) -> int:
    """One number of a size that must be square."""
    sides = [value, value] if isinstance(value, int) else list(value)
    if len(set(sides)) != 1 or len(sides) != 2:
        raise refuse(original, name, value, "images and patches are square")
    return int(sides[0])


def activation(original: Original, name: str) -> str:
    """Ours of transformers' name."""
    if name not in ACTIVATIONS:
        raise refuse(original, "hidden_act", name, f"there are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def image_section(original: Original, **arguments: Any) -> dict[str, Any]:
    """The modality of a transformers vision model; ``arguments`` go on top."""
    config = original.config
    channels = config["num_channels"]
    if channels not in (1, 3):
        raise refuse(original, "num_channels", channels, "an image has 3 colours or 1 grey value")
    init = {
        "size": side(original, "image_size", config["image_size"]),
        "patch": side(original, "patch_size", config["patch_size"]),
        "channels": channels,
        "cls": True,
        "augment": False,
        "preprocess": "processor" if _processor(original) is not None else "given",
    }
    return {"image": {"class_path": "Image", "init_args": init | arguments}}


def encoder_section(original: Original, **arguments: Any) -> dict[str, Any]:
    """The encoder of a transformers vision model."""
    config = original.config
    init = {
        "width": config["hidden_size"],
        "depth": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "ff": config["intermediate_size"],
        "activation": activation(original, config["hidden_act"]),
        "eps": config["layer_norm_eps"],
        "dropout": float(config["hidden_dropout_prob"]),
    }
    return {"class_path": "Transformer", "init_args": init | arguments}


def _processor(original: Original) -> dict[str, Any] | None:
    """The settings of the source's image processor, as the library reads them; None where it has none.

    Raises:
        ValueError: there is a file, but no processor in it.
    """
    from transformers import AutoImageProcessor
    from transformers.models.auto.image_processing_auto import get_image_processor_config

    try:
        if not get_image_processor_config(original.source):
            return None
        values = AutoImageProcessor.from_pretrained(original.source, trust_remote_code=False).to_dict()
    except Exception as error:  # the library raises many kinds
        raise BadRecipe(
            f"{original.source}: its image processor cannot be read: {' '.join(str(error).split())[:300]}"
        ) from error
    return json.loads(json.dumps({k: v for k, v in values.items() if k != "auto_map"}, default=str))  # type: ignore[no-any-return]


def processor_assets(original: Original) -> dict[str, Assets]:
    """The image processor as an asset, where there is one."""
    values = _processor(original)
    return {"modalities/image": {} if values is None else {FILE: json.dumps(values, indent=2).encode()}}


# -- parameters ----------------------------------------------------------------------------------------------------------------


def reshaped(theirs: str, ours: str, inward: Callable[[Tensor], Tensor]) -> Link:
    """One parameter that has a leading axis or two of length 1 there."""
    return Link((theirs,), (ours,), lambda x: (inward(x),), lambda x: (x.view(*(1,) * (3 - x.ndim), *x.shape),))


def absent(ours: str, *shape: int) -> Link:
    """A parameter of ours that theirs has not: zeros, and never used by what theirs does."""
    return Link((), (ours,), lambda: (torch.zeros(*shape),), lambda _: ())


def fixed(theirs: str, grid: tuple[int, int], width: int, specials: int) -> Link:
    """A table of fixed sines that theirs keeps among its parameters, zeros at the specials: nothing here, made anew there."""

    def outward() -> tuple[Tensor, ...]:
        return (nn.functional.pad(sines(grid, width), (0, 0, specials, 0))[None],)

    return Link((theirs,), (), lambda _: (), outward)


def sines(grid: tuple[int, int], width: int) -> Tensor:
    """(cells, width) of ``sinusoidal`` over a grid, row by row."""
    cells = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1])).float()
    return sinusoidal(nn.functional.pad(cells, (1, 0)), width, 2)


def embedding_links(theirs: str, names: Set[str], config: Mapping[str, Any], positions: str) -> list[Link]:
    """Patches, CLS, mask vector and positions of transformers' vision models.

    Args:
        theirs: prefix of the embeddings. positions: learned, sinusoidal, or none.
    """
    width, channels = config["hidden_size"], config["num_channels"]
    cls, table = f"{theirs}.cls_token", f"{theirs}.position_embeddings"
    projection = f"{theirs}.patch_embeddings.projection"
    links = [
        patches(f"{projection}.weight", f"{IMAGE}.project.weight", channels),
        same(f"{projection}.bias", f"{IMAGE}.project.bias"),
    ]
    mask = f"{theirs}.mask_token"
    links.append(reshaped(mask, f"{IMAGE}.mask", torch.flatten) if mask in names else absent(f"{IMAGE}.mask", width))
    if positions == "learned":
        links.append(cls_and_positions(cls, table, f"{IMAGE}.specials", f"{IMAGE}.position.table"))
        return links
    links.append(reshaped(cls, f"{IMAGE}.specials", lambda x: x[0]))
    if positions == "sinusoidal":
        links.append(fixed(table, grid_of(config), width, 1))
    return links


def cls_and_positions(cls: str, table: str, specials: str, positions: str) -> Link:
    """CLS takes up its position; on the way back its position is zero."""
    return Link(
        (cls, table),
        (specials, positions),
        lambda c, t: (c[0] + t[0, :1], t[0, 1:]),
        lambda s, p: (s[None], nn.functional.pad(p, (0, 0, 1, 0))[None]),
    )


def grid_of(config: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and columns of patches of a transformers configuration with square sizes."""
    size, patch = (v if isinstance(v, int) else v[0] for v in (config["image_size"], config["patch_size"]))
    return (size // patch, size // patch)


def block_links(theirs: str, ours: str, names: Set[str]) -> list[Link]:
    """One layer of transformers' vision models, under the names it had up to version 5.2 or has since."""
    if f"{theirs}.attention.q_proj.weight" in names:
        qkv = [f"{theirs}.attention.{p}_proj" for p in "qkv"]
        out, up, down = f"{theirs}.attention.o_proj", f"{theirs}.mlp.fc1", f"{theirs}.mlp.fc2"
    else:
        qkv = [f"{theirs}.attention.attention.{p}" for p in ("query", "key", "value")]
        out, up, down = f"{theirs}.attention.output.dense", f"{theirs}.intermediate.dense", f"{theirs}.output.dense"
    links = [
        *fused(qkv, f"{ours}.attention.qkv", bias=f"{qkv[1]}.bias" in names),
        *layer(out, f"{ours}.attention.out"),
        *layer(up, f"{ours}.mlp.up"),
        *layer(down, f"{ours}.mlp.down"),
        *layer(f"{theirs}.layernorm_before", f"{ours}.norm1"),
        *layer(f"{theirs}.layernorm_after", f"{ours}.norm2"),
    ]
    if f"{qkv[0]}.bias" in names and f"{qkv[1]}.bias" not in names:
        links.append(no_key_bias(f"{qkv[0]}.bias", f"{qkv[2]}.bias", f"{ours}.attention.qkv.bias"))
    if f"{theirs}.lambda_1" in names:
        links += [same(f"{theirs}.lambda_{i}", f"{ours}.scale{i}") for i in (1, 2)]
    return links


def no_key_bias(query: str, value: str, ours: str) -> Link:
    """A key's bias adds one number to all products of a query, which softmax does not see: zero there, left out back."""
    return Link(
        (query, value),
        (ours,),
        lambda q, v: (torch.cat([q, torch.zeros_like(q), v]),),
        lambda whole: whole.chunk(3)[::2],
    )


def layer_prefix(base: str, names: Set[str]) -> str:
    """Where the layers of transformers' vision models stand, up to version 5.2 or since."""
    return f"{base}layers" if f"{base}layers.0.layernorm_before.weight" in names else f"{base}encoder.layer"


# -- the probe -----------------------------------------------------------------------------------------------------------------


def image_pieces(training: Any, records: int = 3) -> list[Piece]:
    """Random images, as rows of the model's own input."""
    tokenizer = training.modalities["image"].tokenizer
    grid = tokenizer.side // tokenizer.patch
    specials, cells = tokenizer.specials, grid**2
    places = torch.cartesian_prod(torch.arange(grid), torch.arange(grid))
    pieces = []
    for number in range(records):
        draw = Draw(0).stream("probe").at(number)
        content = 4 * draw.uniform(torch.arange(cells)[:, None], torch.arange(tokenizer.row)[None]) - 2
        pieces.append(
            Piece(
                torch.cat([torch.zeros(specials, tokenizer.row), content]),
                torch.cat([torch.full((specials, 2), -1), places]),
                maskable=torch.arange(specials + cells) >= specials,
            )
        )
    return pieces


def pixels_of(piece: Piece, channels: int, size: int) -> Tensor:
    """(1, c, size, size) as a foreign model takes it; what is beyond whole patches is zero, and nobody reads it."""
    assert piece.maskable is not None
    rows = piece.content[piece.maskable]
    grid, patch = round(len(rows) ** 0.5), round((rows.shape[1] / channels) ** 0.5)
    pixels = rearrange(rows, "(h w) (p q c) -> 1 c (h p) (w q)", h=grid, p=patch, c=channels)
    return nn.functional.pad(pixels, (0, size - pixels.shape[-1], 0, size - pixels.shape[-2]))


# -- the way out ---------------------------------------------------------------------------------------------------------------


def parts(training: Any, *decoders: str) -> tuple[Any, Any]:
    """(Image, Transformer) of a model that a vision transformer can hold.

    Args:
        decoders: class names of decoders that the architecture has a place for.

    Raises:
        Misfit: says which part it cannot hold.
    """
    model = training.model
    if model.names != ("image",) or type(model.modalities["image"]).__name__ != "Image":
        raise Misfit(f"it reads {', '.join(model.names)}; a vision transformer reads one modality, Image, called image")
    modality, encoder = model.modalities["image"], model.encoder
    misfit(
        {
            "an encoder that is no Transformer": type(encoder).__name__ != "Transformer",
            f"decoder {type(model.decoder).__name__}": type(model.decoder).__name__ not in decoders,
            "a modality vector": model.modality_vector is not None,
            "images of any size (size: null)": modality.tokenizer.side is None,
        }
    )
    misfit(
        {
            "RMS norms": encoder.kind != "layer",
            "norms after the residual sum": encoder.order != "pre",
            f"activation {encoder.activation}": encoder.activation not in ACTIVATIONS.values(),
            "products without a bias": not encoder.bias,
            "rotary positions": bool(encoder.rotary),
            "local attention": encoder.local is not None,
            "no first norm": not encoder.first_norm,
        }
    )
    return modality, encoder


def misfit(found: Mapping[str, bool]) -> None:
    """Raise Misfit naming the first thing that is there."""
    for what, there in found.items():
        if there:
            raise Misfit(f"it has {what}, which this architecture has not")


def config_of(modality: Any, encoder: Any) -> dict[str, Any]:
    """What the configurations of transformers' vision models share."""
    tokenizer = modality.tokenizer
    activation_name = next(theirs for theirs, ours in ACTIVATIONS.items() if ours == encoder.activation)
    return {
        "hidden_size": encoder.width,
        "num_hidden_layers": encoder.depth,
        "num_attention_heads": encoder.heads,
        "intermediate_size": encoder.ff,
        "hidden_act": activation_name,
        "layer_norm_eps": encoder.eps,
        "hidden_dropout_prob": encoder.dropout,
        "attention_probs_dropout_prob": 0.0,
        "image_size": tokenizer.side,
        "patch_size": tokenizer.patch,
        "num_channels": tokenizer.channels,
    }


def save_processor(training: Any, folder: Path) -> None:
    """The image processor as a preprocessor_config.json; none for a model that takes its input as given.

    One that was imported is written as it came. Of our own preprocessing a ``ViTImageProcessor`` is written: the shorter side
    to ``size`` (bicubic), the middle cut out, mean and std. It works on 8-bit tensors where we resize with PIL, so pixels
    differ by about 1/255 before normalisation, and it rounds the corner of an odd cut down where we round to the nearest even
    number. Pictures in colour are not turned grey by it: give a model of one channel grey ones.
    """
    values = processor_values(training.modalities["image"])
    if values is not None:
        Path(folder, FILE).write_text(json.dumps(values, indent=2), encoding="utf-8")


def processor_values(modality: Any) -> dict[str, Any] | None:
    """The settings of transformers' image processor that does what a modality does."""
    tokenizer = modality.tokenizer
    processor = tokenizer.processor
    if processor is not None and processor.file == FILE:
        return dict(processor.values)
    if modality.preprocess == "given":
        return None
    edge, crop, resample = tokenizer.side, "center", 3
    if processor is not None:
        edge = int(tokenizer.side / processor.values.get("crop_pct", 1.0))
        crop = processor.values.get("crop_mode", "center")
        resample = {"nearest": 0, "lanczos": 1, "bilinear": 2}.get(processor.values["interpolation"], 3)
    square = {"height": tokenizer.side, "width": tokenizer.side}
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": edge, "width": edge} if crop == "squash" else {"shortest_edge": edge},
        "resample": resample,
        "do_center_crop": True,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(tokenizer.mean),
        "image_std": list(tokenizer.std),
        "do_convert_rgb": tokenizer.channels == 3,
    }
