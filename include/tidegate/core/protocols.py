"""The contracts between the areas. This file imports no third-party library at run time: an adapter depends on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tidegate.core.documents import Listing
    from tidegate.core.records import EmbedderIdentity

Progress = Callable[[int, int], None]
"""Called with (done, total) while long work runs."""


class DocumentSource(Protocol):
    """Where documents come from."""

    opened: int
    """How many documents were opened since this object was made."""

    def list_documents(self) -> Listing:
        """List every document without opening one; raise ``SourceMissingError`` if there is no source."""

    def read(self, document: str) -> bytes:
        """Return one document's bytes; raise ``QuarantineError`` if it cannot be read whole and unchanged."""


class Tokenizer(Protocol):
    """Counts and cuts in the embedder's own tokens, special tokens left out."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text."""

    def cut(self, text: str, limit: int) -> list[str]:
        """Cut one text into consecutive pieces of at most ``limit`` tokens each; joined they are the text."""


class Embedder(Protocol):
    """Turns texts into unit vectors."""

    identity: EmbedderIdentity
    tokenizer: Tokenizer

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return one unit row per text, shape (len(texts), identity.dimension), in the order given."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object read from a store. ``version`` is what :meth:`ArtifactStore.swap` compares (an ETag on S3)."""

    data: bytes
    version: str


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One line of a store's listing."""

    key: str
    size: int
    modified: float
    """Seconds since the epoch, by the store's own clock."""


class ArtifactStore(Protocol):
    """Objects under keys with forward slashes. All methods raise ``StoreUnavailableError`` when no answer came.

    A mutation that raises ``StoreUnavailableError`` or ``ConflictError`` may or may not have been applied: read back.
    """

    uri: str
    bytes_written: int

    def read(self, key: str) -> Stored | None:
        """Return the object, or None if there is none."""

    def fetch(self, key: str, *, fresh: bool = False) -> Path | None:
        """Return a local file with an immutable object's bytes, or None if there is none.

        The file may be an old copy, so the caller checks its digest, and asks for a ``fresh`` one if it is wrong.
        """

    def create(self, key: str, data: bytes | Path) -> None:
        """Write a new object; raise ``PreconditionFailedError`` if the key exists."""

    def swap(self, key: str, data: bytes, version: str) -> None:
        """Replace an object whose version is ``version``; raise ``PreconditionFailedError`` if it is not."""

    def put(self, key: str, data: bytes) -> None:
        """Write or overwrite an object that nothing else relies on (hints, run records, staged bytes)."""

    def list_keys(self, prefix: str) -> Iterator[StoredKey]:
        """Yield the objects below ``prefix`` in key order."""

    def children(self, prefix: str) -> list[str]:
        """Return the names of the folders directly below ``prefix`` ('' or ending in '/'), sorted."""

    def now(self) -> float:
        """Return the time by the store's own clock, seconds since the epoch."""


class PreconditionFailedError(Exception):
    """The store answered 412: the key exists, or its version is another."""


class ConflictError(Exception):
    """The store answered 409: a concurrent write was under way; the outcome of this one is unknown."""
