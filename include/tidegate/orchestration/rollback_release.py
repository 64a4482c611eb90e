"""The tasks of ``dags/rollback_release.py``: ask which release shall serve again, unless the run says so; restore."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowSkipException
from airflow.sdk.execution_time.hitl import HITLUser

from tidegate.core.errors import NotApproverError, ReleaseUnknownError, one_line
from tidegate.core.event_records import AIRFLOW, Actor
from tidegate.orchestration.steps import Step, run_step
from tidegate.orchestration.task_log import summarise

if TYPE_CHECKING:
    from tidegate.pipelines.rollback_release import PastRelease
    from tidegate.registry.runs import Run

KEEP = "Keep what serves"
_ANSWER_WITHIN = timedelta(hours=1)
_OFFERED = 20
_OFFER = re.compile(r"(v\d+) in place of v(\d+)\b.*")
_ASKED_ON = "asked_on"


class Choice(TypedDict):
    """What ``choose`` hands to ``restore``."""

    release: str
    """Its id, or its version."""
    asked_on: int
    """Number of the entry that served when it was chosen."""
    who: dict[str, str]
    """Id and name of the person who chose it."""


class ChooseRelease(HITLOperator):
    """Offers the releases that served before; asks nothing if the run names one.

    Each option names what it replaces, so that an old form cannot undo what was promoted after it was shown.
    """

    def __init__(self, *, corpus: str, approvers: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(
            subject=f"Which release of {corpus} shall serve again?",
            options=[KEEP],
            defaults=KEEP,
            response_timeout=_ANSWER_WITHIN,
            assigned_users=[HITLUser(id=user, name=user) for user in approvers],
            **settings,
        )
        self.corpus = corpus

    def execute(self, context: Any) -> Choice | None:
        """Return the choice that the run was triggered with, or show the form and wait."""
        found = _choice_or_form(self.corpus, context["params"])
        if isinstance(found, dict):
            return found
        self.options, self.body = found
        super().execute(context)  # raises, to wait for the answer
        return None

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Choice | None:
        """Return what was chosen, None to keep what serves. Reads no store, so that nobody is asked twice."""
        answer = super().execute_complete(context, event)
        user = answer["responded_by_user"]
        (option,) = answer["chosen_options"]
        offer = _OFFER.fullmatch(option)
        if offer is None or user is None:
            summarise(f"{user['name'] if user else 'nobody'} answered within {_ANSWER_WITHIN}: {option}")
            return None
        summarise(f"{user['name']} chose {option}")
        return Choice(release=offer[1], asked_on=int(offer[2]), who={"id": user["id"], "name": user["name"]})

    def validate_chosen_options(self, chosen_options: list[str]) -> None:
        """Check the form of the answer: Airflow has compared it with the options that were shown."""
        if any(option != KEEP and not _OFFER.fullmatch(option) for option in chosen_options):
            raise ValueError(f"{chosen_options} is none of the options that were shown")


def restore(corpus: str, choice: Choice | None) -> dict[str, Any]:
    """Let the chosen release serve again, once, whoever else tries; return its id. Skip if what serves is to stay."""
    if choice is None:
        summarise("nothing was chosen: what serves keeps serving")
        raise AirflowSkipException("nothing was chosen")

    def body(step: Step) -> tuple[dict[str, Any], str]:
        from tidegate.pipelines.rollback_release import rollback

        reason, who = get_current_context()["params"]["reason"], Actor(**choice["who"])
        done = rollback(step.workspace, choice["release"], reason, who, asked_on=choice["asked_on"], run=step.run.name)
        step.run.record("rollback", {"outcome": "done", "release": done.serves})
        told = {
            "rolled_back": f"release {done.release[:12]} serves again, in place of {done.before[:12]}",
            "done_before": f"release {done.release[:12]} had been restored before; {done.serves[:12]} serves",
            "serves_already": f"release {done.release[:12]} serves already",
        }
        return {"release": done.serves}, f"{told[done.outcome]} ({done.version})"

    return run_step(corpus, "restore", body)


def _choice_or_form(corpus: str, params: Mapping[str, Any]) -> Choice | tuple[list[str], str]:
    """Return the choice of a run that names a release, else the options and the text of the form."""

    def body(step: Step) -> tuple[Choice | tuple[list[str], str], str]:
        from tidegate.pipelines.rollback_release import checked_reason, find_previous, previous_releases, serving

        reason, now, wanted = checked_reason(params["reason"]), serving(step.workspace), params["release"]
        if wanted:
            who = _who_triggered(corpus, step.workspace.config.promotion.approvers)
            release = find_previous(step.workspace, wanted)
            chosen = Choice(release=release, asked_on=_asked_on(step.run, now), who=who.model_dump())
            return chosen, f"{who.name} chose release {release[:12]} in place of v{chosen['asked_on']}"
        past = previous_releases(step.workspace, _OFFERED)
        if not past:
            raise ReleaseUnknownError(f"no other release than v{now} has served in corpus {corpus}")
        return _form(past, now, reason), f"{len(past)} releases to choose from"

    return run_step(corpus, "choose", body)


def _form(past: Sequence[PastRelease], now: int, reason: str) -> tuple[list[str], str]:
    options = [f"{item.version} in place of v{now}: {item.id[:12]}, {item.documents} documents" for item in past]
    lines = [
        f"Asked for because: {one_line(reason)}",
        "",
        "| release | id | documents | mode | adapter | snapshot | served from (UTC) |",
        "|---|---|---|---|---|---|---|",
        *(_row(item) for item in past),
        "",
        f"Index and adapter come back as a pair, in seconds. Without an answer v{now} keeps serving.",
    ]
    return [*options, KEEP], "\n".join(lines)


def _row(item: PastRelease) -> str:
    written = f"{datetime.fromtimestamp(item.written, UTC):%Y-%m-%d %H:%M}" if item.written else "-"
    adapter = item.adapter[:12] if item.adapter else "-"
    cells = [item.version, item.id[:12], item.documents, item.serving_mode, adapter, item.snapshot[:12], written]
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _who_triggered(corpus: str, approvers: Sequence[str]) -> Actor:
    """Return the user who triggered the run; raise ``NotApproverError`` if the corpus lets only others decide."""
    user = get_current_context()["dag_run"].triggering_user_name
    if approvers and user not in approvers:
        raise NotApproverError(
            f"{user or 'nobody by name'} triggered a rollback of corpus {corpus}; approvers: {', '.join(approvers)}",
            next_action="let an approver trigger it, or leave the release empty: the form then asks an approver",
        )
    return Actor(id=user, name=user) if user else AIRFLOW


def _asked_on(run: Run, now: int) -> int:
    """Return the entry that served when the run first came here: a cleared run does not undo what came later."""
    if not run.has_staged(_ASKED_ON):
        run.stage(_ASKED_ON, str(now).encode())
    return int(run.staged(_ASKED_ON))
