"""The command line: ``mmm run|grow|check|list|show|masks|export|eval|data|doctor|completion|new|plugin`` and ``lightning run``.

Nothing heavy is imported before a command is known, so help and completion answer at once.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import os
import sys
from collections.abc import Sequence

from .data.printable import printable
from .process import settle

USER, DATA = 2, 3


def parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    top = argparse.ArgumentParser(
        prog="mmm",
        description="Multimodal masked modelling: one shared encoder for text, images, audio, proteins and what a plugin adds.",
    )
    top.add_argument("--version", action="version", version=f"mmm {_version()}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="train a recipe",
        description="Train a recipe in a run folder.",
        epilog="Any key of the recipe can be overridden: --model.encoder.depth 6 --trainer.max_steps 100 "
        "--data.files.text 'corpus/**/*.txt'",
    )
    _recipe(run)
    run.add_argument("--run_dir", metavar="DIR", help="the run folder (default: runs/<recipe>)")
    run.add_argument("--resume", action="store_true", help="go on from the folder's newest checkpoint")
    run.add_argument("--devices", type=_positive, metavar="N", help="train one model on N processes")
    run.add_argument(
        "--checkpoint_every", type=_positive, metavar="STEPS", help="steps between checkpoints (default: a tenth of the run)"
    )
    run.add_argument("--print_config", action="store_true", help="print the resolved recipe and stop")

    grow = commands.add_parser(
        "grow",
        help="add modalities to a trained model",
        description="Add modalities to a trained model. Of each recipe, what it says of NAME is taken (class, masking, "
        "corruption, targets, head, data) and how it trains (optimizer, trainer, seed, batch); encoder and decoder are the "
        "model's. Before the first step, DIR/step0 is written, the grown model as it begins, and the run goes on only where "
        "its outputs for the old modalities are the same bits as before; after the last, the skill of each is measured again.",
        epilog="The run sees the new data alone. Old data are mixed in by naming them: --body 0.1 --data.cards.CARD 1, or "
        "--data.files.text FILES. Any key of the grown recipe can be overridden: --trainer.max_steps 100 --seed 1",
    )
    grow.add_argument("source", metavar="RUN", help="a run folder, a checkpoint, an exported folder, a hub name, ...")
    grow.add_argument(
        "--add", action="append", required=True, metavar="NAME=RECIPE", help="a recipe that describes the modality NAME"
    )
    grow.add_argument(
        "--body",
        default="frozen",
        metavar="FACTOR",
        help="on the learning rate of all the model had, e.g. 0.1 (default: frozen; nothing old changes, to the bit)",
    )
    grow.add_argument(
        "--records",
        action="append",
        default=[],
        metavar="NAME=FILES",
        help="records of an old modality, to prove and measure on (default: the validation data of the run it was learned in)",
    )
    grow.add_argument("--run_dir", metavar="DIR", help="the run folder (default: runs/<RUN>-<NAME>)")
    grow.add_argument("--resume", action="store_true", help="go on from the folder's newest checkpoint")
    grow.add_argument("--devices", type=_positive, metavar="N", help="train one model on N processes")
    grow.add_argument("--checkpoint_every", type=_positive, metavar="STEPS", help="steps between checkpoints")
    grow.add_argument("--print_config", action="store_true", help="print the grown recipe and stop; mmm run takes it, too")

    check = commands.add_parser(
        "check",
        help="parse, resolve and build a recipe without memory or data",
        description="Parse a recipe, resolve its names and build it on the meta device.",
    )
    _recipe(check)

    show_all = commands.add_parser(
        "list", help="recipes and everything a recipe can name", description="List recipes and everything a recipe can name."
    )
    show_all.add_argument(
        "what", nargs="?", help="recipes, modalities, masking, corruptions, targets, objectives, encoders, decoders, optimizers"
    )

    show = commands.add_parser(
        "show",
        help="what a class does and takes",
        description="Show the documentation and the arguments of a class that a recipe can name.",
    )
    show.add_argument("name", help="class name, as in a recipe")

    masks = commands.add_parser(
        "masks", help="audit what a recipe really hides", description="Audit what is really hidden, modality by modality."
    )
    _recipe(masks)
    masks.add_argument("--json", action="store_true", help="print JSON")
    masks.add_argument(
        "--records", type=_positive, default=256, metavar="N", help="records of each modality to look at (default: 256)"
    )

    export = commands.add_parser(
        "export",
        help="write a model for others to use",
        description="Write a model into a new folder, with a model card, and check what was written.",
    )
    export.add_argument(
        "source",
        metavar="SOURCE",
        help="a run folder, a checkpoint, an exported folder, a transformers folder or hub name, a timm model name, ...",
    )
    export.add_argument("--to", required=True, metavar="FORMAT", help="transformers, safetensors, timm or onnx")
    export.add_argument("folder", metavar="DIR", help="the new folder")
    export.add_argument("--modality", metavar="NAME", help="with --to onnx: this one alone (default: all, a folder each)")

    from .evaluation.command import configure as configure_eval

    evaluation = commands.add_parser(
        "eval",
        help="measure a frozen model on a suite of tasks",
        description="Measure a frozen or pretrained model on a suite of tasks, and leave one table.",
    )
    configure_eval(evaluation)

    new = commands.add_parser(
        "new", help="begin a plugin from a template", description="Write a small plugin that works, to make one's own of it."
    )
    new.add_argument("kind", nargs="?", help="what is to be new: modality")
    new.add_argument("name", nargs="?", metavar="NAME", help="what recipes will call it, in snake_case")
    new.add_argument("folder", nargs="?", metavar="DIR", help="an empty or new folder (default: mmm-NAME)")

    plugin = commands.add_parser("plugin", help="check an installed plugin")
    actions = plugin.add_subparsers(dest="action", required=True, metavar="ACTION")
    conform = actions.add_parser(
        "check",
        help="the conformance kit over all it brings",
        description="Run the conformance kit over everything that an installed plugin brings.",
    )
    conform.add_argument("name", metavar="NAME", help="its distribution (mmm-x), or its entry point")
    conform.add_argument("--json", action="store_true", help="print JSON")

    from .data.command import configure

    configure(commands.add_parser("data", help="list, show, prepare and verify data cards"))
    commands.add_parser("doctor", help="report versions, floors, plugins and who owns `lightning`")
    completion = commands.add_parser("completion", help="print a completion script for a shell")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    for command in (run, grow, check, masks, export, evaluation):
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return top


def _positive(word: str) -> int:
    """A whole number of at least 1."""
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{word} is less than 1")
    return number


def _recipe(command: argparse.ArgumentParser) -> None:
    argument = command.add_argument("recipe", help="path of a recipe (YAML)")
    try:
        import shtab

        argument.complete = shtab.FILE  # type: ignore[attr-defined]
    except ImportError:
        pass


def _version() -> str:
    try:
        return importlib.metadata.version("mmm-pretrain")
    except importlib.metadata.PackageNotFoundError:
        return "unknown (not installed)"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0 done, 2 the user can mend it, 3 the data are at fault, 130 interrupted."""
    if argv is None:  # the process is ours
        settle()
    words = list(sys.argv[1:] if argv is None else argv)
    args, rest = parser().parse_known_args(words)
    if rest and args.command not in ("run", "grow", "check", "masks", "eval"):
        parser().error(f"unknown argument {rest[0]!r} of mmm {args.command}")
    if not logging.getLogger("mmm").handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_Printable("%(message)s"))
        logging.getLogger("mmm").addHandler(handler)
        logging.getLogger("mmm").setLevel(logging.INFO)
    try:
        status = _command(args, rest)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever was reading has read enough
        sys.stdout = None
        return 0
    except _mendable() as error:
        if getattr(args, "debug", False):
            raise
        from .core.errors import BadRecord

        print(f"mmm: error: {printable(_sentence(error))}", file=sys.stderr)
        return DATA if isinstance(error, BadRecord) else USER
    except KeyboardInterrupt:
        hint = "; the same command with --resume goes on with it" if args.command in ("run", "grow") else ""
        print(f"mmm: interrupted{hint}", file=sys.stderr)
        return 130


