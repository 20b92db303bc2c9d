"""How long one waits: for ``import mmm``, for the help, and from a recipe's command to its first training step.

    python tools/bench/start.py [RECIPE ...]     (by default the tiny ones and the quickstart)

Wall clock, the median of five for the first two; a recipe is run once, on data that are made already, and stopped at its first
step. Nothing else should run meanwhile.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMANDS = {"import mmm": ["-c", "import mmm"], "mmm --help": ["-m", "mmm", "--help"], "mmm list": ["-m", "mmm", "list"]}


def waited(words: list[str]) -> float:
    """Seconds of a command."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, check=True)
    return time.perf_counter() - start


def first_step(recipe: Path) -> float:
    """Seconds until a run says its first step. Raises RuntimeError where it ends before."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "mmm", "run", str(recipe), "--run_dir", f"{folder}/run"]
        start = time.perf_counter()
        with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
            assert process.stderr is not None
            said = []
            for line in process.stderr:
                said.append(line)
                if line.startswith("step 1/"):
                    seconds = time.perf_counter() - start
                    process.kill()
                    return seconds
    raise RuntimeError(f"{recipe}: ended before its first step:\n{''.join(said[-5:])}")


def main(words: list[str]) -> None:
    recipes = [Path(w).resolve() for w in words]
    recipes = recipes or [ROOT / "recipes/quickstart.yaml", *sorted((ROOT / "recipes").glob("*/*-tiny.yaml"))]
    for name, command in COMMANDS.items():
        print(f"{name:<40} {statistics.median(waited(command) for _ in range(5)):6.2f} s")
    for recipe in recipes:
        if "round2" not in recipe.name:  # it begins from a run
            print(f"{recipe.relative_to(ROOT)!s:<40} {first_step(recipe):6.2f} s to the first step", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
