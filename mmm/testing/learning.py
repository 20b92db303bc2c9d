"""What a target and an objective promise.

Shape suffixes: N asked tokens, V output size.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from mmm.core.draw import Draw
from mmm.core.modality import Record
from mmm.core.model import Model
from mmm.core.objective import Objective, Term
from mmm.core.target import Target
from mmm.core.tokens import Tokens, pack

from .tools import check_gradients, check_untouched, frozen, keyed, named, near


def check_target(target: Target, name: str, tokens: Tokens, records: Sequence[Record] = ()) -> None:
    """One truth and one loss a question, gradients, no say of batch mates, a baseline, state that comes back.

    Args:
        target: not yet bound. name: a modality of ``tokens``. records: to fit on, if it is fitted.
    """
    who = named(target)
    fresh = copy.deepcopy(target)
    target.bind(name, tokens.tokenizers[name])
    if records:
        target.fit(records)
    assert target.size > 0, f"{who}: set `size`, the width of its head, in bind or before."
    index_N = tokens.index[name]
    answer_N = index_N[tokens.layout.maskable_T[index_N]]
    before = frozen(tokens)
    truth_N = target.truth(tokens, answer_N)
    check_untouched(target, tokens, before)
    assert truth_N.shape[0] == len(answer_N), (
        f"{who}.truth: {len(answer_N)} tokens were asked, {truth_N.shape[0]} truths came back."
    )
    output_NV = (Draw(2).uniform(torch.arange(len(answer_N) * target.size)) - 0.5).view(-1, target.size).requires_grad_()
    loss_N = target.loss(output_NV, truth_N)
    assert loss_N.shape == (len(answer_N),) and loss_N.dtype == torch.float32, (
        f"{who}.loss must return one float32 an asked token, ({len(answer_N)},); it returned {loss_N.dtype} "
        f"{tuple(loss_N.shape)}. Do not average: the objective sums."
    )
    assert loss_N.isfinite().all(), f"{who}.loss is not finite."
    torch.autograd.backward(loss_N.sum())
    assert output_NV.grad is not None and output_NV.grad.abs().sum() > 0, f"{who}.loss gives the output no gradient."
    assert near(target.loss(output_NV[:1], truth_N[:1]), loss_N[:1]), f"{who}.loss of a token depends on the others."
    assert target.loss(output_NV[:0], truth_N[:0]).shape == (0,), f"{who}.loss of no token must be empty."
    for s in range(tokens.layout.segments):
        first = sum(tokens.layout.lengths[:s])
        own_N = tokens.layout.segment_T[answer_N] == s
        alone_N = target.truth(tokens.segment(s), answer_N[own_N] - first)
        assert torch.allclose(truth_N[own_N].double(), alone_N.double(), atol=1e-6), (
            f"{who}.truth of segment {s} depends on its batch mates."
        )
    guess_N = target.context_free([truth_N]).loss(truth_N)
    assert guess_N.shape == loss_N.shape and guess_N.isfinite().all(), f"{who}.context_free must give one finite loss a token."
    fresh.bind(name, tokens.tokenizers[name])
    fresh.restore(target.assets())
    fresh.load_state_dict(target.state_dict())
    assert torch.equal(fresh.truth(tokens, answer_N), truth_N), (
        f"{who}: assets and state do not bring its truth back; see Target.assets."
    )


def check_objective(objective: Objective, model: Model, tokens: Tokens, separable: bool = True) -> None:
    """Terms as counted, in one order whatever the batch holds; sums, never means; gradients; empty batches; state.

    Args:
        objective: set up on ``model``. tokens: a batch with every modality of the model.
        separable: a record's loss does not depend on the other records (False for contrastive terms).
    """
    who, draw = named(objective), Draw(5)
    before = frozen(tokens)
    with keyed(objective):
        views = objective.views(tokens, 0.5, draw)
    check_untouched(objective, tokens, before)
    names = list(objective.counts(tokens, views))
    model.train()
    objective.train()
    terms = _terms(objective, model, tokens, draw)
    torch.autograd.backward(sum((t.weight * t.total / max(t.count, 1) for t in terms), torch.zeros(())))
    check_gradients(objective, objective)
    for address, head in model.heads.items():
        for parameter in head.parameters():
            assert parameter.grad is not None, (
                f"{who}: head {address} gets no gradient; make in setup only the heads that forward uses."
            )
    model.zero_grad()
    objective.zero_grad()
    model.eval()
    objective.eval()
    with torch.no_grad():
        whole = _terms(objective, model, tokens, draw)
        parts = [_terms(objective, model, tokens.segment(s), draw) for s in range(tokens.layout.segments)]
        for other in [*parts, _terms(objective, model, pack([], tokens.tokenizers), draw)]:
            assert [t.name for t in other] == names, (
                f"{who}: the terms are {names} on one batch and {[t.name for t in other]} on another. "
                "Return every term always, with total 0 and count 0 where there is nothing."
            )
            assert all(t.total.isfinite() for t in other), f"{who}: a term with nothing to sum must be 0, not NaN."
        if separable:
            for i, term in enumerate(whole):
                total = torch.stack([p[i].total for p in parts]).sum()
                assert near(term.total, total, 1e-4), (
                    f"{who}: term {term.name!r} is {float(term.total)} on a batch, {float(total)} over its records one by one. "
                    "A total is a sum over tokens, never a mean, and batch mates have no part in it."
                )
                assert term.count == sum(p[i].count for p in parts), (
                    f"{who}: the counts of {term.name!r} do not add up over records."
                )
        twin = copy.deepcopy((objective, model))
        twin[0].load_state_dict(objective.state_dict())
        for ours, theirs in zip(whole, _terms(*twin, tokens, draw), strict=True):
            assert near(ours.total, theirs.total, 1e-6), f"{who}: a copy with the same state gives another {ours.name!r}."


def _terms(objective: Objective, model: Model, tokens: Tokens, draw: Draw) -> list[Term]:
    """The terms of one batch, compared with what was counted beforehand."""
    views = objective.views(tokens, 0.5, draw)
    counts = objective.counts(tokens, views)
    terms: list[Term] = objective(model, tokens, views, 0.5)
    said = {t.name: t.count for t in terms}
    assert list(said.items()) == list(counts.items()), f"{named(objective)}: counts says {counts}, forward counted {said}."
    return terms


def check_learns(
    objective: Objective, model: Model, tokens: Tokens, steps: int = 30, rate: float = 1e-2, share: float = 0.9
) -> list[float]:
    """The loss on one batch under one draw falls: the mean of the last three steps lies below ``share`` of the first three's.

    Returns:
        the losses.
    """
    parameters = [p for p in {*model.parameters(), *objective.parameters()} if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, rate)
    model.train()
    objective.train()
    losses = []
    for step in range(steps):
        progress = step / steps
        views = objective.views(tokens, progress, Draw(5))
        terms = objective(model, tokens, views, progress)
        loss = sum((t.weight * t.total / t.count for t in terms if t.count), torch.zeros(()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        objective.after_step(model, progress)
        losses.append(float(loss.detach()))
    first, last = sum(losses[:3]) / 3, sum(losses[-3:]) / 3
    assert last < share * first, (
        f"{named(objective)}: the loss went from {first:.4f} to {last:.4f} in {steps} steps on one batch; "
        f"it should fall below {share:g} of it."
    )
    return losses
