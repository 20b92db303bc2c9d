"""ModernBERT of the transformers library.

Shape suffixes: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any, Literal

from mmm.core.tokens import Piece

from ._ids import IdModel, Own, head_of, lacking, need, part, refuse
from .architecture import Original
from .links import Link, same
from .probe import LENGTHS, id_pieces

GATED = {"gelu": "geglu", "silu": "swiglu"}
"""Ours of an activation's name."""

FULL: Literal["full_attention"] = "full_attention"
SLIDING: Literal["sliding_attention"] = "sliding_attention"


class ModernBert(IdModel):
    """ModernBERT, arXiv:2412.13663."""

    kinds = ("modernbert",)

    def notes(self, original: Original) -> list[str]:
        rates = {n: original.config[n] for n in ("attention_dropout", "mlp_dropout") if original.config[n]}
        return [f"{n} ({rate}) is not taken over" for n, rate in rates.items()]

    def model(self, original: Original) -> dict[str, Any]:
        config = original.config
        if config["hidden_activation"] not in GATED:
            raise refuse(original, "hidden_activation", f"there are {', '.join(GATED)}")
        theta, local = _rotary(original)
        modality = {
            "max_length": config["max_position_embeddings"],
            "norm": True,
            "eps": config["norm_eps"],
            "embedding": {"bias": config["norm_bias"], "dropout": float(config["embedding_dropout"])},
        }
        encoder = {
            "width": config["hidden_size"],
            "depth": config["num_hidden_layers"],
            "heads": config["num_attention_heads"],
            "ff": config["intermediate_size"],
            "activation": GATED[config["hidden_activation"]],
            "bias": any(config[n] for n in ("attention_bias", "mlp_bias", "norm_bias")),
            "rotary": 1,
            "theta": theta,
            "local": local,
            "eps": config["norm_eps"],
            "first_norm": False,
        }
        head = None
        if original.headed:
            if config["classifier_activation"] != "gelu":
                raise refuse(original, "classifier_activation", "ours has gelu")
            tied, bias = config.get("tie_word_embeddings", True), config["classifier_bias"] or config["norm_bias"]
            head = {"kind": "tied" if tied else "transform", "eps": config["norm_eps"], "bias": bias}
        return self.recipe(original, modality, encoder, head)

    def links(self, config: Mapping[str, Any], names: Set[str]) -> list[Link]:
        base = "model." if any(n.startswith("model.") for n in names) else ""
        width, hidden, ours = config["hidden_size"], config["intermediate_size"], part(config)
        any_bias = any(config[n] for n in ("attention_bias", "mlp_bias", "norm_bias"))
        pairs = [
            (f"{base}embeddings.tok_embeddings", f"{ours}.embedding", None, 0),
            (f"{base}embeddings.norm", f"{ours}.norm", config["norm_bias"], width),
            (f"{base}final_norm", "encoder.norm", any_bias, width),
        ]
        for i in range(config["num_hidden_layers"]):
            theirs, block = f"{base}layers.{i}", f"encoder.blocks.{i}"
            pairs += [
                *([(f"{theirs}.attn_norm", f"{block}.norm1", any_bias, width)] if i else []),
                (f"{theirs}.attn.Wqkv", f"{block}.attention.qkv", any_bias, 3 * width),
                (f"{theirs}.attn.Wo", f"{block}.attention.out", any_bias, width),
                (f"{theirs}.mlp_norm", f"{block}.norm2", any_bias, width),
                (f"{theirs}.mlp.Wi", f"{block}.mlp.up", any_bias, 2 * hidden),
                (f"{theirs}.mlp.Wo", f"{block}.mlp.down", any_bias, width),
            ]
        if "head.dense.weight" in names:
            head, tied = head_of(config), config.get("tie_word_embeddings", True)
            bias = config["classifier_bias"] or config["norm_bias"]
            pairs += [
                ("head.dense", f"{head}.transform.0", bias, width),
                ("head.norm", f"{head}.transform.2", bias, width),
                ("decoder", head if tied else f"{head}.output", True, config["vocab_size"]),
            ]
        return [link for pair in pairs for link in _links(names, *pair)]

    def pieces(self, training: Any) -> list[Piece]:
        local = training.model.encoder.local
        wide = () if local is None else (2 * local.reach + 9,)
        return id_pieces(training.modalities[training.model.names[0]].tokenizer, (*LENGTHS, *wide))

    def export(self, training: Any) -> Original:
        from transformers import ModernBertConfig, ModernBertForMaskedLM, ModernBertModel

        own = Own.of(training)
        encoder, modality, head = own.encoder, own.modality, own.head
        gated = {ours: theirs for theirs, ours in GATED.items()}
        need(not encoder.half_frequencies, "its rotary frequencies are rounded to half precision")
        own.encoder_is(
            order="pre", activation=tuple(gated), rotary=1, first_norm=False, last_norm=True, dropout=0.0,
            bias=(True, False), qkv_bias=encoder.bias, local=encoder.local,
        )  # fmt: skip
        own.modality_is("none", True, bias=encoder.bias, types=0)
        bias = encoder.bias if head is None else head.transform[0].bias is not None  # type: ignore[index]
        need(bias == encoder.bias, "its head and its encoder are not both with biases, or both without")
        local = encoder.local
        config = ModernBertConfig(
            vocab_size=modality.ids.size,
            hidden_size=encoder.width,
            intermediate_size=encoder.ff,
            num_hidden_layers=encoder.depth,
            num_attention_heads=encoder.heads,
            hidden_activation=gated[encoder.activation],
            max_position_embeddings=modality.ids.max_length,
            norm_eps=own.eps(),
            norm_bias=encoder.bias,
            attention_bias=encoder.bias,
            mlp_bias=encoder.bias,
            classifier_bias=bias,
            embedding_dropout=modality.settings.dropout,
            layer_types=[SLIDING if local is not None and i % local.every else FULL for i in range(encoder.depth)],
            local_attention=2 * local.reach if local is not None else 128,
            rope_parameters={
                FULL: {"rope_type": "default", "rope_theta": encoder.theta},
                SLIDING: {"rope_type": "default", "rope_theta": local.theta if local is not None else encoder.theta},
            },
            pad_token_id=own.special("pad"),
            cls_token_id=own.special("cls"),
            bos_token_id=own.special("cls"),
            sep_token_id=own.special("sep"),
            eos_token_id=own.special("sep"),
            tie_word_embeddings=head is None or head.kind == "tied",
        )
        return own.original(ModernBertForMaskedLM(config) if head is not None else ModernBertModel(config))


