"""What every adapter promises, on ids and on continuous patches. A new one is found, and tested in its default form."""

import re

import pytest
import torch
from ladder import BOTH, CASES, answers, check_untouched, copied, fit, some_view, stir, tokens_of, training
from torch import nn

from mmm import plugins
from mmm.core.adapter import Adapter, freeze_body
from mmm.core.model import Model
from mmm.decoders.readout import Readout
from mmm.decoders.transformer_decoder import TransformerDecoder
from mmm.encoders.transformer import Transformer
from mmm.modalities.text import Text
from mmm.testing import check_encoder, near

cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.mark.parametrize("name", BOTH)
@cases
def test_the_first_step_starts_from_the_plain_model(case, name):
    plain, adapted = answers(training(None, (name,))), answers(training(case.make(), (name,)))
    assert torch.equal(plain, adapted) == case.exact


@cases
def test_only_what_is_said_is_trained(case):
    """Three real steps with weight decay: frozen bits stay, every trained parameter has a gradient."""
    made = training(case.make())
    body = {n: p for n, p in made.model.named_parameters() if not n.startswith("heads.")}
    if case.trained is not None:
        said = {n for n, p in body.items() if p.requires_grad}
        assert said == {n for n in body if re.fullmatch(case.trained, n)}
    assert all(p.requires_grad for n, p in made.model.named_parameters() if n.startswith("heads."))
    before = copied(made)
    keep = fit(made)
    check_untouched(made, before, case.trained)
    for name, parameter in made.named_parameters():
        assert (name in keep.gradients) == parameter.requires_grad, name
        if parameter.requires_grad:
            assert keep.gradients[name].isfinite().all(), name
            assert keep.gradients[name].abs().sum() > 0, name


def test_a_leak_is_found():
    class Leaky(Adapter):
        def adapt(self, model):
            freeze_body(model)
            model.encoder.norm.weight.requires_grad_(True)

    made = training(Leaky())
    before = copied(made)
    fit(made)
    with pytest.raises(AssertionError, match=r"encoder\.norm\.weight is frozen, but it moved"):
        check_untouched(made, before, CASES["Frozen"].trained)


@cases
def test_state_comes_back(case):
    made = training(case.make())
    fit(made)
    again = training(case.make(), seed=4)
    assert not torch.equal(answers(again), answers(made))
    again.load_state_dict(made.state_dict())
    assert torch.equal(answers(again), answers(made))


@cases
def test_one_seed_one_start(case):
    first, second = (training(case.make()).state_dict() for _ in range(2))
    assert list(first) == list(second)
    assert all(torch.equal(first[n], second[n]) for n in first)


@cases
def test_an_adapted_encoder_is_an_encoder(case):
    """Packed as alone, layers that are asked for, rules, segments left empty, nothing, gradients, copies: the kit's check."""
    made = training(case.make())
    stir(made)
    made.model.encoder.requires_grad_(True)
    check_encoder(made.model.encoder)


@pytest.mark.parametrize("dropped", [False, True], ids=["masked", "dropped"])
@pytest.mark.parametrize("names", [("ids",), ("patches",), BOTH], ids=["ids", "patches", "both"])
@cases
def test_packed_as_alone(case, names, dropped):
    made = training(case.make(), names, decoder=TransformerDecoder(24, 1, 4) if dropped else Readout())
    stir(made)
    made.eval()
    tokens = tokens_of(made)
    with torch.no_grad():
        view = some_view(tokens, dropped)
        y_ND = made.model(view)
        assert len(y_ND) == len(view.read_N) > 0
        for s in range(tokens.layout.segments):
            alone = made.model(some_view(tokens.segment(s), dropped))
            assert near(y_ND[tokens.layout.segment_T[view.read_N] == s], alone)


@cases
def test_merge_leaves_the_plain_model(case):
    made = training(case.make())
    fit(made, 4)
    before = answers(made)
    if not case.foldable:
        with pytest.raises(ValueError, match=f"{case.adapter} cannot be merged"):
            made.adapter.merge(made.model)
        return
    made.adapter.merge(made.model)
    plain = training(None)
    assert list(made.model.state_dict()) == list(plain.model.state_dict())
    plain.model.load_state_dict(made.model.state_dict())
    assert near(answers(plain), before)
    assert near(answers(training(None)), before) == (case.trained == "nothing")


@cases
def test_it_is_built_without_memory(case):
    """As ``mmm check`` builds a recipe."""
    with torch.device("meta"):
        made = training(case.make())
    assert all(p.is_meta for p in made.model.parameters())


SHARES = {
    "Frozen": (0, 0.0001),
    "BitFit": (0.001, 0.002),
    "LoRA": (0.004, 0.02),
    "Prompt": (0, 0.001),
    "Prefix": (0.001, 0.005),
    "Bottleneck": (0.01, 0.03),
    "Invertible": (0.001, 0.005),
    "LastLayers": (0.1, 0.2),
    "LayerDecay": (1, 1),
    "Sparse": (1, 1),
}
"""Least and largest share of a BERT of 22.6 M parameters with a head of two classes, in the default form."""


@pytest.mark.parametrize("name", plugins.of_role("Adapter"))
def test_trained_share(name):
    with torch.device("meta"):
        text = Text(vocabulary=30522, positions="learned", norm=True)
        model = Model({"text": text}, Transformer(384, 6, 12, 1536, order="post"), Readout())
        model.heads["label"] = nn.Linear(384, 2)
        whole = sum(p.numel() for p in model.parameters())
        plugins.find(name, "Adapter", "test").load()().adapt(model)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    least, most = SHARES.get(name, (0, 1))
    assert least <= trained / whole <= most, f"{name} trains {trained:,} of {whole:,}: {trained / whole:.3%}"
