"""Hybrid search over one snapshot: dense and BM25 arms, fused by relative scores, filtered by metadata before ranking.

Fusion: each arm's score divided by its best score for the question, weighted and added (docs/adr/0004). Every
candidate gets its exact score in both arms, so the result depends on no rank cut-off. Ties go to the smaller chunk id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tidegate.core.documents import CHUNK_ID_BYTES
from tidegate.core.records import RetrievalSettings
from tidegate.indexing.filters import matching_documents
from tidegate.indexing.lexical import LexicalIndex, LexicalPart
from tidegate.indexing.snapshot import Snapshot
from tidegate.indexing.vectors import TIE

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_COSINE = 0.25
"""Where even the best cosine is smaller, nothing is near: dividing by it would only blow up noise."""

Filters = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Hit:
    """One ranked passage."""

    document: str
    """The first document, by name, that holds the text and passes the filters."""
    heading: str
    text: str
    score: float
    chunk: str
    """Chunk id, 32 hex digits."""
    also_in: tuple[str, ...]
    """Further documents with the same text."""


class SearchIndex:
    """Searches one snapshot; loads only the arms that are asked for."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        sizes = [segment.manifest.chunks for segment in snapshot.segments]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
        self._live = np.concatenate([*snapshot.live_chunks, np.zeros(0, dtype=np.bool_)])

    @cached_property
    def _ids(self) -> NDArray[np.bytes_]:
        ids = [bytes(value) for value in self._snapshot.stored_chunk_ids().to_pylist()]
        return np.array(ids, dtype=f"S{CHUNK_ID_BYTES}") if ids else np.zeros(0, dtype=f"S{CHUNK_ID_BYTES}")

    @cached_property
    def _lexical(self) -> LexicalIndex:
        return LexicalIndex(
            [
                LexicalPart(segment.postings, segment.lengths, live)
                for segment, live in zip(self._snapshot.segments, self._snapshot.live_chunks, strict=True)
            ]
        )

    @cached_property
    def _occurrences(self) -> _Occurrences:
        return _Occurrences(self._snapshot, self._live)

    def document_frequency(self, terms: Sequence[str]) -> dict[str, int]:
        """Return in how many live chunks each token occurs."""
        return self._lexical.document_frequency(terms)

    def search(
        self,
        questions: Sequence[str],
        vectors: NDArray[np.float32] | None,
        settings: RetrievalSettings,
        filters: Filters | None = None,
    ) -> list[list[Hit]]:
        """Answer a batch of questions; ``vectors`` (one unit row each) may be None in sparse mode."""
        documents = matching_documents(self._snapshot, filters) if filters else None
        allowed = self._live if documents is None else self._live & self._occurrences.rows_of(documents)
        if not allowed.any():
            return [[] for _ in questions]
        ranked = self._ranked(questions, vectors, settings, allowed)
        return [[self._hit(row, score, documents) for row, score in rows] for rows in ranked]

    def _ranked(
        self,
        questions: Sequence[str],
        vectors: NDArray[np.float32] | None,
        settings: RetrievalSettings,
        allowed: NDArray[np.bool_],
    ) -> list[list[tuple[int, float]]]:
        depth = max(settings.top_k, settings.candidates)
        none = [np.zeros(0, dtype=np.int64)] * len(questions)
        sparse = self._lexical.scores(questions) if settings.mode != "dense" else []
        sparse_rows = [self._best_sparse(scores, allowed, depth) for scores in sparse] or none
        if settings.mode == "sparse":
            return [
                self._top(rows, scores[rows], settings.top_k) for rows, scores in zip(sparse_rows, sparse, strict=True)
            ]
        if vectors is None:
            raise ValueError(f"mode {settings.mode} needs the questions' vectors")
        dense_rows = self._best_dense(vectors, allowed, depth)
        results = []
        for at, vector in enumerate(vectors):
            rows = np.union1d(dense_rows[at], sparse_rows[at])
            scores = self._dense_scores(rows, vector)
            if settings.mode == "hybrid":
                scores = _fused(scores, sparse[at][rows], settings.dense_weight)
            results.append(self._top(rows, scores, settings.top_k))
        return results

    def _best_sparse(self, scores: NDArray[np.float64], allowed: NDArray[np.bool_], depth: int) -> NDArray[np.int64]:
        rows = np.flatnonzero(allowed & (scores > 0))
        if len(rows) > depth:
            # Keep every row that ties with the last one, so that the cut does not depend on row order.
            floor = np.partition(scores[rows], -depth)[-depth]
            rows = rows[scores[rows] >= floor]
        return rows

    def _best_dense(
        self, vectors: NDArray[np.float32], allowed: NDArray[np.bool_], depth: int
    ) -> list[NDArray[np.int64]]:
        rows = [[np.zeros(0, dtype=np.int64)] for _ in vectors]
        scores = [[np.zeros(0, dtype=np.float32)] for _ in vectors]
        for segment, start, end in zip(self._snapshot.segments, self._starts, self._starts[1:], strict=False):
            for at, (found, near) in enumerate(segment.vectors.nearest(vectors, allowed[start:end], depth)):
                rows[at].append(found + start)
                scores[at].append(near)
        return [
            self._deepest(np.concatenate(found), np.concatenate(near), depth)
            for found, near in zip(rows, scores, strict=True)
        ]

    @staticmethod
    def _deepest(rows: NDArray[np.int64], scores: NDArray[np.float32], depth: int) -> NDArray[np.int64]:
        if len(rows) <= depth:
            return rows
        last = np.partition(scores, -depth)[-depth]
        return np.asarray(rows[scores >= last - TIE])

    def _dense_scores(self, rows: NDArray[np.int64], vector: NDArray[np.float32]) -> NDArray[np.float64]:
        scores = np.zeros(len(rows))
        for segment, start, end in zip(self._snapshot.segments, self._starts, self._starts[1:], strict=False):
            here = (rows >= start) & (rows < end)
            if here.any():
                # Row by row, not by BLAS: equal vectors must score equally wherever they stand.
                scores[here] = np.einsum("ij,j->i", segment.vectors.matrix[rows[here] - start], vector)
        return scores

    def _top(self, rows: NDArray[np.int64], scores: NDArray[np.float64], top_k: int) -> list[tuple[int, float]]:
        order = np.lexsort((self._ids[rows], -scores))[:top_k]
        return [(int(rows[at]), float(scores[at])) for at in order]

    def _hit(self, row: int, score: float, documents: NDArray[np.bool_] | None) -> Hit:
        at = int(np.searchsorted(self._starts, row, side="right")) - 1
        table = self._snapshot.segments[at].chunk_table
        text = table.column("text")[row - int(self._starts[at])].as_py()
        places = self._occurrences.of(row, documents)
        names = tuple(dict.fromkeys(document for document, _ in places))
        return Hit(
            names[0], places[0][1], text, score, bytes(self._ids[row]).ljust(CHUNK_ID_BYTES, b"\0").hex(), names[1:]
        )


