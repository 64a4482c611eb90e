"""What of a parent snapshot lives on in the next one. Decides from values; writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tidegate.core.documents import CHUNK_ID_BYTES, LedgerRow
from tidegate.core.records import EmbedderIdentity, MetadataRule, SegmentReference
from tidegate.indexing.merging import SegmentSize
from tidegate.indexing.segment import ChunkRow, Segment, ledger_rows
from tidegate.indexing.snapshot import Snapshot

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SnapshotChange:
    """What the next snapshot adds to and takes from its parent."""

    rows: tuple[LedgerRow, ...]
    """New versions of documents."""
    removed: tuple[str, ...]
    """Documents that are gone, the old names of moved ones included."""
    chunks: tuple[ChunkRow, ...]
    """Newly embedded texts."""
    embedder: EmbedderIdentity
    metadata_rules: tuple[MetadataRule, ...]


@dataclass(frozen=True, slots=True)
class Survivor:
    """A parent's segment with the rows that live on."""

    segment: Segment
    reference: SegmentReference
    chunks: NDArray[np.bool_]
    documents: NDArray[np.bool_]
    lost_chunks: int
    """Chunks that were live in the parent and are not any more."""

    @property
    def size(self) -> SegmentSize:
        """Live and stored rows."""
        live = int(self.chunks.sum()) + int(self.documents.sum())
        return SegmentSize(live, len(self.chunks) + len(self.documents))

    @property
    def next_reference(self) -> SegmentReference:
        """The segment as the next snapshot refers to it."""
        live = {"live_chunks": int(self.chunks.sum()), "live_documents": int(self.documents.sum())}
        return self.reference.model_copy(update=live)

    @property
    def ledger(self) -> pa.Table:
        """The ledger rows that live on."""
        return self.segment.document_table.filter(pa.array(self.documents))

    def chunk_rows(self) -> list[ChunkRow]:
        """Return the chunks that live on with their vectors."""
        places = np.flatnonzero(self.chunks)
        columns = self.segment.chunk_table.select(["id", "context", "text"]).take(pa.array(places)).to_pydict()
        vectors = self.segment.vectors.matrix[places]
        return [ChunkRow(*values) for values in zip(*columns.values(), vectors, strict=True)]

    def ledger_rows(self) -> list[LedgerRow]:
        """Return the ledger rows that live on as values."""
        return ledger_rows(self.ledger)


def find_survivors(parent: Snapshot | None, change: SnapshotChange) -> list[Survivor]:
    """Return every segment of the parent with what lives on; none if the vectors are of another embedder.

    A chunk lives as long as a live document refers to it, and a dead one comes back to life with a document that does.
    """
    if parent is None or parent.manifest.embedder.space != change.embedder.space:
        return []
    gone = pa.array(sorted({*change.removed, *(row.document for row in change.rows)}), pa.string())
    documents = [
        live & ~as_mask(pc.is_in(segment.document_table.column("document"), value_set=gone))
        for segment, live in zip(parent.segments, parent.live_documents, strict=True)
    ]
    referred = _referred(parent.segments, documents, change.rows)
    found = []
    for segment, reference, was_live, alive in zip(
        parent.segments, parent.manifest.segments, parent.live_chunks, documents, strict=True
    ):
        chunks = as_mask(pc.is_in(segment.chunk_ids, value_set=referred))
        found.append(Survivor(segment, reference, chunks, alive, lost_chunks=int((was_live & ~chunks).sum())))
    return found


def as_mask(values: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
    """Return Arrow booleans as a numpy mask."""
    return np.asarray(
        values.to_numpy(zero_copy_only=False) if isinstance(values, pa.Array) else values.to_numpy(), dtype=np.bool_
    )


def _referred(
    segments: Sequence[Segment], documents: Sequence[NDArray[np.bool_]], rows: Sequence[LedgerRow]
) -> pa.Array:
    """Return the distinct chunk ids that live documents refer to."""
    parts = [pa.array([chunk for row in rows for chunk in row.chunks], pa.binary(CHUNK_ID_BYTES))]
    for segment, live in zip(segments, documents, strict=True):
        lists = segment.document_table.column("chunks").combine_chunks()
        parts.append(pc.list_flatten(lists.filter(pa.array(live))))
    return pc.unique(pa.concat_arrays(parts))
