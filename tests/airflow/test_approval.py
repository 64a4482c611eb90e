"""A new adapter on a real Airflow: measured, gated, shown in a form, decided by a person, published once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.airflow.approvals import Site, open_sites, scripted_endpoint
from tests.airflow.conftest import EXECUTED, FinishedRun, RunningAirflow
from tests.pipelines.training_corpus import page
from tidegate.core import keys
from tidegate.evaluation.report_markdown import approval_body
from tidegate.orchestration.approval import report_path
from tidegate.pipelines.evaluate_release import read_evaluated
from tidegate.pipelines.verify_store import verify_corpus
from tidegate.registry.adapters import newest_adapter
from tidegate.registry.releases import read_release

pytestmark = pytest.mark.airflow

STEPS = ("compose", "evaluate", "gate", "approve", "publish")
SKIPPED_AFTER_COMPOSE = {"compose": "success", **dict.fromkeys(STEPS[1:], "skipped")}


@pytest.fixture(scope="module")
def sites(airflow: RunningAirflow) -> Iterator[dict[str, Site]]:
    with scripted_endpoint() as endpoint:
        yield open_sites(airflow, endpoint, {"granted": {}, "declined": {}})


@pytest.fixture(scope="module")
def waiting(sites: dict[str, Site]) -> dict[str, str]:
    """The run of each corpus whose form waits."""
    return {name: site.trigger() for name, site in sites.items()}


def shown(site: Site, wanted: str) -> str:
    """The body of the form of a release."""
    release = read_release(site.desk.store, site.name, wanted)
    found = read_evaluated(site.desk.workspace, release.evaluation)
    return approval_body(found.report, release=wanted, report_url=report_path(site.dag_id, release.evaluation))


def executed(run_tasks: list[dict]) -> list[str]:
    return [task["task_id"] for task in run_tasks if task["state"] in EXECUTED]


def test_an_approved_adapter_serves_and_is_asked_about_once(sites: dict[str, Site], waiting: dict[str, str]) -> None:
    site, run_id = sites["granted"], waiting["granted"]
    form, before = site.form(run_id), site.entries()
    candidate = site.candidate()
    assert form["subject"] == f"Let release {candidate[:12]} of granted serve?"
    assert form["body"] == shown(site, candidate)
    assert "**Better than the champion: 100.0 % correct against 0.0 %" in form["body"]
    assert (form["options"], form["defaults"]) == (["Approve", "Reject"], ["Reject"])
    assert [user["id"] for user in form["assigned_users"]] == ["ml_lead"]
    assert form["params"]["comment"]["value"] is None
    assert [entry.op for entry in before] == ["promote"]

    done = site.answered("ml_lead", run_id, "Approve", "reads well")
    assert done.states == dict.fromkeys(STEPS, "success")
    assert site.serves == candidate
    entry, evaluation = site.entries()[0], read_release(site.desk.store, "granted", candidate).evaluation
    approval = site.approval(entry.approval)
    assert (approval.approver.id, approval.decision, approval.comment) == ("ml_lead", "approve", "reads well")
    assert (approval.release, approval.evaluation, approval.base_entry) == (candidate, evaluation, before[0].digest)
    assert (approval.run, entry.policy) == (site.run_name(run_id), None)
    promoted, approved, proposed = site.events()[:3]
    assert [event.kind for event in (proposed, approved, promoted)] == ["proposed", "approved", "promoted"]
    assert {event.run for event in (proposed, approved, promoted)} == {approval.run}
    assert {event.what.release for event in (proposed, approved, promoted)} == {candidate}
    for event in (approved, promoted):
        assert (event.who.id, event.why) == ("ml_lead", "reads well")
        assert event.evidence["approval"] == entry.approval
    assert_told(site, done, candidate, evaluation)
    assert max(site.airflow.xcoms(done).values()) < 2_000
    assert site.airflow.asset_events("release.granted") == [{"release": candidate}]
    status, report = site.airflow.page(report_path(site.dag_id, evaluation))
    assert (status, b"<html" in report) == (200, True)

    again = site.run()
    assert (again.state, again.states) == ("success", SKIPPED_AFTER_COMPOSE)
    assert again.log("compose")[-2] == f"release {candidate[:12]} serves already"
    verify_corpus(site.desk.store, "granted")


def assert_told(site: Site, done: FinishedRun, candidate: str, evaluation: str) -> None:
    """The last line of each log says what was done."""
    adapter = newest_adapter(site.desk.store, "granted").key
    told = {task: done.log(task)[-2] for task in STEPS}
    snapshot = read_release(site.desk.store, "granted", candidate).bundle.snapshot
    assert told == {
        "compose": f"release of snapshot {snapshot[:12]}, adapter {adapter[:12]} is composed",
        "evaluate": told["evaluate"],
        "gate": f"release {candidate[:12]} waits for an approval",
        "approve": "approved: ml_lead",
        "publish": f"release {candidate[:12]} serves now",
    }
    assert told["evaluate"].startswith(f"evaluation {evaluation[:12]}: ")
    assert told["evaluate"].endswith(" answers were generated")
    assert "rule: evidence 0.016, at most 0.025: pass" in done.log("gate")


def test_a_new_index_under_the_approved_adapter_is_promoted_by_policy_without_a_form(sites: dict[str, Site]) -> None:
    site = sites["granted"]
    before = site.entries()[0]
    assert before.approval
    site.desk.write(Alby=page("Alby", fee="17"))
    done = site.run()
    assert done.states == dict.fromkeys(STEPS, "success")
    assert site.airflow.api._call("GET", f"/api/v2/dags/{site.dag_id}/dagRuns/{done.run_id}/hitlDetails") == {
        "hitl_details": [],
        "total_entries": 0,
    }
    assert done.log("approve")[-1] == "approval: the policy asks nobody"
    entry = site.entries()[0]
    old, new = (read_release(site.desk.store, "granted", found.release) for found in (before, entry))
    assert (entry.prev, entry.approval, entry.policy) == (before.digest, None, new.gate_policy)
    assert (new.bundle.adapter, new.serving_mode) == (old.bundle.adapter, "hybrid")
    assert new.bundle.snapshot != old.bundle.snapshot
    event = site.events()[0]
    assert (event.kind, event.who.id, event.what.entry) == ("promoted", "policy", entry.digest)
    assert done.log("publish")[-2] == f"release {entry.release[:12]} serves now"


def test_a_rejected_adapter_is_not_published_and_not_proposed_again(
    sites: dict[str, Site], waiting: dict[str, str]
) -> None:
    site, run_id = sites["declined"], waiting["declined"]
    site.form(run_id)
    before, candidate = site.entries(), site.candidate()
    done = site.answered("ml_lead", run_id, "Reject", "too curt")
    assert (done.state, done.states) == ("success", {**dict.fromkeys(STEPS, "success"), "publish": "skipped"})
    assert done.log("approve")[-2] == "rejected: ml_lead"
    assert site.entries() == before
    rejected = site.events()[0]
    assert (rejected.kind, rejected.who.id, rejected.why) == ("rejected", "ml_lead", "too curt")
    assert rejected.what.release == candidate
    assert site.approval(rejected.evidence["approval"]).decision == "reject"

    again = site.run()
    assert (again.state, again.states) == ("success", SKIPPED_AFTER_COMPOSE)
    adapter = newest_adapter(site.desk.store, "declined").key
    (note,) = [line for line in again.log("compose") if line.startswith(f"adapter {adapter[:12]} was not promoted: ")]
    assert "rejected by ml_lead: too curt (20" in note
    assert executed(again.tasks) == ["compose"]
    assert keys.verdict("declined", adapter) in {found.key for found in site.desk.store.list_keys("declined/")}
