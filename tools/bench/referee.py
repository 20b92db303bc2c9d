"""mmm beside its peers: workloads that a referee times in turn with other libraries, built of the parts that recipes name.

    export PYTHONPATH=.:PEERS  # the top of this repository, and a folder with peers.py (the peers) and run.py (the referee)
    python PEERS/run.py bert tools.bench.referee:text --threads 1 --clock cpu
    python tools/bench/referee.py [NAME ...]  # are they equal? parameters, and loss in float32 on equal weights and masks

Each of ``WORKLOADS`` is called like a peer and returns a case of the same kind. Batches, masks, labels and counts are the
peer's own: it is built as far as its case, which is then taken apart. ``step`` is forward, loss, backward and update; views are
made before, as the peers' batches are masked before. ``infer`` answers at the asked tokens alone.

Shape suffixes: T packed tokens, N tokens of one record or asked ones, V output size.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import peers
import torch
from torch import Tensor, nn

from mmm.compiled import compile_parts
from mmm.core.corruption import Corruption
from mmm.core.draw import Draw
from mmm.core.head import HeadSettings
from mmm.core.masking import Masking
from mmm.core.modality import Assets, Modality
from mmm.core.network import Decoder, Encoder
from mmm.core.tokens import Piece, Sample, Tokens, pack
from mmm.core.training import Training
from mmm.core.view import View
from mmm.corruptions.drop import Drop
from mmm.corruptions.mask_vector import MaskVector
from mmm.decoders.readout import Readout
from mmm.decoders.transformer_decoder import TransformerDecoder
from mmm.encoders.transformer import Transformer
from mmm.interop._ids import OURS
from mmm.interop.architecture import Architecture
from mmm.interop.beit import Beit
from mmm.interop.bert import Bert
from mmm.interop.esm import Esm
from mmm.interop.from_timm import describe
from mmm.interop.hubert import Hubert
from mmm.interop.links import State, revert
from mmm.interop.roberta import Roberta
from mmm.interop.timm_vit import TimmVit
from mmm.interop.vit_mae import VitMae
from mmm.modalities._ids import Embedding
from mmm.modalities.audio import Audio
from mmm.modalities.image import Image
from mmm.modalities.protein import Protein
from mmm.modalities.text import Text
from mmm.nn.waveform import Neighbours
from mmm.objectives.masked_modeling import MaskedModeling
from mmm.optimizers.adamw import AdamW
from mmm.targets.foreign_codes import ForeignCodes
from mmm.targets.pixels import Pixels
from mmm.targets.token_ids import TokenIds

Looks = list[tuple[Tokens, list[View]]]
"""Packed batches, each with its views."""

# -- what the batches bring along ----------------------------------------------------------------------------------------------


class Given(Masking):
    """Hides what the batch says: ``aux["hidden"]``, hidden_N of each record."""

    law = "as given"

    def rank(self, tokens: Tokens, progress: float, draw: Draw) -> Tensor:
        return 1.0 - self.hidden(tokens, progress, draw).float()

    def hidden(self, tokens: Tokens, progress: float, draw: Draw) -> Tensor:
        return torch.cat(tokens.aux["hidden"])


class Shown(Corruption):
    """Shows what the batch says: ``aux["shown"]``, shown_N of each record of ids; the mask's id is the mask vector. Records
    that say nothing show the mask vector wherever something is hidden."""

    def __call__(self, tokens: Tokens, hidden_T: Tensor, progress: float, draw: Draw) -> View:
        masked_T, content = hidden_T.clone(), {}
        for name, index_N in tokens.index.items():
            said = [tokens.aux["shown"][run.segment] for run in tokens.runs[name]]
            if said and said[0] is not None:
                content[name] = torch.cat(said)
                masked_T[index_N] = content[name] == tokens.tokenizers[name].mask  # type: ignore[attr-defined]
        return View.of(tokens.with_content(**content), masked_T, clean=tokens, answer_N=hidden_T.nonzero()[:, 0])


class GivenCodes(ForeignCodes):
    """Codes that another model made, which came with the batch: ``aux["codes"]``, code_N of each record that has some."""

    learnable = True

    def truth(self, tokens: Tokens, answer_N: Tensor) -> Tensor:
        index_N = tokens.index[self.name]
        code_T = torch.empty(len(tokens), dtype=torch.int64, device=answer_N.device)
        code_T[index_N] = torch.cat([tokens.aux["codes"][run.segment] for run in tokens.runs[self.name]]).to(code_T)
        return code_T[answer_N]


class AbsolutePixels(Pixels):
    """Mean absolute error instead of the squared one.

    Paper: SimMIM, arXiv:2111.09886, section 3.4.
    """

    def loss(self, output_NV: Tensor, truth_N: Tensor) -> Tensor:
        return (output_NV.float() - truth_N.float()).abs().mean(-1)


# -- a peer, taken apart -------------------------------------------------------------------------------------------------------


@dataclass
class Peer:
    """What a peer makes its case of; ``loss(model, batch)``; useful tokens, samples and FLOPs of all batches together."""

    model: nn.Module
    batches: Sequence[Any]
    loss: Callable[[nn.Module, Any], Tensor]
    useful: float
    samples: float
    flops: float

    @classmethod
    def of(cls, name: str, seed: int, n_batches: int, batch: int | None) -> Peer:
        def keep(_: str, model: nn.Module, batches: Any, loss_of: Any, **named: Any) -> Peer:
            return cls(model, batches, loss_of, named["useful"], named["samples"], named["flops"])

        size = {} if batch is None else {"batch": batch}
        with mock.patch.object(peers, "make_case", keep):
            return peers.PEERS[name](seed=seed, n_batches=n_batches, **size)  # type: ignore[no-any-return]


# -- a workload ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Workload:
    """The same task as a peer's.

    Args:
        peer: its name.
        make: builds our model.
        samples: the records of one of its batches, by our tokenizer; the last argument seeds what a peer draws while it runs.
        weights: our parameters under the names of a peer's model.
    """

    peer: str
    make: Callable[[], Training]
    samples: Callable[[Any, Any, int], Iterable[Sample]]
    weights: Callable[[Any, State], State]

    def looks(self, training: Training, batches: Sequence[Any], seed: int) -> Looks:
        """The peer's batches, packed and viewed."""
        tokenizers = {name: m.tokenizer for name, m in training.modalities.items()}
        (tokenizer,) = tokenizers.values()
        packed = [pack([*self.samples(batch, tokenizer, seed + i)], tokenizers) for i, batch in enumerate(batches)]
        return [(tokens, training.objective.views(tokens, 0.0, training.draw)) for tokens in packed]

    def __call__(
        self,
        seed: int = 0,
        n_batches: int = 2,
        dtype: str = "bf16",
        compiled: bool = False,
        optimizer: str = "fused",
        batch: int | None = None,
        prepare: Callable[[Training], Any] | None = None,
    ) -> peers.Case:
        """See the peers. ``compiled``: encoder, decoder and heads. ``prepare``: what is done to the model once it is built."""
        check_fused(optimizer)
        theirs = Peer.of(self.peer, seed, n_batches, batch)
        torch.manual_seed(seed)
        training = self.make()
        if prepare is not None:
            prepare(training)
        looks = self.looks(training, theirs.batches, seed)
        useful, samples, flops = (total / n_batches for total in (theirs.useful, theirs.samples, theirs.flops))
        step, infer = calls(training, looks, dtype, compiled)
        return peers.Case(f"mmm, as {self.peer}", training.model, step, infer, useful, samples, flops, useful, n_batches)


