"""Encoders of waveforms: convolutions over samples, positions from neighbours, a transformer.

Shape suffixes: N tokens of a record, D width, V output size.
"""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmm.core.draw import Draw
from mmm.core.modality import Assets
from mmm.core.tokens import Piece
from mmm.nn.spectral import LogMel

from . import _sound as sound
from ._vision import refuse
from .architecture import Architecture, Original
from .links import Link, fused, layer, same
from .probe import LENGTHS

log = logging.getLogger("mmm")

OURS = "modalities.audio"
SECONDS = 600.0
"""Longest record of an import: ten minutes, 30,000 tokens of 20 ms, far more than usual ones; what is longer is refused."""


class Places(NamedTuple):
    """Where a foreign model keeps its convolutions, the product after them, its encoder, and the mask vector."""

    convolutions: str
    projection: str
    encoder: str
    mask: str


class WaveformEncoder(Architecture):
    """wav2vec 2.0 and its descendants, from a configuration in transformers' words."""

    @abstractmethod
    def places(self, names: Set[str]) -> Places:
        """Where things are in a model of these parameters."""

    @abstractmethod
    def preprocessing(self, original: Original) -> tuple[int, float | None]:
        """(rate, what is added to a record's variance before it is brought to one; None: samples as they are)."""

    def neighbours(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of the convolutions that tell positions."""
        return {"kernel": config["num_conv_pos_embeddings"], "groups": config["num_conv_pos_embedding_groups"]}

    def model(self, original: Original) -> dict[str, Any]:
        """A model without its masked head: no library keeps the codes or the negatives it was trained on."""
        config = original.config
        _check(original)
        names = original.model.state_dict().keys()
        if self.places(names).mask not in names:
            sound.say_no_mask(original)
        rate, standardise = self.preprocessing(original)
        post = not config.get("do_stable_layer_norm", False)
        strides = list(config["conv_stride"])
        audio = {
            "front_end": "waveform",
            "rate": rate,
            "max_seconds": min(SECONDS, (2**24 - 1) // rate),
            "mels": _bands(rate, strides),
            "positions": "conv",
            "neighbours": self.neighbours(config),
            "norm": post,
            "conv_width": config["conv_dim"][0],
            "conv_norm": config.get("feat_extract_norm", "layer"),
            "conv_bias": config["conv_bias"],
            "conv_kernels": list(config["conv_kernel"]),
            "conv_strides": strides,
            "feature_norm": config.get("feat_proj_layer_norm", True),
            "standardise": standardise,
            "eps": config["layer_norm_eps"],
        }
        dropout = float(config["hidden_dropout"])
        return {
            "modalities": {"audio": {"class_path": "Audio", "init_args": audio}},
            "encoder": sound.transformer(original, order="post" if post else "pre", dropout=dropout),
            "objective": "NoObjective",
        }

    def assets(self, original: Original) -> dict[str, Assets]:
        return {"modalities/audio": {}}

    def links(self, config: Mapping[str, Any], names: Set[str]) -> list[Link]:
        at, links = self.places(names), []
        for i in range(len(config["conv_dim"])):
            theirs, ours = f"{at.convolutions}.{i}", f"{OURS}.convolutions.layers.{i}"
            links += layer(f"{theirs}.conv", ours, bias=f"{theirs}.conv.bias" in names)
            if f"{theirs}.layer_norm.weight" in names:
                links += layer(f"{theirs}.layer_norm", f"{ours}.norm")
        if f"{at.projection}.layer_norm.weight" in names:
            links += layer(f"{at.projection}.layer_norm", f"{OURS}.project.0")
        links += layer(f"{at.projection}.projection", f"{OURS}.project.1")
        links += _positions(f"{at.encoder}.pos_conv_embed", f"{OURS}.conv_positions", names)
        links += layer(f"{at.encoder}.layer_norm", "encoder.norm" if config.get("do_stable_layer_norm") else f"{OURS}.norm")
        for i in range(config["num_hidden_layers"]):
            theirs, ours = f"{at.encoder}.layers.{i}", f"encoder.blocks.{i}"
            links += [
                *fused([f"{theirs}.attention.{p}_proj" for p in "qkv"], f"{ours}.attention.qkv"),
                *layer(f"{theirs}.attention.out_proj", f"{ours}.attention.out"),
                *layer(f"{theirs}.feed_forward.intermediate_dense", f"{ours}.mlp.up"),
                *layer(f"{theirs}.feed_forward.output_dense", f"{ours}.mlp.down"),
                *layer(f"{theirs}.layer_norm", f"{ours}.norm1"),
                *layer(f"{theirs}.final_layer_norm", f"{ours}.norm2"),
            ]
        return [*links, same(at.mask, f"{OURS}.mask") if at.mask in names else sound.no_mask(config["hidden_size"], OURS)]

    def pieces(self, training: Any) -> list[Piece]:
        """Noise of unit variance, some samples more than whole tokens."""
        tokenizer = training.modalities["audio"].tokenizer
        stride, reach = 1, 1
        for k, s in zip(tokenizer.kernels, tokenizer.strides, strict=True):
            reach, stride = reach + (k - 1) * stride, stride * s
        pieces = []
        for number, tokens in enumerate(LENGTHS):
            samples = torch.arange(reach + (tokens - 1) * stride + number % stride)
            noise = (2 * Draw(0).stream("probe").at(number).uniform(samples) - 1) * math.sqrt(3)
            pieces.append(Piece(noise, torch.arange(tokens)))
        return pieces


class OfTransformers(WaveformEncoder):
    """One that the transformers library has.

    Attributes:
        kind: its model type. classes: names of its configuration and of its model.
    """

    kind: str
    classes: tuple[str, str]

    def reads(self, original: Original) -> bool:
        return original.library == "transformers" and original.config["model_type"] == self.kind

    def places(self, names: Set[str]) -> Places:
        base = next((n.split(".")[0] + "." for n in names if ".feature_projection.projection." in n), "")
        return Places(
            f"{base}feature_extractor.conv_layers", f"{base}feature_projection", f"{base}encoder", f"{base}masked_spec_embed"
        )

    def preprocessing(self, original: Original) -> tuple[int, float | None]:
        values = sound.feature_extractor(original, "Wav2Vec2FeatureExtractor")
        if values is None:
            return 16000, None
        return int(values.get("sampling_rate", 16000)), 1e-7 if values.get("do_normalize", True) else None

    def ask(self, model: nn.Module, piece: Piece) -> tuple[Tensor, Tensor | None]:
        encoder: Any = getattr(model, str(model.base_model_prefix), model)
        return encoder(piece.content[None]).last_hidden_state[0], None

    def export(self, training: Any) -> Original:
        """Heads and targets stay behind: the library's model is the bare encoder."""
        import transformers

        modality, encoder = sound.parts(training, "audio", "Audio")
        tokenizer, neighbours = modality.tokenizer, modality.neighbours
        sound.misfit(
            {
                "a log-mel front end": tokenizer.rowwise,
                f"positions {modality.positions!r}": modality.positions != "conv",
                f"a norm of the embedding {modality.with_norm} with norms {encoder.order}": modality.with_norm
                == (encoder.order == "pre"),
                f"eps {modality.eps} in the modality and {encoder.eps} in the encoder": modality.eps != encoder.eps,
                "query, key and value without a bias": not encoder.qkv_bias,
            }
        )
        sound.misfit(self.unfit(modality))
        convolutions = modality.convolutions
        depth = len(convolutions.layers)
        config = getattr(transformers, self.classes[0])(
            **sound.config_of(encoder),
            **self.positions_of(neighbours),
            **self.switches(modality, encoder),
            conv_dim=[modality.conv_width] * depth,
            conv_kernel=list(tokenizer.kernels),
            conv_stride=list(tokenizer.strides),
            conv_bias=convolutions.bias,
            hidden_dropout=encoder.dropout,
            attention_dropout=0.0,
            activation_dropout=0.0,
            layerdrop=0.0,
        )
        model = getattr(transformers, self.classes[1])(config)
        return Original("export", "transformers", config.to_dict(), model.eval(), headed=False)

    def unfit(self, modality: Any) -> dict[str, bool]:
        """What this one has no place for, and whether it is there."""
        return {f"positions from {modality.neighbours}": (modality.neighbours.depth, modality.neighbours.norm) != (1, "weight")}

    def positions_of(self, neighbours: Any) -> dict[str, Any]:
        """``neighbours`` in the library's words."""
        return {"num_conv_pos_embeddings": neighbours.kernel, "num_conv_pos_embedding_groups": neighbours.groups}

    def switches(self, modality: Any, encoder: Any) -> dict[str, Any]:
        """Switches that not all of them have."""
        return {"feat_extract_norm": modality.conv_norm, "do_stable_layer_norm": encoder.order == "pre"}

    def save_files(self, training: Any, folder: Path) -> None:
        """A feature extractor. It adds 1e-7 to a record's variance; where that is something else here, it is said."""
        from transformers import Wav2Vec2FeatureExtractor

        modality = training.model.modalities["audio"]
        standardise = modality.tokenizer.standardise
        if standardise not in (None, 1e-7):
            log.warning("the feature extractor of transformers adds 1e-7 to a record's variance, this model %g", standardise)
        Wav2Vec2FeatureExtractor(
            sampling_rate=modality.tokenizer.rate,
            do_normalize=standardise is not None,
            return_attention_mask=modality.conv_norm == "layer",
        ).save_pretrained(folder)


def _check(original: Original) -> None:
    """Refuse switches without a counterpart."""
    config = original.config
    width = list(config["conv_dim"])
    if len(set(width)) != 1:
        raise refuse(original, "conv_dim", width, "the convolutions are of one width")
    if any(s > k for s, k in zip(config["conv_stride"], config["conv_kernel"], strict=True)):
        raise refuse(original, "conv_stride", list(config["conv_stride"]), "it passes over samples")
    if config.get("feat_extract_activation", "gelu") != "gelu":
        raise refuse(original, "feat_extract_activation", config["feat_extract_activation"], "the convolutions have gelu")
    for switch, why in {
        "conv_pos_batch_norm": "positions are told by a weight-normed convolution",
        "adapter_attn_dim": "load it without the adapters of its attention",
        "add_adapter": "the convolutions behind its encoder are no part of one",
    }.items():
        if config.get(switch):
            raise refuse(original, switch, config[switch], why)


def _positions(theirs: str, ours: str, names: Set[str]) -> list[Link]:
    """The convolutions that tell positions, weight-normed or a stack of plain ones."""
    weight = "conv.parametrizations.weight"
    if f"{theirs}.{weight}.original0" in names:
        norms = [same(f"{theirs}.{weight}.original{i}", f"{ours}.{weight}.original{i}") for i in (0, 1)]
        return [*norms, same(f"{theirs}.conv.bias", f"{ours}.conv.bias")]
    depth = sum(n.startswith(f"{theirs}.layers.") and n.endswith(".conv.weight") for n in names)
    own = [ours] if depth == 1 else [f"{ours}.layers.{i}" for i in range(depth)]
    return [link for i, our in enumerate(own) for link in layer(f"{theirs}.layers.{i}.conv", f"{our}.conv")]


def _bands(rate: int, strides: Sequence[int]) -> int:
    """As many bands of a picture, 80 at most, as its short windows can tell apart."""
    tokens = math.prod(strides)
    hop_ms = 1000 * tokens / (2 - tokens % 2) / rate
    for mels in (80, 40, 20, 10, 5):
        try:
            return LogMel(rate, mels, 2.5 * hop_ms, hop_ms).mels
        except ValueError:
            continue
    return 1
