"""Proteins: the ids of fair-esm, FASTA files, and what is refused."""

import gzip
import json
import logging
import pickle
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe, BadRecord
from mmm.core.modality import Record
from mmm.core.objective import Answer
from mmm.core.tokens import Sample, pack
from mmm.modalities._ids import Embedding
from mmm.modalities.protein import RESIDUES, Protein, Vocabulary

sequences = st.text(alphabet=RESIDUES + RESIDUES.lower(), min_size=1, max_size=80)
TOKENIZER = Protein().tokenizer


@pytest.fixture(scope="module")
def oracle():
    from esm.data import Alphabet

    return Alphabet.from_architecture("ESM-1b")


def read(path):
    return list(TOKENIZER.records(path))


@settings(max_examples=50, deadline=None)
@given(sequences)
def test_ids_are_those_of_fair_esm(oracle, sequence):
    piece = TOKENIZER.tokenize(sequence)
    _, _, want = oracle.get_batch_converter()([("a", sequence.upper())])
    assert piece.content.tolist() == want[0].tolist()
    assert piece.positions.tolist() == list(range(len(sequence) + 2))
    assert piece.maskable.tolist() == [False] + [True] * len(sequence) + [False]
    assert TOKENIZER.detokenize(piece.content) == sequence.upper()
    assert TOKENIZER.length(Record("", None, sequence, b"")) == len(piece)


def test_the_vocabulary_is_that_of_fair_esm(oracle):
    assert TOKENIZER.size == len(oracle) == 33
    assert (TOKENIZER.cls, TOKENIZER.eos, TOKENIZER.mask) == (oracle.cls_idx, oracle.eos_idx, oracle.mask_idx) == (0, 2, 32)
    assert [oracle.get_tok(i) for i in TOKENIZER.choices.tolist()] == list("LAGVSERTIDPKQNFYMHWC")


def test_masks_lower_case_and_stops():
    piece = TOKENIZER.tokenize("mk<mask>AY*")
    assert piece.content.tolist() == [0, 20, 15, 32, 5, 19, 2]
    assert piece.maskable.tolist() == [False, True, True, False, True, True, False]
    assert TOKENIZER.detokenize(piece.content) == "MK<mask>AY"
    assert TOKENIZER.detokenize(torch.tensor([0, 20, 2, 0, 15, 2])) == "M<eos><cls>K", "only the ends are no part of it"


@pytest.mark.parametrize(
    ("sequence", "match"),
    [
        ("MK7A", "'7' at residue 3 is no residue; choices: A, C, D"),
        ("MK<mask>J", "'J' at residue 4 is leucine or isoleucine"),
        ("M*KA", "'[*]' at residue 2 is a stop"),
        ("MK**", "'[*]' at residue 3 is a stop"),
        ("M-K", "'-' at residue 2 is a gap of an aligned sequence; remove the gaps"),
        ("M.K", "'[.]' at residue 2 is a gap"),
        ("M K", "' ' at residue 2"),
        ("Mß", "'SS' at residue 2"),
        ("M<cls>", "'<' at residue 2"),
        ("", "not ''"),
        ("*", "empty"),
        (None, "not None"),
        (b"MK", "not b'MK'"),
    ],
)
def test_sequences_that_are_none(sequence, match):
    with pytest.raises(ValueError, match=match):
        TOKENIZER.tokenize(sequence)


@given(st.lists(st.sampled_from(["A", "c", "X", "b", "J", "*", "-", "ß", "<mask>", "1"]), max_size=8).map("".join))
def test_the_short_way_is_the_long_one(sequence):
    """What is all letters is not looked at one by one; the answer is the same."""

    def answer(letters):
        tokenizer = Protein().tokenizer
        tokenizer.letters = letters
        try:
            return tokenizer.residues(sequence)
        except ValueError as error:
            return str(error)

    assert answer(TOKENIZER.letters) == answer(frozenset())


def test_fasta(tmp_path):
    data = b"\xef\xbb\xbf\r\n>sp|P1|A first OS=Homo sapiens\r\nMKT\r\n\r\nay\r\n>b\r\nMKTAY*\r\n"
    (tmp_path / "a.fasta").write_bytes(data)
    (tmp_path / "a.faa.gz").write_bytes(gzip.compress(data))
    for name in ("a.fasta", "a.faa.gz"):
        found = read(tmp_path / name)
        assert [(r.record, r.raw, r.key) for r in found] == [("sp|P1|A", "MKTAY", b"MKTAY"), ("b", "MKTAY", b"MKTAY")]
        assert found[0].sample == found[1].sample


