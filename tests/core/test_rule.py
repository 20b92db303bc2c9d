"""Who may attend to whom: rules by their dense reference."""

import pytest
import torch

from mmm.core.rule import Causal, Window, compose, dense
from mmm.core.tokens import Piece, Sample, pack
from mmm.testing import toys

ids = {"ids": toys()["ids"].tokenizer}
LAYOUT = pack([Sample({"ids": Piece(torch.zeros(n), torch.arange(n))}, i) for i, n in enumerate((2, 3))], ids).layout


def drawn(rule) -> list[str]:
    return ["".join("x" if a else "." for a in row) for row in dense(LAYOUT, rule).tolist()]


def test_dense_masks():
    assert drawn(None) == ["xx...", "xx...", "..xxx", "..xxx", "..xxx"]
    assert drawn(Causal()) == ["x....", "xx...", "..x..", "..xx.", "..xxx"]
    assert drawn(Window(1)) == ["xx...", "xx...", "..xx.", "..xxx", "...xx"]
    assert drawn(Window(0)) == ["x....", ".x...", "..x..", "...x.", "....x"]
    assert drawn(compose(Causal(), Window(1))) == ["x....", "xx...", "..x..", "..xx.", "...xx"]


def test_composing_with_everyone():
    causal = Causal()
    assert compose(None, None) is None
    assert compose(causal, None) is causal
    assert compose(None, causal) is causal


def test_a_window_has_a_reach():
    with pytest.raises(ValueError, match=r"Window\(reach=-1\)"):
        Window(-1)
