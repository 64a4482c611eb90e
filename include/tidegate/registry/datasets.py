"""Datasets in a store: files, then the manifest that names them, then the head, by compare-and-swap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.core import keys
from tidegate.core.canonical import sha256_hex
from tidegate.core.failpoints import reach
from tidegate.core.protocols import ArtifactStore, Stored
from tidegate.core.publishing import advance, create_once, require_applied
from tidegate.core.records import DatasetHead, DatasetManifest
from tidegate.core.stored_records import read_checked, read_record


@dataclass(frozen=True, slots=True)
class ReadDatasetHead:
    """The head as it was read: its record, and what a compare-and-swap compares."""

    head: DatasetHead | None
    stored: Stored | None

    @property
    def dataset(self) -> str | None:
        """Digest of the dataset, None before the first."""
        return self.head.dataset if self.head else None


def read_dataset_head(store: ArtifactStore, corpus: str) -> ReadDatasetHead:
    """Return the head of a corpus's datasets."""
    key = keys.dataset_head(corpus)
    stored = store.read(key)
    return ReadDatasetHead(DatasetHead.from_bytes(stored.data, key=key) if stored else None, stored)


def read_dataset(store: ArtifactStore, corpus: str, digest: str) -> DatasetManifest:
    """Return a dataset's manifest."""
    return read_record(store, keys.dataset_manifest(corpus, digest), DatasetManifest, digest)


def read_dataset_file(store: ArtifactStore, corpus: str, digest: str, manifest: DatasetManifest, name: str) -> bytes:
    """Return one file of a dataset; raise ``ObjectMissingError`` or ``ObjectCorruptError``."""
    return read_checked(store, f"{keys.dataset(corpus, digest)}/{name}", manifest.files[name].sha256)


def commit_dataset(
    store: ArtifactStore, base: ReadDatasetHead, manifest: DatasetManifest, files: Mapping[str, bytes]
) -> str:
    """Write a dataset, read it back and move the head from ``base`` to it; return its digest.

    Committing what is already in the head's history succeeds. Raises ``CommitLostError`` if another dataset was
    committed on the same base, ``CommitUnknownError`` if the store does not say.
    """
    corpus, digest = manifest.corpus, manifest.digest
    for name, data in sorted(files.items()):
        create_once(store, f"{keys.dataset(corpus, digest)}/{name}", data)
    create_once(store, keys.dataset_manifest(corpus, digest), manifest.to_bytes())
    reach("dataset-written")
    verify_dataset(store, corpus, digest)
    key = keys.dataset_head(corpus)
    head = DatasetHead(seq=manifest.seq, dataset=digest, op_id=manifest.op_id)

    def applied(data: bytes) -> bool:
        return _in_history(store, corpus, DatasetHead.from_bytes(data, key=key), head)

    require_applied(advance(store, key, base.stored, head.to_bytes(), applied), f"dataset {digest[:12]}")
    reach("dataset-committed")
    return digest


def verify_dataset(store: ArtifactStore, corpus: str, digest: str) -> DatasetManifest:
    """Read a dataset back whole; raise ``ObjectMissingError`` or ``ObjectCorruptError``."""
    manifest = read_dataset(store, corpus, digest)
    for name in manifest.files:
        read_dataset_file(store, corpus, digest, manifest, name)
    return manifest


def stored_file(data: bytes) -> dict[str, int | str]:
    """Return size and digest of a file, as a manifest names it."""
    return {"size": len(data), "sha256": sha256_hex(data)}


def _in_history(store: ArtifactStore, corpus: str, current: DatasetHead, wanted: DatasetHead) -> bool:
    dataset: str | None = current.dataset
    seq = current.seq
    while dataset is not None and seq >= wanted.seq:
        if dataset == wanted.dataset:
            return True
        manifest = read_dataset(store, corpus, dataset)
        dataset, seq = manifest.parent, manifest.seq - 1
    return False