def check_fused(optimizer: str) -> None:
    """Raises ValueError for another optimiser."""
    if optimizer != "fused":
        raise ValueError(f"optimizer {optimizer!r}: ours is always fused")


def autocast(dtype: str, device: str = "cpu") -> torch.autocast:
    """The precision that the peers run in."""
    return torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == "bf16")


def calls(
    training: Training, looks: Looks, dtype: str, compiled: bool, device: str = "cpu"
) -> tuple[Callable[[], float], Callable[[], list[Tensor]]]:
    """(a training step on the next batch, the answers of each head at its own asked tokens of the next batch)."""
    model = training.to(device).model
    looks = [(tokens.to(device), [view.to(device) for view in views]) for tokens, views in looks]
    if compiled:
        compile_parts(model)
    optimiser = training.optimizer_settings.build(training.trained(), hidden=training.hidden_matrices())
    turn, asked = itertools.cycle(looks), itertools.cycle(looks)
    training.train()

    def step() -> float:
        with autocast(dtype, device):
            loss = loss_of(training, *next(turn))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        return float(loss.detach())

    def infer() -> list[Tensor]:
        if training.training:
            training.eval()
        _, (view,) = next(asked)
        with torch.inference_mode(), autocast(dtype, device):
            y_ND = model(view)
            return [head(y_ND[view.asked[address.split("/")[0]]]) for address, head in model.heads.items()]

    return step, infer


