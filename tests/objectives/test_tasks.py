"""Tasks: each learns what it can learn, counts what it should, and says what is wrong with a label."""

import json
import random
import re

import pytest
import torch
from tasks import built, halves, learn, protein, sentence, table

from mmm.core.draw import Draw
from mmm.core.errors import BadRecord
from mmm.corruptions.mask_vector import MaskVector
from mmm.masking.uniform import Uniform
from mmm.objectives.classify import Classify
from mmm.objectives.cloze import Cloze
from mmm.objectives.masked_modeling import MaskedModeling
from mmm.objectives.multi_label import MultiLabel
from mmm.objectives.rank import Rank
from mmm.objectives.regress import Regress
from mmm.objectives.sum import Sum
from mmm.objectives.tag import Tag
from mmm.skill import evaluate as skills
from mmm.targets.token_ids import TokenIds
from mmm.task import check, evaluate
from mmm.testing import check_objective, check_target


def tags_of(sequence: str) -> str:
    return "".join("H" if residue in "DEKR" else "C" for residue in sequence)


def words_of(text: str) -> str:
    return " ".join("SHORT" if word in ("of", "the") else "LONG" for word in text.split())


def pair_rows(rng, number=240):
    for _ in range(number):
        one, other = protein(rng, 8, 14), protein(rng, 8, 14)
        if one.count("A") != other.count("A"):
            yield one, other, "record" if one.count("A") > other.count("A") else "2"


@pytest.fixture
def rng():
    return random.Random(0)


# -- each learns ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["mean", "first", "attention"])
def test_classify_text_by_every_pool(tmp_path, pool):
    training, data = built("text", halves(tmp_path, "text", 120), Classify(pool=pool))
    learn(training, data)
    found = evaluate(training, data)
    assert (found.metric, found.on) == ("accuracy", "validation")
    assert found.value > found.guess + 0.2
    assert training.objective.address == "task/text/Classes"


@pytest.mark.parametrize("name", ["image", "audio", "protein"])
def test_classify_anything(tmp_path, name):
    training, data = built(name, halves(tmp_path, name), Classify())
    learn(training, data, 50)
    found = evaluate(training, data)
    assert found.low > found.guess
    assert {row.prediction for row in found.rows} == {"a", "b"}


def test_several_labels(tmp_path, rng):
    rows = []
    for _ in range(150):
        there = rng.sample(["fine", "poor", "odd"], rng.randint(1, 2))
        rows.append((sentence(rng, *there), "|".join(there)))
    training, data = built("text", table(tmp_path / "t.csv", rows), MultiLabel())
    learn(training, data, 80)
    found = evaluate(training, data)
    assert found.metric == "macro F1"
    assert found.low > found.guess
    assert any("|" in row.prediction for row in found.rows)


def test_records_of_no_class(tmp_path, rng):
    labels = [["fine", "odd"], ["fine"], [], ["odd"]] * 10
    lines = [json.dumps({"text": sentence(rng, *label), "label": label}) for label in labels]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    training, data = built("text", str(tmp_path / "t.jsonl"), MultiLabel())
    learn(training, data, 2)
    assert "[]" in {row.label for row in evaluate(training, data).rows}


def test_a_number_in_its_own_unit(tmp_path, rng):
    sequences = [protein(rng) for _ in range(150)]
    rows = [(s, f"{500 + 100 * sum(c in 'DEKR' for c in s) / len(s):.3f}") for s in sequences]
    training, data = built("protein", table(tmp_path / "p.csv", rows), Regress())
    losses = learn(training, data, 60)
    found = evaluate(training, data)
    assert (found.metric, found.value > 0.6, found.more["R2"] > 0.3) == ("Spearman", True, True)
    assert all(480 < float(row.prediction) < 620 for row in found.rows)
    assert losses[0] < 5, "the loss is measured in deviations, not in the label's unit"


