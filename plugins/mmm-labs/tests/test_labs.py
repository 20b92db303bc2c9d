"""The modality: the conformance kit, tables in and out, order without meaning."""

import csv
import gzip
import itertools
import math
import random
from pathlib import Path

import pytest
import torch
from mmm_labs.lab_code import LabCode
from mmm_labs.lab_value import LabValue
from mmm_labs.labs import Labs

from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe, BadRecord
from mmm.core.modality import Record
from mmm.core.tokens import Sample, pack
from mmm.core.view import View
from mmm.corruptions.mask_vector import MaskVector
from mmm.masking.uniform import Uniform
from mmm.objectives.masked_modeling import MaskedModeling
from mmm.testing import (
    batch,
    check_corruption,
    check_files,
    check_learns,
    check_masking,
    check_modality,
    check_objective,
    check_target,
    damaged,
    tiny_model,
    toy_raws,
    toys,
)

RAWS = [
    {"TSH": 1.3, "FTI": 109.0, "sex": "F"},
    {"FTI": 87.0, "sex": "M", "age": 41.0},
    {"sex": "F", "TSH": 0.02, "FTI": 210.0, "age": 70.0, "on drug": "yes"},
    {"age": 23.0},
    {"TSH": 45.5, "FTI": 12.0, "age": 55.0, "sex": "F", "on drug": "no"},
]
TABLE = """age,sex,TSH,FTI,on drug,class
41,F,1.3,109,no,negative
23,M,,87,?,negative
70,F,45.5,12,yes,primary
NA,M,0.02,210,no,negative
55,,2.2,99,yes,primary
"""


def records(raws=RAWS) -> list[Record]:
    return [Record("rows", i, raw, repr(sorted(raw.items())).encode()) for i, raw in enumerate(raws, 1)]


def fitted(**arguments) -> Labs:
    labs = Labs(**arguments)
    labs.fit(records())
    return labs


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "panel.csv"
    path.write_text(TABLE)
    return path


# -- the kit -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hide", ["pair", "value"])
def test_modality_conforms(hide: str) -> None:
    check_modality(Labs(hide=hide), RAWS, records(), same=lambda raw, back: raw == back)


@pytest.mark.parametrize("target", [LabCode, LabValue])
@pytest.mark.parametrize("hide", ["pair", "value"])
def test_targets_conform(target, hide: str) -> None:
    check_target(target(), "labs", batch({"labs": fitted(hide=hide)}, [{"labs": raw} for raw in RAWS]))


def test_masking_that_was_never_told_of_it_conforms() -> None:
    tokens = batch({**toys(), "labs": fitted()}, [*toy_raws(), *({"labs": raw} for raw in RAWS)])
    check_masking(Uniform(0.4), tokens)


@pytest.mark.parametrize("hide", ["pair", "value"])
def test_two_targets_on_one_token_conform_and_learn(hide: str) -> None:
    model = tiny_model({"labs": fitted(hide=hide)})
    objective = MaskedModeling(Uniform(0.6), MaskVector(), {"labs": [LabValue(), LabCode()]})
    objective.setup(model)
    tokens = batch({"labs": model.modalities["labs"]}, [{"labs": raw} for raw in RAWS])
    check_corruption(MaskVector(), tokens, Uniform(0.6).hidden(tokens, 0.0, Draw(0)))
    check_objective(objective, model, tokens)
    check_learns(objective, model, tokens)


@pytest.mark.parametrize("ending", [".csv", ".arff"])
def test_twenty_damaged_files(table: Path, tmp_path: Path, ending: str) -> None:
    good = table if ending == ".csv" else arff(tmp_path)
    labs = Labs()
    labs.fit(list(labs.tokenizer.records(good)))
    folder = tmp_path / "damaged"
    folder.mkdir()
    check_files(labs, good, folder)
    assert len(list(damaged(good.read_bytes()))) == 20


