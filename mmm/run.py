"""Training from a recipe, in a run folder."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .core.errors import BadRecipe
from .recipe import Recipe, build, read
from .yaml import dump, load, loads

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from .growth import Growth

log = logging.getLogger("mmm")

LEAVES = {
    *("assets", "checkpoints", "tensorboard", "eval", "step0"),
    *("losses.csv", "predictions.csv", "recipe.yaml", "summary.json", "report.html"),
}
"""What a run leaves in its folder."""
FREE = {"workers", "max_tokens_per_rank"}
"""Of ``data``: what changes no step of a run but by rounding."""


def run(
    path: str,
    overrides: Sequence[str] = (),
    run_dir: str | None = None,
    resume: bool = False,
    devices: int | None = None,
    checkpoint_every: int | None = None,
) -> Path:
    """Train a recipe and leave a run folder. Returns the folder.

    Args:
        path: of the recipe. overrides: ``--a.b.c value`` words.
        run_dir: the run folder; ``runs/<recipe>`` by default. resume: go on from its newest checkpoint.
        devices: processes; one device each. checkpoint_every: steps between checkpoints; a tenth of the run by default.

    Raises:
        ValueError: with one clear line for whatever the user can mend.
    """
    return train(read(path, overrides), path, run_dir, resume, devices, checkpoint_every)


def train(
    recipe: Recipe,
    where: str,
    run_dir: str | None = None,
    resume: bool = False,
    devices: int | None = None,
    checkpoint_every: int | None = None,
    growth: Growth | None = None,
) -> Path:
    """Train a recipe that was read; see ``run``.

    Args:
        where: its file, for errors. growth: watches what becomes of the old modalities, where the run is one.
    """
    folder = Path(run_dir or Path("runs") / recipe.name)
    if devices is not None:
        recipe.values["trainer"]["devices"] = devices
    trainer_values = recipe.values["trainer"]
    trainer_values.setdefault("devices", 1)
    trainer_values.setdefault("accelerator", "auto")
    steps = trainer_values.get("max_steps", -1)
    if not isinstance(steps, int) or steps < 1:
        raise BadRecipe(f"{where}: trainer.max_steps is {steps!r}; a run needs a number of steps, at least 1")
    _check_launcher(trainer_values)
    cli = build(recipe, _trainer_defaults(folder, steps, checkpoint_every or max(1, steps // 10), growth))
    start = None
    if recipe.source is not None:
        from .start import Pretrained

        start = Pretrained.of(recipe.values["init_from"], recipe.source)
    first = int(os.environ.get("LOCAL_RANK", 0)) == 0 and int(os.environ.get("RANK", 0)) == 0
    if first:
        check_free(folder, resume)
    with _alone(folder) if first else nullcontext():
        checkpoint = _claim(folder, recipe, resume, first)
        cli.model.recipe = dump(recipe.values)
        cli.model.start = start if checkpoint is None else None
        try:
            cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=checkpoint, weights_only=True)
        except SystemExit:  # what Lightning makes of an interruption from the keyboard
            raise KeyboardInterrupt from None
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The folder, made where it is not there yet, for one run at a time. Raises BadRecipe where another one writes there."""
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadRecipe(f"{folder}: another run writes there now; name another folder with --run_dir") from None
        except OSError as error:  # of a file system that knows no locks
            log.info("%s cannot be locked (%s): see that no other run writes there", folder, error)
        yield
    finally:
        os.close(handle)


def _claim(folder: Path, recipe: Recipe, resume: bool, first: bool) -> str | None:
    """Make the run folder, or take it up again; only the first process of a run touches it."""
    from .checkpoint import load_checkpoint, newest
    from .core.training import write_assets
    from .runlog import write_whole
    from .sources import assets_of

    if first:
        check_free(folder, resume)  # once more: before the lock, another run may have begun there
    checkpoint = newest(folder)
    if first and checkpoint is None:
        if resume:
            log.warning("%s: there is no checkpoint to go on from; the run begins at its first step", folder)
        if any(folder.iterdir()):
            _clear(folder)
    if resume and checkpoint:
        checkpoint = _to_go_on_from(folder, recipe.values["trainer"]["max_steps"])
    if first and checkpoint:
        for half in folder.rglob("*.part"):  # what a killed process was writing
            shutil.rmtree(half) if half.is_dir() else half.unlink()
        if not (folder / "assets").exists():
            for address, assets in assets_of(load_checkpoint(checkpoint)).items():
                write_assets(folder / "assets" / address, assets)
    if first:
        old = folder / "recipe.yaml"
        if checkpoint:
            before = load(old) if old.exists() else loads(load_checkpoint(checkpoint)["mmm_recipe"], str(checkpoint))
            _same_recipe(folder, before, recipe.values)
        write_whole(old, dump(recipe.values))
    return str(checkpoint) if checkpoint else None


