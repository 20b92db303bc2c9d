"""The command line: exit statuses, one line an error, and nothing heavy before a command needs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import captured, mmm, save, values, write

HEAVY = ("torch", "lightning", "transformers", "numpy", "jsonargparse")
COMMANDS = ("run", "check", "list", "show", "masks", "data", "doctor", "completion")


def process(*words: str, program: str = "-m mmm", env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """A command in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if k not in ("WORLD_SIZE", "RANK", "LOCAL_RANK")} | (env or {})
    return subprocess.run(
        [sys.executable, *program.split(), *words], capture_output=True, text=True, env=environment, timeout=120
    )


def imported(*words: str, main: str = "main") -> tuple[str, list[str]]:
    """(what a command writes, the heavy libraries it imported)."""
    program = (
        "import sys, atexit\n"
        f"atexit.register(lambda: print('heavy:', *(m for m in {HEAVY!r} if m in sys.modules)))\n"
        f"from mmm.cli import {main} as main\n"
        f"sys.exit(main({list(words)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    text, _, heavy = done.stdout.rpartition("heavy:")
    return text, heavy.split()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("cli")
    return save(folder / "tiny.yaml", values(write(folder, ["text", "protein"])))


# -- what answers at once ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("--version",),
        ("run", "--help"),
        ("list", "--help"),
        ("data", "--help"),
        ("completion", "bash"),
        ("completion", "zsh"),
    ],
    ids=" ".join,
)
def test_help_and_completion_import_nothing_heavy(words):
    text, heavy = imported(*words)
    assert text
    assert heavy == []


@pytest.mark.parametrize("words", [("--help",), ("run", "--help")], ids=" ".join)
def test_nor_does_the_help_of_lightning(words):
    text, heavy = imported(*words, main="lightning")
    assert "run" in text
    assert heavy == []


def test_python_m_mmm():
    done = process("--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: mmm ")
    assert all(command in done.stdout for command in COMMANDS)
    assert done.stderr == ""


def test_every_command_explains_itself():
    for command in COMMANDS:
        done = mmm(command, "--help")
        assert done.status == 0
        assert done.out.startswith(f"usage: mmm {command}")
    done = mmm("run", "--help")
    assert all(option in done.out for option in ("--run_dir", "--resume", "--devices", "--checkpoint_every", "--print_config"))
    assert "--model.encoder.depth" in done.out


def test_completion_scripts_name_every_command():
    for shell in ("bash", "zsh", "tcsh"):
        script = mmm("completion", shell).out
        assert all(command in script for command in COMMANDS), shell
    done = subprocess.run(["bash", "-n"], input=mmm("completion", "bash").out, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# -- wrong words ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "COMMAND"),
        (("rnu",), "invalid choice: 'rnu'"),
        (("run",), "recipe"),
        (("show",), "name"),
        (("list", "--al"), "--al"),
        (("completion", "fish"), "'fish'"),
    ],
)
def test_wrong_words_end_with_2(words, said):
    done = mmm(*words)
    assert done.status == 2
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_recipe_that_is_not_there_ends_with_2(tmp_path):
    for command in ("run", "check", "masks"):
        done = mmm(command, tmp_path / "none.yaml")
        assert (done.status, len(done.errors)) == (2, 1)
        assert "none.yaml: cannot be read: No such file" in done.err


def test_bad_data_end_with_3(tmp_path):
    (tmp_path / "own.fasta").write_text(">p1\nAC1E\n")
    recipe = save(tmp_path / "tiny.yaml", values({"protein": str(tmp_path / "own.fasta")}))
    for command in (("run", recipe, "--run_dir", tmp_path / "out"), ("masks", recipe)):
        done = mmm(*command)
        assert (done.status, len(done.errors)) == (3, 1), done.err
        assert "own.fasta, record p1: " in done.err


