from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import HashEmbedder
from tidegate.core.documents import LedgerRow, Passage
from tidegate.core.errors import ObjectCorruptError, ObjectMissingError
from tidegate.core.publishing import create_once
from tidegate.indexing.segment import MANIFEST, ChunkRow, Segment, ledger_rows, write_segment
from tidegate.indexing.snapshot import pack_tombstones, unpack_tombstones
from tidegate.registry.file_store import FileStore

EMBEDDER = HashEmbedder()


def chunk(text: str) -> ChunkRow:
    passage = Passage("Title", text, "Title")
    return ChunkRow(passage.chunk_id, "Title", text, EMBEDDER.embed([text])[0])


CHUNKS = [chunk(f"text number {number}") for number in range(5)]
ROWS = [
    LedgerRow("b.md", "markdown", "s2", "s2", "r", "B", {"k": "é"}, (CHUNKS[0].id,), ("B > x",)),
    LedgerRow("a.md", "markdown", "!unreadable", problem="unreadable", detail="why"),
]


def stored(store: FileStore, folder: Path, chunks: list[ChunkRow] = CHUNKS, rows: list[LedgerRow] = ROWS) -> Segment:
    folder.mkdir()
    manifest = write_segment(folder, EMBEDDER.identity, chunks, rows)
    for name in (*manifest.files, MANIFEST):
        create_once(store, f"seg/{name}", folder / name)
    return Segment(store, "seg", manifest.digest)


def test_everything_comes_back(store: FileStore, tmp_path: Path) -> None:
    segment = stored(store, tmp_path / "w")
    ids = sorted(item.id for item in CHUNKS)
    assert segment.chunk_ids.to_pylist() == ids
    by_id = {item.id: item for item in CHUNKS}
    assert [row["text"] for row in segment.chunk_table.to_pylist()] == [by_id[found].text for found in ids]
    assert np.array_equal(segment.vectors.matrix, np.stack([by_id[found].vector for found in ids]))
    assert ledger_rows(segment.document_table) == sorted(ROWS, key=lambda row: row.document)
    assert (segment.manifest.chunks, segment.manifest.documents) == (5, 2)


def test_equal_content_has_equal_bytes_whatever_the_order(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = write_segment(tmp_path / "a", EMBEDDER.identity, CHUNKS, ROWS)
    two = write_segment(tmp_path / "b", EMBEDDER.identity, CHUNKS[::-1], ROWS[::-1])
    assert one.digest == two.digest


def test_a_segment_may_hold_rows_and_no_chunk(store: FileStore, tmp_path: Path) -> None:
    segment = stored(store, tmp_path / "w", [], ROWS)
    assert segment.vectors.matrix.shape == (0, EMBEDDER.identity.dimension)
    assert segment.postings.find(["text"]) == {}


def read_all(store: FileStore, segment: Segment) -> None:
    fresh = Segment(store, "seg", segment.manifest.digest)
    _ = (fresh.chunk_table, fresh.vectors, fresh.postings, fresh.document_table)


@pytest.mark.parametrize("name", ["chunks.arrow", "vectors.faiss", "postings.arrow", "documents.arrow", MANIFEST])
def test_one_flipped_bit_anywhere_is_refused_before_it_is_read(store: FileStore, tmp_path: Path, name: str) -> None:
    segment = stored(store, tmp_path / "w")
    path = store.root / "seg" / name
    data = bytearray(path.read_bytes())
    for place in range(0, len(data), max(1, len(data) // 10)):
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(ObjectCorruptError, match=name):
            read_all(store, segment)
        data[place] ^= 1
    path.unlink()
    with pytest.raises(ObjectMissingError, match=name):
        read_all(store, segment)


def test_masks_come_back_from_their_bits() -> None:
    generator = np.random.default_rng(1)
    masks = [(generator.random(n) < 0.3, generator.random(m) < 0.5) for n, m in ((0, 0), (1, 7), (8, 9), (1000, 3))]
    back = unpack_tombstones(pack_tombstones(masks), [(len(a), len(b)) for a, b in masks])
    assert all(np.array_equal(a, c) and np.array_equal(b, d) for (a, b), (c, d) in zip(masks, back, strict=True))


def test_a_row_keeps_its_values_through_the_table() -> None:
    row = replace(ROWS[0], metadata={"a": "1", "b": '"quoted"'}, headings=("é > ü",))
    from tidegate.indexing.segment import document_table

    assert ledger_rows(document_table([row])) == [row]
