"""Rollbacks on a real Airflow: chosen in the form, named at the trigger, refused with the reason, done once."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.airflow.conftest import RUN_SECONDS, FinishedRun, RunningAirflow
from tests.conftest import refresh, settle
from tidegate.core.event_records import Event
from tidegate.local.api import AirflowApi, ApiError
from tidegate.pipelines.verify_store import verify_corpus
from tidegate.registry.channel import Channel, Promotion
from tidegate.registry.events import read_events
from tidegate.registry.runs import find_run

pytestmark = pytest.mark.airflow

KEEP = "Keep what serves"


@dataclass
class Site:
    """A corpus with three releases, oldest first; its approver is ``ml_lead``."""

    airflow: RunningAirflow
    name: str
    releases: list[str]

    @property
    def dag_id(self) -> str:
        return f"rollback_release.{self.name}"

    @property
    def channel(self) -> Channel:
        return Channel(self.airflow.workspace(self.name).store, self.name)

    def served(self) -> list[str]:
        """The history as ``promote 1``, newest first."""
        return [f"{entry.op} {self.releases.index(entry.release) + 1}" for _, entry in self.channel.history()]

    def events(self) -> list[Event]:
        """Every rollback, newest first."""
        found = read_events(self.airflow.workspace(self.name).store, self.name, 50).events
        return [event for event in found if event.kind == "rolled_back"]

    def promote(self, number: int) -> None:
        release = self.releases[number - 1]
        assert self.channel.apply(Promotion("promote", release, self.channel.read().entry, approval="e" * 64))

    def user(self, name: str) -> AirflowApi:
        api = AirflowApi(self.airflow.api._url, name, name)
        api.log_in()
        return api

    def trigger(self, user: str, **form: Any) -> str:
        """Fill in the trigger form; return the run's id."""
        body = {"logical_date": None, "conf": form}
        return str(self.user(user)._call("POST", f"/api/v2/dags/{self.dag_id}/dagRuns", body)["dag_run_id"])

    def roll_back(self, user: str, **form: Any) -> FinishedRun:
        return self.airflow.wait(self.dag_id, self.trigger(user, **form))

    def form(self, run_id: str) -> dict[str, Any]:
        """Wait until a form waits for an answer; return it.

        The scheduler must have seen the task park: Airflow 3.3.2 fails a task that is answered in the second before.
        """
        parked = re.compile(
            rf"TaskInstance Finished: .*task_id=choose, run_id={re.escape(run_id)}.*state=awaiting_input"
        )
        deadline = time.monotonic() + RUN_SECONDS
        while not parked.search((self.airflow.folder / "home" / "scheduler.log").read_text()):
            assert time.monotonic() < deadline, f"{run_id} has shown no form within {RUN_SECONDS} s"
            time.sleep(0.3)
        return dict(self.airflow.api._call("GET", self._form_path(run_id)))

    def answer(self, user: str, run_id: str, option: str) -> FinishedRun:
        body = {"chosen_options": [option], "params_input": {}}
        self.user(user)._call("PATCH", self._form_path(run_id), body)
        return self.airflow.wait(self.dag_id, run_id)

    def _form_path(self, run_id: str) -> str:
        return f"/api/v2/dags/{self.dag_id}/dagRuns/{quote(run_id)}/taskInstances/choose/-1/hitlDetails"


@pytest.fixture(scope="module")
def made(airflow: RunningAirflow) -> Site:
    documents = airflow.folder / "documents" / "undo"
    documents.mkdir(parents=True)
    airflow.write_corpus("undo", source={"path": str(documents)}, promotion={"approvers": ["ml_lead"]})
    airflow.api.wait_for_dag("rollback_release.undo", RUN_SECONDS)
    site = Site(airflow, "undo", [])
    for number in range(1, 4):
        (documents / "page.md").write_text(f"# Page\n\nVersion {number}.\n")
        settle()
        refresh(airflow.workspace("undo"))
        site.releases.append(str(site.channel.read().release))
    return site


@pytest.fixture
def site(made: Site) -> Site:
    """The corpus with its third release serving."""
    if made.channel.read().release != made.releases[2]:
        made.promote(3)
    return made


def newest(site: Site) -> int:
    """Number of the entry that serves."""
    head = site.channel.read().head
    assert head is not None
    return head.seq


def test_a_person_chooses_from_the_releases_that_served_before(site: Site) -> None:
    now = newest(site)
    run_id = site.trigger("data_engineer", reason="worse answers since Monday")
    form = site.form(run_id)
    assert form["subject"] == "Which release of undo shall serve again?"
    assert form["options"] == [
        f"v2 in place of v{now}: {site.releases[1][:12]}, 1 documents",
        f"v1 in place of v{now}: {site.releases[0][:12]}, 1 documents",
        KEEP,
    ]
    assert form["defaults"] == [KEEP]
    assert [user["id"] for user in form["assigned_users"]] == ["ml_lead"]
    assert "worse answers since Monday" in form["body"]
    with pytest.raises(ApiError, match="403"):
        site.answer("data_engineer", run_id, form["options"][0])
    assert newest(site) == now

    done = site.answer("ml_lead", run_id, form["options"][1])
    assert done.states == {"choose": "success", "restore": "success"}
    assert site.served()[:2] == ["rollback 1", "promote 3"]
    told = f"release {site.releases[0][:12]} serves again, in place of {site.releases[2][:12]} (v{now + 1})"
    assert done.log("restore")[-2] == told
    event = site.events()[0]
    assert (event.who.id, event.why) == ("ml_lead", "worse answers since Monday")
    assert event.evidence["replaced"] == site.releases[2]
    assert event.run == find_run(site.airflow.workspace("undo").store, "undo", f"{site.dag_id}/{run_id}")
    assert site.airflow.asset_events("release.undo")[-1] == {"release": site.releases[0]}
    assert max(site.airflow.xcoms(done).values()) < 2_000
    verify_corpus(site.airflow.workspace("undo").store, "undo")


