"""How the figures of an evaluation read in words: shared by the approval form, the terminal and the HTML report.

Everything follows from one :class:`EvaluationReport`; nothing here is escaped for Markdown or HTML.
"""

from __future__ import annotations

from collections.abc import Sequence

from tidegate.core.errors import one_line
from tidegate.core.evaluation_records import (
    SERVED_BY,
    ArmReport,
    BreakEven,
    Changes,
    Comparison,
    CostReport,
    EvaluationReport,
    Figure,
    Freshness,
)
from tidegate.core.records import GateRule
from tidegate.evaluation.gate import describe_rule

FEW_ROWS = 100
FEW_DOCUMENTS = 25
MANY_LEFT_OUT = 0.1
"""A comparison over fewer rows or documents, or with a larger share of its rows left out, is pointed out."""

METRICS = {
    "correct": "Correct",
    "contained_match": "Contained match",
    "refusal_recall": "Refusals",
    "wrong_refusal": "Wrong refusals",
}
"""The metrics of the table of arms, with their headings."""

MORE_METRICS = {
    "exact_match": "Exact match",
    "citation_hit": "Citation hit",
    "refusal_precision": "Refusal precision",
    "token_f1": "Token F1",
    "rouge_l": "ROUGE-L",
}
"""Those that the HTML report shows besides."""

VERDICTS = {"better": "better", "worse": "worse", "not_enough_evidence": "not enough evidence"}
_ARMS = ("base", "base+RAG", "adapter", "adapter+RAG", "champion")


def share(value: float) -> str:
    """Return a share as per cent."""
    return f"{100 * value:.1f} %"


def signed(difference: float) -> str:
    """Return a difference of shares in points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def metric(figure: Figure | None) -> str:
    """Return a rate as per cent, a mean as it is, a dash for none."""
    if figure is None:
        return "–"
    return f"{figure.value:.3f}" if figure.low is None else share(figure.value)


def amount(value: float) -> str:
    """Return an amount with as many digits as tell amounts of its size apart."""
    if value >= 0.1 or value == 0:
        return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}"
    return f"{value:.5f}".rstrip("0").rstrip(".")


def money(value: float, currency: str) -> str:
    """Return an amount with its currency."""
    return f"{amount(value)} {currency}"


def value_and_limit(rule: GateRule) -> tuple[str, str]:
    """Return what was measured for a rule and what it must reach, in the gate's own words."""
    said = describe_rule(rule).removeprefix(f"{rule.name} ").rpartition(":")[0]
    value, _, limit = said.replace("-", "−").partition(", ")
    return value, limit


