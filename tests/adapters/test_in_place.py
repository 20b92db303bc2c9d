"""Adapters that put nothing in: which layers, which factors, and refusals."""

import pytest
import torch
from ladder import DEPTH, fit, some_view, tokens_of, training
from torch import nn

from mmm.adapters.bit_fit import BitFit
from mmm.adapters.frozen import Frozen
from mmm.adapters.last_layers import LastLayers
from mmm.adapters.layer_decay import LayerDecay
from mmm.core.network import Encoded, Encoder
from mmm.decoders.readout import Readout
from mmm.decoders.transformer_decoder import TransformerDecoder
from mmm.encoders.transformer import Transformer
from mmm.testing import ToyIds, tiny_model


class Flat(Encoder):
    """An encoder without a list of blocks."""

    width, depth = 32, 3

    def __init__(self):
        super().__init__()
        self.product = nn.Linear(32, 32, bias=False)

    def forward(self, x_KD, layout_K, rule=None, time_S=None, want=()):
        return Encoded(self.product(x_KD))


def test_factors_by_layer():
    made = training(LayerDecay(0.5), decoder=TransformerDecoder(24, 1, 4))
    factors = made.adapter.rates(made.model)
    expected = {"modalities": 3, "modality_vector": 3, "encoder.blocks.0": 2, "encoder.blocks.1": 1, "encoder.norm": 0}
    expected |= {"decoder": 0, "heads": 0}
    assert DEPTH == 2
    for name, parameter in made.model.named_parameters():
        (distance,) = (d for start, d in expected.items() if name.startswith(f"{start}."))
        assert factors.get(parameter, 1.0) == 0.5**distance, name


def test_factors_reach_the_optimiser():
    """The first update of Adam is the learning rate itself, whatever the gradient."""
    made = training(LayerDecay(0.5))
    made.optimizer_settings.weight_decay, made.optimizer_settings.decay = 0.0, "constant"
    made.optimizer_settings.clip = None
    before = {n: p.detach().clone() for n, p in made.model.named_parameters()}
    fit(made, 1)
    steps = {n: float((p.detach() - before[n]).abs().max()) for n, p in made.model.named_parameters()}
    for name, factor in (
        ("modalities.ids.mask", 0.125),
        ("encoder.blocks.0.mlp.up.weight", 0.25),
        ("encoder.blocks.1.mlp.up.weight", 0.5),
        ("encoder.norm.weight", 1),
        ("heads.patches/Pixels.output.weight", 1),
    ):
        assert steps[name] == pytest.approx(1e-2 * factor, rel=1e-3), name


def test_what_an_encoder_registers_before_its_blocks_is_lowest():
    encoder = Transformer(32, 2, 4)
    before = nn.Linear(32, 32)
    encoder._modules = {"before": before, **encoder._modules}
    model = tiny_model({"ids": ToyIds()}, encoder)
    adapter = LayerDecay(0.5)
    adapter.adapt(model)
    assert adapter.rates(model)[before.weight] == 0.5**3


def test_a_probe_sees_the_same_features_in_training():
    made = training(Frozen())
    assert all(m.p == 0 for m in made.model.encoder.modules() if isinstance(m, nn.Dropout))
    torch.manual_seed(0)
    model = tiny_model({"ids": ToyIds()}, Transformer(32, 2, 4, dropout=0.5))
    Frozen().adapt(model)
    view = some_view(tokens_of(training(None, ("ids",))))
    model.train()
    seen = model(view)
    assert torch.equal(seen, model.eval()(view))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LastLayers(0), "needs 1 or more"),
        (lambda: LayerDecay(0), "above 0"),
        (lambda: LayerDecay(1.5), "at most 1"),
        (lambda: training(LastLayers(3)), "the encoder has 2; choose 1 to 2"),
        (lambda: LastLayers(1).adapt(tiny_model({"ids": ToyIds()}, Flat())), "Flat has no ModuleList of its 3 blocks"),
        (lambda: LayerDecay().adapt(tiny_model({"ids": ToyIds()}, Flat())), "Flat has no ModuleList"),
        (lambda: BitFit().adapt(tiny_model({"ids": ToyIds()}, Flat())), "the encoder has none .bias: false.; choose LoRA"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_probe_of_any_encoder():
    model = tiny_model({"ids": ToyIds()}, Flat(), Readout())
    Frozen().adapt(model)
    assert not any(p.requires_grad for p in model.parameters())
