"""Measures of single residues and of pairs of them."""

import json

import numpy as np
import pytest
import torch
from labelled import examples

from mmm.evaluation.attention_maps import attention_maps
from mmm.evaluation.dataset import Dataset, Given
from mmm.evaluation.measures import contacts, token_probe
from mmm.evaluation.measures.contacts import corrected
from mmm.evaluation.readers.contacts import read
from mmm.nn.attention import dense_attention
from mmm.nn.rotary import rotate

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"


def proteins(n, low=10, high=50, seed=0):
    random = np.random.default_rng(seed)
    return ["".join(random.choice(list(RESIDUES), random.integers(low, high))) for _ in range(n)]


def test_states_that_follow_from_the_residue_are_found(frozen):
    """Longer proteins than the model reads (22) are read in stretches, so every residue is judged."""
    sequences = proteins(60)
    states = ["".join("H" if r < "I" else "E" if r < "R" else "C" for r in s) for s in sequences]
    outcome = token_probe.measure(frozen("protein"), examples(sequences, states), (0, 1))
    assert outcome.metric == "Q3"
    assert outcome.value > 0.98
    assert 0.2 < outcome.baseline < 0.6
    assert list(outcome.by_seed) == [0, 1]


def test_random_states_stay_at_chance(frozen):
    sequences = proteins(80, seed=1)
    random = np.random.default_rng(1)
    states = ["".join(random.choice(list("HE"), len(s))) for s in sequences]
    tests = [i % 2 == 0 for i in range(80)]
    outcome = token_probe.measure(frozen("protein"), examples(sequences, states, tests), (0,))
    assert outcome.n == 40
    assert outcome.low < 0.5 < outcome.high


def test_unknown_states_are_not_asked(frozen):
    sequences = proteins(60, seed=2)
    states = ["".join("-" if r == "A" else "H" if r < "L" else "E" for r in s) for s in sequences]
    outcome = token_probe.measure(frozen("protein"), examples(sequences, states), (0,))
    assert outcome.value > 0.95
    assert outcome.metric == "token accuracy"


def test_eight_states_become_three_where_three_are_asked_for(frozen):
    sequences = proteins(60, seed=3)
    states = ["".join("HGIEBTSC"[RESIDUES.index(r) % 8] for r in s) for s in sequences]
    data = examples(sequences, states)
    assert token_probe.measure(frozen("protein"), data, (0,), states=8).metric == "Q8"
    assert token_probe.measure(frozen("protein"), data, (0,), states=3).metric == "Q3"
    three = examples(sequences, [s.translate(str.maketrans("GIBTS", "HHECC")) for s in states])
    with pytest.raises(ValueError, match="8 are needed"):
        token_probe.measure(frozen("protein"), three, (0,), states=8)


def test_a_protein_that_stands_in_the_data_twice_is_read_once(frozen):
    sequences = proteins(40, seed=4)
    states = ["".join("H" if r < "L" else "E" for r in s) for s in sequences]
    tests = [i % 2 == 0 for i in range(40)]
    data = examples(sequences, states, tests)
    twice = Dataset([*data.examples, data.examples[0], data.examples[1]])
    outcome = token_probe.measure(frozen("protein"), twice, (0,))
    assert outcome.n == 20
    assert outcome.value > 0.9


def test_states_of_another_number_are_refused(frozen):
    with pytest.raises(ValueError, match="2 states for 3 residues"):
        token_probe.measure(frozen("protein"), examples(["MKA"], ["HH"]), (0,))


def test_attention_maps_are_those_the_encoder_attends_by(frozen, model):
    """Put to work on the values, they give what the layer gave."""
    asked = frozen("protein")
    sequence = RESIDUES
    maps_HNN = attention_maps(asked, sequence)
    assert maps_HNN.shape == (2, 20, 20)
    layer = model.model.encoder.blocks[0].attention
    seen = {}
    hook = layer.register_forward_pre_hook(lambda _, args, kwargs: seen.update(args=args, kwargs=kwargs), with_kwargs=True)
    with torch.no_grad():
        model.hidden([sequence], "protein")
        hook.remove()
        x_TD, layout, rule, turn, *_ = (*seen["args"], *seen["kwargs"].values(), None, None)
        q, k, _ = layer.qkv(x_TD).unflatten(1, (3, layer.heads, -1)).unbind(1)
        if turn is not None:
            q, k = rotate(q, *turn), rotate(k, *turn)
        identity = torch.eye(len(layout))[:, None].expand(-1, layer.heads, -1)  # values that tell who was attended to
        whole_THT = dense_attention(q, k, identity, layout, rule)
    assert torch.allclose(maps_HNN, whole_THT.transpose(0, 1)[:, 1:-1, 1:-1], atol=1e-5)
    assert not layer._forward_pre_hooks


