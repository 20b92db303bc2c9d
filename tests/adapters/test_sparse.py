"""Lottery-ticket sparse fine-tuning: the count, the bits, the resume, the sum."""

import pytest
import torch
from ladder import answers, copied, fit, training

from mmm.adapters._body import body
from mmm.adapters.sparse import Sparse, compose

SHARE = 0.1


def trained(steps: int = 8, **arguments):
    made = training(Sparse(SHARE, **arguments))
    start = copied(made)
    fit(made, steps)
    return made, {n: start[n] for n in body(made.model)}


def test_exactly_the_share_moves():
    made, start = trained()
    total = sum(p.numel() for p in start.values())
    assert int(made.adapter.chosen_P.sum()) == round(SHARE * total)
    moved = 0
    for name, _, before, chosen in made.adapter._entries(made.model):
        parameter = made.model.get_parameter(name)
        assert torch.equal(before, start[name])
        assert torch.equal(parameter[~chosen], start[name][~chosen]), f"{name}: an entry that was not chosen moved"
        moved += int((parameter != start[name]).sum())
    assert 0.99 * SHARE * total < moved <= SHARE * total


def test_momentum_alone_would_move_what_is_not_chosen():
    """Why entries are put back: with masked gradients only, moments of the first half and weight decay go on moving them."""

    class Masked(Sparse):
        def after_step(self, model, progress):
            if not self.found:
                super().after_step(model, progress)

    made = training(Masked(SHARE))
    fit(made, 8)
    row = torch.cat([p.detach().flatten() for p in body(made.model).values()])
    other = ~made.adapter.chosen_P
    assert (row != made.adapter.start_P)[other].any()


def test_those_are_chosen_that_moved_most():
    class Watching(Sparse):
        def after_step(self, model, progress):
            found, row = bool(self.found), torch.cat([p.detach().flatten() for p in body(model).values()])
            super().after_step(model, progress)
            if self.found and not found:
                self.moved_P = (row - self.start_P).abs()

    made = training(Watching(SHARE))
    fit(made, 8)
    chosen = made.adapter.chosen_P
    assert made.adapter.moved_P[chosen].min() >= made.adapter.moved_P[~chosen].max()


@pytest.mark.parametrize("at", [3, 6], ids=["searching", "sparse"])
def test_resume_is_exact(tmp_path, at):
    whole = training(Sparse(SHARE))
    fit(whole, 8, tmp_path, save_at=at)
    again = training(Sparse(SHARE), seed=3)
    fit(again, 8, tmp_path, ckpt_path=str(tmp_path / "step.ckpt"), weights_only=True)
    first, second = whole.state_dict(), again.state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[n], second[n]) for n in first)


def test_differences_add_up():
    runs = []
    for steps in (8, 10):
        made, start = trained(steps)
        runs.append((made, made.adapter.differences(made.model)))
    base = training(None)
    state = base.model.state_dict()
    kept = {n: x.clone() for n, x in state.items()}
    both = compose(state, *(d for _, d in runs))
    for name in start:
        assert torch.allclose(both[name], start[name] + runs[0][1][name] + runs[1][1][name], atol=1e-6)
        assert torch.equal(state[name], kept[name]), "compose wrote into its base"
    assert torch.equal(both["heads.ids/TokenIds.weight"], both["modalities.ids.table.weight"])
    made, difference = runs[0]
    for name, value in compose(state, difference).items():
        if name in difference:
            assert torch.allclose(value, made.model.state_dict()[name], atol=1e-6)
    base.model.load_state_dict(both)
    assert torch.equal(base.model.heads["ids/TokenIds"].weight, both["modalities.ids.table.weight"])
    assert not torch.equal(answers(base), answers(training(None)))


def test_differences_are_sparse():
    made, _ = trained()
    difference = made.adapter.differences(made.model)
    nonzero = sum(int((d != 0).sum()) for d in difference.values())
    assert 0 < nonzero <= int(made.adapter.chosen_P.sum())


def test_refusals():
    for arguments in ({"share": 0}, {"share": 1.1}, {"search": 0}, {"search": 1}):
        with pytest.raises(ValueError, match="between 0 and 1"):
            Sparse(**arguments)
    made = training(Sparse())
    with pytest.raises(ValueError, match=r"nothing is chosen before 0\.5"):
        made.adapter.differences(made.model)
    with pytest.raises(ValueError, match=r"the base has \(2,\) there"):
        compose({"a": torch.zeros(2)}, {"a": torch.zeros(3)})
    with pytest.raises(ValueError, match="the base has nothing there"):
        compose({}, {"a": torch.zeros(3)})
