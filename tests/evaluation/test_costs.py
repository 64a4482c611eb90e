"""Costs: by hand, against exact rational arithmetic, and as docs/costs.md shows them."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from itertools import combinations
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from tidegate.core.config import parse_corpus
from tidegate.core.errors import ConfigInvalidError
from tidegate.core.evaluation_config import COST_PRESETS, CostsConfig
from tidegate.core.evaluation_records import ArmCost, CostReport
from tidegate.evaluation.costs import MANAGED_API, ArmUse, CostLine, RefreshUse, break_even, cost_report

PAGE = (ROOT / "docs" / "costs.md").read_text()
PRESETS: dict[str, dict[str, Any]] = yaml.safe_load(COST_PRESETS.read_text())
VOLUMES = (1_000, 10_000, 100_000, 1_000_000)
AMOUNTS = sorted(name for name, field in CostsConfig.model_fields.items() if field.annotation is float)
TIMES = {"labour_hours_per_month", "adapter_refreshes_per_month", "index_refreshes_per_month"}

BASE = ArmUse("base", prompt_tokens=100, answer_tokens=20, tokens_per_second=400)
RAG = ArmUse("base+RAG", prompt_tokens=900, answer_tokens=20, tokens_per_second=400, question_tokens=25)
ADAPTER = ArmUse("adapter", prompt_tokens=60, answer_tokens=20, tokens_per_second=400, training_hours=4)
HYBRID = ArmUse(
    "adapter+RAG", prompt_tokens=460, answer_tokens=20, tokens_per_second=400, question_tokens=25, training_hours=4
)
ARMS = (BASE, RAG, ADAPTER, HYBRID)
REFRESH = RefreshUse(embedded_tokens=3_000_000, training_hours=4, evaluation_hours=0.5)


def arms_of(report: CostReport) -> dict[str, ArmCost]:
    return {item.arm: item for item in report.arms}


def crossings(report: CostReport) -> dict[tuple[str, str], float | None]:
    return {(item.first, item.second): item.queries_per_month for item in report.break_even}


def parsed(**costs: Any) -> CostsConfig:
    return parse_corpus({"corpus": "docs", "source": {"path": "docs"}, "costs": costs}, where="docs.yaml").costs


def test_every_price_is_added_where_its_arm_uses_it() -> None:
    costs = CostsConfig(
        gpu_hour=3.6,  # 0.001 a second
        inference_per_month=40,
        input_per_million_tokens=2,
        output_per_million_tokens=10,
        embedding_per_million_tokens=4,
        vector_store_per_month=70,
        data_preparation=600,
        training_run=20,
        training_hour=5,
        labour_hour=50,
        labour_hours_per_month=3,
        api_per_query=0.11,
        api_per_month=30,
        adapter_refreshes_per_month=2,
        index_refreshes_per_month=4,
        amortised_months=8,
        queries_per_month=(1, 1_000),
    )
    report = cost_report(costs, ARMS, REFRESH)
    all_arms = 40 + 3 * 50
    retrieval = 70 + 4 * 12  # 3 million tokens at 4 a million
    adapter = (600 + 40) / 8 + 2 * 40  # a run: 20 + 4 hours at 5
    expected = {  # fixed, and per 1,000 queries: seconds, prompt, answer, question
        "base": (all_arms, 0.3 + 0.2 + 0.2),
        "base+RAG": (all_arms + retrieval, 2.3 + 1.8 + 0.2 + 0.1),
        "adapter": (all_arms + adapter, 0.2 + 0.12 + 0.2),
        "adapter+RAG": (all_arms + retrieval + adapter, 1.2 + 0.92 + 0.2 + 0.1),
        MANAGED_API: (30, 110),
    }
    assert report.currency == "USD"
    assert [item.arm for item in report.arms] == list(expected)
    for arm, (fixed, per_1000) in expected.items():
        found = arms_of(report)[arm]
        assert (found.fixed_per_month, found.per_1000_queries) == pytest.approx((fixed, per_1000))
        assert found.per_month == pytest.approx({1: fixed + per_1000 / 1000, 1_000: fixed + per_1000})
    assert report.once == pytest.approx({"training": 40, "index refresh": 12, "evaluation": 1.8})
    assert CostReport.model_validate_json(report.model_dump_json()) == report


@pytest.mark.parametrize(
    ("refresh", "once"),
    [
        (RefreshUse(), {}),
        (RefreshUse(training_hours=3), {"training": 103}),
        (RefreshUse(embedded_tokens=0, evaluation_hours=0.5), {"index refresh": 0, "evaluation": 1}),
    ],
)
def test_what_was_not_measured_of_a_refresh_has_no_cost(refresh: RefreshUse, once: dict[str, float]) -> None:
    report = cost_report(CostsConfig(training_run=100, training_hour=1, gpu_hour=2), ARMS, refresh)
    assert report.once == once
    assert arms_of(report)["adapter"].fixed_per_month == pytest.approx(104 / 12 + 208)


def test_what_is_paid_once_is_spread_over_twelve_months_by_default() -> None:
    costs = CostsConfig(data_preparation=1_200, training_run=120, adapter_refreshes_per_month=0)
    assert arms_of(cost_report(costs, ARMS, REFRESH))["adapter"].fixed_per_month == pytest.approx(110)


def test_break_even_by_hand() -> None:
    costs = CostsConfig(gpu_hour=3.6, vector_store_per_month=80, api_per_query=0.1, api_per_month=10)
    found = crossings(cost_report(costs, ARMS, REFRESH))
    assert list(found) == list(combinations(["base", "base+RAG", "adapter", "adapter+RAG", MANAGED_API], 2))
    assert found["base", "base+RAG"] is None  # base: 0 + 0.0003 a query; base+RAG: 80 + 0.0023
    assert found["base+RAG", MANAGED_API] == pytest.approx(70 / 0.0977)
    assert found["adapter", "adapter+RAG"] is None
    assert found["base", MANAGED_API] is None  # dearer from the first query on


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (CostLine(100, 1), CostLine(50, 2), 50),
        (CostLine(50, 2), CostLine(100, 1), 50),
        (CostLine(100, 1), CostLine(50, 1), None),  # parallel
        (CostLine(100, 1), CostLine(100, 1), None),  # equal
        (CostLine(0, 0), CostLine(0, 0), None),
        (CostLine(50, 1), CostLine(100, 2), None),  # would cross below 0
        (CostLine(100, 1), CostLine(100, 2), None),  # cross at 0 queries
        (CostLine(1e9, 0), CostLine(0, 5e-324), None),  # beyond every number
    ],
)
def test_lines_break_even_where_they_cross_above_no_queries(
    first: CostLine, second: CostLine, expected: float | None
) -> None:
    assert break_even(first, second) == expected


amounts = st.one_of(st.just(0.0), st.floats(1e-9, 1e9), st.sampled_from([0.11, 50.0, 100.0, 1.006]))
lines = st.builds(CostLine, amounts, amounts)


@given(lines, lines)
def test_a_break_even_is_the_exact_crossing_with_the_other_line_cheaper_on_each_side(
    first: CostLine, second: CostLine
) -> None:
    def dearer(queries: float) -> Fraction:
        slope = Fraction(first.per_query) - Fraction(second.per_query)
        return Fraction(first.fixed_per_month) - Fraction(second.fixed_per_month) + Fraction(queries) * slope

    queries = break_even(first, second)
    start, slope = dearer(0), dearer(1) - dearer(0)
    if queries is None:
        assert start * slope >= 0  # they do not meet above 0
    else:
        assert math.isclose(queries, -start / slope, rel_tol=1e-12)
        assert dearer(queries / 2) * dearer(queries * 2) < 0
    assert break_even(second, first) == queries


tokens = st.just(0.0) | st.floats(1e-6, 1e4)
uses = st.builds(
    ArmUse,
    st.sampled_from(["base", "base+RAG", "adapter", "adapter+RAG", "champion"]),
    tokens,
    tokens,
    st.floats(1e-3, 1e6),
    st.none() | tokens,
    st.none() | tokens,
)


@given(
    st.builds(CostsConfig, **{name: amounts for name in AMOUNTS if name not in TIMES}),
    st.lists(uses, min_size=2, max_size=5, unique_by=lambda use: use.arm),
)
def test_the_totals_of_a_report_are_equal_at_each_break_even(costs: CostsConfig, found: list[ArmUse]) -> None:
    report = cost_report(costs, found, REFRESH)
    cost = arms_of(report)
    for (first, second), queries in crossings(report).items():
        if queries is not None:
            one, other = (
                cost[arm].fixed_per_month + queries * cost[arm].per_1000_queries / 1000 for arm in (first, second)
            )
            assert math.isclose(one, other, rel_tol=1e-9)


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("value", [-1, -1e-9, math.nan, math.inf, -math.inf, 1e12])
def test_an_absurd_amount_is_refused_by_name(amount: str, value: float) -> None:
    with pytest.raises(ConfigInvalidError) as refused:
        parsed(**{amount: value})
    assert refused.value.what.startswith(f"docs.yaml: costs.{amount}: ")
    assert refused.value.what.endswith(f", got {value}")
    assert re.search("greater than or equal to 0|at most 1,000,000,000|finite", refused.value.what)


@pytest.mark.parametrize("volumes", [[], [0], [1_000, -1], [10**12], [10**400]])
def test_an_absurd_volume_is_refused(volumes: list[int]) -> None:
    with pytest.raises(ConfigInvalidError, match="queries_per_month must hold volumes of 1 to 1,000,000,000"):
        parsed(queries_per_month=volumes)


def test_without_prices_every_arm_costs_nothing_and_nothing_breaks_even() -> None:
    report = cost_report(CostsConfig(), [*ARMS, ArmUse("champion", 1, 1, tokens_per_second=None)], REFRESH)
    assert {(item.fixed_per_month, item.per_1000_queries, *item.per_month.values()) for item in report.arms} == {
        (0, 0, 0, 0, 0, 0)
    }
    assert MANAGED_API not in arms_of(report)
    assert set(crossings(report).values()) == {None}
    assert set(report.once.values()) == {0}


def test_an_hour_with_a_price_needs_a_measured_throughput() -> None:
    unmeasured = ArmUse("base", 100, 20, tokens_per_second=None)
    with pytest.raises(ConfigInvalidError, match=r"costs\.gpu_hour is 1\.006, but the throughput of base was not"):
        cost_report(CostsConfig(gpu_hour=1.006), [unmeasured], REFRESH)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, 1e16])
@pytest.mark.parametrize(
    "name", ["prompt_tokens", "answer_tokens", "tokens_per_second", "question_tokens", "training_hours"]
)
def test_what_cannot_have_been_measured_is_refused_by_name(name: str, value: float) -> None:
    given = {"prompt_tokens": 1.0, "answer_tokens": 1.0, "tokens_per_second": 1.0, name: value}
    with pytest.raises(ValueError, match=re.escape(f"base: {name} must be 0 to 1e+15, got {value}")):
        ArmUse("base", **given)


def test_a_throughput_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^base: tokens_per_second must be above 0, got 0\.0$"):
        ArmUse("base", 100, 20, tokens_per_second=0.0)


@pytest.mark.parametrize(
    ("prices", "use", "said"),
    [
        ({"gpu_hour": 1}, ArmUse("base", 1e12, 1, tokens_per_second=5e-324), "0 a month and inf a query"),
        ({"labour_hour": 1e9, "labour_hours_per_month": 1e7}, BASE, "1e+16 a month and 0 a query"),
    ],
)
def test_an_absurd_cost_is_refused(prices: dict[str, float], use: ArmUse, said: str) -> None:
    with pytest.raises(ConfigInvalidError, match=re.escape(f"costs: base would cost {said}")):
        cost_report(CostsConfig(**prices), [use], REFRESH)


def test_a_refresh_that_cannot_have_been_measured_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^refresh: evaluation_hours must be 0 to 1e\+15, got -0\.5$"):
        RefreshUse(evaluation_hours=-0.5)


def test_two_arms_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two arms have one name"):
        cost_report(CostsConfig(), [BASE, BASE], REFRESH)


def test_a_preset_fills_in_what_the_file_does_not_say() -> None:
    costs = parsed(preset="small", gpu_hour=0.5)
    assert costs.model_dump(mode="json") == {
        **CostsConfig().model_dump(mode="json"),
        **PRESETS["small"],
        "preset": "small",
        "gpu_hour": 0.5,
    }
    assert CostsConfig.model_validate(costs.model_dump()) == costs


def test_an_unknown_preset_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigInvalidError) as refused:
        parsed(preset="smal")
    expected = "preset 'smal' is no price list; did you mean 'small'? valid: large, small"
    assert refused.value.what == f"docs.yaml: costs: {expected}"


def test_the_presets_hold_the_published_prices_and_say_where_they_are_from() -> None:
    prices = {
        name: {key: value for key, value in preset.items() if isinstance(value, int | float)}
        for name, preset in PRESETS.items()
    }
    names = ["training_run", "data_preparation", "inference_per_month", "vector_store_per_month", "gpu_hour"]
    assert [prices["small"][name] for name in names] == [100, 1_000, 50, 50, 1.006]
    assert [prices["large"][name] for name in names] == [1_500, 15_000, 1_000, 500, 32.38]
    for name, instance in (("small", "g5.xlarge (1 A10G)"), ("large", "p4d.24xlarge (8 A100)")):
        assert prices[name]["api_per_query"] == 0.11
        assert prices[name]["api_per_month"] == prices[name]["vector_store_per_month"]
        assert CostsConfig(preset=name).queries_per_month == VOLUMES
        assert instance in PRESETS[name]["source"]
        assert "given to the project as a starting point" in PRESETS[name]["source"]


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading of docs/costs.md, without its own head."""
    section = re.split(r"^#+ ", PAGE.partition(f" {heading}\n")[2], flags=re.MULTILINE)[0]
    table = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in table[1:]]


