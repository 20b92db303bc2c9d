"""Adapters that put nothing in: which layers, which factors, and refusals."""

import re

import pytest
import torch
from ladder import DEPTH, copied, fit, some_view, tokens_of, training
from torch import nn

from mmm.adapters.bit_fit import BitFit
from mmm.adapters.frozen import Frozen
from mmm.adapters.last_layers import LastLayers
from mmm.adapters.layer_decay import LayerDecay
from mmm.adapters.new_modalities import NewModalities
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


OLD = r"encoder\..*|modalities\.ids\..*|heads\.ids/.*|decoder\.(?!mask_vector).*"
"""What a model had before the modality ``patches``."""


def test_new_modalities_leave_the_old_ones_their_bits():
    """Both are trained on, with weight decay; of a table with a row a modality, one row stays."""
    made = training(NewModalities(["ids"]), decoder=TransformerDecoder(24, 1, 4))
    before = copied(made)
    fit(made, 3)
    for name, parameter in made.model.named_parameters():
        if name in made.model.by_modality():
            assert torch.equal(parameter[0], before[name][0]), name
        else:
            assert torch.equal(parameter, before[name]) == bool(re.fullmatch(OLD, name)), name
    assert not torch.equal(made.model.modality_vector.weight[1], before["modality_vector.weight"][1])


@pytest.mark.parametrize("body", [0.0, 0.25])
def test_rows_of_old_modalities_go_their_share(body):
    made = training(NewModalities(["ids"], body), decoder=TransformerDecoder(24, 1, 4))
    adapter, tables = made.adapter, made.model.by_modality()
    assert set(tables) == {"modality_vector.weight", "decoder.mask_vector"}
    before = copied(made)
    for table in tables.values():
        table.grad = torch.ones_like(table)
    adapter.after_backward(made.model, 0.0)
    with torch.no_grad():
        for table in tables.values():
            assert table.grad[:, 0].tolist() == [float(body > 0), 1.0], "what is frozen is no part of the gradient's norm"
            table += 1.0
    adapter.after_step(made.model, 0.0)
    for name, table in tables.items():
        assert torch.equal(table[1], before[name][1] + 1)
        torch.testing.assert_close(table[0], before[name][0] + body)
        assert torch.equal(table[0], before[name][0]) == (body == 0)


def test_an_old_body_follows_slowly():
    """The first update of Adam is the learning rate itself, whatever the gradient."""
    made = training(NewModalities(["ids"], 0.1))
    made.optimizer_settings.weight_decay, made.optimizer_settings.decay = 0.0, "constant"
    made.optimizer_settings.clip = None
    before = copied(made)
    fit(made, 1)
    moved = {n: (p.detach() - before[n]).abs() for n, p in made.model.named_parameters()}
    for name, steps in moved.items():
        if name != "modality_vector.weight":
            assert float(steps.max()) == pytest.approx(1e-3 if re.fullmatch(OLD, name) else 1e-2, rel=1e-2), name
    assert moved["modality_vector.weight"].amax(1).tolist() == pytest.approx([1e-3, 1e-2], rel=1e-2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LastLayers(0), "needs 1 or more"),
        (lambda: LayerDecay(0), "above 0"),
        (lambda: LayerDecay(1.5), "at most 1"),
        (lambda: NewModalities(body=-0.1), "at least 0"),
        (lambda: NewModalities(body=1.5), "at most 1"),
        (lambda: training(NewModalities(["idz"])), "the model has no modality 'idz'. Did you mean 'ids'"),
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
