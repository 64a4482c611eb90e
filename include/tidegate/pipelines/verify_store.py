"""Read back everything that a corpus's heads reach, and check it: digests, counts, ids, chains."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.core.errors import SnapshotInvalidError
from tidegate.core.protocols import ArtifactStore
from tidegate.indexing.snapshot import Snapshot
from tidegate.indexing.verification import verify_snapshot
from tidegate.registry.channel import Channel
from tidegate.registry.heads import read_head
from tidegate.registry.releases import read_release

SAMPLES = 64
"""Chunks per segment that are searched for by their own vector and words."""


@dataclass(frozen=True, slots=True)
class VerifiedCorpus:
    """What was read back and found right."""

    corpus: str
    snapshots: int
    segments: int
    releases: int
    entries: int


def verify_corpus(store: ArtifactStore, corpus: str) -> VerifiedCorpus:
    """Check the head snapshot, the channel's whole chain, its releases and their snapshots.

    Raises ``ObjectMissingError``, ``ObjectCorruptError`` or ``SnapshotInvalidError`` for the first thing that is wrong.
    """
    head = read_head(store, corpus)
    snapshots = {head.snapshot} if head.snapshot else set()
    channel = Channel(store, corpus)
    state = channel.read()
    chain = list(channel.history(state.entry)) if state.entry else []
    for place, (digest, entry) in enumerate(chain):
        expected = len(chain) - place
        if entry.seq != expected:
            raise SnapshotInvalidError(
                f"entry {digest[:12]} has seq {entry.seq} at place {expected} of channel champion"
            )
    if state.head and chain and (state.head.release, state.head.op_id) != (chain[0][1].release, chain[0][1].op_id):
        raise SnapshotInvalidError("the head of channel champion does not match its entry")
    releases = {entry.release for _, entry in chain}
    snapshots |= {read_release(store, corpus, release).bundle.snapshot for release in sorted(releases)}
    segments = set()
    for digest in sorted(snapshots):
        snapshot = Snapshot(store, corpus, digest)
        verify_snapshot(snapshot, samples=SAMPLES)
        segments |= {reference.key for reference in snapshot.manifest.segments}
    return VerifiedCorpus(corpus, len(snapshots), len(segments), len(releases), len(chain))