def number(text: str) -> float:
    return float(text.replace(",", ""))


def example(preset: str) -> list[ArmUse]:
    """The arms of the page's example; only a retrieving arm embeds, only an adapter was trained."""
    column = {"small": 3, "large": 4}[preset]
    return [
        ArmUse(
            row[0],
            prompt_tokens=number(row[1]),
            answer_tokens=number(row[2]),
            tokens_per_second=number(row[column]),
            question_tokens=20 if "RAG" in row[0] else None,
            training_hours=0 if "adapter" in row[0] else None,
        )
        for row in rows("Presets")
    ]


def sums(preset: str) -> list[list[str]]:
    """Fixed cost and cost per 1,000 queries of each arm as sums over the prices of the YAML file."""
    price = {key: f"{value:,}" for key, value in PRESETS[preset].items() if isinstance(value, int | float)}
    found = []
    for use in example(preset):
        fixed = [price["inference_per_month"]]
        if use.question_tokens is not None:
            fixed.append(price["vector_store_per_month"])
        if use.training_hours is not None:
            fixed += [f"({price['data_preparation']} + {price['training_run']}) ÷ 12", f"2 × {price['training_run']}"]
        seconds = f"{use.prompt_tokens + use.answer_tokens:,.0f} ÷ {use.tokens_per_second:,.0f}"
        found.append([use.arm, " + ".join(fixed), f"1,000 × {seconds} × {price['gpu_hour']} ÷ 3,600"])
    return [*found, [MANAGED_API, price["api_per_month"], f"1,000 × {price['api_per_query']}"]]