MALFORMED = [
    (b"MKTAY\n", "line 1: 'MKTAY' where the header"),
    (b"<!DOCTYPE html>\n<p>", "line 1: HTML"),
    (b">a\nMK\n> \nMK", "line 3: a header without an id"),
    (b">a\nMK\n>b\nMKJ", "record b: header in line 3: 'J' at residue 3"),
    (b">a\n>b\nMK", "record a: header in line 1: .*not ''"),
    (b">a\nMK\n>b x\nMK\n>b y\nMA", "record b: line 5: this id is already used in line 3"),
    (b">a\nM\0K", "line 2, byte 4: a NUL"),
    (b">a\xf6\nMK", "line 1, byte 2 .*not UTF-8"),
    (">a\nMK".encode("utf-16"), "UTF-16"),
    (b"", "no protein in it"),
    (b"\n \n", "no protein in it"),
]


@pytest.mark.parametrize(("data", "match"), MALFORMED)
def test_malformed_files_are_named_in_one_line(tmp_path, data, match):
    (tmp_path / "a.fasta").write_bytes(data)
    with pytest.raises(BadRecord, match=match) as error:
        read(tmp_path / "a.fasta")
    assert str(tmp_path / "a.fasta") in str(error.value)
    assert "\n" not in str(error.value)


def test_a_sequence_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("mmm.modalities.protein.MAX_RESIDUES", 100)
    (tmp_path / "a.fa").write_text(">a\n" + "M" * 100 + "\n>b\n" + "MK\n" * 51)
    with pytest.raises(BadRecord, match="record b: line 54: more than 100 residues"):
        read(tmp_path / "a.fa")


def test_long_proteins_are_cut_by_their_own_draw_and_it_is_said_once(caplog):
    tokenizer = Protein(max_length=12).tokenizer
    sequence = "ACDEFGHIKLMNPQRSTVWY"
    with caplog.at_level(logging.WARNING, logger="mmm"):
        pieces = [tokenizer.tokenize(sequence, Draw(0).at(record)) for record in range(200)]
    assert len(caplog.records) == 1
    assert "protein of 20 residues is cut to the 10" in caplog.text
    cut = [tokenizer.detokenize(p.content) for p in pieces]
    assert all(len(p) == 12 and p.positions.tolist() == list(range(12)) for p in pieces)
    assert {sequence.index(c) for c in cut} == set(range(11))
    assert [tokenizer.detokenize(tokenizer.tokenize(sequence, Draw(0).at(r)).content) for r in range(199, -1, -1)] == cut[::-1]
    assert tokenizer.detokenize(tokenizer.tokenize(sequence).content) == sequence[:10]
    assert tokenizer.length(Record("", None, sequence, b"")) == 12


def test_pickles_need_no_esm():
    code = (
        "import pickle, sys; t = pickle.loads(sys.stdin.buffer.read());"
        "print(t.tokenize('MK').content.tolist(), 'esm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(TOKENIZER), capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[0, 20, 15, 2] False"


def test_recipes_that_cannot_be():
    with pytest.raises(BadRecipe, match="max_length=2"):
        Protein(max_length=2)


def packed(protein, texts):
    samples = [Sample({"protein": protein.tokenizer.tokenize(t)}, sample=i) for i, t in enumerate(texts)]
    return pack(samples, {"protein": protein.tokenizer})


@pytest.mark.parametrize("positions", ["none", "learned", "sinusoidal"])
@pytest.mark.parametrize("norm", [False, True])
def test_embedding_packed_is_embedding_alone(positions, norm):
    protein = Protein(max_length=32, positions=positions, norm=norm)
    protein.build(16)
    tokens = packed(protein, ["MKTAYIAK", "AC", "WYVDE"])
    hidden_N = Draw(1).per_token(tokens.layout) < 0.3
    part = tokens.part("protein")
    x_ND = protein.embed(part.content_R, part.layout_N, hidden_N)
    for s in range(3):
        alone = tokens.segment(s).part("protein")
        own = tokens.layout.segment_T == s
        torch.testing.assert_close(protein.embed(alone.content_R, alone.layout_N, hidden_N[own]), x_ND[own], rtol=0, atol=0)
    x_ND.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in protein.parameters())


