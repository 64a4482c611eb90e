"""Releases: what they name, when a new one is made, who lets it serve, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, make_workspace, roll_back
from tests.fakes import HashEmbedder
from tidegate.core.errors import (
    CommitLostError,
    ObjectCorruptError,
    ObjectMissingError,
    ReleaseHeldError,
    ReleaseMissingError,
    TidegateError,
)
from tidegate.core.records import Bundle, Entry, RetrievalSettings
from tidegate.pipelines import refresh_index
from tidegate.pipelines.promote_release import champion, compose, promote, propose, publish
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.channel import Channel
from tidegate.registry.file_store import FileStore
from tidegate.registry.heads import read_head, read_manifest

GOLDEN = ROOT / "tests" / "core" / "golden"


def commit(workspace: Workspace, folder: Path, words: str) -> str:
    """Write the page anew and commit its snapshot without releasing it."""
    (folder / "a.md").write_text(f"# A\n\n{words}\n")
    plan = refresh_index.detect(workspace)
    return refresh_index.commit(workspace, plan, refresh_index.embed(workspace, plan.capture.texts)).snapshot


def entries(store: FileStore) -> list[Entry]:
    """The entries of the champion channel, oldest first."""
    return [entry for _, entry in Channel(store, "test").history()][::-1]


def served(store: FileStore) -> str | None:
    return Channel(store, "test").read().release


def keys(store: FileStore) -> list[str]:
    return [stored.key for stored in store.list_keys("")]


def names(value: Any) -> Any:
    """The keys of nested mappings, without the values."""
    return {key: names(inner) for key, inner in value.items()} if isinstance(value, dict) else None


def test_before_the_first_snapshot_there_is_nothing_to_release(workspace: Workspace) -> None:
    with pytest.raises(ReleaseMissingError, match="corpus test has no snapshot to release"):
        promote(workspace)
    with pytest.raises(ReleaseMissingError, match=r"corpus test in file://.* has no release yet"):
        champion(workspace)


def test_a_release_names_all_that_decides_an_answer(folder: Path, store: FileStore, embedder: HashEmbedder) -> None:
    retrieval = {"mode": "dense", "dense_weight": 0.25, "candidates": 7, "top_k": 3}
    workspace = make_workspace(folder, store, embedder, retrieval=retrieval)
    snapshot = commit(workspace, folder, "ebb")
    promoted = promote(workspace)
    release_id, release = champion(workspace)
    assert promoted.champion == promoted.release == release_id == release.digest
    assert release.bundle == Bundle(
        corpus="test",
        snapshot=snapshot,
        content_root=read_manifest(store, "test", snapshot).content_root,
        adapter=None,
        base_model=None,
        embedder=embedder.identity,
        retrieval=RetrievalSettings(fusion="relative", **retrieval),
        prompt=None,
        decoding=None,
        access_policy=None,
    )
    assert (release.serving_mode, release.dataset, release.evaluation, release.results) == ("rag", None, None, None)


def test_the_stored_records_have_the_shape_of_the_golden_ones(
    workspace: Workspace, folder: Path, store: FileStore
) -> None:
    commit(workspace, folder, "ebb")
    release = promote(workspace).release
    state = Channel(store, "test").read()
    for key, golden in {
        f"releases/{release}.json": "release_index.json",
        "channels/champion/HEAD.json": "channel_head.json",
        f"channels/champion/entries/{state.entry}.json": "entry_promote.json",
    }.items():
        found = json.loads(store.read(f"test/{key}").data)
        assert names(found) == names(json.loads((GOLDEN / golden).read_bytes()))


def test_the_same_snapshot_is_released_once(workspace: Workspace, folder: Path, store: FileStore) -> None:
    commit(workspace, folder, "ebb")
    first = promote(workspace)
    before, written = keys(store), store.bytes_written
    again = promote(make_workspace(folder, store))
    assert again.is_champion
    assert (again.release, again.champion) == (first.release, first.release)
    assert (keys(store), store.bytes_written) == (before, written)
    assert len(entries(store)) == 1


def test_of_several_snapshots_the_newest_is_released(workspace: Workspace, folder: Path, store: FileStore) -> None:
    for words in ("first", "second", "third"):
        newest = commit(workspace, folder, words)
    promote(workspace)
    assert [entry.seq for entry in entries(store)] == [1]
    assert champion(workspace)[1].bundle.snapshot == newest
    final = commit(workspace, folder, "fourth")
    promote(workspace)
    first, second = entries(store)
    assert (second.seq, second.prev) == (2, first.digest)
    assert (second.op, second.approval, second.policy) == ("promote", None, champion(workspace)[1].gate_policy)
    assert champion(workspace)[1].bundle.snapshot == final


def test_the_policy_never_composes_and_publishes_nothing(workspace: Workspace, folder: Path, store: FileStore) -> None:
    held = make_workspace(folder, store, promotion={"policy": "never"})
    commit(held, folder, "ebb")
    candidate = promote(held)
    assert (candidate.champion, candidate.base_entry, candidate.is_champion, candidate.outcome) == (
        None,
        None,
        False,
        "stop",
    )
    assert f"test/releases/{candidate.release}.json" in keys(store)
    assert not any("/channels/" in key for key in keys(store))
    with pytest.raises(
        ReleaseHeldError, match=rf"release {candidate.release[:12]} .* promotion.policy is never"
    ) as caught:
        publish(held, candidate)
    assert "promotion.policy: auto or approve" in caught.value.next_action
    released = promote(workspace).release
    commit(held, folder, "flow")
    waiting = promote(held)
    assert waiting.champion == served(store) == released != waiting.release


def test_other_retrieval_settings_are_another_release_of_the_same_snapshot(
    workspace: Workspace, folder: Path, store: FileStore, embedder: HashEmbedder
) -> None:
    snapshot = commit(workspace, folder, "ebb")
    first = promote(workspace).release
    embedder.embedded.clear()
    for number, retrieval in enumerate(({"top_k": 5}, {"dense_weight": 0.6}, {"mode": "sparse"}, {"candidates": 9}), 2):
        changed = make_workspace(folder, store, embedder, retrieval=retrieval)
        release = promote(changed).release
        assert champion(changed)[1].bundle.snapshot == read_head(store, "test").snapshot == snapshot
        assert (len(entries(store)), len({entry.release for entry in entries(store)})) == (number, number)
        assert release != first
    assert embedder.embedded == []
    assert promote(workspace).release == first
    assert [entry.release for entry in entries(store)].count(first) == 2


@pytest.mark.parametrize("changed", [{"promotion": {"check": None}}, {"refresh": {"schedule": None}}])
def test_when_the_work_is_done_decides_no_release(
    workspace: Workspace, folder: Path, store: FileStore, changed: dict[str, Any]
) -> None:
    commit(workspace, folder, "ebb")
    release = promote(workspace).release
    assert promote(make_workspace(folder, store, **changed)).release == release


def test_publishing_twice_is_publishing_once(workspace: Workspace, folder: Path, store: FileStore) -> None:
    commit(workspace, folder, "ebb")
    candidate = propose(workspace, compose(workspace), None)
    assert served(store) is None
    assert publish(workspace, candidate)
    assert not publish(workspace, candidate)
    assert [entry.release for entry in entries(store)] == [candidate.release]


def test_a_candidate_composed_before_another_was_published_is_lost(
    workspace: Workspace, folder: Path, store: FileStore
) -> None:
    commit(workspace, folder, "ebb")
    slow = propose(workspace, compose(workspace), None)
    commit(workspace, folder, "flow")
    quick = promote(workspace)
    with pytest.raises(CommitLostError, match=f"release {slow.release[:12]} of corpus test was not committed"):
        publish(workspace, slow)
    assert served(store) == quick.release


def test_what_was_rolled_back_waits_for_a_person_and_a_new_snapshot_does_not(
    workspace: Workspace, folder: Path, store: FileStore
) -> None:
    commit(workspace, folder, "good")
    good = promote(workspace).release
    commit(workspace, folder, "bad")
    bad = promote(workspace).release
    roll_back(Channel(store, "test"), good, "worse answers")
    candidate = promote(workspace)
    assert (candidate.release, candidate.outcome, candidate.champion) == (bad, "stop", good)
    assert candidate.why == f"release {bad[:12]} was rolled back before; only a person may promote it again"
    assert served(store) == good
    with pytest.raises(ReleaseHeldError, match="was rolled back before; only a person may promote it again"):
        publish(workspace, candidate)
    commit(workspace, folder, "better")
    assert promote(workspace).release == served(store) not in (good, bad)


def test_what_a_rollback_restored_serves_and_is_not_held(workspace: Workspace, folder: Path, store: FileStore) -> None:
    commit(workspace, folder, "ebb")
    good = promote(workspace).release
    promote(make_workspace(folder, store, retrieval={"top_k": 5}))
    roll_back(Channel(store, "test"), good, "worse answers")
    candidate = promote(workspace)
    assert (candidate.release, candidate.is_champion, candidate.outcome) == (good, True, "stop")
    assert [entry.op for entry in entries(store)] == ["promote", "promote", "rollback"]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("manifest.json", "flip"),
        ("tombstones", "flip"),
        ("segment.json", "delete"),
        ("vectors.faiss", "flip"),
        ("postings.arrow", "delete"),
        ("documents.arrow", "flip"),
    ],
)
def test_a_damaged_snapshot_is_refused_and_the_champion_stays(
    workspace: Workspace, folder: Path, store: FileStore, name: str, damage: str
) -> None:
    commit(workspace, folder, "good")
    good = promote(workspace).release
    sound = set(keys(store))
    commit(workspace, folder, "damaged")
    (path,) = (store.root / key for key in keys(store) if key not in sound and key.endswith(f"/{name}"))
    expected: type[TidegateError] = ObjectMissingError if damage == "delete" else ObjectCorruptError
    if damage == "delete":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    for _ in range(2):
        with pytest.raises(expected, match=name):
            promote(workspace)
        assert served(store) == good
    assert len(entries(store)) == 1
