"""A snapshot opened from a store: its segments with their live rows, and its ledger."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tidegate.core import keys
from tidegate.core.changes import KnownDocument
from tidegate.core.documents import CHUNK_ID_BYTES, LedgerRow
from tidegate.core.protocols import ArtifactStore
from tidegate.core.records import SnapshotManifest
from tidegate.core.stored_records import read_checked, read_record
from tidegate.indexing.segment import Segment, document_table, ledger_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Snapshot:
    """One version of an index. Segments are opened at once, their files when first needed."""

    def __init__(self, store: ArtifactStore, corpus: str, digest: str) -> None:
        self.digest = digest
        self.corpus = corpus
        self.manifest = read_record(store, keys.snapshot_manifest(corpus, digest), SnapshotManifest, digest)
        self.segments = [
            Segment(store, keys.segment_prefix(corpus, reference.key), reference.digest)
            for reference in self.manifest.segments
        ]
        dead = self._tombstones(store)
        self.live_chunks = [~chunks for chunks, _ in dead]
        self.live_documents = [~documents for _, documents in dead]

    @cached_property
    def ledger(self) -> pa.Table:
        """The live ledger rows of all segments, sorted by document."""
        tables = [
            segment.document_table.filter(pa.array(live))
            for segment, live in zip(self.segments, self.live_documents, strict=True)
        ]
        if not tables:
            return ledger_table_of([])
        return pa.concat_tables(tables).sort_by("document").combine_chunks()

    def known(self, recipes: Mapping[str, str]) -> dict[str, KnownDocument]:
        """Return what is known of each document; ``recipes`` maps a kind to today's recipe."""
        columns = self.ledger.select(["document", "kind", "seen", "sha256", "recipe"]).to_pydict()
        return {
            document: KnownDocument(seen, sha256, current=recipes.get(kind) == recipe)
            for document, kind, seen, sha256, recipe in zip(*columns.values(), strict=True)
        }

    def rows(self, documents: Sequence[str]) -> dict[str, LedgerRow]:
        """Return the ledger rows of some documents."""
        wanted = self.ledger.filter(
            pc.is_in(self.ledger.column("document"), value_set=pa.array(documents, pa.string()))
        )
        return {row.document: row for row in ledger_rows(wanted)}

    def texts(self, documents: Sequence[str]) -> dict[str, list[str]]:
        """Return the chunk texts of some documents in reading order."""
        rows = self.rows(documents)
        wanted = pa.array(sorted({chunk for row in rows.values() for chunk in row.chunks}), pa.binary(CHUNK_ID_BYTES))
        found: dict[bytes, str] = {}
        for segment in self.segments:
            table = segment.chunk_table.select(["id", "text"]).filter(pc.is_in(segment.chunk_ids, value_set=wanted))
            found.update(zip(*table.to_pydict().values(), strict=True))
        return {document: [found[chunk] for chunk in row.chunks] for document, row in rows.items()}

    def stored_chunk_ids(self) -> pa.Array:
        """Return the ids of all chunks whose vectors this snapshot's segments hold, dead ones included."""
        return pa.concat_arrays(
            [segment.chunk_ids for segment in self.segments] or [pa.array([], pa.binary(CHUNK_ID_BYTES))]
        )

    def _tombstones(self, store: ArtifactStore) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        key = keys.snapshot_tombstones(self.corpus, self.digest)
        data = read_checked(store, key, self.manifest.tombstones.sha256)
        return unpack_tombstones(
            data, [(reference.chunks, reference.documents) for reference in self.manifest.segments]
        )


def ledger_table_of(rows: Sequence[LedgerRow]) -> pa.Table:
    """Return ledger rows as a table sorted by document."""
    return document_table(sorted(rows, key=lambda row: row.document))


def content_root(ledger: pa.Table) -> str:
    """Return the digest of the indexed documents of a ledger sorted by document: names, bytes and chunks, no keys."""
    digest = hashlib.sha256()
    for document, sha256, chunks in _contents(ledger):
        if sha256:
            digest.update(f"{document}\0{sha256}\0{len(chunks)}\0".encode())
            digest.update(chunks)
    return digest.hexdigest()


def _contents(ledger: pa.Table) -> Iterator[tuple[str, str, bytes]]:
    documents = ledger.column("document").to_pylist()
    digests = ledger.column("sha256").to_pylist()
    chunks = ledger.column("chunks").to_pylist()
    for document, sha256, ids in zip(documents, digests, chunks, strict=True):
        yield document, sha256, b"".join(ids)


def pack_tombstones(dead: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> bytes:
    """Return the dead rows, (chunks, documents) of each segment in order, as compressed bits."""
    bits = [np.packbits(mask, bitorder="little").tobytes() for pair in dead for mask in pair]
    return zlib.compress(b"".join(bits), level=6)


def unpack_tombstones(
    data: bytes, sizes: Sequence[tuple[int, int]]
) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Invert :func:`pack_tombstones`; ``sizes`` are the rows (chunks, documents) of each segment."""
    packed = np.frombuffer(zlib.decompress(data), dtype=np.uint8)
    dead = []
    at = 0
    for pair in sizes:
        masks = []
        for rows in pair:
            size = (rows + 7) // 8
            masks.append(np.unpackbits(packed[at : at + size], count=rows, bitorder="little").astype(np.bool_))
            at += size
        dead.append((masks[0], masks[1]))
    return dead
