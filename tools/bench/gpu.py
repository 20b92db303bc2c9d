"""Everything on a GPU: first whether it is right there, then how fast, beside the libraries with their fastest attention.

    export PYTHONPATH=.:PEERS  # the top of this repository, and a folder with peers.py (see referee.py)
    python tools/bench/gpu.py [NAME ...] [--device cuda] [--size base|small] [--out table.md]

Right: on equal weights, batches and masks the loss is the library's, and loss and gradients on the device are those of the CPU,
in float32. Fast: training steps in bfloat16, in turn (A B A B), medians; the library plain and compiled, with
flash attention where its package is installed; ours plain and compiled, with the graphs made after the first steps counted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import peers
import torch
import torch._dynamo.utils as dynamo

from tools.bench.referee import WORKLOADS, Peer, Workload, autocast, calls, compare, loss_of

BASE = {
    "TEXT": {"layers": 12, "dim": 768, "heads": 12, "ff": 3072},
    "ESM": {"layers": 12, "dim": 480, "heads": 20, "ff": 1920},
    "AUDIO": {"layers": 12, "dim": 768, "heads": 12, "ff": 3072},
}
BASE_MAE = {"dim": 768, "heads": 12, "layers": 12, "ddim": 512, "dheads": 16, "dlayers": 8}
BATCH = {
    "text": 128,
    "text_50k": 128,
    "protein": 64,
    "mae_tiny": 256,
    "mae_cifar": 1024,
    "beit": 128,
    "simmim": 128,
    "hubert": 16,
}
"""Records a batch at the size ``base``; those of the peers at ``small``."""


@contextlib.contextmanager
def sized(size: str) -> Iterator[None]:
    """The peers' shapes, and ours with them: the papers' base models, or small ones."""
    with contextlib.ExitStack() as stack:
        if size == "base":
            for name, shape in BASE.items():
                stack.enter_context(mock.patch.dict(getattr(peers, name), shape))
            for shape in peers.MAE.values():
                stack.enter_context(mock.patch.dict(shape, BASE_MAE))
        yield


def moved(value: Any, device: str) -> Any:
    """A peer's batch on a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, (tuple, list)):
        return type(value)(moved(v, device) for v in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{f.name: moved(getattr(value, f.name), device) for f in dataclasses.fields(value)})
    return value


# -- right? --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """Relative differences in float32: of our loss from the library's, and of loss and gradients between device and CPU."""

    library: float
    loss: float
    gradient: float

    @property
    def holds(self) -> bool:
        return self.library < 1e-5 and self.loss < 1e-4 and self.gradient < 1e-3


def agreement(work: Workload, device: str) -> Agreement:
    """One small batch, on the CPU and on the device."""
    ours, theirs = compare(work, batch=2).losses
    torch.manual_seed(0)
    training = work.make()
    ((tokens, views),) = work.looks(training, Peer.of(work.peer, 0, 1, 2).batches, 0)
    here = _learned(training, tokens, views)
    there = _learned(training.to(device), tokens.to(device), [view.to(device) for view in views])
    loss, norm = (float(h[0]) for h in (here, there)), sum(float(g.square().sum()) for g in here[1].values()) ** 0.5
    apart = sum(float((there[1][n].cpu() - g).square().sum()) for n, g in here[1].items()) ** 0.5
    first, second = loss
    return Agreement(abs(ours / theirs - 1), abs(second / first - 1), apart / norm)


def _learned(training: Any, tokens: Any, views: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    training.zero_grad()
    loss = loss_of(training, tokens, views)
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in training.named_parameters() if p.grad is not None}


# -- fast? ---------------------------------------------------------------------------------------------------------------------


@dataclass
class Case:
    """A training step, what it is called, and the useful tokens of it."""

    name: str
    step: Callable[[], Any]
    tokens: float
    seconds: list[float] = dataclasses.field(default_factory=list)
    peak: float = float("nan")  # bytes above what stood before the step
    graphs: int = 0  # made after the first steps

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def library(work: Workload, device: str, batch: int | None, n_batches: int, compiled: bool, attention: str) -> Case:
    """The peer on the device."""
    with mock.patch.dict(peers.PEERS, {work.peer: _attending(peers.PEERS[work.peer], attention)}):
        theirs = Peer.of(work.peer, 0, n_batches, batch)
    model = theirs.model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    net: Any = torch.compile(model) if compiled else model
    turn = itertools.cycle([moved(b, device) for b in theirs.batches])

    def step() -> None:
        with autocast("bf16", device):
            loss = theirs.loss(net, next(turn))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    named = ", ".join(filter(None, (work.peer, attention, "compiled" if compiled else "")))
    return Case(named, step, theirs.useful / n_batches)


