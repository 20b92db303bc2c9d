"""SMILES: the conformance kit, exact round trips, atoms that were never learned, files; with RDKit: random forms, validity."""

import gzip
import multiprocessing

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe, BadRecord
from mmm.core.modality import Record
from mmm.core.objective import Answer
from mmm.corruptions.mask_vector import MaskVector
from mmm.masking.span import Span
from mmm.masking.uniform import Uniform
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

from mmm_smiles import chemistry
from mmm_smiles._atoms import ATOMS, CHARACTERS, MASK, SPECIALS, Vocabulary, split
from mmm_smiles.smiles import Smiles

RAWS = ["CC(=O)Oc1ccccc1C(=O)O", "C[C@@H](N)C(=O)O", "[Na+].[Cl-]", "C1CC%12CCC1CC%12", "O", "[13CH3][Se]c1ccncc1Br"]
RECORDS = [Record("memory", i, raw, raw.encode()) for i, raw in enumerate([*RAWS, *RAWS[:2], "C[C@@H](O)C"])]
MAKES = {
    "plain": lambda **a: Smiles(max_length=40, **a),
    "learned, normed": lambda **a: Smiles(max_length=40, positions="learned", norm=True, **a),
    "sinusoidal, all atoms": lambda **a: Smiles(max_length=40, positions="sinusoidal", least=1, **a),
}
atoms = st.sampled_from(
    [*"BCNOSPFIbcnops()=#-+/:.~*$0123456789", "\\", "Br", "Cl", "@", "[nH]", "[C@@H]", "[235U+4]", "%45", "[Zz?]"]
)
needs_rdkit = pytest.mark.skipif(not chemistry.has_rdkit(), reason=f"this test {chemistry.INSTALL}")


@pytest.fixture(scope="session")
def pool():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield pool


def made(kind: str = "plain", **arguments) -> Smiles:
    modality = MAKES[kind](**arguments)
    modality.fit(RECORDS)
    return modality


@pytest.mark.parametrize("kind", MAKES)
def test_the_kit(kind, pool):
    check_modality(MAKES[kind](), RAWS, RECORDS, pool=pool)


def test_maskings_corruptions_objectives_and_learning():
    modalities = {"smiles": made(), "other": ToyIds()}
    model = tiny_model(modalities)
    tokens = batch(modalities, [*({"smiles": raw} for raw in RAWS), {"other": [1, 2, 3]}, {"smiles": RAWS[0], "other": [4, 5]}])
    for masking in (Uniform(0.4), Span(0.4)):
        check_masking(masking, tokens)
        check_corruption(MaskVector(random=0.1, keep=0.1), tokens, masking.hidden(tokens, 0.5, Draw(5)))
    objective = MaskedModeling(
        Uniform(0.3), MaskVector(), {"smiles": TokenIds(), "other": TokenIds()}, heads={"smiles": "tied"}
    )
    objective.setup(model)
    check_objective(objective, model, tokens)
    check_learns(objective, model, tokens)


@given(st.lists(atoms, min_size=1, max_size=36).map("".join))
@settings(max_examples=200, deadline=None)
def test_every_string_comes_back_exactly(smiles):
    tokenizer = TOKENIZER
    assert "".join(split(smiles)) == smiles
    piece = tokenizer.tokenize(smiles)
    if not piece.cut:
        assert tokenizer.detokenize(piece.content) == smiles
    assert tokenizer.length(Record("", 1, smiles, b"")) == len(piece) <= 40


TOKENIZER = made().tokenizer


def test_the_pattern_is_that_of_the_paper():
    """Its own example, and the atoms of two letters that a pattern of single letters would split."""
    assert split("CC(C)Cl.Brc1cc[nH]c1[Si](C)C%10C") == [
        *(
            "C",
            "C",
            "(",
            "C",
            ")",
            "Cl",
            ".",
            "Br",
            "c",
            "1",
            "c",
            "c",
            "[nH]",
            "c",
            "1",
            "[Si]",
            "(",
            "C",
            ")",
            "C",
            "%10",
            "C",
        )
    ]
    assert ATOMS.fullmatch("[C@@H]")
    assert split("Cn1") == ["C", "n", "1"]


def test_what_is_learned():
    vocabulary = Vocabulary.fit(["[nH]C", "[nH]N", "[nH]", "[Na+]C", "[Na+]", "[Zn]"], least=2, most=200)
    assert vocabulary.learned == ("[nH]", "[Na+]"), "the commonest first; one that is seen once is spelled"
    assert Vocabulary.fit(["[nH]C", "[nH]N", "[Na+]C", "[Na+]"], least=2, most=100).learned == ("[Na+]",), (
        "ties by their letters"
    )
    assert vocabulary.spell("[Zn]") == [vocabulary.ids[c] for c in "[Zn]"]
    assert vocabulary.spell("Br") == [vocabulary.ids["Br"]]
    assert Vocabulary.of_json(vocabulary.to_json()).tokens == vocabulary.tokens
    assert set(CHARACTERS) >= set("".join(SPECIALS))


