"""What the page of a corpus shows, collected beforehand: rendering reads nothing and computes no figure of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tidegate.core.evaluation_records import SERVED_BY, EvaluationReport, Figure, ServingMode
from tidegate.core.records import DatasetCounts, QuarantinedDocument

METRICS = {
    "correct": "answers correct",
    "refusal_recall": "refusal recall",
    "recall@10": "recall@10",
}
"""Metrics of the chart, with their words."""


@dataclass(frozen=True, slots=True)
class Served:
    """A release, and what is in it."""

    release: str
    snapshot: str
    adapter: str | None
    serving_mode: ServingMode
    evaluation: str | None
    """Key of its evaluation; None if it was released without one."""
    report: EvaluationReport | None = None
    """None if there is none, or it cannot be read."""

    def figures(self) -> dict[str, Figure]:
        """Return its figures by metric, those of :data:`METRICS` that its evaluation has."""
        return _figures(self.report, SERVED_BY[self.serving_mode], "candidate") if self.report else {}


@dataclass(frozen=True, slots=True)
class Version:
    """One entry of the champion channel."""

    seq: int
    op: Literal["promote", "rollback"]
    by: str
    """On whose authority: ``approval``, ``policy``, or the reason of a rollback."""
    written: float | None
    """Seconds since the epoch, by the store's clock."""
    release: str
    served: Served | None
    """None if the release cannot be read."""


@dataclass(frozen=True, slots=True)
class SnapshotShown:
    """A version of the index."""

    snapshot: str
    seq: int
    documents: int
    chunks: int


@dataclass(frozen=True, slots=True)
class FailedStep:
    """A step of the newest run that failed."""

    step: str
    code: str
    what: str
    next_action: str


@dataclass(frozen=True, slots=True)
class Decision:
    """How the newest candidate ended without serving."""

    kind: Literal["gate_failed", "rejected", "expired", "refused"]
    who: str
    why: str
    when: float
    """Seconds since the epoch."""
    release: str | None
    """None where the gate stopped it: no release was written."""
    evaluation: str | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Snapshots that were committed after the champion's."""

    snapshots: int
    oldest: float | None
    """When the oldest of them was committed; None if that is not known."""
    at_least: bool = False
    """Whether there may be older ones."""


@dataclass(frozen=True, slots=True)
class CorpusPage:
    """One corpus. What is unknown is None, and ``problems`` says why."""

    corpus: str
    now: float
    """Seconds since the epoch, by the store's clock."""
    versions: tuple[Version, ...] = ()
    """The newest entries of the champion channel, newest first; the first is the champion."""
    candidate: Served | None = None
    """None if there is none, or it serves already."""
    decision: Decision | None = None
    """How the newest candidate ended; None if it serves, or is still being decided."""
    newest: SnapshotShown | None = None
    """The newest verified snapshot."""
    champion_snapshot: SnapshotShown | None = None
    waiting: Waiting | None = None
    """None without a champion or a snapshot."""
    refreshed: float | None = None
    """When the newest run that looked at the source began."""
    withheld: int = 0
    """Deletions that it withheld."""
    quarantine: tuple[QuarantinedDocument, ...] = ()
    dataset: str | None = None
    rows: DatasetCounts | None = None
    embedded: str | None = None
    """Key of the evaluation whose HTML report is shown: that of the newest candidate, else the champion's."""
    failures: tuple[FailedStep, ...] = ()
    problems: tuple[str, ...] = field(default=())

    @property
    def champion(self) -> Version | None:
        """The version that serves."""
        return self.versions[0] if self.versions else None

    @property
    def dag_id(self) -> str:
        """The DAG whose readers may read this page."""
        return promotion_dag(self.corpus)


def promotion_dag(corpus: str) -> str:
    """Return the id of the DAG that promotes a corpus's releases."""
    return f"promote_release.{corpus}"


def champion_figures(report: EvaluationReport) -> dict[str, Figure]:
    """Return the champion's figures by metric, as the same evaluation found them."""
    return _figures(report, "champion", "champion")


def _figures(report: EvaluationReport, arm: str, index: str) -> dict[str, Figure]:
    found = {name: report.figure(arm, "all", name) for name in METRICS}
    recall = report.retrieval.get(index, {}).get("recall@10")
    if recall is not None:
        found["recall@10"] = Figure(value=recall, n=0)
    return {name: figure for name, figure in found.items() if figure}