def loss_of(training: Training, tokens: Tokens, views: Sequence[View]) -> Tensor:
    """The loss of one process with one micro-batch."""
    terms = training.objective(training.model, tokens, views, 0.0)
    return torch.stack([t.weight * t.total / t.count for t in terms]).sum()


def training_of(
    modalities: Modality | dict[str, Modality],
    encoder: Encoder,
    objective: MaskedModeling,
    decoder: Decoder | None = None,
    words: int = 0,
) -> Training:
    """A built model with the peers' optimiser.

    Args:
        modalities: by name, or one, called like its class. words: of the text's vocabulary.
    """
    if isinstance(modalities, Modality):
        modalities = {type(modalities).__name__.lower(): modalities}
    settings = AdamW(lr=1e-4, betas=(0.9, 0.999), weight_decay=0.01, clip=None)
    training = Training(modalities, encoder, objective, decoder or Readout(), settings)
    fitted: dict[str, Assets] = {"modalities/text": vocabulary(words)} if words else {}
    training.restore(defaultdict(dict, fitted))
    return training


def renamed(ours: State, architecture: Architecture, model: nn.Module, config: dict[str, Any]) -> State:
    """Our parameters under the names of a model of this architecture, with the buffers it has."""
    theirs = model.state_dict()
    return theirs | revert(ours, architecture.links(config, theirs.keys()))


# -- text and protein ----------------------------------------------------------------------------------------------------------


def ids(name: str) -> Callable[[Any, Any, int], Iterator[Sample]]:
    """The sequences of a batch, clean, with what is hidden and what is shown."""

    def samples(batch: peers.TextBatch, tokenizer: Any, seed: int) -> Iterator[Sample]:
        for n, shown, label in zip(batch.lengths, batch.ids, batch.labels, strict=True):
            shown_N, label_N = shown[:n], label[:n]
            hidden_N = label_N != peers.IGNORE
            place_N = torch.arange(n)
            position_NC = torch.stack([torch.zeros_like(place_N), place_N], 1)  # one text: type 0
            piece = Piece(torch.where(hidden_N, label_N, shown_N), position_NC)
            yield Sample({name: piece}, aux={"hidden": hidden_N, "shown": shown_N})

    return samples


def vocabulary(size: int) -> Assets:
    """So many words, with BERT's specials at their ids."""
    from tokenizers import Tokenizer, models

    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    words = {special.get(i, f"word{i}"): i for i in range(size)}
    model = Tokenizer(models.WordLevel(words, "[UNK]"))
    model.add_special_tokens([*special.values()])
    roles = {token.strip("[]").lower(): token for token in special.values()}
    return {"tokenizer.json": model.to_str().encode(), "specials.json": json.dumps(roles).encode()}


EPS = 1e-12
"""Of the norms of transformers' models."""


def written(words: int) -> Text:
    """BERT's input."""
    return Text(words, max_length=512, positions="learned", norm=True, eps=EPS, embedding=Embedding(types=2))


def residues() -> Protein:
    """ESM-2's input, token dropout as published."""
    return Protein(embedding=Embedding(rescale=0.12))


def seen(size: int, patch: int, **arguments: Any) -> Image:
    """ViT's input."""
    return Image(size, patch, cls=True, augment=False, preprocess="given", **arguments)


def heard(rate: int = 16000) -> Audio:
    """HuBERT's input, small."""
    return Audio(
        "waveform",
        rate,
        positions="conv",
        neighbours=Neighbours(kernel=64, groups=16),
        conv_width=peers.CONV_DIM[0],
        conv_kernels=peers.CONV_KERNEL,
        conv_strides=peers.CONV_STRIDE,
        standardise=None,
    )


def bert_like(peer: str, words: int, architecture: Architecture) -> Workload:
    """BERT's shape with a vocabulary of so many words (recipes/text/bert.yaml)."""
    shape, eps = peers.TEXT, EPS

    def make() -> Training:
        return training_of(
            written(words),
            Transformer(shape["dim"], shape["layers"], shape["heads"], shape["ff"], order="post", eps=eps),
            MaskedModeling(Given(), Shown(), {"text": TokenIds()}, {"text": HeadSettings("tied", eps)}),
            words=words,
        )

    def weights(model: Any, ours: State) -> State:
        return renamed(ours, architecture, model, {**model.config.to_dict(), OURS: {"modality": "text", "types": 2}})

    return Workload(peer, make, ids("text"), weights)


