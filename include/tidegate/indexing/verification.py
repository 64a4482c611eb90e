"""Does a snapshot hold together? Digests, counts, ids across chunks, vectors and postings, and the search itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tidegate.core.documents import embedded_text
from tidegate.core.errors import SnapshotInvalidError
from tidegate.indexing.lexical import LexicalIndex, LexicalPart, tokenize
from tidegate.indexing.segment import Segment
from tidegate.indexing.snapshot import Snapshot, content_root

if TYPE_CHECKING:
    from numpy.typing import NDArray


def verify_snapshot(snapshot: Snapshot, *, samples: int) -> None:
    """Read a snapshot back whole; raise ``SnapshotInvalidError``, ``ObjectMissingError`` or ``ObjectCorruptError``.

    ``samples`` chunks are searched for by their own vector: a live one must be its own best hit, a dead one absent.
    """
    for segment in snapshot.segments:
        _verify_segment(segment)
    _verify_counts(snapshot)
    _verify_references(snapshot)
    _verify_search(snapshot, samples)


def _verify_segment(segment: Segment) -> None:
    manifest = segment.manifest
    found = {
        "chunks": segment.chunk_table.num_rows,
        "documents": segment.document_table.num_rows,
        "vectors": segment.vectors.shape[0],
        "lengths": len(segment.lengths),
    }
    expected = {
        "chunks": manifest.chunks,
        "documents": manifest.documents,
        "vectors": manifest.chunks,
        "lengths": manifest.chunks,
    }
    _require(found == expected, f"{segment.prefix}: rows {found}, the manifest says {expected}")
    rows = segment.postings.row_counts(manifest.chunks)
    _require(bool((rows == segment.lengths).all()), f"{segment.prefix}: postings and chunk lengths disagree")
    norms = np.linalg.norm(segment.vectors.matrix, axis=1)
    _require(
        bool(np.all(np.abs(norms - 1) < 1e-3)),
        f"{segment.prefix}: {int((np.abs(norms - 1) >= 1e-3).sum())} vectors are not unit vectors",
    )


def _verify_counts(snapshot: Snapshot) -> None:
    manifest = snapshot.manifest
    for reference, chunks, documents in zip(
        manifest.segments, snapshot.live_chunks, snapshot.live_documents, strict=True
    ):
        found = (int(chunks.sum()), int(documents.sum()))
        expected = (reference.live_chunks, reference.live_documents)
        _require(
            found == expected,
            f"segment {reference.key}: (chunks, documents) live {found}, the manifest says {expected}",
        )
    live = sum(int(chunks.sum()) for chunks in snapshot.live_chunks)
    _require(live == manifest.counts.chunks, f"{live} chunks are live, the manifest says {manifest.counts.chunks}")
    ledger = snapshot.ledger
    indexed = pc.sum(pc.not_equal(ledger.column("sha256"), "")).as_py() or 0
    found = (ledger.num_rows, indexed)
    expected = (manifest.counts.listed, manifest.counts.indexed)
    _require(found == expected, f"(listed, indexed) documents {found}, the manifest says {expected}")
    names = ledger.column("document")
    _require(len(pc.unique(names)) == len(names), "a document has two live ledger rows")
    _require(content_root(ledger) == manifest.content_root, "the ledger's content root is not the manifest's")


def _verify_references(snapshot: Snapshot) -> None:
    referred = pc.unique(pc.list_flatten(snapshot.ledger.column("chunks").combine_chunks()))
    live = pa.concat_arrays(
        [
            segment.chunk_ids.filter(pa.array(mask))
            for segment, mask in zip(snapshot.segments, snapshot.live_chunks, strict=True)
        ]
        or [referred.slice(0, 0)]
    )
    _require(len(pc.unique(live)) == len(live), "a chunk is live in two segments")
    missing = pc.sum(pc.invert(pc.is_in(referred, value_set=live))).as_py() or 0
    unused = pc.sum(pc.invert(pc.is_in(live, value_set=referred))).as_py() or 0
    _require(not missing, f"{missing} chunks of the ledger are in no segment")
    _require(not unused, f"{unused} live chunks belong to no document")


def _verify_search(snapshot: Snapshot, samples: int) -> None:
    parts = [
        LexicalPart(segment.postings, segment.lengths, live)
        for segment, live in zip(snapshot.segments, snapshot.live_chunks, strict=True)
    ]
    lexical = LexicalIndex(parts)
    start = 0
    for segment, live in zip(snapshot.segments, snapshot.live_chunks, strict=True):
        rows = (
            np.unique(np.linspace(0, len(live) - 1, min(samples, len(live)), dtype=np.int64))
            if len(live)
            else np.zeros(0, int)
        )
        table = segment.chunk_table.select(["context", "text"]).take(pa.array(rows)).to_pydict()
        texts = [embedded_text(*values) for values in zip(*table.values(), strict=True)]
        for row, text, scores in zip(rows, texts, lexical.scores(texts), strict=True):
            dense = int(row) in _nearest(segment, live, row)
            sparse = bool(scores[start + row] > 0) or not tokenize(text)
            state = "live" if live[row] else "dead"
            where = f"{segment.prefix}: chunk row {row} is {state}"
            _require(dense == bool(live[row]), f"{where}, but its own vector says otherwise")
            _require(sparse == bool(live[row]) or not tokenize(text), f"{where}, but its own words say otherwise")
        start += len(live)


def _nearest(segment: Segment, live: NDArray[np.bool_], row: int) -> set[int]:
    """Return the live rows that tie with the best one for the vector of ``row``."""
    ((rows, _),) = segment.vectors.nearest(segment.vectors.matrix[row][None, :], live, 1)
    return {int(found) for found in rows}


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SnapshotInvalidError(otherwise)
