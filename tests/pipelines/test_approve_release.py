"""Approving and publishing: every refusal with its sentence, one entry per approval, and what the events tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.pipelines.release_desk import ALL, KEY, LEAD, SECOND, ReleaseDesk, no_refusals, reads
from tidegate.core import failpoints
from tidegate.core.errors import (
    ApprovalInvalidError,
    ApprovalKeyMissingError,
    ApprovalStaleError,
    ReleaseHeldError,
    TidegateError,
)
from tidegate.core.event_records import Event, parse_time
from tidegate.core.records import Release
from tidegate.pipelines.approve_release import form
from tidegate.pipelines.compose_release import bind_to_form, stage_composition, staged_composition, why_refused
from tidegate.pipelines.promote_release import Approved, Candidate, publish, read_answers
from tidegate.registry.approvals import ApprovalKey, load_key, read_approval
from tidegate.registry.channel import Channel, Promotion
from tidegate.registry.events import read_events
from tidegate.registry.releases import write_release

HOUR = 3600.0
STORY = ("proposed", "approved", "promoted")
LISTED = {"promotion": {"approvers": ["7", "8"]}}
TWO = {"promotion": {"approvers": ["7", "8"], "second_approver": True}}


@pytest.fixture
def desk(adapter_serves: ReleaseDesk) -> ReleaseDesk:
    """An adapter serves, and a better one may be proposed."""
    adapter_serves.adapter(reads(*ALL), seed=1)
    return adapter_serves


def events(desk: ReleaseDesk, run: str = "run-1") -> list[Event]:
    """The events of a run, oldest first."""
    found = read_events(desk.store, desk.corpus, 100)
    assert found.damaged == ()
    return [event for event in found.events[::-1] if event.run == run]


def refused(act: Callable[[], object], kind: type[TidegateError] = ApprovalInvalidError) -> TidegateError:
    with pytest.raises(kind) as caught:
        act()
    return caught.value


def another(desk: ReleaseDesk) -> Candidate:
    """Propose a newer candidate in another run."""
    desk.adapter(reads(*ALL), seed=2)
    return desk.propose(run="run-2")[0]


def roll_back(desk: ReleaseDesk) -> None:
    """Restore the release before the one that serves."""
    channel = Channel(desk.store, desk.corpus)
    *_, (_, first) = channel.history()
    assert channel.apply(Promotion("rollback", first.release, channel.read().entry, reason="worse"))


def by_hand(desk: ReleaseDesk, candidate: Candidate, **changes: Any) -> Candidate:
    """Store a release that says something else than the candidate's; return it as a candidate."""
    release = Release.from_bytes(desk.store.read(f"test/releases/{candidate.release}.json").data, key="")
    return replace(candidate, release=write_release(desk.store, release.model_copy(update=changes)))


def test_an_approved_release_serves_once_and_its_events_tell_the_story(desk: ReleaseDesk) -> None:
    before, served = desk.entry, desk.served
    candidate, report = desk.propose()
    subject, body = desk.ask_approval(candidate)
    assert subject == f"Let release {candidate.release[:12]} of test serve?"
    assert candidate.release[:12] in body
    approval = desk.answer(candidate)
    assert desk.served == served
    assert desk.publish(candidate, approval)
    assert desk.served == candidate.release != served

    proposed, approved, promoted = (one for kind in STORY for one in events(desk) if one.kind == kind)
    proof = {"evaluation": report.evaluation, "base_entry": before}
    assert [event.what.release for event in (proposed, approved, promoted)] == [candidate.release] * 3
    assert {(event.what.snapshot, event.what.adapter, event.what.dataset) for event in events(desk)} == {
        (report.snapshot, report.adapter, report.dataset)
    }
    assert (proposed.who.id, proposed.why, proposed.evidence) == ("policy", candidate.why, proof)
    assert (approved.who.id, approved.who.name, approved.why) == (*LEAD, "better on every tag")
    assert approved.evidence == {"evaluation": report.evaluation, "approval": approval}
    assert (promoted.who, promoted.why, promoted.what.entry) == (approved.who, approved.why, desk.entry)
    assert promoted.evidence == {**proof, "approval": approval}
    (digest, entry), *_ = Channel(desk.store, desk.corpus).history()
    assert (digest, entry.prev, entry.approval, entry.policy) == (desk.entry, before, approval, None)

    held = desk.held()
    for _ in range(2):
        assert not desk.publish(candidate, approval)
    decided = parse_time(read_approval(desk.store, desk.corpus, approval).decided_at)
    assert desk.answer(candidate, decided_at=decided) == approval
    assert (desk.held(), desk.entry) == (held, digest)


