"""How results look on a terminal: aligned tables, wrapped passages, names that cannot break a line."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime

from tidegate.core.errors import one_line


def say(text: str = "") -> None:
    """Print a line of results to stdout."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Print a line for people to stderr, so that stdout stays data."""
    sys.stderr.write(text + "\n")


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows under headings in aligned columns; numbers stand right."""
    cells = [[shown(cell) for cell in row] for row in rows]
    widths = [max(len(heading), *(len(row[at]) for row in cells), 0) for at, heading in enumerate(headings)]
    numeric = [bool(rows) and all(isinstance(row[at], int | float) for row in rows) for at in range(len(headings))]
    lines = [
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in [list(headings), *cells]
    ]
    return "\n".join(lines)


def shown(value: object) -> str:
    """Return a value as one line of printable text: control characters of a file name stand escaped."""
    return one_line(f"{value:.3f}" if isinstance(value, float) else str(value))


def short(digest: str | None) -> str:
    """Return the first 12 digits of a digest, '-' for none."""
    return digest[:12] if digest else "-"


def when(seconds: float | None) -> str:
    """Return a time of the store as UTC text."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}" if seconds else "-"


def passage(text: str, indent: str = "     ", lines: int = 6) -> str:
    """Return a passage wrapped to the terminal, at most ``lines`` lines."""
    width = max(40, min(shutil.get_terminal_size().columns, 110))
    wrapped = [part for line in text.splitlines() if line.strip() for part in textwrap.wrap(line, width - len(indent))]
    kept = wrapped[:lines] + (["…"] if len(wrapped) > lines else [])
    return "\n".join(indent + one_line(line) for line in kept)
