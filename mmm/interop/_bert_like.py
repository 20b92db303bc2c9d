"""Encoders under BERT's parameter names: BERT, RoBERTa, ELECTRA and their kin.

Shape suffixes: D width, E width of the embedding, V rows of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from ._ids import IdModel, Own, activation, need, part, position_rows, refuse, unneeded
from .architecture import Original
from .links import Link, fused, layer, same


class BertLike(IdModel):
    """Learned positions, a norm after the embedding, norms after each residual sum."""

    prefixes: tuple[str, ...] = ("bert.",)
    """What the encoder's parameters begin with in a model with a head."""

    def unused(self, config: Mapping[str, Any]) -> int:
        """Rows of the positions that belong to padding."""
        return 0

    def modality(self, original: Original) -> dict[str, Any]:
        """Arguments of the modality."""
        config = original.config
        return {
            "max_length": config["max_position_embeddings"] - self.unused(config),
            "positions": "learned",
            "norm": True,
            "eps": config["layer_norm_eps"],
            "embedding": {"types": config["type_vocab_size"], "dropout": float(config["hidden_dropout_prob"])},
        }

    def encoder(self, original: Original) -> dict[str, Any]:
        """Arguments of the encoder."""
        config = original.config
        if config.get("position_embedding_type", "absolute") != "absolute":
            raise refuse(original, "position_embedding_type")
        return {
            "width": config["hidden_size"],
            "depth": config["num_hidden_layers"],
            "heads": config["num_attention_heads"],
            "ff": config["intermediate_size"],
            "order": "post",
            "activation": activation(original),
            "eps": config["layer_norm_eps"],
            "dropout": float(config["hidden_dropout_prob"]),
        }

    def head(self, original: Original) -> dict[str, Any] | None:
        """Settings of the head over the vocabulary."""
        if not original.headed:
            return None
        tied = original.config.get("tie_word_embeddings", True)
        return {"kind": "tied" if tied else "transform", "eps": original.config["layer_norm_eps"]}

    def model(self, original: Original) -> dict[str, Any]:
        return self.recipe(original, self.modality(original), self.encoder(original), self.head(original))

    def base(self, names: Set[str]) -> str:
        """What the encoder's parameters begin with here."""
        return next((p for p in self.prefixes if any(n.startswith(p) for n in names)), "")

    def links(self, config: Mapping[str, Any], names: Set[str]) -> list[Link]:
        base, ours = self.base(names), part(config)
        theirs = f"{base}embeddings"
        kinds = f"{theirs}.token_type_embeddings.weight"
        width = config.get("embedding_size") or config["hidden_size"]
        links = [
            same(f"{theirs}.word_embeddings.weight", f"{ours}.embedding.weight"),
            position_rows(f"{theirs}.position_embeddings.weight", f"{ours}.position.table", self.unused(config)),
            *layer(f"{theirs}.LayerNorm", f"{ours}.norm"),
        ]
        # A model of ours without token types gives zeros for them.
        types = config["mmm"]["types"]
        links.append(same(kinds, f"{ours}.kind.weight") if types else unneeded(kinds, config["type_vocab_size"], width))
        for i in range(config["num_hidden_layers"]):
            links += block_links(f"{base}encoder.layer.{i}", f"encoder.blocks.{i}")
        return links

    def settings(self, own: Own, width: int | None = None) -> dict[str, Any]:
        """Arguments of a foreign configuration for a model of ours; ``width``: what its embedding may have of its own.

        Raises:
            Misfit: where it does not fit.
        """
        encoder, modality = own.encoder, own.modality
        own.encoder_is(order="post", activation=("gelu", "gelu_tanh", "relu"), first_norm=True)
        own.modality_is("learned", True, width=width)
        need(
            own.head is None or encoder.activation == "gelu",
            f"its activation is {encoder.activation!r}, and its head's is 'gelu'",
        )
        dropout = {encoder.dropout, modality.settings.dropout}
        need(len(dropout) == 1, f"embedding and encoder have different dropout ({', '.join(map(str, sorted(dropout)))})")
        names = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}
        return {
            "vocab_size": modality.ids.size,
            "hidden_size": encoder.width,
            "num_hidden_layers": encoder.depth,
            "num_attention_heads": encoder.heads,
            "intermediate_size": encoder.ff,
            "hidden_act": names[encoder.activation],
            "hidden_dropout_prob": encoder.dropout,
            "attention_probs_dropout_prob": 0.0,
            "layer_norm_eps": own.eps(),
            "type_vocab_size": max(1, modality.settings.types),
            "pad_token_id": own.special("pad"),
            "bos_token_id": own.special("cls"),
            "eos_token_id": own.special("sep"),
            "tie_word_embeddings": own.head is None or own.head.kind == "tied",
        }


def block_links(
    theirs: str, ours: str, norm1: str = "attention.output.LayerNorm", norm2: str = "output.LayerNorm"
) -> list[Link]:
    """One layer."""
    query, key, value = (f"{theirs}.attention.self.{p}" for p in ("query", "key", "value"))
    return [
        *fused((query, key, value), f"{ours}.attention.qkv"),
        *layer(f"{theirs}.attention.output.dense", f"{ours}.attention.out"),
        *layer(f"{theirs}.{norm1}", f"{ours}.norm1"),
        *layer(f"{theirs}.intermediate.dense", f"{ours}.mlp.up"),
        *layer(f"{theirs}.output.dense", f"{ours}.mlp.down"),
        *layer(f"{theirs}.{norm2}", f"{ours}.norm2"),
    ]
