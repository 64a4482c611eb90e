"""Adapters in a store: committed once, whatever is lost on the way, and read back whole or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes import FaultStore
from tests.training.test_model_card import manifest as described
from tidegate.core import publishing
from tidegate.core.adapter_records import AdapterManifest
from tidegate.core.canonical import sha256_hex
from tidegate.core.errors import AdapterMissingError, CommitLostError, ObjectCorruptError, ObjectMissingError
from tidegate.core.protocols import ArtifactStore
from tidegate.core.records import StoredFile
from tidegate.registry.adapters import (
    adapter_key,
    commit_adapter,
    find_committed,
    newest_adapter,
    place_adapter,
    read_adapter,
    read_adapter_file,
    read_adapter_head,
    verify_adapter,
)

MakeStore = Callable[[], ArtifactStore]
CORPUS = "handbook"
OPERATIONS = [sha256_hex(str(number).encode()) for number in range(6)]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_FIRST_WAIT_SECONDS", 0.0)


def files_of(number: int) -> dict[str, bytes]:
    return {
        "adapter_model.safetensors": f"weights {number}".encode(),
        "adapter_config.json": b"{}",
        "README.md": b"# Adapter",
    }


def made(number: int, parent: AdapterManifest | None = None) -> AdapterManifest:
    """Return the manifest of adapter ``number`` on its parent."""
    files = {name: StoredFile(size=len(data), sha256=sha256_hex(data)) for name, data in files_of(number).items()}
    seq, digest = (parent.seq + 1, parent.digest) if parent else (1, None)
    return described(corpus=CORPUS, seq=seq, parent=digest, op_id=OPERATIONS[number], files=files)


def commit(store: ArtifactStore, number: int, parent: AdapterManifest | None = None) -> AdapterManifest:
    """Commit adapter ``number`` on the head as it is."""
    manifest = made(number, parent)
    commit_adapter(store, read_adapter_head(store, CORPUS), manifest, files_of(number))
    return manifest


def key_of(manifest: AdapterManifest) -> str:
    return adapter_key(manifest.digest, manifest.op_id)


def test_before_the_first_adapter_there_is_none(any_store: MakeStore) -> None:
    store = any_store()
    assert read_adapter_head(store, CORPUS).head is None
    with pytest.raises(AdapterMissingError, match=r"corpus handbook .* has no adapter yet"):
        newest_adapter(store, CORPUS)


def test_a_committed_adapter_is_the_newest_and_reads_back_whole(any_store: MakeStore) -> None:
    first = commit(any_store(), 0)
    second = commit(any_store(), 1, first)
    store = any_store()
    head = newest_adapter(store, CORPUS)
    assert (head.seq, head.adapter, head.key, head.op_id) == (2, second.digest, key_of(second), OPERATIONS[1])
    assert verify_adapter(store, CORPUS, head.key) == second
    assert read_adapter(store, CORPUS, key_of(first)) == first
    assert read_adapter_file(store, CORPUS, head.key, second, "adapter_model.safetensors") == b"weights 1"


def test_adapters_of_two_corpora_do_not_mix(any_store: MakeStore) -> None:
    store = any_store()
    commit(store, 0)
    assert read_adapter_head(store, "other").head is None


@pytest.mark.parametrize("fault", ["before", "after", "conflict"])
def test_a_lost_answer_at_any_write_loses_no_adapter(any_store: MakeStore, fault: str) -> None:
    newest = commit(any_store(), 0)
    writes = len(files_of(0)) + 2
    for number in range(1, writes + 1):
        store = FaultStore(any_store(), {number: fault})
        newest = commit(store, number, newest)
        assert len(store.mutations) >= writes
        assert newest_adapter(any_store(), CORPUS).key == key_of(newest)
        assert verify_adapter(any_store(), CORPUS, key_of(newest)) == newest


def test_a_retry_of_what_is_committed_succeeds(any_store: MakeStore) -> None:
    store, base = any_store(), read_adapter_head(any_store(), CORPUS)
    keys = {commit_adapter(store, base, made(0), files_of(0)) for _ in range(2)}
    assert keys == {key_of(made(0))}
    assert newest_adapter(store, CORPUS).seq == 1


def test_a_late_retry_does_not_undo_its_successor(any_store: MakeStore) -> None:
    store, base = any_store(), read_adapter_head(any_store(), CORPUS)
    first = commit(store, 0)
    second = commit(store, 1, first)
    assert commit_adapter(store, base, first, files_of(0)) == key_of(first)
    assert newest_adapter(store, CORPUS).key == key_of(second)


def test_of_two_adapters_on_one_base_the_second_is_refused(any_store: MakeStore) -> None:
    store, base = any_store(), read_adapter_head(any_store(), CORPUS)
    first = commit(store, 0)
    with pytest.raises(CommitLostError, match="another run moved the head first"):
        commit_adapter(any_store(), base, made(1), files_of(1))
    commit(store, 2, first)
    with pytest.raises(CommitLostError):
        commit_adapter(any_store(), base, made(1), files_of(1))
    assert newest_adapter(store, CORPUS).op_id == OPERATIONS[2]


def test_an_operation_is_found_in_the_history_of_the_head_and_nowhere_else(any_store: MakeStore) -> None:
    store, base = any_store(), read_adapter_head(any_store(), CORPUS)
    first = commit(store, 0)
    second = commit(store, 1, first)
    with pytest.raises(CommitLostError):
        commit_adapter(store, base, made(2), files_of(2))
    head = read_adapter_head(store, CORPUS)
    parents = (None, first.digest, None, second.digest)
    found = [find_committed(store, CORPUS, head, *asked) for asked in zip(OPERATIONS, parents, strict=False)]
    assert found == [key_of(first), key_of(second), None, None]
    assert find_committed(store, CORPUS, base, OPERATIONS[0], None) is None


def test_an_ancestor_on_another_parent_is_made_anew_and_the_head_is_not(any_store: MakeStore) -> None:
    store = any_store()
    first = commit(store, 0)
    second = commit(store, 1, first)
    head = read_adapter_head(store, CORPUS)
    assert find_committed(store, CORPUS, head, OPERATIONS[0], second.digest) is None
    assert find_committed(store, CORPUS, head, OPERATIONS[1], second.digest) == key_of(second)


@pytest.mark.parametrize("point", ["adapter-written", "adapter-committed"])
def test_stopped_on_either_side_of_the_commit_the_head_is_old_or_new_and_a_retry_ends_it(
    any_store: MakeStore, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    store = any_store()
    first = commit(store, 0)
    base, second = read_adapter_head(store, CORPUS), made(1, first)
    monkeypatch.setenv("TIDEGATE_FAILPOINT", f"{point}=error")
    with pytest.raises(OSError, match=point):
        commit_adapter(store, base, second, files_of(1))
    monkeypatch.delenv("TIDEGATE_FAILPOINT")
    moved = point == "adapter-committed"
    assert newest_adapter(any_store(), CORPUS).key == key_of(second if moved else first)
    assert commit_adapter(any_store(), base, second, files_of(1)) == key_of(second)
    assert newest_adapter(any_store(), CORPUS).key == key_of(second)


def test_an_adapter_whose_files_are_not_those_of_its_manifest_does_not_become_the_newest(any_store: MakeStore) -> None:
    store = any_store()
    with pytest.raises(ObjectCorruptError, match=r"adapter_model\.safetensors"):
        commit_adapter(store, read_adapter_head(store, CORPUS), made(0), files_of(1))
    missing = {name: data for name, data in files_of(2).items() if name != "README.md"}
    with pytest.raises(ObjectMissingError, match=r"README\.md"):
        commit_adapter(store, read_adapter_head(store, CORPUS), made(2), missing)
    assert read_adapter_head(store, CORPUS).head is None


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "README.md", "manifest.json"])
def test_a_damaged_file_is_refused_by_name(any_store: MakeStore, name: str) -> None:
    store = any_store()
    key = key_of(commit(store, 0))
    store.put(f"{CORPUS}/adapters/{key}/{name}", b"{}\n")
    with pytest.raises(ObjectCorruptError, match=name):
        verify_adapter(store, CORPUS, key)


def test_what_is_placed_for_a_server_is_the_two_files_that_it_loads(any_store: MakeStore, tmp_path: Path) -> None:
    store = any_store()
    folder = place_adapter(store, CORPUS, key_of(commit(store, 0)), tmp_path / "deep" / "folder")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "adapter_model.safetensors": b"weights 0",
        "adapter_config.json": b"{}",
    }


def test_a_damaged_adapter_is_not_placed(any_store: MakeStore, tmp_path: Path) -> None:
    store = any_store()
    key = key_of(commit(store, 0))
    store.put(f"{CORPUS}/adapters/{key}/adapter_model.safetensors", b"other")
    with pytest.raises(ObjectCorruptError):
        place_adapter(store, CORPUS, key, tmp_path / "folder")
    assert not (tmp_path / "folder" / "adapter_model.safetensors").exists()
