"""The transformer: its promises in every form, and what it refuses."""

import pytest
import torch

from mmm.encoders.transformer import Local, Transformer
from mmm.testing import batch, check_encoder, near, toy_raws, toys


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"order": "post", "norm": "rms"},
        {"rotary": 1, "activation": "geglu", "bias": False, "local": Local(2, 2)},
        {"rotary": 3, "activation": "swiglu", "ff": 20},
        {"activation": "relu", "init_std": 0.02, "local": Local(3, 3)},
    ],
)
def test_conforms(form):
    torch.manual_seed(0)
    check_encoder(Transformer(24, 3, 4, **form))


def test_a_window_is_skipped_only_where_it_changes_nothing():
    """Short segments take the fast path; the same segments beside a long one go through the window, to the same end."""
    torch.manual_seed(0)
    encoder = Transformer(16, 2, 2, local=Local(4, 2)).eval()
    ids = toys()["ids"]
    short = batch({"ids": ids}, [{"ids": [1, 2, 3, 4]}])
    both = batch({"ids": ids}, [{"ids": [1, 2, 3, 4]}, {"ids": list(range(1, 13))}])
    assert encoder._window(short.layout) is None
    assert encoder._window(both.layout) is not None
    x = torch.randn(len(both), 16)
    assert near(encoder(x[:5], short.layout).x_KD, encoder(x, both.layout).x_KD[:5])


def test_local_layers_do_not_see_beyond_their_reach():
    torch.manual_seed(0)
    encoder = Transformer(16, 1, 2, local=Local(2, 2)).eval()
    encoder.local.every = 10**9
    encoder.blocks.insert(0, torch.nn.Module())
    encoder.blocks[0].forward = lambda x, *rest: x  # block 0 is the global one
    layout = batch({"ids": toys()["ids"]}, [{"ids": list(range(1, 13))}]).layout
    x = torch.randn(13, 16, requires_grad=True)
    encoder(x, layout).x_KD[6, 0].backward()
    seen = x.grad.abs().sum(1) > 0
    assert seen.nonzero()[:, 0].tolist() == [4, 5, 6, 7, 8]


def test_refusals():
    for wrong, message in (
        ({"width": 10, "heads": 4}, "width 10, heads 4"),
        ({"width": 12, "heads": 4, "rotary": 1}, "an even one"),
        ({"width": 8, "heads": 2, "rotary": 4}, "rotary 4"),
        ({"width": 8, "heads": 2, "depth": 0}, "depth 0"),
        ({"width": 0, "heads": 2}, "width 0"),
        ({"width": 8, "heads": 0}, "heads 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Transformer(**wrong)
    layout = batch(toys(), toy_raws(1)).layout
    with pytest.raises(ValueError, match="noise level"):
        Transformer(8, 1, 2)(torch.zeros(len(layout), 8), layout, time_S=torch.zeros(1))
