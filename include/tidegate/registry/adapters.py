"""Adapters in a store: files, then the manifest that names them, then the head, by compare-and-swap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tidegate.core import keys
from tidegate.core.adapter_records import AdapterHead, AdapterManifest
from tidegate.core.canonical import sha256_hex
from tidegate.core.errors import AdapterMissingError
from tidegate.core.failpoints import reach
from tidegate.core.protocols import ArtifactStore, Stored
from tidegate.core.publishing import advance, create_once, require_applied
from tidegate.core.stored_records import read_checked, read_record


@dataclass(frozen=True, slots=True)
class ReadAdapterHead:
    """The head as it was read: its record, and what a compare-and-swap compares."""

    head: AdapterHead | None
    stored: Stored | None


def adapter_key(digest: str, op_id: str) -> str:
    """Return the key of an adapter: ``<digest>.<build8>``."""
    return f"{digest}.{sha256_hex(op_id.encode())[:8]}"


def read_adapter_head(store: ArtifactStore, corpus: str) -> ReadAdapterHead:
    """Return the head of a corpus's adapters."""
    key = keys.adapter_head(corpus)
    stored = store.read(key)
    return ReadAdapterHead(AdapterHead.from_bytes(stored.data, key=key) if stored else None, stored)


def newest_adapter(store: ArtifactStore, corpus: str) -> AdapterHead:
    """Return the head's record; raise ``AdapterMissingError`` before the first adapter."""
    head = read_adapter_head(store, corpus).head
    if head is None:
        raise AdapterMissingError(f"corpus {corpus} in {store.uri} has no adapter yet")
    return head


def read_adapter(store: ArtifactStore, corpus: str, key: str) -> AdapterManifest:
    """Return an adapter's manifest."""
    return read_record(store, keys.adapter_manifest(corpus, key), AdapterManifest, key.partition(".")[0])


def read_adapter_file(store: ArtifactStore, corpus: str, key: str, manifest: AdapterManifest, name: str) -> bytes:
    """Return one file of an adapter; raise ``ObjectMissingError`` or ``ObjectCorruptError``."""
    return read_checked(store, f"{keys.adapter(corpus, key)}/{name}", manifest.files[name].sha256)


def commit_adapter(
    store: ArtifactStore, base: ReadAdapterHead, manifest: AdapterManifest, files: Mapping[str, bytes]
) -> str:
    """Write an adapter, read it back and move the head from ``base`` to it; return its key.

    Committing what is already in the head's history succeeds. Raises ``CommitLostError`` if another adapter was
    committed on the same base, ``CommitUnknownError`` if the store does not say.
    """
    corpus, digest = manifest.corpus, manifest.digest
    key = adapter_key(digest, manifest.op_id)
    for name, data in sorted(files.items()):
        create_once(store, f"{keys.adapter(corpus, key)}/{name}", data)
    create_once(store, keys.adapter_manifest(corpus, key), manifest.to_bytes())
    reach("adapter-written")
    verify_adapter(store, corpus, key)
    head = AdapterHead(seq=manifest.seq, adapter=digest, key=key, op_id=manifest.op_id)
    place = keys.adapter_head(corpus)

    def applied(data: bytes) -> bool:
        current = ReadAdapterHead(AdapterHead.from_bytes(data, key=place), None)
        return find_committed(store, corpus, current, head.op_id, manifest.parent) is not None

    require_applied(advance(store, place, base.stored, head.to_bytes(), applied), f"adapter {digest[:12]}")
    reach("adapter-committed")
    return key


def verify_adapter(store: ArtifactStore, corpus: str, key: str) -> AdapterManifest:
    """Read an adapter back whole; raise ``ObjectMissingError`` or ``ObjectCorruptError``."""
    manifest = read_adapter(store, corpus, key)
    for name in manifest.files:
        read_adapter_file(store, corpus, key, manifest, name)
    return manifest


def place_adapter(store: ArtifactStore, corpus: str, key: str, folder: Path) -> Path:
    """Write the two files that PEFT and vLLM load into ``folder``, and nothing else; return it."""
    manifest = read_adapter(store, corpus, key)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (folder / name).write_bytes(read_adapter_file(store, corpus, key, manifest, name))
    return folder


def find_committed(
    store: ArtifactStore, corpus: str, head: ReadAdapterHead, op_id: str, parent: str | None
) -> str | None:
    """Return the key of an operation's adapter if it is the head, or an ancestor on the same parent, else None.

    On another parent it is made anew: settings that come back make their adapter the newest again.
    """
    by_digest = {name.partition(".")[0]: name for name in store.children(keys.adapters(corpus))}
    key: str | None = head.head.key if head.head else None
    while key is not None:
        manifest = read_adapter(store, corpus, key)
        newest = head.head is not None and key == head.head.key
        if manifest.op_id == op_id and (newest or manifest.parent == parent):
            return key
        key = by_digest.get(manifest.parent or "")
    return None