@pytest.mark.parametrize("kind", ["protein", "text"])
def test_tags(tmp_path, rng, kind):
    """Some records are longer than a piece: they are cut at random in training, and their tags with them."""
    if kind == "protein":
        sequences = [protein(rng, 8, 50) for _ in range(120)]
        rows = [(s, tags_of(s)) for s in sequences]
    else:
        texts = [" ".join(rng.choices(["of", "the", "mask", "hidden row", "token"], k=rng.randint(3, 40))) for _ in range(120)]
        rows = [(t, words_of(t)) for t in texts]
    training, data = built(kind, table(tmp_path / "t.csv", rows), Tag())
    learn(training, data, 40, 5e-3)
    found = evaluate(training, data)
    assert found.metric == "token accuracy"
    assert found.value > 0.97 > found.guess + 0.1
    row = max(found.rows, key=lambda r: len(r.record))
    assert row.label == (
        tags_of(row.record)[:30] if kind == "protein" else " ".join(words_of(row.record).split()[: len(row.truth)])
    )


def test_tags_of_patches(tmp_path):
    """Where a tokenizer knows of no units, its tokens are them, without specials."""
    halves(tmp_path, "image", 40)
    rows = [(f"{i}.png", "up up down down") for i in range(40)]
    training, data = built("image", table(tmp_path / "tags.csv", rows), Tag())
    learn(training, data, 30)
    found = evaluate(training, data)
    assert found.value > 0.95
    assert found.rows[0].label == "up up down down"


def test_the_better_of_two(tmp_path, rng):
    files = table(tmp_path / "p.csv", pair_rows(rng), ("record", "record2", "label"))
    training, data = built("protein", files, Rank())
    learn(training, data, 80)
    found = evaluate(training, data)
    assert found.metric == "pairwise accuracy"
    assert found.low > 0.6
    assert {row.prediction for row in found.rows} == {"record", "record2"}
    hinge, data = built("protein", files, Rank(margin=1.0))
    assert learn(hinge, data, 60)[-1] < 0.7


def test_pairs_of_proteins_are_compared_and_texts_are_one_piece(tmp_path, rng):
    rows = []
    for _ in range(120):
        words = rng.choice(("fine", "poor")), rng.choice(("fine", "poor"))
        rows.append((*(sentence(rng, word) for word in words), "both" if words == ("fine", "fine") else "not both"))
    header = ("record", "record2", "label")
    training, data = built("text", table(tmp_path / "t.csv", rows, header), Classify(), tokens_per_batch=400)
    learn(training, data, 60)
    found = evaluate(training, data)
    assert found.low > found.guess
    (batch,) = data.val_dataloader().dataset[0].micro
    (view,) = training.objective.views(batch, 1.0, Draw(0))
    assert view.tokens.layout.segments * 2 == batch.layout.segments
    both = [(protein(rng) + "AC"["poor" in a] * 9, protein(rng) + "AC"["poor" in b] * 9, label) for a, b, label in rows]
    training, data = built("protein", table(tmp_path / "p.csv", both, header), Classify(pairs=True))
    learn(training, data, 60)
    found = evaluate(training, data)
    assert found.low > found.guess
    assert found.records * 2 == len(data.records("protein", "validation"))


def test_pairs_that_are_not_expected_and_the_other_way_round(tmp_path, rng):
    pairs = table(tmp_path / "pairs.csv", pair_rows(rng), ("record", "record2", "label"))
    training, data = built("protein", pairs, Classify())
    with pytest.raises(ValueError, match=r"the table has pairs .*pairs true"):
        learn(training, data, 1)
    training, data = built("protein", halves(tmp_path, "protein"), Classify(pairs=True))
    with pytest.raises(ValueError, match="needs the column 'record2'"):
        learn(training, data, 1)


