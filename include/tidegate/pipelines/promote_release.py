"""From a composition to what serves: propose a release, ask by policy, publish it once. The only writer of the channel.

A release is written only after its evaluation passed the gate; without a Q&A set it is the index alone. What
:func:`publish` needs it reads from the store: what a task hands on names a release, and proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from tidegate.core.errors import (
    ApprovalInvalidError,
    ApprovalStaleError,
    CommitLostError,
    ObjectMissingError,
    ReleaseHeldError,
    ReleaseMissingError,
)
from tidegate.core.event_records import AIRFLOW, format_time
from tidegate.core.publishing import Outcome as Written
from tidegate.core.publishing import require_applied
from tidegate.core.records import AdapterReference, Approval, Evaluation, Release
from tidegate.pipelines.asking import StageProgress, quiet
from tidegate.pipelines.compose_release import Composition, compose_bundle, note_refused
from tidegate.pipelines.promotion_policy import failed_index_rules, is_held, passed, policy_digest, policy_of
from tidegate.pipelines.release_events import NO_RUN, bundle_subject, note_event, note_promotion, proof, release_subject
from tidegate.pipelines.release_names import CANDIDATE
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.approvals import ApprovalKey, ExpectedApproval, load_key, read_approval, verify, was_used_here
from tidegate.registry.channel import CHAMPION, Channel, Promotion
from tidegate.registry.evaluations import read_evaluation
from tidegate.registry.heads import read_head, read_manifest
from tidegate.registry.releases import read_release, write_release
from tidegate.training.base_model import find_base_model

if TYPE_CHECKING:
    from tidegate.pipelines.evaluate_release import Evaluated

_SAMPLES = 16
"""Chunks per segment that are searched for before a snapshot is released."""

Outcome = Literal["publish", "approve", "stop"]


@dataclass(frozen=True)
class Approved:
    """Signed approvals of one release, by digest, and the key that verifies them."""

    approvals: Sequence[str]
    key: ApprovalKey


@dataclass(frozen=True)
class Candidate:
    """A release that may serve, and how it gets there."""

    release: str
    """'' where the gate refused it: no release was written."""
    base_entry: str | None
    champion: str | None
    """The release that served when this one was composed."""
    outcome: Outcome
    why: str
    evaluation: str | None = None

    @property
    def is_champion(self) -> bool:
        """Whether it serves already, so that nothing is left to do."""
        return self.release == self.champion


def compose(workspace: Workspace, *, verified: str | None = None, reconsider: bool = False) -> Composition:
    """Compose what may serve now, its snapshot read back and checked.

    ``verified`` is a snapshot that this process has just checked; ``reconsider`` proposes an adapter that was refused.
    """
    composition = compose_bundle(workspace, reconsider=reconsider)
    if composition.bundle.adapter is None and not _is_measurable(workspace, composition):
        composition = replace(composition, dataset=None)  # a fresher index must not wait for questions
    snapshot = composition.bundle.snapshot
    if not composition.is_champion and snapshot != verified:
        from tidegate.indexing.snapshot import Snapshot
        from tidegate.indexing.verification import verify_snapshot

        verify_snapshot(Snapshot(workspace.store, workspace.corpus, snapshot), samples=_SAMPLES)
    return composition


def propose(
    workspace: Workspace, composition: Composition, evaluated: Evaluated | None, run: str = NO_RUN
) -> Candidate:
    """Write the release of a composition if its evaluation passed, and say what the policy asks for.

    Without a dataset there is no evaluation, and the policy alone decides.
    """
    champion, base = composition.champion, composition.base_entry
    evaluation = evaluated.evaluation if evaluated else None
    if evaluation is not None and not passed(evaluation):
        failed = [rule.name for rule in evaluation.rules or () if not rule.passed]
        return _refused(workspace, composition, evaluation, failed, run)
    if evaluation is None and (failed := failed_index_rules(workspace, composition)):
        return _refused(workspace, composition, None, failed, run)
    release = Release(
        bundle=composition.bundle,
        serving_mode=evaluated.report.serving_mode if evaluated else "rag",
        dataset=composition.dataset,
        evaluation=evaluation.key if evaluation else None,
        results=evaluation.digest if evaluation else None,
        gate_policy=policy_digest(workspace, evaluated=evaluation is not None),
    )
    write_release(workspace.store, release)
    outcome, why = _decide(workspace, composition, release)
    if outcome == "approve" or (evaluation is not None and outcome == "publish"):
        _lead(workspace, release, base, run)
    if outcome == "approve":
        when = None if evaluation else workspace.store.now()
        subject = release_subject(release)
        note_event(workspace, "proposed", subject, why, evidence=proof(evaluation, base), run=run, when=when)
    return Candidate(release.digest, base, champion, outcome, why, evaluation.key if evaluation else None)


def _refused(
    workspace: Workspace, composition: Composition, evaluation: Evaluation | None, failed: Sequence[str], run: str
) -> Candidate:
    """Write down which rules a composition fails; its new adapter is remembered, unless only the index is at fault."""
    from tidegate.evaluation.gate import INDEX_RULES

    why = f"the gate refused it: {', '.join(failed)}"
    at_fault = composition.new_adapter and not INDEX_RULES.issuperset(failed)
    refuse_adapter(workspace, composition.bundle.adapter if at_fault else None, why)
    subject, evidence = bundle_subject(composition.bundle), proof(evaluation, composition.base_entry)
    when = None if evaluation else workspace.store.now()
    note_event(workspace, "gate_failed", subject, why, evidence=evidence, run=run, when=when)
    key = evaluation.key if evaluation else None
    return Candidate("", composition.base_entry, composition.champion, "stop", why, key)


def publish(workspace: Workspace, candidate: Candidate, approved: Approved | None = None, run: str = NO_RUN) -> bool:
    """Make a release the champion, once, whoever else tries; return False if that had been done before.

    Nothing is taken from the candidate but which release on which entry: evaluation, gate, policy and approval are
    read and checked here. Raises ``ReleaseHeldError`` where the policy does not let it serve, ``ApprovalInvalidError``
    without the approval that the policy asks for, ``ApprovalStaleError`` if candidate or champion moved on since, and
    ``CommitLostError`` if another run was first.
    """
    store, corpus = workspace.store, workspace.corpus
    channel, release = Channel(store, corpus), read_release(store, corpus, candidate.release)
    before = release_at(workspace, candidate.base_entry)
    policy, policy_key = policy_of(workspace, release, before)
    name = f"release {candidate.release[:12]} of corpus {corpus}"
    if policy == "never":
        raise ReleaseHeldError(
            f"{name} is ready, but {policy_key} is never",
            next_action=f"set {policy_key}: auto or approve in the corpus file to let it serve",
        )
    if policy == "approve" or approved is not None:
        promotion = _with_approval(workspace, release, candidate, approved, run)
    else:
        promotion = Promotion("promote", release.digest, candidate.base_entry, policy=release.gate_policy)
        if is_held(workspace, release.bundle) and not channel.has_done(promotion):
            raise ReleaseHeldError(f"{name} was rolled back before; only a person may promote it again")
    if channel.read().entry == candidate.base_entry:
        _require_proven(workspace, release, before)
    elif not channel.has_done(promotion):
        require_applied(Written.LOST, f"promote of {name}")
    done = channel.apply(promotion)
    note_promotion(workspace, release, promotion, run)
    return done


def note_refusal(workspace: Workspace, candidate: Candidate, why: str, run: str) -> None:
    """Write down that a release was not published although somebody asked for it."""
    release = read_release(workspace.store, workspace.corpus, candidate.release)
    evidence = {"base_entry": candidate.base_entry} if candidate.base_entry else {}
    note_event(
        workspace,
        "refused",
        release_subject(release),
        why,
        evidence=evidence,
        run=run,
        who=AIRFLOW,
        when=workspace.store.now(),
    )


def _stored_approval(workspace: Workspace, digest: str) -> Approval:
    try:
        return read_approval(workspace.store, workspace.corpus, digest)
    except ObjectMissingError as error:
        raise ApprovalInvalidError(
            f"no approval {digest[:12]} is stored: what was handed on was never given",
            next_action="see who wrote it in Airflow's audit log; answer the form of this run",
        ) from error


def as_candidate(handed_on: object) -> Candidate:
    """Return the candidate that a task handed on; raise ``ApprovalInvalidError`` for anything else."""
    try:
        return Candidate(**dict(handed_on))  # type: ignore[call-overload]
    except (TypeError, ValueError) as error:
        raise ApprovalInvalidError(
            "the task gate handed on no candidate: it was marked as success, or its result was written by hand",
            next_action="clear the task gate, or trigger promote_release again",
        ) from error


def read_answers(answers: Sequence[object], environment: Mapping[str, str]) -> Approved | None:
    """Return the approvals that tasks handed on, with the key; None if none did.

    Whoever may edit tasks can hand on anything: what is no approval's digest is taken for none.
    """
    found = [answer.get("approval") for answer in answers if isinstance(answer, Mapping)]
    digests = [digest for digest in found if isinstance(digest, str) and digest]
    return Approved(digests, load_key(environment)) if digests else None


def promote(workspace: Workspace, *, verified: str | None = None) -> Candidate:
    """Compose a release and publish it if gate and policy let it; return the candidate either way.

    A bundle with an adapter takes minutes to measure, and is left to ``tidegate promote`` and the DAG.
    """
    composition = compose(workspace, verified=verified)
    if composition.is_champion and composition.champion:
        return Candidate(composition.champion, composition.base_entry, composition.champion, "stop", "serves already")
    if composition.bundle.adapter is not None:
        why = "measuring it takes minutes: 'tidegate promote', or the DAG promote_release"
        return Candidate("", composition.base_entry, composition.champion, "stop", why)
    return promote_composed(workspace, composition, quiet)


def promote_composed(workspace: Workspace, composition: Composition, progress: StageProgress) -> Candidate:
    """Measure a composition, propose it, and publish it if gate and policy let it; return the candidate either way."""
    from tidegate.pipelines.evaluate_release import evaluate
    from tidegate.pipelines.release_report import write_reports

    evaluated = evaluate(workspace, composition, progress) if composition.dataset else None
    candidate = propose(workspace, composition, evaluated)
    if evaluated:
        write_reports(workspace, evaluated, candidate.release)
    if candidate.outcome == "publish":
        publish(workspace, candidate)
        return replace(candidate, champion=candidate.release)
    return candidate


def champion(workspace: Workspace) -> tuple[str, Release]:
    """Return (id, release) of what serves; raise ``ReleaseMissingError`` if nothing does."""
    state = Channel(workspace.store, workspace.corpus).read()
    if state.release is None:
        never = workspace.config.promotion.policy == "never"
        raise ReleaseMissingError(
            f"corpus {workspace.corpus} in {workspace.store.uri} has no release yet",
            next_action="promotion.policy is never: set it to auto in the corpus file" if never else None,
        )
    return state.release, read_release(workspace.store, workspace.corpus, state.release)


def refuse_adapter(workspace: Workspace, adapter: AdapterReference | None, why: str) -> None:
    """Remember that an adapter is not to be proposed again by itself."""
    if adapter is not None:
        note_refused(workspace.store, workspace.corpus, adapter.key, why, format_time(workspace.store.now()))


def require_newest(workspace: Workspace, release: str) -> None:
    """Raise ``ApprovalStaleError`` if a newer candidate has taken the place of an evaluated release."""
    head = Channel(workspace.store, workspace.corpus, CANDIDATE).read()
    if head.release != release:
        successor = (head.release or "none")[:12]
        raise ApprovalStaleError(
            f"release {release[:12]} was superseded by release {successor}",
            next_action=f"answer the form of release {successor}; this one publishes nothing",
        )


def _is_measurable(workspace: Workspace, composition: Composition) -> bool:
    """Tell whether the dataset's holdout has an answerable row whose evidence is current in the composed snapshot."""
    if composition.dataset is None or composition.is_champion:
        return False
    from tidegate.pipelines.evaluation_arms import Side, current_rows

    base = find_base_model(workspace.config.base_model.model)
    side = Side(workspace, composition.bundle, composition.dataset, base.folder)
    rows, _ = current_rows(side, workspace.config.evaluation.max_rows)
    return any(row.example.answerable for row in rows)


