"""Measure retrieval of the champion on questions with known evidence: each mode, at document level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from tidegate.evaluation.retrieval_metrics import mean_metrics, score_ranking
from tidegate.indexing.search import Hit
from tidegate.pipelines.search_index import Mode, OpenRelease

DEPTH = 200
"""Passages that are looked at to rank documents."""


@dataclass(frozen=True)
class RetrievalResult:
    """Metrics per mode, and what could not be scored."""

    modes: dict[str, dict[str, float]]
    scored: int
    unanswerable: int
    unresolved: tuple[str, ...]
    """Evidence that names no document, or several, of the release."""


def evaluate_retrieval(release: OpenRelease, rows: Sequence[Mapping[str, Any]]) -> RetrievalResult:
    """Score every answerable row whose evidence is in the release; a document ranks by its best passage."""
    documents = release.snapshot.ledger.column("document").to_pylist()
    answerable = [row for row in rows if row.get("answerable", True) and row.get("evidence")]
    golds, unresolved = [], []
    for row in answerable:
        names = [str(item["document"]) for item in row["evidence"]]
        resolved = {name: resolve_document(name, documents) for name in dict.fromkeys(names)}
        unresolved += [name for name, found in resolved.items() if found is None]
        golds.append({found for found in resolved.values() if found is not None})
    scorable = [(row["question"], gold) for row, gold in zip(answerable, golds, strict=True) if gold]
    questions = [question for question, _ in scorable]
    modes = {}
    for mode in get_args(Mode):
        ranked = release.search(questions, mode=mode, top_k=DEPTH) if questions else []
        modes[mode] = mean_metrics(
            score_ranking(ranked_documents(hits), gold) for hits, (_, gold) in zip(ranked, scorable, strict=True)
        )
    return RetrievalResult(modes, len(scorable), len(rows) - len(answerable), tuple(dict.fromkeys(unresolved)))


def ranked_documents(hits: Sequence[Hit]) -> list[str]:
    """Return the distinct documents of ranked passages in the order of their best one."""
    return list(dict.fromkeys(document for hit in hits for document in (hit.document, *hit.also_in)))


def resolve_document(name: str, documents: Sequence[str]) -> str | None:
    """Return the document that an evidence path means: itself, or the only one that shares a path suffix with it."""
    if name in documents:
        return name
    matches = [document for document in documents if document.endswith(f"/{name}") or name.endswith(f"/{document}")]
    return matches[0] if len(matches) == 1 else None
