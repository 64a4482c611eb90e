"""A rollback is done once, whatever is killed, raced, repeated or lost, and undoes nothing that came after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, make_workspace
from tests.fakes import FaultStore
from tests.pipelines.basins import stored
from tests.pipelines.rollback_site import LEAD, Site, copy_of, make_site
from tidegate.core import publishing
from tidegate.core.errors import CommitLostError
from tidegate.core.event_records import Actor
from tidegate.core.protocols import ArtifactStore
from tidegate.pipelines.rollback_release import Rollback, rollback
from tidegate.pipelines.verify_store import verify_corpus
from tidegate.registry.file_store import FileStore

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[5])
from tests.conftest import make_workspace
from tidegate.core.event_records import Actor
from tidegate.pipelines.rollback_release import rollback
from tidegate.registry.store import open_store
workspace = make_workspace(Path(sys.argv[1]), open_store(sys.argv[2], base=Path("/")))
print(rollback(workspace, sys.argv[3], "worse", Actor(id="7", name="ml_lead"), asked_on=int(sys.argv[4]), run="r"))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    base = tmp_path_factory.mktemp("made")
    (base / "documents").mkdir()
    return make_site(base / "documents", FileStore(base / "store"))


@pytest.fixture
def site(made: Site, folder: Path, tmp_path: Path) -> Site:
    """A copy of the corpus; its store is a test's own."""
    return copy_of(made, folder, tmp_path / "store")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_FIRST_WAIT_SECONDS", 0.0)


def test_the_same_rollback_again_does_nothing(site: Site) -> None:
    site.rollback(1, asked_on=3)
    before = stored(site.workspace.store)
    again = site.rollback(1, asked_on=3)
    assert (again.outcome, again.version, again.before) == ("done_before", "v4", site.releases[2])
    assert stored(site.workspace.store) == before


def test_a_retry_does_not_undo_a_promotion_that_came_after_it(site: Site) -> None:
    site.rollback(1, asked_on=3)
    site.promote(2)
    before = stored(site.workspace.store)
    again = site.rollback(1, asked_on=3)
    assert (again.outcome, again.release, again.serves) == ("done_before", site.releases[0], site.releases[1])
    assert stored(site.workspace.store) == before


def test_the_same_command_again_is_the_same_rollback_and_with_another_reason_it_is_not(site: Site) -> None:
    assert site.rollback(None).outcome == "rolled_back"
    assert [site.rollback(None).outcome, site.rollback(2).outcome] == ["done_before", "done_before"]
    assert site.served()[0] == "rollback 2"
    assert len(site.events()) == 1
    assert rollback(site.workspace, None, "still worse", LEAD).release == site.releases[0]
    assert sorted(site.events()) == [("ml_lead", "rolled_back", "still worse"), ("ml_lead", "rolled_back", "worse")]


def test_a_later_rollback_for_the_same_reason_is_another_one(site: Site) -> None:
    site.rollback(1, asked_on=3)
    site.promote(3)
    assert site.rollback(1, asked_on=5) == Rollback(
        "rolled_back", site.releases[0], before=site.releases[2], serves=site.releases[0], version="v6"
    )
    assert len(site.events()) == 2


def test_a_second_run_that_finds_it_done_writes_no_second_event(site: Site) -> None:
    site.rollback(1, asked_on=3)
    assert (
        rollback(site.workspace, "v1", "worse", Actor(id="8", name="ops"), asked_on=3, run="s").outcome == "done_before"
    )
    assert site.events() == [("ml_lead", "rolled_back", "worse")]


def test_a_rollback_asked_for_before_a_promotion_is_refused_and_says_what_serves(site: Site) -> None:
    site.promote(2)
    before = stored(site.workspace.store)
    with pytest.raises(CommitLostError, match="asked for while v3 of corpus test served, but v4 serves now") as caught:
        site.rollback(1, asked_on=3)
    assert "ask for a new rollback" in caught.value.next_action
    assert stored(site.workspace.store) == before


def test_k22_a_rollback_stands_over_a_promotion_that_races_with_it(site: Site) -> None:
    class Racing(FaultStore):
        raced = False

        def swap(self, key: str, data: bytes, version: str) -> None:
            if not self.raced:
                self.raced = True
                site.promote(2)
            super().swap(key, data, version)

    racing = make_workspace(site.workspace.base, Racing(site.workspace.store))
    done = rollback(racing, site.releases[0], "worse", LEAD, asked_on=3)
    assert (done.outcome, done.before, done.version) == ("rolled_back", site.releases[1], "v5")
    assert site.served()[:3] == ["rollback 1", "promote 2", "promote 3"]
    assert len(site.events()) == 1


def test_a_second_copy_that_wakes_late_changes_nothing(site: Site) -> None:
    """A zombie stops before it moves the head; the other copy rolls back, and a release is promoted."""

    class Late(FaultStore):
        slept = False

        def swap(self, key: str, data: bytes, version: str) -> None:
            if not self.slept:
                self.slept = True
                assert site.rollback(1, asked_on=3).outcome == "rolled_back"
                site.promote(2)
            super().swap(key, data, version)

    late = make_workspace(site.workspace.base, Late(site.workspace.store))
    rollback(late, site.releases[0], "worse", LEAD, asked_on=3, run="r")
    assert site.served()[:3] == ["promote 2", "rollback 1", "promote 3"]
    assert len(site.events()) == 1


@pytest.mark.parametrize("faults", [{1: "after"}, {2: "after"}, {2: "conflict", 3: "before"}, {3: "after"}])
def test_a_lost_answer_ends_in_one_entry_and_one_event(
    any_store: Callable[[], ArtifactStore], folder: Path, faults: dict[int, str]
) -> None:
    site = make_site(folder, any_store())
    store = FaultStore(site.workspace.store)
    workspace = make_workspace(folder, store)
    store.faults = faults
    rollback(workspace, site.releases[0], "worse", LEAD, asked_on=3)
    assert site.served() == ["rollback 1", "promote 3", "promote 2", "promote 1"]
    assert site.events() == [("ml_lead", "rolled_back", "worse")]


def run_rollback(site: Site, **environment: str) -> subprocess.CompletedProcess[str]:
    """Roll back to the first release, asked for on the third, in a process of its own."""
    store = site.workspace.store.uri
    command = [sys.executable, "-c", SCRIPT, str(site.workspace.base), store, site.releases[0], "3", str(ROOT)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("promoted_since", [False, True], ids=["retried", "retried after a promotion"])
@pytest.mark.parametrize("point", ["K13", "K14"])
def test_a_killed_rollback_is_done_once_by_its_retry(site: Site, point: str, promoted_since: bool) -> None:
    assert run_rollback(site, TIDEGATE_FAILPOINT=f"{point}=kill").returncode == -signal.SIGKILL
    assert site.served()[0] == ("promote 3" if point == "K13" else "rollback 1")
    assert site.events() == []
    if promoted_since:
        site.promote(2)
    retried = run_rollback(site)
    if point == "K13" and promoted_since:
        assert "CommitLostError" in retried.stderr
        assert site.served() == ["promote 2", "promote 3", "promote 2", "promote 1"]
        assert site.events() == []
    else:
        assert retried.returncode == 0, retried.stderr
        expected = ["rollback 1", "promote 3", "promote 2", "promote 1"]
        assert site.served() == (["promote 2", *expected] if promoted_since else expected)
        assert site.events() == [("ml_lead", "rolled_back", "worse")]
    verify_corpus(site.workspace.store, "test")
