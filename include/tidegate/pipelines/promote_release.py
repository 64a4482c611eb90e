"""Make the newest verified snapshot the champion: compose a release, then publish it. The only writer of the channel.

For now a release is an index alone and the policy is ``auto``: every part that later versions add (adapter, dataset,
evaluation, approval) is null in the records, and filled without reshaping them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tidegate.core.canonical import digest_of
from tidegate.core.errors import ReleaseHeldError, ReleaseMissingError
from tidegate.core.records import Bundle, Release
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.channel import Channel, Promotion
from tidegate.registry.heads import read_head, read_manifest
from tidegate.registry.releases import read_release, write_release

_SAMPLES = 16
"""Chunks per segment that are searched for before a snapshot is released."""


@dataclass(frozen=True)
class Candidate:
    """A composed release and the state it was composed against."""

    release: str
    base_entry: str | None
    champion: str | None
    """The release that served when this one was composed."""
    held: bool
    """Whether it was rolled back before, so that no policy may promote it again."""

    @property
    def is_champion(self) -> bool:
        """Whether it serves already, so that nothing is left to do."""
        return self.release == self.champion


def compose(workspace: Workspace, *, verified: str | None = None) -> Candidate:
    """Bind the newest snapshot and today's retrieval settings into a stored release.

    The snapshot is read back and checked first, unless it is ``verified``: one that this process has just checked.
    """
    head = read_head(workspace.store, workspace.corpus)
    if head.snapshot is None:
        raise ReleaseMissingError(f"corpus {workspace.corpus} has no snapshot to release")
    channel = Channel(workspace.store, workspace.corpus)
    state = channel.read()
    release = _release(workspace, head.snapshot)
    if release.digest == state.release:
        return Candidate(release.digest, state.entry, state.release, held=False)
    if head.snapshot != verified:
        from tidegate.indexing.snapshot import Snapshot
        from tidegate.indexing.verification import verify_snapshot

        verify_snapshot(Snapshot(workspace.store, workspace.corpus, head.snapshot), samples=_SAMPLES)
    write_release(workspace.store, release)
    return Candidate(release.digest, state.entry, state.release, held=channel.is_held(release.digest))


def publish(workspace: Workspace, candidate: Candidate) -> bool:
    """Make a candidate the champion by policy; return False if that had been done before.

    Raises ``ReleaseHeldError`` if the policy is ``never`` or the release was rolled back, ``CommitLostError`` if the
    champion is no longer the one that the candidate was composed against.
    """
    if workspace.config.promotion.policy == "never":
        raise ReleaseHeldError(
            f"release {candidate.release[:12]} of corpus {workspace.corpus} is ready, but promotion.policy is never",
            next_action="set promotion.policy: auto in the corpus file to let releases serve",
        )
    promotion = Promotion("promote", candidate.release, candidate.base_entry, policy=_policy(workspace))
    return Channel(workspace.store, workspace.corpus).apply(promotion)


def promote(workspace: Workspace, *, verified: str | None = None) -> Candidate:
    """Compose a release and publish it if the policy lets it; return the candidate either way."""
    candidate = compose(workspace, verified=verified)
    if not candidate.is_champion and not candidate.held and workspace.config.promotion.policy == "auto":
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


def _release(workspace: Workspace, snapshot: str) -> Release:
    manifest = read_manifest(workspace.store, workspace.corpus, snapshot)
    bundle = Bundle(
        corpus=workspace.corpus,
        snapshot=snapshot,
        content_root=manifest.content_root,
        adapter=None,
        base_model=None,
        embedder=manifest.embedder,
        retrieval=workspace.retrieval,
        prompt=None,
        decoding=None,
        access_policy=None,
    )
    return Release(
        bundle=bundle, serving_mode="rag", dataset=None, evaluation=None, results=None, gate_policy=_policy(workspace)
    )


def _policy(workspace: Workspace) -> str:
    return digest_of({"promotion": {"policy": workspace.config.promotion.policy}})
