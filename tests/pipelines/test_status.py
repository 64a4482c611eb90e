"""Status and history: exact values, read from small records alone."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.conftest import make_workspace, refresh, roll_back
from tidegate.core.errors import ObjectMissingError
from tidegate.pipelines.status import corpus_status, release_history
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.channel import Channel
from tidegate.registry.file_store import FileStore
from tidegate.registry.heads import read_head
from tidegate.registry.runs import Run, run_name

NOTHING = {
    "corpus": "test",
    "release": None,
    "version": 0,
    "snapshot": None,
    "up_to_date": False,
    "documents": 0,
    "chunks": 0,
    "segments": 0,
    "quarantine": [],
    "adapter": None,
    "dataset": None,
    "qa": None,
    "last_run": {},
}


def served(store: FileStore) -> str | None:
    return Channel(store, "test").read().release


def write(folder: Path, name: str, words: str) -> None:
    (folder / name).write_text(f"# {name}\n\n{words}\n")


def test_before_the_first_refresh_everything_is_nothing(store: FileStore) -> None:
    assert corpus_status(store, "test") == NOTHING
    assert release_history(store, "test", 10) == []
    assert not store.root.exists()


def test_the_status_shows_what_serves_and_what_is_newest(workspace: Workspace, folder: Path, store: FileStore) -> None:
    for number in range(4):
        write(folder, f"{number}.md", f"words {number}")
    (folder / "bad.md").write_bytes(b"")
    first = refresh(workspace).snapshot
    expected = {
        "corpus": "test",
        "release": served(store),
        "version": 1,
        "snapshot": first,
        "up_to_date": True,
        "documents": 4,
        "chunks": 4,
        "segments": 1,
        "quarantine": [{"document": "bad.md", "reason": "empty"}],
        "adapter": None,
        "dataset": None,
        "qa": None,
        "last_run": {},
    }
    assert corpus_status(store, "test") == expected
    write(folder, "0.md", "other words")
    (folder / "bad.md").write_text("good\n")
    second = refresh(make_workspace(folder, store, promotion={"policy": "never"})).snapshot
    changed = {"snapshot": second, "up_to_date": False, "documents": 5, "chunks": 5, "segments": 2, "quarantine": []}
    assert corpus_status(store, "test") == expected | changed
    refresh(workspace)
    released = {"release": served(store), "version": 2, "up_to_date": True}
    assert corpus_status(store, "test") == expected | changed | released
    assert served(store) != expected["release"]


def test_the_newest_run_is_shown_with_what_failed(workspace: Workspace, folder: Path, store: FileStore) -> None:
    write(folder, "a.md", "words")
    refresh(workspace)
    Run(store, "test", run_name(datetime(2026, 1, 1, tzinfo=UTC), "a")).record("refresh", {"outcome": "done"})
    newest = Run(store, "test", run_name(datetime(2026, 1, 2, tzinfo=UTC), "b"))
    failure = ObjectMissingError("x is not in the store").as_record()
    newest.record("detect", {"outcome": "failed", "failure": failure})
    assert corpus_status(store, "test")["last_run"] == {"detect": {"outcome": "failed", "failure": failure}}


def test_the_history_is_newest_first_with_what_each_entry_served(
    workspace: Workspace, folder: Path, store: FileStore
) -> None:
    releases, snapshots = [], []
    for number in range(3):
        write(folder, f"{number}.md", f"words {number}")
        snapshots.append(refresh(workspace).snapshot)
        releases.append(served(store))
    roll_back(Channel(store, "test"), releases[1], "worse answers")
    history = release_history(store, "test", 10)
    shown = ("version", "op", "release", "snapshot", "documents", "chunks", "approval", "reason")
    assert [tuple(row[name] for name in shown) for row in history] == [
        (4, "rollback", releases[1], snapshots[1], 2, 2, None, "worse answers"),
        (3, "promote", releases[2], snapshots[2], 3, 3, None, None),
        (2, "promote", releases[1], snapshots[1], 2, 2, None, None),
        (1, "promote", releases[0], snapshots[0], 1, 1, None, None),
    ]
    for row in history:
        path = store.root / "test/channels/champion/entries" / f"{row['entry']}.json"
        assert row["written"] == path.stat().st_mtime
        assert row.keys() == {*shown, "entry", "written", "adapter", "serving_mode"}
    assert release_history(store, "test", 2) == history[:2]
    status = corpus_status(store, "test")
    assert (status["release"], status["version"], status["snapshot"]) == (releases[1], 4, snapshots[2])
    assert (status["up_to_date"], status["documents"]) == (False, 3)


def test_an_entry_that_the_head_does_not_reach_is_not_history(
    workspace: Workspace, folder: Path, store: FileStore
) -> None:
    write(folder, "a.md", "words")
    refresh(workspace)
    (entry,) = (entry for _, entry in Channel(store, "test").history())
    forged = entry.model_copy(update={"seq": 2})
    store.create(f"test/channels/champion/entries/{forged.digest}.json", forged.to_bytes())
    assert [row["version"] for row in release_history(store, "test", 10)] == [1]


def test_no_index_is_opened(workspace: Workspace, folder: Path, store: FileStore) -> None:
    write(folder, "a.md", "words")
    refresh(workspace)
    before = corpus_status(store, "test"), release_history(store, "test", 10)
    shutil.rmtree(store.root / "test" / "segments")
    shutil.rmtree(store.root / "test" / "scans")
    assert (corpus_status(store, "test"), release_history(store, "test", 10)) == before


@pytest.mark.parametrize("record", ["snapshot", "release"])
def test_a_record_that_is_gone_is_named(workspace: Workspace, folder: Path, store: FileStore, record: str) -> None:
    write(folder, "a.md", "words")
    refresh(workspace)
    snapshot = read_head(store, "test").snapshot
    key = f"test/snapshots/{snapshot}/manifest.json" if record == "snapshot" else f"test/releases/{served(store)}.json"
    (store.root / key).unlink()
    with pytest.raises(ObjectMissingError, match=key):
        corpus_status(store, "test")
