"""ViT of the transformers library.

Shape suffixes: N tokens of a record, D width, V output size; p side of a patch, c colour channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from mmm.core.modality import Assets
from mmm.core.tokens import Piece

from . import _vision as vision
from .architecture import Architecture, Original
from .links import Link, layer


class Vit(Architecture):
    """ViT, arXiv:2010.11929: the encoder of any model that has one, with the pixel head of masked image modelling (SimMIM,
    arXiv:2111.09886) where it is in the checkpoint and answers for one patch a token.

    That head was trained on absolute differences of pixels; here it goes on with squared ones.
    """

    def reads(self, original: Original) -> bool:
        return original.library == "transformers" and original.config["model_type"] == "vit"

    def model(self, original: Original) -> dict[str, Any]:
        objective: Any = "NoObjective"
        if _headed(original.config, original.model.state_dict().keys()):
            objective = {
                "class_path": "MaskedModeling",
                "init_args": {
                    "masking": {"image": {"class_path": "Uniform", "init_args": {"rate": 0.6}}},
                    "corruption": "MaskVector",
                    "targets": {"image": "Pixels"},
                },
            }
        return {
            "modalities": vision.image_section(original, positions="learned"),
            "encoder": vision.encoder_section(original, qkv_bias=original.config["qkv_bias"]),
            "objective": objective,
        }

    def assets(self, original: Original) -> dict[str, Assets]:
        found = vision.processor_assets(original)
        if _headed(original.config, original.model.state_dict().keys()):
            found["targets/image/Pixels"] = {}  # it has nothing to remember
        return found

    def links(self, config: Mapping[str, Any], names: Set[str]) -> list[Link]:
        base = "vit." if any(n.startswith("vit.") for n in names) else ""
        links = vision.embedding_links(f"{base}embeddings", names, config, config.get("mmm_positions", "learned"))
        stack = vision.layer_prefix(base, names)
        for i in range(config["num_hidden_layers"]):
            links += vision.block_links(f"{stack}.{i}", f"encoder.blocks.{i}", names)
        links += layer(f"{base}layernorm", "encoder.norm")
        if _headed(config, names):
            links += _head(config["num_channels"])
        return links

    def pieces(self, training: Any) -> list[Piece]:
        return vision.image_pieces(training)

    def ask(self, model: nn.Module, piece: Piece) -> tuple[Tensor, Tensor | None]:
        config: Any = model.config
        pixels = vision.pixels_of(piece, config.num_channels, _one(config.image_size))
        hidden_ND = getattr(model, "vit", model)(pixels).last_hidden_state[0]
        if not _headed(config.to_dict(), model.state_dict().keys()):
            return hidden_ND, None
        product: Any = model.decoder[0]  # type: ignore[index]
        logits_NV = F.linear(hidden_ND, product.weight[:, :, 0, 0], product.bias)
        return hidden_ND, rearrange(logits_NV, "n (c p) -> n (p c)", c=config.num_channels)

    def export(self, training: Any) -> Original:
        from transformers import ViTConfig, ViTForMaskedImageModeling, ViTModel

        modality, encoder = vision.parts(training, "Readout")
        heads = training.model.heads
        headed = [*heads] == ["image/Pixels"] and heads["image/Pixels"].kind == "linear"
        vision.misfit(
            {
                "other specials than one CLS": not modality.cls or bool(modality.registers),
                "no absolute positions": modality.positions == "none",
                "a norm of the embedding": modality.with_norm,
                "no last norm": not encoder.last_norm,
                "layer scale": encoder.scale is not None,
                "relative positions": encoder.grid is not None,
                f"heads {', '.join(heads)}": bool(heads) and not headed,
            }
        )
        patch = modality.tokenizer.patch
        config = ViTConfig(**vision.config_of(modality, encoder), qkv_bias=encoder.qkv_bias, encoder_stride=patch)
        model = ViTForMaskedImageModeling(config) if headed else ViTModel(config, add_pooling_layer=False)
        values = config.to_dict() | {"mmm_positions": modality.positions}
        return Original("export", "transformers", values, model.eval(), headed=headed)

    def save_files(self, training: Any, folder: Path) -> None:
        vision.save_processor(training, folder)


def _one(size: Any) -> int:
    return size if isinstance(size, int) else int(size[0])


def _headed(config: Mapping[str, Any], names: Set[str]) -> bool:
    """Whether the pixel head is there and answers for as many pixels as a patch has."""
    return "decoder.0.weight" in names and config["encoder_stride"] == _one(config["patch_size"])


def _head(channels: int) -> list[Link]:
    """A convolution of 1 x 1 whose outputs are shuffled to pixels (c p q), as our product to rows (p q c)."""
    return [
        Link(
            ("decoder.0.weight",),
            ("heads.image/Pixels.output.weight",),
            lambda x: (rearrange(x, "(c p) d 1 1 -> (p c) d", c=channels),),
            lambda x: (rearrange(x, "(p c) d -> (c p) d 1 1", c=channels),),
        ),
        Link(
            ("decoder.0.bias",),
            ("heads.image/Pixels.output.bias",),
            lambda x: (rearrange(x, "(c p) -> (p c)", c=channels),),
            lambda x: (rearrange(x, "(p c) -> (c p)", c=channels),),
        ),
    ]