# -- order means nothing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hide", ["pair", "value"])
def test_outputs_follow_the_order_of_the_rows(hide: str) -> None:
    """Whatever way the cells of a record are ordered, each token's output is the same, hidden ones too."""
    labs = fitted(hide=hide)
    model = tiny_model({"labs": labs}).eval()
    raw = RAWS[2]
    hidden = {"TSH", "on drug"}

    def outputs(codes) -> dict[str, torch.Tensor]:
        tokens = batch({"labs": labs}, [{"labs": {code: raw[code] for code in codes}}])
        hidden_T = torch.tensor([code in hidden for code in codes])
        with torch.no_grad():
            x_TD = model.encode(View.of(tokens, hidden_T)).x_KD
        return dict(zip(codes, x_TD, strict=True))

    first = outputs(list(raw))
    for order in itertools.islice(itertools.permutations(raw), 1, 40, 7):
        again = outputs(list(order))
        for code, x_D in first.items():
            assert torch.allclose(x_D, again[code], atol=1e-5), (order, code)
    same = torch.allclose(first["TSH"], first["on drug"], atol=1e-5)
    assert same == (hide == "pair")  # hidden pairs are alike, hidden values know their code


def test_identity_does_not_hang_on_the_order_of_the_columns(tmp_path: Path) -> None:
    rows = list(csv.reader(TABLE.splitlines()))
    (tmp_path / "a.csv").write_text(TABLE)
    (tmp_path / "b.csv").write_text("\n".join(",".join(reversed(row)) for row in rows) + "\n")
    keys = [[r.key for r in Labs().tokenizer.records(tmp_path / f)] for f in ("a.csv", "b.csv")]
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 5


def test_missing_cells_make_no_token(table: Path) -> None:
    labs = Labs()
    found = list(labs.tokenizer.records(table))
    assert [len(r.raw) - ("class" in r.raw) for r in found] == [5, 3, 5, 4, 4]
    labs.fit(found)
    assert [len(labs.tokenizer.tokenize(r.raw)) for r in found] == [5, 3, 5, 4, 4]
    assert len(labs.tokenizer.tokenize({"age": 3, "sex": None, "TSH": math.nan, "FTI": ""})) == 1


# -- what is learned -----------------------------------------------------------------------------------------------------------


def test_fit_learns_means_deviations_and_which_codes_are_told_by_logarithms() -> None:
    rng = random.Random(0)
    raws = [{"change": rng.gauss(0, 4), "skewed": math.exp(rng.gauss(1, 2))} for _ in range(2000)]
    labs = Labs()
    labs.fit(records(raws))
    change, skewed = labs.tokenizer.fitted.numbers.values()
    assert (change.log, skewed.log) == (False, True)
    assert (change.mean, change.deviation) == (pytest.approx(0, abs=0.5), pytest.approx(4, abs=0.3))
    assert (skewed.mean, skewed.deviation) == (pytest.approx(1, abs=0.2), pytest.approx(2, abs=0.1))
    z = torch.cat([labs.tokenizer.tokenize(raw).content[:, 1] for raw in raws]).view(-1, 2)
    assert z.mean(0).abs().max() < 1e-4
    assert (z.std(0) - 1).abs().max() < 1e-2


def test_assets_bring_everything_back() -> None:
    labs, other = fitted(), Labs()
    other.restore(labs.assets())
    assert other.tokenizer.panel == labs.tokenizer.panel
    assert other.tokenizer.panel.items[:3] == (("FTI", ""), ("TSH", ""), ("age", ""))


def test_embedding_is_piecewise_linear_between_training_quantiles() -> None:
    labs = Labs()
    labs.fit(records([{"x": float(i)} for i in range(-160, 161)]))
    labs.build(8)
    number = labs.tokenizer.fitted.numbers["x"]
    assert not number.log
    assert len(number.edges) == 17

    def value(*z: float) -> torch.Tensor:
        return labs._value(torch.zeros(len(z), dtype=torch.int64), torch.tensor(z)).detach()

    edge = torch.tensor(number.edges)
    middle = value(*((edge[:-1] + edge[1:]) / 2).tolist())
    ends = value(*edge.tolist())
    assert torch.allclose(middle, (ends[:-1] + ends[1:]) / 2, atol=1e-5)
    assert torch.allclose(ends[-1], labs.bin.weight[:16].sum(0), atol=1e-5)
    below, above = value(float(edge[0]) - 1), value(float(edge[-1]) + 1)  # the outer bins go on
    assert not torch.allclose(below, ends[0])
    assert not torch.allclose(above, ends[-1])


