"""What a person is asked about a release, and the signed record of what they answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.core.errors import ApprovalInvalidError, ObjectMissingError
from tidegate.core.event_records import AIRFLOW, Actor, EventKind, format_time
from tidegate.core.failpoints import reach
from tidegate.core.records import Approval, Approver, Release
from tidegate.evaluation.report_markdown import approval_body
from tidegate.pipelines.compose_release import bind_to_form, shown_on_form
from tidegate.pipelines.evaluate_release import read_evaluated
from tidegate.pipelines.promote_release import refuse_adapter, release_at, require_newest
from tidegate.pipelines.release_events import note_event, release_subject
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.approvals import load_key, sign, write_approval
from tidegate.registry.channel import CHAMPION
from tidegate.registry.heads import read_manifest
from tidegate.registry.releases import read_release
from tidegate.registry.runs import Run

_NOBODY = ("", "nobody")
"""Who a reject is by where no answer came in time."""


@dataclass(frozen=True)
class Answer:
    """What a form was answered."""

    approved: bool
    user: tuple[str, str] | None
    """Id and name; None: no answer came in time."""
    comment: str
    decided_at: float
    """Seconds since the epoch."""
    base_entry: str | None
    """The entry of the champion channel that the candidate was compared on."""
    holds_seconds: float
    """How long an approval holds."""


def form(workspace: Workspace, run: Run, release: str, link: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """Return subject and body of the form; from then on the run is bound to this candidate.

    Raises ``ApprovalKeyMissingError`` before anybody is asked, ``ApprovalStaleError`` if a newer candidate exists.
    """
    load_key(environment)
    require_newest(workspace, release)
    body = _body(workspace, read_release(workspace.store, workspace.corpus, release), link)
    bind_to_form(run, release)
    return f"Let release {release[:12]} of {workspace.corpus} serve?", body


def record_answer(workspace: Workspace, run: Run, release: str, answer: Answer, environment: Mapping[str, str]) -> str:
    """Sign and store an answer with its event; return the approval's digest. A retry writes the same bytes.

    Raises ``ApprovalInvalidError`` if the form showed another release, ``ApprovalStaleError`` if a newer candidate has
    taken the release's place meanwhile.
    """
    store, corpus = workspace.store, workspace.corpus
    _require_shown(run, release)
    found = read_release(store, corpus, release)
    if answer.approved:
        require_newest(workspace, release)
    user, name = answer.user or _NOBODY
    unsigned = Approval(
        corpus=corpus,
        store=store.uri,
        channel=CHAMPION,
        op="promote",
        release=release,
        evaluation=found.evaluation,
        base_entry=answer.base_entry,
        decision="approve" if answer.approved else "reject",
        approver=Approver(id=user, name=name),
        comment=answer.comment,
        decided_at=format_time(answer.decided_at),
        expires_at=format_time(answer.decided_at + answer.holds_seconds),
        run=run.name,
        signature="",
    )
    reach("K10")
    digest = write_approval(store, sign(unsigned, load_key(environment)))
    who = Actor(id=user, name=name) if answer.user else AIRFLOW
    kind: EventKind = "approved" if answer.approved else "rejected" if answer.user else "expired"
    why = answer.comment or {"approved": "approved", "rejected": "rejected", "expired": "nobody answered in time"}[kind]
    evidence = {"approval": digest, **({"evaluation": found.evaluation} if found.evaluation else {})}
    note_event(
        workspace, kind, release_subject(found), why, evidence=evidence, run=run.name, who=who, when=answer.decided_at
    )
    if not answer.approved:
        before = release_at(workspace, answer.base_entry)
        kept = before is not None and before.bundle.adapter == found.bundle.adapter
        refuse_adapter(workspace, None if kept else found.bundle.adapter, f"{kind} by {name}: {why}")
    return digest


def _require_shown(run: Run, release: str) -> None:
    """Raise ``ApprovalInvalidError`` if the form of a run showed another release: nobody has read about this one."""
    if (shown := shown_on_form(run)) != release:
        raise ApprovalInvalidError(
            f"the form of this run showed release {shown[:12]}, its task gate names {release[:12]} now",
            next_action="see in Airflow's audit log who wrote the result of gate; trigger a new run",
        )


def _body(workspace: Workspace, release: Release, link: str) -> str:
    if release.evaluation is None:
        counts = read_manifest(workspace.store, workspace.corpus, release.bundle.snapshot).counts
        return (
            f"**Nothing was measured**: no question has evidence that is current in this index.\n\nThe index of release"
            f" `{release.digest[:12]}` holds {counts.indexed} documents in {counts.chunks} chunks, snapshot"
            f" `{release.bundle.snapshot[:12]}`."
        )
    evaluated = read_evaluated(workspace, release.evaluation)
    if evaluated is None:
        raise ObjectMissingError(f"release {release.digest[:12]} names an evaluation whose report is not stored")
    return approval_body(evaluated.report, release=release.digest, report_url=link)
