"""What one release has otherwise than another: documents, rows of the Q&A set, metrics and settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.core.evaluation_records import Changes, EvaluationReport
from tidegate.core.records import Release
from tidegate.indexing.snapshot import Snapshot
from tidegate.pipelines.validate_qa import read_whole_dataset
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.evaluations import read_report
from tidegate.registry.releases import read_release

_NAMED = 20
_NO_SETTINGS = {"format", "dataset", "evaluation", "results", "bundle.format", "bundle.corpus"}
_NO_SETTINGS |= {"bundle.snapshot", "bundle.content_root"}
"""Fields of a release that name data, not how it is served."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Names that only the second has, that both have with other content, and that only the first has; sorted."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    total: int = 0
    """How many the second has."""

    @classmethod
    def between(cls, first: Mapping[str, str], second: Mapping[str, str]) -> Difference:
        """Compare two mappings of name to digest."""
        return cls(
            tuple(sorted(second.keys() - first.keys())),
            tuple(sorted(name for name in first.keys() & second.keys() if first[name] != second[name])),
            tuple(sorted(first.keys() - second.keys())),
            len(second),
        )


@dataclass(frozen=True, slots=True)
class ReleaseComparison:
    """What a second release has otherwise than a first."""

    first: str
    second: str
    documents: Difference
    rows: Difference
    """Rows of train, dev and holdout."""
    metrics: dict[str, dict[str, tuple[float, float]]]
    """By arm, and ``retrieval``: metric to (first, second); empty unless both were evaluated."""
    same_questions: bool
    """Whether the metrics are over the same dataset."""
    settings: dict[str, tuple[Any, Any]]
    """Settings that differ, by dotted name."""


def compare_releases(workspace: Workspace, first: str, second: str) -> ReleaseComparison:
    """Compare two releases by their ids; raise ``ObjectMissingError`` or ``ObjectCorruptError``."""
    old, new = (read_release(workspace.store, workspace.corpus, release) for release in (first, second))
    reports = [_report(workspace, release) for release in (old, new)]
    return ReleaseComparison(
        first,
        second,
        documents=_documents(workspace, old.bundle.snapshot, new.bundle.snapshot),
        rows=_rows(workspace, old.dataset, new.dataset),
        metrics=_metrics(*reports),
        same_questions=old.dataset is not None and old.dataset == new.dataset,
        settings=_settings(old, new),
    )


def changes_between(
    workspace: Workspace,
    candidate_snapshot: str,
    candidate_dataset: str | None,
    champion_snapshot: str | None,
    champion_dataset: str | None,
) -> Changes:
    """Return what a candidate changes against the champion; without a champion everything is added."""
    documents = _documents(workspace, champion_snapshot, candidate_snapshot)
    rows = _rows(workspace, champion_dataset, candidate_dataset)
    marked = (("~", documents.changed), ("+", documents.added), ("-", documents.removed))
    return Changes(
        added=len(documents.added),
        modified=len(documents.changed),
        removed=len(documents.removed),
        documents=documents.total,
        names=tuple(f"{mark} {name}" for mark, names in marked for name in names)[:_NAMED],
        rows_added=len(rows.added),
        rows_changed=len(rows.changed),
        rows_removed=len(rows.removed),
    )


def _documents(workspace: Workspace, first: str | None, second: str | None) -> Difference:
    return Difference.between(_ledger(workspace, first), _ledger(workspace, second))


def _ledger(workspace: Workspace, snapshot: str | None) -> dict[str, str]:
    """Return the SHA-256 of the indexed bytes of every document."""
    if snapshot is None:
        return {}
    ledger = Snapshot(workspace.store, workspace.corpus, snapshot).ledger.select(["document", "sha256"]).to_pydict()
    return {name: sha256 for name, sha256 in zip(ledger["document"], ledger["sha256"], strict=True) if sha256}


def _rows(workspace: Workspace, first: str | None, second: str | None) -> Difference:
    return Difference.between(_said(workspace, first), _said(workspace, second))


def _said(workspace: Workspace, dataset: str | None) -> dict[str, str]:
    """Return the digest of what every row of the three splits says."""
    rows = read_whole_dataset(workspace, dataset).rows if dataset else ()
    return {row.id: row.example.digest for row in rows if row.status == "valid"}


def _report(workspace: Workspace, release: Release) -> EvaluationReport | None:
    if release.evaluation is None:
        return None
    data = read_report(workspace.store, workspace.corpus, release.evaluation, "report.json")
    return EvaluationReport.from_bytes(data, key=f"report.json of {release.evaluation}") if data else None


def _metrics(
    first: EvaluationReport | None, second: EvaluationReport | None
) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the metrics over all rows that both reports have, by arm; the arm ``champion`` is another one in each."""
    if first is None or second is None:
        return {}
    old, new = _figures(first), _figures(second)
    pairs = {
        arm: {name: (old[arm][name], value) for name, value in values.items() if name in old[arm]}
        for arm, values in new.items()
        if arm in old
    }
    return {arm: found for arm, found in pairs.items() if found}


def _figures(report: EvaluationReport) -> dict[str, dict[str, float]]:
    arms = {
        item.arm: {name: figure.value for name, figure in item.slices.get("all", {}).items()}
        for item in report.arms
        if item.arm != "champion"
    }
    return arms | {"retrieval": report.retrieval.get("candidate", {})}


def _settings(first: Release, second: Release) -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ, by dotted name; None stands for one that a release does not have."""
    old, new = (dict(_flat(release.model_dump(mode="json"))) for release in (first, second))
    names = sorted((old.keys() | new.keys()) - _NO_SETTINGS)
    pairs = {name.removeprefix("bundle."): (old.get(name), new.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
