"""Adapters that put modules in, against what they should compute, written out."""

import pytest
import torch
import torch.nn.functional as F
from ladder import answers, fit, stir, training
from torch import nn

from mmm.adapters._around import Coupling
from mmm.adapters._longer import Longer
from mmm.adapters.bottleneck import Bottleneck, _Net
from mmm.adapters.invertible import Invertible
from mmm.adapters.lora import LoRA
from mmm.adapters.prefix import Prefix
from mmm.adapters.prompt import Prompt
from mmm.core.rule import Causal, Window
from mmm.encoders.transformer import Local, Transformer
from mmm.nn.relative import Grid, RelativeBias
from mmm.nn.rotary import angles, rotate
from mmm.testing import ToyIds, ToyPatches, batch, near, tiny_model


def lone(lengths=(5,)):
    """Layout of records of ids of these lengths (a special token besides)."""
    modalities = {"ids": ToyIds()}
    return batch(modalities, [{"ids": list(range(1, n + 1))} for n in lengths]).layout


# -- LoRA ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stabilised", "factor"), [(False, 12 / 4), (True, 12 / 2)])
def test_lora_folds_the_product_it_says(stabilised, factor):
    made = training(LoRA(4, 12.0, stabilised=stabilised))
    stir(made)
    layer = made.model.encoder.blocks[0].attention.qkv
    expected = layer.weight.detach() + factor * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    made.adapter.merge(made.model)
    assert type(made.model.encoder.blocks[0].attention.qkv) is nn.Linear
    assert torch.allclose(made.model.encoder.blocks[0].attention.qkv.weight, expected, atol=1e-6)


def test_lora_names_the_choices():
    with pytest.raises(ValueError, match=r"no product 'query'.*attention.out, attention.qkv, mlp.down, mlp.up"):
        training(LoRA(targets=["query"]))
    with pytest.raises(ValueError, match="rank"):
        LoRA(0)
    with pytest.raises(ValueError, match="name at least one"):
        LoRA(targets=[])


# -- Bottleneck, Invertible ----------------------------------------------------------------------------------------------------


def test_bottlenecks_stand_where_they_should():
    houlsby, pfeiffer = training(Bottleneck(4)), training(Bottleneck(4, "pfeiffer"))
    assert [sum(isinstance(m, _Net) for m in made.model.modules()) for made in (houlsby, pfeiffer)] == [4, 2]
    stir(pfeiffer)
    layout = lone()
    x = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    adapted, plain = pfeiffer.model.encoder.blocks[0], training(None).model.encoder.blocks[0]
    y, net = plain(x, layout), adapted.bottleneck
    assert torch.equal(adapted(x, layout), y + net.up(F.gelu(net.down(y))))


def test_bottleneck_refusals():
    with pytest.raises(ValueError, match="houlsby or pfeiffer"):
        Bottleneck(4, "after")
    with pytest.raises(ValueError, match="1 or more"):
        Bottleneck(0)
    model = tiny_model({"ids": ToyIds()})
    model.encoder.blocks = nn.ModuleList(nn.Linear(32, 32) for _ in range(2))
    with pytest.raises(ValueError, match="choose placement: pfeiffer"):
        Bottleneck().adapt(model)
    Bottleneck(4, "pfeiffer").adapt(model)


@pytest.mark.parametrize("width", [16, 17])
def test_the_coupling_is_inverted(width):
    torch.manual_seed(0)
    coupling = Coupling(width, 8).double()
    x = torch.randn(20, width, dtype=torch.float64)
    assert torch.equal(coupling(x), x)
    for parameter in coupling.parameters():
        nn.init.normal_(parameter)
    y = coupling(x)
    assert (y - x).abs().max() > 1
    assert (coupling.inverse(y) - x).abs().max() < 1e-12
    assert (coupling(coupling.inverse(x)) - x).abs().max() < 1e-12
    jacobian = torch.autograd.functional.jacobian(lambda r: coupling(r[None])[0], x[0])
    assert float(torch.linalg.det(jacobian)) == pytest.approx(1)  # volume is kept: NICE


def test_the_coupling_goes_around_the_encoder():
    made = training(Invertible(bottleneck=4))
    stir(made)
    outer = made.model.encoder
    layout = lone((5, 3))
    x = torch.randn(len(layout), 32, generator=torch.Generator().manual_seed(0))
    encoded = outer(x, layout, want=(0, 1, 2))
    inside = outer.inner(outer.coupling(x), layout, want=(0, 1, 2))
    assert torch.equal(encoded.x_KD, outer.coupling.inverse(inside.x_KD))
    assert all(torch.equal(encoded.layers[i], inside.layers[i]) for i in (0, 1, 2))
    assert (outer.width, outer.depth) == (32, 2)


