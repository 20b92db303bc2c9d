"""DNA: the conformance kit in every way of writing, exact round trips, both strands, units that do not leak, files."""

import gzip
import multiprocessing
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe, BadRecord
from mmm.core.modality import Record
from mmm.core.tokens import Sample, pack
from mmm.corruptions.mask_vector import MaskVector
from mmm.data.shelf import Shelf, fill
from mmm.masking.span import Span
from mmm.masking.uniform import Uniform
from mmm.nn.waveform import Neighbours
from mmm.objectives.masked_modeling import MaskedModeling
from mmm.targets.token_ids import TokenIds
from mmm.testing import (
    ToyIds,
    batch,
    check_corruption,
    check_files,
    check_learns,
    check_masking,
    check_modality,
    check_objective,
    tiny_model,
)

from mmm_dna._words import AMBIGUOUS, BASES, MASK, reverse_complement
from mmm_dna.dna import Dna

RAWS = ["ACGTACGTTAGCCGATTAACG", "TTTTGGGGCCCCAAAATATACGCGATATC", "NACGTRYACGTTGCA", "ACG", "GATTACANNNGATTACAGATTACA"]
MAKES = {
    "base": lambda **a: Dna(max_length=40, **a),
    "learned, normed": lambda **a: Dna(max_length=40, positions="learned", norm=True, **a),
    "sinusoidal": lambda **a: Dna(max_length=40, positions="sinusoidal", **a),
    "conv": lambda **a: Dna(max_length=40, positions="conv", **a),
    "3-mers": lambda **a: Dna(split="kmer", k=3, overlap=False, max_length=40, **a),
    "overlapping": lambda **a: Dna(split="kmer", k=4, max_length=40, **a),
    "bpe": lambda **a: Dna(split="bpe", vocabulary=40, max_length=40, **a),
}
RECORDS = [Record("memory", i, raw, raw.encode()) for i, raw in enumerate(RAWS)]
sequences = st.text(alphabet=BASES * 6 + AMBIGUOUS, min_size=1, max_size=60)


@pytest.fixture(scope="session")
def pool():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield pool


def made(kind: str, **arguments) -> Dna:
    modality = MAKES[kind](**arguments)
    modality.fit(RECORDS)
    return modality


@pytest.mark.parametrize("kind", MAKES)
def test_the_kit(kind, pool):
    check_modality(MAKES[kind](), RAWS, RECORDS, pool=pool)


@pytest.mark.parametrize("kind", ["base", "3-mers", "overlapping", "bpe"])
def test_maskings_corruptions_objectives_and_learning(kind):
    modalities = {"dna": made(kind), "other": ToyIds()}
    model = tiny_model(modalities)
    tokens = batch(modalities, [*({"dna": raw} for raw in RAWS), {"other": [1, 2, 3]}, {"dna": RAWS[0], "other": [4, 5]}])
    for masking in (Uniform(0.4), Span(0.4)):
        check_masking(masking, tokens)
        check_corruption(MaskVector(random=0.1, keep=0.1), tokens, masking.hidden(tokens, 0.5, Draw(5)))
    objective = MaskedModeling(Uniform(0.3), MaskVector(), {"dna": TokenIds(), "other": TokenIds()}, heads={"dna": "tied"})
    objective.setup(model)
    check_objective(objective, model, tokens)
    check_learns(objective, model, tokens)


@pytest.mark.parametrize("kind", MAKES)
@given(sequence=sequences)
@settings(max_examples=40, deadline=None)
def test_every_sequence_comes_back_exactly(kind, sequence):
    words = FITTED[kind].tokenizer.words
    ids = words.spell(sequence)
    assert words.join(ids) == sequence
    piece = FITTED[kind].tokenizer.tokenize(sequence[:30])
    assert FITTED[kind].tokenizer.detokenize(piece.content) == sequence[:30]
    certain = [set(words.tokens[i]) <= set(BASES) for i in piece.content.tolist()]
    assert all(c for c, m in zip(certain, piece.maskable.tolist(), strict=True) if m), "an ambiguous base would be asked"


