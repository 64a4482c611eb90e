"""The files that people read of an evaluation, and its rules as lines of a log."""

from __future__ import annotations

from tidegate.core.evaluation_records import EvaluationReport
from tidegate.evaluation.gate import describe_rule
from tidegate.evaluation.report_html import html_report
from tidegate.evaluation.report_markdown import approval_body
from tidegate.pipelines.evaluate_release import Evaluated
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.evaluations import write_report


def write_reports(workspace: Workspace, evaluated: Evaluated, release: str, link: str | None = None) -> None:
    """Write the HTML report and the text of the form beside an evaluation; ``release`` is '' if the gate refused it."""
    key, report = evaluated.evaluation.key, evaluated.report
    page, form = html_report(report, release=release), approval_body(report, release=release, report_url=link)
    write_report(workspace.store, workspace.corpus, key, "report.html", page.encode())
    write_report(workspace.store, workspace.corpus, key, "approval.md", form.encode())


def rule_lines(report: EvaluationReport) -> list[str]:
    """Return each rule as a line, those that failed last: the end of a log is read first."""
    rules = sorted(report.rules, key=lambda rule: not rule.passed)
    return [f"rule: {describe_rule(rule)}" for rule in rules]
