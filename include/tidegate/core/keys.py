"""The store's layout: every key is made here, so that docs/store.md, code and collector agree."""

from __future__ import annotations


def segment_prefix(corpus: str, key: str) -> str:
    """Folder of a segment; ``key`` is ``<digest>.<build8>``."""
    return f"{corpus}/segments/{key}"


def snapshot_manifest(corpus: str, digest: str) -> str:
    """Manifest of a snapshot."""
    return f"{corpus}/snapshots/{digest}/manifest.json"


def snapshot_tombstones(corpus: str, digest: str) -> str:
    """Dead rows of a snapshot's segments."""
    return f"{corpus}/snapshots/{digest}/tombstones"


def snapshot_head(corpus: str) -> str:
    """Head of the snapshots: the latest verified one."""
    return f"{corpus}/heads/snapshot.json"


def release(corpus: str, digest: str) -> str:
    """Record of a release."""
    return f"{corpus}/releases/{digest}.json"


def channel_head(corpus: str, channel: str) -> str:
    """Head of a channel."""
    return f"{corpus}/channels/{channel}/HEAD.json"


def channel_entry(corpus: str, channel: str, digest: str) -> str:
    """One promotion or rollback."""
    return f"{corpus}/channels/{channel}/entries/{digest}.json"


def hints(corpus: str, source: str) -> str:
    """Disposable hints of a source."""
    return f"{corpus}/scans/{source}/hints.json.z"


def source_note(corpus: str, source: str) -> str:
    """Where a source was last read from; disposable."""
    return f"{corpus}/scans/{source}/place.json"


def runs(corpus: str) -> str:
    """Folder of all run folders."""
    return f"{corpus}/runs/"
