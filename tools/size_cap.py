"""Refuse files over 500 kB: data and weights belong outside the repository."""

from __future__ import annotations

import sys
from pathlib import Path

CAP = 500_000


def main(names: list[str]) -> int:
    """0 where every file is small enough."""
    large = [n for n in names if Path(n).is_file() and Path(n).stat().st_size > CAP]
    for name in large:
        print(f"{name}: {Path(name).stat().st_size:,} bytes, more than {CAP:,}", file=sys.stderr)
    return int(bool(large))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