class _Printable(logging.Formatter):
    """Lines of the log, which quote what stands in files."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _mendable() -> tuple[type[Exception], ...]:
    """What is told in a sentence: our own, the system's, and Lightning's of arguments that do not go together, where it was
    imported."""
    exceptions = sys.modules.get("lightning.fabric.utilities.exceptions")
    return (ValueError, OSError, *(() if exceptions is None else (exceptions.MisconfigurationException,)))


def _sentence(error: Exception) -> str:
    """An error in one line, without the number that the system has for it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _command(args: argparse.Namespace, rest: list[str]) -> int:
    if rest and args.command != "eval":
        from .overrides import check_keys

        check_keys(rest, [name for name in vars(args) if name not in ("command", "recipe", "source")])
    if args.command == "run":
        from .recipe import read
        from .yaml import dump

        if args.print_config:
            print(dump(read(args.recipe, rest).values), end="")
            return 0
        from .run import run

        folder = run(args.recipe, rest, args.run_dir, args.resume, args.devices, args.checkpoint_every)
        if int(os.environ.get("LOCAL_RANK", 0)) == 0:
            print(f"report: {folder / 'report.html'}")
        return 0
    if args.command == "grow":
        from .grow import compose, grow, report
        from .yaml import dump

        if args.print_config:
            print(dump(compose(args.source, args.add, rest, args.body).values), end="")
            return 0
        folder = grow(
            *(args.source, args.add, rest, args.body, args.records),
            *(args.run_dir, args.resume, args.devices, args.checkpoint_every),
        )
        if int(os.environ.get("LOCAL_RANK", 0)) == 0:
            print(report(folder))
        return 0
    if args.command == "check":
        from .check import check

        print(check(args.recipe, rest))
        return 0
    if args.command == "masks":
        from .masks import command as masks

        return masks(args.recipe, rest, args.json, args.records)
    if args.command == "new":
        from .new import new

        print(new(args.kind, args.name, args.folder))
        return 0
    if args.command == "plugin":
        from .plugin_check import command as conform

        return conform(args.name, args.json)
    if args.command == "data":
        from .data.command import main as data

        return data(args)
    if args.command == "export":
        from .export import export

        print(*export(args.source, args.to, args.folder, args.modality), sep="\n")
        return 0
    if args.command == "eval":
        from .evaluation.command import main as evaluate

        return evaluate(args, rest)
    if args.command == "list":
        from .catalogue import listing

        print(listing(args.what))
        return 0
    if args.command == "show":
        from .catalogue import describe

        print(describe(args.name))
        return 0
    if args.command == "doctor":
        from .doctor import doctor

        return doctor()
    import shtab

    print(shtab.complete(parser(), args.shell))
    return 0


def lightning(argv: Sequence[str] | None = None) -> int:
    """The ``lightning`` command: ``run`` is ours; every other word goes to lightning-sdk where that is installed."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["run"]:
        if argv is None:
            settle()
        return main(words)
    sdk = [
        p
        for p in importlib.metadata.entry_points(group="console_scripts", name="lightning")
        if p.value.startswith("lightning_sdk")
    ]
    if sdk:
        return int(sdk[0].load()() or 0)
    if not words or words[0] in ("-h", "--help"):
        print("usage: lightning run RECIPE [...]\n\nTrains a recipe exactly as `mmm run` does; see `mmm run --help`.")
        return 0
    print(
        f"lightning: {words[0]!r} is no command here; `lightning run RECIPE` is, the others come with lightning-sdk",
        file=sys.stderr,
    )
    return USER


if __name__ == "__main__":
    sys.exit(main())
