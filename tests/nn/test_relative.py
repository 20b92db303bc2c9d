"""Relative positions on a grid: against BEiT's own index, and against one dense bias over the whole packed axis."""

from dataclasses import replace

import pytest
import torch

from mmm.core.rule import Causal, Window
from mmm.core.tokens import Piece, Sample, pack
from mmm.encoders.transformer import Transformer
from mmm.modalities.image import Image
from mmm.nn.attention import attention, dense_attention, runs
from mmm.nn.relative import Grid, RelativeBias
from mmm.testing import near

TOKENIZERS = {"image": Image(size=8, patch=4).tokenizer}


def layout(*places, order=None):
    """Segments whose tokens stand at these (row, column); (-1, -1) is off the grid."""
    samples = [
        Sample({"image": Piece(torch.zeros(len(p), 48), torch.tensor(p), maskable=torch.tensor([a >= 0 for a, _ in p]))}, i)
        for i, p in enumerate(places)
    ]
    return pack(samples, TOKENIZERS).layout


WHOLE = [(-1, -1), *((y, x) for y in range(2) for x in range(3))]
RAGGED = layout(WHOLE, WHOLE, WHOLE[2:], WHOLE[::2], [(1, 2)], WHOLE[:4], [(-1, -1), *WHOLE], [*WHOLE[3:], (0, 0)])


def test_entries_are_those_of_the_library():
    from transformers.models.beit.modeling_beit import BeitRelativePositionBias

    index = BeitRelativePositionBias.generate_relative_position_index((2, 3))
    assert torch.equal(Grid(2, 3).entries(torch.tensor([WHOLE]))[0], index)
    assert Grid(2, 3).offsets == int(index.max()) + 1


def test_whole_images_share_one_look_up():
    grid = Grid(2, 3)
    shapes = {n: tuple(p.shape) for (_, _, n), p in zip(runs(RAGGED.lengths), grid.places(RAGGED), strict=True)}
    assert shapes == {1: (1, 1, 1), 4: (2, 4, 4), 5: (2, 5, 5), 7: (1, 7, 7), 8: (1, 8, 8)}
    assert [p.shape[0] for p in grid.places(layout(WHOLE, WHOLE, WHOLE))] == [1]


@pytest.mark.parametrize("rule", [None, Causal(), Window(1)])
def test_the_bias_is_the_dense_one(rule):
    """Outputs and every gradient, against float64."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(Grid(2, 3).offsets, 2, generator=generator)
    q, k, v = (torch.randn(len(RAGGED), 2, 6, generator=generator) for _ in range(3))
    weight = torch.randn(len(RAGGED), 2, 6, generator=generator)
    found = []
    for dtype in (torch.float32, torch.float64):
        bias = RelativeBias(Grid(2, 3), 2).to(dtype)
        bias.table.data = table.to(dtype)
        states = [x.to(dtype).requires_grad_() for x in (q, k, v)]
        if dtype == torch.float32:
            out = attention(*states, RAGGED, rule, bias(bias.grid.places(RAGGED)))
        else:
            out = dense_attention(*states, RAGGED, rule, bias.dense(RAGGED))
        found.append([out, *torch.autograd.grad((out * weight.to(dtype)).sum(), [*states, bias.table])])
    for ours, exact in zip(*found, strict=True):
        assert near(ours.double(), exact, 1e-5)
    without = attention(q, k, v, RAGGED, rule)
    assert not near(found[0][0], without, 1e-2)


def test_bfloat16_stays_within_its_rounding():
    torch.manual_seed(0)
    bias = RelativeBias(Grid(2, 3), 2)
    torch.nn.init.normal_(bias.table)
    q, k, v = torch.randn(3, len(RAGGED), 2, 6)
    exact = dense_attention(q, k, v, RAGGED, None, bias.dense(RAGGED))
    ours = attention(*(x.bfloat16() for x in (q, k, v)), RAGGED, None, bias(bias.grid.places(RAGGED)))
    assert ours.dtype == torch.bfloat16
    assert near(ours.float(), exact, 0.03)


@pytest.mark.parametrize("shared", [False, True])
def test_an_encoder_has_a_table_for_all_blocks_or_one_for_each(shared):
    torch.manual_seed(0)
    encoder = Transformer(12, 2, 3, init_std=0.4, relative=Grid(2, 3, shared)).eval()
    tables = [n for n, _ in encoder.named_parameters() if "relative" in n]
    assert tables == (["relative.table"] if shared else [f"blocks.{i}.relative.table" for i in (0, 1)])
    x_KD = torch.randn(len(RAGGED), 12)
    plain = Transformer(12, 2, 3).eval()
    plain.load_state_dict({n: p for n, p in encoder.state_dict().items() if n not in tables})
    assert near(encoder(x_KD, RAGGED).x_KD, plain(x_KD, RAGGED).x_KD, 1e-6), "tables are zero at first"
    with torch.no_grad():
        for name, p in encoder.named_parameters():
            if name in tables:
                p.normal_()
    whole = encoder(x_KD, RAGGED).x_KD
    assert not near(whole, plain(x_KD, RAGGED).x_KD, 1e-2)
    for s in range(RAGGED.segments):
        own = RAGGED.segment_T == s
        assert near(encoder(x_KD[own], RAGGED.cut(s)).x_KD, whole[own]), "a segment knows nothing of its mates"
    whole.square().sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for n, p in encoder.named_parameters() if n in tables)


def test_a_token_beyond_the_grid_is_refused():
    with pytest.raises(ValueError, match="know a grid of 2 x 2; two tokens of a record are further apart"):
        Transformer(12, 1, 3, relative=Grid(2, 2))(torch.randn(7, 12), layout(WHOLE))


def test_nothing_at_all():
    empty = replace(pack([], TOKENIZERS).layout)
    assert Transformer(12, 1, 3, relative=Grid(2, 2))(torch.zeros(0, 12), empty).x_KD.shape == (0, 12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("rule", [None, Causal()])
def test_the_gpu_gives_what_the_cpu_gives(rule):
    torch.manual_seed(0)
    bias = RelativeBias(Grid(2, 3), 2)
    torch.nn.init.normal_(bias.table)
    q, k, v = torch.randn(3, len(RAGGED), 2, 16)
    exact = dense_attention(q, k, v, RAGGED, rule, bias.dense(RAGGED))
    bias, there = bias.cuda(), RAGGED.to("cuda")
    for dtype, within in ((torch.float32, 1e-4), (torch.bfloat16, 0.03)):
        got = attention(*(x.cuda().to(dtype) for x in (q, k, v)), there, rule, bias(bias.grid.places(there)))
        assert near(got.float().cpu(), exact, within)
