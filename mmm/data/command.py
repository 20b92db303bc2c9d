"""``mmm data list``, ``show NAME``, ``prepare NAME ...`` and ``verify NAME ...``. Nothing here needs torch."""

from __future__ import annotations

import argparse
import logging
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping

from mmm.core.errors import BadRecipe
from mmm.data.cards import Card, find_cards, load_card
from mmm.data.printable import printable

log = logging.getLogger("mmm")


def configure(parser: argparse.ArgumentParser) -> None:
    """Give a parser the actions of ``mmm data``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="every data card, in a line", description="Every data card, in a line.")
    for action, text in (
        ("show", "all that cards say"),
        ("prepare", "make the data of cards here, or say how to get them"),
        ("verify", "check the data of cards against their sha256"),
    ):
        sub = actions.add_parser(action, help=text, description=f"{text.capitalize()}.")
        # The type is checked first and knows the nearest name; the choices are what a shell completes.
        sub.add_argument("names", nargs="+", metavar="NAME", type=_known, choices=list(find_cards()), help="a data card")
        if action == "prepare":
            sub.add_argument("--again", action="store_true", help="make the data anew, in place of those that are there")


def main(args: argparse.Namespace) -> int:
    """Do what was asked.

    Returns:
        0; 1 where data could not be prepared or verified.

    Raises:
        BadRecipe: a card that is named does not follow the schema.
    """
    if args.action == "list":
        _list(list(_readable()))
        return 0
    cards = [load_card(name) for name in args.names]
    if args.action == "show":
        print(printable("\n\n".join(map(_described, cards))))
        return 0
    if args.action == "prepare":
        return max(_prepare(card, args.again) for card in cards)
    return max(map(_verify, cards))


def _known(name: str) -> str:
    try:
        load_card(name)
    except BadRecipe as error:
        raise argparse.ArgumentTypeError(printable(str(error))) from None
    return name


def _readable() -> Iterator[Card]:
    """Every card but the faulty ones, which are said aloud: what one package brings does not hold up the others."""
    for name in find_cards():
        try:
            yield load_card(name)
        except BadRecipe as error:
            log.warning("left out: %s", error)


def _list(cards: list[Card]) -> None:
    """A table for people; columns parted by tabs where the output goes into a file or a pipe."""
    columns = ("name", "modality", "records", "data", "title", "licence")
    cells = [(c.name, c.modality, _count(c.size["records"]), _state(c), c.title, c.licence.split(";")[0]) for c in cards]
    rows = [tuple(map(printable, row)) for row in cells]
    if not sys.stdout.isatty():
        print("\n".join("\t".join(row) for row in [columns, *rows]))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*columns, header_style="bold")
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)


def _described(card: Card) -> str:
    """A card as text: its name and title, then every field."""
    fields: dict[str, str | Mapping[str, str]] = {
        "modality": card.modality,
        "source": card.source,
        "licence": card.licence,
        "size": {key: _count(number) for key, number in card.size.items()},
        "splits": card.splits,
        "files": {split: ", ".join(globs) for split, globs in card.files_of.items()},
        "preprocessing": card.preprocessing,
        "intended use": card.intended_use,
        "known limits": card.known_limits,
        "checksum": {**card.archives, **card.checksum},
        "checksum note": card.checksum_note,
        "folder": f"{card.root()} ({_state(card)})",
        "prepare": f"mmm data prepare {card.name}" if card.preparer else card.manual or "",
        "card": str(card.path),
    }
    lines = [f"{card.name}: {card.title}"]
    for key, value in fields.items():
        text = value if isinstance(value, str) else "\n".join(f"{k}: {v}" for k, v in value.items())
        if text:
            wide = key in ("prepare", "checksum", "files")  # commands and paths stay in one piece
            text = text if wide else "\n".join(textwrap.fill(line, 100) for line in text.splitlines())
            lines += [f"\n{key}", textwrap.indent(text, "  ")]
    return "\n".join(lines)


def _prepare(card: Card, again: bool) -> int:
    start = time.monotonic()
    try:
        summary = card.prepare(again)
    except BadRecipe as error:
        print(printable(str(error)), file=sys.stderr)
        return 1
    print(f"{card.name}: {summary} ({time.monotonic() - start:.1f} s)")
    return 0


def _verify(card: Card) -> int:
    problems = card.verify()
    for problem in problems:
        print(printable(f"{card.name}: {problem}"), file=sys.stderr)
    if not problems:
        print(f"{card.name}: " + ("as the card says" if card.checksum else f"no fault found; {card.checksum_note}"))
    return 1 if problems else 0


def _state(card: Card) -> str:
    return "here" if card.prepared() else "can be made here" if card.preparer else "by hand"


def _count(number: float | str) -> str:
    return number if isinstance(number, str) else f"{number:,}"
