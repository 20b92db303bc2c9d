"""What whole runs promise: resumed, they go on to the same bits; two processes train one model; what is trained loads.

Shape suffixes: none.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import torch

from mmm.yaml import dump

from .cases import ENCODER, Case, Samples

STEPS, EVERY = 6, 2
LAUNCHER = ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
"""What a launcher sets, under which this process may run itself."""

WORDS = """The encoder is shared by all, and every record is a segment of its own.
A mask hides a token; what stood there is asked, and nothing else.
Batches are packed, never padded, so no step depends on a neighbour.
One seed, one run: a record has its mask by its name and its epoch.
What is resumed goes on as if nothing had happened in between.
Two processes share a step, and count what they have in common.
Text and whatever a plugin adds stand side by side on one axis.
A modality tells its tokens apart by their places, or by nothing.
Some batches lack a modality; its parameters then stay as they are.
The report says how much better than a blind guess the answers are."""


def tiny_recipe(case: Case, found: Samples, targets: Any, folder: Path, longest: int) -> Path:
    """Write a recipe that mixes a modality with text, under a masking that knows neither; a run of it takes seconds.

    Args:
        case: the modality. found: its records. targets: what is predicted of it.
        folder: where the recipe, and a file of text, are written. longest: tokens of the longest record.

    Returns:
        The recipe's path.
    """
    text = folder / "words.txt"
    text.write_text("\n\n".join(WORDS.splitlines()), encoding="utf-8")
    files = {case.name: [str(p) for p in found.files], "words": str(text)}
    if case.name == "words":
        raise ValueError("a modality that is called 'words' cannot be mixed with the kit's own; call it by another name")
    values = {
        "seed": 0,
        "model": {
            "modalities": {
                case.name: dict(case.spec),
                "words": {"class_path": "Text", "init_args": {"vocabulary": 270, "max_length": 24, "record_words": 8}},
            },
            "encoder": ENCODER,
            "objective": {
                "class_path": "MaskedModeling",
                "init_args": {
                    "masking": {"class_path": "Span", "init_args": {"rate": 0.3, "mean": 2}},
                    "corruption": "MaskVector",
                    "targets": {case.name: targets, "words": "TokenIds"},
                },
            },
        },
        "data": {
            "files": files,
            "test": files if len(found.records) < 50 else {"words": str(text)},  # a few records are too few for a split
            "tokens_per_batch": max(128, 2 * longest),
            "validation": 0.3,
            "validation_records": 16,
        },
        "trainer": {"max_steps": STEPS, "accelerator": "cpu", "precision": "32-true"},
    }
    path = folder / "tiny.yaml"
    path.write_text(dump(values), encoding="utf-8")
    return path


def run_whole(recipe: Path, folder: Path, resume: bool = False) -> None:
    """Run a recipe in silence, with a checkpoint every second step.

    Args:
        recipe: of a few steps. folder: of the run. resume: go on there.
    """
    from mmm.run import run

    with quiet():
        run(str(recipe), run_dir=str(folder), resume=resume, checkpoint_every=EVERY)


def check_resume(recipe: Path, whole: Path, folder: Path) -> None:
    """A run that loses its last steps and is resumed has the losses and the weights of one that was never interrupted.

    Args:
        recipe: of a few steps. whole: a run of it (``run_whole``). folder: for the other.
    """
    from mmm.checkpoint import by_step

    shutil.copytree(whole, folder)
    by_step(folder / "checkpoints")[-1].unlink()
    for made_last in ("report.html", "summary.json"):
        (folder / made_last).unlink()
    run_whole(recipe, folder, resume=True)
    assert (whole / "losses.csv").read_bytes() == (folder / "losses.csv").read_bytes(), (
        f"a resumed run has other losses than one that was not interrupted: {_first_difference(whole, folder)}"
    )
    first, second = _weights(whole), _weights(folder)
    changed = [n for n in first if not torch.equal(first[n], second[n])]
    assert not changed, f"a resumed run has other weights than one that was not interrupted: {', '.join(changed[:3])}"


def check_two_processes(recipe: Path, whole: Path, folder: Path) -> None:
    """Two processes train what one does: as many tokens of each kind in each step, losses equal to a relative 1e-4.

    Args:
        recipe: of a few steps. whole: the run of one process (``run_whole``). folder: for the other.
    """
    shared = {k: v for k, v in os.environ.items() if k not in LAUNCHER and not k.startswith(("SLURM_", "TORCHELASTIC_"))}
    shared |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    shared |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "mmm", "run", str(recipe), "--run_dir", str(folder), "--devices", "2"]
    with tempfile.TemporaryFile("w+") as first, tempfile.TemporaryFile("w+") as second:
        status = _together(line, [({**shared, "LOCAL_RANK": "0"}, first), ({**shared, "LOCAL_RANK": "1"}, second)])
        said = [_last_error(file) for file in (first, second)]
    for code, text in zip(status, said, strict=True):
        assert code <= 0, f"a run on two processes ends with {code}: {text}"
    assert not any(status), "a run on two processes does not end; does a process wait for the other?"
    same_losses(whole, folder)


def same_losses(whole: Path, folder: Path) -> None:
    """Two runs asked as many tokens of each kind in each step, and their losses are equal to a relative 1e-4."""
    from mmm.runlog import losses

    one, two = losses(whole / "losses.csv"), losses(folder / "losses.csv")
    for term, rows in one.items():
        for (step, total, count), (_, other, counted) in zip(rows, two[term], strict=True):
            assert count == counted, f"{term}, step {step}: one process asks {count:g} tokens, two ask {counted:g}"
            assert abs(total - other) <= 1e-4 * max(abs(total), 1), (
                f"{term}, step {step}: the loss is {total:.6g} on one process and {other:.6g} on two"
            )


def check_loads(whole: Path, name: str, raws: Sequence[Any]) -> str:
    """The checkpoint of a run answers without its recipe, and two loaded models answer alike.

    Args:
        whole: the run. name: of the modality. raws: raw values; those that are longer than it reads are left out.
    """
    from mmm.loading import load

    model, again = load(whole), load(whole)
    tokenizer = model.model.modalities[name].tokenizer
    read = [raw for raw in raws if not tokenizer.tokenize(raw).cut]  # type: ignore[operator,union-attr]
    with torch.no_grad():
        for raw, hidden_ND, same_ND in zip(read, model.hidden(read, name), again.hidden(read, name), strict=True):
            length = len(tokenizer.tokenize(raw))  # type: ignore[operator,union-attr]
            assert len(hidden_ND) == length, f"a loaded model answers {len(hidden_ND)} tokens of a record of {length}"
            assert hidden_ND.isfinite().all() and torch.equal(hidden_ND, same_ND), (
                "a model that is loaded twice answers in two ways"
            )
    return f"{len(read)} records asked"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing is written to the terminal, and the global random state is as before."""
    logger, state = logging.getLogger("mmm"), torch.get_rng_state()
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        logger.propagate = propagate
        torch.set_rng_state(state)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    from mmm.checkpoint import load_checkpoint, newest

    state: dict[str, torch.Tensor] = load_checkpoint(newest(folder))["state_dict"]
    return state


def _first_difference(a: Path, b: Path) -> str:
    rows = [(f / "losses.csv").read_text(encoding="utf-8").splitlines() for f in (a, b)]
    return next((f"{x} became {y}" for x, y in zip(*rows, strict=False) if x != y), "one has more steps")


def _together(line: list[str], processes: list[tuple[dict[str, str], IO[str]]]) -> list[int]:
    """Exit statuses of one command in several processes; where one fails, or after ten minutes, the others are stopped."""
    started = [subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=file, env=env) for env, file in processes]
    late = time.monotonic() + 600
    try:
        while any(p.poll() is None for p in started) and not any(p.poll() for p in started) and time.monotonic() < late:
            time.sleep(0.1)
    finally:
        for process in started:
            process.kill()
    return [process.wait() for process in started]


def _last_error(file: IO[str]) -> str:
    file.seek(0)
    lines = [line for line in file.read().splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("mmm: error:")), lines[-1] if lines else "without a word")
