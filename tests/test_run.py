"""Runs: the same seed gives the same bits, an interruption changes nothing, and a folder holds one run."""

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from tiny import Done, mmm, save, values, write

from mmm import run as mmm_run
from mmm import yaml
from mmm.checkpoint import AtomicCheckpointIO, by_step, load_checkpoint, newest
from mmm.core.training import Training
from mmm.data.loaders import Steps
from mmm.run import run
from mmm.runlog import losses

STEPS = 6
FILES = {"assets", "checkpoints", "losses.csv", "recipe.yaml", "report.html", "summary.json", "tensorboard"}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """Files of four modalities."""
    return write(tmp_path_factory.mktemp("files"), records=40)


@pytest.fixture
def base(files) -> dict[str, Any]:
    """A recipe of text and proteins, with dropout."""
    recipe = copy.deepcopy(values({n: files[n] for n in ("text", "protein")}, STEPS))
    recipe["model"]["encoder"]["init_args"]["dropout"] = 0.1
    return recipe


@pytest.fixture
def recipe(tmp_path, base) -> str:
    return save(tmp_path / "tiny.yaml", base)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    path = newest(folder)
    assert path is not None
    return load_checkpoint(path)["state_dict"]


def same(a: Path, b: Path) -> bool:
    """Whether two runs have the same losses and the same final weights, to the last bit."""
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    equal = all(torch.equal(first[n], second[n]) for n in first)
    return equal and (a / "losses.csv").read_bytes() == (b / "losses.csv").read_bytes()


def tree(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


class Stop(RuntimeError):
    """What interrupts a run here."""


def interrupt(monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException | None = None) -> None:
    """Let every run stop in the middle of a step (from 1)."""
    real = Training.training_step

    def training_step(self, batch, batch_idx):
        if self.global_step + 1 == step:
            raise error or Stop
        return real(self, batch, batch_idx)

    monkeypatch.setattr(Training, "training_step", training_step)


# -- what a run leaves ---------------------------------------------------------------------------------------------------------


def test_a_run_leaves_its_files_and_nothing_else(recipe, tmp_path):
    folder = run(recipe, run_dir=str(tmp_path / "out"))
    assert {p.name for p in folder.iterdir()} == FILES
    assert {p.name for p in (folder / "checkpoints").iterdir()} == {f"step-{STEPS - 1}.ckpt", f"step-{STEPS}.ckpt"}
    odd = [p for p in tree(folder) if re.search(r"(^|/)\.|\.part|\.tmp|~$|lightning_logs", p)]
    assert odd == []
    assert set(tmp_path.iterdir()) == {folder, Path(recipe)}, "and nothing beside the folder"


def test_the_recipe_it_leaves_trains_to_the_same_bits(recipe, tmp_path):
    first = run(recipe, ["--model.encoder.init_args.depth=2"], str(tmp_path / "first"))
    second = run(str(first / "recipe.yaml"), run_dir=str(tmp_path / "second"))
    assert same(first, second)
    assert (first / "recipe.yaml").read_text() == (second / "recipe.yaml").read_text()


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(recipe, tmp_path):
    first, again = (run(recipe, run_dir=str(tmp_path / name)) for name in ("first", "again"))
    other = run(recipe, ["--seed=1"], str(tmp_path / "other"))
    assert same(first, again)
    assert not same(first, other)
    assert losses(first / "losses.csv") != losses(other / "losses.csv")


def test_global_random_state_has_no_say(recipe, tmp_path):
    first = run(recipe, run_dir=str(tmp_path / "first"))
    torch.manual_seed(12345)
    assert same(first, run(recipe, run_dir=str(tmp_path / "second")))


def test_workers_change_no_loss(recipe, tmp_path):
    alone = run(recipe, run_dir=str(tmp_path / "alone"))
    helped = run(recipe, ["--data.workers=2"], str(tmp_path / "helped"))
    assert same(alone, helped)


def test_micro_batches_change_no_count(recipe, tmp_path):
    words = ["--model.encoder.init_args.dropout=0"]
    whole = losses(run(recipe, words, str(tmp_path / "whole")) / "losses.csv")
    cut = losses(run(recipe, [*words, "--data.max_tokens_per_rank=60"], str(tmp_path / "cut")) / "losses.csv")
    close(whole, cut)


def close(a: dict, b: dict, tolerance: float = 1e-5) -> None:
    """Losses agree, and what they are sums over agrees exactly."""
    assert a.keys() == b.keys()
    for term in a:
        assert [(step, count) for step, _, count in a[term]] == [(step, count) for step, _, count in b[term]]
        for (step, total, _), (_, other, _) in zip(a[term], b[term], strict=True):
            assert other == pytest.approx(total, rel=tolerance), f"{term}, step {step}"


def test_four_modalities_in_one_batch(files, tmp_path):
    recipe = values(files, 3)
    found = losses(run(save(tmp_path / "four.yaml", recipe), run_dir=str(tmp_path / "out")) / "losses.csv")
    assert list(found) == ["text/TokenIds", "image/Pixels", "audio/AcousticUnits", "protein/TokenIds"]
    for rows in found.values():
        assert [step for step, _, _ in rows] == [1, 2, 3]
        assert all(count > 0 for _, _, count in rows)


def test_a_modality_that_is_absent_from_a_step_is_left_untouched(base, tmp_path, monkeypatch):
    """No step, no decay, no moment of the optimiser: its own parameters stay as they are, to the last bit."""
    base["data"]["tokens_per_batch"] = 30  # a record or two a batch
    base["model"]["optimizer"] = {"weight_decay": 0.5}
    seen = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer, training, batch, batch_idx):
            self.before = {n: self._own(training, n) for n in training.model.names}
            self.rows = {n: len(batch.micro[0].content[n]) for n in training.model.names}

        def on_train_batch_end(self, trainer, training, outputs, batch, batch_idx):
            for name, before in self.before.items():
                moved = any(not torch.equal(a, b) for a, b in zip(before, self._own(training, name), strict=True))
                seen.append((self.rows[name] > 0, moved))

        def _own(self, training, name):
            return [p.detach().clone() for p in training.model.of_modality(name)]

    real = mmm_run._trainer_defaults

    def defaults(*arguments):
        made = real(*arguments)
        return made | {"callbacks": [*made["callbacks"], Watch()]}

    monkeypatch.setattr(mmm_run, "_trainer_defaults", defaults)
    run(save(tmp_path / "tiny.yaml", base), run_dir=str(tmp_path / "out"))
    assert {True, False} == {there for there, _ in seen}, "some steps lack a modality, and some have it"
    assert all(there == moved for there, moved in seen)


