"""What may serve without a person, and what no settings, slow run or forged result lets through."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.pipelines.release_desk import (
    ALL,
    HELD_OUT,
    SPLITS,
    ReleaseDesk,
    forget_answers,
    page,
    reads,
    rows_about,
)
from tidegate.core.errors import (
    ApprovalInvalidError,
    ApprovalStaleError,
    ConfigInvalidError,
    EmbedderMismatchError,
    ReleaseHeldError,
)
from tidegate.core.evaluation_records import ServingMode
from tidegate.core.records import AdapterReference, Release
from tidegate.pipelines.compose_release import waits_for_dataset
from tidegate.pipelines.promote_release import as_candidate, propose
from tidegate.pipelines.promotion_policy import policy_of
from tidegate.registry.channel import Channel, Promotion
from tidegate.registry.releases import read_release

OWN, OTHER = (AdapterReference(digest=digit * 64, key=f"{digit * 64}.b0000000") for digit in "12")
ADAPTERS, INDEX = "promotion.adapter_policy", "promotion.policy"


def with_adapter(release: Release, adapter: AdapterReference | None, mode: ServingMode) -> Release:
    return release.model_copy(
        update={"bundle": release.bundle.model_copy(update={"adapter": adapter}), "serving_mode": mode}
    )


@pytest.mark.parametrize(
    ("adapter", "mode", "key"),
    [
        pytest.param(OWN, "hybrid", INDEX, id="the same adapter answers"),
        pytest.param(OTHER, "hybrid", ADAPTERS, id="another adapter answers"),
        pytest.param(OTHER, "rag", ADAPTERS, id="another adapter, left aside"),
        pytest.param(OWN, "rag", ADAPTERS, id="the adapter is left aside"),
        pytest.param(None, "rag", ADAPTERS, id="the adapter is dropped"),
    ],
)
def test_whoever_changes_which_adapter_answers_follows_the_policy_of_adapters(
    adapter: AdapterReference | None, mode: ServingMode, key: str, adapter_serves: ReleaseDesk
) -> None:
    before = with_adapter(adapter_serves.champion, OWN, "hybrid")
    now = with_adapter(adapter_serves.champion, adapter, mode)
    assert policy_of(adapter_serves.workspace, now, before) == ("approve" if key == ADAPTERS else "auto", key)


def test_an_adapter_that_was_left_aside_answers_only_by_the_policy_of_adapters(adapter_serves: ReleaseDesk) -> None:
    aside = with_adapter(adapter_serves.champion, OWN, "rag")
    speaking = with_adapter(adapter_serves.champion, OWN, "hybrid")
    assert policy_of(adapter_serves.workspace, speaking, aside)[1] == ADAPTERS
    assert policy_of(adapter_serves.workspace, aside, aside)[1] == INDEX
    index = with_adapter(adapter_serves.champion, None, "rag")
    assert policy_of(adapter_serves.workspace, index, None)[1] == INDEX


def test_the_way_of_serving_stays_where_no_other_is_shown_to_be_better(adapter_serves: ReleaseDesk) -> None:
    desk = adapter_serves.under(promotion={"policy": "auto"})
    key = desk.champion.bundle.adapter.key
    desk.write(Elvig=page("Elvig", berths="999"))
    desk.ask(rows_about(Elvig_berths="999"), SPLITS)
    desk.voices[f"test-{key[:12]}"] = reads("berths")  # as good as the base model now: no more
    desk.voices[None] = reads("berths")
    forget_answers(desk)
    _, report = desk.propose()
    assert report.serving_mode == "hybrid"
    assert report.why_mode.startswith("adapter+RAG serves on: no other way is shown to be better. base+RAG serves (")


def test_a_bundle_that_was_rolled_back_waits_for_a_person_under_another_evaluation_too(
    index_serves: ReleaseDesk,
) -> None:
    desk, good = index_serves, index_serves.served
    desk.write(Elvig=page("Elvig", berths="999"))
    desk.ask(rows_about(Elvig_berths="999"), SPLITS)
    left, channel = desk.served, Channel(desk.store, "test")
    assert left != good
    channel.apply(Promotion("rollback", good, channel.read().entry, reason="fees were wrong"))
    again, _ = desk.under(gate={"min_recall": 0.1}).propose()
    assert again.outcome == "stop"
    assert again.why.endswith(" was rolled back before; only a person may promote it again")
    assert again.release != left
    assert read_release(desk.store, "test", again.release).bundle == read_release(desk.store, "test", left).bundle
    with pytest.raises(ReleaseHeldError, match="was rolled back before; only a person may promote it again"):
        desk.under(gate={"min_recall": 0.1}).publish(again)
    assert desk.served == good


def test_an_index_whose_dataset_is_on_its_way_waits_for_it_even_if_no_row_of_the_old_one_holds(
    index_serves: ReleaseDesk,
) -> None:
    desk = index_serves
    changed = {f"{port}_{fact}": "999" for port in HELD_OUT for fact in ALL}
    desk.write(**{port: page(port, **dict.fromkeys(ALL, "999")) for port in HELD_OUT})
    composition = desk.compose()
    assert composition.dataset is None
    assert waits_for_dataset(desk.workspace, composition)
    desk.ask(rows_about(**changed), SPLITS)
    composition = desk.compose()
    assert not waits_for_dataset(desk.workspace, composition)
    assert composition.dataset is not None


def test_an_index_that_no_question_measures_is_held_to_its_own_rules(index_serves: ReleaseDesk) -> None:
    desk, served = index_serves, index_serves.served
    desk.write(**{port: page(port, **dict.fromkeys(ALL, "999")) for port in HELD_OUT})
    stopped = propose(desk.workspace, desk.compose(), None, "run-1")
    assert (stopped.outcome, stopped.why, desk.served) == ("stop", "the gate refused it: churn", served)
    allowed = desk.under(gate={"max_churn": 1.0})
    assert propose(allowed.workspace, allowed.compose(), None, "run-1").outcome == "publish"


def test_a_slow_run_does_not_take_the_place_of_a_candidate_of_a_newer_snapshot(adapter_serves: ReleaseDesk) -> None:
    desk = adapter_serves
    desk.adapter(reads(*ALL), seed=1)
    slow = desk.compose()
    desk.write(Newhaven="# Harbour Newhaven\n\nIt has no crane yet.\n")
    quick, _ = desk.propose()
    assert quick.outcome == "approve"
    with pytest.raises(ApprovalStaleError, match=f"is of an older snapshot than the candidate {quick.release[:12]}"):
        desk.propose(slow, "run-2")


def test_a_run_that_was_composed_before_the_champion_moved_proposes_nothing(adapter_serves: ReleaseDesk) -> None:
    desk = adapter_serves
    desk.adapter(reads(*ALL), seed=1)
    before = desk.compose()
    desk.serve()
    with pytest.raises(ApprovalStaleError, match=r"the champion moved since release [0-9a-f]{12} was composed"):
        desk.propose(before, "run-2")


def test_a_gate_that_became_stricter_holds_for_a_form_that_is_open(adapter_serves: ReleaseDesk) -> None:
    desk = adapter_serves
    desk.adapter(reads(*ALL), seed=1)
    candidate, _ = desk.propose()
    approval = desk.answer(candidate)
    with pytest.raises(ApprovalStaleError, match="passed under other settings of promotion or gate"):
        desk.under(gate={"max_wrong_refusals": 0.01}).publish(candidate, approval)
    assert desk.publish(candidate, approval)


def test_an_adapter_does_not_go_on_with_another_base_model(adapter_serves: ReleaseDesk) -> None:
    desk = adapter_serves
    composition = desk.compose()
    bundle = desk.champion.bundle
    other = bundle.model_copy(update={"base_model": bundle.base_model.model_copy(update={"digest": "f" * 64})})
    desk.write(Elvig=page("Elvig", berths="999"))
    moved = replace(composition, serving=desk.champion.model_copy(update={"bundle": other}), champion="c" * 64)
    with pytest.raises(ConfigInvalidError, match=r"belongs to base model .* cannot be measured as it serves"):
        desk.evaluate(moved)


def test_a_champion_whose_embedder_is_gone_is_not_measured_with_another(index_serves: ReleaseDesk) -> None:
    desk = index_serves.under(retrieval={"top_k": 9})
    composition, bundle = desk.compose(), desk.champion.bundle
    former = bundle.embedder.model_copy(update={"id": "gone-model", "revision": "e" * 64})
    serving = desk.champion.model_copy(update={"bundle": bundle.model_copy(update={"embedder": former})})
    with pytest.raises(EmbedderMismatchError, match="was embedded by gone-model revision eeeeeeeeeeee, which is not"):
        desk.evaluate(replace(composition, serving=serving))


@pytest.mark.parametrize("handed_on", [None, "approve", 7, {"release": "a"}, {"verdict": "better"}, []], ids=str)
def test_what_is_no_candidate_is_refused_with_a_reason(handed_on: object) -> None:
    with pytest.raises(ApprovalInvalidError) as caught:
        as_candidate(handed_on)
    assert caught.value.what == (
        "the task gate handed on no candidate: it was marked as success, or its result was written by hand"
    )
    assert caught.value.next_action == "clear the task gate, or trigger promote_release again"