# -- Prompt, Prefix ------------------------------------------------------------------------------------------------------------


def test_the_longer_axis():
    layout = lone((2, 3)).select(torch.tensor([3, 4, 5, 6]))  # nothing of the first record is left
    longer = Longer.of(layout, 2)
    assert longer.layout.lengths == (0, 6)
    assert longer.near_M.tolist() == [0, 0, 0, 1, 2, 3]
    assert longer.own_T.tolist() == [2, 3, 4, 5]
    assert longer.layout.segment_T.tolist() == [1] * 6
    assert longer.layout.position_TC[:, -1].tolist() == [-1, -1, 0, 1, 2, 3]
    assert longer.layout.unit_T.tolist() == [-1, -1, *layout.unit_T.tolist()]
    assert longer.layout.maskable_T.tolist() == [False, False, *layout.maskable_T.tolist()]
    x_T = torch.arange(4.0)[:, None]
    x_M = longer.insert(x_T, torch.tensor([[10.0], [11.0]]))
    assert x_M[:, 0].tolist() == [10, 11, 0, 1, 2, 3]
    assert torch.equal(longer.remove(x_M), x_T)
    assert len(Longer.of(layout.select(torch.tensor([], dtype=torch.int64)), 2).layout) == 0


@pytest.mark.parametrize("deep", [False, True])
def test_prompts_are_rows_before_the_record(deep):
    """By hand: the blocks over prompts and tokens of one record, prompts exchanged before each block when deep."""
    made = training(Prompt(3, deep))
    stir(made)
    layout = lone()
    x = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    outer = made.model.encoder
    state = torch.cat([outer.prompt_PD, x])
    positions = torch.cat([torch.full((3, 3), -1.0), layout.position_TC])
    turn = angles(positions, 8, 2)
    whole = lone((8,))  # one segment of nine tokens; blocks look at lengths alone
    for i, block in enumerate(outer.inner.blocks):
        if deep and i:
            state = torch.cat([block.prompt_PD, state[3:]])
        state = block.forward(state, whole, None, turn)
    encoded = outer(x, layout, want=(0, 2))
    assert near(encoded.x_KD, outer.inner.norm(state)[3:], 1e-6)
    assert torch.equal(encoded.layers[0], x)
    assert near(encoded.layers[2], state[3:], 1e-6)


def test_prefixes_are_keys_and_values():
    """By hand: softmax over prefix and own keys, the prefix not rotated."""
    made = training(Prefix(3))
    stir(made)
    layout = lone()
    x = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    part = made.model.encoder.blocks[1].attention
    turn = angles(layout.position_TC, 8, 2)
    q, k, v = part.qkv(x).view(6, 3, 4, 8).unbind(1)
    k = torch.cat([part.key_PHd, rotate(k, *turn)])
    v = torch.cat([part.value_PHd, v])
    p = (torch.einsum("qhd,khd->hqk", rotate(q, *turn), k) / 8**0.5).softmax(-1)
    expected = part.out(torch.einsum("hqk,khd->qhd", p, v).flatten(1))
    assert near(part(x, layout, None, turn), expected, 1e-6)


@pytest.mark.parametrize("adapter", [Prompt(3), Prompt(3, deep=True), Prefix(3)], ids=["prompt", "deep", "prefix"])
@pytest.mark.parametrize("rule", [Causal(), Window(1)], ids=["causal", "window"])
def test_rules_hold_beside_learned_rows(adapter, rule):
    """A changed token reaches those that the rule lets see it within two blocks, and nobody else; all see the learned rows."""
    made = training(adapter)
    stir(made)
    layout = lone((9, 12))
    x = torch.randn(len(layout), 32, generator=torch.Generator().manual_seed(0))
    encoder = made.model.encoder.eval()
    with torch.no_grad():
        before = encoder(x, layout, rule).x_KD
        at = 10 + 6  # the seventh token of the second record
        other = x.clone()
        other[at] = -x[at]
        changed = (encoder(other, layout, rule).x_KD != before).any(1)
        reach = range(at, len(layout)) if isinstance(rule, Causal) else range(at - 2, at + 3)
        assert changed.nonzero()[:, 0].tolist() == list(reach)
        for name, parameter in encoder.named_parameters():
            if parameter.requires_grad and "inner.blocks.1" not in name:
                parameter.mul_(2)
        assert (encoder(x, layout, rule).x_KD != before).any(1).all()


