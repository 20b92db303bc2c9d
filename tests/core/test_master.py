"""Weights in bfloat16 and the float32 copies that are trained."""

import copy

import pytest
import torch
from torch import nn

from mmm.core.master import Mastered, round_weight
from mmm.optimizers.adamw import AdamW
from mmm.optimizers.lion import Lion
from mmm.optimizers.muon import Muon

KINDS = [AdamW, Lion, Muon]


def half_net(seed: int = 0, rounded: bool = True) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 4))
    for part in net.modules():
        if rounded and isinstance(part, nn.Linear):
            part.weight.data = part.weight.data.bfloat16()
    return net


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    x, y = torch.randn(32, 8, generator=torch.Generator().manual_seed(1)), torch.arange(32) % 4
    losses = []
    for _ in range(steps):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.cross_entropy(net(x).float(), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_float32_parameters_need_none():
    net = nn.Linear(3, 3)
    assert type(AdamW().build(net.parameters())) is torch.optim.AdamW


@pytest.mark.parametrize("kind", KINDS)
def test_as_the_float32_optimiser_learns(kind):
    half, full = half_net(), half_net().float()
    settings = kind(lr=3e-3, clip=None)
    hidden = [half[0].weight], [full[0].weight]
    ours, plain = (settings.build(net.parameters(), hidden=h) for net, h in zip((half, full), hidden, strict=True))
    assert isinstance(ours, Mastered)
    mine, theirs = train(half, ours, 40), train(full, plain, 40)
    assert theirs[-1] < 0.9 * theirs[0]
    assert mine == pytest.approx(theirs, rel=0.03)
    assert half[0].weight.dtype == half[2].weight.dtype == torch.bfloat16
    assert half[1].weight.dtype == half[0].bias.dtype == torch.float32
    for weight, copied in ours.pairs:
        assert torch.equal(weight, copied.bfloat16())


def test_copies_are_what_weights_were_rounded_from():
    """So training is that of mixed precision, to the bit. Nothing is kept twice; a weight that is another by now is copied."""
    half, full = (half_net(rounded=False) for _ in range(2))
    for part in half.modules():
        if isinstance(part, nn.Linear):
            round_weight(part.weight)
    ours, plain = (AdamW(lr=3e-5, clip=None).build(net.parameters()) for net in (half, full))
    assert half[0].weight.dtype == torch.bfloat16
    assert not any("exact" in vars(weight) for weight in half.parameters())
    assert train(half, ours, 10) == train(full, plain, 10)
    for part in (half[0], half[2]):
        round_weight(part.weight)
    other = half_net(seed=1)
    half.load_state_dict(other.state_dict())
    for weight, copied in AdamW().build(half.parameters()).pairs:
        assert torch.equal(weight.float(), copied)


def test_a_frozen_weight_is_rounded_and_no_more():
    weight = nn.Parameter(torch.randn(3, 3), requires_grad=False)
    round_weight(weight)
    assert weight.dtype == torch.bfloat16
    assert "exact" not in vars(weight)


def test_steps_smaller_than_a_digit_add_up():
    weight = nn.Parameter(torch.ones(4, 4, dtype=torch.bfloat16))
    optimizer = AdamW(lr=1e-3, weight_decay=0.0, clip=None).build([weight])
    for _ in range(20):  # a bfloat16 beside 1 is 0.996
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert torch.allclose(weight.float(), torch.tensor(0.98), atol=0.003)


def test_a_weight_without_a_gradient_stays_and_does_not_decay():
    net = half_net()
    optimizer = AdamW(lr=0.1, weight_decay=0.5, clip=None).build(net.parameters())
    before = [copied.detach().clone() for _, copied in optimizer.pairs]
    net[2].weight.grad = torch.ones_like(net[2].weight)
    optimizer.step()
    (_, still), (weight, moved) = optimizer.pairs
    assert weight is net[2].weight
    assert torch.equal(still, before[0])
    assert not torch.equal(moved, before[1])
    optimizer.zero_grad()
    assert net[2].weight.grad is None


def test_what_is_saved_goes_on_to_the_same_bits():
    net = half_net()
    optimizer = AdamW(lr=3e-3, clip=None).build(net.parameters())
    train(net, optimizer, 5)
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    whole = train(net, optimizer, 5)
    again = half_net(seed=9)
    again.load_state_dict(saved[0])
    other = AdamW(lr=3e-3, clip=None).build(again.parameters())
    other.load_state_dict(saved[1])
    assert train(again, other, 5) == whole
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    assert "AdamW" in repr(other)
