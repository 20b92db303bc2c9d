"""``mmm eval SOURCE SUITE``. Nothing heavy is imported before the words are understood."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmm.core.errors import BadRecipe


class _List(argparse.Action):
    """Prints the suites and stops."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str):
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(listing())
        parser.exit()


def configure(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of ``mmm eval``."""
    parser.add_argument("source", help="a run folder, a checkpoint, or a pretrained model: whatever mmm.load takes")
    parser.add_argument("suite", help="a suite, as in --list; NAME-v1 for one version; or a .yaml file of your own")
    parser.add_argument("--list", action=_List, help="list the suites and the data they need, and stop")
    parser.add_argument("--data", metavar="PATH", help="the data, where the suite needs one set only")
    parser.add_argument("--out", metavar="DIR", help="where the table goes (default: RUN/eval for a run, else eval/<source>)")
    parser.add_argument("--modality", metavar="NAME", help="of data for which the suite names none")
    parser.epilog = (
        "Data go by their names in the suite, after SOURCE and SUITE: --data.sst2 PATH (a file, a folder or an archive), or "
        "--data.sst2.train FILE --data.sst2.test FILE. Tasks without data are left out, and said."
    )


def main(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Evaluate, print the table and leave it. Returns 0.

    Raises:
        ValueError: with one clear line for whatever the user can mend.
    """
    from .suite import find

    suite = find(args.suite)
    given = _given(rest, suite.name)
    if args.data is not None:
        if len([d for d in suite.data.values() if d.beside is None]) > 1:
            raise BadRecipe(
                f"--data: the suite {suite.name} needs several; say which: --data.{' PATH, --data.'.join(suite.data)} PATH"
            )
        given.setdefault(next(iter(suite.data)), {})[""] = Path(args.data)
    for name, paths in given.items():
        if ("" in paths and len(paths) > 1) or not paths.keys() & {"", "test"} or ("test" in paths) != ("train" in paths):
            raise BadRecipe(f"--data.{name}: give one path, or both --data.{name}.train and --data.{name}.test")
        for path in paths.values():
            if not path.exists():
                raise BadRecipe(f"--data.{name}: {path}: no such file or folder")
    folder = Path(args.out) if args.out else _folder(args.source)
    if folder.exists() and not folder.is_dir():
        raise BadRecipe(f"--out: {folder} is a file; name a folder")
    from .evaluate import evaluate
    from .table import markdown, write

    evaluation = evaluate(args.source, suite, given, args.modality)
    print(markdown(evaluation))
    if not evaluation.done:
        raise BadRecipe(f"no task of the suite {suite.name} could be run; the table says why")
    print(f"table: {write(evaluation, folder)}")
    return 0


def _given(rest: Sequence[str], suite: str) -> dict[str, dict[str, Path]]:
    """``--data.NAME[.train|.test] PATH`` words, by name and side."""
    found: dict[str, dict[str, Path]] = {}
    words = list(rest)
    while words:
        word, equals, value = words.pop(0).partition("=")
        if not word.startswith("--data."):
            raise BadRecipe(f"unknown argument {word!r} of mmm eval; data are given as --data.NAME PATH after {suite}")
        if not equals:
            if not words:
                raise BadRecipe(f"{word}: a path is missing behind it")
            value = words.pop(0)
        name, dot, side = word.removeprefix("--data.").partition(".")
        if dot and side not in ("train", "test"):
            raise BadRecipe(f"{word}: after the name of the data may stand .train or .test")
        if side in found.setdefault(name, {}):
            raise BadRecipe(f"{word} is given twice")
        found[name][side] = Path(value).expanduser()
    return found


def _folder(source: str) -> Path:
    """RUN/eval of a run folder, else a folder here: eval/RUN-step-N of a checkpoint, eval/OWNER-NAME of a hub's model."""
    path = Path(source)
    if path.is_dir() and any((path / "checkpoints").glob("step-*.ckpt")):
        return path / "eval"
    if path.is_file() and path.parent.name == "checkpoints":
        name = f"{path.resolve().parent.parent.name}-{path.stem}"
    else:
        name = path.name if path.exists() else source.replace("/", "-")
    return Path("eval") / (name or "model").replace(":", "-")


def listing() -> str:
    """Every suite: its version, its title, its tasks and what data they need."""
    from mmm.yaml import load

    from .suite import suites

    blocks = []
    for path in suites().values():
        values = load(path)
        lines = [f"{values['name']} (version {values['version']}): {values['title']}"]
        for name, data in values["data"].items():
            if "beside" in data:
                continue
            tasks = ", ".join(
                n for n, t in values["tasks"].items() if name in (t["data"], values["data"][t["data"]].get("beside"))
            )
            card = f" [card {data['card']}]" if data.get("card") else ""
            lines += [f"  --data.{name}{card}: {data['needs']}", f"      {tasks}"]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
