"""Kill -9 at every write of a refresh, for real: the old release stands, and the next refresh succeeds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tidegate.pipelines.verify_store import verify_corpus
from tidegate.registry.channel import Channel
from tidegate.registry.file_store import FileStore

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.conftest import make_workspace, refresh
from tidegate.registry.store import open_store
refresh(make_workspace(Path(sys.argv[1]), open_store(sys.argv[2], base=Path("/"))))
"""
ROOT = Path(__file__).parents[2]


def run_refresh(folder: Path, store: str, **environment: str) -> int:
    """Refresh in a process of its own; return its exit status."""
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), store, str(ROOT)], env=os.environ | environment, check=False
    ).returncode


def edited(folder: Path) -> None:
    (folder / "a.md").write_text("# A\n\nThe second version, with new words.\n")
    (folder / "new.md").write_text("# New\n\nA new page.\n")
    (folder / "gone.md").unlink()


@pytest.fixture
def prepared(tmp_path: Path) -> tuple[Path, Path]:
    """A folder with a committed release, and its edited successor not yet indexed."""
    folder, store = tmp_path / "documents", tmp_path / "store"
    folder.mkdir()
    (folder / "a.md").write_text("# A\n\nThe first version.\n")
    (folder / "gone.md").write_text("# Gone\n\nTo be removed.\n")
    assert run_refresh(folder, str(store)) == 0
    edited(folder)
    return folder, store


def passed_points(folder: Path, store: Path, tmp_path: Path) -> list[str]:
    """Return the failpoints that an undisturbed refresh passes, on a copy of the store."""
    trace, copy = tmp_path / "trace", tmp_path / "copy"
    shutil.copytree(store, copy)
    assert run_refresh(folder, str(copy), TIDEGATE_FAILPOINT_TRACE=str(trace)) == 0
    return trace.read_text().split()


def check_killed_at(point: int, folder: Path, store: Path, scratch: Path) -> None:
    copy = scratch / f"killed-{point}"
    shutil.copytree(store, copy)
    before = Channel(FileStore(store), "test").read().release
    assert run_refresh(folder, str(copy), TIDEGATE_FAILPOINT=f"#{point}=kill") == -signal.SIGKILL
    opened = FileStore(copy)
    served = Channel(opened, "test").read().release
    verify_corpus(opened, "test")
    assert run_refresh(folder, str(copy)) == 0
    verify_corpus(opened, "test")
    final = Channel(opened, "test").read().release
    assert served in (before, final)
    assert final != before
    half_written = [
        path for path in copy.rglob("*") if path.is_file() and ".scratch" in path.parts and path.name != "lock"
    ]
    assert len(half_written) <= 1  # under a name that no key has, where maintenance sweeps
    shutil.rmtree(copy)


def test_the_named_crash_points_are_all_passed(prepared: tuple[Path, Path], tmp_path: Path) -> None:
    points = passed_points(*prepared, tmp_path)
    assert {"K1", "K2", "K4", "K5", "K6", "K7", "K8", "K13", "K14", "written"} <= set(points)


def test_a_refresh_killed_at_a_named_point_is_finished_by_the_next(prepared: tuple[Path, Path], tmp_path: Path) -> None:
    folder, store = prepared
    points = passed_points(folder, store, tmp_path)
    for name in ("K1", "K2", "K4", "K5", "K6", "K7", "K8", "K13", "K14"):
        check_killed_at(points.index(name) + 1, folder, store, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_refresh_killed_anywhere_is_finished_by_the_next(prepared: tuple[Path, Path], tmp_path: Path) -> None:
    folder, store = prepared
    points = passed_points(folder, store, tmp_path)
    assert len(points) > 20
    for point in range(1, len(points) + 1):
        check_killed_at(point, folder, store, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_first_refresh_killed_anywhere_leaves_nothing_that_serves(tmp_path: Path) -> None:
    folder, store = tmp_path / "documents", tmp_path / "store"
    folder.mkdir()
    (folder / "a.md").write_text("# A\n\nThe first version.\n")
    store.mkdir()
    for point in range(1, len(passed_points(folder, store, tmp_path)) + 1):
        copy = tmp_path / f"first-{point}"
        assert run_refresh(folder, str(copy), TIDEGATE_FAILPOINT=f"#{point}=kill") == -signal.SIGKILL
        assert run_refresh(folder, str(copy)) == 0
        verify_corpus(FileStore(copy), "test")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_refresh_on_s3_killed_anywhere_is_finished_by_the_next(
    prepared: tuple[Path, Path], s3_uri: str, tmp_path: Path
) -> None:
    from tidegate.registry.store import open_store

    folder, _ = prepared
    store = open_store(s3_uri, base=tmp_path)
    trace = tmp_path / "trace"
    assert run_refresh(folder, s3_uri, TIDEGATE_FAILPOINT_TRACE=str(trace)) == 0
    for point in range(1, len(trace.read_text().split()) + 1):
        (folder / "a.md").write_text(f"# A\n\nVersion {point} of the page, with new words.\n")
        before = Channel(store, "test").read().release
        status = run_refresh(folder, s3_uri, TIDEGATE_FAILPOINT=f"#{point}=kill")
        assert status in (-signal.SIGKILL, 0)
        verify_corpus(store, "test")
        assert run_refresh(folder, s3_uri) == 0
        verify_corpus(store, "test")
        assert Channel(store, "test").read().release != before


def test_an_input_output_error_at_a_write_is_a_typed_failure_and_the_next_run_succeeds(
    prepared: tuple[Path, Path],
) -> None:
    folder, store = prepared
    assert run_refresh(folder, str(store), TIDEGATE_FAILPOINT="K5=error") == 1
    verify_corpus(FileStore(store), "test")
    assert run_refresh(folder, str(store)) == 0
    verify_corpus(FileStore(store), "test")
