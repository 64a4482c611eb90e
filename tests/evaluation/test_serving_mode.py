"""Which way serves best, on arms whose shares, comparisons, times and costs are given."""

from __future__ import annotations

import pytest

from tidegate.core.evaluation_config import EvaluationConfig
from tidegate.core.evaluation_records import (
    ArmCost,
    ArmReport,
    Comparison,
    CostReport,
    Figure,
    LatencyReport,
    Verdict,
)
from tidegate.evaluation.serving_mode import Choice, rank_arms

RAG, ADAPTER, BOTH = "base+RAG", "adapter", "adapter+RAG"
SHARES = {RAG: 0.71, ADAPTER: 0.65, BOTH: 0.82}
LATENCY = {RAG: 0.9, ADAPTER: 0.5, BOTH: 2.5}
COST = {RAG: 1.2, ADAPTER: 0.4, BOTH: 1.5}
UNLIMITED = EvaluationConfig()


def arms(names: tuple[str, ...] = (RAG, ADAPTER, BOTH)) -> list[ArmReport]:
    """The arms, with one that never serves."""
    return [
        ArmReport(
            arm=name,
            snapshot="0" * 64,
            adapter=None,
            slices={"all": {"correct": Figure(value=SHARES.get(name, 0.99), n=500)}},
            prompt_tokens=900,
            answer_tokens=12,
        )
        for name in ("champion", *names[::-1])
    ]


def against(verdict: Verdict, difference: float) -> Comparison:
    return Comparison(
        verdict=verdict,
        difference=difference,
        low=difference - 0.05,
        high=difference + 0.05,
        p_better=0.5,
        p_worse=0.5,
        rows=500,
        documents=100,
        wins=10,
        losses=10,
        mcnemar=1.0,
    )


BETTER, UNSURE, WORSE = against("better", 0.11), against("not_enough_evidence", 0.02), against("worse", -0.06)
PAIRS = {(ADAPTER, RAG): WORSE, (BOTH, RAG): BETTER, (BOTH, ADAPTER): BETTER}


def latency(seconds: dict[str, float]) -> dict[str, LatencyReport]:
    return {
        name: LatencyReport(requests=16, concurrency=1, p50=p50, p95=9.0, p99=None, tokens_per_second=20.0)
        for name, p50 in seconds.items()
    }


def costs(prices: dict[str, float]) -> CostReport:
    found = tuple(
        ArmCost(arm=name, per_1000_queries=price, fixed_per_month=0, per_month={}) for name, price in prices.items()
    )
    return CostReport(currency="EUR", arms=found, break_even=(), once={})


@pytest.mark.parametrize(
    ("adapter", "both", "both_against_adapter", "mode"),
    [
        (WORSE, BETTER, BETTER, "hybrid"),
        (UNSURE, UNSURE, UNSURE, "rag"),
        (WORSE, UNSURE, BETTER, "rag"),  # better than an adapter that is worse than RAG is not enough
        (BETTER, BETTER, UNSURE, "adapter"),
        (BETTER, BETTER, BETTER, "hybrid"),
        (UNSURE, BETTER, UNSURE, "hybrid"),
        (None, None, None, "rag"),
    ],
)
def test_a_way_is_preferred_to_a_simpler_one_only_if_it_is_better(
    adapter: Comparison | None, both: Comparison | None, both_against_adapter: Comparison | None, mode: str
) -> None:
    pairs = {(ADAPTER, RAG): adapter, (BOTH, RAG): both, (BOTH, ADAPTER): both_against_adapter}
    given = {pair: found for pair, found in pairs.items() if found}
    assert rank_arms(arms(), given, {}, None, UNLIMITED).mode == mode


def test_the_sentence_gives_the_figures_that_decided() -> None:
    assert rank_arms(arms(), PAIRS, {}, None, UNLIMITED) == Choice(
        "hybrid",
        "adapter+RAG serves (correct: base+RAG 71.0 %, adapter 65.0 %, adapter+RAG 82.0 %); "
        "adapter is worse than base+RAG (−6.0 points, 95 % interval −11.0 to −1.0); "
        "adapter+RAG is better than base+RAG (+11.0 points, 95 % interval +6.0 to +16.0).",
    )


def test_without_an_adapter_rag_serves() -> None:
    assert rank_arms(arms((RAG,)), {}, {}, None, UNLIMITED) == Choice(
        "rag", "base+RAG serves (correct: base+RAG 71.0 %); no other way was measured."
    )


@pytest.mark.parametrize(
    ("limits", "mode", "said"),
    [
        (
            {"max_latency_seconds": 2.0},
            "rag",
            "; outside the limits: adapter+RAG (median latency 2.5 s, at most 2 s).",
        ),
        ({"max_latency_seconds": 2.5}, "hybrid", None),
        (
            {"max_cost_per_1000": 1.0},
            "adapter",
            (
                "; outside the limits: base+RAG (cost of 1,000 queries 1.2, at most 1), "
                "adapter+RAG (cost of 1,000 queries 1.5, at most 1)."
            ),
        ),
        (
            {"max_latency_seconds": 2.0, "max_cost_per_1000": 1.4},
            "rag",
            (
                "; outside the limits: adapter+RAG "
                "(median latency 2.5 s, at most 2 s and cost of 1,000 queries 1.5, at most 1.4)."
            ),
        ),
    ],
)
def test_a_way_above_a_limit_is_left_out_however_good_it_is(
    limits: dict[str, float], mode: str, said: str | None
) -> None:
    choice = rank_arms(arms(), PAIRS, latency(LATENCY), costs(COST), EvaluationConfig(**limits))
    assert choice.mode == mode
    assert choice.why.endswith(said) if said else "outside" not in choice.why


def test_what_a_limit_needs_and_nobody_measured_leaves_a_way_out() -> None:
    timed = latency({RAG: 0.9, ADAPTER: 0.5})
    choice = rank_arms(arms(), PAIRS, timed, None, EvaluationConfig(max_latency_seconds=3))
    assert choice.mode == "rag"
    assert choice.why.endswith("; outside the limits: adapter+RAG (median latency not measured, at most 3 s).")
    unpriced = costs({ADAPTER: 0.4, BOTH: 1.5})
    choice = rank_arms(arms(), PAIRS, {}, unpriced, EvaluationConfig(max_cost_per_1000=2))
    assert choice.mode == "hybrid"
    assert choice.why.endswith("; outside the limits: base+RAG (cost of 1,000 queries not known, at most 2).")


def test_limits_that_leave_nothing_are_ignored_and_named() -> None:
    choice = rank_arms(arms(), PAIRS, latency(LATENCY), None, EvaluationConfig(max_latency_seconds=0.1))
    assert choice.mode == "hybrid"
    assert choice.why.endswith(
        "; outside the limits: base+RAG (median latency 0.9 s, at most 0.1 s), "
        "adapter (median latency 0.5 s, at most 0.1 s), adapter+RAG (median latency 2.5 s, at most 0.1 s), "
        "which is every way, so quality alone decided."
    )


def test_with_no_way_measured_there_is_no_choice() -> None:
    with pytest.raises(ValueError, match=r"no way of serving was measured: give one of base\+RAG, adapter,"):
        rank_arms(arms(()), {}, {}, None, UNLIMITED)