def test_without_an_approval_nothing_is_published(desk: ReleaseDesk) -> None:
    candidate, _ = desk.propose()
    served = desk.served
    for approvals in (None, Approved([], load_key(KEY))):
        error = refused(lambda: publish(desk.workspace, candidate, approvals, "run-1"))  # noqa: B023
        assert error.what == f"release {candidate.release[:12]} needs an approval, and none was given in run run-1"
        assert error.next_action == "answer the form of this run; marking its task as success approves nothing"
    assert desk.served == served


def test_tasks_that_were_skipped_or_forged_hand_on_no_approval(desk: ReleaseDesk) -> None:
    assert read_answers([None, {}, {"approval": None}, {"approved": True}], {}) is None
    digests = [{"approval": "a" * 64}, None, {"approval": "b" * 64}]
    found = read_answers(digests, KEY)
    assert (found.approvals, found.key) == (["a" * 64, "b" * 64], load_key(KEY))
    with pytest.raises(ApprovalKeyMissingError):
        read_answers(digests, {})


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a rejection": ({}, {"approved": False}, "is a reject by '7' (ml_lead)"),
    "no answer": ({}, {"approved": False, "user": None, "comment": ""}, "is a reject by '' (nobody)"),
    "expired": ({}, {"holds_seconds": -2 * HOUR}, "expired 2 hours ago ("),
    "in the future": ({}, {"decided_later": 600}, "was decided "),
    "an unassigned user": (
        LISTED,
        {"user": ("9", "ml_lead")},
        "was given by '9' (ml_lead), who is no approver; approvers: 7, 8",
    ),
}


@pytest.mark.parametrize(("settings", "said", "told"), CASES.values(), ids=CASES)
def test_an_answer_that_does_not_allow_it_publishes_nothing(
    settings: dict[str, Any], said: dict[str, Any], told: str, desk: ReleaseDesk
) -> None:
    desk = desk.under(**settings)
    candidate, _ = desk.propose()
    served = desk.served
    said = dict(said)
    later = said.pop("decided_later", None)
    if later:
        said["decided_at"] = float(int(desk.store.now()) + later)
    approval = desk.answer(candidate, **said)
    error = refused(lambda: desk.publish(candidate, approval))
    assert error.what.startswith(f"approval {approval[:12]} {told}")
    assert desk.served == served


def test_an_approval_of_another_run_does_not_count(desk: ReleaseDesk) -> None:
    candidate, _ = desk.propose()
    approval = desk.answer(candidate, run="run-0")
    error = refused(lambda: desk.publish(candidate, approval))
    assert error.what == f"approval {approval[:12]} was given in run run-0, this is run run-1"


def test_an_approval_of_another_release_does_not_count(desk: ReleaseDesk) -> None:
    first, _ = desk.propose()
    approval, second = desk.answer(first), another(desk)
    error = refused(lambda: desk.publish(second, approval))
    names = first.release[:12], second.release[:12]
    assert error.what == f"approval {approval[:12]} was given for release {names[0]}, this run publishes {names[1]}"


def test_an_approval_under_another_key_does_not_count(desk: ReleaseDesk) -> None:
    candidate, _ = desk.propose()
    approval = desk.answer(candidate)
    other = Approved([approval], ApprovalKey(b"another key that is long enough for a test"))
    error = refused(lambda: publish(desk.workspace, candidate, other, "run-1"))
    assert error.what == (
        f"approval {approval[:12]} has a signature that does not fit: one of its fields was changed, or another key"
        " signed it"
    )


def test_an_approval_dies_when_the_champion_moves(desk: ReleaseDesk) -> None:
    candidate, _ = desk.propose()
    approval, before = desk.answer(candidate), desk.entry
    roll_back(desk)
    served = desk.served
    error = refused(lambda: desk.publish(candidate, approval), ApprovalStaleError)
    assert error.what == (
        f"the champion moved: approval {approval[:12]} was decided against entry {before[:12]},"
        f" now it is at {desk.entry[:12]}"
    )
    assert desk.served == served


def test_a_newer_candidate_takes_the_place_of_an_older_one_and_is_named(desk: ReleaseDesk) -> None:
    old, _ = desk.propose()
    desk.ask_approval(old)
    approval, new = desk.answer(old), another(desk)
    told = f"release {old.release[:12]} was superseded by release {new.release[:12]}"
    held = desk.held()
    for act in (
        lambda: desk.publish(old, approval),
        lambda: desk.answer(old, comment="still good"),
        lambda: desk.ask_approval(old, "run-3"),
    ):
        error = refused(act, ApprovalStaleError)
        assert error.what == told
        assert error.next_action == f"answer the form of release {new.release[:12]}; this one publishes nothing"
    assert [key for key in desk.held() if key not in held and "/runs/" not in key] == []
    superseded = [event for event in events(desk, "run-2") if event.kind == "superseded"]
    assert [(event.what.release, event.evidence) for event in superseded] == [(old.release, {"release": new.release})]
    assert desk.publish(new, desk.answer(new, run="run-2"), run="run-2")


