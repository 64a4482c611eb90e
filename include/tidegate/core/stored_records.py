"""Read a record back and believe it only if its bytes have the digest it was asked for by."""

from __future__ import annotations

from typing import TypeVar

from tidegate.core.canonical import sha256_hex
from tidegate.core.errors import ObjectCorruptError, ObjectMissingError
from tidegate.core.protocols import ArtifactStore
from tidegate.core.records import Record

RecordT = TypeVar("RecordT", bound=Record)


def read_record(store: ArtifactStore, key: str, kind: type[RecordT], digest: str) -> RecordT:
    """Return the record at ``key``; raise ``ObjectMissingError`` or ``ObjectCorruptError``."""
    return kind.from_bytes(read_checked(store, key, digest), key=key)


def read_checked(store: ArtifactStore, key: str, digest: str) -> bytes:
    """Return an object whose SHA-256 must be ``digest``; raise ``ObjectMissingError`` or ``ObjectCorruptError``."""
    stored = store.read(key)
    if stored is None:
        raise ObjectMissingError(f"{key} is not in {store.uri}")
    if sha256_hex(stored.data) != digest:
        raise ObjectCorruptError(f"{key} in {store.uri} does not have the digest {digest[:12]}… by which it is named")
    return stored.data
