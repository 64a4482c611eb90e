"""Read a JSON Lines file of questions; every mistake names the file, the line and what was expected."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tidegate.core.errors import QuestionsInvalidError


def read_rows(path: str, *, evidence: bool) -> list[dict[str, Any]]:
    """Return the rows of a file ('-': stdin); ``evidence``: check that it is a list of ``{"document": ...}``."""
    if path != "-" and not Path(path).is_file():
        raise QuestionsInvalidError(
            f"the file {path} does not exist", next_action="give a JSON Lines file of questions"
        )
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise QuestionsInvalidError(f"{path} is not UTF-8 at byte {error.start}") from error
    rows = [
        _row(line, f"{path} line {number}", evidence)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip()
    ]
    if not rows:
        raise QuestionsInvalidError(f"{path} holds no question")
    return rows


def _row(line: str, where: str, evidence: bool) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise QuestionsInvalidError(f"{where} is not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(row, dict) or not isinstance(row.get("question"), str) or not row["question"].strip():
        raise QuestionsInvalidError(f'{where} has no "question", got {line.strip()[:80]}')
    items = row.get("evidence", [])
    well_formed = isinstance(items, list) and all(
        isinstance(item, dict) and isinstance(item.get("document"), str) for item in items
    )
    if evidence and not well_formed:
        raise QuestionsInvalidError(
            f'{where}: "evidence" must be a list of {{"document": path}}, got {str(items)[:80]}'
        )
    return row
