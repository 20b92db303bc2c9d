"""BEiT and what was built on it: relative positions, layer scale, no bias of keys, a last norm where nothing is pooled.

Shape suffixes: N tokens of a record, D width, V output size.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmm.core.modality import Assets
from mmm.core.tokens import Piece

from . import _vision as vision
from .architecture import Architecture, Original
from .links import Link, layer, same


class BeitLike(Architecture):
    """The encoder, and BEiT's head where it is there; what it answers are codes of a tokenizer that is not here."""

    kind: str
    prefix: str

    def reads(self, original: Original) -> bool:
        return original.library == "transformers" and original.config["model_type"] == self.kind

    def model(self, original: Original) -> dict[str, Any]:
        config = original.config
        own, shared = config["use_relative_position_bias"], config["use_shared_relative_position_bias"]
        if own and shared:
            raise vision.refuse(
                original, "use_shared_relative_position_bias", shared, "a table for all layers or one for each, not both"
            )
        rows, columns = vision.grid_of(config)
        relative = {"rows": rows, "columns": columns, "shared": shared} if own or shared else None
        scale = config["layer_scale_init_value"]
        objective: Any = "NoObjective"
        if "lm_head.weight" in original.model.state_dict():
            head = {"kind": "norm", "eps": config["layer_norm_eps"]}
            codes = {"class_path": "ForeignCodes", "init_args": {"size": config["vocab_size"]}}
            objective = {"class_path": "NoObjective", "init_args": {"targets": {"image": codes}, "heads": {"image": head}}}
        return {
            "modalities": vision.image_section(original, positions=_positions(config)),
            "encoder": vision.encoder_section(
                original,
                scale=scale if scale > 0 else None,
                last_norm=not config["use_mean_pooling"],
                relative=relative,
            ),
            "objective": objective,
        }

    def assets(self, original: Original) -> dict[str, Assets]:
        return vision.processor_assets(original)

    def links(self, config: Mapping[str, Any], names: Set[str]) -> list[Link]:
        base = f"{self.prefix}." if any(n.startswith(f"{self.prefix}.") for n in names) else ""
        links = vision.embedding_links(f"{base}embeddings", names, config, config.get("mmm_positions", _positions(config)))
        stack = vision.layer_prefix(base, names)
        for i in range(config["num_hidden_layers"]):
            theirs, ours = f"{stack}.{i}", f"encoder.blocks.{i}"
            links += vision.block_links(theirs, ours, names)
            links += [same(n, f"{ours}.relative.table") for n in names if n.startswith(f"{theirs}.") and n.endswith(TABLE)]
        if config["use_shared_relative_position_bias"]:
            links += [same(n, "encoder.relative.table") for n in names if n.endswith(TABLE)]
        if not config["use_mean_pooling"]:
            links += layer(f"{base}layernorm", "encoder.norm")
        if "lm_head.weight" in names:
            links += layer("layernorm", "heads.image/ForeignCodes.transform")
            links += layer("lm_head", "heads.image/ForeignCodes.output")
        return links

    def pieces(self, training: Any) -> list[Piece]:
        return vision.image_pieces(training)

    def ask(self, model: nn.Module, piece: Piece) -> tuple[Tensor, Tensor | None]:
        config: Any = model.config
        size = config.image_size if isinstance(config.image_size, int) else config.image_size[0]
        pixels = vision.pixels_of(piece, config.num_channels, size)
        hidden_ND = getattr(model, self.prefix, model)(pixels).last_hidden_state[0]
        if not hasattr(model, "lm_head"):
            return hidden_ND, None
        return hidden_ND, model.lm_head(model.layernorm(hidden_ND))  # type: ignore[operator]

    def save_files(self, training: Any, folder: Path) -> None:
        vision.save_processor(training, folder)

    def settings(self, training: Any) -> dict[str, Any]:
        """The configuration that fits one of ours.

        Raises:
            Misfit: says which part it cannot hold; a plain ViT among them.
        """
        modality, encoder = vision.parts(training, "Readout")
        grid = encoder.grid
        side = modality.tokenizer.side // modality.tokenizer.patch
        vision.misfit(
            {
                "neither layer scale nor relative positions (it is a ViT)": encoder.scale is None and grid is None,
                "other specials than one CLS": not modality.cls or bool(modality.registers),
                "a norm of the embedding": modality.with_norm,
                "no biases of queries and values": not encoder.qkv_bias,
                "relative positions of another grid": grid is not None and (grid.rows, grid.columns) != (side, side),
            }
        )
        return vision.config_of(modality, encoder) | {
            "use_mask_token": True,
            "use_absolute_position_embeddings": modality.positions != "none",
            "use_relative_position_bias": grid is not None and not grid.shared,
            "use_shared_relative_position_bias": grid is not None and grid.shared,
            "layer_scale_init_value": encoder.scale or 0.0,
            "drop_path_rate": 0.0,
            "use_mean_pooling": not encoder.last_norm,
        }


TABLE = "relative_position_bias_table"


def _positions(config: Mapping[str, Any]) -> str:
    return "learned" if config["use_absolute_position_embeddings"] else "none"
