"""Embeddings: what the encoder makes of every token, nothing masked, no gradients, beside the libraries' encoders.

export PYTHONPATH=.:PEERS OMP_NUM_THREADS=1
python PEERS/run.py tools.bench.embedding:bert tools.bench.embedding:text --infer --batch 32 --threads 1 --clock cpu
python PEERS/run.py tools.bench.embedding:esm tools.bench.embedding:protein --infer --batch 32 --threads 1 --clock cpu
"""

from __future__ import annotations

import itertools
from typing import Any

import peers
import torch
from torch import Tensor

from mmm.core.tokens import Tokens
from mmm.core.training import Training
from mmm.core.view import View

from . import referee
from .referee import Peer, Workload, autocast


def ours(
    work: Workload, seed: int = 0, n_batches: int = 2, dtype: str = "bf16", batch: int | None = None, **options: Any
) -> peers.Case:
    """hidden_TD of each batch of a workload."""
    check(options)
    theirs, training, packed = beside(work, seed, n_batches, batch)
    views = [View.of(tokens, torch.zeros(len(tokens), dtype=torch.bool)) for tokens in packed]
    turn = itertools.cycle(views)

    def infer() -> Tensor:
        with torch.inference_mode(), autocast(dtype):
            return training.model.encode(next(turn)).x_KD

    return asked_case(f"mmm, as {work.peer}", training.model, infer, theirs, n_batches)


def beside(work: Workload, seed: int, n_batches: int, batch: int | None) -> tuple[Peer, Training, list[Tokens]]:
    """(the peer of a workload, our model of its shape, the peer's batches packed)."""
    theirs = Peer.of(work.peer, seed, n_batches, batch)
    torch.manual_seed(seed)
    training = work.make().eval()
    return theirs, training, [tokens for tokens, _ in work.looks(training, theirs.batches, seed)]


def library(
    name: str, seed: int = 0, n_batches: int = 2, dtype: str = "bf16", batch: int | None = None, **options: Any
) -> peers.Case:
    """The same of a peer of transformers, without its head."""
    check(options)
    theirs = Peer.of(name, seed, n_batches, batch)
    body = theirs.model.base_model.eval()
    turn = itertools.cycle(theirs.batches)

    def infer() -> Tensor:
        with torch.inference_mode(), autocast(dtype):
            look = next(turn)
            return body(input_ids=look.ids, attention_mask=look.attention).last_hidden_state  # type: ignore[no-any-return]

    return asked_case(name, body, infer, theirs, n_batches)


def check(options: dict[str, Any]) -> None:
    """Raises ValueError for what a case that is only asked knows nothing of."""
    unknown = {
        name: value for name, value in options.items() if (name, value) not in (("compiled", False), ("optimizer", "fused"))
    }
    if unknown:
        raise ValueError(f"the model is asked as it is, without {', '.join(f'{n}={v!r}' for n, v in unknown.items())}")


def asked_case(name: str, model: Any, infer: Any, theirs: Peer, n_batches: int) -> peers.Case:
    """A case that does not learn."""
    useful, samples, flops = (total / n_batches for total in (theirs.useful, theirs.samples, theirs.flops))
    return peers.Case(name, model, infer, infer, useful, samples, flops, useful, n_batches)


def text(**options: Any) -> peers.Case:
    return ours(referee.text, **options)


def protein(**options: Any) -> peers.Case:
    return ours(referee.protein, **options)


def bert(**options: Any) -> peers.Case:
    return library("bert", **options)


def esm(**options: Any) -> peers.Case:
    return library("esm-hf", **options)
