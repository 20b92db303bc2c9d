"""Rotary and absolute positions, against the libraries whose weights we take."""

import pytest
import torch

from mmm.nn.positions import LearnedPositions, sinusoidal
from mmm.nn.rotary import angles, rotate
from mmm.testing import near


@pytest.mark.parametrize("theta", [10000.0, 160000.0])
def test_rotary_is_that_of_llama_and_esm(theta):
    from transformers import LlamaConfig
    from transformers.models.esm.modeling_esm import apply_rotary_pos_emb
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=32, num_attention_heads=4, rope_parameters={"rope_type": "default", "rope_theta": theta})
    place_T = torch.tensor([0, 1, 2, 30, 500])
    q, k = torch.randn(2, 1, 4, 5, 8)
    cos, sin = LlamaRotaryEmbedding(config)(q, place_T[None])
    theirs = apply_rotary_pos_emb(q, k, cos, sin)
    turn = angles(place_T[:, None].expand(-1, 3).float(), 8, 1, theta)
    for x, turned in zip((q, k), theirs, strict=True):
        assert near(rotate(x[0].transpose(0, 1), *turn).transpose(0, 1)[None], turned, 1e-4)


def test_rotary_sees_differences_only():
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 2, 12)
    position = torch.tensor([[[2.0, 5, 9]], [[4.0, 1, 3]]])
    for coordinates in (1, 2, 3):
        products = []
        for shift in (0.0, 17.0):
            a, b = (angles(p + shift, 12, coordinates) for p in position)
            products.append((rotate(q, *a) * rotate(k, *b)).sum(-1))
        assert near(products[0], products[1], 1e-4)


@pytest.mark.parametrize("tokens", [0, 3, 40_000])
def test_rotation_and_its_gradient_are_those_of_the_formula(tokens):
    """In float64, over fewer tokens and more than are turned at once, of strided queries."""
    torch.manual_seed(0)
    x = torch.randn(tokens, 3, 2, 8, dtype=torch.float64, requires_grad=True)
    turn = tuple(each.double() for each in angles(torch.rand(tokens, 3) * 50, 8, 1))
    q = x[:, :2]
    cos, sin = (each[:, None, None] for each in turn)
    expected = q * cos + torch.cat([-q[..., 4:], q[..., :4]], -1) * sin
    weight = torch.randn_like(expected)
    ours = rotate(q, *turn)
    assert near(ours, expected, 1e-12)
    assert near(*(torch.autograd.grad((y * weight).sum(), x)[0] for y in (ours, expected)), 1e-12)


def test_the_gradient_of_a_rotation_has_one_itself():
    torch.manual_seed(0)
    x = torch.randn(5, 1, 4, dtype=torch.float64, requires_grad=True)
    turn = [each.double() for each in angles(torch.rand(5, 3), 4, 1)]
    assert torch.autograd.gradgradcheck(lambda x: rotate(x, *turn).square(), (x,))


def test_every_coordinate_turns_something():
    base = angles(torch.zeros(1, 3), 12, 3)[1]
    for c in range(3):
        moved = angles(torch.eye(3)[c : c + 1], 12, 3)[1]
        assert int((moved != base).sum()) == 4  # its third of the 12 channels
    assert torch.equal(angles(torch.tensor([[7.0, 8.0, 0.0]]), 12, 1)[1], torch.zeros(1, 12))


def test_rotary_keeps_the_dtype():
    turn = angles(torch.ones(2, 3), 8, 1)
    assert rotate(torch.ones(2, 1, 8, dtype=torch.bfloat16), *turn).dtype == torch.bfloat16


def test_sines_are_those_of_mae():
    """Its weights were trained with the column in the first half of the channels, the row in the second."""
    from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

    yx = torch.stack(torch.meshgrid(torch.arange(5.0), torch.arange(4.0), indexing="ij"), -1).reshape(-1, 2)
    table = build_2d_sinusoidal_position_embedding(5, 4, 24).roll(12, dims=1)
    assert near(sinusoidal(torch.nn.functional.pad(yx, (1, 0)), 24, 2), table, 1e-6)


def test_sines_of_one_coordinate_are_those_of_the_transformer():
    position = torch.arange(6.0)
    angle = position[:, None] * 10000 ** -(torch.arange(4) / 4)
    assert near(sinusoidal(position[:, None].expand(-1, 3), 8, 1), torch.cat([angle.sin(), angle.cos()], 1), 1e-6)
    odd = sinusoidal(torch.rand(3, 3), 16, 3)
    assert odd.shape == (3, 16)
    assert not odd[:, 12:].any()
    assert odd[:, :12].any()


@pytest.mark.parametrize(
    "position",
    [
        torch.tensor([3.0, 0, 2, 3, 1]),
        torch.tensor([0.5, 1, 2, 2.25]),  # frames may lie between whole numbers
        torch.tensor([-1.0, 0, 1]),
        torch.tensor([0.0, 2.0**40]),
        torch.tensor([]),
    ],
)
def test_sines_hang_on_the_position_alone(position):
    one_by_one = [sinusoidal(p[None, None].expand(-1, 3), 8, 1) for p in position]
    angle = position[:, None].double() * 10000 ** -(torch.arange(4, dtype=torch.float64) / 4)
    table = sinusoidal(position[:, None].expand(-1, 3), 8, 1)
    assert torch.equal(table, torch.cat([angle.sin(), angle.cos()], 1).float())
    assert torch.equal(table, torch.cat([*one_by_one, torch.zeros(0, 8)]))


def test_learned_positions_are_looked_up_by_cell():
    torch.manual_seed(0)
    table = LearnedPositions((3, 4), 5)
    position_TC = torch.tensor([[0.0, 0, 0], [0, 1, 2], [9, 2, 3]])
    assert torch.equal(table(position_TC, 2), table.table[[0, 6, 11]])
    line = LearnedPositions((12,), 5)
    assert torch.equal(line(position_TC, 1), line.table[[0, 2, 3]])
    assert table(position_TC[:0], 2).shape == (0, 5)


@pytest.mark.parametrize("wrong", [4, -1])
def test_a_place_outside_the_learned_ones_is_an_error_that_names_it(wrong):
    with pytest.raises(ValueError, match=rf"position {wrong} lies outside the learned positions \(3, 4\)"):
        LearnedPositions((3, 4), 5)(torch.tensor([[0.0, 2, wrong]]), 2)