@pytest.mark.parametrize("data", [b"{}", b'["C C"]', b"[1]", b"\xff"])
def test_a_vocabulary_that_is_none(data):
    with pytest.raises(ValueError, match=r"atoms\.json is no list of atoms"):
        Smiles().restore({"atoms.json": data})


def test_an_atom_that_was_never_learned_is_hidden_as_a_whole():
    piece = TOKENIZER.tokenize("C[235U]N")
    assert [TOKENIZER.vocabulary.tokens[i] for i in piece.content.tolist()] == ["[CLS]", "C", *"[235U]", "N", "[SEP]"]
    assert piece.units.tolist() == [0, 1, 2, 2, 2, 2, 2, 2, 3, 4]
    assert piece.maskable.tolist() == [False] + [True] * 8 + [False]


def test_masks_inside_a_string():
    piece = TOKENIZER.tokenize("CC(=[MASK])O")
    assert piece.content.tolist().count(MASK) == 1
    assert not piece.maskable[piece.content == MASK].any()
    assert TOKENIZER.detokenize(piece.content) == "CC(=[MASK])O"


def test_longer_strings_are_cut_to_whole_atoms():
    long = "C[235U]NOP" * 12
    assert TOKENIZER.tokenize(long).cut
    seen = {TOKENIZER.detokenize(TOKENIZER.tokenize(long, Draw(0).at(e)).content) for e in range(40)}
    assert len(seen) > 3
    for part in seen:
        assert part in long
        assert part.count("[") == part.count("]"), "an atom is not cut in two"
        assert len(part) > 30


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        ("CCx", "'x' at character 3 is no part"),
        ("C[NH3+", "'\\[' at character 2 is a bracket that is not closed"),
        ("smiles", "'m' at character 2 is no part of a SMILES string; is this a header line"),
        ("C C", "' ' at character 2"),
        ("C[Né]", "'é' at character 4"),
        ("", "not ''"),
        (None, "not None"),
        (b"CC", "not b'CC'"),
    ],
)
def test_what_is_no_smiles(raw, match):
    with pytest.raises(ValueError, match=match):
        TOKENIZER.tokenize(raw)


@pytest.mark.parametrize("arguments", [{"vocabulary": 50}, {"least": 0}, {"max_length": 2}, {"randomise": 1.5}])
def test_arguments_that_cannot_be(arguments):
    with pytest.raises(BadRecipe, match=f"{list(arguments)[-1]}="):
        Smiles(**arguments)


def test_random_forms_without_rdkit_are_refused(monkeypatch):
    monkeypatch.setattr("mmm_smiles.smiles.has_rdkit", lambda: False)
    with pytest.raises(BadRecipe, match=r"randomise=0.5.*pip install mmm-smiles\[rdkit\], or set randomise: 0"):
        Smiles(randomise=0.5)
    assert Smiles().tokenizer.randomise == 0


SMI = b"\xef\xbb\xbfCCO ethanol\r\n\r\nc1ccccc1\tbenz\xc3\xa8ne\n[Na+].[Cl-]\n"


def read(path):
    return list(TOKENIZER.records(path))


def test_files_and_cells(tmp_path):
    for name, data in (("a.smi", SMI), ("a.smi.gz", gzip.compress(SMI)), ("a.smiles", SMI)):
        (tmp_path / name).write_bytes(data)
        assert name.endswith(TOKENIZER.suffixes)
        assert [(r.record, r.raw) for r in read(tmp_path / name)] == [(1, "CCO"), (3, "c1ccccc1"), (4, "[Na+].[Cl-]")]
    assert TOKENIZER.cell("CCO", tmp_path / "t.csv", 3).raw == "CCO"
    with pytest.raises(BadRecord, match=r"t\.csv, record 3: 'x' at character 1"):
        TOKENIZER.cell("x", tmp_path / "t.csv", 3)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"smiles name\nCC a\n", "record 1: 'm' at character 2 .* header line"),
        (b"CC\nCxC\n", "record 2: 'x' at character 2"),
        (b"CC\nC\0C\n", "record 2: a NUL"),
        (b"CC\nC\xe9C\n", "record 2: byte 0xe9 is not UTF-8"),
        (b"C" * 70_000, "record 1: longer than 65536"),
        (b"", "no SMILES string in it"),
        (b"\n \n", "no SMILES string in it"),
    ],
)
def test_malformed_files_are_named_in_one_line(tmp_path, data, match):
    (tmp_path / "a.smi").write_bytes(data)
    with pytest.raises(BadRecord, match=match) as error:
        read(tmp_path / "a.smi")
    assert str(tmp_path / "a.smi") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("zipped", [False, True])