def test_neighbours_vote_in_place_of_the_head(tmp_path):
    training, data = built("image", halves(tmp_path, "image"), Classify(neighbours=5))
    learn(training, data, 30)
    before = {n: p.clone() for n, p in training.model.state_dict().items()}
    found = evaluate(training, data)
    assert found.low > found.guess
    assert set(found.more) >= {"of the head"}
    assert all(torch.equal(p, training.model.state_dict()[n]) for n, p in before.items())
    from sklearn.neighbors import KNeighborsClassifier

    def features(split):
        found = [
            training.objective.pooled(training.model, training.objective.views(t, 1.0, Draw(0))[0])
            for t in data.in_batches(split)
        ]
        return torch.cat([f[0][0] for f in found]).detach().numpy(), torch.cat([f[1] for f in found]).numpy()

    training.eval()
    theirs = KNeighborsClassifier(5, metric="cosine").fit(*features("train")).score(*features("validation"))
    assert found.value == pytest.approx(theirs)
    with pytest.raises(ValueError, match="not learned"):
        Classify(neighbours=5, pool="attention")


# -- cloze ---------------------------------------------------------------------------------------------------------------------


def cloze(**arguments) -> Cloze:
    settings = {"pattern": "{record} of [MASK]", "verbalizer": {"a": "fine", "b": ["poor"]}, "target": TokenIds()}
    return Cloze(**{**settings, **arguments})


def test_cloze_learns_through_the_masked_head(tmp_path, rng):
    long = [(" ".join(["stream"] * 90), "a")]
    rows = [(sentence(rng, word), label) for label, word in (("a", "fine"), ("b", "poor")) for _ in range(60)]
    training, data = built("text", table(tmp_path / "t.csv", [*rows, *long]), cloze())
    assert list(training.model.heads) == ["text/TokenIds"], "the head is that of masked modelling, and no other is made"
    learn(training, data, 40)
    found = evaluate(training, data)
    assert found.low > 0.6
    tokenizer = data.tokenizers["text"]
    (view,) = training.objective.views(data.pack([{"text": data.records("text", "train")[0]}]), 1.0, Draw(0))
    shown = tokenizer.detokenize(torch.where(view.hidden_T, tokenizer.mask, view.tokens.content["text"]))
    assert shown.endswith(" of[MASK]"), "the word and the space that belongs to it are one token"


def test_cloze_refuses_words_of_several_tokens_and_patterns_without_a_place(tmp_path):
    for arguments, message in (
        ({"verbalizer": {"a": "fine", "b": "extraordinary"}}, "'extraordinary' is not one token"),
        ({"verbalizer": {"a": "fine"}}, "two classes or more"),
        ({"pattern": "{record} is"}, "must hold"),
    ):
        with pytest.raises(ValueError, match=message):
            check(*built("text", halves(tmp_path, "text"), cloze(**arguments)))
    training, data = built("text", halves(tmp_path, "text"), cloze(verbalizer={"a": "fine", "c": "poor"}))
    with pytest.raises(BadRecord, match=r"text\.csv, record \d+: its label 'b' is no class of the verbalizer"):
        check(training, data)


def test_cloze_of_residues(tmp_path, rng):
    rows = [(protein(rng, 5, 9).replace("W", "A"), "x") for _ in range(10)] + [
        (f"WW{protein(rng, 5, 9)}", "y") for _ in range(10)
    ]
    objective = cloze(pattern="[MASK]{record}", verbalizer={"x": "M", "y": "V"})
    training, data = built("protein", table(tmp_path / "p.csv", rows), objective)
    (view,) = training.objective.views(next(data.in_batches("train")), 1.0, Draw(0))
    assert set(view.tokens.layout.place_T[view.read_N].tolist()) == {1}
    assert learn(training, data, 10)


# -- sums ----------------------------------------------------------------------------------------------------------------------


def masked() -> MaskedModeling:
    return MaskedModeling(Uniform(0.3), MaskVector(), {"text": TokenIds()}, {"text": "tied"})


