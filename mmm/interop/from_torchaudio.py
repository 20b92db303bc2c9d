"""Bundles of torchaudio.

Shape suffixes: N tokens of a record, D width, V output size.
"""

from __future__ import annotations

import re
from collections.abc import Set
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmm.core.errors import BadRecipe, did_you_mean
from mmm.core.tokens import Piece

from ._waveform_encoder import Places, WaveformEncoder
from .architecture import Original
from .library import Library


class Torchaudio(Library):
    """The name of a bundle of wav2vec 2.0 or HuBERT; its weights lie in $TORCH_HOME/hub/checkpoints or are fetched there."""

    def claims(self, source: str) -> bool:
        """A name in capitals with an underscore, and no file of that name."""
        return re.fullmatch(r"[A-Z0-9]+(_[A-Z0-9]+)+", source) is not None and not Path(source).exists()

    def open(self, source: str) -> Original:
        """The encoder; a head for letters stays behind.

        Raises:
            ValueError: no such bundle, one of another kind of model, weights that cannot be had or read.
        """
        from torchaudio import pipelines

        bundles = {n: b for n in dir(pipelines) if isinstance(b := getattr(pipelines, n), pipelines.Wav2Vec2Bundle)}
        if source not in bundles:
            raise BadRecipe(f"{source}: no encoder among the bundles of torchaudio. {did_you_mean(source, bundles)}")
        bundle = bundles[source]
        if bundle._model_type != "Wav2Vec2":
            raise BadRecipe(
                f"{source}: {bundle._model_type} has gated relative positions in its attention, which have no counterpart here"
            )
        try:
            model = bundle.get_model(dl_kwargs={"weights_only": True})
        except Exception as error:  # of the network, of the file system, of the file
            raise BadRecipe(
                f"{source}: its weights cannot be had or read ({' '.join(str(error).split())[:200]}); they belong into "
                f"$TORCH_HOME/hub/checkpoints/{Path(bundle._path).name}"
            ) from error
        normalised = bool(getattr(model, "normalize_waveform", False))
        inner = getattr(model, "model", model)  # the wrapper that normalises waveforms
        config = {**_config(inner), "sampling_rate": int(bundle.sample_rate), "normalize_waveform": normalised}
        return Original(source, "torchaudio", config, inner.eval().float(), headed=False)


def _config(model: Any) -> dict[str, Any]:
    """The model's numbers in transformers' words."""
    convolutions, stack = model.feature_extractor.conv_layers, model.encoder.transformer
    first, positions = stack.layers[0], stack.pos_conv_embed.conv
    group = isinstance(convolutions[0].layer_norm, nn.GroupNorm)
    return {
        "model_type": "wav2vec2",
        "hidden_size": positions.in_channels,
        "num_hidden_layers": len(stack.layers),
        "num_attention_heads": first.attention.num_heads,
        "intermediate_size": first.feed_forward.intermediate_dense.out_features,
        "hidden_act": "gelu",
        "hidden_dropout": float(first.dropout.p),
        "layer_norm_eps": first.layer_norm.eps,
        "do_stable_layer_norm": first.layer_norm_first,
        "feat_extract_norm": "group" if group else "layer",
        "conv_dim": [c.conv.out_channels for c in convolutions],
        "conv_kernel": [c.kernel_size for c in convolutions],
        "conv_stride": [c.stride for c in convolutions],
        "conv_bias": convolutions[0].conv.bias is not None,
        "num_conv_pos_embeddings": positions.kernel_size[0],
        "num_conv_pos_embedding_groups": positions.groups,
    }


class TorchaudioEncoder(WaveformEncoder):
    """wav2vec 2.0, arXiv:2006.11477, and HuBERT, arXiv:2106.07447, as torchaudio builds them."""

    def reads(self, original: Original) -> bool:
        return original.library == "torchaudio"

    def places(self, names: Set[str]) -> Places:
        return Places("feature_extractor.conv_layers", "encoder.feature_projection", "encoder.transformer", "")

    def preprocessing(self, original: Original) -> tuple[int, float | None]:
        """A bundle's waveform goes through a LayerNorm without parameters, or in as it is."""
        return original.config["sampling_rate"], 1e-5 if original.config["normalize_waveform"] else None

    def ask(self, model: nn.Module, piece: Piece) -> tuple[Tensor, Tensor | None]:
        wav2vec: Any = model
        features, _ = wav2vec.feature_extractor(piece.content[None], None)
        return wav2vec.encoder(features)[0], None