def test_damaged_files(zipped, tmp_path):
    good = tmp_path / ("good.smi.gz" if zipped else "good.smi")
    good.write_bytes(gzip.compress(SMI, mtime=0) if zipped else SMI)
    folder = tmp_path / "damaged"
    folder.mkdir()
    check_files(made(), good, folder)


def answered(modality: Smiles, raw: str, hidden: list[int], said: list[str]):
    """The pictures of one string whose tokens ``hidden`` were filled with ``said``."""
    tokens = batch({"smiles": modality}, [{"smiles": raw}])
    hidden_N = torch.zeros(len(tokens), dtype=torch.bool)
    hidden_N[hidden] = True
    output_NV = torch.zeros(len(hidden), modality.tokenizer.size)
    for n, token in enumerate(said):
        output_NV[n, modality.tokenizer.vocabulary.ids[token]] = 1
    n = len(hidden)
    answer = Answer("smiles", TokenIds(), "", torch.tensor(hidden), output_NV, torch.zeros(n), torch.zeros(n), torch.ones(n))
    return modality.pictures(tokens, "smiles", hidden_N, [answer])


def test_pictures_show_what_is_hidden_and_what_was_said():
    original, masked, filled = answered(made(), "CC=O", [2, 4], ["C", "N"])
    assert original.words == (("CC=O", "seen", ""),)
    assert masked.words == (("C", "seen", ""), ("[MASK]", "hidden", "C"), ("=", "seen", ""), ("[MASK]", "hidden", "O"))
    assert filled.words == (("C", "seen", ""), ("C", "right", "C"), ("=", "seen", ""), ("N", "wrong", "O"))
    assert filled.caption.startswith("filled: 1 of 2 right")


# -- with RDKit ----------------------------------------------------------------------------------------------------------------


@needs_rdkit
def test_faults_are_told():
    assert chemistry.fault_of("CC(=O)Oc1ccccc1C(=O)O") is None
    assert "do not match" in chemistry.fault_of("CC(C")
    assert "do not match" in chemistry.fault_of("")
    assert "valence" in chemistry.fault_of("C(C)(C)(C)(C)C")
    assert "aromatic" in chemistry.fault_of("c1cccc1") or "kekulize" in chemistry.fault_of("c1cccc1")


@needs_rdkit
def test_captions_say_whether_it_is_a_molecule():
    assert answered(made(), "CC=O", [4], ["N"])[2].caption == "filled: 0 of 1 right, a molecule"
    assert "0 of 1 right, no molecule: Explicit valence" in answered(made(), "CC=O", [4], ["F"])[2].caption


@needs_rdkit
@pytest.mark.parametrize("raw", RAWS[:4])
def test_random_forms_are_the_same_molecule_and_keyed(raw):
    from rdkit import Chem

    tokenizer = made(randomise=1.0).tokenizer
    forms = [tokenizer.detokenize(tokenizer.tokenize(raw, Draw(0).at(e)).content) for e in range(20)]
    again = [tokenizer.detokenize(tokenizer.tokenize(raw, Draw(0).at(e)).content) for e in range(20)]
    assert forms == again
    assert len(set(forms)) > 1
    assert {Chem.CanonSmiles(form) for form in forms} == {Chem.CanonSmiles(raw)}
    assert tokenizer.detokenize(tokenizer.tokenize(raw).content) == raw, "without a draw nothing is random"
    holed = f"{raw}[MASK]"
    assert tokenizer.detokenize(tokenizer.tokenize(holed, Draw(0)).content) == holed


@needs_rdkit
def test_random_forms_conform(pool):
    check_modality(MAKES["plain"](randomise=0.5), RAWS, RECORDS, pool=pool)


@needs_rdkit
def test_no_molecule_is_refused_when_it_is_read_not_in_training(tmp_path):
    (tmp_path / "a.smi").write_text("CC\nC(C)(C)(C)(C)C\n")
    assert len(read(tmp_path / "a.smi")) == 2
    with pytest.raises(BadRecord, match=r"a\.smi, record 2: .* is no molecule .*randomise.*valence"):
        list(made(randomise=0.5).tokenizer.records(tmp_path / "a.smi"))
