"""MaskedModeling: sums and counts, one masking or several, and what it refuses."""

import copy

import pytest
import torch

from mmm.core.draw import Draw
from mmm.corruptions.drop import Drop
from mmm.corruptions.mask_vector import MaskVector
from mmm.decoders.transformer_decoder import TransformerDecoder
from mmm.masking.rates import Drawn
from mmm.masking.span import Span
from mmm.masking.uniform import Uniform
from mmm.nn import chunked
from mmm.objectives.masked_modeling import MaskedModeling
from mmm.targets.pixels import Pixels
from mmm.targets.token_ids import TokenIds
from mmm.testing import ToyIds, ToyPatches, batch, check_counts, check_learns, check_objective, tiny_model, toy_raws

RAWS = [{n: r[n] for n in r if n != "wave"} for r in toy_raws(12) if set(r) != {"wave"}]


def build(masking=None, corruption=None, decoder=None, **arguments):
    torch.manual_seed(0)
    model = tiny_model({"ids": ToyIds(), "patches": ToyPatches()}, decoder=decoder)
    targets = arguments.pop("targets", {"ids": TokenIds(), "patches": Pixels()})
    objective = MaskedModeling(masking or Uniform(0.5), corruption or MaskVector(), targets, **arguments)
    objective.setup(model)
    return objective, model, batch(model.modalities, RAWS)


