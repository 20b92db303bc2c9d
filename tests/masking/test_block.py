"""Block: rectangles of the grid."""

import pytest
import torch

from mmm.core.draw import Draw
from mmm.masking.block import Block
from mmm.masking.uniform import Uniform
from mmm.testing import batch, check_masking, toy_raws, toys

SIDE, RECORDS = 20, 100
GRIDS = batch({"patches": toys()["patches"]}, [{"patches": torch.zeros(SIDE, SIDE, 4)}] * RECORDS)


def test_conforms():
    check_masking(Block(0.4), batch(toys(), toy_raws(8)))


def neighbours(hidden: torch.Tensor) -> float:
    """Mean number of hidden neighbours (of four) of a hidden cell."""
    h = hidden.view(RECORDS, SIDE, SIDE).double()
    pairs = (h[:, 1:] * h[:, :-1]).sum() + (h[:, :, 1:] * h[:, :, :-1]).sum()
    return float(2 * pairs / h.sum())


def test_blocks_are_more_compact_than_chance():
    block, uniform = (neighbours(m.hidden(GRIDS, 0, Draw(1))) for m in (Block(0.4), Uniform(0.4)))
    assert uniform < 2
    assert block > 3


@pytest.mark.parametrize("aspect", [0.3, 1.0])
def test_the_first_block_is_a_full_rectangle_of_the_area_and_aspect_asked_for(aspect):
    rank_T = Block(0.4, low=0.09, high=0.16, aspect=aspect).rank(GRIDS, 0, Draw(2))
    ratios = []
    for grid in (rank_T < 1).view(RECORDS, SIDE, SIDE):
        rows, columns = grid.any(1).nonzero()[:, 0], grid.any(0).nonzero()[:, 0]
        height, width = (int(x[-1] - x[0] + 1) for x in (rows, columns))
        assert int(grid.sum()) == height * width
        assert 0.07 * SIDE**2 <= height * width <= 0.19 * SIDE**2  # whole cells round the area
        ratios.append(height / width)
    assert min(ratios) >= 0.8 * aspect
    assert max(ratios) <= 1.25 / aspect
    if aspect < 1:
        assert min(ratios) < 0.5
        assert max(ratios) > 2


def test_blocks_reach_every_cell():
    hits = (Block(0.4).rank(GRIDS, 0, Draw(3)) < 1).view(RECORDS, SIDE * SIDE).any(0)
    assert hits.double().mean() > 0.95


def test_a_line_gets_intervals_and_a_ragged_grid_is_no_trouble():
    line = batch({"wave": toys()["wave"]}, [{"wave": torch.zeros(4 * 100)}])
    first = (Block(0.4, low=0.1, high=0.1).rank(line, 0, Draw(0)) < 1).nonzero()[:, 0].tolist()
    assert first == list(range(first[0], first[0] + 10))
    check_masking(
        Block(0.5),
        batch({"patches": toys()["patches"]}, [{"patches": torch.zeros(h, w, 4)} for h, w in ((1, 9), (7, 2), (4, 4))]),
    )


def test_refusals():
    for wrong in ({"low": 0.3, "high": 0.2}, {"low": 0}, {"aspect": 0}, {"high": 2}):
        with pytest.raises(ValueError, match="Block"):
            Block(**wrong)
