"""Sampling: records of which all but the first token is hidden, filled in in random order, beside the libraries' models.

    export PYTHONPATH=.:PEERS OMP_NUM_THREADS=1
    python PEERS/run.py tools.bench.sampling:bert tools.bench.sampling:text --infer --batch 32 --threads 1 --clock cpu
    python PEERS/run.py tools.bench.sampling:esm tools.bench.sampling:protein --infer --batch 32 --threads 1 --clock cpu

Both ask the model ``STEPS`` times; a token is drawn once, at a step of its own. The libraries' models answer at every place of
a padded batch, each time; ours at the tokens of the step. (A token is shown because ESM-2 divides by the share that is.)
"""

from __future__ import annotations

import itertools
from typing import Any

import peers
import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.tokens import Tokens
from mmm.samplers.ancestral import Ancestral

from . import referee
from .embedding import asked_case, beside, check
from .referee import Peer, Workload, autocast

STEPS = 8


def ours(
    work: Workload, seed: int = 0, n_batches: int = 2, dtype: str = "bf16", batch: int | None = None, **options: Any
) -> peers.Case:
    """A batch of a workload, filled in."""
    check(options)
    theirs, training, packed = beside(work, seed, n_batches, batch)
    turn = itertools.cycle(packed)
    sampler, draw = Ancestral(STEPS), Draw(seed)

    def infer() -> Tokens:
        tokens = next(turn)
        with autocast(dtype):
            return sampler(training.model, tokens, tokens.layout.place_T > 0, draw)

    return asked_case(f"mmm, as {work.peer}", training.model, infer, theirs, n_batches)


def library(
    name: str, mask: int, seed: int = 0, n_batches: int = 2, dtype: str = "bf16", batch: int | None = None, **options: Any
) -> peers.Case:
    """The same of a peer of transformers. ``mask``: the id of its mask."""
    check(options)
    theirs = Peer.of(name, seed, n_batches, batch)
    model = theirs.model.eval()
    turn = itertools.cycle(theirs.batches)
    generator = torch.Generator().manual_seed(seed)

    def infer() -> Tensor:
        look = next(turn)
        hidden_BN = look.attention.bool()
        hidden_BN[:, 0] = False
        clean_BN = torch.where(look.labels != peers.IGNORE, look.labels, look.ids)
        id_BN = clean_BN.masked_fill(hidden_BN, mask)
        step_BN = torch.randint(STEPS, id_BN.shape, generator=generator)
        with torch.inference_mode(), autocast(dtype):
            for step in range(STEPS):
                logits_BNV = model(input_ids=id_BN, attention_mask=look.attention).logits
                now_BN = hidden_BN & (step_BN == step)
                p_NV = logits_BNV[now_BN].float().softmax(-1)
                id_BN[now_BN] = torch.multinomial(p_NV, 1, generator=generator)[:, 0]
        return id_BN

    return asked_case(name, model, infer, theirs, n_batches)


def text(**options: Any) -> peers.Case:
    return ours(referee.text, **options)


def protein(**options: Any) -> peers.Case:
    return ours(referee.protein, **options)


def bert(**options: Any) -> peers.Case:
    return library("bert", 103, **options)


def esm(**options: Any) -> peers.Case:
    return library("esm-hf", 32, **options)