CASES = {
    "bert": lambda: build(Uniform(0.3), MaskVector(0.1, 0.1), heads={"ids": "tied"}),
    "mae": lambda: build(Uniform(0.75), Drop(), TransformerDecoder(24, 1, 4)),
    "one masking each": lambda: build({"ids": Span(0.3), "patches": Uniform(Drawn(0.2, 0.8))}, weights={"ids": 0.5}),
    "two targets": lambda: build(
        targets={"ids": [TokenIds()], "patches": [Pixels(True)]}, heads={"ids": "cosine", "patches": "transform"}
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_conforms(case):
    check_objective(*CASES[case]())


@pytest.mark.parametrize("case", CASES)
def test_learns(case):
    check_learns(*CASES[case](), share=0.8)


def test_nothing_is_left_to_see_and_nothing_is_asked():
    """Rates of 1 and 0: a loss of the right count, finite gradients, no NaN."""
    for rate in (0.0, 1.0):
        objective, model, tokens = build(Uniform(rate), Drop(), TransformerDecoder(24, 1, 4))
        terms = objective(model, tokens, objective.views(tokens, 0, Draw(0)), 0)
        assert [t.count > 0 for t in terms] == [rate == 1.0] * 2
        loss = sum(t.total for t in terms)
        assert loss.isfinite()
        if rate:
            loss.backward()
            assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("case", CASES)
def test_wide_outputs_are_taken_some_rows_at_a_time(case, monkeypatch):
    """The same terms and gradients, in pieces of one row."""

    def learned():
        objective, model, tokens = CASES[case]()
        terms = objective(model, tokens, objective.views(tokens, 0, Draw(0)), 0)
        sum(t.total for t in terms).backward()
        return [t.total.detach() for t in terms] + [p.grad for p in model.parameters() if p.grad is not None]

    whole, pieces, checkpointed = learned(), 0, chunked.checkpoint

    def counted(*arguments, **options):
        nonlocal pieces
        pieces += 1
        return checkpointed(*arguments, **options)

    monkeypatch.setattr(chunked, "LARGEST", 1)
    monkeypatch.setattr(chunked, "checkpoint", counted)
    parted = learned()
    assert pieces > 10
    assert len(whole) == len(parted)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(whole, parted, strict=True))


def test_a_target_called_like_what_torch_has():
    with pytest.raises(ValueError, match="MaskedModeling targets: a modality cannot be called 'train'"):
        MaskedModeling(Uniform(0.5), MaskVector(), {"train": TokenIds()})


@pytest.mark.parametrize("case", CASES)
def test_bfloat16_is_near_float32(case):
    objective, model, tokens = CASES[case]()
    views = objective.views(tokens, 0, Draw(0))
    exact = [float(t.total.detach()) for t in objective(model, tokens, views, 0)]
    with torch.autocast("cpu", torch.bfloat16):
        terms = objective(model, tokens, views, 0)
    assert all(t.total.dtype == torch.float32 for t in terms)
    assert [float(t.total.detach()) for t in terms] == pytest.approx(exact, rel=0.02)
    sum(t.total for t in terms).backward()
    assert all(p.grad is not None for p in model.encoder.parameters())


def test_each_modality_by_its_own_masking():
    masking = {"ids": Uniform(0.2), "patches": Uniform(0.8)}
    objective, _model, tokens = build(masking)
    draw = Draw(3)
    (view,) = objective.views(tokens, 0, draw)
    hidden_T = torch.zeros(len(tokens), dtype=torch.bool).index_fill(0, view.answer_N, True)
    for name in tokens.names:
        alone = tokens.only(name)
        check_counts(masking[name], alone, hidden_T[tokens.index[name]], 0, draw.stream("mask").stream(name))
    only_patches = tokens.layout.modality_T.new_tensor(
        [bool((tokens.layout.modality_T[tokens.layout.segment_T == s] == 1).all()) for s in range(tokens.layout.segments)]
    )
    assert view.rate_S.tolist() == pytest.approx([0.8 if p else 0.2 for p in only_patches.tolist()])


def test_a_term_is_the_sum_of_its_answers():
    objective, model, tokens = build(weights={"patches": 3.0})
    views = objective.views(tokens, 0, Draw(0))
    answers = objective.answers(model, tokens, views)
    terms = objective(model, tokens, views, 0)
    assert [(t.name, t.weight) for t in terms] == [("ids/TokenIds", 1.0), ("patches/Pixels", 3.0)]
    for term, answer in zip(terms, answers, strict=True):
        assert float(term.total.detach()) == pytest.approx(float(answer.loss_N.detach().sum()), rel=1e-5)
        assert term.count == len(answer.answer_N) == len(answer.truth_N)
        assert torch.equal(answer.loss_N, answer.target.loss(answer.output_NV, answer.truth_N))


def test_kept_and_random_tokens_are_asked_too():
    objective, _, tokens = build(Uniform(1.0), MaskVector(0.4, 0.4))
    counts = objective.counts(tokens, objective.views(tokens, 0, Draw(0)))
    assert counts == {
        "ids/TokenIds": float(tokens.layout.maskable_T[tokens.index["ids"]].sum()),
        "patches/Pixels": float(len(tokens.index["patches"])),
    }


def test_two_targets_of_one_kind_would_share_a_head():
    """So they are refused: one of them would be lost without a word."""
    with pytest.raises(ValueError, match="Pixels"):
        build(targets={"ids": TokenIds(), "patches": [Pixels(), Pixels(True)]})


def test_refusals():
    ids, pixels = TokenIds(), Pixels()
    for arguments, message in (
        ({"targets": {"ids": ids}}, "modality 'patches' has no target"),
        ({"targets": {"ids": ids, "patchs": pixels}}, "Did you mean 'patches'"),
        ({"masking": {"ids": Uniform()}}, "'patches' has a target but no masking"),
        ({"masking": {"ids": Uniform(), "patches": Uniform(), "smell": Uniform()}}, "no modality 'smell'"),
        ({"heads": {"idz": "linear"}}, "heads: no modality 'idz'"),
        ({"weights": {"idz": 1.0}}, "weights: no modality 'idz'"),
        ({"targets": {"ids": copy.deepcopy(pixels), "patches": pixels}}, "Pixels on 'ids'"),
        ({"heads": {"patches": "tied"}}, "tied head needs a modality with an embedding"),
    ):
        with pytest.raises(ValueError, match=message):
            build(**arguments)
