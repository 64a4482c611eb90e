"""What must never serve, on a real Airflow: every way around the form, and every answer that comes too late.

Each is refused with the reason, and the old champion serves on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.airflow.approvals import DATED, Site, open_sites, scripted_endpoint
from tests.airflow.conftest import FinishedRun, RunningAirflow
from tests.pipelines.releases import index, promote, release
from tests.pipelines.training_corpus import page
from tidegate.core.event_records import format_time
from tidegate.core.records import Approval, Approver
from tidegate.local.api import ApiError
from tidegate.pipelines.verify_store import verify_corpus
from tidegate.registry.adapters import newest_adapter
from tidegate.registry.approvals import sign, write_approval
from tidegate.registry.releases import read_release

pytestmark = pytest.mark.airflow

PROMOTIONS = {
    "bypassed": {},  # its runs ask about one candidate, and none of them publishes
    "paired": {"approvers": ["ml_lead", "data_engineer"], "second_approver": True},
    "outrun": {},
    "moved": {},
    "expiring": {"approval_hours": 0.001},
}
RUNS = {"bypassed": 4, "paired": 2}
OTHER_KEY = b"another key of at least 32 bytes, not Airflow's"


@dataclass
class Asked:
    """A corpus, what it served before, and the runs that ask."""

    site: Site
    runs: list[str]
    served: str = field(init=False)

    def __post_init__(self) -> None:
        self.served = str(self.site.serves)

    def next_run(self) -> str:
        """Return a run that nobody has touched yet, with its form open."""
        run_id = self.runs.pop()
        self.site.form(run_id)
        return run_id

    def assert_unchanged(self) -> None:
        assert [entry.release for entry in self.site.entries()] == [self.served]
        verify_corpus(self.site.desk.store, self.site.name)


@pytest.fixture(scope="module")
def asked(airflow: RunningAirflow) -> Iterator[dict[str, Asked]]:
    with scripted_endpoint() as endpoint:
        sites = open_sites(airflow, endpoint, PROMOTIONS)
        for site in sites.values():
            site.measure()
        yield {name: Asked(site, [site.trigger() for _ in range(RUNS.get(name, 1))]) for name, site in sites.items()}


def refusal(run: FinishedRun, task: str = "publish") -> tuple[str, str, str]:
    """Code, reason and next action of a failed task."""
    assert run.state == "failed"
    assert run.states[task] == "failed"
    block = run.failure(task)
    return block["code"], block["what"], block["next action"]


def test_who_is_not_assigned_may_not_answer(asked: dict[str, Asked]) -> None:
    bypassed = asked["bypassed"]
    run_id = bypassed.next_run()
    with pytest.raises(ApiError, match=r"403.*data_engineer.*is not a respondent for the task"):
        bypassed.site.answer("data_engineer", run_id, "Approve")
    assert not bypassed.site.form(run_id)["response_received"]
    assert [event.kind for event in bypassed.site.events()[:1]] == ["proposed"]
    bypassed.runs.insert(0, run_id)  # it asks on
    bypassed.assert_unchanged()


def test_marking_the_form_as_success_approves_nothing(asked: dict[str, Asked]) -> None:
    bypassed = asked["bypassed"]
    run_id = bypassed.next_run()
    bypassed.site.mark_success("data_engineer", run_id)
    code, what, action = refusal(bypassed.site.wait(run_id))
    run, candidate = bypassed.site.run_name(run_id), bypassed.site.candidate()
    assert code == "approval_invalid"
    assert what == f"release {candidate[:12]} needs an approval, and none was given in run {run}"
    assert action == "answer the form of this run; marking its task as success approves nothing"
    bypassed.assert_unchanged()


def test_a_forged_result_that_names_no_approval_is_refused(asked: dict[str, Asked]) -> None:
    bypassed = asked["bypassed"]
    run_id = bypassed.next_run()
    bypassed.site.forge("data_engineer", run_id, {"approval": "5" * 64})
    bypassed.site.mark_success("data_engineer", run_id)
    code, what, _ = refusal(bypassed.site.wait(run_id))
    assert code == "approval_invalid"
    assert what == f"no approval {'5' * 12} is stored: what was handed on was never given"
    bypassed.assert_unchanged()


def test_an_approval_that_another_key_signed_is_refused(asked: dict[str, Asked]) -> None:
    bypassed = asked["bypassed"]
    site, run_id = bypassed.site, bypassed.next_run()
    now = site.desk.store.now()
    made = sign(an_approval(site, run_id, now), OTHER_KEY)
    digest = write_approval(site.desk.store, made)
    site.forge("data_engineer", run_id, {"approval": digest})
    site.mark_success("data_engineer", run_id)
    code, what, action = refusal(site.wait(run_id))
    assert code == "approval_invalid"
    assert what == (
        f"approval {digest[:12]} has a signature that does not fit: one of its fields was changed, or another key"
        " signed it"
    )
    assert action.startswith("give the task that asks and the task that publishes the same approval key")
    bypassed.assert_unchanged()
    right_key = (site.airflow.folder / "home" / "approval.secret").read_bytes().strip()
    assert sign(made, right_key).signature != made.signature  # but for the key it would have been let through


def an_approval(site: Site, run_id: str, now: float) -> Approval:
    """An approval of the candidate by the approver, right in every field, unsigned."""
    candidate = site.candidate()
    return Approval(
        corpus=site.name,
        store=site.desk.store.uri,
        channel="champion",
        op="promote",
        release=candidate,
        evaluation=read_release(site.desk.store, site.name, candidate).evaluation,
        base_entry=site.channel.read().entry,
        decision="approve",
        approver=Approver(id="ml_lead", name="ml_lead"),
        comment="",
        decided_at=format_time(now),
        expires_at=format_time(now + 3600),
        run=site.run_name(run_id),
        signature="",
    )


def test_the_signature_of_another_run_is_refused_and_one_person_is_not_two(asked: dict[str, Asked]) -> None:
    paired = asked["paired"]
    site, first, second = paired.site, paired.next_run(), paired.next_run()
    site.answer("ml_lead", first, "Approve", "fine")
    site.form(first, "approve_second")
    approved = site.events()[0]
    assert (approved.kind, approved.run) == ("approved", site.run_name(first))
    real = approved.evidence["approval"]

    for task in ("approve", "approve_second"):
        site.forge("data_engineer", second, {"approval": real}, task)
        site.mark_success("data_engineer", second, task)
    code, what, _ = refusal(site.wait(second))
    assert code == "approval_invalid"
    assert what == f"approval {real[:12]} was given in run {site.run_name(first)}, this is run {site.run_name(second)}"
    paired.assert_unchanged()

    site.answer("ml_lead", first, "Approve", "fine again", "approve_second")
    code, what, _ = refusal(site.wait(first))
    assert code == "approval_invalid"
    assert what == f"release {site.candidate()[:12]} needs two approvers, and only ml_lead approved"
    paired.assert_unchanged()


def test_k11_a_form_cleared_and_answered_after_the_candidate_changed_names_its_successor(
    asked: dict[str, Asked],
) -> None:
    outrun = asked["outrun"]
    site, run_id = outrun.site, outrun.next_run()
    old, body = site.candidate(), site.form(run_id)["body"]
    site.clear("data_engineer", run_id)
    assert site.form(run_id, shown=2)["body"] == body
    site.new_adapter("Is a night in Alby dear?")
    site.measure()
    newer = site.trigger()
    site.form(newer)
    new = site.candidate()
    assert new != old

    site.answer("ml_lead", run_id, "Approve")
    ended = site.wait(run_id)
    assert ended.states["publish"] == "upstream_failed"
    superseded = (
        "approval_stale",
        f"release {old[:12]} was superseded by release {new[:12]}",
        f"answer the form of release {new[:12]}; this one publishes nothing",
    )
    assert refusal(ended, "approve") == superseded
    outrun.assert_unchanged()
    site.clear("data_engineer", run_id)
    assert refusal(site.wait(run_id), "approve") == superseded  # it is not even asked about again
    outrun.assert_unchanged()

    site.clear("data_engineer", run_id, "compose")
    code, what, action = refusal(site.wait(run_id), "compose")
    assert code == "approval_stale"
    bundles = [read_release(site.desk.store, site.name, wanted).bundle.digest[:12] for wanted in (old, new)]
    assert what == "this run asked for the approval of bundle {}, the newest is {}".format(*bundles)
    assert action == "trigger promote_release again: a new run evaluates and asks anew"
    outrun.assert_unchanged()


def test_an_answer_after_the_champion_has_moved_is_refused(asked: dict[str, Asked]) -> None:
    moved = asked["moved"]
    site, run_id = moved.site, moved.next_run()
    before = site.channel.read().entry
    (site.desk.folder / "Alby.md").write_text(page("Alby", fee="17"))
    quick = release(site.desk.workspace, index(site.desk.workspace))
    promote(site.desk.workspace, quick)
    now = site.channel.read().entry
    ended = site.answered("ml_lead", run_id, "Approve")
    assert ended.states["approve"] == "success"
    code, what, _ = refusal(ended)
    assert code == "approval_stale"
    refused, approved = site.events()[:2]
    assert (refused.kind, refused.why, refused.run) == ("refused", what, approved.run)
    approval = approved.evidence["approval"]
    assert what == (
        f"the champion moved: approval {approval[:12]} was decided against entry {before[:12]}, now it is at {now[:12]}"
    )
    assert [entry.release for entry in site.entries()] == [quick, moved.served]


def test_k11_a_form_that_nobody_answers_in_time_is_a_reject(asked: dict[str, Asked]) -> None:
    expiring = asked["expiring"]
    site = expiring.site
    (run_id,) = expiring.runs
    ended = site.wait(run_id)
    assert (ended.state, ended.states["approve"], ended.states["publish"]) == ("success", "success", "skipped")
    assert ended.log("approve")[-2] == "rejected: nobody answered in time"
    event = site.events()[0]
    assert (event.kind, event.who.id, event.why) == ("expired", "airflow", "nobody answered in time")
    approval = site.approval(event.evidence["approval"])
    assert (approval.decision, approval.approver.id) == ("reject", "")
    expiring.assert_unchanged()
    again = site.run()
    adapter = newest_adapter(site.desk.store, site.name).key
    (note,) = [line for line in again.log("compose") if line.startswith(f"adapter {adapter[:12]} was not promoted: ")]
    assert DATED.sub("TIME", note).endswith("expired by nobody: nobody answered in time (TIME)")
    expiring.assert_unchanged()
