"""A refresh over a store that loses answers: it ends right or says so, and deletes nothing (K6, K8)."""

import contextlib
import random
from pathlib import Path

import pytest

from tests.conftest import make_workspace, refresh
from tests.fakes import FaultStore
from tidegate.core import publishing
from tidegate.core.errors import CommitUnknownError, StoreUnavailableError
from tidegate.core.protocols import ArtifactStore
from tidegate.pipelines.verify_store import verify_corpus
from tidegate.registry.channel import Channel


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_FIRST_WAIT_SECONDS", 0.0)


@pytest.fixture
def page(folder: Path) -> Path:
    (folder / "a.md").write_text("# A\n\nThe first version.\n")
    return folder / "a.md"


@pytest.mark.parametrize("fault", ["before", "after", "conflict"])
def test_any_one_lost_answer_is_survived(page: Path, folder: Path, store: ArtifactStore, fault: str) -> None:
    counting = FaultStore(store)
    refresh(make_workspace(folder, counting))
    mutations = [key for key in counting.mutations if "/scans/" not in key]
    for number in range(1, len(counting.mutations) + 1):
        if "/scans/" in counting.mutations[number - 1]:
            continue  # hints are disposable: see below
        page.write_text(f"# A\n\nVersion {number} of the page after {fault}.\n")
        faulty = FaultStore(store, {number: fault})
        report = refresh(make_workspace(folder, faulty))
        assert report.documents["modified"] == 1
        verify_corpus(store, "test")
    history = [entry.seq for _, entry in Channel(store, "test").history()]
    assert history == list(range(len(history), 0, -1))
    assert len(history) == len(mutations) + 1


def test_seeded_storms_of_faults_never_break_the_store(page: Path, folder: Path, store: ArtifactStore) -> None:
    for seed in range(60):
        generator = random.Random(seed)
        page.write_text(f"# A\n\nVersion {seed} of the page.\n")
        faults = {
            number: generator.choice(["before", "after", "conflict"])
            for number in range(1, 40)
            if generator.random() < 0.4
        }
        with contextlib.suppress(StoreUnavailableError, CommitUnknownError):  # the two that say: run again
            refresh(make_workspace(folder, FaultStore(store, faults)))
        if seed or Channel(store, "test").read().release:
            verify_corpus(store, "test")
    refresh(make_workspace(folder, store))
    verify_corpus(store, "test")
    history = [entry.seq for _, entry in Channel(store, "test").history()]
    assert history == list(range(len(history), 0, -1))
