"""Markdown tables in passages: where their heads are."""

from __future__ import annotations

import re

TABLE_HEAD = re.compile(r"^[ \t]*\|.*\n[ \t]*\|[ \t:|-]*-[ \t:|-]*$", re.MULTILINE)
"""The names of the columns and the rule below them."""


def body_lines(text: str) -> frozenset[str]:
    """Return the lines of a text that say something of their own: no heads of tables, no blank lines."""
    return frozenset(line for line in TABLE_HEAD.sub("", text).splitlines() if line.strip())