def test_a_task_beside_the_masked_model_on_unlabelled_text(tmp_path, rng):
    labelled = halves(tmp_path, "text", 100)
    other = tmp_path / "other.txt"
    other.write_text("\n\n".join(sentence(rng, "odd") * 12 for _ in range(20)))
    objective = Sum({"task": Classify(skip_unlabelled=True), "masked": masked()}, {"masked": 0.5})
    training, data = built("text", [labelled, str(other)], objective)
    assert set(training.model.heads) == {"text/TokenIds", "task/text/Classes"}
    tokens = next(data.in_batches("train"))
    views = objective.views(tokens, 0.0, Draw(0))
    counts = objective.counts(tokens, views)
    assert list(counts) == ["text/TokenIds", "text/Classes"]
    terms = objective(training.model, tokens, views, 0.0)
    assert [(t.name, t.count, t.weight) for t in terms] == [
        (n, c, w) for (n, c), w in zip(counts.items(), (0.5, 1.0), strict=True)
    ]
    learn(training, data)
    found = evaluate(training, data)
    assert found.low > 0.5
    assert skills(training, data)["text"].tokens > 0
    labels = [r.label for r in data.records("text", "validation")]
    assert found.records == sum(label is not None for label in labels) < len(labels)


def test_sums_that_make_no_sense():
    with pytest.raises(ValueError, match="both predict labels"):
        Sum({"a": Classify(), "b": Regress()})
    with pytest.raises(ValueError, match="no objective 'c'"):
        Sum({"a": Classify()}, {"c": 1.0})


def test_two_of_a_kind_would_share_a_head(tmp_path):
    with pytest.raises(ValueError, match="one head, text/TokenIds"):
        built("text", halves(tmp_path, "text"), Sum({"one": masked(), "two": masked()}))


# -- counts, refusals, state ---------------------------------------------------------------------------------------------------

CASES = {
    "classify": (Classify, "a"),
    "attention": (lambda: Classify(pool="attention"), "a"),
    "several": (MultiLabel, "a"),
    "number": (Regress, "1"),
    "tags": (Tag, "tags"),
}


def labelled(folder, kind):
    rng = random.Random(3)
    rows = []
    for i in range(24):
        sequence = protein(rng, 5, 20)
        label = {"a": "ab"[i % 2], "1": str(i / 7), "tags": tags_of(sequence)}[kind]
        rows.append((sequence, label))
    return table(folder / "p.csv", rows)


@pytest.mark.parametrize("case", CASES)
def test_conforms(tmp_path, case):
    make, kind = CASES[case]
    training, data = built("protein", labelled(tmp_path, kind), make())
    tokens = next(data.in_batches("train"))
    check_objective(training.objective, training.model, tokens)
    counts = training.objective.counts(tokens, training.objective.views(tokens, 0.0, Draw(0)))
    expected = int(tokens.layout.maskable_T.sum()) if case == "tags" else tokens.layout.segments
    assert list(counts.values()) == [expected]


@pytest.mark.parametrize("case", [c for c in CASES if c != "tags"])
def test_a_label_conforms_as_a_target(tmp_path, case):
    make, kind = CASES[case]
    _, data = built("protein", labelled(tmp_path, kind), make())
    tokens = next(data.in_batches("train"))
    check_target(make().target, "protein", tokens, data.training_records("protein"))


def test_micro_batches_add_up(tmp_path):
    """The same records in one batch and in three: equal gradients, because counts are global."""
    training, data = built("protein", labelled(tmp_path, "a"), Classify(pool="attention"))
    examples = [{"protein": r} for r in data.records("protein", "train")]
    objective, model = training.objective, training.model

    def gradients(cuts):
        work = [data.pack(cut) for cut in cuts]
        views = [objective.views(tokens, 0.0, Draw(0)) for tokens in work]
        count = sum(objective.counts(t, v)["protein/Classes"] for t, v in zip(work, views, strict=True))
        training.zero_grad()
        for tokens, view in zip(work, views, strict=True):
            (term,) = objective(model, tokens, view, 0.0)
            (term.total / count).backward()
        return {n: p.grad.clone() for n, p in training.named_parameters() if p.grad is not None}

    whole, cut = gradients([examples]), gradients([examples[:3], examples[3:4], examples[4:]])
    assert whole.keys() == cut.keys()
    for name in whole:
        assert torch.allclose(whole[name], cut[name], atol=1e-6), name