def test_code_of_a_single_value_is_no_trouble() -> None:
    labs = Labs()
    labs.fit(records([{"x": 7.0, "y": 1.0}, {"x": 7.0, "y": 2.0}]))
    labs.build(8)
    assert labs.tokenizer.detokenize(labs.tokenizer.tokenize({"x": 7.0}).content) == {"x": 7.0}


# -- files ---------------------------------------------------------------------------------------------------------------------


def arff(folder: Path) -> Path:
    path = folder / "panel.arff"
    path.write_text(
        "% a comment\n@relation x\n@attribute 'age' integer\n@attribute grade {1, 2,'3 b'}\n@attribute \"T 3\" real\n"
        "@attribute Class {a,b}\n@data\n41,1,1.5,a\n?,'3 b',?,b\n% another\n 23 , 2 , 0.5, a\n70,1,2.5,?\n"
    )
    return path


def test_arff_nominal_attributes_are_categories_even_if_they_look_like_numbers(tmp_path: Path) -> None:
    labs = Labs()
    found = list(labs.tokenizer.records(arff(tmp_path)))
    assert [r.label for r in found] == ["a", "b", "a", None]
    labs.fit(found)
    panel = labs.tokenizer.fitted
    assert list(panel.numbers) == ["T 3", "age"]
    assert panel.categories == {"grade": ("1", "2", "3 b")}
    assert labs.tokenizer.detokenize(labs.tokenizer.tokenize(found[0].raw).content) == {"age": 41.0, "grade": "1", "T 3": 1.5}


def test_gzip(tmp_path: Path) -> None:
    packed = tmp_path / "panel.arff.gz"
    packed.write_bytes(gzip.compress(arff(tmp_path).read_bytes()))
    assert [r.key for r in Labs().tokenizer.records(packed)] == [
        r.key for r in Labs().tokenizer.records(tmp_path / "panel.arff")
    ]


