"""A project whose ``airflow`` is a stand-in, and a look at the processes that it left."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tidegate.local import airflow

FAKE = Path(__file__).parent / "fake_airflow.py"
COMPONENTS = ("api-server", "scheduler", "dag-processor")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with this project's Airflow settings, one corpus ``docs``, and nothing of the caller's environment."""
    folder = tmp_path / "home"
    (folder / "include" / "corpora").mkdir(parents=True)
    (folder / "pages").mkdir()
    (folder / "include" / "corpora" / "docs.yaml").write_text("source: {path: pages}\n")
    shutil.copy(ROOT / "airflow_settings.yaml", folder)
    for name in ("TIDEGATE_STORE", "TIDEGATE_CORPORA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TIDEGATE_HOME", str(folder))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the stand-in instead of Airflow, and wait two seconds at most for it to stop."""
    monkeypatch.setattr(airflow, "_airflow", lambda: [sys.executable, str(FAKE)])
    monkeypatch.setattr(airflow, "_STOP_SECONDS", 2)


def processes(state: Path, components: tuple[str, ...] = COMPONENTS) -> list[int]:
    """Wait until the components run; return their process ids, each followed by its child's."""
    files = [state / f"{component}.pids" for component in components]
    wait_for(lambda: all(path.exists() for path in files))
    return [int(pid) for path in files for pid in path.read_text().split()]


def alive(pids: list[int]) -> list[int]:
    """Return those that run; a zombie does not."""
    return [pid for pid in pids if _state(pid) not in ("", "Z", "X")]


def wait_for(happened: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so; fail if it never is."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""