def test_the_forms_last_answer_may_reject_what_was_superseded(desk: ReleaseDesk) -> None:
    old, _ = desk.propose()
    another(desk)
    desk.answer(old, approved=False, comment="too late")
    assert events(desk)[-1].kind == "rejected"


def test_a_release_must_name_an_evaluation_that_passed_on_this_bundle_and_champion(desk: ReleaseDesk) -> None:
    candidate, _ = desk.propose()
    trusted = desk.under(promotion={"adapter_policy": "auto"})
    served = desk.served
    desk.adapter(no_refusals, seed=3)
    failing, _ = desk.evaluate()
    assert not failing.report.passed
    results = {"evaluation": failing.evaluation.key, "results": failing.evaluation.digest}
    own = desk.compose().bundle
    cases = {
        "names no evaluation, and only an index without questions needs none": {"evaluation": None, "results": None},
        "names evaluation 000000000000, whose results are not stored": {"evaluation": "0" * 64},
        f"names evaluation {candidate.evaluation[:12]}, whose results are not stored": {"results": "0" * 64},
        f"did not pass the gate in evaluation {failing.evaluation.key[:12]}": {**results, "bundle": own},
        f"did not pass the gate in evaluation {candidate.evaluation[:12]}": {"bundle": own},
    }
    for told, changes in cases.items():
        forged = by_hand(desk, candidate, **changes)
        error = refused(lambda: trusted.publish(forged))  # noqa: B023
        assert error.what == f"release {forged.release[:12]} {told}"
    assert desk.served == served
    refused(lambda: trusted.publish(candidate), ApprovalStaleError)  # it was proposed under another policy
    assert desk.publish(candidate, desk.answer(candidate))


def test_a_release_that_was_compared_with_another_champion_is_not_published(desk: ReleaseDesk) -> None:
    candidate, _ = desk.propose()
    roll_back(desk)
    moved = replace(candidate, base_entry=desk.entry)
    told = f"release {candidate.release[:12]} was compared with another champion than the one that it would replace"
    trusted = desk.under(promotion={"adapter_policy": "auto"})
    assert refused(lambda: trusted.publish(moved), ApprovalStaleError).what == told
    approval = desk.answer(moved)
    assert refused(lambda: desk.publish(moved, approval), ApprovalStaleError).what == told


def test_an_approval_is_good_for_one_entry(desk: ReleaseDesk) -> None:
    first, _ = desk.propose()
    approval, base = desk.answer(first), desk.entry
    assert desk.publish(first, approval)
    asking = desk.under(retrieval={"dense_weight": 0.25}, promotion={"policy": "approve"})
    used, (second, _) = desk.entry, asking.propose()
    error = refused(lambda: asking.publish(second, approval))
    assert error.what == (
        f"approval {approval[:12]} was used by entry {used[:12]} for release {first.release[:12]} on entry {base[:12]},"
        f" this run publishes {second.release[:12]} on {used[:12]}"
    )
    roll_back(desk)
    served = desk.served
    assert not desk.publish(first, approval)
    error = refused(lambda: desk.publish(replace(first, base_entry=desk.entry), approval))
    assert error.what.startswith(f"approval {approval[:12]} was used by entry {used[:12]} for release")
    assert desk.served == served


def test_where_two_must_agree_one_person_is_not_enough(desk: ReleaseDesk) -> None:
    desk = desk.under(**TWO)
    candidate, _ = desk.propose()
    first, again = desk.answer(candidate), desk.answer(candidate, comment="and again")
    told = f"release {candidate.release[:12]} needs two approvers, and only 7 approved"
    for approvals in ([first], [first, again], [first, first]):
        assert refused(lambda: desk.publish(candidate, *approvals)).what == told  # noqa: B023
    rejected = desk.answer(candidate, user=SECOND, approved=False)
    error = refused(lambda: desk.publish(candidate, first, rejected))
    assert error.what == f"approval {rejected[:12]} is a reject by '8' (data_engineer)"
    second = desk.answer(candidate, user=SECOND)
    assert desk.publish(candidate, first, second)
    assert not desk.publish(candidate, first, second)
    assert desk.served == candidate.release


def test_a_policy_of_never_is_stronger_than_an_approval(desk: ReleaseDesk) -> None:
    candidate, _ = desk.propose()
    approval = desk.answer(candidate)
    error = refused(
        lambda: desk.under(promotion={"adapter_policy": "never"}).publish(candidate, approval), ReleaseHeldError
    )
    assert error.what == (
        f"release {candidate.release[:12]} of corpus test is ready, but promotion.adapter_policy is never"
    )


