"""Pooling: as over each segment alone, without padding, with segments that have no token."""

import pytest
import torch

from mmm.nn.pool import Pool
from mmm.testing import ToyIds, batch, check_gradients


def layout_of(lengths):
    modality = ToyIds()
    tokens = batch({"ids": modality}, [{"ids": [1 + i % 16 for i in range(n - 1)]} for n in lengths])
    return tokens.layout


@pytest.mark.parametrize("kind", ["mean", "first", "attention"])
@pytest.mark.parametrize("width", [24, 128])
def test_a_segment_as_if_alone(kind, width):
    torch.manual_seed(0)
    layout, pool = layout_of((2, 5, 5, 9)), Pool(kind, width)
    x_KD = torch.randn(len(layout), width)
    pooled_SD = pool(x_KD, layout)
    assert pooled_SD.shape == (4, width)
    for s in range(4):
        own_KD, alone = x_KD[layout.segment_T == s], pool(x_KD[layout.segment_T == s], layout.cut(s))
        assert torch.allclose(pooled_SD[s], alone[0], atol=1e-5)
        if kind == "mean":
            assert torch.allclose(pooled_SD[s], own_KD.mean(0), atol=1e-6)
        elif kind == "first":
            assert torch.equal(pooled_SD[s], own_KD[0])


@pytest.mark.parametrize("kind", ["mean", "first", "attention"])
def test_segments_without_tokens_are_zero_and_gradients_are_finite(kind):
    layout, pool = layout_of((2, 5, 9)), Pool(kind, 24)
    kept_K = (layout.segment_T == 1).nonzero()[:, 0]
    x_KD = torch.randn(len(kept_K), 24, requires_grad=True)
    pooled_SD = pool(x_KD, layout.select(kept_K))
    assert not pooled_SD[[0, 2]].any()
    pooled_SD.square().sum().backward()
    assert x_KD.grad.isfinite().all()
    assert x_KD.grad.any()
    nothing = pool(x_KD[:0], layout.select(kept_K[:0]))
    assert nothing.shape == (3, 24)
    assert not nothing.any()


def test_attention_is_the_librarys():
    torch.manual_seed(0)
    layout, pool = layout_of((7,)), Pool("attention", 128)
    x_KD = torch.randn(7, 128)
    normed = pool.norm(x_KD)
    key, value = (net(normed).view(7, 2, 64).transpose(0, 1) for net in (pool.key, pool.value))
    theirs = torch.nn.functional.scaled_dot_product_attention(pool.query[:, None], key, value).flatten()
    assert torch.allclose(pool(x_KD, layout)[0], pool.out(theirs), atol=1e-5)
    pool(x_KD, layout).sum().backward()
    pool.key.bias.requires_grad_(False)  # adds the same to every score: no gradient
    pool.key.bias.grad = None
    check_gradients(pool, pool)


@pytest.mark.parametrize("kind", ["mean", "attention"])
def test_bfloat16_sums_in_float32(kind):
    layout, pool = layout_of((400,)), Pool(kind, 24)
    x_KD = torch.randn(400, 24) + 3
    assert torch.allclose(pool(x_KD, layout), pool.bfloat16()(x_KD.bfloat16(), layout).float(), atol=0.1)