FITTED = {kind: made(kind) for kind in MAKES}


def test_how_sequences_are_written():
    def words(kind: str, raw: str) -> list[str]:
        tokenizer = FITTED[kind].tokenizer
        return [tokenizer.words.tokens[i] for i in tokenizer.tokenize(raw).content.tolist()]

    assert words("base", "acgn") == ["[CLS]", "A", "C", "G", "N", "[SEP]"]
    assert words("3-mers", "ACGTTANACGT") == ["[CLS]", "ACG", "TTA", "N", "A", "C", "G", "T", "[SEP]"]
    assert words("overlapping", "ACGTTA") == ["[CLS]", "ACGT", "CGTT", "GTTA", "[SEP]"]
    assert words("overlapping", "ACGTN") == ["[CLS]", "ACGT", "C", "G", "T", "N", "[SEP]"]
    assert words("base", "A[MASK]G") == ["[CLS]", "A", "[MASK]", "G", "[SEP]"]
    assert words("3-mers", "ACG[MASK]ACG") == ["[CLS]", "ACG", "[MASK]", "ACG", "[SEP]"]
    assert FITTED["base"].tokenizer.detokenize(FITTED["base"].tokenizer.tokenize("A[mask]G").content) == "A[MASK]G"
    assert max(len(w) for w in FITTED["bpe"].tokenizer.words.tokens[18:]) > 1
    assert FITTED["bpe"].tokenizer.size <= 40


@given(sequences)
def test_the_other_strand(sequence):
    assert reverse_complement(reverse_complement(sequence)) == sequence
    tokenizer = FITTED["base"].tokenizer
    (one, other) = (tokenizer.cell(s, "table", 1) for s in (sequence, reverse_complement(sequence)))
    assert one.sample == other.sample, "the two strands are one molecule, and must not fall on two sides of a split"


def test_complements_of_the_codes():
    """A code's complement stands for the complements of its bases (IUPAC)."""
    bases = dict(
        zip(
            "ACGTNRYSWKMBDHV",
            ["A", "C", "G", "T", "ACGT", "AG", "CT", "CG", "AT", "GT", "AC", "CGT", "AGT", "ACT", "ACG"],
            strict=True,
        )
    )
    for code, meant in bases.items():
        assert set(bases[reverse_complement(code)]) == {reverse_complement(base) for base in meant}, code


def test_strands_are_drawn_by_the_record_and_its_pass():
    tokenizer = MAKES["base"](reverse=0.5).tokenizer
    raw, other = "ACGTTTGA", reverse_complement("ACGTTTGA")
    read = [tokenizer.detokenize(tokenizer.tokenize(raw, Draw(0).at(7, epoch)).content) for epoch in range(200)]
    assert set(read) == {raw, other}
    assert 70 < read.count(other) < 130
    assert tokenizer.detokenize(tokenizer.tokenize(raw).content) == raw, "without a draw nothing is random"
    forward = MAKES["base"](reverse=0.0).tokenizer
    assert all(forward.detokenize(forward.tokenize(raw, Draw(0).at(e)).content) == raw for e in range(50))


@given(sequence=st.text(alphabet=BASES, min_size=30, max_size=38), seed=st.integers(0, 2**30), rate=st.floats(0.1, 0.6))
@settings(max_examples=60, deadline=None)
def test_overlapping_kmers_do_not_leak(sequence, seed, rate):
    """Each hidden k-mer holds a base that no visible one shows, whatever else is hidden."""
    tokenizer, k = FITTED["overlapping"].tokenizer, 4
    tokens = pack([Sample({"dna": tokenizer.tokenize(sequence, Draw(seed))}, seed)], {"dna": tokenizer})
    hidden_T = Uniform(rate).hidden(tokens, 0.0, Draw(seed))
    place = [t - 1 for t in range(len(tokens)) if tokens.layout.maskable_T[t]]
    covered = {p: set(range(p, p + k)) for p in place}
    seen = set().union(*(covered[p] for p in place if not hidden_T[p + 1]), set())
    for p in place:
        assert not hidden_T[p + 1] or covered[p] - seen, f"the k-mer at {p} can be read off its neighbours"


