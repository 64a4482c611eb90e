"""Evaluating a candidate: who answers what from which index, what is compared, kept, and never done twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.release_desk import (
    ALL,
    FACTS,
    GENERAL,
    HELD_OUT,
    SPLITS,
    ReleaseDesk,
    Scripted,
    forget_answers,
    page,
    reads,
    rows_about,
    value,
)
from tidegate.core import keys
from tidegate.core.errors import ApprovalInvalidError, ConfigInvalidError, ObjectMissingError
from tidegate.core.records import Evaluation
from tidegate.pipelines.asking import quiet
from tidegate.pipelines.compose_release import Composition
from tidegate.pipelines.evaluate_release import Evaluated, evaluate, inputs_of, read_evaluated, require_evaluated
from tidegate.pipelines.evaluation_arms import adapter_name
from tidegate.registry.file_store import FileStore

ARMS = ["base", "base+RAG", "adapter", "adapter+RAG", "champion"]
CROSSED = ["new adapter, old index", "old adapter, new index"]
QUESTIONS = 5 * len(HELD_OUT)
NEW = {"Elvig": {"berths": "999"}}


def predictions(desk: ReleaseDesk, evaluation: Evaluation) -> list[dict[str, Any]]:
    key = keys.evaluation_predictions(desk.corpus, evaluation.key, evaluation.digest)
    return [json.loads(line) for line in desk.store.read(key).data.splitlines()]


def evaluated_by(desk: ReleaseDesk, generator: Scripted, composition: Composition | None = None) -> Evaluated:
    return evaluate(desk.workspace, composition or desk.compose(), quiet, generator)


def rewrite_elvig(desk: ReleaseDesk) -> None:
    """Change a page of the holdout, and the row that it answers."""
    desk.write(Elvig=page("Elvig", berths="999"))
    desk.ask(rows_about(Elvig_berths="999"), SPLITS)


def test_evaluating_again_asks_nobody_and_writes_nothing(adapter_serves: ReleaseDesk) -> None:
    adapter_serves.adapter(reads(*ALL), seed=1)
    first, generator = adapter_serves.evaluate()
    assert (first.asked, first.generated) == (5 * QUESTIONS + 2 * len(GENERAL), len(generator.heard))
    held, written = adapter_serves.held(), adapter_serves.store.bytes_written
    again, generator = adapter_serves.evaluate()
    assert (again.asked, again.generated, generator.heard) == (0, 0, [])
    assert (again.evaluation, again.report) == (first.evaluation, first.report)
    assert (adapter_serves.held(), adapter_serves.store.bytes_written) == (held, written)


def test_a_lost_report_is_made_again_from_answers_that_are_known(adapter_serves: ReleaseDesk) -> None:
    adapter_serves.adapter(reads(*ALL), seed=1)
    first, _ = adapter_serves.evaluate()
    assert isinstance(adapter_serves.store, FileStore)
    (path,) = (
        adapter_serves.store.root / key
        for key in adapter_serves.held("evaluations/")
        if "report.json" in key and first.evaluation.key in key
    )
    path.unlink()
    again, generator = adapter_serves.evaluate()
    assert (again.generated, generator.heard) == (0, [])
    assert again.asked == first.asked
    assert (again.evaluation, again.report) == (first.evaluation, first.report)


def test_a_changed_threshold_is_another_evaluation_of_the_same_answers(adapter_serves: ReleaseDesk) -> None:
    adapter_serves.adapter(reads(*ALL), seed=1)
    first, _ = adapter_serves.evaluate()
    strict = adapter_serves.under(gate={"margin": 0.0})
    second, generator = strict.evaluate()
    assert (second.generated, generator.heard) == (0, [])
    assert second.evaluation.key != first.evaluation.key
    assert second.report.arms == first.report.arms


def test_the_next_candidate_on_the_same_snapshot_asks_its_own_adapter_alone(adapter_serves: ReleaseDesk) -> None:
    adapter_serves.adapter(reads(*ALL), seed=1)
    adapter_serves.evaluate()
    key = adapter_serves.adapter(reads(*ALL), seed=2)
    _, generator = adapter_serves.evaluate()
    assert {heard.adapter for heard in generator.heard} == {adapter_name("test", key)}
    assert len(generator.heard) == 2 * QUESTIONS + len(GENERAL)


def test_the_same_answers_in_another_order_are_never_better(adapter_serves: ReleaseDesk, tmp_path: Path) -> None:
    again = adapter_serves.under(retrieval={"dense_weight": 0.25})  # another release that finds and answers the same
    twin = again.copy(tmp_path / "twin")
    forget_answers(twin)
    found, generator = again.evaluate()
    assert (found.generated, generator.heard) == (0, [])
    compared = found.report.comparison
    assert (compared.verdict, compared.difference, compared.low, compared.high) == ("not_enough_evidence", 0, 0, 0)
    assert (compared.wins, compared.losses, compared.p_better, compared.mcnemar) == (0, 0, 1.0, 1.0)

    class Backwards(Scripted):
        def generate(self, prompts: Any, *rest: Any) -> Any:
            return super().generate(prompts[::-1], *rest)[::-1]

    made = twin.scripted()
    other = evaluated_by(twin, Backwards(made.tokenizer, made.voices))
    assert other.generated == 5 * QUESTIONS + 2 * len(GENERAL) - QUESTIONS  # champion and candidate show the same
    assert (other.evaluation, other.report.comparison) == (found.evaluation, compared)


def test_a_new_adapter_that_answers_alike_lacks_evidence_and_does_not_pass(adapter_serves: ReleaseDesk) -> None:
    adapter_serves.adapter(reads("berths", "crane"), seed=1)
    found, _ = adapter_serves.evaluate()
    assert (found.report.comparison.verdict, found.evaluation.verdict) == ("not_enough_evidence",) * 2
    assert [rule.name for rule in found.report.rules if not rule.passed] == ["evidence"]


def test_an_index_without_an_adapter_is_measured_by_retrieval_and_no_model_answers(index_serves: ReleaseDesk) -> None:
    desk = index_serves.under(retrieval={"top_k": 9})
    found, generator = desk.evaluate()
    report = found.report
    assert (found.asked, found.generated, generator.heard) == (0, 0, [])
    assert (report.serving_mode, report.engine, report.base_prompt) == ("rag", "", "")
    assert report.why_mode == "It has no adapter: it serves passages, and no model answers."
    assert (report.arms, report.comparison, report.general, report.latency) == ((), None, {}, {})
    assert report.retrieval["candidate"] == report.retrieval["champion"]
    assert report.retrieval["candidate"]["recall@10"] == 1.0
    assert [rule.name for rule in report.rules] == ["recall@10", "stale passages", "held share", "held days", "churn"]
    assert (report.passed, found.evaluation.arms, found.evaluation.verdict) == (True, {}, None)
    assert predictions(desk, found.evaluation) == []


def test_the_first_release_of_all_has_nothing_to_be_compared_with(index_serves: ReleaseDesk) -> None:
    index_serves.adapter(reads(*ALL))
    first = replace(index_serves.compose(), champion=None, serving=None, base_entry=None)
    found, _ = index_serves.evaluate(first)
    report = found.report
    assert [arm.arm for arm in report.arms] == ["base", "base+RAG", "adapter", "adapter+RAG"]
    assert (report.champion, report.comparison, report.unchanged, report.examples) == (None, None, None, ())
    assert list(report.retrieval) == ["candidate"]
    assert (report.changes.added, report.changes.documents) == (12, 12)
    absent = {"evidence", "not worse", "unchanged rows", "churn"}
    assert not absent & {rule.name for rule in report.rules}


def test_the_champion_answers_from_its_own_index_with_its_own_settings_and_prompts(
    adapter_serves: ReleaseDesk,
) -> None:
    old = adapter_name("test", adapter_serves.champion.bundle.adapter.key)
    rewrite_elvig(adapter_serves)
    desk = adapter_serves.under(retrieval={"top_k": 1}, training={"rows": {"cite": True}})
    new = adapter_name("test", desk.adapter(reads(*ALL), seed=1))
    forget_answers(desk)
    generator = desk.scripted()
    stages: dict[str, int] = {}

    def stage(name: str) -> Callable[[int, int], None]:
        stages[name] = len(generator.heard)
        return lambda done, total: None

    found = evaluate(desk.workspace, desk.compose(), stage, generator)
    bounds = [*stages.values(), len(generator.heard)]
    spans = zip(stages, pairwise(bounds), strict=True)
    heard = {name: generator.heard[start:stop] for name, (start, stop) in spans}
    question = FACTS["berths"][0].format("Elvig")
    expected = {
        "adapter+RAG": (new, "999", 1, True),
        "champion": (old, value("Elvig", "berths"), 2, False),
        "new adapter, old index": (new, value("Elvig", "berths"), 2, False),
        "old adapter, new index": (old, "999", 1, True),
    }
    for arm, (adapter, berths, shown, cites) in expected.items():
        assert {item.adapter for item in heard[arm]} == {adapter}
        assert {item.passages.count("\n\n[") + 1 for item in heard[arm]} == {shown}
        assert {"the number of its passage" in item.system for item in heard[arm]} == {cites}
        assert sum(f"has {berths} berths" in item.passages for item in heard[arm] if item.question == question) == 1
    answers = {(row["arm"], row["row"]): row["answer"] for row in predictions(desk, found.evaluation)}
    assert answers["adapter+RAG", "Elvig-berths"] == "999"
    assert answers["champion", "Elvig-berths"] == value("Elvig", "berths")
    snapshots = {arm.arm: arm.snapshot for arm in found.report.arms}
    assert snapshots["champion"] == snapshots[CROSSED[0]] == desk.champion.bundle.snapshot
    assert snapshots["adapter+RAG"] == snapshots[CROSSED[1]] == found.report.snapshot
    assert generator.settings == {desk.champion.bundle.decoding}


@pytest.mark.parametrize(
    ("index", "adapter", "crossed"), [(True, True, CROSSED), (True, False, []), (False, True, [])], ids=str
)
def test_old_and_new_are_crossed_where_index_and_adapter_both_changed(
    index: bool, adapter: bool, crossed: list[str], adapter_serves: ReleaseDesk
) -> None:
    if index:
        rewrite_elvig(adapter_serves)
    if adapter:
        adapter_serves.adapter(reads(*ALL), seed=1)
    found, _ = adapter_serves.evaluate()
    assert [arm.arm for arm in found.report.arms] == [*ARMS, *crossed]
    assert found.evaluation.arms.keys() == {*ARMS, *crossed}


def test_rows_whose_evidence_changed_since_their_dataset_are_left_out_and_counted(adapter_serves: ReleaseDesk) -> None:
    adapter_serves.write(Elvig=page("Elvig", berths="999"))
    found, generator = adapter_serves.evaluate()
    assert found.report.left_out == 5
    assert {arm.slices["all"]["correct"].n for arm in found.report.arms} == {QUESTIONS - 5}
    assert not any(heard.port == "Elvig" for heard in generator.heard)
    assert (found.report.changes.modified, found.report.changes.names) == (1, ("~ Elvig.md",))


def test_a_holdout_without_a_current_row_is_refused_before_anybody_is_asked(adapter_serves: ReleaseDesk) -> None:
    adapter_serves.write(**{port: page(port, berths="999") for port in HELD_OUT})
    generator = adapter_serves.scripted()
    with pytest.raises(ConfigInvalidError, match="has no holdout row whose evidence is current"):
        evaluated_by(adapter_serves, generator)
    assert generator.heard == []


def test_rows_of_pages_that_did_not_change_are_compared_by_themselves(adapter_serves: ReleaseDesk) -> None:
    rewrite_elvig(adapter_serves)
    adapter_serves.adapter(reads("berths"), seed=1)
    found, _ = adapter_serves.evaluate()
    compared, unchanged = found.report.comparison, found.report.unchanged
    assert (compared.rows, compared.documents) == (QUESTIONS, 8)
    assert (unchanged.rows, unchanged.documents) == (QUESTIONS - 5, 7)
    # base+RAG serves: it reads the berths, Elvig's new ones too, and loses every crane.
    assert (compared.wins, compared.losses) == (1, 8)
    assert (unchanged.wins, unchanged.losses) == (0, 7)
    assert (found.report.changes.rows_changed, found.report.changes.rows_added) == (1, 0)


def test_of_too_many_rows_the_same_ones_are_drawn_each_time(adapter_serves: ReleaseDesk) -> None:
    desk = adapter_serves.under(evaluation={"max_rows": 12})
    desk.adapter(reads(*ALL), seed=1)
    rows = []
    for candidate in (desk, desk.under(gate={"margin": 0.01})):
        found, _ = candidate.evaluate()
        rows.append({row["row"] for row in predictions(candidate, found.evaluation)})
        assert (found.report.comparison.rows, found.report.left_out) == (12, 0)
    assert rows[0] == rows[1]
    assert len({row.partition("-")[0] for row in rows[0]}) > 3


def test_examples_are_rows_that_only_one_gets_right(adapter_serves: ReleaseDesk) -> None:
    adapter_serves.adapter(reads("crane", "fee", "pilot"), seed=1)
    found, _ = adapter_serves.evaluate()
    examples = found.report.examples
    assert [item.won for item in examples] == [True] * 12 + [False] * 8
    assert Counter(item.row.partition("-")[2] for item in examples)["berths"] == 8
    assert not any(item.row.endswith(("crane", "bank")) for item in examples)
    lost = next(item for item in examples if item.row == "Gresk-berths")
    assert (lost.question, lost.gold) == ("How many berths does Gresk have?", value("Gresk", "berths"))
    assert (lost.candidate, lost.champion) == ("Nobody knows that", value("Gresk", "berths"))
    assert any("The quay of Gresk has 160 berths." in passage.text for passage in lost.passages)
    assert {passage.document for passage in lost.passages} >= {"Gresk.md"}


def test_predictions_hold_the_answer_of_every_arm_to_every_row(adapter_serves: ReleaseDesk) -> None:
    adapter_serves.adapter(reads(*ALL), seed=1)
    found, _ = adapter_serves.evaluate()
    rows = predictions(adapter_serves, found.evaluation)
    assert Counter(row["arm"] for row in rows) == dict.fromkeys(ARMS, QUESTIONS)
    assert len({(row["arm"], row["row"]) for row in rows}) == 5 * QUESTIONS
    for arm in found.report.arms:
        own = [row for row in rows if row["arm"] == arm.arm]
        assert sum(row["correct"] for row in own) / len(own) == arm.slices["all"]["correct"].value
        assert found.evaluation.arms[arm.arm]["correct"] == arm.slices["all"]["correct"].value
    by_place = {(row["arm"], row["row"]): row for row in rows}
    told = by_place["adapter+RAG", "Lunde-pilot"]
    assert (told["answer"], told["correct"], told["refused"]) == (value("Lunde", "pilot"), True, False)
    assert told["documents"][0] == "Lunde.md"
    assert by_place["adapter+RAG", "Lunde-bank"]["refused"]
    assert by_place["adapter", "Lunde-pilot"]["documents"] == []


def test_the_first_writer_of_an_evaluation_wins_and_the_second_says_the_same(adapter_serves: ReleaseDesk) -> None:
    adapter_serves.adapter(reads(*ALL), seed=1)
    composition = adapter_serves.compose()
    first: list[Evaluated] = []

    class Late(Scripted):
        """Another task evaluates while this engine, which answers worse, is at work."""

        def generate(self, prompts: Any, *rest: Any) -> Any:
            if not first:
                first.append(adapter_serves.evaluate(composition)[0])
            return super().generate(prompts, *rest)

    made = adapter_serves.scripted()
    slow = Late(made.tokenizer, dict.fromkeys(made.voices, reads()), engine=replace(made.engine, version="2"))
    second = evaluated_by(adapter_serves, slow, composition)
    assert second.evaluation == first[0].evaluation
    assert second.report.rules == second.evaluation.rules
    known = read_evaluated(adapter_serves.workspace, second.evaluation.key)
    for report in (second.report, known.report):
        shown = {arm.arm: arm.slices["all"]["correct"].value for arm in report.arms}
        assert shown == {arm: metrics["correct"] for arm, metrics in second.evaluation.arms.items()}


CHANGED: dict[str, dict[str, Any]] = {
    "gate": {"gate": {"max_churn": 0.5}},
    "seed": {"evaluation": {"seed": 1}},
    "rows": {"evaluation": {"max_rows": 7}},
    "prices": {"costs": {"gpu_hour": 1.5}},
    "audience": {"training": {"audience": ["staff"]}},
    "bundle": {"retrieval": {"top_k": 9}},
    "decoding": {"prompt": {"max_answer_tokens": 13}},
}


def test_all_that_decides_an_evaluation_is_in_its_key(adapter_serves: ReleaseDesk) -> None:
    def key(desk: ReleaseDesk, composition: Composition | None = None) -> str:
        inputs = inputs_of(desk.workspace, composition or desk.compose())
        return Evaluation(inputs=inputs, arms={}, verdict=None, rules=None).key

    composition = adapter_serves.compose()
    found = {"before": key(adapter_serves)}
    found |= {name: key(adapter_serves.under(**changed)) for name, changed in CHANGED.items()}
    serving = composition.serving
    other = serving.model_copy(update={"bundle": serving.bundle.model_copy(update={"snapshot": "5" * 64})})
    found["champion"] = key(adapter_serves, replace(composition, serving=other))
    found["mode"] = key(
        adapter_serves, replace(composition, serving=serving.model_copy(update={"serving_mode": "rag"}))
    )
    found["no champion"] = key(adapter_serves, replace(composition, serving=None))
    adapter_serves.adapter(reads(*ALL), seed=1)
    found["adapter"] = key(adapter_serves)
    rows = rows_about()
    rows["Lunde-fee"]["tags"] = ["dear"]
    adapter_serves.ask(rows, SPLITS)
    found["dataset"] = key(adapter_serves)
    assert len(set(found.values())) == len(found)
    unrelated = {"promotion": {"adapter_policy": "auto", "approval_hours": 1}, "refresh": {"schedule": None}}
    assert key(adapter_serves.under(**unrelated)) == found["dataset"]
    assert key(adapter_serves) == found["dataset"]


def test_a_task_goes_on_with_the_evaluation_of_what_it_composed_and_no_other(adapter_serves: ReleaseDesk) -> None:
    adapter_serves.adapter(reads(*ALL), seed=1)
    composition = adapter_serves.compose()
    with pytest.raises(ObjectMissingError, match="evaluation none is not in file://"):
        require_evaluated(adapter_serves.workspace, composition, None)
    found, _ = adapter_serves.evaluate()
    key = found.evaluation.key
    known = require_evaluated(adapter_serves.workspace, composition, key)
    assert (known.evaluation, known.report) == (found.evaluation, found.report)
    assert require_evaluated(adapter_serves.workspace, replace(composition, dataset=None), key) is None
    for desk in (adapter_serves.under(gate={"margin": 0.5}), adapter_serves.under(retrieval={"top_k": 9})):
        with pytest.raises(ApprovalInvalidError, match=f"evaluation {key[:12]} measured something else than this run"):
            require_evaluated(desk.workspace, desk.compose(), key)
