"""Counted arithmetic against arithmetic by hand."""

import json

import pytest
import torch
from tiny import mmm, save, values, write

from mmm.nn.attention import attention
from mmm.testing import ToyIds, batch
from mmm.work import COUNTED, Work, peak


def counted(step) -> float:
    work = Work()
    for number in range(COUNTED):
        work.begin()
        if number == COUNTED - 1:
            step()
        work.end(1)
    return work.flops_per_token


def test_a_product_forward_and_backward():
    weight = torch.randn(8, 16, requires_grad=True)
    assert counted(lambda: (torch.randn(4, 8, requires_grad=True) @ weight).sum().backward()) == 3 * 2 * 4 * 8 * 16


# The library's float32 kernel multiplies queries and keys once more going back.
@pytest.mark.parametrize(("dtype", "times"), [(torch.float32, 3.5), (torch.bfloat16, 3)])
def test_attention_on_every_path(dtype, times):
    layout = batch({"ids": ToyIds()}, [{"ids": ids} for ids in ([1, 2, 3], [1, 2, 3], [4, 5, 6, 7, 8])]).layout
    q, k, v = (torch.randn(len(layout), 2, 8, dtype=dtype, requires_grad=True) for _ in range(3))
    padded = dtype == torch.bfloat16  # short segments are one batch there, as long as the longest
    pairs = len(layout.lengths) * max(layout.lengths) ** 2 if padded else sum(n * n for n in layout.lengths)
    forward = 2 * 2 * pairs * 2 * 8  # two products a pair of tokens, two heads of eight
    assert counted(lambda: attention(q, k, v, layout).sum().backward()) == times * forward


def test_a_step_that_failed_is_not_counted():
    work = Work()
    for _ in range(COUNTED):
        work.begin()
    work.abandon()
    assert work.flops_per_token is None
    assert torch.ones(2, 2).matmul(torch.ones(2, 2)).sum() == 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_peak_is_a_speed(dtype):
    assert 1e8 < peak(torch.device("cpu"), dtype) < 1e14


def test_a_run_tells_its_share(tmp_path):
    path = save(tmp_path / "recipe.yaml", values(write(tmp_path / "files", ("protein",)), steps=COUNTED + 1))
    assert mmm("run", path, "--run_dir", tmp_path / "run").status == 0
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert 0 < summary["utilisation"] < 1
    assert summary["flops"] > 0
    assert "of the peak" in (tmp_path / "run/report.html").read_text()