class _Occurrences:
    """Which live documents hold each chunk row."""

    def __init__(self, snapshot: Snapshot, live: NDArray[np.bool_]) -> None:
        ledger = snapshot.ledger
        lists = ledger.column("chunks").combine_chunks()
        chunks = pc.list_flatten(lists)
        self._documents = ledger.column("document")
        self._headings = pc.list_flatten(ledger.column("headings"))
        self._owner = pc.list_parent_indices(lists).to_numpy()
        ids = snapshot.stored_chunk_ids()
        live_rows = np.flatnonzero(live)
        places = pc.index_in(chunks, value_set=ids.take(pa.array(live_rows)))
        self._rows = (
            live_rows[places.to_numpy(zero_copy_only=False).astype(np.int64)]
            if len(chunks)
            else np.zeros(0, dtype=np.int64)
        )
        self._order = np.argsort(self._rows, kind="stable")
        self._sorted_rows = self._rows[self._order]
        self._size = len(live)

    def rows_of(self, documents: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a mask of the chunk rows that occur in the documents of a ledger mask."""
        mask = np.zeros(self._size, dtype=np.bool_)
        mask[self._rows[documents[self._owner]]] = True
        return mask

    def of(self, row: int, documents: NDArray[np.bool_] | None) -> list[tuple[str, str]]:
        """Return (document, heading) of a chunk row, sorted by document, restricted to a ledger mask."""
        first, last = np.searchsorted(self._sorted_rows, [row, row + 1])
        return [
            (self._documents[int(self._owner[at])].as_py(), self._headings[int(at)].as_py())
            for at in sorted(self._order[first:last])
            if documents is None or documents[self._owner[at]]
        ]


def _fused(dense: NDArray[np.float64], sparse: NDArray[np.float64], dense_weight: float) -> NDArray[np.float64]:
    """Add the arms' scores, each relative to the best of its arm among these rows."""
    best_dense = max(dense.max(initial=0.0), LEAST_COSINE)
    best_sparse = sparse.max(initial=0.0) or 1.0
    fused: NDArray[np.float64] = dense_weight * dense / best_dense + (1 - dense_weight) * sparse / best_sparse
    return fused
