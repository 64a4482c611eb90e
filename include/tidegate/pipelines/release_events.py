"""Write down what was decided about a release; a retry writes the same event."""

from __future__ import annotations

from tidegate.core import keys
from tidegate.core.event_records import AIRFLOW, POLICY, Actor, Event, EventKind, Subject, format_time
from tidegate.core.records import Bundle, Evaluation, Release
from tidegate.pipelines.compose_release import Composition
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.approvals import read_approval
from tidegate.registry.channel import CHAMPION, Channel, Promotion
from tidegate.registry.events import write_event

NO_RUN = "-"
"""In place of a DAG run where there is none: the command line."""


def bundle_subject(bundle: Bundle) -> Subject:
    """Return a bundle that became no release as the subject of an event."""
    return Subject(snapshot=bundle.snapshot, adapter=bundle.adapter.key if bundle.adapter else None)


def release_subject(release: Release, entry: str | None = None) -> Subject:
    """Return a release as the subject of an event."""
    found = bundle_subject(release.bundle)
    return found.model_copy(update={"release": release.digest, "entry": entry, "dataset": release.dataset})


def proof(evaluation: Evaluation | None, base_entry: str | None) -> dict[str, str]:
    """Return what a decision rests on."""
    found = {"evaluation": evaluation.key if evaluation else None, "base_entry": base_entry}
    return {name: digest for name, digest in found.items() if digest}


def note_event(
    workspace: Workspace,
    kind: EventKind,
    what: Subject,
    why: str,
    *,
    evidence: dict[str, str],
    run: str,
    who: Actor = POLICY,
    when: float | None = None,
) -> None:
    """Write an event; without a time of its own it is that of its evaluation, so that a retry writes the same."""
    corpus = workspace.corpus
    if when is None:
        when = _written(workspace, keys.evaluation_results(corpus, evidence["evaluation"]))
    event = Event(
        corpus=corpus, kind=kind, who=who, what=what, why=why, when=format_time(when), evidence=evidence, run=run
    )
    write_event(workspace.store, event)


def note_evaluated(workspace: Workspace, composition: Composition, evaluation: Evaluation, run: str) -> None:
    """Write down that a composition was measured."""
    verdict = (evaluation.verdict or "no champion to compare with").replace("_", " ")
    subject, evidence = bundle_subject(composition.bundle), proof(evaluation, composition.base_entry)
    note_event(workspace, "evaluated", subject, f"verdict: {verdict}", evidence=evidence, run=run, who=AIRFLOW)


def note_promotion(workspace: Workspace, release: Release, promotion: Promotion, run: str) -> None:
    """Write the event of a promotion that is in the channel's history."""
    store, corpus = workspace.store, workspace.corpus
    channel = Channel(store, corpus)
    op_id = channel.operation(promotion)
    digest, entry = next(found for found in channel.history() if found[1].op_id == op_id)
    who, why = POLICY, "every rule of the policy passed"
    evidence = {"evaluation": release.evaluation or "", "base_entry": entry.prev or ""}
    if promotion.approval:
        approval = read_approval(store, corpus, promotion.approval)
        who, why = Actor(id=approval.approver.id, name=approval.approver.name), approval.comment or "approved"
        evidence["approval"] = promotion.approval
    when = _written(workspace, keys.channel_entry(corpus, CHAMPION, digest))
    known = {name: value for name, value in evidence.items() if value}
    note_event(
        workspace, "promoted", release_subject(release, digest), why, evidence=known, run=run, who=who, when=when
    )


def _written(workspace: Workspace, key: str) -> float:
    """Return when an object was written, by the store's clock."""
    return next(found.modified for found in workspace.store.list_keys(key))
