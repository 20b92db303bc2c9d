"""The report: complete, escaped, in one file, and as true as its numbers."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from tiny import mmm, save, values, write

from mmm.core.picture import Marked, Raster
from mmm.core.training import Training
from mmm.corruptions.mask_vector import MaskVector
from mmm.data.module import Data
from mmm.decoders.readout import Readout
from mmm.encoders.transformer import Transformer
from mmm.masking.uniform import Uniform
from mmm.modalities.image import Image
from mmm.modalities.protein import Protein
from mmm.objectives.masked_modeling import MaskedModeling
from mmm.optimizers.adamw import AdamW
from mmm.page.gallery import data_uri
from mmm.page.losses import Chart, _ticks, _window
from mmm.page.skills import verdict
from mmm.page.style import STYLE
from mmm.page.task import task_section
from mmm.report import Report, final_loss, gallery, parameters, write_report
from mmm.runlog import RunLog, losses
from mmm.skill import evaluate
from mmm.targets.pixels import Pixels
from mmm.targets.token_ids import TokenIds

EVIL = "<script>alert('x')</script>&\"'"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run with a report, in a folder whose name is no friend of HTML."""
    folder = tmp_path_factory.mktemp("run") / "a <b>bold<b> name & more"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(f"note: {EVIL}\n")
    files = write(tmp_path_factory.mktemp("files"), ("image", "protein"))
    torch.manual_seed(0)
    image = Image(size=8, patch=4, channels=1, augment=False)
    training = Training(
        {"image": image, "protein": Protein(max_length=24)},
        Transformer(16, 1, 2),
        MaskedModeling(
            Uniform(0.3),
            MaskVector({"protein": 0.1}, {"protein": 0.1}),
            {"image": Pixels(), "protein": TokenIds()},
            {"protein": "tied"},
        ),
        Readout(),
        AdamW(),
        seed=11,
    )
    data, runlog = Data(files=files, tokens_per_batch=200, validation=0.3), RunLog()
    trainer = Trainer(
        max_steps=5,
        accelerator="cpu",
        logger=False,
        default_root_dir=folder,
        callbacks=[runlog, Report(runlog)],
        enable_checkpointing=False,
        use_distributed_sampler=False,
        check_val_every_n_epoch=None,
        val_check_interval=5,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(training, data)
    return folder, training, data, runlog


class Reader(HTMLParser):
    """The tags of a page, each closed where it should be; its text; its attributes."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(page)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, k, v) for k, v in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, k, v) for k, v in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def page(done):
    return (done[0] / "report.html").read_text(encoding="utf-8")


def test_the_folder_holds_what_is_told_and_nothing_else(done):
    names = sorted(p.name for p in done[0].iterdir())
    assert names == ["assets", "losses.csv", "recipe.yaml", "report.html", "summary.json"]


def test_the_summary_holds_the_numbers_of_the_run(done):
    folder, training, data, runlog = done
    facts = json.loads((folder / "summary.json").read_text())
    skills = evaluate(training, data)
    assert set(facts["skill"]) == {"image", "protein"}
    for name, skill in skills.items():
        told = facts["skill"][name]
        for key in ("value", "low", "high", "loss", "baseline", "unit", "records", "tokens", "vocabulary"):
            assert told[key] == getattr(skill, key)
        assert told["value"] == pytest.approx(1 - told["loss"] / told["baseline"])
    pace = runlog.summary()
    for key in ("steps", "tokens", "fill", "seconds", "tokens_per_second", "waiting", "processes"):
        assert facts[key] == pace[key]
    assert facts["seed"] == 11
    assert facts["precision"] == "32-true"
    assert facts["data"]["validation"] == {f"files.{n}": s.records for n, s in skills.items()}
    assert facts["losses"]["protein/TokenIds"]["validation"] == pytest.approx(skills["protein"].loss)
    last = losses(folder / "losses.csv")["image/Pixels"][-1]
    assert facts["losses"]["image/Pixels"]["train"] == last[1] / last[2]
    assert facts["masks"]["protein"]["specials_hidden"] == 0
    assert facts["versions"]["torch"] == torch.__version__.split("+")[0]
    assert {"python", "lightning", "mmm-pretrain"} <= set(facts["versions"])


def test_every_parameter_is_counted_once(done):
    training = done[1]
    counts = parameters(training)
    assert counts["total"] == sum(p.numel() for p in training.parameters())
    assert counts["total"] == sum(n for part, n in counts.items() if part != "total")
    assert counts["protein"] == training.model.modalities["protein"].embedding.weight.numel()
    assert counts["head protein/TokenIds"] < sum(p.numel() for p in training.model.heads["protein/TokenIds"].parameters())


def test_the_page_is_well_formed_and_needs_nothing_from_outside(page):
    reader = Reader(page)
    assert {"title", "h1", "table", "svg", "img", "details"} <= set(reader.tags)
    assert "script" not in reader.tags
    for tag, key, value in reader.attributes:
        if key in ("src", "href"):
            assert value.startswith("data:"), f"<{tag} {key}={value[:40]}>"
    assert not re.search(r"url\(|@import|https?://", STYLE)
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page


def test_everything_is_escaped(done, page):
    assert "<b>bold" not in page
    assert "<script" not in page
    reader = Reader(page)
    assert done[0].name in reader.text
    assert EVIL in reader.text


def test_a_reader_who_does_not_see_is_told(page):
    reader = Reader(page)
    images = [v for t, k, v in reader.attributes if (t, k) == ("img", "alt")]
    assert images
    assert all(images)
    labels = [v for t, k, v in reader.attributes if (t, k) == ("svg", "aria-label")]
    assert len(labels) == reader.tags.count("svg")
    assert any(v.startswith("skill of protein:") for v in labels)


def test_the_page_says_what_skill_and_baseline_are_and_shows_them(done, page):
    facts = json.loads((done[0] / "summary.json").read_text())
    text = Reader(page).text
    assert "1 − loss / baseline" in text
    assert "best guess that looks at no context" in text
    for skill in facts["skill"].values():
        assert f"{skill['value']:.3f}".replace("-", "−") in text
        assert skill["guess"] in text
        assert skill["unit"] in text
    kept = facts["masks"]["protein"]["kept"]
    assert f"Up to {kept:.0%} of a modality's asked tokens are shown as they are" in text
    for words in ("files.protein", "specials hidden", "encoder", "torch"):
        assert words in text


def test_a_test_set_that_was_trained_on_is_called_so(tmp_path, done, page):
    assert "none of which was trained on" in Reader(page).text
    assert json.loads((done[0] / "summary.json").read_text())["data"]["trained_on"] == {}
    recipe = values(write(tmp_path, ["protein"]), steps=1)
    (tmp_path / "test.fasta").write_text(
        "\n".join((tmp_path / "some.fasta").read_text().splitlines()[:14]) + "\n>new\nACDEFACDEF\n"
    )
    recipe["data"]["test"] = {"protein": str(tmp_path / "test.fasta")}
    assert mmm("run", save(tmp_path / "tiny.yaml", recipe), "--run_dir", tmp_path / "out").status == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["data"]["trained_on"] == {"files.protein": 7}
    text = Reader((tmp_path / "out" / "report.html").read_text()).text
    assert "validation records, 7 of which are training records, too" in text
    assert "none of which" not in text
    task = {
        "on": "test",
        "metric": "accuracy",
        "value": 1.0,
        "low": 1.0,
        "high": 1.0,
        "guess": 0.5,
        "more": {},
        "confusion": None,
    }
    assert "the records of the test set, 7 of which are training" in task_section(task, {"files.protein": 7})


def test_the_gallery_shows_validation_records_of_every_modality(done):
    _, training, data, _ = done
    shown = gallery(training, data)
    assert {n: len(records) for n, records in shown.items()} == {"image": 6, "protein": 6}
    for pictures in shown["image"]:
        assert [p.caption.split(" ")[0] for p in pictures] == ["original", "masked", "reconstructed"]
    originals = {"".join(w for w, _, _ in pictures[0].words) for pictures in shown["protein"]}
    held = {e["protein"].raw[:22] for s in data.sources("validation") for e in s.examples if "protein" in e}
    assert originals <= held


def test_words_and_captions_of_any_modality_are_escaped(done, monkeypatch):
    folder, training, data, runlog = done
    marked = Marked(EVIL, ((EVIL, "wrong", EVIL), (EVIL, "seen", "")))
    monkeypatch.setattr(Protein, "pictures", lambda *_: [marked, Raster(EVIL, torch.zeros(2, 3, 3))])
    write_report(folder, training, data, {}, runlog.summary())
    page = (folder / "report.html").read_text()
    assert "<script" not in page
    assert ("span", "title", EVIL) in Reader(page).attributes
    assert ("img", "alt", EVIL) in Reader(page).attributes
    assert "Nothing was scored" in Reader(page).text


def test_without_losses_or_recipe_there_is_a_report_all_the_same(done, tmp_path):
    _, training, data, runlog = done
    write_report(tmp_path, training, data, evaluate(training, data), runlog.summary())
    text = Reader((tmp_path / "report.html").read_text()).text
    assert "No losses were kept" in text
    assert "Recipe" not in text


def test_numbers_that_are_none_are_null(done, tmp_path):
    _, training, data, runlog = done
    pace = runlog.summary() | {"waiting": None, "validation": {"image/Pixels": float("nan")}}
    (tmp_path / "losses.csv").write_text("step,term,total,count\n1,image/Pixels,nan,2.0\n2,image/Pixels,3.0,2.0\n")
    write_report(tmp_path, training, data, evaluate(training, data), pace)
    facts = json.loads((tmp_path / "summary.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert facts["losses"]["image/Pixels"] == {"train": 1.5, "validation": None}
    assert "nan" not in re.sub(r"data:image[^\"]*", "", (tmp_path / "report.html").read_text())


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_a_picture_is_a_png_of_the_same_pixels(shape):
    pixels = torch.rand(shape)
    kind, data = data_uri(Raster("", pixels)).split(",")
    assert kind == "data:image/png;base64"
    back = np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(data))), dtype=np.float32) / 255
    assert np.abs(back - pixels.numpy()).max() <= 0.5 / 255 + 1e-6
    strange = data_uri(Raster("", torch.tensor([[float("nan"), 2.0, -1.0]])))
    assert np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(strange.split(",")[1])))).tolist() == [[0, 255, 0]]


def test_the_verdict_goes_by_the_whole_interval():
    good, doubtful, bad = ({"low": low, "masked": (low + 0.1, low, low + 0.2)} for low in (0.1, -0.01, -1.0))
    copied = {"low": 0.1, "masked": (0.0, -0.1, 0.1)}
    assert verdict({"text": good, "image": good}) == "The model learned to use context in text and image."
    assert verdict({"text": good, "image": doubtful}).endswith("in image it is not yet better than a guess.")
    assert verdict({"a": bad, "b": bad, "c": bad}) == "No better than a guess that looks at no context: a, b and c."
    assert verdict({"text": copied}) == "In text it is better than a guess only where asked tokens are shown."
    assert "Nothing was scored" in verdict({})


def test_the_final_loss_is_a_ratio_of_sums_over_the_last_steps():
    curve = [(step, 100.0, 1.0) for step in range(1, 39)] + [(39, 6.0, 3.0), (40, 1.0, 0.5)]
    assert final_loss(curve) == 7.0 / 3.5
    assert final_loss([]) is None
    assert final_loss([(1, 0.0, 0.0)]) is None


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_round_and_reach_both_ends(low, span):
    high = low + span
    ticks = _ticks(low, high)
    step = ticks[1] - ticks[0]
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low + 1e-6 * step + 1e-9 * abs(low)
    assert ticks[-1] >= high - 1e-6 * step - 1e-9 * abs(high)


@pytest.mark.parametrize(
    ("values", "log"), [([5.0, 4.0, 3.0], False), ([900.0, 30.0, 1.0], True), ([2.0], False), ([0.0, 0.0], False)]
)
def test_a_curve_stays_inside_its_box(values, log):
    chart = Chart.of([(i, v * 2, 2.0) for i, v in enumerate(values, 1)], None, 2.0)
    svg = chart.svg("c0", "a loss")
    assert ("log scale" in svg) == log
    for points in re.findall(r'points="([^"]*)"', svg):
        for x, y in (map(float, p.split(",")) for p in points.split()):
            assert chart.LEFT <= x <= chart.RIGHT
            assert chart.TOP - 0.1 <= y <= chart.BOTTOM + 0.1


def test_smoothing_is_a_ratio_of_sums():
    curve = [(i, float(i % 2), 1.0) for i in range(1, 501)]
    chart = Chart.of(curve, None, None)
    assert len(chart.raw) == 300
    assert np.abs(chart.smooth - 0.5).max() < 0.06
    assert _window(np.arange(5.0), 3).tolist() == [1, 3, 6, 9, 7]
