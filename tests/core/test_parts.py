"""The small parts of the core: heads, rates, baselines, errors, the model's own promises."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from mmm.core.baseline import MeanVector, Unigram
from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe, BadRecord, did_you_mean
from mmm.core.head import Head
from mmm.core.rate import Constant, as_rate
from mmm.core.view import View
from mmm.targets.token_ids import TokenIds
from mmm.testing import ToyIds, batch, check_gradients, near, tiny_model, toy_raws, toys
from mmm.testing.tools import mixed

NONE = torch.zeros(0, dtype=torch.bool)


@pytest.mark.parametrize("kind", ["linear", "transform", "tied", "cosine"])
def test_heads(kind):
    torch.manual_seed(0)
    tied = nn.Parameter(torch.randn(7, 8))
    head = Head(kind, 8, 7, tied=tied)
    output_NV = head(torch.randn(5, 8))
    assert output_NV.shape == (5, 7)
    assert head(torch.randn(0, 8)).shape == (0, 7)
    mixed(output_NV).backward()
    check_gradients(head, head)
    assert (tied.grad is not None) == (kind == "tied")
    if kind == "cosine":
        assert output_NV.abs().max() <= 10.0001


def test_a_tied_head_needs_a_fitting_embedding():
    with pytest.raises(ValueError, match="needs a modality with an embedding"):
        Head("tied", 8, 7)
    with pytest.raises(ValueError, match=r"an embedding of 7 rows, the modality has \(9, 8\)"):
        Head("tied", 8, 7, tied=torch.zeros(9, 8))


def test_a_tied_head_follows_its_embedding_through_a_copy():
    model = tiny_model(toys())
    target = TokenIds()
    target.bind("ids", model.modalities["ids"].tokenizer)
    address = model.make_head("", "ids", target, "tied")
    assert address == "ids/TokenIds"
    assert model.heads[address].weight is model.modalities["ids"].table.weight
    assert model.make_head("student", "ids", target) == "student/ids/TokenIds"
    twin = copy.deepcopy(model)
    assert twin.heads[address].weight is twin.modalities["ids"].table.weight
    assert twin.heads[address].weight is not model.heads[address].weight
    own = model.of_modality("ids")
    assert any(p is model.heads["student/ids/TokenIds"].output.weight for p in own)
    assert not any(p is model.modalities["wave"].mask for p in own)


def test_a_model_embeds_in_packed_order():
    torch.manual_seed(0)
    model = tiny_model(toys())
    tokens = batch(model.modalities, toy_raws())
    x_TD = model.embed(View.of(tokens, torch.zeros(len(tokens), dtype=torch.bool)))
    for i, name in enumerate(tokens.names):
        part = tokens.part(name)
        own = model.modalities[name].embed(part.content_R, part.layout_N, torch.zeros(len(part.index_N), dtype=torch.bool))
        assert torch.equal(x_TD[tokens.layout.modality_T == i], own)
    kept_K = torch.arange(0, len(tokens), 3)
    assert near(model.embed(View.of(tokens, torch.zeros(len(tokens), dtype=torch.bool), kept_K=kept_K)), x_TD[kept_K], 1e-6)


def test_the_modality_vector_is_added_by_modality():
    from mmm.core.model import Model
    from mmm.decoders.readout import Readout
    from mmm.encoders.transformer import Transformer

    model = Model(toys(), Transformer(16, 1, 2), Readout(), modality_vector=True)
    tokens = batch(model.modalities, toy_raws())
    view = View.of(tokens, torch.zeros(len(tokens), dtype=torch.bool))
    with_TD = model.embed(view)
    vector, model.modality_vector = model.modality_vector, None
    assert near(with_TD - model.embed(view), vector(tokens.layout.modality_T), 1e-6)


def test_rates():
    layout = batch(toys(), toy_raws()).layout
    assert Constant(0.3)(layout, 0, Draw(0)).tolist() == [0.3] * layout.segments
    rate = Constant(0.5)
    assert as_rate(rate) is rate
    assert as_rate(1).rate == 1.0
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="share of the tokens"):
            Constant(wrong)


def test_unigram_is_add_one():
    guess = Unigram([torch.tensor([0, 0, 1]), torch.tensor([0])], 3)
    assert guess.loss(torch.tensor([0, 1, 2])).tolist() == pytest.approx([-math.log(4 / 7), -math.log(2 / 7), -math.log(1 / 7)])


def test_the_mean_vector_is_the_mean_of_all_rows():
    guess = MeanVector([torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 6.0], [3.0, 0.0]])])
    assert guess.mean_V.tolist() == [2, 2]
    assert guess.loss(torch.tensor([[2.0, 4.0]])).tolist() == [2.0]
    with pytest.raises(ValueError, match="no training tokens"):
        MeanVector([])


def test_a_bad_record_says_where_and_crosses_processes():
    error = BadRecord("a.fasta", "sp|P1", "no residues")
    assert str(error) == "a.fasta, record sp|P1: no residues"
    assert str(BadRecord("b.png", None, "truncated")) == "b.png: truncated"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert isinstance(error, ValueError)


def test_did_you_mean():
    assert did_you_mean("Unifrom", ["Uniform", "Span"]) == "Did you mean 'Uniform'? Choices: Span, Uniform."
    assert did_you_mean("xyz", ["Uniform"]) == "Choices: Uniform."
    assert did_you_mean("a", []) == "Choices: none."
    assert "'MAE'" in did_you_mean("mae", ["MAE", "BERT"])


@pytest.mark.parametrize(
    ("name", "reason"), [("train", "'train'.*attribute of that name"), ("a.b", "no dot"), ("", "not empty")]
)
def test_a_modality_that_torch_cannot_keep_under_its_name(name, reason):
    with pytest.raises(BadRecipe, match=reason):
        tiny_model({name: ToyIds()})
