"""One batch of four modalities through one shared encoder, beside four libraries that take one of them each, in turn.

    export PYTHONPATH=.:PEERS OMP_NUM_THREADS=1
    python PEERS/run.py tools.bench.joint:four tools.bench.joint:joint --threads 1 --clock cpu

All encoders have one shape, BERT's of the peers (6 layers, width 384): BertForMaskedLM, EsmForMaskedLM, timm's ViT with a
SimMIM head, HubertModel with a head. Batches, masks and codes are theirs. Ours has rotary positions, as ESM-2 has.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import peers
import timm
import torch
from torch import nn

from mmm.core.head import HeadSettings
from mmm.core.tokens import Sample, pack
from mmm.core.training import Training
from mmm.encoders.transformer import Transformer
from mmm.objectives.masked_modeling import MaskedModeling
from mmm.targets.token_ids import TokenIds

from .referee import (
    EPS,
    AbsolutePixels,
    Given,
    GivenCodes,
    Looks,
    Peer,
    Shown,
    calls,
    check_fused,
    heard,
    ids,
    pictures,
    residues,
    seen,
    sounds,
    training_of,
    written,
)

SHAPE = peers.TEXT
WORDS, UNITS = 30522, 504
NAMES = {"text": "bert", "image": "timm-simmim", "audio": "hubert", "protein": "esm-hf"}
SAMPLES: dict[str, Callable[[Any, Any, int], Iterator[Sample]]] = {
    "text": ids("text"),
    "image": lambda batch, tokenizer, seed: pictures(*batch, tokenizer),
    "audio": sounds,
    "protein": ids("protein"),
}


@contextlib.contextmanager
def one_shape() -> Iterator[None]:
    """The peers' encoders are all of BERT's shape inside."""
    vit = {"embed_dim": SHAPE["dim"], "depth": SHAPE["layers"], "num_heads": SHAPE["heads"]}
    with mock.patch.dict(peers.ESM, SHAPE), mock.patch.object(timm, "create_model", partial(timm.create_model, **vit)):
        yield


def flops_of_images(masked: int, images: int) -> float:
    """Needed by SimMIM at this shape, forward and backward."""
    dim, patches, pixels = SHAPE["dim"], 196, 768
    encoder = peers.encoder_flops([patches + 1] * images, SHAPE["layers"], dim, SHAPE["ff"])
    return 3 * (encoder + 2.0 * (patches * images + masked) * dim * pixels)  # type: ignore[no-any-return]


def _sums(found: dict[str, Peer], n_batches: int) -> tuple[float, float, float]:
    """(useful tokens, samples, needed FLOPs) of a batch of all four."""
    images = found["image"].batches
    flops = sum(p.flops for n, p in found.items() if n != "image")
    flops += sum(flops_of_images(int(mask.sum()), len(pixels)) for pixels, mask in images)
    useful, samples = (sum(getattr(p, key) for p in found.values()) for key in ("useful", "samples"))
    return useful / n_batches, samples / n_batches, flops / n_batches


def _peers(seed: int, n_batches: int) -> dict[str, Peer]:
    with one_shape():
        return {name: Peer.of(peer, seed, n_batches, None) for name, peer in NAMES.items()}


def four(seed: int = 0, n_batches: int = 2, **options: Any) -> peers.Case:
    """The four libraries, one after the other."""
    with one_shape():
        cases = [peers.PEERS[peer](seed=seed, n_batches=n_batches, **options) for peer in NAMES.values()]
    useful, samples, flops = _sums(_peers(seed, n_batches), n_batches)

    def step() -> float:
        return sum(case.step() for case in cases)

    def infer() -> list[Any]:
        return [case.infer() for case in cases]

    models = nn.ModuleList(case.model for case in cases)
    return peers.Case("four libraries", models, step, infer, useful, samples, flops, 0.0, n_batches)


def model() -> Training:
    """One encoder for all four."""
    return training_of(
        {"text": written(WORDS), "image": seen(224, 16, positions="learned"), "audio": heard(), "protein": residues()},
        Transformer(SHAPE["dim"], SHAPE["layers"], SHAPE["heads"], SHAPE["ff"], rotary=1, eps=EPS),
        MaskedModeling(
            Given(),
            Shown(),
            {"text": TokenIds(), "image": AbsolutePixels(), "audio": GivenCodes(UNITS), "protein": TokenIds()},
            {"text": HeadSettings("tied", EPS), "protein": HeadSettings("tied", EPS)},
        ),
        words=WORDS,
    )


def joint(
    seed: int = 0, n_batches: int = 2, dtype: str = "bf16", compiled: bool = False, optimizer: str = "fused"
) -> peers.Case:
    """The same batches, packed into one. Raises ValueError for another optimiser."""
    check_fused(optimizer)
    found = _peers(seed, n_batches)
    torch.manual_seed(seed)
    training = model()
    looks = _looks(training, found, n_batches)
    step, infer = calls(training, looks, dtype, compiled)
    useful, samples, flops = _sums(found, n_batches)
    return peers.Case("mmm, joint", training.model, step, infer, useful, samples, flops, useful, n_batches)


def _looks(training: Training, found: dict[str, Peer], n_batches: int) -> Looks:
    tokenizers = {name: m.tokenizer for name, m in training.modalities.items()}
    looks = []
    for i in range(n_batches):
        samples = [s for name, p in found.items() for s in SAMPLES[name](p.batches[i], tokenizers[name], i)]
        tokens = pack([replace(s, sample=j) for j, s in enumerate(samples)], tokenizers)
        looks.append((tokens, training.objective.views(tokens, 0.0, training.draw)))
    return looks


def asked(looks: Looks) -> dict[str, list[int]]:
    """Asked tokens of each modality in each batch."""
    return {name: [len(views[0].asked[name]) for _, views in looks] for name in NAMES}
