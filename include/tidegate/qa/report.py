"""What a validation found, as the report that is stored with a dataset and as a table for a log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tidegate.core.errors import one_line
from tidegate.qa.checks import SetFacts, split_table
from tidegate.qa.dataset import Dataset, Row

_LEFT_OUT = ("failed", "stale", "dangling", "bridging", "drafts", "dropped")
_SHOWN = 20
_WIDTH = 100


def make_report(dataset: Dataset, facts: SetFacts, broken: Sequence[str], *, snapshot: str) -> dict[str, Any]:
    """Return the report of a validation: counts, splits, rules over the set, and every row that is left out."""
    valid = [row for row in dataset.rows if row.status == "valid"]
    by_status: dict[str, list[Row]] = {}
    for row in sorted(dataset.rows, key=lambda row: row.id):
        by_status.setdefault(row.status, []).append(row)
    return {
        "snapshot": snapshot,
        "rows": {"total": len(dataset.rows), **dataset.counts().model_dump()},
        "splits": split_table(valid, dataset.splits),
        "rules": dict(sorted(Counter(found.rule for found in dataset.findings).items())),
        "set": {name: values[0] for name, values in facts.columns().items()},
        "broken": list(broken),
        "failures": [
            {"row": found.row, "where": found.where, "rule": found.rule, "detail": found.detail}
            for found in dataset.findings
        ],
        "stale": [stale_row(row) for row in by_status.get("stale", [])],
        "dangling": [dangling_row(row) for row in by_status.get("dangling", [])],
        "bridging": [{"row": row.id, "detail": row.broken[-1][1]} for row in by_status.get("bridging", [])],
        "drafts": [row.id for row in by_status.get("draft", [])],
        "flags": {
            flag: sorted(row.id for row in dataset.rows if flag in row.flags)
            for flag in ("cleared", "reworded", "moved", "reviewed")
        },
    }


def stale_row(row: Row) -> dict[str, Any]:
    """Return a stale row for review: what its evidence said, and what the documents say now."""
    return {
        "row": row.id,
        "question": row.example.question,
        "answer": row.example.answer,
        "evidence": [
            {
                "document": anchor.path if anchor else evidence.document,
                "quote": evidence.quote,
                "old": anchor.passage if anchor else "",
                "new": row.now[number] if number < len(row.now) else "",
            }
            for number, (evidence, anchor) in enumerate(zip(row.example.evidence, row.anchors, strict=True))
        ],
    }


def dangling_row(row: Row) -> dict[str, Any]:
    """Return a dangling row: what it asks, and the documents that it rested on."""
    documents = [anchor.path for anchor in row.anchors if anchor]
    return {"row": row.id, "question": row.example.question, "documents": documents}


def summary(report: Mapping[str, Any]) -> str:
    """Return a report in a few lines for a log."""
    rows = report["rows"]
    left_out = [f"{rows[name]} {name}" for name in _LEFT_OUT if rows[name]]
    flags = [f"{len(found)} {flag}" for flag, found in report["flags"].items() if found]
    splits = ", ".join(
        f"{name} {found['rows']} ({found['documents']} documents, {found['unanswerable']} unanswerable)"
        for name, found in report["splits"].items()
    )
    return "\n".join(
        [
            f"rows: {rows['total']} in all; left out: {', '.join(left_out) or 'none'}",
            f"splits: {splits}",
            *([f"evidence: {', '.join(flags)}"] if flags else []),
        ]
    )


def failure_table(report: Mapping[str, Any]) -> str:
    """Return the failing rows as a short table, and how many more there are."""
    failures = report["failures"]
    if not failures:
        return "no row fails a rule"
    rows = [(found["row"], found["rule"], found["where"], found["detail"]) for found in failures[:_SHOWN]]
    widths = [max(len(one_line(row[column])) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(one_line(cell).ljust(width) for cell, width in zip(row, widths, strict=False)), _cut(row[3])])
        for row in rows
    ]
    more = [f"… and {len(failures) - _SHOWN} more"] if len(failures) > _SHOWN else []
    return "\n".join([*lines, *more])


def _cut(text: str) -> str:
    shown = one_line(text)
    return shown if len(shown) <= _WIDTH else f"{shown[:_WIDTH]}…"
