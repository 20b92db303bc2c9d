"""ViT-MAE of the transformers library, encoder and decoder.

Shape suffixes: N tokens of a record, D width, V output size.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmm.core.modality import Assets
from mmm.core.rate import Constant
from mmm.core.tokens import Piece

from . import _vision as vision
from .architecture import Architecture, Original
from .links import Link, layer

DECODER = "decoder.decoder_pos_embed"


class VitMae(Architecture):
    """Masked autoencoders, arXiv:2111.06377, with or without their decoder.

    Their positions are parameters there, by rights fixed sines: where they are, ours are ``sinusoidal`` and stay fixed, else
    they are learned. Nothing is dropped where the model is asked: rate 0 there, the plain view here.
    """

    def reads(self, original: Original) -> bool:
        return original.library == "transformers" and original.config["model_type"] == "vit_mae"

    def model(self, original: Original) -> dict[str, Any]:
        config, state = original.config, original.model.state_dict()
        grid, base = vision.grid_of(config), _base(state.keys())
        tables = {"encoder": state[f"{base}embeddings.position_embeddings"]}
        if DECODER in state:
            tables["decoder"] = state[DECODER]
        kinds = {name: "sinusoidal" if _fixed(table[0], grid) else "learned" for name, table in tables.items()}
        config["mmm_positions"] = kinds
        section: dict[str, Any] = {
            "modalities": vision.image_section(original, positions=kinds["encoder"]),
            "encoder": vision.encoder_section(original, qkv_bias=config["qkv_bias"], init_std=None),
            "objective": "NoObjective",
        }
        if DECODER in state:
            image = section["modalities"]["image"]["init_args"]
            image["augment"] = image["preprocess"] == "processor"  # as it was trained, to go on
            section["decoder"] = {
                "class_path": "TransformerDecoder",
                "init_args": {
                    "width": config["decoder_hidden_size"],
                    "depth": config["decoder_num_hidden_layers"],
                    "heads": config["decoder_num_attention_heads"],
                    "ff": config["decoder_intermediate_size"],
                    "activation": vision.activation(original, config["hidden_act"]),
                    "eps": config["layer_norm_eps"],
                    "qkv_bias": config["qkv_bias"],
                    "grid": list(grid) if kinds["decoder"] == "learned" else None,
                },
            }
            section["objective"] = {
                "class_path": "MaskedModeling",
                "init_args": {
                    "masking": {"image": {"class_path": "Uniform", "init_args": {"rate": config["mask_ratio"]}}},
                    "corruption": "Drop",
                    "targets": {"image": {"class_path": "Pixels", "init_args": {"normalise": config["norm_pix_loss"]}}},
                },
            }
        return section

    def assets(self, original: Original) -> dict[str, Assets]:
        found = vision.processor_assets(original)
        if DECODER in original.model.state_dict():
            found["targets/image/Pixels"] = {}  # it has nothing to remember
        return found

    def links(self, config: Mapping[str, Any], names: Set[str]) -> list[Link]:
        base, kinds = _base(names), config["mmm_positions"]
        links = vision.embedding_links(f"{base}embeddings", names, config, kinds["encoder"])
        stack = vision.layer_prefix(base, names)
        for i in range(config["num_hidden_layers"]):
            links += vision.block_links(f"{stack}.{i}", f"encoder.blocks.{i}", names)
        links += layer(f"{base}layernorm", "encoder.norm")
        if DECODER not in names:
            return links
        for i in range(config["decoder_num_hidden_layers"]):
            links += vision.block_links(f"decoder.decoder_layers.{i}", f"decoder.blocks.{i}", names)
        links += [
            *layer("decoder.decoder_embed", "decoder.project"),
            *layer("decoder.decoder_norm", "decoder.norm"),
            *layer("decoder.decoder_pred", "heads.image/Pixels.output"),
            vision.reshaped("decoder.mask_token", "decoder.mask_vector", lambda x: x[0]),
        ]
        if kinds["decoder"] == "learned":
            links.append(
                Link(
                    (DECODER,),
                    ("decoder.special", "decoder.position.table"),
                    lambda x: (x[0, 0], x[0, 1:]),
                    lambda special, table: (torch.cat([special[None], table])[None],),
                )
            )
        else:
            links.append(vision.fixed(DECODER, vision.grid_of(config), config["decoder_hidden_size"], 1))
        return links

    def pieces(self, training: Any) -> list[Piece]:
        return vision.image_pieces(training)

    def ask(self, model: nn.Module, piece: Piece) -> tuple[Tensor, Tensor | None]:
        config: Any = model.config
        size = config.image_size if isinstance(config.image_size, int) else config.image_size[0]
        pixels = vision.pixels_of(piece, config.num_channels, size)
        noise = torch.arange(len(piece) - 1)[None].float()  # the order they are in
        answers: list[Tensor] = []
        rate, config.mask_ratio = config.mask_ratio, 0.0
        try:
            vit: Any = getattr(model, "vit", model)
            if not hasattr(model, "decoder"):
                return vit(pixels, noise=noise).last_hidden_state[0], None
            # The library leaves out what it answers at CLS.
            hook = model.decoder.decoder_pred.register_forward_hook(lambda *args: answers.append(args[2]))  # type: ignore[union-attr]
            try:
                found = vit(pixels, noise=noise)
                model.decoder(found.last_hidden_state, found.ids_restore)  # type: ignore[operator]
            finally:
                hook.remove()
            return found.last_hidden_state[0], answers[0][0]
        finally:
            config.mask_ratio = rate

    def export(self, training: Any) -> Original:
        from transformers import ViTMAEConfig, ViTMAEForPreTraining, ViTMAEModel

        modality, encoder = vision.parts(training, "Readout", "TransformerDecoder")
        decoder, heads = training.model.decoder, training.model.heads
        decodes = type(decoder).__name__ == "TransformerDecoder"
        headed = [*heads] == ["image/Pixels"] and heads["image/Pixels"].kind == "linear"
        grid = (modality.tokenizer.side // modality.tokenizer.patch,) * 2
        vision.misfit(
            {
                "other specials than one CLS": not modality.cls or bool(modality.registers),
                "no absolute positions": modality.positions == "none",
                "a norm of the embedding": modality.with_norm,
                "no last norm": not encoder.last_norm,
                "layer scale": encoder.scale is not None,
                "relative positions": encoder.grid is not None,
                f"heads {', '.join(heads)}": headed != decodes or (bool(heads) and not headed),
            }
        )
        shared = vision.config_of(modality, encoder) | {"qkv_bias": encoder.qkv_bias}
        kinds = {"encoder": modality.positions}
        if decodes:
            vision.misfit(
                {
                    "a decoder with other numbers (eps, activation, biases of queries) than its encoder": (
                        (decoder.eps, decoder.activation, decoder.qkv_bias)
                        != (encoder.eps, encoder.activation, encoder.qkv_bias)
                    ),
                    "a decoder with positions of another grid": decoder.position is not None and decoder.position.shape != grid,
                }
            )
            kinds["decoder"] = "sinusoidal" if decoder.position is None else "learned"
            shared |= {
                "decoder_hidden_size": decoder.width,
                "decoder_num_hidden_layers": decoder.depth,
                "decoder_num_attention_heads": decoder.heads,
                "decoder_intermediate_size": decoder.ff,
            } | _objective(training.objective)
        config = ViTMAEConfig(**shared)
        model = ViTMAEForPreTraining(config) if decodes else ViTMAEModel(config)
        return Original("export", "transformers", config.to_dict() | {"mmm_positions": kinds}, model.eval(), headed=decodes)

    def save_files(self, training: Any, folder: Path) -> None:
        vision.save_processor(training, folder)


def _base(names: Set[str]) -> str:
    return "vit." if any(n.startswith("vit.") for n in names) else ""


def _fixed(table_ND: Tensor, grid: tuple[int, int]) -> bool:
    """Whether these are the sines of MAE, and nothing at CLS."""
    width = table_ND.shape[1]
    return width % 4 == 0 and torch.allclose(table_ND, nn.functional.pad(vision.sines(grid, width), (0, 0, 1, 0)), atol=1e-6)


def _objective(objective: Any) -> dict[str, Any]:
    """What the configuration says of pre-training, where the objective tells."""
    found: dict[str, Any] = {}
    for target in objective.targets().values():
        found["norm_pix_loss"] = bool(target.normalise)
    masking = getattr(objective, "masking", None)
    rate = getattr(masking.get("image") if isinstance(masking, dict) else masking, "rate", None)
    if isinstance(rate, Constant):
        found["mask_ratio"] = rate.rate
    return found