def test_units_of_k_begin_anywhere():
    tokenizer = FITTED["overlapping"].tokenizer
    first = {tuple(tokenizer.tokenize("ACGT" * 6, Draw(0).at(e)).units.tolist()) for e in range(60)}
    assert len(first) == 4, "one for each place a unit can begin at"
    assert FITTED["3-mers"].tokenizer.tokenize("ACGT" * 6).units is None


@pytest.mark.parametrize("kind", MAKES)
def test_longer_sequences_are_cut_to_a_window(kind):
    tokenizer = made(kind, reverse=0.0).tokenizer
    long = "ACGTTGCA" * 500 + "GATTACA" * 100
    assert len(tokenizer.tokenize(long)) == 40 == tokenizer.length(Record("", 1, long, b""))
    assert tokenizer.tokenize(long).cut
    assert not tokenizer.tokenize("ACGTTGCA").cut
    windows = {tokenizer.detokenize(tokenizer.tokenize(long, Draw(0).at(e)).content) for e in range(30)}
    assert len(windows) > 5
    assert all(window in long for window in windows)


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        ("ACGU", "'U' at base 4 is uracil: this is RNA; write T"),
        ("AC-GT", "'-' at base 3 is a gap"),
        ("AC GT", "' ' at base 3 is no base; choices: A, C, G, T, and N, R"),
        ("MKTAY[MASK]E", "'E' at base 12"),
        ("ACX", "write N"),
        ("", "not ''"),
        (None, "not None"),
        (b"ACGT", "not b'ACGT'"),
    ],
)
def test_what_is_no_dna(raw, match):
    with pytest.raises(ValueError, match=match):
        FITTED["base"].tokenizer.tokenize(raw)


def test_a_mask_inside_overlapping_kmers_is_refused():
    with pytest.raises(ValueError, match="use another split"):
        FITTED["overlapping"].tokenizer.tokenize("ACGTA[MASK]ACGT")


@pytest.mark.parametrize(
    "arguments",
    [
        {"split": "kmer", "k": 1},
        {"split": "kmer", "k": 9},
        {"split": "bpe", "vocabulary": 20},
        {"max_length": 2},
        {"reverse": 1.5},
    ],
)
def test_arguments_that_cannot_be(arguments):
    with pytest.raises(BadRecipe, match=f"{list(arguments)[-1]}="):
        Dna(**arguments)


def test_convolutions_need_a_width_of_whole_groups():
    with pytest.raises(BadRecipe, match="width 30 is no multiple of these groups"):
        Dna(positions="conv", neighbours=Neighbours(kernel=5, groups=4)).build(30)


def test_bpe_before_it_is_fitted():
    tokenizer = MAKES["bpe"]().tokenizer
    with pytest.raises(ValueError, match="call fit"):
        tokenizer.tokenize("ACGT")
    with pytest.raises(ValueError, match="that can be read"):
        MAKES["bpe"]().restore({"pieces.json": b"{}"})


FASTA = b"\xef\xbb\xbf>chr1 first, 12 bp\r\nACGTAC\r\nacgtnn\r\n\r\n>chr2\r\nTTTTGGGG\r\n"


def read(path):
    return list(FITTED["base"].tokenizer.records(path))