def esm() -> Workload:
    """ESM-2 with 8 million parameters (recipes/protein/esm2.yaml)."""
    shape, eps = peers.ESM, EPS

    def make() -> Training:
        return training_of(
            residues(),
            Transformer(shape["dim"], shape["layers"], shape["heads"], shape["ff"], rotary=1, eps=eps),
            MaskedModeling(Given(), Shown(), {"protein": TokenIds()}, {"protein": HeadSettings("tied", eps)}),
        )

    def weights(model: Any, ours: State) -> State:
        return renamed(ours, Esm(), model, {**model.config.to_dict(), OURS: {"modality": "protein", "types": 0}})

    return Workload("esm-hf", make, ids("protein"), weights)


# -- images --------------------------------------------------------------------------------------------------------------------


def pictures(pixels: Tensor, masks: Tensor, tokenizer: Any, codes: Tensor | None = None) -> Iterator[Sample]:
    """Images with their hidden patches, and codes of these."""
    for i, (picture, mask_N) in enumerate(zip(pixels, masks, strict=True)):
        piece = tokenizer.tokenize(picture)
        hidden_N = torch.zeros(len(piece), dtype=torch.bool)
        hidden_N[piece.maskable] = mask_N
        aux = {"hidden": hidden_N}
        if codes is not None:
            aux["codes"] = torch.full((len(piece),), peers.IGNORE).masked_scatter(hidden_N, codes[i])
        yield Sample({"image": piece}, aux=aux)


