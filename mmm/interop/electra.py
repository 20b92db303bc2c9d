"""ELECTRA of the transformers library: generator, discriminator, bare encoder.

Shape suffixes: N tokens of a record, D width, V output size.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from torch import Tensor, nn

from mmm.core.tokens import Piece

from ._bert_like import BertLike
from ._ids import Own, head_of, need, part, refuse, vocabulary_head
from .architecture import Original
from .links import Link, layer


class Electra(BertLike):
    """ELECTRA, arXiv:2003.10555. The generator has BERT's head; the discriminator tells replaced tokens from original ones."""

    kinds = ("electra",)
    prefixes = ("electra.",)

    def modality(self, original: Original) -> dict[str, Any]:
        config, arguments = original.config, super().modality(original)
        if config["embedding_size"] != config["hidden_size"]:
            arguments["embedding"]["width"] = config["embedding_size"]
        return arguments

    def head(self, original: Original) -> dict[str, Any] | None:
        config = original.config
        if not original.headed:
            return None
        if any(n.startswith("discriminator_predictions.") for n in original.model.state_dict()):
            if config["hidden_act"] not in ("gelu", "gelu_python"):
                raise refuse(original, "hidden_act", "the discriminator's head uses it, too, and ours has gelu")
            return {"kind": "dense"}
        if not config.get("tie_word_embeddings", True) and config["embedding_size"] != config["hidden_size"]:
            raise refuse(original, "tie_word_embeddings", "a head of its own has the encoder's width here, not the embedding's")
        return super().head(original)

    def objective(self, name: str, head: dict[str, Any]) -> dict[str, Any]:
        if head["kind"] == "dense":
            return {"class_path": "NoObjective", "init_args": {"targets": {name: "Replaced"}, "heads": {name: head}}}
        return super().objective(name, head)

    def links(self, config: Mapping[str, Any], names: Set[str]) -> list[Link]:
        links, base = super().links(config, names), self.base(names)
        if f"{base}embeddings_project.weight" in names:
            links += layer(f"{base}embeddings_project", f"{part(config)}.project")
        theirs = "discriminator_predictions"
        if f"{theirs}.dense.weight" in names:
            head = head_of(config, "Replaced")
            links += [*layer(f"{theirs}.dense", f"{head}.transform.0"), *layer(f"{theirs}.dense_prediction", f"{head}.output")]
        theirs = "generator_predictions"
        if f"{theirs}.dense.weight" in names:
            weight, biases = "generator_lm_head.weight", ["generator_lm_head.bias"]
            tied = config.get("tie_word_embeddings", True)
            links += vocabulary_head(head_of(config), f"{theirs}.dense", f"{theirs}.LayerNorm", weight, biases, tied)
        return links

    def ask(self, model: nn.Module, piece: Piece) -> tuple[Tensor, Tensor | None]:
        hidden_ND, logits = super().ask(model, piece)
        return hidden_ND, logits[:, None] if logits is not None and logits.ndim == 1 else logits

    def export(self, training: Any) -> Original:
        from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining, ElectraModel

        own = Own.of(training)
        width, heads = own.modality.settings.width, training.model.heads
        config = ElectraConfig(
            **self.settings(own, width=width),
            embedding_size=width or own.encoder.width,
            max_position_embeddings=own.modality.ids.max_length,
        )
        address = f"{own.name}/Replaced"
        if address in heads:
            need(heads[address].kind == "dense", f"its head is {heads[address].kind!r}, not dense")
            return own.original(ElectraForPreTraining(config), headed=True)
        return own.original(ElectraForMaskedLM(config) if own.head is not None else ElectraModel(config))
