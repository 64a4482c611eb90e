"""Verify: every object that the heads reach is read back, and any damage to it is named; nothing else is looked at."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_workspace, refresh
from tidegate.core import keys
from tidegate.core.errors import ObjectCorruptError, ObjectMissingError, SnapshotInvalidError
from tidegate.core.protocols import ArtifactStore
from tidegate.core.records import ChannelHead, SnapshotHead
from tidegate.indexing.snapshot import Snapshot
from tidegate.pipelines.verify_store import VerifiedCorpus, verify_corpus
from tidegate.registry.channel import Channel
from tidegate.registry.file_store import FileStore
from tidegate.registry.heads import read_head, read_manifest
from tidegate.registry.runs import Run

SOUND = VerifiedCorpus("test", snapshots=2, segments=2, releases=2, entries=2, datasets=0)
SNAPSHOT_HEAD, CHANNEL_HEAD = "test/heads/snapshot.json", "test/channels/champion/HEAD.json"

IMMUTABLE = {
    "test/channels/champion/entries/*.json": 2,
    "test/releases/*.json": 2,
    "test/segments/*/chunks.arrow": 2,
    "test/segments/*/documents.arrow": 2,
    "test/segments/*/postings.arrow": 2,
    "test/segments/*/segment.json": 2,
    "test/segments/*/vectors.faiss": 2,
    "test/snapshots/*/manifest.json": 2,
    "test/snapshots/*/tombstones": 2,
}
"""What two refreshes store for good, and how many of each."""
HEADS = (SNAPSHOT_HEAD, CHANNEL_HEAD)
UNREACHED = ("test/scans/*", "test/runs/*", "test/events/*")


def fill(store: ArtifactStore, folder: Path) -> None:
    """Refresh and release twice; the second leaves a dead chunk and a dead ledger row in the first segment."""
    for name in ("a.md", "b.md", "c.md", "d.md"):
        (folder / name).write_text(f"# {name}\n\nThe first version of {name}.\n")
    refresh(make_workspace(folder, store))
    (folder / "a.md").write_text("# a.md\n\nThe second version.\n")
    (folder / "e.md").write_text("# e.md\n\nA new page.\n")
    refresh(make_workspace(folder, store))
    run = Run(store, "test", "20260101T000000Z-00000000")
    run.record("refresh", {"outcome": "done"})
    run.stage("plan/plan.json", b"{}")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a filled store; copied, never changed."""
    root = tmp_path_factory.mktemp("filled")
    (root / "documents").mkdir()
    fill(FileStore(root / "store"), root / "documents")
    return root / "store"


@pytest.fixture
def copy(filled: Path, tmp_path: Path) -> FileStore:
    shutil.copytree(filled, tmp_path / "copy")
    return FileStore(tmp_path / "copy")


def stored(store: ArtifactStore, pattern: str = "*") -> list[str]:
    return [found.key for found in store.list_keys("") if fnmatch(found.key, pattern)]


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "first byte": lambda data: flipped(data, 0),
    "middle byte": lambda data: flipped(data, len(data) // 2),
    "last byte": lambda data: flipped(data, len(data) - 1),
    "truncated": lambda data: data[:-1],
    "longer": lambda data: data + b"\n",
    "empty": lambda data: b"",
    "deleted": lambda data: None,
}


def test_a_sound_store_is_counted(copy: FileStore) -> None:
    before = copy.bytes_written
    assert verify_corpus(copy, "test") == SOUND
    assert copy.bytes_written == before


def test_the_patterns_below_are_all_that_a_store_holds(copy: FileStore) -> None:
    assert {pattern: len(stored(copy, pattern)) for pattern in IMMUTABLE} == IMMUTABLE
    covered = {key for pattern in (*IMMUTABLE, *HEADS, *UNREACHED) for key in stored(copy, pattern)}
    assert covered == set(stored(copy))


