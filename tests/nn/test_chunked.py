"""Rows in pieces are the rows at once, forward and backward, in bounded memory."""

import pytest
import torch
import torch.nn.functional as F

from mmm.nn import chunked


@pytest.mark.parametrize("rows", [1, 3, 7, 100])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_pieces_are_the_whole(monkeypatch, rows, dtype):
    monkeypatch.setattr(chunked, "LARGEST", 11 * rows)
    torch.manual_seed(0)
    head = torch.nn.Linear(5, 11, dtype=torch.float64 if dtype is torch.float64 else torch.float32)
    x_ND, truth_N = torch.randn(7, 5, dtype=head.weight.dtype), torch.randint(0, 11, (7,))
    seen = []

    def score(x, truth):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            seen.append(len(x))
            return F.cross_entropy(head(x), truth, reduction="none")

    def gradients(loss_N):
        head.zero_grad()
        loss_N.sum().backward()
        return loss_N.detach(), head.weight.grad.clone()

    whole = gradients(score(x_ND, truth_N))
    del seen[:]
    parted = gradients(chunked.rowwise(score, x_ND, truth_N, 11))
    assert max(seen) <= rows
    tolerance = 1e-12 if dtype is torch.float64 else 2e-2
    assert all(torch.allclose(a, b, atol=tolerance) for a, b in zip(whole, parted, strict=True))