def _links(names: Set[str], theirs: str, ours: str, bias: bool | None, size: int) -> Iterator[Link]:
    """Weight and bias of one part; ``bias``: whether ours has one."""
    yield same(f"{theirs}.weight", f"{ours}.weight")
    if f"{theirs}.bias" in names:
        yield same(f"{theirs}.bias", f"{ours}.bias")
    elif bias:
        yield lacking(f"{ours}.bias", size, why=f"{theirs} has no bias")


def _rotary(original: Original) -> tuple[float, dict[str, Any] | None]:
    """Base of the global layers' wavelengths, and the local layers."""
    config = original.config
    kinds, said = list(config["layer_types"]), config["rope_parameters"]
    for kind in set(kinds):
        if said[kind]["rope_type"] != "default":
            raise refuse(original, "rope_parameters", "wavelengths that are not rescaled are read")
    theta = float(said[FULL]["rope_theta"]) if FULL in kinds else 0.0
    if SLIDING not in kinds:
        return theta, None
    for every in range(2, len(kinds) + 1):
        if kinds == [SLIDING if i % every else FULL for i in range(len(kinds))]:
            reach, near = config["local_attention"] // 2, float(said[SLIDING]["rope_theta"])
            return theta, {"reach": reach, "every": every, "theta": near}
    raise refuse(original, "layer_types", "every so many layers is global, the first among them")