def test_fasta_and_cells(tmp_path):
    for name, data in (("a.fasta", FASTA), ("a.fa.gz", gzip.compress(FASTA)), ("a.fna", FASTA)):
        (tmp_path / name).write_bytes(data)
        assert name.endswith(FITTED["base"].tokenizer.suffixes)
        assert [(r.record, r.raw) for r in read(tmp_path / name)] == [("chr1", "ACGTACACGTNN"), ("chr2", "TTTTGGGG")]
    cell = FITTED["base"].tokenizer.cell("acgt", tmp_path / "t.csv", 3)
    assert (cell.raw, cell.record) == ("ACGT", 3)
    with pytest.raises(BadRecord, match=r"t\.csv, record 3: 'Q' at base 1"):
        FITTED["base"].tokenizer.cell("Q", tmp_path / "t.csv", 3)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"ACGT\n", "line 1: 'ACGT' where the header"),
        (b"<!DOCTYPE html>", "line 1: HTML"),
        (b">\nACGT", "line 1: a header without a name"),
        (b">a\nACGT\n>b\n>c\nA", "record b: header in line 3: .*not ''"),
        (b">a\nAC\n>a\nAC", "record a: line 3: this name is already used in line 1"),
        (b">a\nACE", "record a: header in line 1: 'E' at base 3"),
        (b">a\nA\0C", "line 2: a NUL"),
        (b">a\nA\xe9C", "line 2: a sequence is written in ASCII"),
        (b"", "no sequence in it"),
    ],
)
def test_malformed_files_are_named_in_one_line(tmp_path, data, match):
    (tmp_path / "a.fasta").write_bytes(data)
    with pytest.raises(BadRecord, match=match) as error:
        read(tmp_path / "a.fasta")
    assert str(tmp_path / "a.fasta") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["base", "bpe"])
@pytest.mark.parametrize("zipped", [False, True])
def test_damaged_files(kind, zipped, tmp_path):
    good = tmp_path / ("good.fasta.gz" if zipped else "good.fasta")
    good.write_bytes(gzip.compress(FASTA, mtime=0) if zipped else FASTA)
    folder = tmp_path / "damaged"
    folder.mkdir()
    check_files(FITTED[kind], good, folder)


def test_lengths_on_disk_belong_to_a_way_of_writing(tmp_path):
    path = tmp_path / "good.fasta"
    path.write_bytes(FASTA)
    assert fill(tmp_path / "kept", "dna", [path], FITTED["base"].tokenizer)
    shelf, longer = Shelf(tmp_path / "kept", "dna", [str(path)]), Dna(split="bpe", vocabulary=40, max_length=12)
    longer.restore(FITTED["bpe"].assets())
    for modality in (*FITTED.values(), longer):
        wanted = [modality.tokenizer.length(record) for record in modality.tokenizer.records(path)]
        assert shelf.lengths(modality).tolist() == wanted


def test_the_same_data_give_the_same_pieces():
    one, other = (made("bpe").assets()["pieces.json"] for _ in range(2))
    assert one == other
    assert pickle.dumps(made("bpe").tokenizer)


def test_pictures_show_what_is_hidden_and_what_was_said():
    from mmm.core.objective import Answer

    modality = made("base")
    tokens = batch({"dna": modality}, [{"dna": "ACGT"}])
    hidden_N = torch.tensor([False, True, False, True, False, False])
    output_NV = torch.zeros(2, modality.tokenizer.size)
    output_NV[0, modality.tokenizer.words.ids["A"]] = output_NV[1, modality.tokenizer.words.ids["T"]] = 1
    forward = tokens.content["dna"].tolist()
    assert forward[1:5] == [modality.tokenizer.words.ids[b] for b in "ACGT"], "this record's draw reads it as it is written"
    answer = Answer("dna", TokenIds(), "", torch.tensor([1, 3]), output_NV, torch.zeros(2), torch.zeros(2), torch.ones(2))
    original, masked, filled = modality.pictures(tokens, "dna", hidden_N, [answer])
    assert original.words == (("ACGT", "seen", ""),)
    assert masked.words == (("[MASK]", "hidden", "A"), ("C", "seen", ""), ("[MASK]", "hidden", "G"), ("T", "seen", ""))
    assert filled.words == (("A", "right", "A"), ("C", "seen", ""), ("T", "wrong", "G"), ("T", "seen", ""))
    assert filled.caption == "filled: 1 of 2 right"
    assert MASK == 2
