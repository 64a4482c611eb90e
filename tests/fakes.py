"""Small real things that stand in for large ones: each implements the true contract."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tidegate.core.errors import StoreUnavailableError
from tidegate.core.protocols import ArtifactStore, ConflictError, Progress, Stored, StoredKey
from tidegate.core.records import EmbedderIdentity

DIMENSION = 32


class WordTokenizer:
    """One token per word: counts and cuts exactly."""

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def cut(self, text: str, limit: int) -> list[str]:
        words = text.split(" ")
        pieces = [" ".join(words[at : at + limit]) for at in range(0, len(words), limit)]
        return [piece + (" " if at < len(pieces) - 1 else "") for at, piece in enumerate(pieces)]


class HashEmbedder:
    """A unit vector drawn from the text's hash: the same text, the same vector, in any batch. Counts its work."""

    def __init__(self, revision: str = "a" * 64) -> None:
        self.identity = EmbedderIdentity(
            id="hash", revision=revision, backend="hash", dtype="float32", dimension=DIMENSION, max_tokens=256
        )
        self.tokenizer = WordTokenizer()
        self.embedded: list[str] = []

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        self.embedded += texts
        seed = self.identity.revision.encode()
        rows = []
        for text in texts:
            bits = np.random.PCG64(int.from_bytes(hashlib.sha256(seed + text.encode()).digest()[:8], "big"))
            row = np.random.Generator(bits).standard_normal(DIMENSION)
            rows.append(row / np.linalg.norm(row))
        return np.array(rows, dtype=np.float32).reshape(len(texts), DIMENSION)


class FaultStore:
    """A store that loses answers: ``faults`` maps the number of a mutation (from 1) to what happens to it.

    ``before``: the request never arrives; ``after``: it is applied and the answer is lost; ``conflict``: 409, which an
    unconditional write never gets.
    """

    def __init__(self, inner: ArtifactStore, faults: dict[int, str] | None = None) -> None:
        self.inner = inner
        self.faults = faults or {}
        self.mutations: list[str] = []
        self.uri = inner.uri

    @property
    def bytes_written(self) -> int:
        return self.inner.bytes_written

    def read(self, key: str) -> Stored | None:
        return self.inner.read(key)

    def fetch(self, key: str, *, fresh: bool = False) -> Path | None:
        return self.inner.fetch(key, fresh=fresh)

    def list_keys(self, prefix: str) -> Iterator[StoredKey]:
        return self.inner.list_keys(prefix)

    def children(self, prefix: str) -> list[str]:
        return self.inner.children(prefix)

    def now(self) -> float:
        return self.inner.now()

    def create(self, key: str, data: bytes | Path) -> None:
        self._mutate(key, lambda: self.inner.create(key, data))

    def swap(self, key: str, data: bytes, version: str) -> None:
        self._mutate(key, lambda: self.inner.swap(key, data, version))

    def put(self, key: str, data: bytes) -> None:
        self._mutate(key, lambda: self.inner.put(key, data), conditional=False)

    def _mutate(self, key: str, apply: Callable[[], None], *, conditional: bool = True) -> None:
        self.mutations.append(key)
        fault = self.faults.get(len(self.mutations))
        if fault == "before" or (fault == "conflict" and not conditional):
            raise StoreUnavailableError(f"injected: request lost ({key})")
        if fault == "conflict":
            raise ConflictError(key)
        apply()
        if fault == "after":
            raise StoreUnavailableError(f"injected: answer lost ({key})")