def test_without_positions_and_norm_the_embedding_is_the_row():
    protein = Protein()
    protein.build(8)
    part = packed(protein, ["MK"]).part("protein")
    x_ND = protein.embed(part.content_R, part.layout_N, torch.tensor([False, True, False, False]))
    assert torch.equal(x_ND, protein.tied()[[0, 32, 15, 2]])
    assert protein.tied().shape == (33, 8)


def test_pictures_mark_residues():
    protein = Protein()
    tokens = packed(protein, ["MKTAY"])
    hidden_N = torch.tensor([False, False, True, True, True, False, False])
    answer_N = torch.tensor([2, 3])
    output_NV = torch.nn.functional.one_hot(torch.tensor([15, 4]), 33).float()
    other = Answer("other", None, "", answer_N, output_NV, answer_N, torch.zeros(2), torch.ones(2))
    answer = Answer(
        "protein", None, "", answer_N, output_NV, tokens.content["protein"][answer_N], torch.zeros(2), torch.ones(2)
    )
    original, masked, filled = protein.pictures(tokens, "protein", hidden_N, [other, answer])
    assert original.words == (("MKTAY", "seen", ""),)
    assert masked.words[1:] == (
        ("<mask>", "hidden", "K"),
        ("<mask>", "hidden", "T"),
        ("<mask>", "hidden", "A"),
        ("Y", "seen", ""),
    )
    assert filled.words[1:4] == (("K", "right", "K"), ("L", "wrong", "T"), ("<mask>", "hidden", "A"))


def test_the_vocabulary_of_another_model():
    """Its tokens, its specials, none around a sequence; and what it has no token for is refused."""
    vocabulary = Vocabulary((*"ACDEFGHIKLMNPQRSTVWY", "[MASK]", "[PAD]"), "[MASK]", (), (), {"mask": "[MASK]"})
    protein = Protein(max_length=20)
    protein.restore({"vocabulary.json": json.dumps(asdict(vocabulary)).encode(), "original.vocab.txt": b"A"})
    piece = protein.tokenizer.tokenize("ac<mask>D[MASK]")
    assert piece.content.tolist() == [0, 1, 20, 2, 20]
    assert piece.maskable.tolist() == [True, True, False, True, False]
    assert protein.tokenizer.detokenize(piece.content) == "AC<mask>D<mask>"
    assert protein.tokenizer.size == 22
    again = Protein(max_length=20)
    again.restore(protein.assets())
    assert again.tokenizer.vocabulary == vocabulary
    assert again.originals == {"vocab.txt": b"A"}
    with pytest.raises(ValueError, match="'X' at residue 2 is a residue this model has no token for; choices: A, C"):
        protein.tokenizer.tokenize("AX")
    with pytest.raises(ValueError, match="has no token <mask>"):
        protein.restore({"vocabulary.json": json.dumps({**asdict(vocabulary), "mask": "<mask>"}).encode()})
    assert TOKENIZER.size == 33


def test_masks_are_dropped_and_the_rest_made_up_for():
    """Token dropout of ESM-2: a record with as many masks as usual is as it was, one without is a little smaller."""
    protein = Protein(embedding=Embedding(rescale=0.12))
    protein.build(8)
    pieces = ["MKTAYIAK", "MK<mask>AYIAK", "<mask>" * 8]
    tokens = pack([Sample({"protein": TOKENIZER.tokenize(p)}, i) for i, p in enumerate(pieces)], {"protein": TOKENIZER})
    part = tokens.part("protein")
    x = protein.embed(part.content_R, part.layout_N, torch.zeros(30, dtype=torch.bool)).view(3, 10, 8)
    rows = protein.embedding.weight[part.content_R].view(3, 10, 8)
    assert torch.allclose(x[0], rows[0] * 0.88)
    assert torch.allclose(x[1, 4:], rows[1, 4:] * 0.88 / 0.9)
    assert not x[1, 3].any()
    assert torch.allclose(x[2, 0], rows[2, 0] * 0.88 / 0.2)