@pytest.mark.parametrize(
    ("user", "comment", "kind", "why"),
    [
        (LEAD, "tags are too thin", "rejected", "rejected by ml_lead: tags are too thin"),
        (LEAD, "", "rejected", "rejected by ml_lead: rejected"),
        (None, "", "expired", "expired by nobody: nobody answered in time"),
    ],
)
def test_what_a_person_does_not_want_is_remembered(
    user: tuple[str, str] | None, comment: str, kind: str, why: str, desk: ReleaseDesk
) -> None:
    candidate, report = desk.propose()
    served = desk.served
    desk.answer(candidate, approved=False, user=user, comment=comment)
    assert why_refused(desk.store, desk.corpus, report.adapter).startswith(f"{why} (20")
    composition = desk.compose()
    assert composition.left_aside.startswith(f"adapter {report.adapter[:12]} was not promoted: {why}")
    assert composition.is_champion
    (event,) = (event for event in events(desk) if event.kind == kind)
    assert (event.who.name, event.why) == ((user or ("", "airflow"))[1], why.partition(": ")[2])
    assert desk.served == served


def test_nobody_is_asked_before_there_is_a_key(desk: ReleaseDesk) -> None:
    candidate, _ = desk.propose()
    stage_composition(desk.run("run-1"), desk.compose())
    with pytest.raises(ApprovalKeyMissingError):
        form(desk.workspace, desk.run("run-1"), candidate.release, "/report", {})
    assert not desk.run("run-1").has_staged("asked")


def test_a_run_that_has_asked_keeps_to_what_its_form_shows(desk: ReleaseDesk) -> None:
    run, asked = desk.run("run-1"), desk.compose()
    stage_composition(run, asked)
    newer = desk.under(retrieval={"top_k": 9}).compose()
    stage_composition(run, newer)  # nobody was asked yet
    stage_composition(run, asked)
    bind_to_form(run, "a" * 64)
    stage_composition(run, asked)
    error = refused(lambda: stage_composition(run, newer), ApprovalStaleError)
    assert error.what == (
        f"this run asked for the approval of bundle {asked.bundle.digest[:12]},"
        f" the newest is {newer.bundle.digest[:12]}"
    )
    assert error.next_action == "trigger promote_release again: a new run evaluates and asks anew"
    assert staged_composition(desk.workspace, run) == asked
    stage_composition(desk.run("run-2"), newer)


def test_an_answer_counts_for_the_release_that_the_form_showed_alone(desk: ReleaseDesk) -> None:
    first, _ = desk.propose()
    desk.ask_approval(first)
    newer = another(desk)
    error = refused(lambda: desk.answer(newer))  # the result of gate was overwritten while the form was open
    assert error.what == (
        f"the form of this run showed release {first.release[:12]}, its task gate names {newer.release[:12]} now"
    )
    assert error.next_action == "see in Airflow's audit log who wrote the result of gate; trigger a new run"
    assert [event.kind for event in events(desk) if event.kind == "approved"] == []


@pytest.mark.parametrize(
    ("change", "value"), [("dataset", "d" * 64), ("champion", None), ("base_entry", "e" * 64)], ids=str
)
def test_a_run_that_has_asked_keeps_to_what_it_was_measured_against_too(
    change: str, value: str | None, desk: ReleaseDesk
) -> None:
    run, asked = desk.run("run-1"), desk.compose()
    stage_composition(run, asked)
    bind_to_form(run, "a" * 64)
    refused(lambda: stage_composition(run, replace(asked, **{change: value})), ApprovalStaleError)


def test_k10_an_answer_that_failed_before_it_was_stored_is_signed_alike_by_a_retry(
    desk: ReleaseDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate, _ = desk.propose()
    decided, before = float(int(desk.store.now())), desk.held("approvals/")
    monkeypatch.setattr(failpoints, "_passed", 0)  # other tests count from there
    monkeypatch.setenv("TIDEGATE_FAILPOINT", "K10=error")
    with pytest.raises(OSError, match="failpoint K10"):
        desk.answer(candidate, decided_at=decided)
    monkeypatch.delenv("TIDEGATE_FAILPOINT")
    assert desk.held("approvals/") == before
    first = desk.answer(candidate, decided_at=decided)
    assert desk.answer(candidate, decided_at=decided) == first
    assert set(desk.held("approvals/")) - set(before) == {f"test/approvals/{first}.json"}
    assert [event.kind for event in events(desk)].count("approved") == 1
    assert desk.publish(candidate, first)
