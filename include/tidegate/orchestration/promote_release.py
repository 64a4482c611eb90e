"""The tasks of ``dags/promote_release.py``, the only DAG that writes the champion channel."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from airflow.sdk import get_current_context

from tidegate.core.errors import ApprovalInvalidError, ApprovalStaleError
from tidegate.core.progress import ProgressLog
from tidegate.orchestration.approval import report_path
from tidegate.orchestration.steps import Step, run_step

_WOKEN = "asset_triggered"


def compose(corpus: str) -> bool:
    """Compose what may serve; False if it serves already, or if the dataset that measures it is not there yet."""

    def body(step: Step) -> tuple[bool, str]:
        from tidegate.pipelines.compose_release import stage_composition, waits_for_dataset
        from tidegate.pipelines.promote_release import compose as compose_release
        from tidegate.registry.heads import read_head

        if read_head(step.workspace.store, corpus).snapshot is None:
            return False, "release: none, there is no snapshot yet"
        context = get_current_context()
        composition = compose_release(step.workspace, reconsider=bool(context["params"].get("reconsider")))
        aside = f"\n{composition.left_aside}" if composition.left_aside else ""
        if composition.is_champion:
            return False, f"release {(composition.champion or '')[:12]} serves already{aside}"
        snapshot = composition.bundle.snapshot[:12]
        if context["dag_run"].run_type == _WOKEN and waits_for_dataset(step.workspace, composition):
            return False, f"release: snapshot {snapshot} waits for its dataset, which wakes this DAG"
        stage_composition(step.run, composition)
        adapter = composition.bundle.adapter
        with_adapter = f", adapter {adapter.key[:12]}" if adapter else ""
        return True, f"release of snapshot {snapshot}{with_adapter} is composed{aside}"

    return run_step(corpus, "compose", body)


def evaluate(corpus: str) -> str | None:
    """Measure candidate and champion on the holdout; return the evaluation's key, None without a dataset."""

    def body(step: Step) -> tuple[str | None, str]:
        from tidegate.pipelines.compose_release import staged_composition
        from tidegate.pipelines.evaluate_release import evaluate as measure
        from tidegate.pipelines.release_events import note_evaluated

        composition = staged_composition(step.workspace, step.run)
        if composition.dataset is None:
            return None, "release: not measured, the corpus has no dataset"
        found = measure(step.workspace, composition, lambda stage: ProgressLog(stage, "answers"))
        note_evaluated(step.workspace, composition, found.evaluation, step.run.name)
        told = f"evaluation {found.evaluation.key[:12]}: {found.generated} of {found.asked} answers were generated"
        return found.evaluation.key, told if found.asked else f"evaluation {found.evaluation.key[:12]} is known"

    return run_step(corpus, "evaluate", body)


def gate(corpus: str, evaluation: str | None) -> dict[str, Any] | None:
    """Hold the evaluation against the gate and write release and report; None if the run ends here."""

    def body(step: Step) -> tuple[dict[str, Any] | None, str]:
        from tidegate.pipelines.compose_release import staged_composition
        from tidegate.pipelines.evaluate_release import require_evaluated
        from tidegate.pipelines.promote_release import propose
        from tidegate.pipelines.release_report import rule_lines, write_reports

        composition = staged_composition(step.workspace, step.run)
        found = require_evaluated(step.workspace, composition, evaluation)
        candidate = propose(step.workspace, composition, found, step.run.name)
        lines = [candidate.why if candidate.release else f"release: {candidate.why}"]
        if found is not None:
            dag_id = get_current_context()["ti"].dag_id
            report = report_path(dag_id, found.evaluation.key)
            write_reports(step.workspace, found, candidate.release, report)
            lines = [*rule_lines(found.report), f"report: {report}", *lines]
        step.run.record(
            "promote", {"outcome": "done" if candidate.outcome == "stop" else "waiting", "why": candidate.why}
        )
        return None if candidate.outcome == "stop" else asdict(candidate), "\n".join(lines)

    return run_step(corpus, "gate", body)


def publish(corpus: str, candidate: object, answers: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Make the candidate the champion, once, whoever else tries; return its id."""

    def body(step: Step) -> tuple[dict[str, Any], str]:
        from tidegate.pipelines.promote_release import as_candidate, note_refusal, read_answers
        from tidegate.pipelines.promote_release import publish as publish_release

        found = as_candidate(candidate)
        approved = read_answers(answers, os.environ)
        try:
            done = publish_release(step.workspace, found, approved, step.run.name)
        except (ApprovalInvalidError, ApprovalStaleError) as refusal:
            note_refusal(step.workspace, found, refusal.what, step.run.name)
            raise
        step.run.record("promote", {"outcome": "done", "release": found.release})
        told = "serves now" if done else "had been promoted before"
        return {"release": found.release}, f"release {found.release[:12]} {told}"

    return run_step(corpus, "publish", body)