def _decide(workspace: Workspace, composition: Composition, release: Release) -> tuple[Outcome, str]:
    name, (policy, policy_key) = f"release {release.digest[:12]}", policy_of(workspace, release, composition.serving)
    if policy == "never":
        return "stop", f"{name} is ready; {policy_key} is never"
    if policy == "approve":
        return "approve", f"{name} waits for an approval"
    if is_held(workspace, release.bundle):
        return "stop", f"{name} was rolled back before; only a person may promote it again"
    return "publish", f"{name} is ready, {(composition.champion or 'nothing')[:12]} serves"


def release_at(workspace: Workspace, entry: str | None) -> Release | None:
    """Return the release that an entry of the champion channel made serve."""
    if entry is None:
        return None
    _, found = next(Channel(workspace.store, workspace.corpus).history(entry))
    return read_release(workspace.store, workspace.corpus, found.release)


def _require_proven(workspace: Workspace, release: Release, before: Release | None) -> None:
    """Check what a release says of its evaluation: it exists, passed, and compared this bundle with this champion."""
    name = f"release {release.digest[:12]}"
    if release.evaluation is None:
        if release.bundle.adapter is not None or release.dataset is not None:
            raise ApprovalInvalidError(f"{name} names no evaluation, and only an index without questions needs none")
        if release.bundle.snapshot != read_head(workspace.store, workspace.corpus).snapshot:
            raise ApprovalStaleError(f"{name} was not measured, and its snapshot is not the newest any more")
        return
    evaluation = read_evaluation(workspace.store, workspace.corpus, release.evaluation)
    if evaluation is None or evaluation.digest != release.results:
        raise ApprovalInvalidError(f"{name} names evaluation {release.evaluation[:12]}, whose results are not stored")
    if not passed(evaluation) or evaluation.inputs.bundle != release.bundle.digest:
        raise ApprovalInvalidError(f"{name} did not pass the gate in evaluation {release.evaluation[:12]}")
    compared = before.bundle.digest if before else None
    if evaluation.inputs.champion_bundle != compared:
        raise ApprovalStaleError(f"{name} was compared with another champion than the one that it would replace")
    if release.gate_policy != policy_digest(workspace, evaluated=True):
        raise ApprovalStaleError(
            f"{name} passed under other settings of promotion or gate than the corpus file has now",
            next_action="trigger promote_release again: a new run judges by the settings of now",
        )
    require_newest(workspace, release.digest)


