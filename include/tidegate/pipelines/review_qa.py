"""Review files: rows that need a person, written out with what the documents say now, and read back as decisions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from tidegate.core import keys
from tidegate.core.canonical import sha256_hex
from tidegate.core.errors import QuestionsInvalidError, suggest
from tidegate.core.protocols import ArtifactStore
from tidegate.core.records import TrainedOn
from tidegate.pipelines.qa_rows import Reviewed
from tidegate.qa.dataset import Dataset, Row
from tidegate.qa.duplicates import normalised
from tidegate.qa.importing import QaSource
from tidegate.qa.report import stale_row

ASKED = "asked"
"""The tag of a row that began as a question of a user."""

_DECISIONS = ("keep", "drop")
_PASSAGES = 5


def review_rows(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return stale and dangling rows as lines of a review file; ``decision`` is for the person to fill in."""
    return [
        {
            **row.example.as_json(),
            "decision": "",
            "reason": row.status,
            "passages": [
                {"document": item["document"], "old": item["old"], "new": item["new"]}
                for item in stale_row(row)["evidence"]
            ],
        }
        for row in sorted(rows, key=lambda row: row.id)
        if row.status in ("stale", "dangling")
    ]


def asked_rows(log: Sequence[Mapping[str, Any]], known: Iterable[str]) -> list[dict[str, Any]]:
    """Return questions that were answered badly, most asked first, as lines of a review file without an answer.

    A line of the log has ``question``, ``answered`` (false: refused, or found too little) and ``passages``: what was
    retrieved, each with ``document``, ``heading`` and ``text``. Questions that the set already has are left out.
    """
    seen = {normalised(question) for question in known}
    found: dict[str, list[Mapping[str, Any]]] = {}
    for line in log:
        question = normalised(str(line["question"]))
        if not line.get("answered", False) and question not in seen:
            found.setdefault(question, []).append(line)
    return [
        {
            "id": f"asked-{sha256_hex(question.encode())[:12]}",
            "question": lines[0]["question"],
            "answer": "",
            "evidence": [],
            "tags": [ASKED],
            "decision": "",
            "reason": f"asked {len(lines)} times" if len(lines) > 1 else "asked once",
            "passages": [
                {name: item.get(name, "") for name in ("document", "heading", "text")}
                for item in _objects(lines[-1].get("passages"))[:_PASSAGES]
            ],
        }
        for question, lines in sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _objects(values: object) -> list[dict[str, Any]]:
    return [item for item in values if isinstance(item, dict)] if isinstance(values, list) else []


def read_reviews(path: Path, *, today: date) -> dict[str, Reviewed]:
    """Return a review file's decisions by row; rows without one are left as they are.

    A kept row that does not say when it was reviewed was reviewed ``today``. Raises ``QuestionsInvalidError``.
    """
    if path.exists() and not (path.is_file() and path.suffix in (".jsonl", ".ndjson")):
        raise QuestionsInvalidError(f"{path} is not a review file: expected one JSON object a line, named .jsonl")
    examples = QaSource(path, {}, "").read()
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    reviews: dict[str, Reviewed] = {}
    for example, line in zip(examples, lines, strict=True):
        if not isinstance(line, dict) or example.problems:
            raise QuestionsInvalidError(f"{example.where}: {'; '.join(example.problems) or 'expected an object'}")
        decision = line.get("decision") or ""
        if decision not in ("", *_DECISIONS):
            raise QuestionsInvalidError(
                f"{example.where}: decision is {decision!r}{suggest(str(decision), _DECISIONS)}",
                next_action="write keep, drop, or leave it empty",
            )
        if decision:
            when = example.reviewed_at or today.isoformat()
            reviews[example.id] = Reviewed(replace(example, reviewed_at=when), "", drop=decision == "drop")
    return reviews


def affected_adapters(
    store: ArtifactStore, corpus: str, dataset: Dataset, forget: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Return the adapters that were trained on rows that do not stand any more, or on documents to be forgotten.

    A row does not stand if it is stale, dangling, dropped or failed, if it is ``removed`` from the set, or ``changed``:
    it says something else now. ``forget`` maps a document to the SHA-256 of its indexed bytes ('' if it is gone).
    """
    now = {row.id: row for row in dataset.rows}
    paths, contents = set(forget or {}), set((forget or {}).values()) - {""}
    found = []
    for adapter in store.children(keys.adapters(corpus)):
        stored = store.read(keys.trained_on(corpus, adapter))
        if stored is None:
            continue  # an adapter that was never finished
        trained = TrainedOn.from_bytes(stored.data, key=keys.trained_on(corpus, adapter))
        fates = {row: _fate(now.get(row), stated) for row, stated in sorted(trained.rows.items())}
        rows = {row: fate for row, fate in fates.items() if fate}
        documents = sorted(path for path, sha256 in trained.documents.items() if path in paths or sha256 in contents)
        if rows or documents:
            found.append({"adapter": adapter, "dataset": trained.dataset, "rows": rows, "documents": documents})
    return found


def _fate(row: Row | None, stated: str) -> str:
    """Return what became of a row that an adapter learnt from, '' if it stands."""
    if row is None:
        return "removed"
    if row.example.stated != stated:
        return "changed"
    return "" if row.status in ("valid", "bridging", "draft") else row.status
