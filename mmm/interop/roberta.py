"""RoBERTa and models of its shape in the transformers library.

Shape suffixes: none.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from ._bert_like import BertLike
from ._ids import Own, head_of, vocabulary_head
from .architecture import Original
from .links import Link


class Roberta(BertLike):
    """RoBERTa, arXiv:1907.11692; XLM-R, arXiv:1911.02116; data2vec for text, arXiv:2202.03555. Positions begin after that of
    padding."""

    kinds = ("roberta", "xlm-roberta", "camembert", "data2vec-text")
    prefixes = ("roberta.", "data2vec_text.")

    def unused(self, config: Mapping[str, Any]) -> int:
        return int(config["pad_token_id"]) + 1

    def links(self, config: Mapping[str, Any], names: Set[str]) -> list[Link]:
        links = super().links(config, names)
        if "lm_head.decoder.weight" in names:
            biases = [n for n in ("lm_head.decoder.bias", "lm_head.bias") if n in names]
            tied = config.get("tie_word_embeddings", True)
            head = head_of(config)
            links += vocabulary_head(head, "lm_head.dense", "lm_head.layer_norm", "lm_head.decoder.weight", biases, tied)
        return links

    def export(self, training: Any) -> Original:
        from transformers import RobertaConfig, RobertaForMaskedLM, RobertaModel

        own = Own.of(training)
        settings = self.settings(own)
        positions = own.modality.ids.max_length + self.unused(settings)
        config = RobertaConfig(**settings, max_position_embeddings=positions)
        model = RobertaForMaskedLM(config) if own.head is not None else RobertaModel(config, add_pooling_layer=False)
        return own.original(model)
