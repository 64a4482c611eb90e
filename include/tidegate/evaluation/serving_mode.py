"""Which way serves best: quality first, within the limits of latency and cost.

The ways, from simple to complex: base+RAG (``rag``), adapter (``adapter``, without retrieval), adapter+RAG
(``hybrid``). A way is preferred to a simpler one only if the comparison says *better*: with too little evidence the
simpler one serves. A way that is above a limit, or was not measured where there is one, is left out.

If the limits leave out every way, they are ignored and the sentence says so. A release must serve in some way; quality
is what readers lose first, and a ceiling that must hold stands in the gate, which then stops the release.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidegate.core.evaluation_config import EvaluationConfig
from tidegate.core.evaluation_records import SERVED_BY, ArmReport, Comparison, CostReport, LatencyReport, ServingMode
from tidegate.evaluation.report_text import interval, share, signed

_FROM_SIMPLE: tuple[ServingMode, ...] = ("rag", "adapter", "hybrid")
_VERDICTS = {"better": "better than", "worse": "worse than", "not_enough_evidence": "not shown to be better than"}


@dataclass(frozen=True, slots=True)
class Choice:
    """The way that should serve, and one sentence why, with the figures."""

    mode: ServingMode
    why: str
    outside: frozenset[str] = frozenset()
    """Arms above a limit."""


def rank_arms(
    arms: Sequence[ArmReport],
    comparisons: Mapping[tuple[str, str], Comparison],
    latency: Mapping[str, LatencyReport],
    costs: CostReport | None,
    config: EvaluationConfig,
) -> Choice:
    """Choose among base+RAG, adapter and adapter+RAG; others of ``arms`` are not considered.

    ``comparisons`` are those of a more complex arm with a simpler one, by their names in this order; an absent one
    counts as *not enough evidence*. Raises ``ValueError`` if no way was measured.
    """
    figures = {arm.arm: arm.slices.get("all", {}).get("correct") for arm in arms}
    correct = {mode: figure for mode in _FROM_SIMPLE if (figure := figures.get(SERVED_BY[mode])) is not None}
    if not correct:
        raise ValueError(f"no way of serving was measured: give one of {', '.join(SERVED_BY.values())}")
    outside = {mode: reasons for mode in correct if (reasons := _above_limits(SERVED_BY[mode], latency, costs, config))}
    within = [mode for mode in correct if mode not in outside]
    best, steps = _best(within or list(correct), comparisons)
    shares = ", ".join(f"{SERVED_BY[mode]} {share(figure.value)}" for mode, figure in correct.items())
    parts = [f"{SERVED_BY[best]} serves (correct: {shares})", *steps]
    if len(correct) == 1:
        parts.append("no other way was measured")
    if outside:
        left_out = ", ".join(f"{SERVED_BY[mode]} ({' and '.join(reasons)})" for mode, reasons in outside.items())
        ignored = "" if within else ", which is every way, so quality alone decided"
        parts.append(f"outside the limits: {left_out}{ignored}")
    return Choice(best, "; ".join(parts) + ".", frozenset(SERVED_BY[mode] for mode in outside))


def _best(
    modes: Sequence[ServingMode], comparisons: Mapping[tuple[str, str], Comparison]
) -> tuple[ServingMode, list[str]]:
    """Return the last of the modes, from simple to complex, that is better than the best before it, and each step."""
    best, steps = modes[0], []
    for mode in modes[1:]:
        pair = SERVED_BY[mode], SERVED_BY[best]
        compared = comparisons.get(pair)
        if compared is None:
            steps.append(f"{pair[0]} was not compared with {pair[1]}")
            continue
        points = f"{signed(compared.difference)} points, 95 % interval {interval(compared.low, compared.high)}"
        steps.append(f"{pair[0]} is {_VERDICTS[compared.verdict]} {pair[1]} ({points})")
        if compared.verdict == "better":
            best = mode
    return best, steps


def _above_limits(
    arm: str, latency: Mapping[str, LatencyReport], costs: CostReport | None, config: EvaluationConfig
) -> list[str]:
    """Return which limits an arm does not keep, in words."""
    reasons = []
    slowest, timed = config.max_latency_seconds, latency.get(arm)
    if slowest is not None and (timed is None or not timed.p50 <= slowest):
        measured = f"{timed.p50:.4g} s" if timed else "not measured"
        reasons.append(f"median latency {measured}, at most {slowest:g} s")
    dearest = config.max_cost_per_1000
    cost = next((item.per_1000_queries for item in costs.arms if item.arm == arm), None) if costs else None
    if dearest is not None and (cost is None or not cost <= dearest):
        known = f"{cost:.4g}" if cost is not None else "not known"
        reasons.append(f"cost of 1,000 queries {known}, at most {dearest:g}")
    return reasons
