"""Plugins that are installed for a test, beside the environment that the tests run in."""

import importlib.util
import inspect
import itertools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmm import plugins


def forget() -> None:
    """Look at what is installed once more."""
    importlib.invalidate_caches()
    plugins.index.cache_clear()
    plugins._scanned.cache_clear()


@contextmanager
def importable(*places: Path, package: str) -> Iterator[None]:
    """Within the block, these folders are on the path, and what they declare is found; afterwards nothing of it is left."""
    before = list(sys.path)
    sys.path[:0] = map(str, places)
    forget()
    try:
        yield
    finally:
        sys.path[:] = before
        for module in [m for m in sys.modules if m == package or m.startswith(f"{package}.")]:
            del sys.modules[module]
        forget()


def pip_install(folder: Path, site: Path) -> None:
    """``pip install --no-deps -e FOLDER``, offline, into a folder of its own."""
    words = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "-q", "--target", str(site)]
    done = subprocess.run([sys.executable, "-m", "pip", "install", *words, "-e", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def run_tests(path: Path, folder: Path, but: str) -> list[str]:
    """Run the test functions of a file here, with their parameters; another pytest would take seconds to import torch.

    Args:
        path: the file. folder: for those that take ``tmp_path``. but: the one that is left out.

    Returns:
        The names of those that ran.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ran = []
    for name, function in vars(module).items():
        if not name.startswith("test_") or name == but:
            continue
        marks = [m for m in getattr(function, "pytestmark", []) if m.name == "parametrize"]
        names = [n for m in marks for n in ([m.args[0]] if isinstance(m.args[0], str) else m.args[0])]
        choices = [[v if isinstance(v, tuple) else (v,) for v in m.args[1]] for m in marks]
        for chosen in itertools.product(*choices):
            words = dict(zip(names, itertools.chain(*chosen), strict=True))
            if "tmp_path" in inspect.signature(function).parameters:
                words["tmp_path"] = folder / f"{name}{len(ran)}"
                words["tmp_path"].mkdir(parents=True)
            function(**words)
            ran.append(name)
    return ran


def declare(site: Path, distribution: str, package: str) -> None:
    """What an installer leaves of a plugin: its name and its entry point."""
    info = site / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[mmm.plugins]\n{package.removeprefix('mmm_')} = {package}\n")
