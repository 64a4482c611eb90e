"""What the page of a corpus is made of, read from real stores: whole, damaged, unreachable, and with a long history."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_workspace, roll_back
from tests.evaluation.reports import a_report
from tests.pipelines.releases import ADAPTER, index, promote, release
from tidegate.core import keys
from tidegate.core.errors import StoreUnavailableError
from tidegate.core.event_records import Actor, Event, EventKind, Subject, format_time
from tidegate.core.protocols import ArtifactStore, Stored
from tidegate.core.records import ChannelHead, DatasetCounts, DatasetManifest, Entry, StoredFile
from tidegate.pipelines.corpus_page import collect
from tidegate.pipelines.release_names import CANDIDATE
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.channel import CHAMPION, Channel
from tidegate.registry.datasets import commit_dataset, read_dataset_head, stored_file
from tidegate.registry.evaluations import write_report
from tidegate.registry.events import write_event
from tidegate.registry.file_store import FileStore
from tidegate.registry.heads import read_head
from tidegate.registry.releases import read_release, write_release
from tidegate.registry.runs import Run
from tidegate.ui.corpus_html import corpus_fragment
from tidegate.ui.page_data import Decision, FailedStep, Waiting

HOUR = 3600.0


class CountingStore:
    """A store that notes what is read from it."""

    def __init__(self, inner: ArtifactStore) -> None:
        self.inner = inner
        self.read_keys: list[str] = []

    def read(self, key: str) -> Stored | None:
        self.read_keys.append(key)
        return self.inner.read(key)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class DeadStore(FileStore):
    """A store that does not answer."""

    def read(self, key: str) -> Stored | None:
        raise StoreUnavailableError(f"no answer ({key})")

    def list_keys(self, prefix: str) -> Any:
        raise StoreUnavailableError(f"no answer ({prefix})")

    def children(self, prefix: str) -> list[str]:
        raise StoreUnavailableError(f"no answer ({prefix})")


def write_page(folder: Path, text: str) -> None:
    (folder / "gates.md").write_text(f"# Gates\n\n{text}\n")


def add_dataset(store: ArtifactStore, snapshot: str) -> str:
    counts = DatasetCounts(train=6, dev=1, holdout=4, failed=0, stale=3, dangling=2, bridging=0, drafts=0, dropped=0)
    files = {"rows.jsonl": b"{}\n"}
    manifest = DatasetManifest(
        corpus="test",
        seq=1,
        parent=None,
        op_id="0" * 64,
        snapshot=snapshot,
        source="1" * 64,
        settings="2" * 64,
        counts=counts,
        files={name: StoredFile(**stored_file(data)) for name, data in files.items()},
    )
    return commit_dataset(store, read_dataset_head(store, "test"), manifest, files)


@pytest.fixture
def served(folder: Path, store: FileStore) -> Workspace:
    """A snapshot served alone, then with an evaluated adapter; a candidate, and a newer snapshot that waits."""
    write_page(folder, "The north gate opens at six.")
    workspace = make_workspace(folder, store)
    first = index(workspace)
    promote(workspace, release(workspace, first))
    promote(workspace, release(workspace, first, "1" * 64), approval="a" * 64)
    promote(workspace, release(workspace, first, "2" * 64), CANDIDATE)
    write_page(folder, "The north gate opens at seven.")
    (folder / "torn.md").write_bytes(b"\xff\xfe\x00\xd8")
    add_dataset(store, index(workspace))
    return workspace


def test_the_page_holds_champion_candidate_history_quarantine_and_stale_rows(served: Workspace) -> None:
    store = served.store
    page = collect(store, "test")
    assert [(item.seq, item.op, item.by, item.served.serving_mode) for item in page.versions] == [
        (2, "promote", "approval", "hybrid"),
        (1, "promote", "policy", "rag"),
    ]
    figures = page.champion.served.figures()
    assert {name: round(figure.value, 3) for name, figure in figures.items()} == {
        "correct": 0.842,
        "refusal_recall": 0.867,
        "recall@10": 0.912,
    }
    assert page.versions[1].served.figures() == {}
    assert abs(page.champion.written - store.now()) < 60
    assert (page.candidate.evaluation, page.candidate.adapter, page.embedded) == ("2" * 64, ADAPTER.key, "2" * 64)
    assert [(item.document, item.reason) for item in page.quarantine] == [("torn.md", "bad_encoding")]
    assert (page.rows.stale, page.rows.dangling) == (3, 2)
    assert (page.newest.seq, page.champion_snapshot.seq, page.champion_snapshot.documents) == (2, 1, 1)
    assert page.problems == ()


def test_the_age_of_the_oldest_change_is_that_of_the_first_snapshot_after_the_champions(
    served: Workspace, folder: Path, store: FileStore
) -> None:
    second = read_head(store, "test").snapshot
    path = store.root / keys.snapshot_manifest("test", second)
    then = store.now() - 50 * HOUR
    os.utime(path, (then, then))
    write_page(folder, "The north gate opens at eight.")
    third = index(served)
    waiting = collect(store, "test").waiting
    assert (waiting.snapshots, waiting.at_least) == (2, False)
    assert waiting.oldest == pytest.approx(then)
    promote(served, release(served, third))
    assert collect(store, "test").waiting == Waiting(0, None)


def test_a_rollback_to_an_older_snapshot_makes_its_successors_wait_again(served: Workspace, store: FileStore) -> None:
    first = collect(store, "test").versions[-1].release
    promote(served, release(served, read_head(store, "test").snapshot))
    roll_back(Channel(store, "test"), first, "berth fees were wrong")
    page = collect(store, "test")
    assert (page.champion.op, page.champion.by, page.champion.release) == ("rollback", "berth fees were wrong", first)
    assert page.waiting.snapshots == 1


def test_a_candidate_that_serves_is_none(served: Workspace) -> None:
    promote(served, Channel(served.store, "test", CANDIDATE).read().release)
    page = collect(served.store, "test")
    assert page.candidate is None
    assert page.embedded == "2" * 64


def test_a_candidate_without_an_html_report_leaves_the_champions(served: Workspace) -> None:
    champion = collect(served.store, "test").champion.served
    promote(served, release(served, champion.snapshot, "3" * 64, html=False), CANDIDATE)
    assert collect(served.store, "test").embedded == "1" * 64


@pytest.mark.parametrize("kind", ["gate_failed", "rejected", "expired", "refused"])
def test_how_the_newest_candidate_ended_is_told_until_another_is_decided(
    kind: EventKind, served: Workspace, store: FileStore
) -> None:
    release, now = Channel(store, "test", CANDIDATE).read().release, int(store.now())
    event = partial(Event, corpus="test", who=Actor(id="7", name="ml_lead"), what=Subject(release=release), run="r")
    write_event(store, event(kind="proposed", why="waits", when=format_time(now), evidence={}))
    assert collect(store, "test").decision is None
    evidence = {"evaluation": "1" * 64}
    write_event(store, event(kind=kind, why="worse on fees", when=format_time(now + 1), evidence=evidence))
    page = collect(store, "test")
    assert page.decision == Decision(kind, "ml_lead", "worse on fees", now + 1, release, "1" * 64)
    assert page.embedded == "1" * 64
    write_event(store, event(kind="promoted", why="better", when=format_time(now + 2), evidence={}))
    assert collect(store, "test").decision is None


def test_the_newest_refresh_and_the_failure_of_the_newest_run_are_told(served: Workspace, store: FileStore) -> None:
    Run(store, "test", "20261121T100000.000000Z-aaaaaaaa").record("refresh", {"documents": {"withheld": 4}})
    Run(store, "test", "20261121T120000.000000Z-bbbbbbbb").record("promote", {"outcome": "done"})
    failure = {"code": "source_missing", "what": "no folder", "next_action": "mount it"}
    Run(store, "test", "20261121T130000.000000Z-cccccccc").record("detect", {"failure": failure})
    page = collect(store, "test")
    assert (page.refreshed, page.withheld) == (1795255200.0, 4)
    assert page.failures == (FailedStep("detect", "source_missing", "no folder", "mount it"),)


def entry_key(store: ArtifactStore) -> str:
    return keys.channel_entry("test", CHAMPION, Channel(store, "test").read().entry)


DAMAGED = {
    "champion head": lambda store: keys.channel_head("test", CHAMPION),
    "candidate head": lambda store: keys.channel_head("test", CANDIDATE),
    "entry": entry_key,
    "release": lambda store: keys.release("test", Channel(store, "test").read().release),
    "candidate's release": lambda store: keys.release("test", Channel(store, "test", CANDIDATE).read().release),
    "snapshot head": lambda store: keys.snapshot_head("test"),
    "snapshot": lambda store: keys.snapshot_manifest("test", read_head(store, "test").snapshot),
    "dataset head": lambda store: keys.dataset_head("test"),
    "dataset": lambda store: keys.dataset_manifest("test", read_dataset_head(store, "test").dataset),
    "report": lambda store: f"{keys.evaluation('test', '1' * 64)}/report.json",
    "another's report": lambda store: f"{keys.evaluation('test', '1' * 64)}/report.json",
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_object_leaves_a_gap_that_is_named(served: Workspace, store: FileStore, what: str) -> None:
    before = collect(store, "test")
    key = DAMAGED[what](store)
    other = a_report(corpus="test", evaluation="9" * 64).to_bytes()
    (store.root / key).write_bytes(other if what == "another's report" else b"{\x00damaged")
    after = collect(store, "test")
    assert [key in problem for problem in after.problems] == [True]
    assert key in corpus_fragment(after)
    kept = {"candidate head", "candidate's release", "snapshot head", "snapshot", "dataset head", "dataset"}
    assert (after.champion == before.champion) == (what in kept)
    assert (after.rows == before.rows) == (not what.startswith("dataset"))
    assert (after.candidate == before.candidate) == (not what.startswith("candidate"))


@pytest.mark.parametrize("what", [what for what in DAMAGED if "head" not in what and "report" not in what])
def test_a_missing_object_leaves_a_gap_that_is_named(served: Workspace, store: FileStore, what: str) -> None:
    key = DAMAGED[what](store)
    (store.root / key).unlink()
    assert [key in problem for problem in collect(store, "test").problems] == [True]


def test_a_release_whose_report_was_never_written_is_shown_without_metrics(served: Workspace, store: FileStore) -> None:
    (store.root / keys.evaluation("test", "1" * 64) / "report.json").unlink()
    page = collect(store, "test")
    assert (page.champion.served.figures(), page.champion.served.report, page.problems) == ({}, None, ())


def test_below_a_damaged_entry_the_newer_releases_are_still_shown(served: Workspace, store: FileStore) -> None:
    oldest = list(Channel(store, "test").history())[-1][0]
    (store.root / keys.channel_entry("test", CHAMPION, oldest)).write_bytes(b"")
    page = collect(store, "test")
    assert [item.seq for item in page.versions] == [2]
    assert oldest in page.problems[0]


def test_a_store_that_does_not_answer_gives_a_page_that_says_so(tmp_path: Path) -> None:
    page = collect(DeadStore(tmp_path), "test")
    assert (page.champion, page.newest, page.rows) == (None, None, None)
    assert "no answer (test/channels/champion/HEAD.json)" in page.problems


def test_an_empty_store_gives_an_empty_page_without_a_problem(store: FileStore) -> None:
    page = collect(store, "test")
    assert (page.champion, page.candidate, page.newest, page.waiting, page.problems) == (None, None, None, None, ())


def test_five_hundred_releases_cost_the_reads_of_thirty(served: Workspace, store: FileStore) -> None:
    base = read_release(store, "test", Channel(store, "test").read().release)
    entry = Channel(store, "test").read().entry
    for seq in range(3, 501):
        evaluation = f"{seq:064x}"
        report = a_report(corpus="test", evaluation=evaluation)
        write_report(store, "test", evaluation, "report.json", report.to_bytes())
        made = write_release(store, base.model_copy(update={"evaluation": evaluation}))
        link = Entry(
            corpus="test",
            channel=CHAMPION,
            seq=seq,
            prev=entry,
            op="promote",
            op_id=evaluation,
            release=made,
            approval=None,
            policy=None,
            reason=None,
        )
        store.create(keys.channel_entry("test", CHAMPION, link.digest), link.to_bytes())
        entry = link.digest
    head = ChannelHead(seq=500, entry=entry, release=made, op_id=evaluation)
    store.put(keys.channel_head("test", CHAMPION), head.to_bytes())
    counting = CountingStore(store)
    page = collect(counting, "test")
    assert [item.seq for item in page.versions] == list(range(500, 470, -1))
    assert all(item.served.figures() for item in page.versions)
    reports = [key for key in counting.read_keys if key.endswith("/report.json")]
    assert len(reports) == 30 + 1  # and the candidate's
    assert len(counting.read_keys) <= 110
    assert len(set(counting.read_keys)) == len(counting.read_keys)
    assert "<summary>22 older releases of 492</summary>" in corpus_fragment(page)
