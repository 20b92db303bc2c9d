"""Vision transformers of the timm library.

Shape suffixes: N tokens of a record, D width, V output size.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Set
from typing import Any

import torch
from torch import Tensor, nn

from mmm.core.modality import Assets
from mmm.core.tokens import Piece

from . import _vision as vision
from .architecture import Architecture, Misfit, Original
from .from_timm import describe
from .links import Link, layer, patches, same

log = logging.getLogger("mmm")

TOKENS = ("cls_token", "dist_token", "reg_token")
"""In the order in which they stand in front."""

ACTIVATIONS = {"GELU": "gelu", "GELUTanh": "gelu_tanh", "ReLU": "relu"}
FILE = "data_config.json"
EPS = {1e-6: "vit_base_patch16_224", 1e-5: "vit_base_patch16_clip_224"}
"""Architectures whose norms have these, all else being an argument."""


class TimmVit(Architecture):
    """timm's VisionTransformer and its distilled form (DeiT, arXiv:2012.12877): what ``forward_features`` returns.

    Heads, pooling and a norm that comes after pooling (``fc_norm``) are left aside.
    """

    writes = "timm"

    writes = "timm"

    def reads(self, original: Original) -> bool:
        return original.library == "timm" and type(original.model).__name__ in (
            "VisionTransformer",
            "VisionTransformerDistilled",
        )

    def model(self, original: Original) -> dict[str, Any]:
        net: Any = original.model
        _check(original, net)
        first, stem = net.blocks[0], net.patch_embed
        scaled = hasattr(first.ls1, "gamma")
        return {
            "modalities": {
                "image": {
                    "class_path": "Image",
                    "init_args": {
                        "size": vision.side(original, "img_size", stem.img_size),
                        "patch": vision.side(original, "patch_size", stem.patch_size),
                        "channels": net.in_chans,
                        "cls": net.cls_token is not None,
                        "registers": net.num_prefix_tokens - (net.cls_token is not None),
                        "augment": False,
                        "positions": "none" if net.pos_embed is None else "learned",
                        "norm": isinstance(net.norm_pre, nn.LayerNorm),
                        "eps": getattr(net.norm_pre, "eps", 1e-5),
                        "preprocess": "processor",
                    },
                }
            },
            "encoder": {
                "class_path": "Transformer",
                "init_args": {
                    "width": net.embed_dim,
                    "depth": len(net.blocks),
                    "heads": first.attn.num_heads,
                    "ff": first.mlp.fc1.out_features,
                    "activation": ACTIVATIONS[type(first.mlp.act).__name__],
                    "eps": first.norm1.eps,
                    "scale": float(first.ls1.gamma.detach().mean()) if scaled else None,
                    "last_norm": isinstance(net.norm, nn.LayerNorm),
                    "qkv_bias": first.attn.qkv.bias is not None,
                },
            },
            "objective": "NoObjective",
        }

    def assets(self, original: Original) -> dict[str, Assets]:
        return {"modalities/image": {FILE: json.dumps(original.config["data"], indent=2).encode()}}

    def links(self, config: Mapping[str, Any], names: Set[str]) -> list[Link]:
        width, image = config["embed_dim"], vision.IMAGE
        links = [
            patches("patch_embed.proj.weight", f"{image}.project.weight", config["in_chans"]),
            vision.absent(f"{image}.mask", width),
            *_in_front(config, names),
        ]
        if "patch_embed.proj.bias" in names:
            links.append(same("patch_embed.proj.bias", f"{image}.project.bias"))
        elif "pos_embed" not in names:
            links.append(vision.absent(f"{image}.project.bias", width))
        if "norm_pre.weight" in names:
            links += layer("norm_pre", f"{image}.norm")
        for i in range(sum(n.startswith("blocks.") and n.endswith(".norm1.weight") for n in names)):
            theirs, ours = f"blocks.{i}", f"encoder.blocks.{i}"
            links += [
                *layer(f"{theirs}.norm1", f"{ours}.norm1"),
                *layer(f"{theirs}.attn.qkv", f"{ours}.attention.qkv", bias=f"{theirs}.attn.qkv.bias" in names),
                *layer(f"{theirs}.attn.proj", f"{ours}.attention.out"),
                *layer(f"{theirs}.norm2", f"{ours}.norm2"),
                *layer(f"{theirs}.mlp.fc1", f"{ours}.mlp.up"),
                *layer(f"{theirs}.mlp.fc2", f"{ours}.mlp.down"),
            ]
            if f"{theirs}.ls1.gamma" in names:
                links += [same(f"{theirs}.ls{k}.gamma", f"{ours}.scale{k}") for k in (1, 2)]
        if "norm.weight" in names:
            links += layer("norm", "encoder.norm")
        return links

    def pieces(self, training: Any) -> list[Piece]:
        return vision.image_pieces(training)

    def ask(self, model: nn.Module, piece: Piece) -> tuple[Tensor, Tensor | None]:
        net: Any = model
        return net.forward_features(vision.pixels_of(piece, net.in_chans, net.patch_embed.img_size[0]))[0], None

    def export(self, training: Any) -> Original:
        """Decoder and heads stay behind: timm has none for pre-training; the log says so."""
        import timm

        modality, encoder = vision.parts(training, "Readout", "TransformerDecoder")
        tokenizer = modality.tokenizer
        vision.misfit({"relative positions": encoder.grid is not None})
        if modality.with_norm and modality.eps != encoder.eps:
            raise Misfit(
                f"its embedding is normed with eps {modality.eps} and its blocks with {encoder.eps}; timm has one for both"
            )
        if encoder.eps > max(EPS):
            raise Misfit(f"its norms have eps {encoder.eps}; timm's have {' or '.join(map(str, EPS))}")
        eps = min((e for e in EPS if e >= encoder.eps * 0.999), default=max(EPS))
        if abs(eps / encoder.eps - 1) > 1e-3:
            log.warning("norms have eps %g here and %g in timm: outputs differ by as much", encoder.eps, eps)
        left = [*training.model.heads, *(["decoder"] if type(training.model.decoder).__name__ != "Readout" else [])]
        if left:
            log.warning("timm holds the encoder alone; left behind: %s", ", ".join(left))
        arguments = {
            "img_size": tokenizer.side,
            "patch_size": tokenizer.patch,
            "in_chans": tokenizer.channels,
            "num_classes": 0,
            "global_pool": "token" if modality.cls else "avg",
            "embed_dim": encoder.width,
            "depth": encoder.depth,
            "num_heads": encoder.heads,
            "mlp_ratio": (encoder.ff + 0.5) / encoder.width,  # rounded down there
            "qkv_bias": encoder.qkv_bias,
            "init_values": encoder.scale or 0.0,
            "class_token": bool(modality.cls),
            "reg_tokens": modality.registers,
            "no_embed_class": not modality.cls,
            "pos_embed": "none" if modality.positions == "none" else "learn",
            "pre_norm": modality.with_norm,
            "final_norm": encoder.last_norm,
            "fc_norm": False,
            "act_layer": encoder.activation,
        }
        reading = _reading(modality) | {"input_size": [tokenizer.channels, tokenizer.side, tokenizer.side]}
        overlay = reading | {"num_classes": 0, "fixed_input_size": True, "hf_hub_id": None, "url": ""}
        name = EPS[eps]
        model = timm.create_model(name, pretrained=False, pretrained_cfg_overlay=overlay, **arguments).eval()
        config = describe(model) | {"architecture": name, "model_args": arguments, "mmm_positions": modality.positions}
        return Original("export", "timm", config, model, headed=False)


def _check(original: Original, net: Any) -> None:
    """Raise ValueError naming the first switch that has no counterpart here."""
    found: dict[str, tuple[Any, str, bool]] = {
        "in_chans": (net.in_chans, "an image has 3 colours or 1 grey value", net.in_chans in (1, 3)),
        "embed_layer": _is(net.patch_embed, "PatchEmbed"),
        "embed_norm_layer": _is(net.patch_embed.norm, "Identity"),
    }
    for block in net.blocks:
        found |= {"block_fn": _is(block, "Block"), "attn_layer": _is(getattr(block, "attn", None), "Attention")}
        if found["block_fn"][2] and found["attn_layer"][2]:
            found |= {
                "norm_layer": _is(block.norm1, "LayerNorm"),
                "qk_norm": _is(block.attn.q_norm, "Identity"),
                "scale_attn_norm": _is(block.attn.norm, "Identity"),
                "gated": _is(getattr(block.attn, "gate", None), "NoneType"),
                "attn_head_dim": (
                    block.attn.head_dim,
                    "the heads share the width",
                    block.attn.head_dim * block.attn.num_heads == net.embed_dim,
                ),
                "proj_bias": (False, "products have biases", block.attn.proj.bias is not None),
                "mlp_layer": _is(block.mlp, "Mlp"),
            }
            if found["mlp_layer"][2]:
                found["scale_mlp_norm"] = _is(block.mlp.norm, "Identity")
                found["act_layer"] = _is(block.mlp.act, *ACTIVATIONS)
        for switch, (value, why, fits) in found.items():
            if not fits:
                raise vision.refuse(original, switch, value, why)


def _is(module: Any, *kinds: str) -> tuple[str, str, bool]:
    kind = type(module).__name__
    return kind, f"there is {', '.join(kinds).replace('Identity', 'none').replace('NoneType', 'none')}", kind in kinds


def _in_front(config: Mapping[str, Any], names: Set[str]) -> list[Link]:
    """The tokens in front and the positions: what stands in front takes up its own, which is zero on the way back."""
    tokens = tuple(t for t in TOKENS if t in names)
    sizes = [config["num_prefix_tokens"] - len(tokens) + 1 if t == "reg_token" else 1 for t in tokens]
    specials, table = f"{vision.IMAGE}.specials", f"{vision.IMAGE}.position.table"
    placed = 0 if config["no_embed_class"] else sum(sizes)

    def apart(s: Tensor) -> tuple[Tensor, ...]:
        return tuple(part[None] for part in s.split(sizes))

    if "pos_embed" not in names:
        return [Link(tokens, (specials,), lambda *t: (torch.cat(t, 1)[0],), apart)] if tokens else []
    if config.get("mmm_positions") == "sinusoidal":
        cells = config["data"]["input_size"][1] // config["model_args"]["patch_size"]
        links = [Link(tokens, (specials,), lambda *t: (torch.cat(t, 1)[0],), apart)] if tokens else []
        return [*links, vision.fixed("pos_embed", (cells, cells), config["embed_dim"], placed)]
    # Without a bias of the patches, ours is zero; on the way back it goes into the positions, where it does the same.
    biased = () if "patch_embed.proj.bias" in names else (f"{vision.IMAGE}.project.bias",)

    def inward(*theirs: Tensor) -> tuple[Tensor, ...]:
        position = theirs[-1][0]
        ours = [position[placed:], *(torch.zeros(position.shape[1]) for _ in biased)]
        if tokens:
            front = torch.cat(theirs[:-1], 1)[0]
            ours.insert(0, front + position[:placed] if placed else front)
        return tuple(ours)

    def outward(*ours: Tensor) -> tuple[Tensor, ...]:
        rest = ours[1:] if tokens else ours
        position = nn.functional.pad(rest[0] + sum(rest[1:]), (0, 0, placed, 0))[None]
        return (*(apart(ours[0]) if tokens else ()), position)

    return [Link((*tokens, "pos_embed"), (*((specials,) if tokens else ()), table, *biased), inward, outward)]


def _reading(modality: Any) -> dict[str, Any]:
    """How timm is to read pictures for one of ours."""
    processor = modality.tokenizer.processor
    if processor is not None and processor.file == FILE:
        return {k: v for k, v in processor.values.items() if k != "input_size"}
    values = vision.processor_values(modality)
    reading: dict[str, Any] = {
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "center",
        "mean": [*modality.tokenizer.mean],
        "std": [*modality.tokenizer.std],
    }
    if values is None or not values.get("do_resize", True):
        return reading | {"crop_mode": "squash"}
    reading["interpolation"] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}.get(values.get("resample"), "bicubic")
    edge = values["size"].get("shortest_edge")
    return reading | ({"crop_mode": "squash"} if edge is None else {"crop_pct": modality.tokenizer.side / edge})