# -- one folder, one run -------------------------------------------------------------------------------------------------------


def refused(*words: Any) -> str:
    done = mmm("run", *words)
    assert (done.status, len(done.errors)) == (2, 1), done.err
    assert "Traceback" not in done.err
    return done.errors[0]


def test_a_folder_that_holds_a_run_is_refused_and_kept(recipe, tmp_path):
    folder = run(recipe, run_dir=str(tmp_path / "out"))
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    said = refused(recipe, "--run_dir", folder)
    assert f"{folder} holds a run already; go on with it by --resume, or name another folder with --run_dir" in said
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_an_empty_folder_is_as_good_as_none(recipe, tmp_path):
    (tmp_path / "out").mkdir()
    run(recipe, run_dir=str(tmp_path / "out"))
    first = run(recipe, run_dir=str(tmp_path / "a" / "b"))
    assert same(first, tmp_path / "out")


def test_a_file_is_no_folder(recipe, tmp_path):
    (tmp_path / "out").write_text("mine")
    assert "is a file; name a folder with --run_dir" in refused(recipe, "--run_dir", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("words", [[], ["--resume"]])
def test_somebody_elses_folder_is_left_alone(recipe, tmp_path, words):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    refused(recipe, "--run_dir", tmp_path / "out", *words)
    assert tree(tmp_path / "out") == {"thesis.tex"}


# -- going on ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [2, 3, 4, STEPS])
def test_an_interrupted_run_goes_on_to_the_same_bits(recipe, tmp_path, monkeypatch, step):
    """Dropout and both modalities take part; a checkpoint every second step, so some steps are taken twice."""
    whole = run(recipe, run_dir=str(tmp_path / "whole"), checkpoint_every=2)
    folder = tmp_path / "halted"
    with monkeypatch.context() as patch:
        interrupt(patch, step)
        with pytest.raises(Stop):
            run(recipe, run_dir=str(folder), checkpoint_every=2)
    assert not (folder / "report.html").exists()
    run(recipe, run_dir=str(folder), resume=True, checkpoint_every=2)
    assert same(whole, folder)
    assert {p.name for p in folder.iterdir()} == FILES


def test_an_interruption_by_the_keyboard(recipe, tmp_path, monkeypatch):
    """Ends with 130 and one line; and the run goes on from there."""
    whole = run(recipe, run_dir=str(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        interrupt(patch, 4, KeyboardInterrupt())
        patch.setattr(signal, "signal", lambda *_: None)  # the Trainer would make this process deaf to Ctrl-C for good
        done = mmm("run", recipe, "--run_dir", tmp_path / "halted")
    assert done.status == 130
    assert "mmm: interrupted" in done.err
    assert "Traceback" not in done.err
    assert "report:" not in done.out
    assert not (tmp_path / "halted" / "report.html").exists(), "a report is one of a whole run"
    assert mmm("run", recipe, "--run_dir", tmp_path / "halted", "--resume").status == 0
    assert same(whole, tmp_path / "halted")


def test_going_on_with_workers_from_a_run_without(recipe, tmp_path, monkeypatch):
    """How many processes read the data is no part of what a run is."""
    whole = run(recipe, run_dir=str(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        interrupt(patch, 4)
        with pytest.raises(Stop):
            run(recipe, ["--data.workers=2"], str(tmp_path / "halted"))
    run(recipe, ["--data.workers=2"], str(tmp_path / "halted"), resume=True)
    assert same(whole, tmp_path / "halted")


def test_a_finished_run_that_is_resumed_stays_as_it_is(recipe, tmp_path):
    folder = run(recipe, run_dir=str(tmp_path / "out"))
    before, table = weights(folder), (folder / "losses.csv").read_bytes()
    done = mmm("run", recipe, "--run_dir", folder, "--resume")
    assert done.status == 0, done.err
    assert (folder / "losses.csv").read_bytes() == table
    assert all(torch.equal(before[n], w) for n, w in weights(folder).items())


def test_more_steps_for_a_finished_run(recipe, tmp_path):
    folder = run(recipe, run_dir=str(tmp_path / "out"))
    run(recipe, [f"--trainer.max_steps={STEPS + 2}"], str(folder), resume=True)
    assert [step for step, _, _ in losses(folder / "losses.csv")["text/TokenIds"]] == list(range(1, STEPS + 3))


@pytest.mark.parametrize("there", [False, True])
def test_resuming_what_never_began_begins_it(recipe, tmp_path, there, caplog):
    if there:
        (tmp_path / "out").mkdir()
    folder = run(recipe, run_dir=str(tmp_path / "out"), resume=True)
    assert caplog.text.count("there is no checkpoint to go on from") == 1
    assert same(folder, run(recipe, run_dir=str(tmp_path / "other")))


def test_resuming_before_the_first_checkpoint_begins_anew(recipe, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt(patch, 2)
        with pytest.raises(Stop):
            run(recipe, run_dir=str(tmp_path / "out"), checkpoint_every=3)
    folder = run(recipe, run_dir=str(tmp_path / "out"), resume=True)
    assert same(folder, run(recipe, run_dir=str(tmp_path / "other")))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--model.encoder.init_args.depth=2", "model.encoder.init_args.depth was 1 and is 2"),
        ("--model.encoder.init_args.dropout=0.2", "model.encoder.init_args.dropout was 0.1 and is 0.2"),
        ("--data.tokens_per_batch=300", "data.tokens_per_batch was 256 and is 300"),
        ("--seed=1", "seed was 0 and is 1"),
    ],
)
def test_a_changed_recipe_is_refused(recipe, tmp_path, monkeypatch, word, said):
    folder = tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupt(patch, 4)
        with pytest.raises(Stop):
            run(recipe, run_dir=str(folder))
    before = (folder / "recipe.yaml").read_text()
    message = refused(recipe, "--run_dir", folder, "--resume", word)
    assert said in message
    assert str(folder) in message
    assert (folder / "recipe.yaml").read_text() == before
    run(recipe, run_dir=str(folder), resume=True)


def test_a_changed_recipe_before_the_first_checkpoint_is_not_mixed_with_the_old_one(recipe, tmp_path, monkeypatch):
    """Nothing fitted for another recipe is taken over: it is refused, or fitted anew."""
    folder, word = tmp_path / "out", "--model.modalities.text.init_args.vocabulary=280"
    with monkeypatch.context() as patch:
        interrupt(patch, 1)
        with pytest.raises(Stop):
            run(recipe, run_dir=str(folder))
    done = mmm("run", recipe, "--run_dir", folder, "--resume", word)
    if done.status:
        assert "vocabulary was 270 and is 280" in done.err
    else:
        assert same(folder, run(recipe, [word], str(tmp_path / "other")))


def told_to_stop(monkeypatch: pytest.MonkeyPatch, number: int, where: str) -> None:
    """Let every run be sent a signal: in its third step, or while the records after that are read."""
    if where == "step":
        step = Training.training_step

        def training_step(self, batch, batch_idx):
            if self.global_step + 1 == 3:
                os.kill(os.getpid(), number)
            return step(self, batch, batch_idx)

        monkeypatch.setattr(Training, "training_step", training_step)
    else:
        read, calls = Steps.batch, count(1)

        def batch(self, plan):
            if next(calls) == 4:
                os.kill(os.getpid(), number)
            return read(self, plan)

        monkeypatch.setattr(Steps, "batch", batch)


@pytest.mark.parametrize("where", ["step", "data"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_stop_saves_its_last_step(recipe, tmp_path, monkeypatch, number, where):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        told_to_stop(patch, number, where)
        done = mmm("run", recipe, "--run_dir", tmp_path / "out", "--checkpoint_every", 100)
    assert done.status == 130, done.err
    assert "Traceback" not in done.err
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    taken = newest(tmp_path / "out")
    assert taken is not None
    assert taken.name in (["step-3.ckpt"] if where == "step" else ["step-2.ckpt", "step-3.ckpt"])
    assert mmm("run", recipe, "--run_dir", tmp_path / "out", "--resume", "--checkpoint_every", 100).status == 0
    assert same(run(recipe, run_dir=str(tmp_path / "whole")), tmp_path / "out")


def test_a_run_that_is_stopped_by_its_time_is_saved(recipe, tmp_path):
    words = ["--trainer.max_steps=100000", "--trainer.max_time=00:00:00:01"]
    folder = run(recipe, words, str(tmp_path / "out"))
    (steps,) = (values["steps"] for values in [json.loads((folder / "summary.json").read_text())])
    assert newest(folder).name == f"step-{steps}.ckpt"


def test_a_report_that_was_not_written_is_made_up_for(recipe, tmp_path):
    whole = run(recipe, run_dir=str(tmp_path / "whole"), checkpoint_every=2)
    folder = run(recipe, run_dir=str(tmp_path / "out"), checkpoint_every=2)
    for name in ("report.html", "summary.json"):
        (folder / name).unlink()
    assert mmm("run", recipe, "--run_dir", folder, "--resume", "--checkpoint_every", 2).status == 0
    assert same(whole, folder)
    assert {p.name for p in folder.iterdir()} == FILES


def test_fewer_steps_than_are_taken_are_refused(recipe, tmp_path):
    folder = run(recipe, run_dir=str(tmp_path / "out"))
    before = (folder / "recipe.yaml").read_text()
    message = refused(recipe, "--run_dir", folder, "--resume", "--trainer.max_steps", 3)
    assert f"step {STEPS} is taken already, and trainer.max_steps is 3" in message
    assert (folder / "recipe.yaml").read_text() == before


@pytest.mark.skipif(mmm_run.fcntl is None, reason="this system has no such locks")
def test_a_folder_is_one_runs_at_a_time(recipe, tmp_path):
    with mmm_run._alone(tmp_path / "out"):
        assert "another run writes there now" in refused(recipe, "--run_dir", tmp_path / "out")
        assert tree(tmp_path / "out") == set()
    assert mmm("run", recipe, "--run_dir", tmp_path / "out").status == 0


@pytest.mark.parametrize("names", [["checkpoints/epoch=3.ckpt"], ["assets/logo.png"], ["recipe.yaml", "checkpoints/best.ckpt"]])
@pytest.mark.parametrize("words", [[], ["--resume"]])
def test_folders_of_other_tools_with_names_like_ours_are_left_alone(recipe, tmp_path, names, words):
    for name in names:
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text("mine")
    before = tree(tmp_path / "out")
    assert "no checkpoint of a run" in refused(recipe, "--run_dir", tmp_path / "out", *words)
    assert tree(tmp_path / "out") == before


def test_data_may_move_between_two_parts_of_a_run(base, files, tmp_path, monkeypatch):
    """What they hold is compared, not where they lie."""
    whole = run(save(tmp_path / "tiny.yaml", base), run_dir=str(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        interrupt(patch, 4)
        with pytest.raises(Stop):
            run(save(tmp_path / "tiny.yaml", base), run_dir=str(tmp_path / "out"))
    moved = copy.deepcopy(base)
    for name in ("text", "protein"):
        pattern = Path(files[name])
        shutil.copytree(pattern.parent, tmp_path / "elsewhere" / name)
        moved["data"]["files"][name] = str(tmp_path / "elsewhere" / name / pattern.name)
    (tmp_path / "out" / "recipe.yaml").unlink()  # the checkpoint holds it, too
    assert "seed was 0 and is 1" in refused(
        save(tmp_path / "moved.yaml", moved), "--run_dir", tmp_path / "out", "--resume", "--seed=1"
    )
    run(save(tmp_path / "moved.yaml", moved), run_dir=str(tmp_path / "out"), resume=True)
    assert same(whole, tmp_path / "out")


def test_checkpoints_of_other_names_are_passed_over(recipe, tmp_path):
    folder = run(recipe, run_dir=str(tmp_path / "out"))
    shutil.copy(newest(folder), folder / "checkpoints" / "step-best.ckpt")
    run(recipe, [f"--trainer.max_steps={STEPS + 2}"], str(folder), resume=True)
    assert (folder / "checkpoints" / "step-best.ckpt").exists()


@pytest.mark.parametrize("name", ["../../../pwned.txt", "/tmp/pwned.txt"])
def test_a_checkpoint_writes_nothing_outside_the_runs_folder(recipe, tmp_path, name):
    folder = run(recipe, run_dir=str(tmp_path / "out"))
    checkpoint = load_checkpoint(newest(folder))
    checkpoint["mmm_assets"]["modalities/text"][name] = torch.zeros(3, dtype=torch.uint8)
    torch.save(checkpoint, tmp_path / "evil.ckpt")
    before = tree(tmp_path)
    message = refused(recipe, "--run_dir", tmp_path / "new", "--init_from", tmp_path / "evil.ckpt")
    assert "lies outside its folder" in message
    assert tree(tmp_path) == before


def test_a_run_that_asks_for_nothing_says_so_and_leaves_the_weights(base, tmp_path, caplog):
    for modality in base["model"]["modalities"].values():
        modality["init_args"]["max_length"] = 4
    base["model"]["objective"]["init_args"]["masking"]["init_args"]["rate"] = 0.15  # none of two tokens
    base["trainer"]["max_steps"] = 2
    folder = run(save(tmp_path / "short.yaml", base), run_dir=str(tmp_path / "out"), checkpoint_every=1)
    first, last = (load_checkpoint(path)["state_dict"] for path in by_step(folder / "checkpoints"))
    assert all(torch.equal(first[name], last[name]) for name in first)
    assert caplog.text.count("asks for nothing") == 1


def test_data_that_are_mended_after_an_error(base, tmp_path):
    """A run that failed before its first step is begun again by the same command, or by --resume as the error says."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "bad.txt").write_bytes(b"\xff\xfe\xfa")
    base["data"]["files"]["text"] = str(tmp_path / "own")
    recipe = save(tmp_path / "tiny.yaml", base)
    assert mmm("run", recipe, "--run_dir", tmp_path / "out").status == 3
    (tmp_path / "own" / "bad.txt").unlink()
    write(tmp_path / "own", ["text"])
    done = mmm("run", recipe, "--run_dir", tmp_path / "out")
    assert done.status == 0, done.err


def test_a_newest_checkpoint_that_is_broken_is_named(recipe, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupt(patch, 5)
        with pytest.raises(Stop):
            run(recipe, run_dir=str(folder))
    path = newest(folder)
    path.write_bytes(path.read_bytes()[:1000])
    said = refused(recipe, "--run_dir", folder, "--resume")
    assert str(path) in said
    path.unlink()
    whole = run(recipe, run_dir=str(tmp_path / "whole"))
    run(recipe, run_dir=str(folder), resume=True)
    assert same(whole, folder), "the one before it is as good"


def test_what_was_half_written_when_a_run_was_killed_does_not_stay(recipe, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupt(patch, 4)
        with pytest.raises(Stop):
            run(recipe, run_dir=str(folder))
    for name in ("checkpoints/step-9.ckpt.part", "checkpoints/step-9.ckptx1y2.part", "losses.csv.part", "summary.json.part"):
        (folder / name).write_bytes(b"half")
    run(recipe, run_dir=str(folder), resume=True)
    assert [p for p in tree(folder) if ".part" in p] == []


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "checkpoints" / "step-1.ckpt"
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"a": torch.zeros(3)}, path)
    good = path.read_bytes()

    def fails(_, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(OSError, match="No space left") as error:
        writer.save_checkpoint({"a": torch.ones(3)}, path)
    assert error.value.filename == str(path)
    assert path.read_bytes() == good
    assert list(path.parent.iterdir()) == [path]


# -- processes -----------------------------------------------------------------------------------------------------------------


def start(*words: Any, **options: Any) -> subprocess.Popen:
    env = {k: v for k, v in os.environ.items() if k not in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "NODE_RANK")}
    command = [sys.executable, "-m", "mmm", "run", *map(str, words)]
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def finish(process: subprocess.Popen, seconds: float = 180) -> Done:
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return Done(process.returncode, out, err)


def test_two_processes_train_one_model(base, tmp_path):
    base["model"]["encoder"]["init_args"]["dropout"] = 0.0  # its noise is each process's own
    recipe = save(tmp_path / "tiny.yaml", base)
    done = finish(start(recipe, "--run_dir", tmp_path / "two", "--devices", 2))
    assert done.status == 0, done.err
    assert done.out.count("report: ") == 1
    assert "Traceback" not in done.err
    one = run(recipe, run_dir=str(tmp_path / "one"))
    close(losses(one / "losses.csv"), losses(tmp_path / "two" / "losses.csv"))
    assert {p.name for p in (tmp_path / "two").iterdir()} == FILES
    assert {p.name for p in tmp_path.iterdir()} == {"one", "two", "tiny.yaml"}
    first, second = weights(one), weights(tmp_path / "two")
    assert first.keys() == second.keys()
    assert all(torch.allclose(first[n], second[n], rtol=1e-4, atol=1e-5) for n in first)
    facts = [yaml.loads((tmp_path / n / "summary.json").read_text(), n) for n in ("one", "two")]
    assert [f["processes"] for f in facts] == [1, 2]
    assert facts[0]["tokens"] == facts[1]["tokens"]
    for name, skill in facts[0]["skill"].items():
        assert facts[1]["skill"][name]["records"] == skill["records"]
        assert facts[1]["skill"][name]["loss"] == pytest.approx(skill["loss"], rel=1e-4)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(base, tmp_path):
    base["trainer"]["max_steps"] = 300
    recipe = save(tmp_path / "tiny.yaml", base)
    words = (recipe, "--run_dir", tmp_path / "killed", "--checkpoint_every", 5)
    process = start(*words, start_new_session=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and newest(tmp_path / "killed") is None:
        time.sleep(0.01)
    time.sleep(0.3)  # anywhere in a step, or in the middle of writing
    os.killpg(process.pid, signal.SIGKILL)
    assert finish(process).status == -signal.SIGKILL
    taken = int(newest(tmp_path / "killed").stem.partition("-")[2])
    assert 0 < taken < 300
    done = finish(start(*words, "--resume"))
    assert done.status == 0, done.err
    assert same(run(recipe, run_dir=str(tmp_path / "whole"), checkpoint_every=5), tmp_path / "killed")
    odd = [p for p in tree(tmp_path / "killed") if re.search(r"(^|/)\.|\.part|\.tmp", p)]
    assert odd == [], "what was half written when it was killed does not stay"
