"""The few weights that a task moves most.

Shape suffixes: P parameters of the body, all of them in one row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from mmm.core.model import Model

from ._body import InPlace, body


class Sparse(InPlace):
    """Lottery-ticket sparse fine-tuning. At first everything is trained; then the entries of the body that moved furthest from
    their pretrained values are chosen, the body is put back to these values, and the chosen entries alone are trained.

    What is not chosen keeps its pretrained bits: its gradient is 0 (and no part of the clipped norm), and after every step it
    is put back, since momentum and weight decay would move it. The chosen entries begin their second half with the optimiser's
    moments of the first, which fade within some 1 / (1 - beta) steps; the learning rate follows one schedule through both.
    Heads are trained throughout and not put back.

    The pretrained values and the choice, (P,) each, are buffers: a resumed run goes on exactly. ``differences`` of several runs
    from one pretrained model (a language, a task) add up; see ``compose``.

    Paper: Ansell et al. 2021, "Composable Sparse Fine-Tuning for Cross-Lingual Transfer" (LT-SFT), arXiv:2110.07560.

    Args:
        share: of the body's parameters that are chosen, above 0 and at most 1 (the paper's tasks: about 0.08).
        search: share of training in which everything is trained, to find them; it ends with the first step at or after it.
    """

    start_P: Tensor
    chosen_P: Tensor
    found: Tensor

    def __init__(self, share: float = 0.08, search: float = 0.5):
        super().__init__()
        if not 0 < share <= 1 or not 0 < search < 1:
            raise ValueError(f"Sparse(share={share}, search={search}): needs shares between 0 and 1")
        self.share, self.search = share, search

    def adapt(self, model: Model) -> None:
        """Keep the pretrained values. Everything stays trained."""
        self.register_buffer("start_P", _row(model))
        self.register_buffer("chosen_P", torch.zeros_like(self.start_P, dtype=torch.bool))
        self.register_buffer("found", torch.zeros((), dtype=torch.bool))

    def after_backward(self, model: Model, progress: float) -> None:
        if not self.found:
            return
        for _, parameter, _, chosen in self._entries(model):
            if parameter.grad is not None:
                parameter.grad.mul_(chosen)

    @torch.no_grad()
    def after_step(self, model: Model, progress: float) -> None:
        if not self.found and progress >= self.search:
            moved_P = (_row(model) - self.start_P).abs()
            self.chosen_P[moved_P.topk(max(1, round(self.share * len(moved_P)))).indices] = True
            self.found.fill_(True)
            for _, parameter, start, _ in self._entries(model):
                parameter.copy_(start)
        elif self.found:
            for _, parameter, start, chosen in self._entries(model):
                parameter.copy_(torch.where(chosen, parameter, start))

    def differences(self, model: Model) -> dict[str, Tensor]:
        """What was learned, by the parameters' names in the model: chosen entries less their pretrained values, 0 elsewhere.

        Raises:
            ValueError: nothing is chosen yet.
        """
        if not self.found:
            raise ValueError(f"Sparse: nothing is chosen before {self.search:g} of training is done; train to the end first")
        return {
            name: torch.where(chosen, parameter.detach() - start, 0) for name, parameter, start, chosen in self._entries(model)
        }

    def _entries(self, model: Model) -> Iterator[tuple[str, nn.Parameter, Tensor, Tensor]]:
        """(name, parameter, its pretrained values, its chosen entries) of the body."""
        named = body(model)
        sizes = [p.numel() for p in named.values()]
        rows = zip(named.items(), self.start_P.split(sizes), self.chosen_P.split(sizes), strict=True)
        for (name, parameter), start, chosen in rows:
            yield name, parameter, start.view_as(parameter), chosen.view_as(parameter)


def _row(model: Model) -> Tensor:
    """(P,) a copy of the body."""
    return torch.cat([p.detach().flatten() for p in body(model).values()])


def compose(base: Mapping[str, Tensor], *differences: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a model with what several sparse runs learned added to it.

    Args:
        base: ``model.state_dict()``: of the pretrained model, or of one run that the others are added to. An entry that shares
            its memory with another (a tied head with its embedding) stays equal to it.
        differences: of ``Sparse.differences``.

    Returns:
        a new state for ``model.load_state_dict``.

    Raises:
        ValueError: a difference names a parameter that ``base`` has not, or one of another shape.
    """
    state = dict(base)
    for part in differences:
        for name, difference in part.items():
            there = tuple(state[name].shape) if name in state else "nothing"
            if there != tuple(difference.shape):
                raise ValueError(
                    f"the difference of {name} has the shape {tuple(difference.shape)}, the base has {there} there; "
                    "sparse differences add up on the model they were learned from"
                )
            old = state[name]
            new = old + difference
            state.update({n: new for n, x in state.items() if x.data_ptr() == old.data_ptr() and x.shape == old.shape})
    return state
