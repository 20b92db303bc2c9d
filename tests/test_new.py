"""`mmm new modality`: what it writes is installed, conforms, trains alone and mixed, before anybody edits it."""

import json
import re
from pathlib import Path
from textwrap import dedent

import pytest
from installed import declare, importable, pip_install, run_tests
from tiny import PARTS, captured, mmm, save, values, write

from mmm.cli import lightning

TINY = {"encoder": {"class_path": "Transformer", "init_args": {"width": 16, "depth": 1, "heads": 2}}}


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """The template, called ``tide_gauge``, installed."""
    place = tmp_path_factory.mktemp("new")
    folder = place / "mmm-tide_gauge"
    done = mmm("new", "modality", "tide_gauge", folder)
    assert done.status == 0, done.err
    pip_install(folder, place / "site")
    with importable(place / "site", folder, package="mmm_tide_gauge"):
        yield folder


@pytest.fixture(autouse=True)
def data(tmp_path_factory, monkeypatch):
    """Cards are prepared in a folder of the session's own."""
    monkeypatch.setenv("MMM_DATA", str(tmp_path_factory.getbasetemp() / "data"))


def skill(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())["skill"]


# -- what is written -----------------------------------------------------------------------------------------------------------


def test_the_package_lies_in_the_folder_itself_and_says_what_is_next(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = mmm("new", "modality", "wind_speed")
    assert done.status == 0, done.err
    assert {p.name for p in (tmp_path / "mmm-wind_speed").iterdir()} == {
        "README.md", "pyproject.toml", "mmm_wind_speed", "recipes", "tests",
    }  # fmt: skip
    for line in ("pip install --no-deps -e mmm-wind_speed", "mmm plugin check mmm-wind_speed", "recipes/wind_speed-tiny.yaml"):
        assert line in done.out
    written = [p for p in (tmp_path / "mmm-wind_speed").rglob("*") if p.is_file()]
    assert {p.name for p in written} >= {"wind_speed.py", "wind-speed-lines.yaml", "test_wind_speed.py", "lines.series"}
    for path in written:
        text = path.read_text(encoding="utf-8")
        assert not any(word in text for word in ("example_name", "ExampleName", "example-name")), path
        if path.suffix == ".py":
            compile(text, str(path), "exec")
    assert "class WindSpeed(Modality)" in (tmp_path / "mmm-wind_speed/mmm_wind_speed/wind_speed.py").read_text()
    assert 'name = "mmm-wind_speed"' in (tmp_path / "mmm-wind_speed/pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say what is to be new, and its name.*Choices: modality"),
        (("masking", "rings"), "no template of 'masking'.*Choices: modality"),
        (("modalty", "rings"), "no template of 'modalty'.*Did you mean 'modality'"),
        (("modality",), "needs a name, in snake_case"),
        (("modality", "Wind-Speed"), "'Wind-Speed' is no name for a modality.*wind_speed would do"),
        (("modality", "2d"), "'2d' is no name"),
        (("modality", "wind__speed"), "is no name"),
        (("modality", "class"), "a word of Python's own"),
        (("modality", "null"), "YAML does not read 'null' as a word.*null_data"),
        (("modality", "true"), "YAML does not read 'true' as a word"),
        (("modality", "values"), "torch's modules have an attribute of that name"),
        (("modality", "text"), "there is a class Text already, of mmm-pretrain"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = mmm("new", *words)
    assert (done.status, len(done.errors)) == (2, 1), done.err
    assert not list(tmp_path.iterdir())
    assert re.search(said, done.err), done.err


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    for place, fault in (("full", "is not empty"), ("file", "is a file")):
        done = mmm("new", "modality", "wind", tmp_path / place)
        assert done.status == 2
        assert fault in done.err
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    assert mmm("new", "modality", "wind", tmp_path / "empty").status == 0
    assert (tmp_path / "empty" / "pyproject.toml").exists()


def test_an_installed_plugin_is_not_written_anew(plugin, tmp_path):
    done = mmm("new", "modality", "tide_gauge", tmp_path / "again")
    assert done.status == 2
    assert "TideGauge already, of mmm-tide_gauge" in done.err


# -- what it can do, unedited --------------------------------------------------------------------------------------------------


def test_it_is_listed_and_shown(plugin):
    assert "Series of numbers, a token a patch." in mmm("list", "mmm-tide_gauge").out
    shown = mmm("show", "TideGauge").out
    assert shown.startswith("TideGauge(patch: ")
    assert "Modality of mmm-tide_gauge, mmm_tide_gauge.tide_gauge" in shown


def test_it_conforms(plugin):
    """All of the kit, whole runs and two processes among it."""
    done = mmm("plugin", "check", "tide_gauge")
    assert done.status == 0, done.out
    assert "FAILED" not in done.out
    for check in ("round trip", "positions", "malformed files", "exact resume", "two processes", "speed"):
        assert f"  ok      {check}" in done.out


def test_its_own_tests_pass(plugin, tmp_path):
    """But for the one that the test above has made already."""
    ran = run_tests(plugin / "tests" / "test_tide_gauge.py", tmp_path, but="test_everything_that_this_package_brings")
    assert len(ran) == 8


def test_its_recipe_trains_on_the_data_of_its_own_card(plugin, tmp_path):
    recipe = plugin / "recipes" / "tide_gauge-tiny.yaml"
    assert "sound" in mmm("check", recipe).out
    words = ["--trainer.max_steps", "40", "--data.tokens_per_batch", "1024", "--trainer.accelerator", "cpu"]
    done = mmm("run", recipe, "--run_dir", tmp_path / "out", *words)
    assert done.status == 0, done.err
    assert skill(tmp_path / "out")["tide_gauge"]["low"] > 0, "it guesses better than the mean"
    assert mmm("data", "verify", "tide-gauge-lines").status == 0
    assert "data:image/png" in (tmp_path / "out" / "report.html").read_text()


def test_parts_that_were_never_told_of_it_alone(plugin, tmp_path):
    """Left out by blocks and answered by a decoder, as images are."""
    recipe = plugin / "recipes" / "tide_gauge-tiny.yaml"
    words = ["--model.objective.init_args.masking.tide_gauge", "Block", "--model.objective.init_args.corruption", "Drop"]
    words += ["--model.decoder", "{class_path: TransformerDecoder, init_args: {width: 16, depth: 1, heads: 2}}"]
    done = mmm("run", recipe, "--run_dir", tmp_path / "out", "--trainer.max_steps", "3", "--trainer.accelerator", "cpu", *words)
    assert done.status == 0, done.err


def test_parts_that_were_never_told_of_it_mixed_with_text(plugin, tmp_path):
    """One encoder, a sum of objectives; and a label from a table is learned from there on."""
    recipe = values({**write(tmp_path / "files", ["text"]), "text": str(tmp_path / "files" / "*.txt")}, steps=3)
    examples = plugin / "mmm_tide_gauge" / "examples" / "lines.series"
    recipe["plugins"] = ["mmm-tide_gauge"]
    recipe["model"] |= TINY
    recipe["model"]["modalities"] = {"tide_gauge": "TideGauge", "text": PARTS["text"]}
    masked = recipe["model"]["objective"]
    masked["init_args"]["targets"] = {"tide_gauge": "Pixels", "text": "TokenIds"}
    masked["init_args"]["masking"] = {"tide_gauge": "OverlappingSpans", "text": "Span"}
    recipe["model"]["objective"] = {"class_path": "Sum", "init_args": {"objectives": {"masked": masked}}}
    recipe["data"]["files"]["tide_gauge"] = str(examples)
    recipe["data"]["validation"] = 0.3
    done = mmm("run", save(tmp_path / "mixed.yaml", recipe), "--run_dir", tmp_path / "mixed")
    assert done.status == 0, done.err
    assert set(skill(tmp_path / "mixed")) == {"tide_gauge", "text"}

    lines = examples.read_text().splitlines()
    rows = [f'"{" ".join(line.split()[: 32 + i % 7])}",{"dark" if i % 2 else "light"}' for i, line in enumerate(lines * 4)]
    (tmp_path / "labelled.csv").write_text("\n".join(["record,label", *rows]))
    task = {
        "plugins": ["mmm-tide_gauge"],
        "model": {"objective": "Classify"},
        "data": {"files": {"tide_gauge": str(tmp_path / "labelled.csv")}, "tokens_per_batch": 256, "validation": 0.3},
        "trainer": {"max_steps": 2, "accelerator": "cpu"},
    }
    words = ["--init_from", tmp_path / "mixed", "--adapter", "lora", "--run_dir", tmp_path / "task"]
    done = mmm("run", save(tmp_path / "task.yaml", task), *words)
    assert done.status == 0, done.err
    assert (tmp_path / "task" / "predictions.csv").exists()


# -- somebody who read the tutorial alone --------------------------------------------------------------------------------------

THROWS = '''\
"""Throws of dice: a line of a file is a game, its digits the throws."""

import torch
from torch import nn

from mmm.core.errors import BadRecord
from mmm.core.modality import Modality, Record, Tokenizer
from mmm.core.tokens import Piece


class ThrowsTokenizer(Tokenizer):
    """One token a throw."""

    suffixes = (".dice",)
    size = 6
    choices = torch.arange(6)

    def tokenize(self, raw, draw=None):
        if not raw or set(raw) - set("123456"):
            raise ValueError(f"a game is throws from 1 to 6, not {raw!r:.40}")
        return Piece(torch.tensor([int(throw) - 1 for throw in raw]), torch.arange(len(raw)))

    def detokenize(self, content_R):
        return "".join(str(i + 1) for i in content_R.tolist())

    def empty(self):
        return torch.zeros(0, dtype=torch.int64)

    def length(self, record):
        return len(record.raw)

    def records(self, path):
        for number, line in enumerate(path.read_bytes().split(), 1):
            raw = line.decode("ascii", "replace")
            try:
                self.tokenize(raw)
            except ValueError as error:
                raise BadRecord(path, number, str(error)) from error
            yield Record(str(path), number, raw, line)


class Throws(Modality):
    """Throws of a die."""

    def __init__(self):
        super().__init__()
        self.tokenizer = ThrowsTokenizer()

    def build(self, width):
        self.table = nn.Embedding(6, width)
        self.mask = nn.Parameter(torch.randn(width))

    def embed(self, content_R, layout_N, hidden_N):
        return torch.where(hidden_N[:, None], self.mask, self.table(content_R))
'''


@pytest.fixture
def throws(tmp_path):
    """A plugin of one file, without recipe, card or examples."""
    (tmp_path / "mmm_throws").mkdir()
    (tmp_path / "mmm_throws" / "__init__.py").write_text(THROWS)
    declare(tmp_path, "mmm-throws", "mmm_throws")
    games = ["".join(str((i * j + j) % 6 + 1) for j in range(8 + i % 5)) for i in range(40)]
    (tmp_path / "games.dice").write_text("\n".join(games))
    with importable(tmp_path, package="mmm_throws"):
        yield tmp_path


@pytest.mark.parametrize("mixed", [False, True], ids=["alone", "mixed with text"])
def test_a_toy_runs_by_the_command(throws, mixed, monkeypatch):
    recipe = dedent(
        """\
        # toy.yaml - throws of dice
        plugins: [mmm-throws]
        model:
          modalities: {throws: Throws}
          encoder: {class_path: Transformer, init_args: {width: 16, depth: 1, heads: 2, rotary: 1}}
          objective:
            class_path: MaskedModeling
            init_args:
              masking: Span
              corruption: {class_path: MaskVector, init_args: {random: 0.1, keep: 0.1}}
              targets: {throws: TokenIds}
        data: {files: {throws: games.dice}, tokens_per_batch: 128, validation: 0.3}
        trainer: {max_steps: 3, accelerator: cpu}
        """
    )
    if mixed:
        text = "text: {class_path: Text, init_args: {vocabulary: 270, max_length: 24, record_words: 8}}"
        recipe = recipe.replace("{throws: Throws}", f"{{throws: Throws, {text}}}")
        recipe = recipe.replace("{throws: TokenIds}", "{throws: TokenIds, text: TokenIds}")
        recipe = recipe.replace("games.dice", f"games.dice, text: {write(throws, ['text'])['text']!r}")
    (throws / "toy.yaml").write_text(recipe)
    monkeypatch.chdir(throws)
    done = captured(lightning, ["run", "toy.yaml"])
    assert done.status == 0, done.err
    assert set(skill(throws / "runs" / "toy")) == ({"throws", "text"} if mixed else {"throws"})
