"""What the arms cost: the prices of the corpus file times measured tokens and throughput.

An arm's month is a straight line, ``total(queries) = fixed_per_month + queries * per_query``. Two arms break even where
their lines cross. Every price is added; one that is 0 costs nothing. docs/costs.md has the sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from tidegate.core.errors import ConfigInvalidError
from tidegate.core.evaluation_config import CostsConfig
from tidegate.core.evaluation_records import ArmCost, BreakEven, CostReport

MANAGED_API = "managed API"
"""Name of the baseline, which has prices of its own and no measurements."""
_MILLION = 1_000_000
_SECONDS_PER_HOUR = 3600
_MOST = 1e15
"""Largest amount: no measurement and no cost is above, in any currency."""


@dataclass(frozen=True, slots=True)
class ArmUse:
    """What one arm takes; raise ``ValueError`` for what cannot have been measured."""

    arm: str
    prompt_tokens: float
    answer_tokens: float
    """Means per question."""
    tokens_per_second: float | None
    """Prompt and answer tokens of the engine, over all requests at once; None: not measured."""
    question_tokens: float | None = None
    """What is embedded per question; None: the arm retrieves nothing."""
    training_hours: float | None = None
    """What training its adapter took; None: it has no adapter."""

    def __post_init__(self) -> None:
        if self.tokens_per_second == 0:
            raise ValueError(f"{self.arm}: tokens_per_second must be above 0, got {self.tokens_per_second}")
        _check(
            self.arm,
            prompt_tokens=self.prompt_tokens,
            answer_tokens=self.answer_tokens,
            tokens_per_second=self.tokens_per_second,
            question_tokens=self.question_tokens,
            training_hours=self.training_hours,
        )


@dataclass(frozen=True, slots=True)
class RefreshUse:
    """What this refresh took, None: not measured; raise ``ValueError`` for what cannot have been measured."""

    embedded_tokens: int | None = None
    training_hours: float | None = None
    """None, too: no adapter was trained."""
    evaluation_hours: float | None = None
    """Time in which answers were generated."""

    def __post_init__(self) -> None:
        _check(
            "refresh",
            embedded_tokens=self.embedded_tokens,
            training_hours=self.training_hours,
            evaluation_hours=self.evaluation_hours,
        )


@dataclass(frozen=True, slots=True)
class CostLine:
    """The cost of a month over its queries."""

    fixed_per_month: float
    per_query: float

    def at(self, queries: float) -> float:
        """Return the cost of a month with so many queries."""
        return self.fixed_per_month + queries * self.per_query


def cost_report(costs: CostsConfig, arms: Sequence[ArmUse], refresh: RefreshUse) -> CostReport:
    """Return the cost of each arm, and of the managed API if it has a price, with the break-even of each pair.

    Raises ``ConfigInvalidError`` if ``costs.gpu_hour`` has a price and an arm no throughput, or if a cost is absurd,
    ``ValueError`` if two arms have one name.
    """
    lines = {use.arm: _line(costs, use, refresh) for use in arms}
    if len(lines) < len(arms):
        raise ValueError(f"two arms have one name: {[use.arm for use in arms]}")
    if costs.api_per_query or costs.api_per_month:
        lines[MANAGED_API] = CostLine(costs.api_per_month, costs.api_per_query)
    return CostReport(
        currency=costs.currency,
        arms=tuple(
            ArmCost(
                arm=arm,
                per_1000_queries=1000 * line.per_query,
                fixed_per_month=line.fixed_per_month,
                per_month={queries: line.at(queries) for queries in costs.queries_per_month},
            )
            for arm, line in lines.items()
        ),
        break_even=tuple(
            BreakEven(first=first, second=second, queries_per_month=break_even(lines[first], lines[second]))
            for first, second in combinations(lines, 2)
        ),
        once=_once(costs, refresh),
    )


def break_even(first: CostLine, second: CostLine) -> float | None:
    """Return the queries a month, above 0, at which both cost the same; None if there are none, or all are."""
    slope = first.per_query - second.per_query
    if slope == 0:
        return None
    queries = (second.fixed_per_month - first.fixed_per_month) / slope
    return queries if 0 < queries < math.inf else None


def _line(costs: CostsConfig, use: ArmUse, refresh: RefreshUse) -> CostLine:
    fixed = costs.inference_per_month + costs.labour_hours_per_month * costs.labour_hour
    per_query = _answering(costs, use)
    if use.question_tokens is not None:
        fixed += costs.vector_store_per_month + costs.index_refreshes_per_month * _embedding(costs, refresh)
        per_query += use.question_tokens * costs.embedding_per_million_tokens / _MILLION
    if use.training_hours is not None:
        run = _training(costs, use.training_hours)
        fixed += (costs.data_preparation + run) / costs.amortised_months + costs.adapter_refreshes_per_month * run
    if max(fixed, per_query) > _MOST:
        raise ConfigInvalidError(f"costs: {use.arm} would cost {fixed:g} a month and {per_query:g} a query")
    return CostLine(fixed, per_query)


def _answering(costs: CostsConfig, use: ArmUse) -> float:
    """Return what the prompt and answer of one query cost, without its embedding."""
    tokens = use.prompt_tokens * costs.input_per_million_tokens + use.answer_tokens * costs.output_per_million_tokens
    if not costs.gpu_hour:
        return tokens / _MILLION
    if use.tokens_per_second is None:
        raise ConfigInvalidError(
            f"costs.gpu_hour is {costs.gpu_hour:g}, but the throughput of {use.arm} was not measured",
            next_action="set evaluation.latency_requests to 1 or more, or costs.gpu_hour to 0, and evaluate again",
        )
    seconds = (use.prompt_tokens + use.answer_tokens) / use.tokens_per_second
    return tokens / _MILLION + seconds * costs.gpu_hour / _SECONDS_PER_HOUR


def _training(costs: CostsConfig, hours: float) -> float:
    return costs.training_run + hours * costs.training_hour


def _embedding(costs: CostsConfig, refresh: RefreshUse) -> float:
    return (refresh.embedded_tokens or 0) * costs.embedding_per_million_tokens / _MILLION


def _once(costs: CostsConfig, refresh: RefreshUse) -> dict[str, float]:
    """Return what was measured of the refresh, at its price."""
    paid = {}
    if refresh.training_hours is not None:
        paid["training"] = _training(costs, refresh.training_hours)
    if refresh.embedded_tokens is not None:
        paid["index refresh"] = _embedding(costs, refresh)
    if refresh.evaluation_hours is not None:
        paid["evaluation"] = refresh.evaluation_hours * costs.gpu_hour
    return paid


def _check(what: str, **amounts: float | None) -> None:
    for name, amount in amounts.items():
        if amount is not None and not 0 <= amount <= _MOST:
            raise ValueError(f"{what}: {name} must be 0 to {_MOST:g}, got {amount}")
