"""Planted regressions, from answers to the channel: each is stopped by the rule it breaks, and remembered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.pipelines.release_desk import (
    ALL,
    SPLITS,
    ReleaseDesk,
    Voice,
    no_refusals,
    of_another_corpus,
    page,
    reads,
    rows_about,
    shuffled,
)
from tidegate.core.canonical import digest_of
from tidegate.core.evaluation_records import EvaluationReport
from tidegate.indexing.snapshot import Snapshot
from tidegate.pipelines.compose_release import why_refused
from tidegate.pipelines.promote_release import CANDIDATE, Candidate
from tidegate.registry.channel import Channel
from tidegate.registry.events import read_events

HONEST = reads(*ALL)


def failed(report: EvaluationReport) -> list[str]:
    return [rule.name for rule in report.rules if not rule.passed]


def leads(desk: ReleaseDesk) -> str | None:
    """Id of the newest candidate."""
    return Channel(desk.store, desk.corpus, CANDIDATE).read().release


def assert_stopped(desk: ReleaseDesk, before: list[str], candidate: Candidate, report: EvaluationReport) -> None:
    """No release was written, nothing else serves or leads, and the event names the rules."""
    assert not report.passed
    why = f"the gate refused it: {', '.join(failed(report))}"
    assert (candidate.release, candidate.outcome, candidate.why) == ("", "stop", why)
    assert [*desk.held("releases/"), desk.served, leads(desk)] == before
    newest = read_events(desk.store, desk.corpus, 1).events[0]
    assert (newest.kind, newest.who.id, newest.why, newest.run) == ("gate_failed", "policy", why, "run-1")
    assert newest.evidence == {"evaluation": report.evaluation, "base_entry": candidate.base_entry}
    assert (newest.what.release, newest.what.snapshot, newest.what.adapter) == (None, report.snapshot, report.adapter)


@pytest.mark.parametrize(
    ("voice", "rules", "rises"),
    [
        pytest.param(of_another_corpus, ["evidence", "unchanged rows", "tag crane"], False, id="a wrong adapter"),
        pytest.param(shuffled, ["evidence", "unchanged rows", "tag crane"], False, id="shuffled answers"),
        pytest.param(reads("crane", "fee", "pilot"), ["tag berths"], True, id="one tag broken while the mean rises"),
        pytest.param(no_refusals, ["refusals", "tag off-topic"], True, id="refusals gone"),
    ],
)
def test_a_planted_regression_is_stopped_with_its_rule_named_and_not_proposed_again(
    voice: Voice, rules: list[str], rises: bool, adapter_serves: ReleaseDesk
) -> None:
    desk = adapter_serves
    before = [*desk.held("releases/"), desk.served, leads(desk)]
    key, kept = desk.adapter(voice, seed=1), desk.champion.bundle.adapter
    candidate, report = desk.propose()
    assert report.adapter == key
    assert failed(report) == rules
    assert (report.comparison.difference > 0) is rises
    assert_stopped(desk, before, candidate, report)

    told = why_refused(desk.store, desk.corpus, key)
    assert told.startswith(f"{candidate.why} (20")
    again = desk.compose()
    assert again.left_aside == f"adapter {key[:12]} was not promoted: {told}"
    assert (again.bundle.adapter, again.is_champion) == (kept, True)
    reconsidered = desk.compose(reconsider=True)
    assert (reconsidered.bundle.adapter.key, reconsidered.left_aside) == (key, "")
    assert desk.propose(reconsidered)[0] == candidate


def test_an_index_behind_its_documents_is_stopped(adapter_serves: ReleaseDesk) -> None:
    desk = adapter_serves
    behind = desk.champion.bundle
    desk.write(Elvig=page("Elvig", berths="999"))
    key = desk.adapter(HONEST, seed=1)
    current = desk.compose()
    back = {"snapshot": behind.snapshot, "content_root": behind.content_root}
    stale = replace(current, bundle=current.bundle.model_copy(update=back))
    before = [*desk.held("releases/"), desk.served, leads(desk)]
    candidate, report = desk.propose(stale)
    passages = len(Snapshot(desk.store, desk.corpus, behind.snapshot).texts(["Elvig.md"])["Elvig.md"])
    assert failed(report) == ["stale passages"]
    assert report.freshness.unexplained_stale == passages > 0
    assert (report.snapshot, report.adapter) == (behind.snapshot, key)
    assert_stopped(desk, before, candidate, report)


def test_a_stale_index_alone_is_stopped_too_and_refuses_no_adapter(index_serves: ReleaseDesk) -> None:
    desk = index_serves
    behind = desk.under(retrieval={"top_k": 9}).compose()
    desk.write(Alby=page("Alby", fee="7"), Borum=page("Borum", fee="8"))
    served = desk.served
    assert served != behind.champion
    stale = replace(behind, champion=served, serving=desk.champion, base_entry=desk.entry)
    candidate, report = desk.propose(stale)
    assert failed(report) == ["stale passages"]
    assert (candidate.release, candidate.outcome, desk.served) == ("", "stop", served)
    assert desk.held("scans/promotion/") == []


def test_an_honest_improvement_passes_every_rule_and_waits_for_an_approval(adapter_serves: ReleaseDesk) -> None:
    desk = adapter_serves
    served, key = desk.served, desk.adapter(HONEST, seed=1)
    candidate, report = desk.propose()
    assert report.passed
    assert [rule.name for rule in report.rules if rule.name.startswith("tag")] == [
        "tag berths",
        "tag crane",
        "tag fee",
        "tag off-topic",
        "tag pilot",
    ]
    compared = report.comparison
    assert (compared.verdict, compared.difference, compared.wins, compared.losses) == ("better", 0.4, 16, 0)
    assert compared.p_better == pytest.approx(2**-8)
    assert (report.serving_mode, candidate.outcome) == ("hybrid", "approve")
    assert candidate.why == f"release {candidate.release[:12]} waits for an approval"
    assert (desk.served, leads(desk)) == (served, candidate.release)
    assert why_refused(desk.store, desk.corpus, key) == ""
    proposed = read_events(desk.store, desk.corpus, 1).events[0]
    assert (proposed.kind, proposed.what.release, proposed.what.adapter) == ("proposed", candidate.release, key)
    assert (proposed.why, proposed.who.id, proposed.run) == (candidate.why, "policy", "run-1")
    assert proposed.evidence == {"evaluation": candidate.evaluation, "base_entry": candidate.base_entry}

    held, written = desk.held(), desk.store.bytes_written
    assert desk.propose()[0] == candidate
    assert (desk.held(), desk.store.bytes_written) == (held, written)


POLICIES = [("auto", "publish"), ("approve", "approve"), ("never", "stop")]


@pytest.mark.parametrize(("policy", "outcome"), POLICIES)
@pytest.mark.parametrize("other", ["auto", "never"])
def test_a_new_adapter_follows_its_own_policy(
    policy: str, other: str, outcome: str, adapter_serves: ReleaseDesk
) -> None:
    desk = adapter_serves.under(promotion={"adapter_policy": policy, "policy": other})
    key, served = desk.adapter(HONEST, seed=1), desk.served
    composition = desk.compose()
    if policy == "never":
        assert composition.left_aside == f"adapter {key[:12]} is ready, but promotion.adapter_policy is never"
        assert composition.is_champion
        return
    candidate, report = desk.propose(composition)
    assert (report.passed, candidate.outcome) == (True, outcome)
    if outcome == "publish":
        assert desk.publish(candidate)
        assert not desk.publish(candidate)
    assert desk.served == (candidate.release if outcome == "publish" else served)


@pytest.mark.parametrize(("policy", "outcome"), POLICIES)
@pytest.mark.parametrize("other", ["auto", "never"])
def test_a_new_index_under_the_adapter_that_serves_follows_the_policy_of_an_index(
    policy: str, other: str, outcome: str, adapter_serves: ReleaseDesk
) -> None:
    desk = adapter_serves.under(promotion={"policy": policy, "adapter_policy": other})
    desk.write(Elvig=page("Elvig", berths="999"))
    desk.ask(rows_about(Elvig_berths="999"), SPLITS)
    served, composition = desk.served, desk.compose()
    assert not composition.new_adapter
    candidate, report = desk.propose(composition)
    assert (report.passed, candidate.outcome) == (True, outcome)
    assert "not worse" in {rule.name for rule in report.rules}
    if outcome == "publish":
        assert desk.publish(candidate)
        assert desk.champion.bundle.adapter == composition.serving.bundle.adapter
    assert desk.served == (candidate.release if outcome == "publish" else served)
    # What may not serve does not take the place of a candidate that waits.
    assert (leads(desk) == candidate.release) is (outcome != "stop")


def test_the_release_binds_what_was_measured(adapter_serves: ReleaseDesk) -> None:
    desk = adapter_serves
    desk.adapter(HONEST, seed=1)
    composition = desk.compose()
    desk.serve()
    release = desk.champion
    found, _ = desk.evaluate(composition)
    assert (release.bundle, release.dataset, release.serving_mode) == (
        composition.bundle,
        composition.dataset,
        "hybrid",
    )
    assert (release.evaluation, release.results) == (found.evaluation.key, found.evaluation.digest)
    promotion, gate = desk.workspace.config.promotion, desk.workspace.config.gate
    asked = {name: getattr(promotion, name) for name in ("policy", "adapter_policy", "second_approver")}
    assert release.gate_policy == digest_of({"promotion": asked, "gate": gate.model_dump(mode="json")})