def _to_go_on_from(folder: Path, steps: int) -> Path:
    """The newest checkpoint; where training ended and its report was not written, the one before, whose steps are taken again.

    Raises:
        BadRecipe: the run is further than its last step would be, or there is no such checkpoint.
    """
    from .checkpoint import by_step, step_of

    *before, checkpoint = by_step(folder / "checkpoints")
    if step_of(checkpoint) > steps:
        raise BadRecipe(f"{folder}: step {step_of(checkpoint)} is taken already, and trainer.max_steps is {steps}")
    if step_of(checkpoint) < steps:
        return checkpoint
    if (folder / "summary.json").exists():
        log.info("%s: all %d steps are taken", folder, steps)
        return checkpoint
    if not before:
        raise BadRecipe(
            f"{folder}: its training ended and its report was not written, and there is no earlier checkpoint to take the last "
            f"steps again from; {checkpoint} is whole and can be loaded"
        )
    log.info("%s: its report was not written; the steps after %d are taken again", folder, step_of(before[-1]))
    return before[-1]


def check_free(folder: Path, resume: bool = False) -> None:
    """Raises BadRecipe where a run cannot have this folder: a file is there, or another run that it does not go on with."""
    from .checkpoint import newest

    if folder.exists() and not folder.is_dir():
        raise BadRecipe(f"{folder} is a file; name a folder with --run_dir")
    if resume:
        return
    if newest(folder):
        raise BadRecipe(f"{folder} holds a run already; go on with it by --resume, or name another folder with --run_dir")
    if losses_in(folder):
        raise BadRecipe(
            f"{folder} holds a run that ended before its first checkpoint; begin it anew by --resume, or name another folder "
            "with --run_dir"
        )


def losses_in(folder: Path) -> bool:
    """Whether a step was taken there."""
    table = folder / "losses.csv"
    return table.exists() and len(table.read_text(encoding="utf-8").splitlines()) > 1


def _clear(folder: Path) -> None:
    """Empty the folder of a run that ended before its first checkpoint: nothing of it can be gone on from.

    Raises:
        BadRecipe: it holds what no run of ours leaves, or no recipe, which every run leaves first.
    """
    leaves = sorted(p.name.removesuffix(".part") for p in folder.iterdir())
    strange = [name for name in leaves if name not in LEAVES or "recipe.yaml" not in leaves]
    strange += [f"checkpoints/{p.name}" for p in folder.glob("checkpoints/*") if not p.name.startswith("step-")]
    if strange:
        raise BadRecipe(f"{folder} holds {', '.join(strange)} and no checkpoint of a run; name another folder with --run_dir")
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _same_recipe(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with another model, other data or another seed. Where files lie, and who reads them, is free: training
    records are compared when they are read, and a test set takes no part in a step."""
    from .precision import TRUE

    precisions = [(values.get("trainer") or {}).get("precision") for values in (before, now)]
    if (precisions[0] == TRUE) != (precisions[1] == TRUE):
        raise BadRecipe(
            f"{folder}: it began with trainer.precision {precisions[0]} and cannot go on with {precisions[1]}: "
            f"{TRUE} keeps other weights and another state of the optimiser"
        )
    for part in ("seed", "model", "data"):
        old, new = (_decisive(values.get(part)) if part == "data" else values.get(part) for values in (before, now))
        if old != new:
            changed = ", ".join(_differences(old, new, part)[:5])
            raise BadRecipe(f"{folder}: its recipe differs from this one, so the run cannot go on as it began: {changed}")


def _decisive(data: Any) -> Any:
    """What of ``data`` decides how a run goes on; of files, whose they are."""
    if not isinstance(data, dict):
        return data
    named = {key: sorted(data.get(key) or ()) for key in ("files", "test")}
    return {**{key: value for key, value in data.items() if key not in FREE}, **named, "joint": bool(data.get("joint"))}


def _differences(a: Any, b: Any, path: str) -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for k in sorted({*a, *b}) for d in _differences(a.get(k), b.get(k), f"{path}.{k}")]
    return [] if a == b else [f"{path} was {a!r} and is {b!r}"]


def _check_launcher(trainer: dict[str, Any]) -> None:
    """A launcher started so many processes: the trainer must mean the same number, or each would train a model of its own."""
    launched = int(os.environ.get("WORLD_SIZE", 1))
    devices, nodes = trainer.get("devices", 1), int(trainer.get("num_nodes", 1))
    if isinstance(devices, str) and devices.isdigit():
        devices = int(devices)
    wanted = (len(devices) if isinstance(devices, list) else devices) if not isinstance(devices, str) else None
    if launched > 1 and wanted is not None and wanted * nodes != launched:
        raise BadRecipe(
            f"a launcher started {launched} processes (WORLD_SIZE), but the trainer has {wanted} devices on {nodes} nodes: "
            f"give --devices {launched // max(nodes, 1)}, or start one process without a launcher"
        )


def _trainer_defaults(folder: Path, steps: int, every: int, growth: Growth | None) -> dict[str, Any]:
    from lightning.pytorch.loggers import TensorBoardLogger

    from .checkpoint import AtomicCheckpointIO, Checkpoints
    from .progress import progress
    from .report import Report
    from .runlog import RunLog

    runlog = RunLog()
    return {
        "default_root_dir": str(folder),
        "callbacks": [
            runlog,
            *([growth] if growth else []),
            Report(runlog, growth),
            progress(),
            Checkpoints(folder / "checkpoints", every),
        ],
        "logger": TensorBoardLogger(folder, name="", version="tensorboard"),
        "plugins": [AtomicCheckpointIO()],
        "use_distributed_sampler": False,
        "check_val_every_n_epoch": None,
        "val_check_interval": steps,
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "log_every_n_steps": 10,
    }
