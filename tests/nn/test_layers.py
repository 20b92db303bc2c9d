"""MLPs, norms, initial weights."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmm.nn.block import MLP, Block, initialise, make_norm
from mmm.nn.waveform import Neighbours, conv_positions
from mmm.testing import near


@pytest.mark.parametrize("activation", ["gelu", "relu", "geglu", "swiglu"])
def test_mlp_by_its_formula(activation):
    torch.manual_seed(0)
    mlp, x = MLP(6, 4, activation), torch.randn(3, 6)
    h = F.linear(x, mlp.up.weight, mlp.up.bias)
    inner = {
        "gelu": lambda: F.gelu(h),
        "relu": lambda: h.clamp(min=0),
        "geglu": lambda: F.gelu(h[:, :4]) * h[:, 4:],
        "swiglu": lambda: h[:, :4] * torch.sigmoid(h[:, :4]) * h[:, 4:],
    }[activation]()
    assert near(mlp(x), F.linear(inner, mlp.down.weight, mlp.down.bias), 1e-6)


def test_norms():
    assert isinstance(make_norm("rms", 4), nn.RMSNorm)
    assert make_norm("layer", 4, bias=False).bias is None


def test_no_bias_anywhere():
    block = Block(8, 2, 16, activation="geglu", bias=False)
    assert not [n for n, _ in block.named_parameters() if n.endswith("bias")]


def test_initial_weights():
    torch.manual_seed(0)
    block = Block(64, 4, 256)
    initialise(block, 0.02)
    assert abs(float(block.mlp.up.weight.std()) - 0.02) < 1e-3
    assert not block.mlp.up.bias.any()
    initialise(block)
    bound = (6 / (64 + 256)) ** 0.5
    assert 0.98 * bound < float(block.mlp.up.weight.abs().max()) <= bound


def test_dropout_only_in_training():
    torch.manual_seed(0)
    from mmm.core.tokens import Piece, Sample, pack
    from mmm.testing import toys

    layout = pack([Sample({"ids": Piece(torch.zeros(5), torch.arange(5))})], {"ids": toys()["ids"].tokenizer}).layout
    block, x = Block(8, 2, 16, dropout=0.5), torch.randn(5, 8)
    assert not torch.equal(block(x, layout), block(x, layout))
    block.eval()
    assert torch.equal(block(x, layout), block(x, layout))


@pytest.mark.parametrize(
    ("neighbours", "words"), [(Neighbours(groups=5), "width 12 .* the 5 groups"), (Neighbours(kernel=0), "kernel=0")]
)
def test_conv_positions_name_no_modality_in_their_errors(neighbours, words):
    """Any modality may have them."""
    with pytest.raises(ValueError, match=f"^positions by convolution: .*{words}") as caught:
        conv_positions(12, neighbours)
    assert "Audio(" not in str(caught.value)
