"""``heads/snapshot.json``: the latest verified snapshot, which the next change capture diffs against."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.core import keys
from tidegate.core.failpoints import reach
from tidegate.core.protocols import ArtifactStore, Stored
from tidegate.core.publishing import advance, require_applied
from tidegate.core.records import SnapshotHead, SnapshotManifest
from tidegate.core.stored_records import read_record


@dataclass(frozen=True, slots=True)
class ReadHead:
    """The head as it was read: its record, and what a compare-and-swap compares."""

    head: SnapshotHead | None
    stored: Stored | None

    @property
    def snapshot(self) -> str | None:
        """Digest of the snapshot, None before the first."""
        return self.head.snapshot if self.head else None


def read_head(store: ArtifactStore, corpus: str) -> ReadHead:
    """Return the head of a corpus."""
    key = keys.snapshot_head(corpus)
    stored = store.read(key)
    return ReadHead(SnapshotHead.from_bytes(stored.data, key=key) if stored else None, stored)


def read_manifest(store: ArtifactStore, corpus: str, digest: str) -> SnapshotManifest:
    """Return a snapshot's manifest."""
    return read_record(store, keys.snapshot_manifest(corpus, digest), SnapshotManifest, digest)


def commit_snapshot(store: ArtifactStore, corpus: str, base: ReadHead, digest: str, manifest: SnapshotManifest) -> None:
    """Move the head from ``base`` to a stored snapshot.

    Committing what is already in the head's history succeeds without a write. Raises ``CommitLostError`` if another
    snapshot was committed on the same base, ``CommitUnknownError`` if the store does not say.
    """
    key = keys.snapshot_head(corpus)
    head = SnapshotHead(seq=manifest.seq, snapshot=digest, op_id=manifest.op_id)

    def applied(data: bytes) -> bool:
        return in_history(store, corpus, SnapshotHead.from_bytes(data, key=key), head)

    reach("K7")
    outcome = advance(store, key, base.stored, head.to_bytes(), applied)
    reach("K8")
    require_applied(outcome, f"snapshot {digest[:12]}")


def in_history(store: ArtifactStore, corpus: str, current: SnapshotHead, wanted: SnapshotHead) -> bool:
    """Tell whether ``wanted`` is the current head or one of its ancestors."""
    snapshot: str | None = current.snapshot
    seq = current.seq
    while snapshot is not None and seq >= wanted.seq:
        if snapshot == wanted.snapshot:
            return True
        manifest = read_manifest(store, corpus, snapshot)
        snapshot, seq = manifest.parent, manifest.seq - 1
    return False