def _attending(make: Callable[..., Any], attention: str) -> Callable[..., Any]:
    """A peer with this attention, where it lets one choose."""
    return (lambda **named: make(attn=attention, **named)) if attention else make


def ours(work: Workload, device: str, batch: int | None, n_batches: int, compiled: bool) -> Case:
    """mmm on the device."""
    theirs = Peer.of(work.peer, 0, n_batches, batch)
    torch.manual_seed(0)
    training = work.make()
    looks = work.looks(training, theirs.batches, 0)
    step, _ = calls(training, looks, "bf16", compiled, device)
    return Case("mmm, compiled" if compiled else "mmm", step, theirs.useful / n_batches)


def timed(cases: list[Case], device: str, repeats: int, steps: int) -> None:
    """All in turn, after some steps that are not counted. Fills in seconds a step, memory and graphs."""
    for case in cases:
        for _ in range(steps):
            case.step()
        before = dynamo.counters["stats"]["unique_graphs"]
        _wait(device)
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats()
            standing = torch.cuda.memory_allocated()
        for _ in range(steps):
            case.step()
        if device != "cpu":
            case.peak = torch.cuda.max_memory_allocated() - standing
        case.graphs = dynamo.counters["stats"]["unique_graphs"] - before
    for case in [*cases] * repeats:
        _wait(device)
        start = time.perf_counter()
        for _ in range(steps):
            case.step()
        _wait(device)
        case.seconds.append((time.perf_counter() - start) / steps)


def _wait(device: str) -> None:
    if device != "cpu":
        torch.accelerator.synchronize()


def checked(chosen: dict[str, Workload], device: str) -> tuple[list[str], bool]:
    """The table of what is right, and whether all is."""
    lines = ["| workload | loss, from the library's | loss, from the CPU's | gradient | right |", "|---|--:|--:|--:|---|"]
    right = True
    for name, work in chosen.items():
        found = agreement(work, device)
        right &= found.holds
        verdict = "yes" if found.holds else "NO"
        lines.append(f"| {name} | {found.library:.1e} | {found.loss:.1e} | {found.gradient:.1e} | {verdict} |")
    return lines, right


def raced(name: str, device: str, batch: int | None, repeats: int, steps: int, compiled: bool) -> list[str]:
    """Lines of the table of what is fast: one workload's."""
    work, attentions = WORKLOADS[name], ["sdpa"]
    if device != "cpu" and importlib.util.find_spec("flash_attn"):
        attentions.append("flash_attention_2")
    if work.peer.startswith("timm"):  # chooses by itself
        attentions = [""]
    both = (False, True) if compiled else (False,)
    cases, lines = [], []
    for attention, compile_ in itertools.product(attentions, both):
        try:
            case = library(work, device, batch, 2, compile_, attention)
            case.step()
            cases.append(case)
        except Exception as error:  # whatever a library raises that cannot run here: said, not hidden
            lines.append(f"| {name} | {work.peer}, {attention}: {type(error).__name__}: {str(error)[:120]} | | | | | |")
    cases += [ours(work, device, batch, 2, compile_) for compile_ in both]
    timed(cases, device, repeats, steps)
    for case in cases:
        lines.append(
            f"| {name} | {case.name} | {1000 * case.median:.1f} | {case.tokens / case.median:,.0f} | "
            f"{cases[0].median / case.median:.2f} | {case.peak / 2**20:.0f} | {case.graphs} |"
        )
    torch.compiler.reset()
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; 1 where something is not right."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="Right and fast on a GPU, beside the libraries.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(WORKLOADS)}; all by default")
    parser.add_argument("--device", default="cuda" if gpu else "cpu")
    parser.add_argument("--size", choices=("base", "small"), default="base" if gpu else "small")
    parser.add_argument("--batch", type=int, help="records a batch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--no-compile", action="store_true", help="leave the compiled cases out")
    parser.add_argument("--out", type=Path, help="write the tables there, too")
    args = parser.parse_args(arguments)
    names = args.names or [*WORKLOADS]
    table, right = checked({name: WORKLOADS[name] for name in names}, args.device)
    lines = [f"{_called(args.device)}, torch {torch.__version__}, size {args.size}", "", *table, ""]
    lines += [
        "| workload | case | ms a step | useful tokens/s | ratio | peak MB | later graphs |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    print("\n".join(lines), flush=True)
    with sized(args.size):
        for name in names:
            batch = args.batch or (BATCH[name] if args.size == "base" else None)
            found = raced(name, args.device, batch, args.repeats, args.steps, not args.no_compile)
            print("\n".join(found), flush=True)
            lines += found
    if args.out:
        args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0 if right else 1


def _called(device: str) -> str:
    return torch.cuda.get_device_name() if device != "cpu" else f"CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    sys.exit(main())
