"""Text out of others' files, on its way to a terminal."""

from __future__ import annotations

CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""What a terminal obeys and does not show; line ends and tabs stay."""


def printable(text: str) -> str:
    """The same, with every control character as its number: a header or a title cannot rename a window or hide a line."""
    return text.translate(CONTROLS)