def test_debug_shows_where_an_error_comes_from(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        mmm("run", tmp_path / "none.yaml", "--debug")


def test_a_failure_of_our_own_is_not_dressed_up(recipe, tmp_path, monkeypatch):
    """What is no fault of the user's keeps its traceback."""
    monkeypatch.setattr("mmm.run.run", lambda *_: (_ for _ in ()).throw(AssertionError("ours")))
    with pytest.raises(AssertionError, match="ours"):
        mmm("run", recipe)


def test_what_the_system_refuses_is_one_sentence(recipe, tmp_path, monkeypatch):
    """A path that cannot be a folder; a disk that is full, which names no file."""
    (tmp_path / "file").write_text("x")
    done = mmm("run", recipe, "--run_dir", tmp_path / "file" / "out")
    assert (done.status, done.err) == (2, f"mmm: error: {tmp_path / 'file' / 'out'}: Not a directory\n")
    monkeypatch.setattr("mmm.run.run", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    done = mmm("run", recipe)
    assert (done.status, done.err) == (2, "mmm: error: No space left on device\n")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("accumulate_grad_batches", "2", "give data.max_tokens_per_rank"),
        ("gradient_clip_val", "1", "give model.optimizer.clip"),
        ("gradient_clip_algorithm", "norm", "give model.optimizer.clip"),
        ("precision", "64-true", "choose auto, bf16-mixed, bf16-true or 32-true"),
        ("precision", "16-true", "choose auto, bf16-mixed, bf16-true or 32-true"),
        ("overfit_batches", "-1", "overfit_batches"),
    ],
)
def test_what_a_trainer_cannot_do_is_said_before_the_run_begins(recipe, tmp_path, key, value, said):
    done = mmm("run", recipe, "--run_dir", tmp_path / "out", f"--trainer.{key}", value)
    assert (done.status, len(done.errors)) == (2, 1)
    assert said in done.err
    assert not (tmp_path / "out").exists()


def test_what_lightning_refuses_in_a_run_is_one_sentence(recipe, monkeypatch):
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    monkeypatch.setattr("mmm.run.run", lambda *_: (_ for _ in ()).throw(MisconfigurationException("no such pair")))
    done = mmm("run", recipe)
    assert (done.status, done.err) == (2, "mmm: error: no such pair\n")