def p_value(value: float) -> str:
    """Return a p-value; under a thousandth its size says no more."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def squeezed(text: str, width: int | None = None) -> str:
    """Return untrusted text as one line of printable characters, cut to a width."""
    line = one_line(" ".join(text.split()))
    return line if width is None or len(line) <= width else f"{line[: width - 1]}…"


def interval(low: float, high: float) -> str:
    """Return the ends of an interval of differences, in points."""
    return f"{signed(low)} to {signed(high)}"


def served_arm(report: EvaluationReport) -> str:
    """Return the arm that the recommended mode serves with."""
    return SERVED_BY[report.serving_mode]


def plain_arms(report: EvaluationReport) -> list[ArmReport]:
    """Return the arms, without those that cross old and new."""
    return [arm for arm in report.arms if arm.arm in _ARMS]


def crossed_arms(report: EvaluationReport) -> list[ArmReport]:
    """Return the arms that cross old and new adapter and index."""
    return [arm for arm in report.arms if arm.arm not in _ARMS]


def headline(report: EvaluationReport) -> str:
    """Return the verdict in one sentence."""
    served = report.figure(served_arm(report), "all", "correct")
    compared = report.comparison
    if compared is None:
        what = "Not compared with the champion" if report.champion else "First release: there is no champion to beat"
        return f"{what}; {served_arm(report)} is correct on {_of(served)}." if served else f"{what}."
    opening = {
        "better": "Better than the champion",
        "worse": "Worse than the champion",
        "not_enough_evidence": "Not enough evidence that it is better than the champion",
    }[compared.verdict]
    champion = report.figure("champion", "all", "correct")
    shares = f"{share(served.value)} correct against {share(champion.value)}, " if served and champion else ""
    points = f"{signed(compared.difference)} points (95 % interval {interval(compared.low, compared.high)})"
    return f"{opening}: {shares}{points}."


def comparisons(report: EvaluationReport) -> list[tuple[str, Comparison]]:
    """Return the comparisons that were made, each with what it compares."""
    found = {
        "Candidate with champion": report.comparison,
        "On rows with unchanged evidence": report.unchanged,
        "adapter+RAG with base+RAG": report.against_rag,
    }
    return [(name, compared) for name, compared in found.items() if compared is not None]


def losses(report: EvaluationReport) -> list[str]:
    """Return what speaks against the candidate: rules that fail, comparisons that it loses."""
    failed = sum(not rule.passed for rule in report.rules)
    worse = [
        (report.comparison, "The candidate answers worse than the champion."),
        (report.unchanged, "The candidate answers worse where the evidence did not change."),
        (report.against_rag, "The adapter answers worse than the base model with the same passages."),
    ]
    return [
        *([f"The gate fails: {failed} of {counted(len(report.rules), 'rule')}."] if failed else []),
        *(text for compared, text in worse if compared and compared.verdict == "worse"),
    ]


def doubts(report: EvaluationReport) -> list[str]:
    """Return why the figures may say less than they seem to."""
    found = [] if report.rules else ["The gate has no rule: nothing was checked."]
    if report.champion and report.comparison is None:
        found.append("The candidate was not compared with the champion.")
    if report.comparison and (report.comparison.rows < FEW_ROWS or report.comparison.documents < FEW_DOCUMENTS):
        few = f"{counted(report.comparison.rows, 'row')} of {counted(report.comparison.documents, 'document')}"
        found.append(f"Few questions: {few} were compared.")
    asked = max((figure.n for arm in report.arms if (figure := report.figure(arm.arm, "all", "correct"))), default=0)
    if report.left_out > MANY_LEFT_OUT * (asked + report.left_out):
        left_out = counted(report.left_out, "row")
        found.append(f"{left_out} of the holdout left out: the evidence is not current in this index.")
    if _judge_disagrees(report):
        found.append(f"The judge disagrees: it prefers the {report.judge['preference']}. It does not decide.")
    if report.freshness.unexplained_stale:
        found.append(f"{counted(report.freshness.unexplained_stale, 'stale passage')} without an explanation.")
    return found


def failed_rules(report: EvaluationReport) -> list[GateRule]:
    """Return the rules that failed."""
    return [rule for rule in report.rules if not rule.passed]


def tightest(report: EvaluationReport) -> list[GateRule]:
    """Return the rules that passed with a value other than 0, the nearest to their threshold first."""
    distances = [
        (abs(rule.value - rule.threshold) / max(abs(rule.value), abs(rule.threshold)), at)
        for at, rule in enumerate(report.rules)
        if rule.passed and rule.value is not None and rule.threshold is not None and (rule.value or rule.threshold)
    ]
    return [report.rules[at] for _, at in sorted(distances)]


def gate_line(report: EvaluationReport, nearest: int = 3) -> str:
    """Return how the gate came out: the rules that failed, or those nearest to failing."""
    if not report.rules:
        return "no rule was checked"
    if failed := failed_rules(report):
        named = "; ".join(map(_in_words, failed))
        return f"{len(failed)} of {counted(len(report.rules), 'rule')} failed: {named}"
    close = "; ".join(map(_in_words, tightest(report)[:nearest]))
    passed = "the only rule passed" if len(report.rules) == 1 else f"all {len(report.rules)} rules passed"
    return f"{passed}; tightest: {close}" if close else passed


def document_changes(changes: Changes) -> str:
    """Return the changed documents in numbers."""
    counts = {"added": changes.added, "modified": changes.modified, "removed": changes.removed}
    found = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    return f"{found}; {counted(changes.documents, 'document')} in all" if found else "no document changed"


def row_changes(changes: Changes) -> str:
    """Return the changed rows in numbers."""
    counts = {"added": changes.rows_added, "changed": changes.rows_changed, "removed": changes.rows_removed}
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "no row changed"


def freshness_line(freshness: Freshness) -> str:
    """Return whether the index holds what the documents say."""
    held = (
        f"{freshness.held:,} of {counted(freshness.documents, 'document')} held, oldest {freshness.held_days:.1f} days"
        if freshness.held
        else f"none of {counted(freshness.documents, 'document')} is held"
    )
    return f"{held}; {counted(freshness.unexplained_stale, 'unexplained stale passage')}"


def pairs_of_interest(report: EvaluationReport) -> list[BreakEven]:
    """Return the break-evens, those of the arm that serves first."""
    served = served_arm(report)
    pairs = report.costs.break_even if report.costs else ()
    return sorted(pairs, key=lambda pair: served not in (pair.first, pair.second))


def break_even_line(costs: CostReport, pair: BreakEven) -> str:
    """Return from which volume on, to three digits, which of two arms costs less."""
    arms = {arm.arm: arm for arm in costs.arms}
    first, second = arms.get(pair.first), arms.get(pair.second)
    volume = (
        None if pair.queries_per_month is None else f"{float(f'{pair.queries_per_month:.3g}'):,.0f} queries a month"
    )
    if first is None or second is None:
        return f"{pair.first} and {pair.second} cost the same {f'at {volume}' if volume else 'at no volume'}"
    if volume:
        cheap, dear = (first, second) if first.per_1000_queries <= second.per_1000_queries else (second, first)
        return f"{cheap.arm} costs less than {dear.arm} above {volume}"
    totals = [arm.fixed_per_month + arm.per_1000_queries for arm in (first, second)]
    if totals[0] == totals[1]:
        return f"{first.arm} and {second.arm} cost the same at every volume"
    cheap, dear = (first, second) if totals[0] < totals[1] else (second, first)
    return f"{cheap.arm} costs less than {dear.arm} at every volume"


def uniform_count(figures: Sequence[Figure | None]) -> int | None:
    """Return the number of rows behind all figures, None if they differ or there is none."""
    counts = {figure.n for figure in figures if figure is not None}
    return counts.pop() if len(counts) == 1 else None


def _of(figure: Figure) -> str:
    ends = "" if figure.low is None or figure.high is None else f" ({share(figure.low)} to {share(figure.high)})"
    return f"{share(figure.value)}{ends} of {counted(figure.n, 'question')}"


def _in_words(rule: GateRule) -> str:
    value, limit = value_and_limit(rule)
    return f"{squeezed(rule.name)} {value}, {limit}"


def _judge_disagrees(report: EvaluationReport) -> bool:
    preference, compared = report.judge.get("preference"), report.comparison
    verdict = compared.verdict if compared else None
    return (preference == "champion" and verdict != "worse") or (preference == "candidate" and verdict == "worse")
