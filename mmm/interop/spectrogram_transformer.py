"""AST of the transformers library.

Shape suffixes: N tokens of a record, D width, V output size, F frames, M mel bands.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmm.core.draw import Draw
from mmm.core.modality import Assets
from mmm.core.tokens import Piece

from . import _sound as sound
from ._vision import block_links, layer_prefix, refuse
from .architecture import Architecture, Original
from .links import Link, layer, patches, same

OURS = "modalities.spectrogram"


class Ast(Architecture):
    """Audio spectrogram transformer, arXiv:2104.01778: its encoder; the head of a classifier stays behind."""

    def reads(self, original: Original) -> bool:
        return original.library == "transformers" and original.config["model_type"] == "audio-spectrogram-transformer"

    def model(self, original: Original) -> dict[str, Any]:
        config = original.config
        patch = config["patch_size"]
        if not isinstance(patch, int):
            raise refuse(original, "patch_size", patch, "the library itself takes one number")
        sound.say_no_mask(original)
        values = sound.feature_extractor(original, "ASTFeatureExtractor")
        for switch, default in (("max_length", 1024), ("num_mel_bins", 128)):
            if values is not None and (found := values.get(switch, default)) != config[switch]:
                raise refuse(original, f"{switch} of {sound.PROCESSOR}", found, f"its model has {config[switch]}")
        values = values or {"do_normalize": False}
        normalised = values.get("do_normalize", True)
        spectrogram = {
            "rate": int(values.get("sampling_rate", 16000)),
            "mels": config["num_mel_bins"],
            "frames": config["max_length"],
            "pad": True,
            "patch": [patch, patch],
            "stride": [config["frequency_stride"], config["time_stride"]],
            "cls": True,
            "registers": 1,
            "mean": float(values.get("mean", -4.2677393)) if normalised else 0.0,
            "std": 2 * float(values.get("std", 4.5689974)) if normalised else 1.0,
            "positions": "learned",
        }
        dropout = float(config["hidden_dropout_prob"])
        return {
            "modalities": {"spectrogram": {"class_path": "Spectrogram", "init_args": spectrogram}},
            "encoder": sound.transformer(original, qkv_bias=config["qkv_bias"], dropout=dropout),
            "objective": "NoObjective",
        }

    def assets(self, original: Original) -> dict[str, Assets]:
        return {"modalities/spectrogram": {}}

    def links(self, config: Mapping[str, Any], names: Set[str]) -> list[Link]:
        theirs = "embeddings"
        links = [
            patches(f"{theirs}.patch_embeddings.projection.weight", f"{OURS}.project.weight", channels=1),
            same(f"{theirs}.patch_embeddings.projection.bias", f"{OURS}.project.bias"),
            Link(
                (f"{theirs}.cls_token", f"{theirs}.distillation_token", f"{theirs}.position_embeddings"),
                (f"{OURS}.specials", f"{OURS}.position.table"),
                lambda cls, distillation, table: (torch.cat([cls, distillation], 1)[0] + table[0, :2], table[0, 2:]),
                lambda specials, table: (specials[None, :1], specials[None, 1:], functional.pad(table, (0, 0, 2, 0))[None]),
            ),
            sound.no_mask(config["hidden_size"], OURS),
        ]
        stack = layer_prefix("", names)
        for i in range(config["num_hidden_layers"]):
            links += block_links(f"{stack}.{i}", f"encoder.blocks.{i}", names)
        return [*links, *layer("layernorm", "encoder.norm")]

    def pieces(self, training: Any) -> list[Piece]:
        """Noise of unit variance after normalisation; records of several lengths, filled up as the model reads them."""
        tokenizer = training.modalities["spectrogram"].tokenizer
        pieces = []
        for number, share in enumerate((1.0, 0.4)):
            frames = torch.arange(max(1, round(share * tokenizer.frames)))
            noise_FM = Draw(0).stream("probe").at(number).uniform(frames[:, None], torch.arange(tokenizer.log_mel.mels))
            pieces.append(tokenizer.tokenize((3.4 * noise_FM - 1.7) * tokenizer.std + tokenizer.mean))
        return pieces

    def ask(self, model: nn.Module, piece: Piece) -> tuple[Tensor, Tensor | None]:
        config: Any = model.config
        assert piece.maskable is not None
        rows_R = piece.content[piece.maskable].T[None]
        shape, side = (config.num_mel_bins, config.max_length), (config.patch_size, config.patch_size)
        stride = (config.frequency_stride, config.time_stride)
        summed, count = (functional.fold(x, shape, side, stride=stride)[0, 0] for x in (rows_R, torch.ones_like(rows_R)))
        input_FM = (summed / count.clamp(min=1)).T  # what no patch covers is zero, and nobody reads it
        return model(input_FM[None]).last_hidden_state[0], None

    def export(self, training: Any) -> Original:
        """Heads and targets stay behind: the library's model is the bare encoder."""
        from transformers import ASTConfig, ASTModel

        modality, encoder = sound.parts(training, "spectrogram", "Spectrogram")
        tokenizer = modality.tokenizer
        sound.misfit(
            {
                "norms after the residual sum": encoder.order != "pre",
                "records as long as they are (pad: false)": not tokenizer.pad,
                "something else than CLS and one register in front": not modality.cls or modality.registers != 1,
                f"positions {modality.positions!r}": modality.positions != "learned",
                "a norm of the embedding": modality.with_norm,
                f"patches of {tokenizer.patch[0]} bands x {tokenizer.patch[1]} frames": len(set(tokenizer.patch)) != 1,
            }
        )
        config = ASTConfig(
            **sound.config_of(encoder),
            hidden_dropout_prob=encoder.dropout,
            attention_probs_dropout_prob=0.0,
            qkv_bias=encoder.qkv_bias,
            patch_size=tokenizer.patch[0],
            frequency_stride=tokenizer.stride[0],
            time_stride=tokenizer.stride[1],
            max_length=tokenizer.frames,
            num_mel_bins=tokenizer.log_mel.mels,
        )
        return Original("export", "transformers", config.to_dict(), ASTModel(config).eval(), headed=False)

    def save_files(self, training: Any, folder: Path) -> None:
        """A feature extractor; it divides by twice the deviation it is given."""
        from transformers import ASTFeatureExtractor

        tokenizer = training.model.modalities["spectrogram"].tokenizer
        ASTFeatureExtractor(
            sampling_rate=tokenizer.rate,
            num_mel_bins=tokenizer.log_mel.mels,
            max_length=tokenizer.frames,
            do_normalize=(tokenizer.mean, tokenizer.std) != (0.0, 1.0),
            mean=tokenizer.mean,
            std=tokenizer.std / 2,
        ).save_pretrained(folder)
