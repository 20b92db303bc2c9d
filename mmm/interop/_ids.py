"""What the architectures of token ids have in common: recipe, vocabulary, probe, links of parts, what an export asks of ours.

Shape suffixes: N tokens of a record, D width, V output size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmm.core.errors import BadRecipe
from mmm.core.head import Head
from mmm.core.modality import Assets
from mmm.core.tokens import Piece
from mmm.decoders.readout import Readout
from mmm.encoders.transformer import Transformer
from mmm.modalities._ids import IdModality

from ._vocabularies import Found, find, special_id, write
from .architecture import Architecture, Misfit, Original
from .links import Link, layer, same
from .probe import id_pieces

OURS = "mmm"
"""Key of a configuration under which stands what only our side knows: the modality's name, whether it has token types."""

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
}
"""Ours of transformers' names."""


def refuse(original: Original, switch: str, why: str = "") -> BadRecipe:
    """The error that names a switch of the configuration which has no counterpart here."""
    value = original.config.get(switch)
    return BadRecipe(f"{original.source}: {switch} {value!r} has no counterpart here{why and ': '}{why}")


def need(fits: Any, reason: str) -> None:
    """Raises Misfit with the reason unless it fits."""
    if not fits:
        raise Misfit(reason)


class IdModel(Architecture):
    """A model of text or protein tokens in the transformers library."""

    kinds: tuple[str, ...] = ()
    """Model types of transformers that it reads."""

    def reads(self, original: Original) -> bool:
        return original.library in ("transformers", "fairseq") and original.config.get("model_type") in self.kinds

    def notes(self, original: Original) -> list[str]:
        """What is not taken over, for people."""
        rate = original.config.get("attention_probs_dropout_prob") or original.config.get("attention_dropout")
        return [f"dropout of attention probabilities ({rate}) is not taken over"] if rate else []

    def vocabulary(self, original: Original) -> Found:
        """What lies beside the weights."""
        return find(original)

    def recipe(
        self, original: Original, modality: dict[str, Any], encoder: dict[str, Any], head: dict[str, Any] | None
    ) -> dict[str, Any]:
        """The ``model`` section.

        Args:
            modality: arguments of Text or Protein. encoder: of Transformer.
            head: settings of the head over the vocabulary; None where the checkpoint has none.
        """
        for switch in ("is_decoder", "add_cross_attention"):
            if original.config.get(switch):
                raise refuse(original, switch, "a masked model reads in both directions")
        found = self.vocabulary(original)
        name = found.modality
        original.config[OURS] = {"modality": name, "types": modality["embedding"].get("types", 0)}
        arguments = {**modality, "embedding": {"rows": original.config["vocab_size"], **modality["embedding"]}}
        if name == "text":
            arguments["pretrained"] = str(found.folder)
        kind = {"text": "Text", "protein": "Protein"}[name]
        return {
            "modalities": {name: {"class_path": kind, "init_args": arguments}},
            "encoder": {"class_path": "Transformer", "init_args": encoder},
            "objective": "NoObjective" if head is None else self.objective(name, head),
        }

    def objective(self, name: str, head: dict[str, Any]) -> dict[str, Any]:
        """How the model was pre-trained, so that pre-training can go on."""
        arguments = {
            "masking": {"class_path": "Uniform", "init_args": {"rate": 0.15}},
            "corruption": {"class_path": "MaskVector", "init_args": {"random": 0.1, "keep": 0.1}},
            "targets": {name: "TokenIds"},
            "heads": {name: head},
        }
        return {"class_path": "MaskedModeling", "init_args": arguments}

    def assets(self, original: Original) -> dict[str, Assets]:
        found = self.vocabulary(original)
        return {f"modalities/{found.modality}": found.assets, f"targets/{found.modality}/TokenIds": {}}

    def pieces(self, training: Any) -> list[Piece]:
        return id_pieces(training.modalities[training.model.names[0]].tokenizer)

    def ask(self, model: nn.Module, piece: Piece) -> tuple[Tensor, Tensor | None]:
        base: Any = model.base_model
        inputs = {"input_ids": piece.content[None]}
        if piece.positions.ndim == 2:
            inputs["token_type_ids"] = piece.positions[None, :, 0]
        hidden_ND = base(**inputs).last_hidden_state[0]
        return hidden_ND, None if base is model else model(**inputs).logits[0]

    def save_files(self, training: Any, folder: Path) -> None:
        write(Own.of(training).modality, folder)


