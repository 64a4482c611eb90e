"""Evaluations under the digest of their inputs: the first writer wins, and whoever comes later reads its results."""

from __future__ import annotations

from typing import Literal, get_args

from tidegate.core import keys
from tidegate.core.errors import ObjectCorruptError, ObjectMissingError
from tidegate.core.protocols import ArtifactStore
from tidegate.core.publishing import advance, require_applied
from tidegate.core.records import Evaluation

ReportName = Literal["report.json", "report.html", "approval.md", "timings.json"]
"""Files beside the results, outside every id: they hold times, and are written anew with each run."""


def write_evaluation(store: ArtifactStore, corpus: str, evaluation: Evaluation, predictions: bytes) -> Evaluation:
    """Store an evaluation, its predictions first, and return the one that is stored: perhaps another writer's.

    Predictions lie under the digest of their results, so that those of a writer that lost, or was killed before its
    results, are never taken for the winner's. Raises ``CommitUnknownError`` if the store does not answer.
    """
    key = evaluation.key
    _create_first(store, keys.evaluation_predictions(corpus, key, evaluation.digest), predictions)
    _create_first(store, keys.evaluation_results(corpus, key), evaluation.to_bytes())
    stored = read_evaluation(store, corpus, key)
    if stored is None:
        raise ObjectMissingError(f"{keys.evaluation_results(corpus, key)} is not in {store.uri}")
    return stored


def read_evaluation(store: ArtifactStore, corpus: str, key: str) -> Evaluation | None:
    """Return the evaluation of these inputs, None if there is none; raise ``ObjectCorruptError``."""
    place = keys.evaluation_results(corpus, key)
    stored = store.read(place)
    if stored is None:
        return None
    evaluation = Evaluation.from_bytes(stored.data, key=place)
    if evaluation.key != key:
        raise ObjectCorruptError(f"{place} in {store.uri} holds the evaluation of other inputs: {evaluation.key[:12]}")
    return evaluation


def write_report(store: ArtifactStore, corpus: str, key: str, name: ReportName, data: bytes) -> None:
    """Write or overwrite a file beside an evaluation."""
    store.put(_report(corpus, key, name), data)


def read_report(store: ArtifactStore, corpus: str, key: str, name: ReportName) -> bytes | None:
    """Return a file beside an evaluation, None if it was not written."""
    stored = store.read(_report(corpus, key, name))
    return stored.data if stored else None


def _report(corpus: str, key: str, name: str) -> str:
    if name not in get_args(ReportName):
        raise ValueError(f"{name!r} is no file of a report; valid: {', '.join(get_args(ReportName))}")
    return f"{keys.evaluation(corpus, key)}/{name}"


def _create_first(store: ArtifactStore, key: str, data: bytes) -> None:
    """Make sure that an object exists, with these bytes or those of whoever was first."""
    require_applied(advance(store, key, None, data, applied=lambda _: True), key)