def test_the_correction_takes_the_marginals_away():
    random = torch.Generator().manual_seed(0)
    map_HNN = torch.rand(3, 6, 6, generator=random)
    whole = corrected(map_HNN)
    symmetric = map_HNN + map_HNN.transpose(1, 2)
    expected = symmetric[1, 2, 4] - symmetric[1, 2].sum() * symmetric[1, :, 4].sum() / symmetric[1].sum()
    assert torch.allclose(whole[1, 2, 4], expected)
    assert torch.allclose(whole.sum(2), torch.zeros(3, 6), atol=1e-4)


def planted(monkeypatch, length=40, n=30, seed=0):
    """Proteins whose contacts shine in one attention map of three."""
    random = np.random.default_rng(seed)
    sequences, labels, maps = [], [], {}
    for sequence in proteins(n, length, length + 1, seed):
        pairs = [(i, i + 24 + int(random.integers(0, length - 24 - i))) for i in range(length - 24)]
        noise = torch.from_numpy(random.random((3, length, length))).float() * 0.1
        for i, j in pairs:
            noise[1, i, j] += 1
        sequences.append(sequence)
        labels.append(pairs)
        maps[sequence] = noise
    monkeypatch.setattr(contacts, "attention_maps", lambda frozen, record: maps[record])
    return examples(sequences, labels)


class Reads:
    """A model that reads every length."""

    class tokenizer:
        class tokenize:
            cut = False

            def __init__(self, record): ...


def test_contacts_that_shine_in_a_map_are_found(monkeypatch):
    data = planted(monkeypatch)
    outcome = contacts.measure(Reads, data, (0, 1), top=0.2, apart=24)
    assert outcome.metric == "P@L/5"
    assert outcome.baseline < 0.2
    assert outcome.value > 0.95
    assert contacts.measure(Reads, data, (0,), apart=24).metric == "P@L"


def test_random_contacts_stay_at_their_density(monkeypatch):
    data = planted(monkeypatch, n=60)
    random = np.random.default_rng(1)
    shuffled = [[tuple(sorted(p)) for p in random.integers(0, 40, (120, 2)).tolist()] for _ in data.examples]
    outcome = contacts.measure(Reads, examples([e.records[0] for e in data.examples], shuffled), (0, 1, 2), apart=6)
    assert outcome.low - 0.05 < outcome.baseline < outcome.high + 0.05


def test_contacts_of_a_real_encoder_run(frozen, tmp_path):
    lines = [{"record": p, "contacts": [[0, 7], [1, 9]]} for p in proteins(30, 12, 20)]
    lines.append({"record": "M" * 30, "contacts": []})
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, lines)))
    asked = frozen("protein")
    data = read(Given({"": tmp_path / "c.jsonl"}, asked.tokenizer))
    outcome = contacts.measure(asked, data, (0,), apart=6)
    assert outcome.notes == ["1 proteins are longer than the model reads: left out"]
    assert 0 <= outcome.low <= outcome.value <= outcome.high <= 1


def test_a_contact_outside_the_protein_is_refused(frozen):
    data = examples(["MKTAYIAKQR"] * 9, [[(0, 10)]] * 9, [i > 4 for i in range(9)])
    with pytest.raises(ValueError, match="a contact of residue 10 of 10"):
        contacts.measure(frozen("protein"), data, (0,), apart=6)


def test_an_encoder_without_attention_has_no_maps(frozen, monkeypatch):
    asked = frozen("protein")
    monkeypatch.setattr(type(asked.model.model.encoder), "modules", lambda self: iter(()))
    with pytest.raises(ValueError, match="Transformer has no attention maps"):
        attention_maps(asked, "MKT")