def activation(original: Original, switch: str = "hidden_act") -> str:
    """Ours of an activation's name."""
    if original.config[switch] not in ACTIVATIONS:
        raise refuse(original, switch, f"there are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[original.config[switch]]


# -- parameters ----------------------------------------------------------------------------------------------------------------


def part(config: Mapping[str, Any]) -> str:
    """The module of the modality."""
    return f"modalities.{config[OURS]['modality']}"


def head_of(config: Mapping[str, Any], target: str = "TokenIds") -> str:
    """The module of a head."""
    return f"heads.{config[OURS]['modality']}/{target}"


def position_rows(theirs: str, ours: str, unused: int) -> Link:
    """A table of positions whose first rows belong to padding; zeros on the way back."""
    return Link((theirs,), (ours,), lambda t: (t[unused:],), lambda t: (nn.functional.pad(t, (0, 0, unused, 0)),))


def lacking(ours: str, *shape: int, why: str) -> Link:
    """A parameter of ours that theirs has not: zeros, and nothing else on the way back."""

    def outward(x: Tensor) -> tuple[Tensor, ...]:
        need(not bool(x.any()), f"{ours} is not 0, and {why}")
        return ()

    return Link((), (ours,), lambda: (torch.zeros(*shape),), outward)


def unneeded(theirs: str, *shape: int) -> Link:
    """A parameter of theirs that says nothing of hidden states and logits: not taken over, zeros on the way back."""
    return Link((theirs,), (), lambda _: (), lambda: (torch.zeros(*shape),))


def vocabulary_head(ours: str, dense: str, norm: str, weight: str, biases: Iterable[str], tied: bool) -> list[Link]:
    """BERT's head: dense, norm, then the embedding itself or a product of its own.

    Args:
        weight, biases: of the product over the vocabulary; a bias may have several names, the first is the one that counts.
    """
    product, names = ours if tied else f"{ours}.output", tuple(biases)
    return [
        *layer(dense, f"{ours}.transform.0"),
        *layer(norm, f"{ours}.transform.2"),
        same(weight, f"{product}.weight"),
        Link(names, (f"{product}.bias",), lambda *b: (b[0],), lambda b: (b,) * len(names)),
    ]


# -- ours, for an export -------------------------------------------------------------------------------------------------------


@dataclass
class Own:
    """A model of ours that a model of one text or protein may hold.

    Args:
        name: of its modality. head: over the vocabulary; None where it has none.
    """

    name: str
    modality: IdModality
    encoder: Transformer
    head: Head | None

    @classmethod
    def of(cls, training: Any) -> Own:
        """Raises Misfit where there is more than one modality, or none of ids, or another kind of encoder or decoder."""
        model = training.model
        need(len(model.names) == 1, f"it has {len(model.names)} modalities: {', '.join(model.names)}")
        name = model.names[0]
        modality, head = model.modalities[name], dict(model.heads.items()).get(f"{name}/TokenIds")
        need(isinstance(modality, IdModality), f"its modality is a {type(modality).__name__}, not token ids")
        need(type(model.encoder) is Transformer, f"its encoder is a {type(model.encoder).__name__}, not a Transformer")
        need(model.modality_vector is None, "it adds a vector of the modality to every token")
        need(head is None or type(model.decoder) is Readout, f"its decoder is a {type(model.decoder).__name__}")
        need(
            head is None or head.kind in ("tied", "transform"),
            f"its head is {getattr(head, 'kind', '')!r}, not tied or transform",
        )
        return cls(name, modality, model.encoder, head)

    def encoder_is(self, **wanted: Any) -> None:
        """Raises Misfit where the encoder is not of this kind; of what is not named, the usual is wanted."""
        usual = {"kind": "layer", "bias": True, "qkv_bias": True, "scale": None, "grid": None, "rotary": 0, "local": None}
        for name, value in {**usual, **wanted}.items():
            values = value if isinstance(value, tuple) else (value,)
            found = getattr(self.encoder, name)
            need(found in values, f"its encoder has {name} {found!r}, and there it is {' or '.join(map(repr, values))}")

    def modality_is(self, positions: str, norm: bool | None, **wanted: Any) -> None:
        """The same of the modality; ``wanted``: settings of its embedding."""
        modality = self.modality
        need(modality.positions == positions, f"its positions are {modality.positions!r}, and there they are {positions!r}")
        need(norm is None or modality.with_norm == norm, f"its embedding has {'no ' * (norm or False)}LayerNorm")
        for name, value in {"width": None, "bias": True, "rescale": None, **wanted}.items():
            found = getattr(modality.settings, name)
            need(found in (value if isinstance(value, tuple) else (value,)), f"its embedding has {name} {found!r}")

    def eps(self) -> float:
        """The one eps of all norms. Raises Misfit where there are several."""
        found = {self.encoder.eps, *([self.modality.eps] if self.modality.with_norm else [])}
        if self.head is not None:
            found.add(self.head.transform[2].eps)  # type: ignore[index]
        need(len(found) == 1, f"its norms have different eps ({', '.join(map(str, sorted(found)))}), and there they share one")
        return found.pop()

    def special(self, role: str) -> int:
        """The id of a special token. Raises Misfit where there is none."""
        number = special_id(self.modality, role)
        need(number is not None, f"its vocabulary has no {role} token")
        assert number is not None
        return number

    def ours(self) -> dict[str, Any]:
        """What is noted under ``OURS``."""
        return {"modality": self.name, "types": self.modality.settings.types}

    def original(self, model: Any, headed: bool | None = None) -> Original:
        """A foreign model made for this one."""
        config = {**model.config.to_dict(), OURS: self.ours()}
        return Original(
            self.name, "transformers", config, model.eval().float(), headed=self.head is not None if headed is None else headed
        )