@pytest.mark.parametrize("shared", [False, True])
def test_prefixes_beside_relative_positions(shared):
    """By hand: the bias is added among tokens, and is 0 at the prefix. Ragged grids, alone as packed."""
    torch.manual_seed(0)
    modalities = {"patches": ToyPatches()}
    tokens = batch(modalities, [{"patches": torch.randn(h, w, 4)} for h, w in [(2, 3), (3, 2), (3, 3), (3, 3)]])
    layout, grid = tokens.layout, Grid(3, 3, shared)
    model = tiny_model(modalities, Transformer(32, 2, 4, relative=grid))
    for parameter in (p for n, p in model.named_parameters() if "relative" in n):
        nn.init.normal_(parameter)
    x = torch.randn(len(layout), 32)
    plain = model.encoder(x, layout).x_KD
    Prefix(2).adapt(model)
    part, table = model.encoder.blocks[0].attention, RelativeBias(grid, 4)
    nn.init.normal_(table.table)
    y = part(x, layout, None, None, table(grid.places(layout)))
    for s in range(layout.segments):
        own = layout.segment_T == s
        q, k, v = part.qkv(x[own]).unflatten(1, (3, 4, 8)).unbind(1)
        k, v = torch.cat([part.key_PHd, k]), torch.cat([part.value_PHd, v])
        bias = F.pad(table.dense(layout)[:, own][:, :, own], (2, 0))
        p = (torch.einsum("qhd,khd->hqk", q, k) / 8**0.5 + bias).softmax(-1)
        assert near(y[own], part.out(torch.einsum("hqk,khd->qhd", p, v).flatten(1)), 1e-5)
        alone = tokens.segment(s).layout
        assert near(model.encoder(x[own], alone).x_KD, model.encoder(x, layout).x_KD[own])
    assert not near(model.encoder(x, layout).x_KD, plain)


def test_prompts_are_off_the_grid():
    torch.manual_seed(0)
    modalities = {"patches": ToyPatches()}
    layout = batch(modalities, [{"patches": torch.randn(2, 3, 4)}]).layout
    model = tiny_model(modalities, Transformer(32, 2, 4, relative=Grid(2, 3)))
    Prompt(2, deep=True).adapt(model)
    (entry,) = model.encoder.inner.grid.places(Longer.of(layout, 2).layout)
    offsets = model.encoder.inner.grid.offsets
    assert (entry[0, :2, 2:] == offsets - 3).all()
    assert (entry[0, 2:, :2] == offsets - 2).all()
    assert (entry[0, 2:, 2:] < offsets - 3).all()
    assert model.encoder(torch.randn(6, 32), layout).x_KD.shape == (6, 32)


def test_prefixes_are_seen_in_local_layers():
    torch.manual_seed(0)
    model = tiny_model({"ids": ToyIds()}, Transformer(32, 2, 4, rotary=1, local=Local(2, 3)))
    Prefix(2).adapt(model)
    layout = lone((16,))
    x = torch.randn(17, 32, generator=torch.Generator().manual_seed(0))
    before = model.encoder(x, layout).x_KD
    with torch.no_grad():
        model.encoder.blocks[1].attention.value_PHd.add_(1)  # a local layer
    assert (model.encoder(x, layout).x_KD != before).any(1).all()


@pytest.mark.parametrize("adapter", [Prompt(3, deep=True), Prefix(3)], ids=["prompt", "prefix"])
def test_learned_rows_in_half_precision(adapter):
    made = training(adapter)
    stir(made)
    full = answers(made)
    with torch.autocast("cpu", torch.bfloat16):
        half = answers(made)
    assert near(half.float(), full, 0.1)


@pytest.mark.parametrize("cls", [Prompt, Prefix])
def test_learned_rows_refusals(cls):
    with pytest.raises(ValueError, match="1 or more"):
        cls(0)


def test_a_prefix_needs_attention():
    model = tiny_model({"ids": ToyIds()})
    model.encoder.blocks = nn.ModuleList()
    with pytest.raises(ValueError, match="choose Prompt or LoRA"):
        Prefix().adapt(model)


def test_prompts_learn_a_task_that_a_frozen_body_cannot():
    """The loss falls further with prompts than with a probe: their gradient is of use."""
    losses = {}
    for name, adapter in (("prompt", Prompt(4, deep=True)), ("none", None)):
        made = training(adapter)
        if adapter is None:
            made.model.encoder.requires_grad_(False)
            made.model.modalities.requires_grad_(False)
        fit(made, 30)
        losses[name] = sum(float(t.total) / t.count for t in made.last_terms)
    assert losses["prompt"] < losses["none"]
