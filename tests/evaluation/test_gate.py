"""The gate: planted regressions are stopped by name, and every rule holds what it says."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.evaluation.planted_answers import (
    CONFIG,
    ROWS,
    TAGS,
    Row,
    answers,
    base_model,
    breaks_travel,
    champion,
    compared,
    facts,
    failed,
    improved,
    judged,
    misses_documents,
    never_refuses,
    rule_of,
    shuffled,
)
from tidegate.core.evaluation_config import GateConfig
from tidegate.core.evaluation_records import ArmReport, Changes, Figure, Freshness
from tidegate.core.records import GateRule
from tidegate.evaluation.gate import Facts, describe_rule, index_rules, judge_candidate


@pytest.fixture(scope="module")
def honest() -> Facts:
    """An honest improvement."""
    return facts(answers(improved))


@pytest.fixture(scope="module")
def same() -> Facts:
    """A candidate that answers as the champion does."""
    return facts(answers(champion))


def test_an_honest_improvement_passes_every_rule(honest: Facts) -> None:
    rules = judge_candidate(honest, GateConfig(max_latency_seconds=2.0))
    assert failed(rules) == []
    assert [rule.name for rule in rules] == [
        *("correct", "refusals", "wrong refusals", "evidence", "unchanged rows"),
        *(f"tag {tag}" for tag in TAGS),
        *("recall@10", "stale passages", "held share", "held days", "churn", "forgetting", "latency"),
    ]
    billing = sum(improved(row) - champion(row) for row in ROWS if row.tag == "billing") / 125
    expected = {"correct": 348 / 500, "refusals": 0.9, "tag billing": billing, "held share": 0.005, "churn": 0.055}
    assert {name: rule_of(rules, name).value for name in expected} == expected


STALE = Freshness(documents=1000, held=5, held_days=3.0, unexplained_stale=40)
WORSE_RETRIEVAL = {"candidate": {"recall@10": 0.8}, "champion": {"recall@10": 0.88}}


@pytest.mark.parametrize(
    ("candidate", "changes", "expected"),
    [
        pytest.param(answers(improved), {"freshness": STALE}, ["stale passages"], id="stale index"),
        pytest.param(
            answers(misses_documents),
            {"freshness": STALE, "retrieval": WORSE_RETRIEVAL, "new_adapter": False, "mode": "rag"},
            ["not worse", "unchanged rows", "recall@10", "stale passages"],
            id="stale index that misses documents",
        ),
        pytest.param(
            answers(base_model),
            {},
            ["refusals", "evidence", "unchanged rows", *(f"tag {tag}" for tag in TAGS)],
            id="wrong adapter",
        ),
        pytest.param(
            shuffled(),
            {},
            ["refusals", "wrong refusals", "evidence", "unchanged rows", *(f"tag {tag}" for tag in TAGS)],
            id="adapter trained on shuffled answers",
        ),
        pytest.param(answers(breaks_travel), {}, ["tag travel"], id="one tag broken while the mean rises"),
        pytest.param(answers(never_refuses), {}, ["refusals"], id="refusals gone while the mean rises"),
        pytest.param(
            answers(improved),
            {"general": {"base": Figure(value=0.7, n=50), "adapter": Figure(value=0.58, n=50)}},
            ["forgetting"],
            id="forgetting",
        ),
        pytest.param(
            answers(improved),
            {"freshness": Freshness(documents=1000, held=21, held_days=14.5, unexplained_stale=0)},
            ["held share", "held days"],
            id="held documents",
        ),
    ],
)
def test_a_planted_regression_is_stopped_by_its_rule(
    candidate: list[str], changes: dict[str, object], expected: list[str]
) -> None:
    assert failed(judge_candidate(facts(candidate, **changes), CONFIG)) == expected


@pytest.mark.parametrize("candidate", [breaks_travel, never_refuses])
def test_the_mean_alone_would_have_let_them_through(candidate: Callable[[Row], bool]) -> None:
    found = facts(answers(candidate))
    assert found.comparison is not None
    assert found.comparison.verdict == "better"


def test_an_adapter_that_answers_alike_lacks_evidence_and_an_index_that_does_passes(same: Facts) -> None:
    rules = judge_candidate(same, CONFIG)
    assert failed(rules) == ["evidence"]
    assert rule_of(rules, "evidence") == GateRule(name="evidence", value=1.0, threshold=0.025, passed=False)
    index_only = judge_candidate(replace(same, new_adapter=False), CONFIG)
    assert failed(index_only) == []
    assert rule_of(index_only, "not worse") == GateRule(name="not worse", value=1.0, threshold=0.025, passed=True)


def test_a_fresher_index_does_not_pay_for_a_worse_adapter() -> None:
    """The candidate wins every question whose evidence changed, and loses some of the others."""

    def right(row: Row) -> bool:
        return row.document % 10 == 0 or (champion(row) and row.document % 20 != 1)

    found = facts(answers(lambda row: right(row) if row.answerable else champion(row)))
    found = replace(found, comparison=facts(answers(improved)).comparison)
    rules = judge_candidate(found, CONFIG)
    assert failed(rules) == ["unchanged rows"]
    assert rule_of(rules, "unchanged rows").threshold == -0.03


def test_a_comparison_over_too_few_documents_never_passes(honest: Facts) -> None:
    ours, theirs = judged(answers(lambda row: True)), judged(answers(champion))
    few = compared(ours, theirs, lambda row: row.document in range(1, 6))
    assert (few.documents, few.losses, few.verdict) == (5, 0, "not_enough_evidence")
    assert few.low > 0
    rules = judge_candidate(replace(honest, comparison=few, unchanged=few), CONFIG)
    assert failed(rules) == ["evidence", "unchanged rows"]


def test_a_first_release_has_floors_and_hard_rules_only(honest: Facts) -> None:
    first = replace(
        honest,
        first=True,
        champion=None,
        comparison=None,
        unchanged=None,
        tags={},
        changes=None,
        retrieval={"candidate": {"recall@10": 0.9}},
    )
    rules = judge_candidate(first, CONFIG)
    assert {rule.name: rule.threshold for rule in rules} == {
        "correct": 0.0,
        "refusals": 0.5,
        "wrong refusals": 0.2,
        "recall@10": 0.5,
        "stale passages": 0.0,
        "held share": 0.02,
        "held days": 14.0,
        "forgetting": 0.6,
    }
    assert failed(rules) == []
    high = GateConfig(min_correct=0.7, min_refusals=0.95, min_recall=0.91)
    assert failed(judge_candidate(first, high)) == ["correct", "refusals", "recall@10"]


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ({"serving": None}, ["correct", "refusals", "wrong refusals"]),
        ({"comparison": None}, ["evidence"]),
        ({"comparison": None, "new_adapter": False}, ["not worse"]),
        ({"unchanged": None}, []),
        ({"tags": {}}, [f"tag {tag}" for tag in TAGS]),
        ({"retrieval": {"champion": {"recall@10": 0.9}}}, ["recall@10"]),
        ({"retrieval": {"candidate": {"recall@10": math.nan}, "champion": {"recall@10": 0.9}}}, ["recall@10"]),
        ({"freshness": None}, ["stale passages", "held share", "held days"]),
        ({"changes": None}, ["churn"]),
        ({"general": {"base": Figure(value=0.7, n=50)}}, ["forgetting"]),
        ({"latency": None}, ["latency"]),
        ({"latency": math.nan}, ["latency"]),
    ],
)
def test_a_value_that_was_not_measured_fails(honest: Facts, missing: dict[str, object], expected: list[str]) -> None:
    rules = judge_candidate(replace(honest, **missing), GateConfig(max_latency_seconds=2.0))
    assert [rule.name for rule in rules if rule.value is None and not rule.passed] == expected


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ({"champion": None}, ["refusals"]),
        ({"comparison": None}, ["evidence", *(f"tag {tag}" for tag in TAGS)]),
        ({"retrieval": {"candidate": {"recall@10": 0.9}}}, ["recall@10"]),
        ({"retrieval": {"candidate": {"recall@10": 0.9}, "champion": {"recall@10": math.nan}}}, ["recall@10"]),
        ({"general": {"adapter": Figure(value=0.7, n=50)}}, ["forgetting"]),
    ],
)
def test_a_threshold_that_was_not_measured_fails(
    honest: Facts, missing: dict[str, object], expected: list[str]
) -> None:
    rules = judge_candidate(replace(honest, **missing), CONFIG)
    assert failed(rules) == expected
    assert all(rule.threshold is None for rule in rules if rule.name in expected if rule.name != "evidence")


def test_a_loss_of_just_the_margin_passes_whatever_the_arithmetic(honest: Facts) -> None:
    assert 0.8 - CONFIG.forgetting_margin > 0.7
    general = {"base": Figure(value=0.8, n=50), "adapter": Figure(value=0.7, n=50)}
    rules = judge_candidate(replace(honest, general=general), CONFIG)
    assert rule_of(rules, "forgetting") == GateRule(name="forgetting", value=0.7, threshold=0.7, passed=True)


def refusing(share: float) -> ArmReport:
    """An arm that refuses so many of the unanswerable questions."""
    slices = {"unanswerable": {"refusal_recall": Figure(value=share, n=100)}}
    return ArmReport(arm="x", snapshot="0" * 64, adapter=None, slices=slices, prompt_tokens=1, answer_tokens=1)


@pytest.mark.parametrize(
    ("before", "now", "threshold", "passed"),
    [
        (0.85, 0.82, 0.82, True),  # just the margin
        (0.85, 0.81, 0.82, False),
        (0.10, 0.50, 0.50, True),  # a champion that cannot refuse lowers no floor
        (0.10, 0.49, 0.50, False),
    ],
)
def test_refusals_are_held_to_the_floor_and_to_the_champion(
    honest: Facts, before: float, now: float, threshold: float, passed: bool
) -> None:
    rules = judge_candidate(replace(honest, serving=refusing(now), champion=refusing(before)), CONFIG)
    assert rule_of(rules, "refusals") == GateRule(name="refusals", value=now, threshold=threshold, passed=passed)


def test_a_floor_of_zero_takes_refusals_from_a_set_that_asks_nothing_unanswerable(honest: Facts) -> None:
    none = replace(honest, serving=replace_slices(honest.serving), champion=replace_slices(honest.champion))
    assert "refusals" not in [rule.name for rule in judge_candidate(none, GateConfig(min_refusals=0.0))]
    assert failed(judge_candidate(none, CONFIG)) == ["refusals"]
    lost = replace(none, champion=honest.champion)
    assert failed(judge_candidate(lost, GateConfig(min_refusals=0.0))) == ["refusals"]


def replace_slices(report: ArmReport | None) -> ArmReport:
    assert report is not None
    return report.model_copy(update={"slices": {k: v for k, v in report.slices.items() if k != "unanswerable"}})


def test_rules_follow_the_way_of_serving(same: Facts) -> None:
    index_only = replace(same, new_adapter=False)
    names = {
        mode: {rule.name for rule in judge_candidate(replace(index_only, mode=mode), CONFIG)}
        for mode in ("rag", "adapter", "hybrid", None)
    }
    assert names["hybrid"] - names["rag"] == {"forgetting"}
    assert names["hybrid"] - names["adapter"] == {"recall@10"}
    assert names[None] == {"recall@10", "stale passages", "held share", "held days", "churn"}


def test_an_index_without_questions_is_held_to_its_own_rules() -> None:
    changes = Changes(
        added=0, modified=0, removed=60, documents=40, names=(), rows_added=0, rows_changed=0, rows_removed=0
    )
    rules = index_rules(STALE, changes, CONFIG, first=False)
    assert rule_of(rules, "churn") == GateRule(name="churn", value=0.6, threshold=0.4, passed=False)
    assert failed(rules) == ["stale passages", "churn"]
    assert [rule.name for rule in index_rules(STALE, None, CONFIG, first=True)] == [
        *("stale passages", "held share", "held days")
    ]


@pytest.mark.parametrize(
    ("verdict", "p_better", "p_worse", "expected"),
    [
        ("better", 0.025, 1.0, {True: [], False: []}),
        ("not_enough_evidence", 0.0251, 0.975, {True: ["evidence"], False: []}),
        ("not_enough_evidence", 0.02, 0.98, {True: ["evidence"], False: []}),  # the verdict may ask for more than p
        ("not_enough_evidence", 0.975, 0.0251, {True: ["evidence"], False: []}),
        ("worse", 1.0, 0.025, {True: ["evidence"], False: ["not worse"]}),
    ],
)
def test_the_verdict_decides(
    honest: Facts, verdict: str, p_better: float, p_worse: float, expected: dict[bool, list[str]]
) -> None:
    assert honest.comparison is not None
    update = {"verdict": verdict, "p_better": p_better, "p_worse": p_worse}
    found = replace(honest, comparison=honest.comparison.model_copy(update=update))
    for new_adapter, names in expected.items():
        assert failed(judge_candidate(replace(found, new_adapter=new_adapter), CONFIG)) == names


@pytest.mark.parametrize(
    ("name", "value", "threshold", "passed", "line"),
    [
        ("refusals", 0.31, 0.5, False, "refusals 0.31, at least 0.50: FAIL"),
        ("correct", 0.82, 0.5, True, "correct 0.82, at least 0.50: pass"),
        ("correct", 0.4996, 0.5, False, "correct 0.4996, at least 0.5000: FAIL"),
        ("evidence", 0.31, 0.025, False, "evidence 0.310, at most 0.025: FAIL"),
        ("tag travel", -0.4, -0.27, False, "tag travel -0.40, at least -0.27: FAIL"),
        ("stale passages", 3, 0, False, "stale passages 3, at most 0: FAIL"),
        ("held days", 2.5, 14, True, "held days 2.5, at most 14.0: pass"),
        ("latency", None, 2, False, "latency not measured, at most 2.00: FAIL"),
        ("recall@10", 0.9, None, False, "recall@10 0.90, threshold not measured: FAIL"),
    ],
)
def test_a_rule_reads_in_one_line(
    name: str, value: float | None, threshold: float | None, passed: bool, line: str
) -> None:
    assert describe_rule(GateRule(name=name, value=value, threshold=threshold, passed=passed)) == line
