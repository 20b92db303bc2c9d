"""Samplers: what they draw is what the model says, in the order their papers give."""

import math

import pytest
import torch
from scipy.stats import chisquare

from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe
from mmm.core.sampler import filled, lowest
from mmm.core.tokens import Sample, pack
from mmm.core.view import View
from mmm.samplers.ancestral import Ancestral
from mmm.samplers.mask_git import MaskGit
from mmm.targets.token_ids import TokenIds
from mmm.testing import ToyIds, ToyPatches, tiny_model

IDS = 16  # 1 to 16; 0 is the special


@pytest.fixture(scope="module")
def model():
    """One whose answers hang strongly on what is shown."""
    torch.manual_seed(3)
    model = tiny_model({"ids": ToyIds()}).eval()
    target = TokenIds()
    target.bind("ids", model.modalities["ids"].tokenizer)
    model.make_head("", "ids", target, "linear")
    with torch.no_grad():
        model.heads["ids/TokenIds"].output.weight.mul_(4)
        for block in model.encoder.blocks:
            for parameter in block.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(12)
    return model


def packed(model, raws):
    tokenizer = model.modalities["ids"].tokenizer
    return pack([Sample({"ids": tokenizer.tokenize(raw)}, i) for i, raw in enumerate(raws)], {"ids": tokenizer})


def probabilities(model, raws, hidden):
    """p_BNV of the ids 1 to 16 at the hidden places of records of one length, from the model itself."""
    tokens = packed(model, raws)
    hidden_T = torch.zeros(len(tokens), dtype=torch.bool).view(len(raws), -1)
    hidden_T[:, hidden] = True
    with torch.no_grad():
        logits = model.heads["ids/TokenIds"](model(View.of(tokens, hidden_T.flatten())))
    return logits[:, 1:].double().softmax(-1).view(len(raws), len(hidden), IDS)


def test_two_tokens_are_drawn_as_often_as_the_model_says(model):
    """Two steps: both in one with probability 1/2, each of them first with 1/4; 20,000 records against the exact law."""
    rest, records = [5, 6, 7], 20_000
    ids = range(1, IDS + 1)
    both = probabilities(model, [[1, 1, *rest]], [1, 2])[0]
    second = probabilities(model, [[a, 1, *rest] for a in ids], [2])[:, 0]  # given the first
    first = probabilities(model, [[1, b, *rest] for b in ids], [1])[:, 0]  # given the second
    at_once = both[0][:, None] * both[1][None]
    law = at_once / 2 + both[0][:, None] * second / 4 + (both[1][:, None] * first).T / 4
    tokens = packed(model, [[1, 1, *rest]] * records)
    hidden_T = torch.zeros(len(tokens), dtype=torch.bool).view(records, -1)
    hidden_T[:, 1:3] = True
    done = Ancestral(steps=2)(model, tokens, hidden_T.flatten(), Draw(0)).content["ids"].view(records, -1) - 1
    seen = torch.bincount(done[:, 1] * IDS + done[:, 2], minlength=IDS**2)

    def p_value(law):
        expected = law.flatten() * records
        rare = expected < 5
        cells = [torch.cat([x[~rare].double(), x[rare].sum()[None].double()]) for x in (seen, expected)]
        return chisquare(*(c.numpy() for c in cells)).pvalue

    assert p_value(law) > 0.001
    assert p_value(at_once) < 1e-6, "the example cannot tell the order from no order"


def test_a_step_asks_at_its_own_tokens_alone(model, monkeypatch):
    asked = []
    guess = Ancestral.guess

    def spied(self, model, tokens, hidden_T, at_N, *rest):
        asked.append((int(hidden_T.sum()), len(at_N)))
        return guess(self, model, tokens, hidden_T, at_N, *rest)

    monkeypatch.setattr(Ancestral, "guess", spied)
    tokens = packed(model, [[1, 2, 3]] * 4)
    Ancestral(steps=200)(model, tokens, tokens.layout.maskable_T, Draw(0))
    assert len(asked) <= 12  # as many as tokens, though there are 200 steps
    assert sum(n for _, n in asked) == 12
    assert [hidden for hidden, _ in asked] == [12 - sum(n for _, n in asked[:i]) for i in range(len(asked))]


def test_the_likeliest_of_all_are_shown_first(model):
    """Against the same by hand, a record at a time."""
    raws, steps = [[1] * 9, [2, 3, 4, 1, 1, 1, 1, 1, 1], [7] * 9], 4
    tokens = packed(model, raws)
    done = MaskGit(steps, temperature=0, choice=0)(model, tokens, tokens.layout.maskable_T, Draw(0))
    for s in range(len(raws)):
        ids, hidden = [1] * 9, list(range(1, 10))
        for step in range(1, steps + 1):
            p_NV = probabilities(model, [ids], hidden)[0]
            sure = sorted(zip(p_NV.max(-1).values.tolist(), hidden, (p_NV.argmax(-1) + 1).tolist(), strict=True), reverse=True)
            left = min(math.floor(9 * math.cos(math.pi / 2 * step / steps)), len(hidden) - 1)
            for _, place, chosen in sure[: len(hidden) - left]:
                ids[place - 1] = chosen
                hidden.remove(place)
        assert not hidden
        assert done.segment(s).content["ids"].tolist() == [0, *ids]


