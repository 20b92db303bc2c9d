"""BERT of the transformers library, as text.

Shape suffixes: N tokens of a record, D width, V output size.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import torch
from torch import Tensor, nn

from mmm.core.modality import Assets
from mmm.core.tokens import Piece

from .architecture import Architecture, Original
from .links import Link, fused, layer, same
from .probe import id_pieces


class Bert(Architecture):
    """BERT, arXiv:1810.04805, with or without its masked-language head."""

    def reads(self, original: Original) -> bool:
        return original.library == "transformers" and original.config["model_type"] == "bert"

    def model(self, original: Original) -> dict[str, Any]:
        config = original.config
        return {
            "modalities": {
                "text": {
                    "class_path": "Text",
                    "init_args": {
                        "vocabulary": config["vocab_size"],
                        "max_length": config["max_position_embeddings"],
                        "positions": "learned",
                        "norm": True,
                        "eps": config["layer_norm_eps"],
                    },
                }
            },
            "encoder": {
                "class_path": "Transformer",
                "init_args": {
                    "width": config["hidden_size"],
                    "depth": config["num_hidden_layers"],
                    "heads": config["num_attention_heads"],
                    "ff": config["intermediate_size"],
                    "order": "post",
                    "eps": config["layer_norm_eps"],
                },
            },
            "objective": "NoObjective",
        }

    def assets(self, original: Original) -> dict[str, Assets]:
        from mmm.modalities.text import Text

        modality = Text(pretrained=str(original.folder))
        modality.fit([])
        return {"modalities/text": modality.assets()}

    def links(self, config: Mapping[str, Any], names: Set[str]) -> list[Link]:
        base = "bert." if any(n.startswith("bert.") for n in names) else ""
        theirs, ours = f"{base}embeddings", "modalities.text"
        links = [
            same(f"{theirs}.word_embeddings.weight", f"{ours}.embedding.weight"),
            # One type of token is what a single text has: its vector goes into every position.
            Link(
                (f"{theirs}.position_embeddings.weight", f"{theirs}.token_type_embeddings.weight"),
                (f"{ours}.position.table",),
                lambda position, kinds: (position + kinds[:1],),
                lambda position: (position, torch.zeros(config["type_vocab_size"], position.shape[1])),
            ),
            *layer(f"{theirs}.LayerNorm", f"{ours}.norm"),
        ]
        for i in range(config["num_hidden_layers"]):
            theirs, ours = f"{base}encoder.layer.{i}", f"encoder.blocks.{i}"
            query, key, value = (f"{theirs}.attention.self.{p}" for p in ("query", "key", "value"))
            links += [
                *fused((query, key, value), f"{ours}.attention.qkv"),
                *layer(f"{theirs}.attention.output.dense", f"{ours}.attention.out"),
                *layer(f"{theirs}.attention.output.LayerNorm", f"{ours}.norm1"),
                *layer(f"{theirs}.intermediate.dense", f"{ours}.mlp.up"),
                *layer(f"{theirs}.output.dense", f"{ours}.mlp.down"),
                *layer(f"{theirs}.output.LayerNorm", f"{ours}.norm2"),
            ]
        return links

    def pieces(self, training: Any) -> list[Piece]:
        tokenizer = training.modalities["text"].tokenizer
        return id_pieces(tokenizer.choices, tokenizer.cls, tokenizer.sep, tokenizer.mask, tokenizer.max_length)

    def ask(self, model: nn.Module, piece: Piece) -> tuple[Tensor, Tensor | None]:
        answer = model(input_ids=piece.content[None], output_hidden_states=True)
        return answer.hidden_states[-1][0], (answer.logits[0] if "logits" in answer else None)
