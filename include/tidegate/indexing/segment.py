"""A segment: an immutable part of an index with the ledger rows that came with it.

``chunks.arrow`` (row = chunk), ``vectors.faiss`` (same rows), ``postings.arrow``, ``documents.arrow`` and, written
last, ``segment.json`` with the digest of each. Files are Arrow IPC with Zstandard, or FAISS's own format; never pickle.
A reader checks every file's SHA-256 before it opens it: FAISS opens damaged files without a word.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tidegate.core.canonical import sha256_hex
from tidegate.core.documents import CHUNK_ID_BYTES, LedgerRow, embedded_text
from tidegate.core.errors import ObjectCorruptError, ObjectMissingError
from tidegate.core.protocols import ArtifactStore
from tidegate.core.records import EmbedderIdentity, SegmentManifest, StoredFile
from tidegate.core.stored_records import read_record
from tidegate.indexing.lexical import Postings, build_postings
from tidegate.indexing.vectors import VectorIndex, write_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

MANIFEST = "segment.json"
CHUNKS, VECTORS, POSTINGS, DOCUMENTS = "chunks.arrow", "vectors.faiss", "postings.arrow", "documents.arrow"

_CHUNK_SCHEMA = pa.schema(
    [("id", pa.binary(CHUNK_ID_BYTES)), ("context", pa.string()), ("text", pa.string()), ("length", pa.uint32())]
)
_DOCUMENT_SCHEMA = pa.schema(
    [
        ("document", pa.string()),
        ("kind", pa.string()),
        ("seen", pa.string()),
        ("sha256", pa.string()),
        ("recipe", pa.string()),
        ("title", pa.string()),
        ("metadata", pa.string()),
        ("chunks", pa.list_(pa.binary(CHUNK_ID_BYTES))),
        ("headings", pa.list_(pa.string())),
        ("problem", pa.string()),
        ("detail", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A distinct text and its vector."""

    id: bytes
    context: str
    text: str
    vector: NDArray[np.float32]


def write_segment(
    folder: Path, embedder: EmbedderIdentity, chunks: Sequence[ChunkRow], documents: Sequence[LedgerRow]
) -> SegmentManifest:
    """Write a segment's files into ``folder``; return its manifest. Rows are sorted: equal content, equal bytes."""
    chunks = sorted(chunks, key=lambda chunk: chunk.id)
    documents = sorted(documents, key=lambda row: row.document)
    postings, lengths = build_postings([embedded_text(chunk.context, chunk.text) for chunk in chunks])
    _write_arrow(folder / CHUNKS, _chunk_table(chunks, lengths))
    _write_arrow(folder / POSTINGS, postings)
    _write_arrow(folder / DOCUMENTS, document_table(documents))
    vectors = [np.zeros((0, embedder.dimension), dtype=np.float32), *(chunk.vector[None, :] for chunk in chunks)]
    write_vectors(folder / VECTORS, np.concatenate(vectors))
    files = {name: _stored(folder / name) for name in (CHUNKS, DOCUMENTS, POSTINGS, VECTORS)}
    manifest = SegmentManifest(
        embedder=embedder, chunks=len(chunks), documents=len(documents), terms=postings.num_rows, files=files
    )
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
    return manifest


class Segment:
    """A stored segment; each file is fetched, checked and opened when first asked for."""

    def __init__(self, store: ArtifactStore, prefix: str, digest: str) -> None:
        """``prefix`` is the key without the file name; ``digest`` is that of the manifest."""
        self.prefix = prefix
        self._store = store
        self.manifest = read_record(store, f"{prefix}/{MANIFEST}", SegmentManifest, digest)

    @cached_property
    def chunk_table(self) -> pa.Table:
        """Chunk rows: id, context, text, length (BM25 tokens)."""
        return self._read_arrow(CHUNKS)

    @cached_property
    def chunk_ids(self) -> pa.Array:
        """The ids of the chunk rows."""
        return _column(self.chunk_table, "id")

    @cached_property
    def lengths(self) -> NDArray[np.uint32]:
        """BM25 tokens of each chunk."""
        return np.asarray(_column(self.chunk_table, "length").to_numpy(zero_copy_only=False), dtype=np.uint32)

    @cached_property
    def document_table(self) -> pa.Table:
        """Ledger rows."""
        return self._read_arrow(DOCUMENTS)

    @cached_property
    def postings(self) -> Postings:
        """BM25 postings over the chunk rows."""
        return Postings(self._read_arrow(POSTINGS))

    @cached_property
    def vectors(self) -> VectorIndex:
        """The FAISS index over the chunk rows."""
        index = VectorIndex(self._verified(VECTORS))
        expected = (self.manifest.chunks, self.manifest.embedder.dimension)
        if not index.is_flat or index.shape != expected:
            raise ObjectCorruptError(f"{self.prefix}/{VECTORS} is not a flat index of (rows, dimension) {expected}")
        return index

    def _verified(self, name: str) -> Path:
        key = f"{self.prefix}/{name}"
        expected = self.manifest.files[name].sha256
        for fresh in (False, True):
            path = self._store.fetch(key, fresh=fresh)
            if path is None:
                raise ObjectMissingError(f"{key} is not in {self._store.uri}")
            if sha256_hex(path.read_bytes()) == expected:
                return path
        raise ObjectCorruptError(
            f"{key} in {self._store.uri} does not have the digest {expected[:12]}… that its manifest names"
        )

    def _read_arrow(self, name: str) -> pa.Table:
        with pa.memory_map(str(self._verified(name))) as source:
            return pa.ipc.open_file(source).read_all()


def document_table(rows: Sequence[LedgerRow]) -> pa.Table:
    """Return ledger rows as a table."""
    columns: Mapping[str, Iterable[object]] = {
        "document": [row.document for row in rows],
        "kind": [row.kind for row in rows],
        "seen": [row.seen for row in rows],
        "sha256": [row.sha256 for row in rows],
        "recipe": [row.recipe for row in rows],
        "title": [row.title for row in rows],
        "metadata": [json.dumps(dict(row.metadata), sort_keys=True, ensure_ascii=False) for row in rows],
        "chunks": [list(row.chunks) for row in rows],
        "headings": [list(row.headings) for row in rows],
        "problem": [row.problem for row in rows],
        "detail": [row.detail for row in rows],
    }
    return pa.table(
        {name: pa.array(values, _DOCUMENT_SCHEMA.field(name).type) for name, values in columns.items()},
        schema=_DOCUMENT_SCHEMA,
    )


def ledger_rows(table: pa.Table) -> list[LedgerRow]:
    """Return a table's rows as values."""
    return [
        LedgerRow(
            **{
                **row,
                "metadata": json.loads(row["metadata"]),
                "chunks": tuple(row["chunks"]),
                "headings": tuple(row["headings"]),
            }
        )
        for row in table.to_pylist()
    ]


def _chunk_table(chunks: Sequence[ChunkRow], lengths: NDArray[np.uint32]) -> pa.Table:
    columns = [
        [chunk.id for chunk in chunks],
        [chunk.context for chunk in chunks],
        [chunk.text for chunk in chunks],
        lengths,
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _CHUNK_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=_CHUNK_SCHEMA)


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name).combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column


def _write_arrow(path: Path, table: pa.Table) -> None:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table)


def _stored(path: Path) -> StoredFile:
    data = path.read_bytes()
    return StoredFile(size=len(data), sha256=sha256_hex(data))