def _lead(workspace: Workspace, release: Release, base_entry: str | None, run: str) -> None:
    """Make a release the newest candidate; the one before is superseded unless it serves.

    Raises ``ApprovalStaleError`` if the champion moved since the release was composed, or if a candidate of a newer
    snapshot leads: a run that took longer must not take the place of a later one.
    """
    store, corpus = workspace.store, workspace.corpus
    name, channel = f"release {release.digest[:12]}", Channel(store, corpus, CANDIDATE)
    if Channel(store, corpus).read().entry != base_entry:
        raise ApprovalStaleError(f"the champion moved since {name} was composed")
    while (state := channel.read()).release != release.digest:
        leading = read_release(store, corpus, state.release) if state.release else None
        if leading and _order_of(workspace, leading) > _order_of(workspace, release):
            raise ApprovalStaleError(f"{name} is of an older snapshot than the candidate {leading.digest[:12]}")
        try:
            channel.apply(Promotion("promote", release.digest, state.entry, policy=release.gate_policy))
        except CommitLostError:
            continue  # another run proposed first: this one is newer
        if state.release and state.release != Channel(store, corpus).read().release:
            before = release_subject(read_release(store, corpus, state.release))
            why = f"release {release.digest[:12]} took its place as the newest candidate"
            evidence = {"release": release.digest}
            note_event(workspace, "superseded", before, why, evidence=evidence, run=run, when=store.now())


