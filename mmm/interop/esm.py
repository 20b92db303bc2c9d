"""ESM-2 and ESM-1b of the transformers library.

Shape suffixes: none.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import torch
from torch import Tensor

from ._bert_like import block_links
from ._ids import IdModel, Own, head_of, need, part, position_rows, refuse, unneeded, vocabulary_head
from .architecture import Original
from .links import Link, layer, same

USUAL = 0.15 * 0.8
"""Share of masks in the pre-training of every ESM model: 15 % are asked, of those 80 % show the mask."""


class Esm(IdModel):
    """ESM-1b, Rives et al. 2021, doi:10.1073/pnas.2016239118; ESM-2, Lin et al. 2023, doi:10.1126/science.ade2574."""

    kinds = ("esm",)

    def model(self, original: Original) -> dict[str, Any]:
        config = original.config
        positions = config.get("position_embedding_type", "absolute")
        if positions not in ("absolute", "rotary"):
            raise refuse(original, "position_embedding_type", "absolute and rotary ones are read")
        if config.get("is_folding_model"):
            raise refuse(original, "is_folding_model", "the language model alone is read")
        modality = {
            "max_length": config["max_position_embeddings"] - _unused(config),
            "positions": "learned" if positions == "absolute" else "none",
            "norm": bool(config.get("emb_layer_norm_before")),
            "eps": config["layer_norm_eps"],
            "embedding": {"rescale": USUAL if config.get("token_dropout") else None},
        }
        encoder = {
            "width": config["hidden_size"],
            "depth": config["num_hidden_layers"],
            "heads": config["num_attention_heads"],
            "ff": config["intermediate_size"],
            "eps": config["layer_norm_eps"],
            "dropout": float(config["hidden_dropout_prob"] or 0.0),
        }
        if positions == "rotary":
            encoder |= {"rotary": 1, "theta": _theta(config), "half": _rounded(original)}
        tied = config.get("tie_word_embeddings", True)
        head = {"kind": "tied" if tied else "transform", "eps": config["layer_norm_eps"]} if original.headed else None
        return self.recipe(original, modality, encoder, head)

    def links(self, config: Mapping[str, Any], names: Set[str]) -> list[Link]:
        base = "esm." if any(n.startswith("esm.") for n in names) else ""
        ours, rows = part(config), f"{base}embeddings.position_embeddings.weight"
        links = [
            same(f"{base}embeddings.word_embeddings.weight", f"{ours}.embedding.weight"),
            *layer(f"{base}encoder.emb_layer_norm_after", "encoder.norm"),
        ]
        if rows in names:
            links.append(position_rows(rows, f"{ours}.position.table", _unused(config)))
        if config.get("emb_layer_norm_before"):
            links += layer(f"{base}embeddings.layer_norm", f"{ours}.norm")
        for i in range(config["num_hidden_layers"]):
            links += block_links(f"{base}encoder.layer.{i}", f"encoder.blocks.{i}", "attention.LayerNorm", "LayerNorm")
        if "lm_head.dense.weight" in names:
            biases = [n for n in ("lm_head.bias", "lm_head.decoder.bias") if n in names]
            tied = config.get("tie_word_embeddings", True)
            weight = "lm_head.decoder.weight"
            links += vocabulary_head(head_of(config), "lm_head.dense", "lm_head.layer_norm", weight, biases, tied)
        contacts = f"{base}contact_head.regression"
        if f"{contacts}.weight" in names:  # reads attention maps
            links.append(unneeded(f"{contacts}.weight", 1, config["num_hidden_layers"] * config["num_attention_heads"]))
            links.append(unneeded(f"{contacts}.bias", 1))
        return links

    def export(self, training: Any) -> Original:
        from transformers import EsmConfig, EsmForMaskedLM, EsmModel

        own = Own.of(training)
        encoder, modality = own.encoder, own.modality
        rotary = modality.positions == "none"
        own.encoder_is(order="pre", activation="gelu", rotary=1 if rotary else 0, first_norm=True, last_norm=True)
        own.modality_is("none" if rotary else "learned", None, rescale=(None, USUAL), dropout=0.0, types=(0, 1))
        need(not modality.settings.types, "it has a vector of the token type")
        pad = own.special("pad")
        config = EsmConfig(
            vocab_size=modality.ids.size,
            mask_token_id=modality.ids.mask,
            pad_token_id=pad,
            hidden_size=encoder.width,
            num_hidden_layers=encoder.depth,
            num_attention_heads=encoder.heads,
            intermediate_size=encoder.ff,
            hidden_dropout_prob=encoder.dropout,
            attention_probs_dropout_prob=0.0,
            max_position_embeddings=modality.ids.max_length + (0 if rotary else pad + 1),
            rope_theta=encoder.theta,
            layer_norm_eps=own.eps(),
            position_embedding_type="rotary" if rotary else "absolute",
            emb_layer_norm_before=modality.with_norm,
            token_dropout=modality.settings.rescale is not None,
            tie_word_embeddings=own.head is None or own.head.kind == "tied",
            bos_token_id=own.special("cls"),
            eos_token_id=own.special("sep"),
        )
        model: Any = EsmForMaskedLM(config) if own.head is not None else EsmModel(config, add_pooling_layer=False)
        if encoder.half_frequencies:
            turn = model.base_model.rotary_embeddings
            turn.inv_freq.copy_(turn.inv_freq.half())
        return own.original(model)


def _unused(config: Mapping[str, Any]) -> int:
    """Rows of learned positions that belong to padding; none where positions are rotary."""
    return 0 if config.get("position_embedding_type") == "rotary" else int(config["pad_token_id"]) + 1


def _theta(config: Mapping[str, Any]) -> float:
    return float(config.get("rope_theta") or 10000.0)


def _rounded(original: Original) -> bool:
    """Whether the frequencies of the rotary positions are those of half precision, as a checkpoint trained in it keeps them.

    Raises:
        BadRecipe: they are others altogether.
    """
    config = original.config
    width = config["hidden_size"] // config["num_attention_heads"]
    exact = 1.0 / (_theta(config) ** (torch.arange(0, width, 2).float() / width))
    kept: list[Tensor] = [t.float() for n, t in original.model.state_dict().items() if n.endswith("inv_freq")]
    if all(torch.allclose(t, exact, rtol=1e-5, atol=0.0) for t in kept):
        return False
    if all(torch.equal(t, exact.half().float()) for t in kept):
        return True
    raise refuse(original, "inv_freq", "the checkpoint's rotary frequencies are not those of its configuration")
