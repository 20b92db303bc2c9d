"""What is installed, whether it meets the floors, and whose script ``lightning`` is."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from . import plugins

FLOORS = {
    "torch": "2.10",
    "lightning": "2.6.6",
    "transformers": "5.3",
    "timm": "1.0",
    "torchaudio": "2.10",
    "einops": "0.8",
    "fair-esm": "2.0",
    "jsonargparse": "4.53",
    "tokenizers": "0.22",
    "soundfile": "0.13",
}
MALWARE = {"lightning": ("2.6.2", "2.6.3")}


def doctor() -> int:
    """Print the state of the installation. Returns 0 where all is well, 1 where something must be mended."""
    from packaging.version import Version

    faults = 0
    print(f"python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores")
    for package, floor in FLOORS.items():
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            print(f"  {package:<13} missing, needs >= {floor}")
            faults += 1
            continue
        verdict = "ok" if Version(version.partition("+")[0]) >= Version(floor) else f"too old, needs >= {floor}"
        if version in MALWARE.get(package, ()):
            verdict = "MALWARE RELEASE: uninstall it and change your credentials"
        faults += verdict != "ok"
        print(f"  {package:<13} {version:<12} {verdict}")
    if importlib.util.find_spec("esm") and importlib.util.find_spec("esm.data") is None:
        print("  esm           another package owns the import name `esm`; fair-esm cannot be used beside it")
        faults += 1
    print(_lightning_script())
    for line, well in _plugins():
        print(line)
        faults += not well
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    print(f"disk: {free:.0f} GiB free here")
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        print(f"launcher: WORLD_SIZE={os.environ['WORLD_SIZE']}; give as many --devices")
    print("all well" if not faults else f"{faults} to mend")
    return int(bool(faults))


def _plugins() -> Iterator[tuple[str, bool]]:
    """(a line, whether all is well) on every plugin, and one on their names where two of them clash."""
    wrong = plugins.faults()
    for point in sorted(importlib.metadata.entry_points(group=plugins.GROUP), key=lambda p: p.name):
        distribution = point.dist.name if point.dist else point.value
        mend = f"reinstall or remove {distribution}; whatever does not name it runs all the same"
        try:
            point.load()
            for module in _modules(point):
                importlib.import_module(module)
        except (Exception, SystemExit) as error:
            yield f"plugin {point.name}: cannot be imported ({error!r}); {mend}", False
            continue
        fault = wrong.get(distribution)
        yield (f"plugin {point.name}: {fault}; {mend}", False) if fault else (f"plugin {point.name}: ok ({distribution})", True)
    try:
        plugins.index()
    except ValueError as error:
        yield f"plugins: {error}; no recipe can be read until one of them is removed: pip uninstall", False


def _modules(point: importlib.metadata.EntryPoint) -> list[str]:
    """What a recipe would import of a plugin: the modules of the classes that can be named."""
    try:
        entries = [e for e in plugins.index().values() if point.dist and plugins.same(e.distribution, point.dist.name)]
    except ValueError:
        entries = []
    return sorted({e.module for e in entries})


def _lightning_script() -> str:
    """Whose file the ``lightning`` beside this Python is: this package and lightning-sdk both install one."""
    script = Path(sys.executable).parent / "lightning"
    if not script.exists():
        return "lightning: no such command beside this Python; `mmm run` and `python -m mmm run` work"
    owner = "mmm" if "mmm.cli" in script.read_text(errors="replace") else "another package (lightning-sdk?)"
    note = "" if owner == "mmm" else "; reinstall mmm-pretrain to have `lightning run`, or use `mmm run`"
    return f"lightning: {script} belongs to {owner}{note}"