def test_an_interruption_ends_with_130(recipe, monkeypatch):
    monkeypatch.setattr("mmm.run.run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    done = mmm("run", recipe)
    assert (done.status, done.err) == (130, "mmm: interrupted; the same command with --resume goes on with it\n")


def test_a_reader_that_stops_reading_is_no_error():
    """`mmm list | head -1`."""
    shell = f"set -o pipefail; '{sys.executable}' -m mmm list | head -1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=120)
    assert done.stdout == "recipes\n"
    assert done.stderr == ""


# -- list and show -------------------------------------------------------------------------------------------------------------


def test_list_shows_every_group_with_a_line_each():
    done = mmm("list")
    assert done.status == 0
    groups = [line for line in done.out.splitlines() if line and not line.startswith(" ")]
    expected = {"recipes", "modalities", "masking", "corruptions", "targets", "objectives", "encoders", "decoders", "interop"}
    assert expected <= set(groups)
    for line in done.out.splitlines():
        if line.startswith("  "):
            name, _, doc = line.strip().partition("  ")
            assert name, line
            assert doc.strip(), f"{name} says nothing of itself"


def test_list_of_one_group():
    done = mmm("list", "masking")
    assert done.status == 0
    assert done.out.splitlines()[0] == "masking"
    assert {"Uniform", "Span", "Block"} <= {line.split()[0] for line in done.out.splitlines()[1:]}
    assert "Transformer" not in done.out
    assert "quickstart.yaml" in mmm("list", "recipes").out


def test_list_and_show_of_what_is_not_there():
    done = mmm("list", "maskings")
    assert (done.status, len(done.errors)) == (2, 1)
    assert "Did you mean 'masking'?" in done.err
    done = mmm("show", "Spam")
    assert (done.status, len(done.errors)) == (2, 1)
    assert "Did you mean 'Span'?" in done.err


def test_show_tells_arguments_and_source():
    done = mmm("show", "Span")
    assert done.status == 0
    assert done.out.startswith("Span(")
    assert "mean: " in done.out
    assert "Masking of mmm-pretrain, mmm.masking.span" in done.out
    assert "Args:" in done.out
    assert "Paper:" in done.out


def test_the_doctor_looks_at_the_installation():
    done = mmm("doctor")
    assert done.status in (0, 1)
    assert all(package in done.out for package in ("python", "torch", "lightning", "timm", "disk"))
    assert done.out.splitlines()[-1].endswith("to mend" if done.status else "all well")
    assert "Traceback" not in done.err


def test_the_doctor_finds_what_is_missing_and_what_is_old(monkeypatch):
    from mmm import doctor

    monkeypatch.setattr(doctor, "FLOORS", {"torch": "999", "mmm-nothere": "1.0"})
    done = mmm("doctor")
    assert done.status == 1
    assert "too old, needs >= 999" in done.out
    assert "mmm-nothere   missing, needs >= 1.0" in done.out
    assert done.out.splitlines()[-1] == "2 to mend"


def test_the_doctor_names_a_harmful_release(monkeypatch):
    import importlib.metadata

    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.6.3" if name == "lightning" else real(name))
    done = mmm("doctor")
    assert done.status == 1
    assert "MALWARE" in done.out


# -- check and masks -----------------------------------------------------------------------------------------------------------


def test_check_needs_no_data(tmp_path):
    (tmp_path / "some.txt").write_text("some words")
    recipe = save(tmp_path / "tiny.yaml", values({"text": str(tmp_path), "protein": "none.fasta"}))
    done = mmm("check", recipe)
    assert done.status == 0
    first, second, *rest = done.out.splitlines()
    assert first == f"{recipe}: sound"
    assert second.startswith("parameters: ")
    assert [line.split(":")[0].strip() for line in rest] == ["text", "protein", "warning"]
    assert "data.files.protein: 'none.fasta' matches no file" in rest[2]
    words = ("--data.files.txt", tmp_path, "--data.test.text", "[none, some.txt]", "--data.joint", "none.csv")
    done = mmm("check", recipe, "--data.files.protein", tmp_path, *words)
    for said in (
        "data.files: the model has no modality 'txt'. Did you mean 'text'?",
        *("data.files.protein: ", "data.test.text: 'none' matches no file", "data.joint: 'none.csv' matches no file"),
    ):
        assert f"warning: {said}" in done.out


def test_check_says_what_data_are_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("MMM_DATA", str(tmp_path))
    recipe = values({"text": "x"}) | {"data": {"cards": {"wikitext-2": 1}}}
    done = mmm("check", save(tmp_path / "tiny.yaml", recipe))
    assert done.status == 0
    assert "warning: the data of card 'wikitext-2' are not there; mmm data prepare wikitext-2" in done.out
    recipe["data"] = {}
    assert "warning: no data are named" in mmm("check", save(tmp_path / "tiny.yaml", recipe)).out


def test_masks_as_json(recipe):
    done = mmm("masks", recipe, "--json", "--records", "20")
    assert done.status == 0
    found = json.loads(done.out)
    assert list(found) == ["text", "protein"]
    for audit in found.values():
        assert audit["records"] == 20
        assert audit["specials_hidden"] == 0
        assert audit["units_split"] == 0
        assert audit["nothing_hidden"] == 0
        assert abs(audit["rate"] - 0.3) < 0.05
        assert abs(audit["drawn"] - 0.3) < 1e-6
        assert {"tokens", "asked", "shown_mask", "random", "kept", "span_lengths", "visible"} <= audit.keys()


def test_masks_for_people(recipe):
    done = mmm("masks", recipe, "--records", "5")
    assert done.status == 0
    assert "text" in done.out
    assert "specials hidden" in done.out
    assert "■" in done.out
    assert "○" in done.out


def test_masks_take_overrides(recipe):
    done = mmm("masks", recipe, "--json", "--model.objective.init_args.masking.init_args.rate=0.6")
    assert abs(json.loads(done.out)["protein"]["rate"] - 0.6) < 0.05


@pytest.mark.parametrize("number", ["0", "-3", "many"])
def test_masks_of_no_records(recipe, number):
    done = mmm("masks", recipe, "--records", number)
    assert done.status == 2
    assert "Traceback" not in done.err
    assert "records" in done.err


# -- run -----------------------------------------------------------------------------------------------------------------------


def test_run_says_where_the_report_is(recipe, tmp_path):
    done = mmm("run", recipe, "--run_dir", tmp_path / "out", "--trainer.max_steps", "2")
    assert done.status == 0
    assert done.out == f"report: {tmp_path / 'out' / 'report.html'}\n"
    assert "step 2/2" in done.err


def test_the_run_folder_is_named_after_the_recipe(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = mmm("run", recipe, "--trainer.max_steps", "1")
    assert done.out == f"report: {Path('runs', 'tiny', 'report.html')}\n"
    assert (tmp_path / "runs" / "tiny" / "summary.json").exists()


@pytest.mark.parametrize(
    ("option", "value"), [("--devices", "0"), ("--devices", "-1"), ("--checkpoint_every", "0"), ("--checkpoint_every", "-5")]
)
def test_numbers_that_make_no_sense_are_refused(recipe, tmp_path, option, value):
    done = mmm("run", recipe, "--run_dir", tmp_path / "out", "--trainer.max_steps", "2", option, value)
    assert done.status == 2
    assert option.strip("-") in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_a_launcher_of_another_size_is_refused(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    done = mmm("run", recipe, "--run_dir", tmp_path / "out")
    assert (done.status, len(done.errors)) == (2, 1)
    assert "started 4 processes (WORLD_SIZE), but the trainer has 1 devices on 1 nodes: give --devices 4" in done.err
    assert not (tmp_path / "out").exists()


# -- lightning -----------------------------------------------------------------------------------------------------------------


def test_lightning_run_is_mmm_run(recipe):
    from mmm.cli import lightning

    assert captured(lightning, ["run", "--help"]) == mmm("run", "--help")
    assert captured(lightning, ["run", recipe, "--print_config"]) == mmm("run", recipe, "--print_config")
    help_text = captured(lightning, ["--help"])
    assert help_text.status == 0
    assert "lightning run RECIPE" in help_text.out


def test_other_words_of_lightning_go_to_the_package_they_belong_to(monkeypatch):
    import importlib.metadata

    from mmm.cli import lightning

    done = captured(lightning, ["login"])
    assert done.status == 2
    assert "'login' is no command here" in done.err
    assert "lightning-sdk" in done.err

    class Point:
        value = "lightning_sdk.cli.entrypoint:main_cli"

        def load(self):
            return lambda: print("the sdk") or 7

    def points(group="", name=""):
        return [Point()] if (group, name) == ("console_scripts", "lightning") else []

    monkeypatch.setattr(importlib.metadata, "entry_points", points)
    done = captured(lightning, ["login"])
    assert (done.status, done.out) == (7, "the sdk\n")
    assert captured(lightning, ["run", "--help"]) == mmm("run", "--help"), "run stays ours"


def test_both_scripts_are_installed():
    import importlib.metadata

    scripts = {
        p.name: p.value for p in importlib.metadata.distribution("mmm-pretrain").entry_points if p.group == "console_scripts"
    }
    assert scripts == {"mmm": "mmm.cli:main", "lightning": "mmm.cli:lightning"}
