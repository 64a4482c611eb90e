"""The form that waits at the end of ``make run``: where it is, what it asks, and an answer given by Airflow's API."""

from __future__ import annotations

import time
from dataclasses import dataclass
from urllib.parse import quote

from tidegate.evaluation.report_markdown import verdict_lines
from tidegate.local.api import AirflowApi
from tidegate.local.screen import Screen
from tidegate.pipelines.evaluate_release import read_evaluated
from tidegate.pipelines.release_names import CANDIDATE
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.channel import Channel
from tidegate.registry.releases import read_release

APPROVER = "ml_lead"
"""Local user who answers forms."""
_WAITING = "awaiting_input"
_SETTLE_SECONDS = 5.0
"""Airflow 3.3 fails a task whose form is answered while it still notes that the task waits."""


@dataclass(frozen=True)
class PendingForm:
    """A form that nobody has answered."""

    dag_id: str
    run_id: str
    task_id: str

    def url(self, airflow: str) -> str:
        """Return where a person answers it."""
        place = f"/dags/{self.dag_id}/runs/{quote(self.run_id)}/tasks/{self.task_id}/required_actions"
        return f"{airflow}{place}"


def find_form(api: AirflowApi, dag_id: str) -> PendingForm | None:
    """Return the newest form of a DAG that waits for an answer."""
    for run in api.runs(dag_id):
        if run["state"] not in ("running", "queued"):
            continue
        for task in api.task_instances(dag_id, run["dag_run_id"]):
            if task["state"] == _WAITING:
                return PendingForm(dag_id, run["dag_run_id"], task["task_id"])
    return None


def show_verdict(screen: Screen, workspace: Workspace) -> None:
    """Show the newest candidate's verdict in five lines."""
    release = Channel(workspace.store, workspace.corpus, CANDIDATE).read().release
    record = read_release(workspace.store, workspace.corpus, release) if release else None
    evaluated = read_evaluated(workspace, record.evaluation) if record and record.evaluation else None
    if release and evaluated:
        screen.say("")
        for line in verdict_lines(evaluated.report, release):
            screen.say(f"  {line}")


def approve(url: str, form: PendingForm) -> None:
    """Answer a form as the local approver."""
    time.sleep(_SETTLE_SECONDS)
    api = AirflowApi(url, APPROVER, APPROVER)
    api.log_in()
    api.answer(form.dag_id, form.run_id, form.task_id, "Approve", "approved by make run ONCE=1")