def test_the_order_follows_the_cosine(model, monkeypatch):
    asked = []
    guess = MaskGit.guess
    monkeypatch.setattr(MaskGit, "guess", lambda *args: asked.append(len(args[4])) or guess(*args))
    tokens = packed(model, [[1] * 10])
    MaskGit(steps=4)(model, tokens, tokens.layout.maskable_T, Draw(0))
    assert asked == [10, 9, 7, 3]  # floor(10 cos(pi / 8 k))


def test_the_choice_temperature_moves_the_order_and_the_draw_the_ids(model):
    tokens = packed(model, [[1] * 12] * 8)
    hidden_T = tokens.layout.maskable_T
    one, same, other = (MaskGit(6)(model, tokens, hidden_T, Draw(seed)).content["ids"] for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    greedy = MaskGit(6, temperature=0, choice=0)(model, tokens, hidden_T, Draw(0)).content["ids"].view(8, -1)
    shuffled = MaskGit(6, temperature=0, choice=50)(model, tokens, hidden_T, Draw(0)).content["ids"].view(8, -1)
    assert (greedy == greedy[0]).all()  # equal records, nothing drawn
    assert not (shuffled == shuffled[0]).all()


def test_what_nobody_may_draw_is_not_drawn(model):
    """Even where the model is sure of it."""
    head = model.heads["ids/TokenIds"].output
    before = head.bias.detach().clone()
    try:
        with torch.no_grad():
            head.bias[0] += 100
        tokens = packed(model, [[1] * 10] * 10)
        for sampler in (Ancestral(3), MaskGit(3), MaskGit(3, temperature=0, choice=0)):
            done = sampler(model, tokens, tokens.layout.maskable_T, Draw(0)).content["ids"].view(10, -1)
            assert (done[:, 1:] > 0).all()
    finally:
        with torch.no_grad():
            head.bias.copy_(before)


def test_lowest_and_filled(model):
    rank = torch.tensor([3.0, 1, 2, 1, 5, 4])
    group = torch.tensor([0, 0, 0, 2, 2, 2])
    assert lowest(rank, group, torch.tensor([1, 9, 2])).tolist() == [False, True, False, True, False, True]
    assert lowest(rank, group, torch.tensor([0, -1, 0])).tolist() == [False] * 6
    tokens = packed(model, [[1, 2], [3, 4, 5]])
    done = filled(tokens, torch.tensor([1, 5]), torch.tensor([9, 8]))
    assert done.content["ids"].tolist() == [0, 9, 2, 0, 3, 8, 5]
    assert tokens.content["ids"].tolist() == [0, 1, 2, 0, 3, 4, 5]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Ancestral(0),
        lambda: MaskGit(2, temperature=-1),
        lambda: MaskGit(2, choice=-1),
        lambda: Ancestral(2, float("inf")),
    ],
)
def test_arguments(make):
    with pytest.raises(ValueError, match=r"Ancestral\(|MaskGit\("):
        make()


def test_patches_have_no_ids_to_be_filled_in():
    model = tiny_model({"patches": ToyPatches()})
    tokenizer = model.modalities["patches"].tokenizer
    tokens = pack([Sample({"patches": tokenizer.tokenize(torch.rand(2, 2, 4))})], {"patches": tokenizer})
    for sampler in (Ancestral(2), MaskGit(2)):
        with pytest.raises(BadRecipe, match="no head that predicts masked tokens of 'patches'"):
            sampler(model, tokens, torch.ones(4, dtype=torch.bool), Draw(0))


def test_any_temperature_above_zero(model):
    tokens = packed(model, [[1] * 10] * 4)
    nearly, greedy = (
        MaskGit(4, t, choice=0)(model, tokens, tokens.layout.maskable_T, Draw(0)).content["ids"] for t in (1e-40, 0)
    )
    assert torch.equal(nearly, greedy)
    broken = tiny_model({"ids": ToyIds()}).eval()
    target = TokenIds()
    target.bind("ids", broken.modalities["ids"].tokenizer)
    broken.make_head("", "ids", target, "linear")
    with torch.no_grad():
        broken.heads["ids/TokenIds"].output.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="Ancestral: the model's outputs are not finite"):
        Ancestral(2)(broken, tokens, tokens.layout.maskable_T, Draw(0))