def mae(which: str) -> Workload:
    """MAE of one of the peer's sizes (recipes/image/mae.yaml). The peer draws masks in every step, here they are made once."""
    shape, eps = peers.MAE[which], EPS

    def make() -> Training:
        return training_of(
            seen(shape["size"], shape["patch"]),
            Transformer(shape["dim"], shape["layers"], shape["heads"], init_std=None, eps=eps),
            MaskedModeling(Given(), Drop(), {"image": Pixels(normalise=True)}),
            TransformerDecoder(shape["ddim"], shape["dlayers"], shape["dheads"], eps=eps),
        )

    def samples(pixels: Tensor, tokenizer: Any, seed: int) -> Iterator[Sample]:
        patches = (shape["size"] // shape["patch"]) ** 2
        noise = torch.rand(len(pixels), patches, generator=torch.Generator().manual_seed(seed))
        return pictures(pixels, noise.argsort(1).argsort(1) >= patches // 4, tokenizer)

    def weights(model: Any, ours: State) -> State:
        kinds = {"encoder": "sinusoidal", "decoder": "sinusoidal"}
        return renamed(ours, VitMae(), model, {**model.config.to_dict(), "mmm_positions": kinds})

    return Workload(f"vitmae-{which}", make, samples, weights)


def vit(objective: Callable[[], MaskedModeling], **arguments: Any) -> Training:
    """A ViT-Ti/16 over all patches, the hidden ones as the mask vector."""
    return training_of(seen(224, 16, positions="learned"), Transformer(192, 12, 3, **arguments), objective())


def visual_tokens() -> Workload:
    """BEiT: 8,192 visual tokens, layer scale, no norm after the last block."""

    def objective() -> MaskedModeling:
        return MaskedModeling(Given(), MaskVector(), {"image": GivenCodes(8192)}, {"image": HeadSettings("norm", EPS)})

    def samples(batch: tuple[Tensor, Tensor, Tensor], tokenizer: Any, seed: int) -> Iterator[Sample]:
        pixels, masks, codes = batch
        return pictures(pixels, masks, tokenizer, codes.view(len(pixels), -1))

    def weights(model: Any, ours: State) -> State:
        foreign = {name.replace(GivenCodes.__name__, ForeignCodes.__name__): tensor for name, tensor in ours.items()}
        return renamed(foreign, Beit(), model, model.config.to_dict())

    return Workload("beit", lambda: vit(objective, eps=EPS, scale=0.1, last_norm=False), samples, weights)


def absolute_pixels() -> Workload:
    """SimMIM: one linear layer answers the pixels of hidden patches."""

    def objective() -> MaskedModeling:
        return MaskedModeling(Given(), MaskVector(), {"image": AbsolutePixels()})

    def samples(batch: tuple[Tensor, Tensor], tokenizer: Any, seed: int) -> Iterator[Sample]:
        return pictures(*batch, tokenizer)

    def weights(model: Any, ours: State) -> State:
        state = {f"vit.{name}": tensor for name, tensor in renamed(ours, TimmVit(), model.vit, describe(model.vit)).items()}
        state["mask_token"] = ours["modalities.image.mask"][None, None]
        for name in ("weight", "bias"):  # (c p q) there, (p q c) here
            rows = ours[f"heads.image/AbsolutePixels.output.{name}"]
            state[f"head.{name}"] = rows.unflatten(0, (256, 3)).transpose(0, 1).flatten(0, 1)
        return state

    return Workload("timm-simmim", lambda: vit(objective, eps=1e-6), samples, weights)


# -- audio ---------------------------------------------------------------------------------------------------------------------


def sounds(batch: tuple[Tensor, ...], tokenizer: Any, seed: int) -> Iterator[Sample]:
    """Waveforms with their hidden frames, and codes of these."""
    for wave, there, mask, code in zip(*batch, strict=True):
        piece = tokenizer.tokenize((wave[: there.sum()], tokenizer.rate))
        yield Sample({"audio": piece}, aux={"hidden": mask[: len(piece)], "codes": code[: len(piece)]})


def acoustic_units() -> Workload:
    """HuBERT's large form (layer norms), small, with 504 units given (recipes/audio/hubert.yaml)."""
    shape, units = peers.AUDIO, 504

    def make() -> Training:
        return training_of(
            heard(),
            Transformer(shape["dim"], shape["layers"], shape["heads"], shape["ff"]),
            MaskedModeling(Given(), MaskVector(), {"audio": GivenCodes(units)}),
        )

    def weights(model: Any, ours: State) -> State:
        head = {f"head.{name}": ours[f"heads.audio/GivenCodes.output.{name}"] for name in ("weight", "bias")}
        return renamed(ours, Hubert(), model, model.hubert.config.to_dict()) | head

    return Workload("hubert", make, sounds, weights)


text = bert_like("bert", 30522, Bert())
text_50k = bert_like("roberta", 50265, Roberta())
protein = esm()
mae_tiny, mae_cifar = mae("tiny224"), mae("cifar")
beit, simmim = visual_tokens(), absolute_pixels()
hubert = acoustic_units()

WORKLOADS = {
    "text": text,
    "text_50k": text_50k,
    "protein": protein,
    "mae_tiny": mae_tiny,
    "mae_cifar": mae_cifar,
    "beit": beit,
    "simmim": simmim,
    "hubert": hubert,
}

# -- equal? --------------------------------------------------------------------------------------------------------------------


@dataclass
class Comparison:
    """Trained parameters, and float32 losses on equal weights, batches and masks: ours and theirs."""

    parameters: tuple[int, int]
    losses: tuple[float, float]

    @property
    def equal(self) -> bool:
        """Parameters within 1 %, losses to rounding."""
        (n, m), (a, b) = self.parameters, self.losses
        return abs(n / m - 1) < 0.01 and abs(a / b - 1) < 1e-5


def compare(work: Workload, seed: int = 0, batch: int | None = None) -> Comparison:
    """One batch through a peer and through ours, with our weights, none of which is what it was at first."""
    theirs, training = Peer.of(work.peer, seed, 1, batch), work.make()
    ours = [*training.trained()]
    with torch.no_grad():
        for parameter in ours:
            parameter.add_(0.02 * torch.randn_like(parameter))
        theirs.model.load_state_dict(work.weights(theirs.model, training.model.state_dict()))
        torch.manual_seed(seed)  # of what the peer draws while it runs
        want = theirs.loss(theirs.model, theirs.batches[0])
        got = loss_of(training, *work.looks(training, theirs.batches, seed)[0])
    trained = sum(p.numel() for p in theirs.model.parameters() if p.requires_grad)
    return Comparison((sum(p.numel() for p in ours), trained), (float(got), float(want)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparisons; 1 where one is unequal."""
    parser = argparse.ArgumentParser(description="Parameters and losses of the workloads, ours and the peers'.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(WORKLOADS)}; all by default")
    chosen = parser.parse_args(arguments).names or [*WORKLOADS]
    print("| workload | peer | parameters | its | loss | its | difference | equal |\n|---|---|--:|--:|--:|--:|--:|---|")
    equal = True
    for name in chosen:
        found = compare(WORKLOADS[name])
        (n, m), (a, b) = found.parameters, found.losses
        verdict = "yes" if found.equal else "NO"
        print(f"| {name} | {WORKLOADS[name].peer} | {n:,} | {m:,} | {a:.6f} | {b:.6f} | {a - b:.1e} | {verdict} |", flush=True)
        equal &= found.equal
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
