"""Build the next snapshot: a new segment for what changed, tombstones for what went, the same segments for the rest.

Write order: segment files, segment manifest, tombstones, snapshot manifest; then all of it is read back from the store
and checked. The head is the caller's to move: what is not reachable from a head never happened.
"""

from __future__ import annotations

import contextlib
import errno
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tidegate.core import keys
from tidegate.core.canonical import sha256_hex
from tidegate.core.errors import SnapshotInvalidError, StoreFullError
from tidegate.core.failpoints import reach
from tidegate.core.protocols import ArtifactStore
from tidegate.core.publishing import create_once
from tidegate.core.records import (
    QuarantinedDocument,
    SegmentReference,
    SnapshotCounts,
    SnapshotManifest,
    StoredFile,
    operation_id,
)
from tidegate.indexing.merging import segments_to_merge
from tidegate.indexing.segment import MANIFEST, ChunkRow, write_segment
from tidegate.indexing.snapshot import Snapshot, content_root, ledger_table_of, pack_tombstones
from tidegate.indexing.survivors import SnapshotChange, Survivor, as_mask, find_survivors
from tidegate.indexing.verification import verify_snapshot

_SAMPLES = 16
REUSE_SECONDS = 3.5 * 86_400
"""An unreferenced object may be reused for half the collector's grace period of 7 days (docs/guarantees.md)."""


@dataclass(frozen=True, slots=True)
class BuiltSnapshot:
    """A snapshot that is stored and verified, but not committed."""

    digest: str
    manifest: SnapshotManifest
    embedded_chunks: int
    removed_chunks: int


def build_snapshot(store: ArtifactStore, corpus: str, parent: Snapshot | None, change: SnapshotChange) -> BuiltSnapshot:
    """Write and verify the next snapshot; raise ``SnapshotInvalidError`` if it does not hold together."""
    survivors = find_survivors(parent, change)
    merged = segments_to_merge([survivor.size for survivor in survivors])
    kept = [survivor for at, survivor in enumerate(survivors) if at not in merged]
    writer = _Writer(store, corpus, parent, _operation(corpus, parent, change))
    embedded = _needed(change)
    references = [survivor.next_reference for survivor in kept]
    dead = [(~survivor.chunks, ~survivor.documents) for survivor in kept]
    new = writer.store_segment(change, embedded, [survivors[at] for at in merged])
    if new:
        references.append(new)
        dead.append((np.zeros(new.chunks, dtype=np.bool_), np.zeros(new.documents, dtype=np.bool_)))
    tombstones = pack_tombstones(dead)
    ledger = pa.concat_tables([ledger_table_of(change.rows), *(survivor.ledger for survivor in survivors)])
    manifest = SnapshotManifest(
        corpus=corpus,
        seq=parent.manifest.seq + 1 if parent else 1,
        parent=parent.digest if parent else None,
        op_id=writer.op_id,
        content_root=content_root(ledger.sort_by("document")),
        embedder=change.embedder,
        metadata_rules=change.metadata_rules,
        counts=_counts(ledger, references),
        quarantine=_quarantine(ledger),
        segments=tuple(references),
        tombstones=StoredFile(size=len(tombstones), sha256=sha256_hex(tombstones)),
    )
    writer.store_snapshot(manifest, tombstones)
    verify_snapshot(Snapshot(store, corpus, manifest.digest), samples=_SAMPLES)
    lost = sum(survivor.lost_chunks for survivor in survivors)
    replaced = parent.manifest.counts.chunks if parent and not survivors else 0
    return BuiltSnapshot(manifest.digest, manifest, len(embedded), lost + replaced)


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes the objects of one snapshot."""

    store: ArtifactStore
    corpus: str
    parent: Snapshot | None
    op_id: str

    def store_segment(
        self, change: SnapshotChange, embedded: Sequence[ChunkRow], merged: Sequence[Survivor]
    ) -> SegmentReference | None:
        """Write the new segment with what was merged into it; None if it would be empty."""
        chunks = [*embedded, *(chunk for survivor in merged for chunk in survivor.chunk_rows())]
        rows = [*change.rows, *(row for survivor in merged for row in survivor.ledger_rows())]
        if not chunks and not rows:
            return None
        with tempfile.TemporaryDirectory(prefix="tidegate-segment-") as scratch:
            with _space_of(scratch):
                manifest = write_segment(Path(scratch), change.embedder, chunks, rows)
            key = self._free_key(manifest.digest)
            prefix = keys.segment_prefix(self.corpus, key)
            reach("K1")
            for name in sorted(manifest.files):
                create_once(self.store, f"{prefix}/{name}", Path(scratch) / name)
                reach("K4")
            create_once(self.store, f"{prefix}/{MANIFEST}", manifest.to_bytes())
        return SegmentReference(
            key=key,
            chunks=manifest.chunks,
            live_chunks=manifest.chunks,
            documents=manifest.documents,
            live_documents=manifest.documents,
        )

    def store_snapshot(self, manifest: SnapshotManifest, tombstones: bytes) -> None:
        """Write tombstones, then the manifest that names them."""
        create_once(self.store, keys.snapshot_tombstones(self.corpus, manifest.digest), tombstones)
        reach("K5")
        create_once(self.store, keys.snapshot_manifest(self.corpus, manifest.digest), manifest.to_bytes())
        reach("K6")

    def _free_key(self, digest: str) -> str:
        """Return a key that is new, referenced by the parent, or too young to be under collection."""
        referenced = {reference.key for reference in self.parent.manifest.segments} if self.parent else set()
        for attempt in range(100):
            key = f"{digest}.{sha256_hex(f'{self.op_id}:{attempt}'.encode())[:8]}"
            found = self.store.list_keys(f"{keys.segment_prefix(self.corpus, key)}/")
            ages = [self.store.now() - stored.modified for stored in found]
            if key in referenced or all(age < REUSE_SECONDS for age in ages):
                return key
        raise SnapshotInvalidError(f"no free key for segment {digest[:12]}…")


@contextlib.contextmanager
def _space_of(scratch: str) -> Iterator[None]:
    """Say which folder is full, in the words of a typed failure."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreFullError(f"no space left for scratch files in {Path(scratch).parent}") from error


def _operation(corpus: str, parent: Snapshot | None, change: SnapshotChange) -> str:
    return operation_id(
        corpus=corpus,
        parent=parent.digest if parent else None,
        rows=sorted([row.document, row.seen, row.recipe] for row in change.rows),
        removed=sorted(change.removed),
        rules=[rule.model_dump() for rule in change.metadata_rules],
    )


def _needed(change: SnapshotChange) -> list[ChunkRow]:
    """Return the embedded chunks that some document refers to, each once."""
    referred = {chunk for row in change.rows for chunk in row.chunks}
    return list({chunk.id: chunk for chunk in change.chunks if chunk.id in referred}.values())


def _counts(ledger: pa.Table, references: Sequence[SegmentReference]) -> SnapshotCounts:
    return SnapshotCounts(
        listed=ledger.num_rows,
        indexed=int(as_mask(pc.not_equal(ledger.column("sha256"), "")).sum()),
        chunks=sum(reference.live_chunks for reference in references),
    )


def _quarantine(ledger: pa.Table) -> tuple[QuarantinedDocument, ...]:
    bad = ledger.select(["document", "problem"]).filter(pc.not_equal(ledger.column("problem"), "")).sort_by("document")
    return tuple(QuarantinedDocument(document=row["document"], reason=row["problem"]) for row in bad.to_pylist())