@pytest.mark.parametrize("pattern", IMMUTABLE)
def test_any_damage_to_a_reachable_object_is_named(copy: FileStore, pattern: str) -> None:
    for key, (damage, change) in product(stored(copy, pattern), DAMAGES.items()):
        path = copy.root / key
        sound = path.read_bytes()
        changed = change(sound)
        path.unlink() if changed is None else path.write_bytes(changed)
        with pytest.raises(ObjectMissingError if damage == "deleted" else ObjectCorruptError) as caught:
            verify_corpus(copy, "test")
        assert key in caught.value.what, damage
        path.write_bytes(sound)
    assert verify_corpus(copy, "test") == SOUND


@pytest.mark.parametrize("damage", ["first byte", "last byte", "truncated", "empty"])
@pytest.mark.parametrize("key", HEADS)
def test_a_head_that_is_no_record_is_named(copy: FileStore, key: str, damage: str) -> None:
    (copy.root / key).write_bytes(DAMAGES[damage]((copy.root / key).read_bytes()))
    with pytest.raises(ObjectCorruptError, match=f"{key} is not a valid"):
        verify_corpus(copy, "test")


@pytest.mark.parametrize("key", HEADS)
def test_a_head_that_is_gone_is_missed(copy: FileStore, key: str) -> None:
    """A head is never deleted, and a second entry or snapshot stands on one."""
    (copy.root / key).unlink()
    with pytest.raises(ObjectMissingError, match=key):
        verify_corpus(copy, "test")


@pytest.mark.parametrize("field", ["seq", "op_id"])
def test_a_snapshot_head_that_differs_from_its_snapshot_is_found(copy: FileStore, field: str) -> None:
    head = read_head(copy, "test").head
    changed = head.model_copy(update={"seq": 1} if field == "seq" else {"op_id": "0" * 64})
    copy.put(SNAPSHOT_HEAD, changed.to_bytes())
    with pytest.raises(SnapshotInvalidError):
        verify_corpus(copy, "test")


def test_heads_that_name_what_was_never_written_are_found(copy: FileStore) -> None:
    absent = "0" * 64
    copy.put(SNAPSHOT_HEAD, SnapshotHead(seq=2, snapshot=absent, op_id=absent).to_bytes())
    with pytest.raises(ObjectMissingError, match=f"test/snapshots/{absent}/manifest.json is not in"):
        verify_corpus(copy, "test")
    copy.put(CHANNEL_HEAD, ChannelHead(seq=2, entry=absent, release=absent, op_id=absent).to_bytes())
    with pytest.raises(ObjectMissingError, match=f"entries/{absent}.json is not in"):
        verify_corpus(copy, "test")


@pytest.mark.parametrize("field", ["seq", "release", "op_id"])
def test_a_channel_head_that_differs_from_its_entry_is_found(copy: FileStore, field: str) -> None:
    state = Channel(copy, "test").read()
    older = list(Channel(copy, "test").history())[1][1]
    copy.put(CHANNEL_HEAD, state.head.model_copy(update={field: getattr(older, field)}).to_bytes())
    with pytest.raises(SnapshotInvalidError, match="the head of channel champion does not match its entry"):
        verify_corpus(copy, "test")