BAD = {
    "empty class": (Classify, [("AC", "a"), ("CD", "b"), ("DE", " ")], "record 3", "' ' names an empty class"),
    "an empty one of several": (MultiLabel, [("AC", "a|b"), ("CD", "b|")], "record 2", "'b|' names an empty class"),
    "one class": (Classify, [("AC", "a"), ("CD", "a")], None, "all training labels of 'protein' are 'a'"),
    "no number": (Regress, [("AC", "1"), ("CD", "much")], r"record 2", "'much' is no number"),
    "not finite": (Regress, [("AC", "1"), ("CD", "nan")], r"record 2", "'nan' is no number"),
    "constant": (Regress, [("AC", "1"), ("CD", "1.0")], None, "nothing to be learned"),
    "tags too short": (Tag, [("ACD", "HHH"), ("CDE", "HC")], r"record 2", "2 characters, but the record has 3 to be tagged"),
    "a word as long as the words": (
        Tag,
        [("of the row mask", "A B A B"), ("of the row mask", "NOUN")],
        "record 2",
        "its label has 1 words, but the record has 4 to be tagged",
    ),
    "no side": (Rank, [("AC", "CD", "left")], r"record 1", "names no side"),
}


@pytest.mark.parametrize("case", BAD)
def test_labels_that_cannot_be_used(tmp_path, case):
    make, rows, where, message = BAD[case]
    header = ("record", "record2", "label") if len(rows[0]) == 3 else ("record", "label")
    path = table(tmp_path / "bad.csv", rows, header)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        built("text" if " " in rows[0][0] else "protein", path, make(), test=path)
    if where:
        assert f"{path}, {where}: " in str(caught.value)
        assert "\n" not in str(caught.value)


def test_records_without_labels(tmp_path):
    path = table(tmp_path / "p.csv", [("ACD",), ("CDE",)], ("record",))
    with pytest.raises(BadRecord, match=r"p\.csv, record 1: has no label; give a table with a column 'label'"):
        built("protein", path, Classify(), test=path)


def test_a_class_of_the_test_set_alone_is_named_before_training(tmp_path):
    train = table(tmp_path / "train.csv", [("ACD", "alpha"), ("CDE", "beta")])
    test = table(tmp_path / "test.csv", [("ACD", "alpha"), ("CDE", "betta")])
    training, data = built("protein", train, Classify(), test=test)
    with pytest.raises(
        BadRecord, match=r"test\.csv, record 2: its label 'betta' is in no training record. Did you mean 'beta'"
    ):
        check(training, data)


def test_it_must_be_clear_whose_label_is_learned():
    from mmm.core.model import Model
    from mmm.decoders.readout import Readout
    from mmm.encoders.transformer import Transformer
    from mmm.modalities.protein import Protein

    model = Model({"one": Protein(), "two": Protein()}, Transformer(16, 1, 2), Readout())
    with pytest.raises(ValueError, match="modality one"):
        Classify().setup(model)
    with pytest.raises(ValueError, match=r"no modality 'three'"):
        Classify("three").setup(model)
    Classify("two").setup(model)


def test_whole_numbers_are_ordered_as_numbers(tmp_path):
    rows = [(protein(random.Random(i)), str(i % 12)) for i in range(36)]
    training, _ = built("protein", table(tmp_path / "p.csv", rows), Classify(), test=table(tmp_path / "t.csv", rows))
    assert training.objective.target.names == [str(i) for i in range(12)]