def _order_of(workspace: Workspace, release: Release) -> int:
    """Return the place of a release's snapshot in the order of snapshots."""
    return read_manifest(workspace.store, workspace.corpus, release.bundle.snapshot).seq


def _with_approval(
    workspace: Workspace, release: Release, candidate: Candidate, approved: Approved | None, run: str
) -> Promotion:
    """Return the promotion on a person's authority; refuse what does not allow it, unless it was done before."""
    store, corpus = workspace.store, workspace.corpus
    name = f"release {release.digest[:12]}"
    if approved is None or not approved.approvals:
        raise ApprovalInvalidError(
            f"{name} needs an approval, and none was given in run {run}",
            next_action="answer the form of this run; marking its task as success approves nothing",
        )
    found = [_stored_approval(workspace, digest) for digest in approved.approvals]
    channel = Channel(store, corpus)
    state, authority = channel.read(), approved.approvals[-1]
    if was_used_here(channel.history(), authority, release.digest, candidate.base_entry):
        return Promotion("promote", release.digest, candidate.base_entry, approval=authority)
    expected = ExpectedApproval(
        corpus=corpus,
        store=store.uri,
        channel=CHAMPION,
        op="promote",
        release=release.digest,
        evaluation=release.evaluation,
        base_entry=state.entry,
        run=run,
        approvers=frozenset(workspace.config.promotion.approvers),
    )
    for approval in found:
        verify(approval, approved.key, expected, store.now())
    people = {approval.approver.id for approval in found}
    if workspace.config.promotion.second_approver and len(people) < 2:
        raise ApprovalInvalidError(f"{name} needs two approvers, and only {', '.join(sorted(people))} approved")
    return Promotion("promote", release.digest, candidate.base_entry, approval=authority)
