"""The task ``approve``: a person reads the report in Airflow and decides; the decision is signed and stored.

An ordinary approval can be bypassed: whoever may edit tasks can mark it as success, or forge its XCom. So what counts
is a record signed here, in the task that received the answer, over release, evaluation, base entry, approver, time and
run. ``publish`` believes nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from airflow.configuration import conf
from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import Param
from airflow.sdk.execution_time.hitl import HITLUser

from tidegate.core.config import CorpusConfig
from tidegate.orchestration.data_docs import PREFIX
from tidegate.orchestration.steps import Step, run_step
from tidegate.orchestration.task_defaults import promoting_arguments
from tidegate.orchestration.task_log import summarise

_HOUR = 3600.0
_NOBODY = "nobody answered in time"
_ALL_ADMINS = (
    "**Anybody may answer as anybody here**: `simple_auth_manager_all_admins` is on, so Airflow does not check who the"
    " assigned approvers are.\n\n"
)


class ApproveRelease(ApprovalOperator):
    """Shows the report of the run's candidate and signs the answer; asks nothing where the policy is ``auto``.

    :param corpus: the corpus.
    :param approvers: ids of the users who may answer; empty: whoever may answer forms.
    :param hours: how long the form waits; without an answer it is a reject.
    :param holds: hours that an approval holds: as long as all forms of the run may wait.
    """

    def __init__(self, *, corpus: str, approvers: Sequence[str], hours: float, holds: float, **settings: Any) -> None:
        settings["params"] = {"comment": Param(None, type=["null", "string"], title="Comment", source="task")}
        super().__init__(
            subject=f"Let a new release of {corpus} serve?",
            defaults=self.REJECT,
            response_timeout=timedelta(hours=hours),
            assigned_users=[HITLUser(id=user, name=user) for user in approvers],
            retries=0,  # a retry would ask the person again
            **settings,
        )
        self.corpus, self.hours, self.holds = corpus, hours, holds

    def execute(self, context: Any) -> dict[str, Any] | None:
        """Show the form and wait, or return at once if the policy needs nobody."""
        candidate = context["ti"].xcom_pull(task_ids="gate")
        if not isinstance(candidate, Mapping) or candidate.get("outcome") != "approve":
            summarise("approval: the policy asks nobody")
            return None
        self.subject, self.body = self._form(candidate, context["ti"].dag_id)
        super().execute(context)  # raises, to wait for the answer
        return None

    def execute_complete(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        """Sign and store the answer; return its digest. A reject skips what follows."""
        candidate = context["ti"].xcom_pull(task_ids="gate")
        answer = HITLOperator.execute_complete(self, context, event)
        signed = self._signed(candidate, answer, approved=answer["chosen_options"] == [self.APPROVE])
        super().execute_complete(context, event)  # a reject raises, to skip: it is signed and stored before
        return signed

    def _form(self, candidate: Mapping[str, Any], dag_id: str) -> tuple[str, str]:
        def body(step: Step) -> tuple[tuple[str, str], str]:
            from tidegate.pipelines.approve_release import form

            link = report_path(dag_id, candidate["evaluation"] or "")
            subject, text = form(step.workspace, step.run, candidate["release"], link, os.environ)
            asked = f"release {candidate['release'][:12]} waits {self.hours:g} h for an answer"
            return (subject, (_ALL_ADMINS if _everybody_is_admin() else "") + text), asked

        return run_step(self.corpus, self.task_id, body)

    def _signed(self, candidate: Mapping[str, Any], answer: Mapping[str, Any], *, approved: bool) -> dict[str, Any]:
        user, comment = answer["responded_by_user"], (answer["params_input"] or {}).get("comment") or ""

        def body(step: Step) -> tuple[dict[str, Any], str]:
            from tidegate.pipelines.approve_release import Answer, record_answer

            given = Answer(
                approved=approved and user is not None,
                user=(user["id"], user["name"]) if user else None,
                comment=comment,
                decided_at=answer["responded_at"].timestamp(),
                base_entry=candidate["base_entry"],
                holds_seconds=self.holds * _HOUR,
            )
            digest = record_answer(step.workspace, step.run, candidate["release"], given, os.environ)
            who = user["name"] if user else _NOBODY
            return {"approval": digest}, f"{'approved' if given.approved else 'rejected'}: {who}"

        return run_step(self.corpus, self.task_id, body)


def approval_tasks(corpus: CorpusConfig) -> list[ApproveRelease]:
    """Return the task that asks, and a second one where two people must agree."""
    promotion = corpus.promotion
    names = ["approve", "approve_second"] if promotion.second_approver else ["approve"]
    return [
        ApproveRelease(
            task_id=name,
            corpus=corpus.corpus,
            approvers=promotion.approvers,
            hours=promotion.approval_hours,
            holds=promotion.approval_hours * len(names),
            **promoting_arguments(promotion),
        )
        for name in names
    ]


def report_path(dag_id: str, evaluation: str) -> str:
    """Return where the API server shows the HTML report of an evaluation."""
    root = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
    return f"{root}{PREFIX}/corpora/{quote(dag_id)}/evaluations/{evaluation}/report.html"


def _everybody_is_admin() -> bool:
    return bool(conf.getboolean("core", "simple_auth_manager_all_admins", fallback=False))
