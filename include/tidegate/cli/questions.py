"""Read a JSON Lines file of questions; every mistake names the file, the line and what was expected."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from tidegate.core.errors import QuestionsInvalidError

_SHOWN = 80


def read_rows(path: str, *, evidence: bool) -> list[dict[str, Any]]:
    """Return the rows of a file ('-': stdin); ``evidence``: check that it is a list of ``{"document": ...}``."""
    rows = [
        _row(line, f"{path} line {number}", evidence)
        for number, line in enumerate(_text(path).split("\n"), 1)
        if line.strip()
    ]
    if not rows:
        raise QuestionsInvalidError(f"{path} holds no question")
    return rows


def _text(path: str) -> str:
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise QuestionsInvalidError(f"{path} is not UTF-8 at byte {error.start}") from error
    except OSError as error:
        kinds = {FileNotFoundError: "does not exist", IsADirectoryError: "is a folder"}
        problem = kinds.get(type(error), f"cannot be read: {error.strerror}")
        raise QuestionsInvalidError(f"{path} {problem}", next_action="give a JSON Lines file of questions") from error


def _row(line: str, where: str, evidence: bool) -> dict[str, Any]:
    row = _parsed(line, where)
    if not isinstance(row, dict) or not isinstance(row.get("question"), str) or not row["question"].strip():
        raise QuestionsInvalidError(f'{where} has no "question", got {line.strip()[:_SHOWN]}')
    if evidence:
        _require_evidence(row, where)
    return row


def _parsed(line: str, where: str) -> Any:
    try:
        row = json.loads(line, parse_constant=_refuse)
        json.dumps(row, ensure_ascii=False).encode()  # half a character parses, but cannot be searched or printed
    except json.JSONDecodeError as error:
        raise QuestionsInvalidError(f"{where} is not JSON: {error.msg} at column {error.colno}") from error
    except UnicodeEncodeError as error:
        raise QuestionsInvalidError(f"{where} holds half a character: {line.strip()[:_SHOWN]}") from error
    except RecursionError as error:
        raise QuestionsInvalidError(f"{where} is nested too deep") from error
    except ValueError as error:
        raise QuestionsInvalidError(f"{where} is not JSON: {error}") from error
    return row


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no value")


def _require_evidence(row: dict[str, Any], where: str) -> None:
    items = row.get("evidence", [])
    if not isinstance(items, list) or not all(
        isinstance(item, dict) and isinstance(item.get("document"), str) for item in items
    ):
        expected = '"evidence" must be a list of {"document": path}'
        raise QuestionsInvalidError(f"{where}: {expected}, got {json.dumps(items)[:_SHOWN]}")
    if not isinstance(row.get("answerable", True), bool):
        raise QuestionsInvalidError(
            f'{where}: "answerable" must be true or false, got {json.dumps(row["answerable"])[:_SHOWN]}'
        )