def test_a_run_that_names_its_release_is_not_asked_and_clearing_it_undoes_nothing(site: Site) -> None:
    now = newest(site)
    done = site.roll_back("ml_lead", reason="by name", release=site.releases[1][:10])
    assert done.states == {"choose": "success", "restore": "success"}
    assert site.served()[:2] == ["rollback 2", "promote 3"]
    assert (site.events()[0].who.name, site.events()[0].why) == ("ml_lead", "by name")
    site.promote(3)
    count = len(site.events())
    for tasks in (["restore"], ["choose"]):
        again = site.airflow.run_again(done, tasks)
        told = f"release {site.releases[1][:12]} had been restored before; {site.releases[2][:12]} serves (v{now + 1})"
        assert again.log("restore")[-2] == told
    assert (newest(site), len(site.events())) == (now + 2, count)


def test_whoever_keeps_what_serves_changes_nothing(site: Site) -> None:
    now = newest(site)
    run_id = site.trigger("ml_lead", reason="on second thoughts", release="")
    site.form(run_id)
    kept = site.answer("ml_lead", run_id, KEEP)
    assert (kept.state, kept.states) == ("success", {"choose": "success", "restore": "skipped"})
    assert kept.log("restore")[-1] == "nothing was chosen: what serves keeps serving"
    assert newest(site) == now


def test_a_form_that_was_marked_as_answered_restores_nothing(site: Site) -> None:
    now = newest(site)
    run_id = site.trigger("data_engineer", reason="around the form")
    site.form(run_id)
    path = f"/api/v2/dags/{site.dag_id}/dagRuns/{quote(run_id)}/taskInstances/choose"
    site.user("data_engineer")._call("PATCH", path, {"new_state": "success"})
    ended = site.airflow.wait(site.dag_id, run_id)
    assert ended.states == {"choose": "success", "restore": "skipped"}
    assert newest(site) == now


def test_an_answer_to_a_form_that_is_out_of_date_is_refused(site: Site) -> None:
    now = newest(site)
    run_id = site.trigger("ml_lead", reason="too late")
    option = site.form(run_id)["options"][0]
    site.promote(1)
    refused = site.answer("ml_lead", run_id, option)
    assert refused.states == {"choose": "success", "restore": "failed"}
    block = refused.failure("restore")
    assert (block["code"], block["safe to rerun"]) == ("commit_lost", "yes")
    assert f"was asked for while v{now} of corpus undo served, but v{now + 1} serves now" in block["what"]
    assert "ask for a new rollback" in block["next action"]
    assert site.served()[0] == "promote 1"


MISTAKES = {
    "an unknown release": ("ml_lead", "v999", "release_unknown", "no release of corpus undo is 'v999'; choices: v"),
    "no approver": ("data_engineer", "v1", "not_approver", "data_engineer triggered a rollback of corpus undo"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_fails_before_anything_is_written_and_says_what_to_do(site: Site, mistake: str) -> None:
    user, release, code, what = MISTAKES[mistake]
    now = newest(site)
    failed = site.roll_back(user, reason="a mistake", release=release)
    assert failed.states == {"choose": "failed", "restore": "upstream_failed"}
    block = failed.failure("choose")
    assert block["code"] == code
    assert what in block["what"]
    assert newest(site) == now


def test_a_release_that_is_not_whole_is_refused_and_restored_once_it_is(site: Site) -> None:
    snapshot = site.airflow.workspace("undo")
    release = site.releases[0]
    (path,) = Path(site.airflow.folder, "store", "undo", "snapshots").glob(f"{_snapshot(site, release)}/tombstones")
    path.rename(path.with_name("aside"))
    failed = site.roll_back("ml_lead", reason="not whole", release="v1")
    assert failed.states == {"choose": "success", "restore": "failed"}
    assert failed.failure("restore")["code"] == "object_missing"
    path.with_name("aside").rename(path)
    mended = site.airflow.run_again(failed)
    assert mended.state == "success"
    assert site.channel.read().release == release
    verify_corpus(snapshot.store, "undo")


def _snapshot(site: Site, release: str) -> str:
    from tidegate.registry.releases import read_release

    return read_release(site.airflow.workspace("undo").store, "undo", release).bundle.snapshot


@pytest.mark.parametrize("reason", [None, "", "no"])
def test_a_run_without_a_reason_does_not_start(site: Site, reason: str | None) -> None:
    with pytest.raises(ApiError, match="400"):
        site.trigger("ml_lead", **({} if reason is None else {"reason": reason}))
