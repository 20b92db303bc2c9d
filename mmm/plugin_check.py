"""``mmm plugin check NAME``: the conformance kit over everything that an installed plugin brings, as a report."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from .testing.outcome import Outcome

WIDTH = 20
"""Characters of the longest name of a check."""


def command(name: str, as_json: bool = False) -> int:
    """Check a plugin and print what came of it.

    Args:
        name: of its distribution (``mmm-x``), its entry point or its package. as_json: print JSON, at the end.

    Returns:
        0 where it keeps every promise, 2 where it does not.

    Raises:
        BadRecipe: no such plugin is installed; names those that are.
    """
    from .testing.plugin import examine, find_plugin

    distribution = find_plugin(name)[0].distribution
    logging.getLogger("mmm").setLevel(logging.ERROR)  # what a run says of itself is not asked here
    title = f"{distribution} {importlib.metadata.version(distribution)}"
    console = Console(highlight=False, soft_wrap=True)
    outcomes, part = [], None
    for outcome in examine(name):
        outcomes.append(outcome)
        if as_json:
            continue
        if outcome.part != part:
            part = outcome.part
            console.print(f"{'' if len(outcomes) == 1 else chr(10)}[bold]{title if part == distribution else part}[/bold]")
        for line in _lines(outcome, console.width):
            console.print(line, markup=False, style=None if outcome.ok else "red")
    failed = [o for o in outcomes if not o.ok]
    if as_json:
        print(json.dumps({"plugin": title, "ok": not failed, "checks": list(map(_plain, outcomes))}, indent=2))
    else:
        console.print(f"\n{len(outcomes)} checks, {f'{len(failed)} failed' if failed else 'all ok'}")
    return 2 if failed else 0


def _lines(outcome: Outcome, width: int) -> Iterator[str]:
    """A check in a line; a failure, and how it is mended, below it."""
    yield f"  {'ok' if outcome.ok else 'FAILED':<7} {outcome.check:<{WIDTH}} {outcome.note}".rstrip()
    for label, text in (("", outcome.failure), ("mend: ", outcome.mend)):
        if text:
            yield from textwrap.wrap(text, max(60, width), initial_indent=" " * 10 + label, subsequent_indent=" " * 10)


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "part": outcome.part,
        "check": outcome.check,
        "ok": outcome.ok,
        "note": outcome.note,
        "failure": outcome.failure,
        "mend": outcome.mend,
    }
