"""BERT of the transformers library.

Shape suffixes: none.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from ._bert_like import BertLike
from ._ids import Own, head_of, refuse, vocabulary_head
from .architecture import Original
from .links import Link


class Bert(BertLike):
    """BERT, arXiv:1810.04805, with or without its masked-language head."""

    kinds = ("bert",)

    def head(self, original: Original) -> dict[str, Any] | None:
        if original.headed and original.config["hidden_act"] not in ("gelu", "gelu_python"):
            raise refuse(original, "hidden_act", "its masked-language head uses it, too, and ours has gelu")
        return super().head(original)

    def links(self, config: Mapping[str, Any], names: Set[str]) -> list[Link]:
        links, theirs = super().links(config, names), "cls.predictions"
        if f"{theirs}.decoder.weight" in names:
            dense, norm = f"{theirs}.transform.dense", f"{theirs}.transform.LayerNorm"
            biases = [n for n in (f"{theirs}.decoder.bias", f"{theirs}.bias") if n in names]
            tied = config.get("tie_word_embeddings", True)
            links += vocabulary_head(head_of(config), dense, norm, f"{theirs}.decoder.weight", biases, tied)
        return links

    def export(self, training: Any) -> Original:
        from transformers import BertConfig, BertForMaskedLM, BertModel

        own = Own.of(training)
        config = BertConfig(**self.settings(own), max_position_embeddings=own.modality.ids.max_length)
        return own.original(BertForMaskedLM(config) if own.head is not None else BertModel(config, add_pooling_layer=False))
