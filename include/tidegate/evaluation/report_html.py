"""An evaluation as one HTML file: inline styles and SVG, no script, nothing fetched, right in light and dark mode.

Questions, answers, passages and names are untrusted: all text is escaped, and characters that are not printable stand
escaped too. A content security policy in the page forbids everything but its own styles.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from tidegate.core.errors import one_line
from tidegate.core.evaluation_records import CostReport, EvaluationReport, Figure
from tidegate.evaluation import report_text
from tidegate.evaluation.charts import Line, Mark, MarkRow, cost_plot, interval_plot

_TEMPLATE = "report.html.j2"
_SHOWN = 12
"""Wins and losses that are open; the others are folded."""
_DIGEST = 12
_PER_CENT = (0.0, 100.0)


def html_report(report: EvaluationReport, *, release: str) -> str:
    """Return the report as a self-contained HTML page; ``release`` is the digest that it speaks for."""
    won = [example for example in report.examples if example.won]
    lost = [example for example in report.examples if not example.won]
    return _template().render(
        report=report,
        release=release,
        text=report_text,
        figures=lambda arms, metric: [report.figure(arm.arm, "all", metric) for arm in arms],
        served=report_text.served_arm(report),
        shown=_SHOWN,
        digest=_DIGEST,
        correct=report.figure(report_text.served_arm(report), "all", "correct"),
        examples=[(name, found) for name, found in (("Lost", lost), ("Won", won)) if found],
        tags=_tags(report),
        arms_chart=_arms_chart(report),
        comparisons_chart=_comparisons_chart(report),
        tags_chart=_tags_chart(report),
        cost_chart=_cost_chart(report.costs) if report.costs else Markup(),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE)


def _printable(value: Any) -> Any:
    """Return text line by line without control characters; everything else, charts among it, as it is."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(one_line(line.expandtabs(4)) for line in value.splitlines())


def _arms_chart(report: EvaluationReport) -> Markup:
    arms = [arm.arm for arm in (*report_text.plain_arms(report), *report_text.crossed_arms(report))]
    served = report_text.served_arm(report)
    rows = [
        MarkRow(arm, report_text.share(found.value), (_mark(arm, found, _kind(arm, served)),), strong=arm == served)
        for arm in arms
        if (found := report.figure(arm, "all", "correct"))
    ]
    title = "Share of questions answered correctly by each arm, with 95 % intervals"
    return interval_plot(rows, title=title, unit="correct, %", bounds=_PER_CENT) if rows else Markup()


def _comparisons_chart(report: EvaluationReport) -> Markup:
    rows = []
    for name, found in report_text.comparisons(report):
        ends = report_text.interval(found.low, found.high)
        tooltip = f"{name}: {report_text.signed(found.difference)} points ({ends})"
        mark = Mark(100 * found.difference, 100 * found.low, 100 * found.high, "candidate", tooltip)
        rows.append(MarkRow(name, report_text.signed(found.difference), (mark,)))
    title = "Differences of correct answers with 95 % intervals; right of zero is better"
    return interval_plot(rows, title=title, unit="points; right of zero is better", around=0) if rows else Markup()


def _tags(report: EvaluationReport) -> list[tuple[str, Figure, Figure | None]]:
    """Return each tag with the figures of candidate and champion, what the candidate lost most first."""
    arms = {arm.arm: arm for arm in report.arms}
    served, found = arms.get(report_text.served_arm(report)), []
    for name, metrics in sorted(served.slices.items()) if served else []:
        if name.startswith("tag:") and "correct" in metrics:
            found.append((name.removeprefix("tag:"), metrics["correct"], report.figure("champion", name, "correct")))
    return sorted(found, key=lambda tag: tag[1].value - tag[2].value if tag[2] else 0.0)


def _tags_chart(report: EvaluationReport) -> Markup:
    rows = []
    for tag, candidate, champion in _tags(report):
        marks = [_mark("candidate", candidate, "candidate")]
        marks += [_mark("champion", champion, "champion")] if champion else []
        change = (
            report_text.signed(candidate.value - champion.value) if champion else report_text.share(candidate.value)
        )
        rows.append(MarkRow(f"{tag} ({candidate.n:,})", change, tuple(marks)))
    title = "Share of questions answered correctly by tag, with 95 % intervals"
    return interval_plot(rows, title=title, unit="correct, %", bounds=_PER_CENT) if rows else Markup()


def _cost_chart(costs: CostReport) -> Markup:
    lines = {
        arm.arm: Line(arm.arm, arm.fixed_per_month, arm.per_1000_queries / 1000, tuple(sorted(arm.per_month.items())))
        for arm in costs.arms
    }
    crossings = [
        (pair.queries_per_month, lines[pair.first].cost(pair.queries_per_month))
        for pair in costs.break_even
        if pair.queries_per_month is not None and pair.first in lines
    ]
    title = "Cost of a month by queries a month, one line per arm; rings mark where two arms cost the same"
    return cost_plot(list(lines.values()), crossings, title=title, unit=f"{costs.currency} a month")


def _mark(name: str, figure: Figure, kind: str) -> Mark:
    low, high = (None if end is None else 100 * end for end in (figure.low, figure.high))
    return Mark(100 * figure.value, low, high, kind, f"{name}: {report_text.share(figure.value)} of {figure.n:,}")


def _kind(arm: str, served: str) -> str:
    return "candidate" if arm == served else "champion" if arm == "champion" else "other"
