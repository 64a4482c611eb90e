"""Collect what the page of a corpus shows, from small records of the store: no index and no adapter is opened.

An object that is missing or damaged leaves a gap and a line that names it; the rest is shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, TypeVar

from tidegate.core import keys
from tidegate.core.errors import ObjectCorruptError, TidegateError, one_line
from tidegate.core.evaluation_records import EvaluationReport
from tidegate.core.event_records import parse_time
from tidegate.core.protocols import ArtifactStore
from tidegate.core.records import Entry, SnapshotManifest
from tidegate.pipelines.release_names import CANDIDATE
from tidegate.registry.channel import CHAMPION, Channel
from tidegate.registry.datasets import read_dataset, read_dataset_head
from tidegate.registry.evaluations import read_report
from tidegate.registry.events import read_events
from tidegate.registry.heads import read_head, read_manifest
from tidegate.registry.releases import read_release
from tidegate.registry.runs import newest_run
from tidegate.ui.page_data import CorpusPage, Decision, FailedStep, Served, SnapshotShown, Version, Waiting

_VERSIONS = 30
"""Entries of the champion channel that are read, with their releases and reports."""
_SNAPSHOTS = 30
"""Snapshots that are read to find the oldest that waits."""
_RUNS = 30
"""Runs that are looked through for the newest one that read the source."""
_EVENTS = 10
"""Newest events that are looked through for how a candidate ended."""
_READERS = 8

ReadT = TypeVar("ReadT")


def collect(store: ArtifactStore, corpus: str, *, versions: int = _VERSIONS) -> CorpusPage:
    """Return the page of a corpus; it holds the newest ``versions`` releases."""
    return _Collector(store, corpus).collect(versions)


class _Collector:
    """Reads the parts of one page; what cannot be read is noted once."""

    def __init__(self, store: ArtifactStore, corpus: str) -> None:
        self.store = store
        self.corpus = corpus
        self.problems: dict[str, None] = {}
        self.manifest = cache(self._manifest)

    def collect(self, versions: int) -> CorpusPage:
        shown = self._versions(versions)
        champion = shown[0].served if shown else None
        candidate = self._candidate({version.release for version in shown})
        decision = self._tried(self._decision)
        head = self._tried(lambda: read_head(self.store, self.corpus).snapshot)
        newest = self.manifest(head) if head else None
        refreshed, withheld = self._tried(self._last_refresh) or (None, 0)
        dataset = self._tried(lambda: read_dataset_head(self.store, self.corpus).dataset)
        read = self._tried(lambda: read_dataset(self.store, self.corpus, dataset)) if dataset else None
        return CorpusPage(
            corpus=self.corpus,
            now=self._tried(self.store.now) or datetime.now(UTC).timestamp(),
            versions=tuple(shown),
            candidate=candidate,
            decision=decision,
            newest=_shown(head, newest),
            champion_snapshot=_shown(champion.snapshot, self.manifest(champion.snapshot)) if champion else None,
            waiting=self._waiting(head, champion.snapshot) if head and champion else None,
            refreshed=refreshed,
            withheld=withheld,
            quarantine=newest.quarantine if newest else (),
            dataset=dataset,
            rows=read.counts if read else None,
            embedded=self._embedded(decision, candidate, champion),
            failures=tuple(self._failures()),
            problems=tuple(self.problems),
        )

    def _tried(self, read: Callable[[], ReadT]) -> ReadT | None:
        try:
            return read()
        except TidegateError as error:
            self.problems[one_line(error.what)] = None
            return None

    def _versions(self, limit: int) -> list[Version]:
        written = self._tried(self._times) or {}
        entries = self._entries(limit)
        served = self._served({entry.release for _, entry in entries})
        return [
            Version(
                seq=entry.seq,
                op=entry.op,
                by="approval" if entry.approval else entry.reason or "policy",
                written=written.get(keys.channel_entry(self.corpus, CHAMPION, digest)),
                release=entry.release,
                served=served[entry.release],
            )
            for digest, entry in entries
        ]

    def _times(self) -> dict[str, float]:
        listed = self.store.list_keys(f"{self.corpus}/channels/{CHAMPION}/entries/")
        return {found.key: found.modified for found in listed}

    def _entries(self, limit: int) -> list[tuple[str, Entry]]:
        """Return the newest entries that can be read; below a damaged one nothing is known."""
        found: list[tuple[str, Entry]] = []

        def walk() -> None:
            for item in Channel(self.store, self.corpus).history():
                found.append(item)
                if len(found) == limit:
                    break

        self._tried(walk)
        return found

    def _served(self, releases: Iterable[str]) -> dict[str, Served | None]:
        """Return releases by id, read side by side: on S3 each is a request or two."""
        wanted = sorted(releases)
        with ThreadPoolExecutor(_READERS) as readers:
            return dict(zip(wanted, readers.map(self._release, wanted), strict=True))

    def _release(self, release: str) -> Served | None:
        read = self._tried(lambda: read_release(self.store, self.corpus, release))
        if read is None:
            return None
        report = self._tried(partial(self._report, read.evaluation)) if read.evaluation else None
        adapter = read.bundle.adapter.key if read.bundle.adapter else None
        return Served(release, read.bundle.snapshot, adapter, read.serving_mode, read.evaluation, report)

    def _report(self, evaluation: str) -> EvaluationReport | None:
        data = read_report(self.store, self.corpus, evaluation, "report.json")
        key = f"{keys.evaluation(self.corpus, evaluation)}/report.json"
        report = EvaluationReport.from_bytes(data, key=key) if data is not None else None
        if report and (report.corpus, report.evaluation) != (self.corpus, evaluation):
            raise ObjectCorruptError(f"{key} is the report of another evaluation")
        return report

    def _candidate(self, champion: set[str]) -> Served | None:
        release = self._tried(lambda: Channel(self.store, self.corpus, CANDIDATE).read().release)
        return self._release(release) if release and release not in champion else None

    def _decision(self) -> Decision | None:
        """Return what the newest event says, if it ended a candidate."""
        for event in read_events(self.store, self.corpus, _EVENTS).events:
            kind = event.kind
            if kind in ("gate_failed", "rejected", "expired", "refused"):
                when, evaluation = parse_time(event.when), event.evidence.get("evaluation")
                return Decision(kind, event.who.name, event.why, when, event.what.release, evaluation)
            if kind != "superseded":
                return None
        return None

    def _manifest(self, snapshot: str) -> SnapshotManifest | None:
        return self._tried(lambda: read_manifest(self.store, self.corpus, snapshot))

    def _waiting(self, head: str, served: str) -> Waiting | None:
        """Walk from the newest snapshot towards the champion's: the last one before it has waited longest."""
        snapshot: str | None = head
        oldest, steps = head, 0
        while snapshot is not None and snapshot != served and steps < _SNAPSHOTS:
            oldest, steps = snapshot, steps + 1
            manifest = self.manifest(snapshot)
            if manifest is None:
                return None
            snapshot = manifest.parent
        if snapshot is None:
            return None
        if not steps:
            return Waiting(0, None)
        return Waiting(steps, self._tried(lambda: self._written(oldest)), at_least=snapshot != served)

    def _written(self, snapshot: str) -> float | None:
        key = keys.snapshot_manifest(self.corpus, snapshot)
        return next((found.modified for found in self.store.list_keys(key) if found.key == key), None)

    def _last_refresh(self) -> tuple[float, int] | None:
        """Return (began, withheld deletions) of the newest run that read the source."""
        names = self.store.children(keys.runs(self.corpus))
        for name in list(reversed(names))[:_RUNS]:
            stored = self.store.read(f"{keys.runs(self.corpus)}{name}/refresh.json")
            began = _began(name)
            if stored is not None and began is not None:
                return began, _withheld(stored.data)
        return None

    def _failures(self) -> list[FailedStep]:
        records = self._tried(lambda: newest_run(self.store, self.corpus)) or {}
        found = {step: record["failure"] for step, record in records.items() if isinstance(record.get("failure"), dict)}
        return [
            FailedStep(step, *(str(failure.get(part, "")) for part in ("code", "what", "next_action")))
            for step, failure in found.items()
        ]

    def _embedded(self, decision: Decision | None, candidate: Served | None, champion: Served | None) -> str | None:
        for served in (decision, candidate, champion):
            if served and served.evaluation and self._tried(partial(self._has_page, served.evaluation)):
                return served.evaluation
        return None

    def _has_page(self, evaluation: str) -> bool:
        key = f"{keys.evaluation(self.corpus, evaluation)}/report.html"
        return any(found.key == key for found in self.store.list_keys(key))


def _shown(digest: str | None, manifest: SnapshotManifest | None) -> SnapshotShown | None:
    if digest is None or manifest is None:
        return None
    return SnapshotShown(digest, manifest.seq, manifest.counts.indexed, manifest.counts.chunks)


def _began(run: str) -> float | None:
    """Return when a run began, by its folder's name (``registry.runs.run_name``)."""
    try:
        return datetime.strptime(run.partition("-")[0], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _withheld(data: bytes) -> int:
    """Return the withheld deletions of a refresh record; 0 where it names none or is damaged: nothing relies on it."""
    try:
        record: Any = json.loads(data)
        return int(record["documents"].get("withheld", 0))
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0