def test_a_chain_with_a_gap_is_found(copy: FileStore) -> None:
    state = Channel(copy, "test").read()
    (_, newest), (first, _) = Channel(copy, "test").history()
    forged = newest.model_copy(update={"seq": 3, "prev": first})
    copy.create(keys.channel_entry("test", "champion", forged.digest), forged.to_bytes())
    copy.put(CHANNEL_HEAD, state.head.model_copy(update={"seq": 3, "entry": forged.digest}).to_bytes())
    with pytest.raises(SnapshotInvalidError, match=f"entry {forged.digest[:12]} has seq 3 at place 2"):
        verify_corpus(copy, "test")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": {"listed": 6}}, r"\(listed, indexed\) documents \(5, 5\), the manifest says \(6, 5\)"),
        ({"counts": {"chunks": 9}}, "the manifest says .*9"),
        ({"content_root": "0" * 64}, "content root"),
        ({"segments": {"live_chunks": 4}}, r"\(chunks, documents\) live \(3, 3\), the manifest says \(4, 3\)"),
        ({"segments": {"live_documents": 0}}, r"live \(3, 3\), the manifest says \(3, 0\)"),
    ],
)
def test_a_manifest_that_does_not_hold_together_is_found(
    copy: FileStore, changes: dict[str, Any], message: str
) -> None:
    """Its digest is right and its content is not: what a defect of the builder would leave."""
    head = read_head(copy, "test").head
    sound = read_manifest(copy, "test", head.snapshot)
    updates = dict(changes)
    if "counts" in changes:
        updates["counts"] = sound.counts.model_copy(update=changes["counts"])
    if "segments" in changes:
        updates["segments"] = (sound.segments[0].model_copy(update=changes["segments"]), *sound.segments[1:])
    forged = sound.model_copy(update=updates)
    copy.create(keys.snapshot_manifest("test", forged.digest), forged.to_bytes())
    copy.create(
        keys.snapshot_tombstones("test", forged.digest),
        copy.read(keys.snapshot_tombstones("test", head.snapshot)).data,
    )
    copy.put(SNAPSHOT_HEAD, head.model_copy(update={"snapshot": forged.digest}).to_bytes())
    with pytest.raises(SnapshotInvalidError, match=message):
        verify_corpus(copy, "test")


def test_hints_run_records_staged_bytes_and_events_are_not_looked_at(copy: FileStore) -> None:
    unreached = [key for pattern in UNREACHED for key in stored(copy, pattern)]
    assert len(unreached) == 5
    for key in unreached:
        (copy.root / key).write_bytes(b"\x00 damaged")
    assert verify_corpus(copy, "test") == SOUND
    for key in unreached:
        (copy.root / key).unlink()
    assert verify_corpus(copy, "test") == SOUND


def test_what_no_head_reaches_is_not_looked_at(copy: FileStore) -> None:
    for key in ("test/segments/x.y/segment.json", "test/snapshots/x/manifest.json", "test/releases/x.json"):
        copy.put(key, b"half a write of a run that was killed")
    assert verify_corpus(copy, "test") == SOUND


def test_a_snapshot_that_waits_for_its_release_is_read_back_too(copy: FileStore, folder: Path) -> None:
    (folder / "z.md").write_text("# z.md\n\nNot released.\n")
    refresh(make_workspace(folder, copy, promotion={"policy": "never"}))
    expected = VerifiedCorpus("test", snapshots=3, segments=3, releases=2, entries=2, datasets=0)
    assert verify_corpus(copy, "test") == expected
    newest = Snapshot(copy, "test", read_head(copy, "test").snapshot).manifest.segments[-1].key
    (copy.root / keys.segment_prefix("test", newest) / "vectors.faiss").unlink()
    with pytest.raises(ObjectMissingError, match=newest):
        verify_corpus(copy, "test")


def test_before_the_first_refresh_there_is_nothing_to_verify(store: FileStore) -> None:
    expected = VerifiedCorpus("test", snapshots=0, segments=0, releases=0, entries=0, datasets=0)
    assert verify_corpus(store, "test") == expected


def test_both_kinds_of_store_are_read_back_and_not_a_cache(
    any_store: Callable[[], ArtifactStore], folder: Path
) -> None:
    store, reader = any_store(), any_store()
    fill(store, folder)
    assert verify_corpus(reader, "test") == SOUND
    for name in ("segment.json", "tombstones", "HEAD.json", "vectors.faiss", "documents.arrow"):
        key = stored(store, f"*/{name}")[0]
        sound = store.read(key).data
        store.put(key, sound[:-1])
        with pytest.raises(ObjectCorruptError, match=key):
            verify_corpus(reader, "test")
        store.put(key, sound)
    assert verify_corpus(reader, "test") == SOUND
