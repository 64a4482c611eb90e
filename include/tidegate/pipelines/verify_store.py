"""Read back everything that a corpus's heads reach, and check it: digests, counts, ids, chains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.core import keys
from tidegate.core.errors import ObjectMissingError, SnapshotInvalidError
from tidegate.core.protocols import ArtifactStore
from tidegate.core.records import Entry
from tidegate.core.stored_records import read_checked, read_record
from tidegate.indexing.snapshot import Snapshot
from tidegate.indexing.verification import verify_snapshot
from tidegate.registry.adapters import read_adapter_head, verify_adapter
from tidegate.registry.channel import CHAMPION, Channel, ChannelState
from tidegate.registry.datasets import read_dataset_head, verify_dataset
from tidegate.registry.heads import ReadHead, read_head, read_manifest
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
    datasets: int
    adapters: int = 0


def verify_corpus(store: ArtifactStore, corpus: str) -> VerifiedCorpus:
    """Check the head snapshot, the channel's whole chain, its releases and their snapshots, by the store's own bytes.

    Raises ``ObjectMissingError``, ``ObjectCorruptError`` or ``SnapshotInvalidError`` for the first thing that is wrong.
    """
    head, state = read_head(store, corpus), Channel(store, corpus).read()
    chain = list(Channel(store, corpus).history(state.entry)) if state.entry else []
    _verify_snapshot_head(store, corpus, head, released=bool(chain))
    _verify_channel(store, corpus, state, [entry for _, entry in chain])
    releases = {entry.release for _, entry in chain}
    snapshots = {read_release(store, corpus, release).bundle.snapshot for release in sorted(releases)}
    snapshots |= {head.snapshot} if head.snapshot else set()
    segments = set()
    for digest in sorted(snapshots):
        snapshot = Snapshot(store, corpus, digest)
        for segment in snapshot.segments:
            for name, file in segment.manifest.files.items():
                read_checked(store, f"{segment.prefix}/{name}", file.sha256)  # a local copy says nothing of the store
        verify_snapshot(snapshot, samples=SAMPLES)
        segments |= {reference.key for reference in snapshot.manifest.segments}
    datasets = _verify_dataset(store, corpus)
    adapters = _verify_adapter(store, corpus)
    return VerifiedCorpus(corpus, len(snapshots), len(segments), len(releases), len(chain), datasets, adapters)


def _verify_adapter(store: ArtifactStore, corpus: str) -> int:
    """Read the newest adapter back whole, if there is one; return how many that is."""
    head = read_adapter_head(store, corpus).head
    if head is None:
        return 0
    manifest = verify_adapter(store, corpus, head.key)
    if (head.seq, head.adapter, head.op_id) != (manifest.seq, manifest.digest, manifest.op_id):
        raise SnapshotInvalidError(f"{keys.adapter_head(corpus)} does not match its adapter")
    return 1


def _verify_dataset(store: ArtifactStore, corpus: str) -> int:
    """Read the newest dataset back whole, if there is one; return how many that is."""
    head = read_dataset_head(store, corpus).head
    if head is None:
        return 0
    manifest = verify_dataset(store, corpus, head.dataset)
    if (head.seq, head.op_id) != (manifest.seq, manifest.op_id):
        raise SnapshotInvalidError(f"{keys.dataset_head(corpus)} does not match its dataset")
    return 1


def _verify_snapshot_head(store: ArtifactStore, corpus: str, head: ReadHead, *, released: bool) -> None:
    if head.head is None:
        if released:
            raise ObjectMissingError(f"{keys.snapshot_head(corpus)} is not in {store.uri}, but releases serve")
        return
    manifest = read_manifest(store, corpus, head.head.snapshot)
    if (head.head.seq, head.head.op_id) != (manifest.seq, manifest.op_id):
        raise SnapshotInvalidError(f"{keys.snapshot_head(corpus)} does not match its snapshot")


def _verify_channel(store: ArtifactStore, corpus: str, state: ChannelState, chain: Sequence[Entry]) -> None:
    if state.head is None:
        _require_no_history(store, corpus)
        return
    for place, entry in zip(range(len(chain), 0, -1), chain, strict=True):
        if entry.seq != place:
            raise SnapshotInvalidError(
                f"entry {entry.digest[:12]} has seq {entry.seq} at place {place} of channel {CHAMPION}"
            )
    newest = chain[0]
    if (state.head.seq, state.head.release, state.head.op_id) != (newest.seq, newest.release, newest.op_id):
        raise SnapshotInvalidError(f"the head of channel {CHAMPION} does not match its entry")


def _require_no_history(store: ArtifactStore, corpus: str) -> None:
    """Allow a first entry without a head (its commit was cut short), but none that continues another."""
    folder = keys.channel_entry(corpus, CHAMPION, "").removesuffix(".json")
    for found in store.list_keys(folder):
        digest = found.key.removeprefix(folder).removesuffix(".json")
        if read_record(store, found.key, Entry, digest).prev:
            raise ObjectMissingError(
                f"{keys.channel_head(corpus, CHAMPION)} is not in {store.uri}, but its entries are"
            )
