"""Checkpoints in a store: the newest whole one is found, whatever a kill or a damage left beside it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes import FaultStore
from tidegate.core import failpoints
from tidegate.core.canonical import canonical_json, sha256_hex
from tidegate.core.errors import StoreUnavailableError
from tidegate.core.protocols import ArtifactStore
from tidegate.registry.checkpoints import COMPLETE, keep_checkpoint, newest_checkpoint

MakeStore = Callable[[], ArtifactStore]
CORPUS, JOB, OTHER_JOB = "handbook", "a" * 64, "b" * 64


def write(folder: Path, step: int, extra: str = "") -> Path:
    """Write a complete checkpoint of two files."""
    target = folder / f"step-{step:08d}"
    target.mkdir(parents=True, exist_ok=True)
    files = {"adapter.safetensors": f"adapter {step}{extra}".encode(), "state.json": b"{}"}
    for name, data in files.items():
        (target / name).write_bytes(data)
    described = {name: {"size": len(data), "sha256": sha256_hex(data)} for name, data in files.items()}
    (target / COMPLETE).write_bytes(canonical_json(described))
    return target


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def found(store: ArtifactStore, folder: Path, job: str = JOB) -> str | None:
    """Return the name of the newest checkpoint, read into an empty folder, if it is as it was written."""
    newest = newest_checkpoint(store, CORPUS, job, folder)
    return newest.name if newest else None


def test_the_newest_checkpoint_comes_back_as_it_was_kept(any_store: MakeStore, tmp_path: Path) -> None:
    for step in (5, 100, 20):
        keep_checkpoint(any_store(), CORPUS, JOB, write(tmp_path / "made", step))
    newest = newest_checkpoint(any_store(), CORPUS, JOB, tmp_path / "read")
    assert newest == tmp_path / "read" / "step-00000100"
    assert contents(newest) == contents(tmp_path / "made" / "step-00000100")


def test_a_job_reads_its_own_checkpoints_alone(any_store: MakeStore, tmp_path: Path) -> None:
    store = any_store()
    keep_checkpoint(store, CORPUS, OTHER_JOB, write(tmp_path, 50))
    keep_checkpoint(store, "other", JOB, write(tmp_path, 60))
    assert found(store, tmp_path / "read") is None
    keep_checkpoint(store, CORPUS, JOB, write(tmp_path, 5))
    assert found(store, tmp_path / "read") == "step-00000005"


@pytest.mark.parametrize("name", [COMPLETE, "adapter.safetensors", "state.json"])
@pytest.mark.parametrize("damage", [b"", b"{", b"other"])
def test_a_damaged_newer_one_is_passed_over(any_store: MakeStore, tmp_path: Path, name: str, damage: bytes) -> None:
    store = any_store()
    for step in (5, 10):
        keep_checkpoint(store, CORPUS, JOB, write(tmp_path / "made", step))
    store.put(f"{CORPUS}/checkpoints/{JOB}/step-00000010/{name}", damage)
    newest = newest_checkpoint(store, CORPUS, JOB, tmp_path / "read")
    assert newest is not None
    assert contents(newest) == contents(tmp_path / "made" / "step-00000005")
    assert not (tmp_path / "read" / "step-00000010" / COMPLETE).exists()


def test_one_that_lacks_a_file_is_passed_over(any_store: MakeStore, tmp_path: Path) -> None:
    store = any_store()
    keep_checkpoint(store, CORPUS, JOB, write(tmp_path / "made", 5))
    newer = write(tmp_path / "made", 10)
    complete = json.loads((newer / COMPLETE).read_bytes())
    (newer / COMPLETE).write_bytes(canonical_json(complete | {"gone": complete["state.json"]}))
    for path in newer.iterdir():
        store.put(f"{CORPUS}/checkpoints/{JOB}/{newer.name}/{path.name}", path.read_bytes())
    assert found(store, tmp_path / "read") == "step-00000005"


def count_points(store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many failpoints keeping one checkpoint passes."""
    trace = tmp_path / "trace"
    monkeypatch.setenv("TIDEGATE_FAILPOINT_TRACE", str(trace))
    keep_checkpoint(store, CORPUS, OTHER_JOB, write(tmp_path / "counted", 1))
    monkeypatch.delenv("TIDEGATE_FAILPOINT_TRACE")
    return len(trace.read_text().split())


def test_stopped_at_any_point_the_older_one_stands_until_the_newer_is_whole(
    any_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = any_store()
    points = count_points(store, tmp_path, monkeypatch)
    seen = []
    for point in range(1, points + 1):
        job = sha256_hex(str(point).encode())
        keep_checkpoint(store, CORPUS, job, write(tmp_path / "made", 5))
        monkeypatch.setattr(failpoints, "_passed", 0)
        monkeypatch.setenv("TIDEGATE_FAILPOINT", f"#{point}=error")
        with pytest.raises((OSError, StoreUnavailableError)):
            keep_checkpoint(store, CORPUS, job, write(tmp_path / "made", 10))
        monkeypatch.delenv("TIDEGATE_FAILPOINT")
        newest = newest_checkpoint(any_store(), CORPUS, job, tmp_path / f"read-{point}")
        assert newest is not None
        assert contents(newest) == contents(tmp_path / "made" / newest.name)
        seen.append(newest.name)
        keep_checkpoint(store, CORPUS, job, write(tmp_path / "made", 10))
        assert found(store, tmp_path / f"again-{point}", job) == "step-00000010"
    assert seen == sorted(seen)
    assert set(seen) == {"step-00000005", "step-00000010"}


def test_a_step_that_is_kept_again_is_whole_again(any_store: MakeStore, tmp_path: Path) -> None:
    store = any_store()
    keep_checkpoint(store, CORPUS, JOB, write(tmp_path / "one", 5))
    keep_checkpoint(store, CORPUS, JOB, write(tmp_path / "other", 5, extra=" again"))
    newest = newest_checkpoint(store, CORPUS, JOB, tmp_path / "read")
    assert newest is not None
    assert contents(newest) == contents(tmp_path / "other" / "step-00000005")


def test_complete_is_the_last_thing_written(any_store: MakeStore, tmp_path: Path) -> None:
    store = FaultStore(any_store())
    keep_checkpoint(store, CORPUS, JOB, write(tmp_path, 5))
    assert [key.rpartition("/")[2] for key in store.mutations] == ["adapter.safetensors", "state.json", COMPLETE]


def test_a_name_that_leads_out_of_the_folder_is_not_followed(any_store: MakeStore, tmp_path: Path) -> None:
    store, prefix = any_store(), f"{CORPUS}/checkpoints/{JOB}"
    keep_checkpoint(store, CORPUS, JOB, write(tmp_path / "made", 5))
    (tmp_path / "read").mkdir()
    with contextlib.suppress(ValueError):  # a file store has no such key
        store.put(f"{prefix}/step-00000010/../../escaped", b"x")
    described = {"../../escaped": {"size": 1, "sha256": sha256_hex(b"x")}}
    store.put(f"{prefix}/step-00000010/{COMPLETE}", canonical_json(described))
    assert found(store, tmp_path / "read") == "step-00000005"
    assert not (tmp_path / "escaped").exists()