def value(expression: str) -> float:
    assert re.fullmatch(r"[\d.,+×÷() ]+", expression), expression
    return float(eval(expression.replace(",", "").replace("×", "*").replace("÷", "/")))


def solved(expression: str) -> str:
    return f"{expression} = {value(expression):,.2f}" if re.search("[+×÷]", expression) else expression


@pytest.mark.parametrize("preset", ["small", "large"])
def test_the_sums_of_a_preset_are_those_of_the_page_and_of_the_report(preset: str) -> None:
    report = cost_report(CostsConfig(preset=preset), example(preset), RefreshUse())
    shown = rows(f"`{preset}`")
    for (arm, fixed, per_1000), row in zip(sums(preset), shown, strict=True):
        found = arms_of(report)[arm]
        assert (value(fixed), value(per_1000)) == pytest.approx((found.fixed_per_month, found.per_1000_queries))
        totals = [value(fixed) + volume / 1000 * value(per_1000) for volume in VOLUMES]
        assert list(found.per_month.values()) == pytest.approx(totals)
        assert row == [arm, solved(fixed), solved(per_1000), *(f"{amount:,.2f}" for amount in totals)]


def test_the_break_evens_of_the_page_are_where_its_lines_cross() -> None:
    shown = {tuple(row[0].split(", ")): row[1:] for row in rows("Break-even of the presets")}
    assert list(shown) == list(combinations([arm for arm, *_ in sums("small")], 2))
    for column, preset in enumerate(("small", "large")):
        report = cost_report(CostsConfig(preset=preset), example(preset), RefreshUse())
        line = {arm: (value(fixed), value(per_1000) / 1000) for arm, fixed, per_1000 in sums(preset)}
        for (first, second), queries in crossings(report).items():
            (fixed_1, slope_1), (fixed_2, slope_2) = line[first], line[second]
            cheaper = first if (fixed_1, slope_1) < (fixed_2, slope_2) else second
            text = f"none: {cheaper}"
            if (fixed_1 - fixed_2) * (slope_1 - slope_2) < 0:
                assert queries == pytest.approx((fixed_2 - fixed_1) / (slope_1 - slope_2))
                text = f"{queries:,.0f}"
            assert shown[first, second][column] == text


def test_what_the_page_says_about_the_published_prices_is_computed_from_them() -> None:
    expected = {}
    for preset in ("small", "large"):
        price = {key: f"{amount:,}" for key, amount in PRESETS[preset].items() if isinstance(amount, int | float)}
        run, data, month, hour = (
            price[name] for name in ("training_run", "data_preparation", "inference_per_month", "gpu_hour")
        )
        expected[preset] = {
            "the machine, all hours of a month": f"730 × {hour}",
            "hours of it that the price of a month's inference buys": f"{month} ÷ {hour}",
            "hours of it that the price of a run buys": f"{run} ÷ {hour}",
            "the first adapter": f"{data} + {run}",
            "the first year of the arm adapter, before any query": f"{data} + {run} + 24 × {run} + 12 × {month}",
            "the first year of the managed API, 10,000 queries a month": (
                f"12 × {price['api_per_month']} + 120,000 × {price['api_per_query']}"
            ),
        }
    computed = [[what, *(solved(expected[preset][what]) for preset in expected)] for what in expected["small"]]
    assert rows("What the published prices say") == computed
