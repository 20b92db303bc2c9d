"""Checkpoints of fair-esm: files, and names of those that its own loader has put on this machine.

Shape suffixes: none.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import torch

from mmm.core.errors import BadRecipe

from ._pt import arguments, peek, read
from .architecture import Original
from .library import Library

NAME = re.compile(r"esm(1b|1v|1|2)_t\d+_\w+")
DOWNLOADS = "https://dl.fbaipublicfiles.com/fair-esm/models"

PADDING, POSITIONS = 1, 1026
"""Id of padding; positions that the published models were trained on, with those before the first."""


class FairEsm(Library):
    """A .pt file of fair-esm, or the name of a published model: ESM-2, ESM-1b, ESM-1v."""

    def claims(self, source: str) -> bool:
        path = Path(source)
        if not path.exists():
            return NAME.fullmatch(source) is not None
        return path.suffix == ".pt" and path.is_file() and not (path.parent / "dict.txt").is_file() and bool(peek(path))

    def open(self, source: str) -> Original:
        import esm
        from esm.pretrained import load_model_and_alphabet_core

        path = _file(source)
        checkpoint = read(path)
        said = arguments(checkpoint)
        kind = str(said.get("arch", "")) or ("esm2" if "cfg" in checkpoint else "")
        newer = "cfg" in checkpoint
        if not said or not (newer or kind in ("roberta_large", "protein_bert_base", "msa_transformer")):
            raise BadRecipe(
                f"{source}: no checkpoint of fair-esm ({kind or 'no architecture named'}); "
                "one of fairseq needs its dict.txt beside it"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of contact weights, which lie in a second file and are not asked for
            try:
                model, _ = load_model_and_alphabet_core("esm2" if newer else "esm1", checkpoint, None)
            except Exception as error:  # attributes, keys and shapes that its arguments promise
                raise BadRecipe(f"{source}: fair-esm cannot read it: {' '.join(str(error).split())[:300]}") from error
        if isinstance(model, esm.ESM2):
            config = {"position_embedding_type": "rotary", "token_dropout": model.token_dropout, "emb_layer_norm_before": False}
            rows, ff = POSITIONS, 4 * model.embed_dim
            width, heads = model.embed_dim, model.attention_heads
        elif isinstance(model, esm.ProteinBertModel) and model.model_version == "ESM-1b":
            config = {
                "position_embedding_type": "absolute",
                "token_dropout": bool(getattr(model.args, "token_dropout", False)),
                "emb_layer_norm_before": model.emb_layer_norm_before is not None,
            }
            rows, ff = len(model.embed_positions.weight), model.args.ffn_embed_dim
            width, heads = model.args.embed_dim, model.args.attention_heads
        else:
            raise BadRecipe(f"{source}: a {type(model).__name__} ({kind}); ESM-2, ESM-1b and ESM-1v are the ones that are read")
        config |= {
            "model_type": "esm",
            "vocab_size": len(model.embed_tokens.weight),
            "hidden_size": width,
            "num_hidden_layers": model.num_layers,
            "num_attention_heads": heads,
            "intermediate_size": ff,
            "max_position_embeddings": rows,
            "pad_token_id": PADDING,
            "layer_norm_eps": model.emb_layer_norm_after.eps,
            "hidden_dropout_prob": 0.0,
        }
        return Original(source, "fair-esm", config, model.eval().float(), path.parent)


def _file(source: str) -> Path:
    """The file of a source. Raises BadRecipe where a published model is not on this machine."""
    path = Path(source)
    if path.is_file():
        return path
    there = Path(torch.hub.get_dir()) / "checkpoints" / f"{source}.pt"
    if not there.is_file():
        raise BadRecipe(f"{source}: not on this machine; download {DOWNLOADS}/{source}.pt to {there}")
    return there
