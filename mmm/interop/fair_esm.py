"""ESM-2, ESM-1b and ESM-1v under the names of fair-esm.

Shape suffixes: N tokens of a record, D width, V output size.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmm.core.tokens import Piece

from ._ids import head_of, part, position_rows, vocabulary_head
from ._vocabularies import Found
from .architecture import Misfit, Original
from .esm import Esm
from .links import Link, fused, layer, same


class FairEsmModel(Esm):
    """The same models as ``Esm`` reads from transformers, under the names they were published with."""

    def reads(self, original: Original) -> bool:
        return original.library == "fair-esm"

    def vocabulary(self, original: Original) -> Found:
        """fair-esm's own."""
        return Found("protein", Path(), {})

    def links(self, config: Mapping[str, Any], names: Set[str]) -> list[Link]:
        ours = part(config)
        links = [
            same("embed_tokens.weight", f"{ours}.embedding.weight"),
            *layer("emb_layer_norm_after", "encoder.norm"),
            *vocabulary_head(head_of(config), "lm_head.dense", "lm_head.layer_norm", "lm_head.weight", ["lm_head.bias"], True),
        ]
        if "embed_positions.weight" in names:
            links.append(position_rows("embed_positions.weight", f"{ours}.position.table", int(config["pad_token_id"]) + 1))
        if "emb_layer_norm_before.weight" in names:
            links += layer("emb_layer_norm_before", f"{ours}.norm")
        for i in range(config["num_hidden_layers"]):
            theirs, block = f"layers.{i}", f"encoder.blocks.{i}"
            links += [
                *fused([f"{theirs}.self_attn.{p}_proj" for p in "qkv"], f"{block}.attention.qkv"),
                *layer(f"{theirs}.self_attn.out_proj", f"{block}.attention.out"),
                *layer(f"{theirs}.self_attn_layer_norm", f"{block}.norm1"),
                *layer(f"{theirs}.fc1", f"{block}.mlp.up"),
                *layer(f"{theirs}.fc2", f"{block}.mlp.down"),
                *layer(f"{theirs}.final_layer_norm", f"{block}.norm2"),
            ]
        return links

    def ask(self, model: nn.Module, piece: Piece) -> tuple[Tensor, Tensor | None]:
        last: Any = model.num_layers
        answer = model(piece.content[None], repr_layers=[last])
        return answer["representations"][last][0], answer["logits"][0]

    def export(self, training: Any) -> Original:
        raise Misfit("weights are written for transformers, not for fair-esm")