def test_cells_of_other_tables(tmp_path: Path) -> None:
    labs = fitted()
    record = labs.tokenizer.cell(" TSH=1.3; sex=F;FTI=109 ", tmp_path / "t.csv", 4)
    whole = Record("", 1, RAWS[0], b"")
    assert labs.tokenizer.detokenize(labs.tokenizer.tokenize(record.raw).content) == RAWS[0]
    assert labs.tokenizer.length(record) == labs.tokenizer.length(whole) == 3
    (tmp_path / "t.csv").write_text("record,label\nTSH=1.3; sex=F,a\nFTI=87,b\n")
    assert [(len(r.raw), r.label) for r in labs.tokenizer.records(tmp_path / "t.csv")] == [(2, "a"), (1, "b")]
    for cell, word in (("TSH", "no value"), ("TSH=1;TSH=2", "twice"), ("=3", "no value"), ("", "missing"), ("Tsh=1", "'TSH'")):
        with pytest.raises(BadRecord, match=word):
            labs.tokenizer.cell(cell, tmp_path / "t.csv", 4)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a,a\n1,2\n", "named twice"),
        ("a,b\n1\n", "1 cells, the header 2"),
        ("6,148,72\n1,85,66\n", "must name the columns"),
        ("a,\n1,2\n", "no name"),
        ("a,b\n,?\n", "every cell is missing"),
        ("a,b\n", "no record"),
        ('a,b\n"1,2\n', "quote"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(BadRecord, match=word) as error:
        list(Labs().tokenizer.records(path))
    assert "bad.csv" in str(error.value)


def test_values_that_cannot_be_used() -> None:
    labs = fitted()
    for raw, word in (
        ({"TSH": "high"}, "a number in the training records"),
        ({"tsh": 1.0}, "Did you mean 'TSH'"),
        ({}, "every cell is missing"),
        ([1, 2], "maps codes to values"),
        ({"TSH": True}, "a number or a word"),
        ({"TSH": -1.0}, "above 0"),
    ):
        with pytest.raises(ValueError, match=word):
            labs.tokenizer.tokenize(raw)


def test_numbers_and_words_in_one_column_are_refused_unless_named() -> None:
    raws = [{"stage": "1"}, {"stage": "2"}, {"stage": "3a"}]
    with pytest.raises(ValueError, match="categories"):
        Labs().fit(records(raws))
    labs = Labs(categories=["stage"])
    labs.fit(records(raws))
    assert labs.tokenizer.fitted.categories == {"stage": ("1", "2", "3a")}
    with pytest.raises(ValueError, match="ignore"):
        Labs().fit(records([{"id": f"P{i}"} for i in range(99)]))
    with pytest.raises(BadRecipe, match="list of columns"):
        Labs(ignore="id")


def test_an_unknown_category_is_one_token_and_said_aloud_once(caplog: pytest.LogCaptureFixture) -> None:
    labs = fitted()
    for _ in range(2):
        piece = labs.tokenizer.tokenize({"sex": "unknown", "TSH": 1.0})
    assert len(piece) == 2
    assert labs.tokenizer.detokenize(piece.content)["sex"] == "\u2026"
    assert caplog.text.count("is in no training record") == 1


def test_labels_and_ignored_columns_make_no_token(table: Path) -> None:
    labs = Labs(ignore=["age"], label=["Class"])
    found = list(labs.tokenizer.records(table))
    labs.fit(found)
    assert [r.label for r in found][:3] == ["negative", "negative", "primary"]
    assert {code for code, _ in labs.tokenizer.fitted.items} == {"sex", "TSH", "FTI", "on drug"}


# -- what is predicted ---------------------------------------------------------------------------------------------------------


def test_a_number_is_judged_at_its_own_code() -> None:
    labs = fitted()
    tokens = batch({"labs": labs}, [{"labs": RAWS[0]}])
    target = LabValue()
    target.bind("labs", labs.tokenizer)
    truth_N = target.truth(tokens, torch.arange(3))
    output_NV = torch.full((3, target.size), 9.0)
    for n in (0, 1):
        output_NV[n, int(truth_N[n, 0])] = truth_N[n, 1]
    assert target.loss(output_NV, truth_N).tolist() == [0.0, 0.0, 0.0]  # the last is a word


def test_where_codes_are_seen_only_words_of_the_same_code_compete() -> None:
    labs = fitted(hide="value")
    tokens = batch({"labs": labs}, [{"labs": RAWS[4]}])
    target = LabCode()
    target.bind("labs", labs.tokenizer)
    loss_N = target.loss(torch.zeros(5, target.size), target.truth(tokens, torch.arange(5)))
    assert torch.allclose(loss_N, torch.tensor([0, 0, 0, math.log(3), math.log(3)]))  # F, M or another; yes, no or another


def test_targets_refuse_what_they_cannot_answer() -> None:
    numbers = Labs(hide="value")
    numbers.fit(records([{"x": 1.0}, {"x": 2.0}]))
    with pytest.raises(ValueError, match="nothing is left"):
        LabCode().bind("labs", numbers.tokenizer)
    words = Labs()
    words.fit(records([{"x": "a"}, {"x": "b"}]))
    with pytest.raises(ValueError, match="no code"):
        LabValue().bind("labs", words.tokenizer)
    for target in (LabCode(), LabValue()):
        with pytest.raises(ValueError, match="needs the modality Labs"):
            target.bind("ids", toys()["ids"].tokenizer)


def test_packed_with_other_modalities_in_one_record() -> None:
    labs = fitted()
    both = {"labs": labs, "ids": toys()["ids"]}
    sample = Sample({"labs": labs.tokenizer.tokenize(RAWS[0]), "ids": both["ids"].tokenizer.tokenize([1, 2, 3])}, 1)
    tokens = pack([sample], {n: m.tokenizer for n, m in both.items()})
    assert tiny_model(both).encode(View.of(tokens, torch.zeros(7, dtype=torch.bool))).x_KD.shape == (7, 32)
