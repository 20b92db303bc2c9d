"""Checkpoints of fairseq's RoBERTa, with the dictionary beside them.

Shape suffixes: none.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from mmm.core.errors import BadRecipe

from ._pt import arguments, read
from .architecture import Original
from .library import Library

RENAMED = (
    (r"^(encoder|decoder)\.(sentence_encoder\.)?", ""),
    (r"^embed_tokens\.", "roberta.embeddings.word_embeddings."),
    (r"^embed_positions\.", "roberta.embeddings.position_embeddings."),
    (r"^(emb_layer_norm|layernorm_embedding)\.", "roberta.embeddings.LayerNorm."),
    (r"^layers\.", "roberta.encoder.layer."),
    (r"\.self_attn\.q_proj\.", ".attention.self.query."),
    (r"\.self_attn\.k_proj\.", ".attention.self.key."),
    (r"\.self_attn\.v_proj\.", ".attention.self.value."),
    (r"\.self_attn\.out_proj\.", ".attention.output.dense."),
    (r"\.self_attn_layer_norm\.", ".attention.output.LayerNorm."),
    (r"\.fc1\.", ".intermediate.dense."),
    (r"\.fc2\.", ".output.dense."),
    (r"\.final_layer_norm\.", ".output.LayerNorm."),
    (r"^lm_head\.weight$", "lm_head.decoder.weight"),
)
"""Names of fairseq, and what transformers calls the same; one after the other."""

PADDING = 1
"""Id of padding, in every dictionary of fairseq."""


class Fairseq(Library):
    """A .pt file with dict.txt beside it; transformers' RoBERTa runs it, whose weights it holds under other names."""

    def claims(self, source: str) -> bool:
        path = Path(source)
        return path.suffix == ".pt" and path.is_file() and (path.parent / "dict.txt").is_file()

    def open(self, source: str) -> Original:
        from transformers import RobertaConfig, RobertaForMaskedLM

        path = Path(source)
        checkpoint = read(path)
        said, state = arguments(checkpoint), _renamed(checkpoint["model"])
        if not str(said.get("arch", "")).startswith("roberta") or "roberta.embeddings.word_embeddings.weight" not in state:
            raise BadRecipe(f"{source}: a checkpoint of fairseq's {said.get('arch')!r}; RoBERTa is the one that is read")
        try:
            config = RobertaConfig(**_config(said, state))
        except KeyError as error:
            raise BadRecipe(f"{source}: its arguments lack {error}") from error
        state["roberta.embeddings.token_type_embeddings.weight"] = state["roberta.embeddings.LayerNorm.bias"].new_zeros(
            1, config.hidden_size
        )
        if "lm_head.bias" in state:
            state["lm_head.decoder.bias"] = state["lm_head.bias"]
        model: Any = RobertaForMaskedLM(config)
        try:
            missing, unexpected = model.load_state_dict(state, strict=False)
        except RuntimeError as error:
            raise BadRecipe(f"{source}: shapes differ: {' '.join(str(error).split())[:300]}") from error
        if missing:
            raise BadRecipe(f"{source}: lacks {len(missing)} parameters of a RoBERTa, such as {', '.join(missing[:3])}")
        return Original(source, "fairseq", config.to_dict(), model.eval().float(), path.parent, True, sorted(unexpected))


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in state.items():
        for pattern, other in RENAMED:
            name = re.sub(pattern, other, name)
        renamed[name] = tensor.float() if tensor.is_floating_point() else tensor
    return renamed


def _config(said: dict[str, Any], state: dict[str, Tensor]) -> dict[str, Any]:
    """Arguments of transformers' configuration. Raises KeyError where fairseq's say too little."""
    rows, width = state["roberta.embeddings.word_embeddings.weight"].shape
    return {
        "vocab_size": rows,
        "hidden_size": width,
        "num_hidden_layers": said["encoder_layers"],
        "num_attention_heads": said["encoder_attention_heads"],
        "intermediate_size": said["encoder_ffn_embed_dim"],
        "hidden_act": said.get("activation_fn", "gelu"),
        "hidden_dropout_prob": said.get("dropout", 0.1),
        "attention_probs_dropout_prob": said.get("attention_dropout", 0.1),
        "max_position_embeddings": len(state["roberta.embeddings.position_embeddings.weight"]),
        "type_vocab_size": 1,
        "pad_token_id": PADDING,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "layer_norm_eps": 1e-5,
    }
