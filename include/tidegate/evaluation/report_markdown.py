"""An evaluation as Markdown for Airflow's approval form (GFM, raw HTML is dropped), and as five lines for a terminal.

Questions, answers and names are untrusted: they cannot start markup, leave their table cell, or become a link.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from tidegate.core.evaluation_records import CostReport, EvaluationReport, Example, Figure
from tidegate.evaluation.report_text import (
    METRICS,
    VERDICTS,
    break_even_line,
    comparisons,
    crossed_arms,
    document_changes,
    doubts,
    failed_rules,
    freshness_line,
    gate_line,
    headline,
    interval,
    losses,
    money,
    p_value,
    pairs_of_interest,
    plain_arms,
    row_changes,
    served_arm,
    share,
    signed,
    squeezed,
    uniform_count,
    value_and_limit,
)

_EXAMPLES = 3
_FAILED = 4
_NAMES = 6
_PAIRS = 3
_ARMS = 7
"""How many the form shows of wins, losses, failed rules, changed documents, break-evens and arms."""
_MARKUP = re.compile(r"([\\`*_\[\]<>|~&#])")
_LINKED = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?=@[-\w]+\.)", re.IGNORECASE)
"""Where a word joiner keeps a renderer from making a link of a bare address."""
_WORD_JOINER = "\u2060"
_URL_CHARACTERS = "%/:?#@!$&'*+,;=~-._"


def approval_body(report: EvaluationReport, *, release: str, report_url: str | None = None) -> str:
    """Return the body of the approval form, at most 60 lines; ``release`` is the digest that the approval binds."""
    sections = [
        _warnings(report),
        _verdict(report),
        _arms(report),
        _comparisons(report),
        _gate(report),
        _changes(report),
        _examples(report),
        _cost_and_latency(report),
        _evidence(report, release, report_url),
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def verdict_lines(report: EvaluationReport, release: str) -> list[str]:
    """Return the verdict as five lines of plain text: verdict, serving mode, arms, gate, release."""
    shares = [
        f"{arm.arm} {share(figure.value)}"
        for arm in plain_arms(report)
        if (figure := report.figure(arm.arm, "all", "correct"))
    ]
    change = f"documents: {document_changes(report.changes)}; rows: {row_changes(report.changes)}"
    warned = "".join(f" Warning: {doubt}" for doubt in doubts(report))
    return [
        f"{report.corpus}: {headline(report)}",
        f"Serve: {report.serving_mode} ({served_arm(report)}). {squeezed(report.why_mode)}",
        f"Correct: {', '.join(shares) or 'not measured'}.",
        f"Gate: {gate_line(report)}.",
        f"Release {release[:12]}: {change}.{warned}",
    ]


def escaped(text: str, width: int | None = None) -> str:
    """Return untrusted text as one line of Markdown that shows as itself, cut to a width."""
    return _MARKUP.sub(r"\\\1", _LINKED.sub(_WORD_JOINER, squeezed(text, width)))


def _warnings(report: EvaluationReport) -> list[str]:
    found = [*losses(report), *doubts(report)]
    return ["> **Look closer before you approve.**", *(f"> - {escaped(text)}" for text in found)] if found else []


def _verdict(report: EvaluationReport) -> list[str]:
    mode = f"**Serving mode: {report.serving_mode}** ({escaped(served_arm(report))}). {escaped(report.why_mode)}"
    return [f"**{escaped(headline(report))}**", "", mode]


def _arms(report: EvaluationReport) -> list[str]:
    arms = [arm.arm for arm in (*plain_arms(report), *crossed_arms(report))][:_ARMS]
    columns = {name: [report.figure(arm, "all", name) for arm in arms] for name in METRICS}
    counts = {name: uniform_count(figures) for name, figures in columns.items() if any(figures)}
    if not counts:
        return []
    heads = [METRICS[name] + (f" (n {n:,})" if n else "") for name, n in counts.items()]
    rows = [
        [
            _strong(escaped(arm), arm == served_arm(report)),
            *(_cell(report.figure(arm, "all", name), n) for name, n in counts.items()),
        ]
        for arm in arms
    ]
    return _table(["Arm (bold serves; 95 % intervals)", *heads], rows, right=len(heads))


def _comparisons(report: EvaluationReport) -> list[str]:
    rows = [
        [
            escaped(name),
            _strong(VERDICTS[found.verdict], found.verdict != "not_enough_evidence"),
            signed(found.difference),
            interval(found.low, found.high),
            f"{found.rows:,} ({found.documents:,})",
            f"{found.wins:,} : {found.losses:,}",
            p_value(found.p_better),
        ]
        for name, found in comparisons(report)
    ]
    heads = ["Compared", "Verdict", "Points", "95 % interval", "Rows (documents)", "Won : lost", "p better"]
    return _table(heads, rows, right=5) if rows else []


def _gate(report: EvaluationReport) -> list[str]:
    failed = failed_rules(report)
    if not failed:
        return [f"**Gate:** {escaped(gate_line(report))}."]
    rows = [[escaped(rule.name, 80), *value_and_limit(rule)] for rule in failed[:_FAILED]]
    more = [["and more in the full report", "", ""]] if len(failed) > _FAILED else []
    head = f"Failed rule of the gate ({len(failed)} of {len(report.rules)})"
    return _table([head, "Value", "Required"], [*rows, *more], right=2)


def _changes(report: EvaluationReport) -> list[str]:
    names = report.changes.names
    listed = ", ".join(escaped(name, 60) for name in names[:_NAMES])
    more = ", …" if len(names) > _NAMES else ""
    documents = f"- **Documents:** {document_changes(report.changes)}" + (f" ({listed}{more})" if names else "")
    return [
        f"{documents}.",
        f"- **Rows:** {row_changes(report.changes)}.",
        f"- **Freshness:** {freshness_line(report.freshness)}.",
    ]


def _examples(report: EvaluationReport) -> list[str]:
    won = [example for example in report.examples if example.won]
    lost = [example for example in report.examples if not example.won]
    rows = [_example_row("won", item) for item in won[:_EXAMPLES]]
    rows += [_example_row("**lost**", item) for item in lost[:_EXAMPLES]]
    if not rows:
        return []
    heads = ["", "Question", "Right answer", "Candidate", "Champion"]
    counted = report.comparison
    wins, losses = (counted.wins, counted.losses) if counted else (len(won), len(lost))
    return [f"**Only one is right:** {wins:,} won, {losses:,} lost.", "", *_table(heads, rows)]


def _example_row(how: str, example: Example) -> list[str]:
    gold = "*(a refusal)*" if example.gold is None else escaped(example.gold, 60)
    answers = [escaped(text, 60) or "*(empty)*" for text in (example.candidate, example.champion)]
    return [how, escaped(example.question, 90), gold, *answers]


def _cost_and_latency(report: EvaluationReport) -> list[str]:
    timed = [
        f"{escaped(arm)} {found.p50:.2f} s, p95 {found.p95:.2f} s (n {found.requests:,})"
        for arm, found in list(report.latency.items())[:_ARMS]
    ]
    latency = [f"- **Latency (median):** {'; '.join(timed)}."] if timed else []
    return [*(_cost(report, report.costs) if report.costs and report.costs.arms else []), *latency]


def _cost(report: EvaluationReport, costs: CostReport) -> list[str]:
    each = [f"{escaped(arm.arm)} {money(arm.per_1000_queries, escaped(costs.currency))}" for arm in costs.arms[:_ARMS]]
    once = [f"{escaped(what)} {money(paid, escaped(costs.currency))}" for what, paid in costs.once.items()]
    pairs = [escaped(break_even_line(costs, pair)) for pair in pairs_of_interest(report)[:_PAIRS]]
    return [
        f"- **Cost per 1,000 queries:** {', '.join(each)}.",
        *([f"- **Break-even:** {'; '.join(pairs)}."] if pairs else []),
        *([f"- **Paid once:** {', '.join(once)}."] if once else []),
    ]


def _evidence(report: EvaluationReport, release: str, report_url: str | None) -> list[str]:
    digests = {
        "release": release,
        "evaluation": report.evaluation,
        "dataset": report.dataset,
        "snapshot": report.snapshot,
        "adapter": report.adapter,
        "champion": report.champion,
    }
    bound = ", ".join(f"{name} `{digest[:12]}`" for name, digest in digests.items() if digest)
    link = f"[Full report](<{quote(report_url, safe=_URL_CHARACTERS)}>). " if report_url else ""
    return [f"{link}This decision is bound to {bound}."]


def _cell(figure: Figure | None, count: int | None) -> str:
    if figure is None:
        return "–"
    ends = "" if figure.low is None or figure.high is None else f" ({100 * figure.low:.1f}–{100 * figure.high:.1f})"
    return f"{share(figure.value)}{ends}" + ("" if count else f", n {figure.n:,}")


def _strong(text: str, wanted: bool) -> str:
    return f"**{text}**" if wanted else text


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], right: int = 0) -> list[str]:
    """Return a GFM table whose last columns stand right."""
    rule = ["---"] * (len(heads) - right) + ["---:"] * right
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)]
