"""Masked heads: pseudo-log-likelihoods, minimal pairs and masked marginals against brute force."""

import pytest
import torch
from labelled import examples

from mmm.core.tokens import Sample, pack
from mmm.core.view import View
from mmm.evaluation.dataset import Dataset, Example
from mmm.evaluation.likelihood import MaskedHead
from mmm.evaluation.measures import masked_marginals, minimal_pairs

TEXTS = ["the mask", "a", "hidden row of", "stream of", "a row is a mask"]
WILD = "MKTAYIAKQRQISFVKSHFS"


@torch.no_grad()
def brute_force(model, text):
    """Each token hidden in a batch of its own."""
    modality = model.model.modalities["text"]
    piece = modality.tokenizer.tokenize(text)
    tokenizers = {n: m.tokenizer for n, m in model.model.modalities.items()}
    total = 0.0
    for place in piece.maskable.nonzero()[:, 0].tolist():
        tokens = pack([Sample({"text": piece})], tokenizers)
        hidden_T = torch.zeros(len(tokens), dtype=torch.bool)
        hidden_T[place] = True
        y_TD = model.model.encode(View.of(tokens, hidden_T)).x_KD
        logp_V = model.model.heads["text/TokenIds"](y_TD[place]).log_softmax(-1)
        total += float(logp_V[piece.content[place]])
    return total


def test_the_pseudo_log_likelihood_hides_each_token_in_turn(frozen, model):
    found = MaskedHead(frozen("text")).pseudo_log_likelihoods(TEXTS)
    assert found == pytest.approx([brute_force(model, text) for text in TEXTS], abs=1e-4)
    assert len(set(found)) == len(TEXTS)


def test_batches_change_nothing(frozen, monkeypatch):
    whole = MaskedHead(frozen("text")).pseudo_log_likelihoods(TEXTS)
    monkeypatch.setattr("mmm.evaluation.likelihood.BUDGET", 7)
    assert MaskedHead(frozen("text")).pseudo_log_likelihoods(TEXTS) == pytest.approx(whole, abs=1e-4)


def test_the_unmasked_score_is_that_of_the_logits(frozen, model):
    found = MaskedHead(frozen("text")).unmasked_log_likelihoods(TEXTS)
    with torch.no_grad():
        for text, value, logits_NV in zip(TEXTS, found, model.logits(TEXTS, "text"), strict=True):
            piece = model.model.modalities["text"].tokenizer.tokenize(text)
            logp_N = logits_NV.log_softmax(-1).gather(1, piece.content[:, None])[:, 0]
            assert value == pytest.approx(float(logp_N[piece.maskable].sum()), abs=1e-4)


def test_where_tokens_are_dropped_in_training_they_are_dropped_here(frozen, monkeypatch):
    asked = frozen("text")
    head = MaskedHead(asked)
    head.drops = True
    views = []
    monkeypatch.setattr(head, "_log_probabilities", lambda view: views.append(view) or torch.zeros(len(view.answer_N), 300))
    head.pseudo_log_likelihoods(["the mask"])
    (view,) = views
    assert len(view.kept_K) == len(view.tokens) - len(view.answer_N)


def test_a_model_without_a_masked_head_is_refused(frozen):
    with pytest.raises(ValueError, match="no head that predicts masked tokens of 'image'"):
        MaskedHead(frozen("image"))


def test_a_sentence_that_is_too_long_is_refused(frozen):
    with pytest.raises(ValueError, match="longer than the model reads"):
        MaskedHead(frozen("text")).pseudo_log_likelihoods(["the row " * 40])


def pairs(*rows):
    return Dataset([Example((good, bad), f"{i}", name, True) for i, (good, bad, name) in enumerate(rows)])


@pytest.mark.parametrize("score", ["pll", "unmasked"])
def test_minimal_pairs_count_how_often_the_good_one_is_likelier(frozen, score):
    head = MaskedHead(frozen("text"))
    values = {"pll": head.pseudo_log_likelihoods, "unmasked": head.unmasked_log_likelihoods}[score](TEXTS)
    best, worst = (TEXTS[values.index(v)] for v in (max(values), min(values)))
    data = pairs((best, worst, "easy"), (worst, best, "hard"), (best, worst, "hard"), (best, best, "tie"))
    outcome = minimal_pairs.measure(frozen("text"), data, (0,), score=score)
    assert outcome.parts == {"easy": 1.0, "hard": 0.5, "tie": 0.0}
    assert (outcome.value, outcome.n, outcome.baseline, outcome.by_seed) == (0.5, 4, 0.5, {})


def test_some_pairs_of_each_paradigm(frozen):
    data = pairs(*[("a row", "the row", name) for name in "aaaabb"])
    assert minimal_pairs.measure(frozen("text"), data, (0,), pairs=3).n == 5


@torch.no_grad()
def marginal(model, sequence, place, old, new):
    tokenizer = model.model.modalities["protein"].tokenizer
    (logits_NV,) = model.logits([sequence[:place] + "<mask>" + sequence[place + 1 :]], "protein")
    logp_V = logits_NV[place + 1].log_softmax(-1)
    return float(logp_V[tokenizer.readable[new]] - logp_V[tokenizer.readable[old]])


def test_masked_marginals_are_sums_over_mutated_places(frozen, model):
    variants = [WILD, "A" + WILD[1:], WILD[:5] + "W" + WILD[6:], "A" + WILD[1:5] + "W" + WILD[6:]]
    first, second = marginal(model, WILD, 0, "M", "A"), marginal(model, WILD, 5, "I", "W")
    scores = [0.0, first, second, first + second]
    outcome = masked_marginals.measure(frozen("protein"), examples(variants, scores), (), wild_type=WILD)
    assert outcome.value == pytest.approx(1.0, abs=1e-5)
    turned = masked_marginals.measure(frozen("protein"), examples(variants, [-s for s in scores]), (), wild_type=WILD)
    assert turned.value == pytest.approx(-1.0, abs=1e-5)


def test_of_a_long_wild_type_the_window_around_a_place_is_read(frozen, model):
    """The model reads 22 residues."""
    wild = WILD * 3
    place = 40
    variants = [wild[:place] + new + wild[place + 1 :] for new in "ACDEFG"]
    start = place - 11
    truths = [marginal(model, wild[start : start + 22], 11, wild[place], v[place]) for v in variants]
    outcome = masked_marginals.measure(frozen("protein"), examples(variants, truths), (), wild_type=wild)
    assert outcome.value == pytest.approx(1.0, abs=1e-5)


def test_only_the_test_set_is_scored(frozen):
    data = examples([WILD, "A" + WILD[1:], "C" + WILD[1:]], [1.0, 2.0, 0.5], [False, True, True])
    assert masked_marginals.measure(frozen("protein"), data, (), wild_type=WILD).n == 2


def test_variants_of_another_length_are_refused(frozen):
    with pytest.raises(ValueError, match="a variant of 19 residues of a wild type of 20"):
        masked_marginals.measure(frozen("protein"), examples([WILD[1:]], [1.0]), (), wild_type=WILD)
