"""FAISS flat indexes: exact inner products over unit vectors, one index per segment. The only module that calls FAISS.

Flat, because it is exact and can be masked: a search over live rows equals a search over a rebuilt index, and 100,000
chunks take about 5 ms on one core (docs/adr/0003).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it tells a task's log which CPU variants are not there

import faiss  # noqa: E402 - after its logger is quiet

if TYPE_CHECKING:
    from numpy.typing import NDArray


TIE = 1e-6
"""Inner products that differ by less are equal: FAISS rounds them by batch and place."""


def write_vectors(path: Path, vectors: NDArray[np.float32]) -> None:
    """Write unit vectors, shape (rows, dimension), in FAISS's own format."""
    index: Any = faiss.IndexFlatIP(vectors.shape[1])
    if len(vectors):
        index.add(vectors)
    path.write_bytes(faiss.serialize_index(index).tobytes())  # not write_index: it hides why a disk refuses


class VectorIndex:
    """The vectors of one segment, mapped into memory."""

    def __init__(self, path: Path) -> None:
        """Open a file whose digest has been checked: FAISS itself opens damaged files without a word."""
        self._index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        self.is_flat = isinstance(self._index, faiss.IndexFlatIP)
        self.shape = (int(self._index.ntotal), int(self._index.d))

    @property
    def matrix(self) -> NDArray[np.float32]:
        """The vectors as an array of :attr:`shape`, without a copy."""
        rows, dimension = self.shape
        if not rows:
            return np.zeros(self.shape, dtype=np.float32)
        flat: NDArray[np.float32] = faiss.rev_swig_ptr(self._index.get_xb(), rows * dimension)
        return flat.reshape(self.shape)

    def nearest(
        self, vectors: NDArray[np.float32], allowed: NDArray[np.bool_], depth: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Return, per query vector, (rows, inner products) of its best ``depth`` allowed rows and all their ties."""
        most = int(allowed.sum())
        depth = min(depth, most)
        if not depth:
            return [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)) for _ in vectors]
        bits: Any = np.packbits(allowed, bitorder="little")
        make_selector: Any = faiss.IDSelectorBitmap
        make_parameters: Any = faiss.SearchParameters
        parameters = None if allowed.all() else make_parameters(sel=make_selector(bits))
        wanted = min(depth + 1, most)
        while True:
            products, rows = self._index.search(np.ascontiguousarray(vectors), wanted, params=parameters)
            floors = products[:, depth - 1] - TIE
            if wanted == most or (products[:, -1] < floors).all():
                break
            wanted = min(4 * wanted, most)
        return [
            (found[near >= floor], near[near >= floor])
            for found, near, floor in zip(rows, products, floors, strict=True)
        ]
