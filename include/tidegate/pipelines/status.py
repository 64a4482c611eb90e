"""What a corpus serves and what happened last, read from small records alone: no index is opened."""

from __future__ import annotations

from typing import Any

from tidegate.core import keys
from tidegate.core.protocols import ArtifactStore
from tidegate.registry.adapters import read_adapter_head
from tidegate.registry.channel import CHAMPION, Channel
from tidegate.registry.datasets import read_dataset, read_dataset_head
from tidegate.registry.heads import read_head, read_manifest
from tidegate.registry.releases import read_release
from tidegate.registry.runs import newest_run


def corpus_status(store: ArtifactStore, corpus: str) -> dict[str, Any]:
    """Return champion, head snapshot, counts, quarantine and the newest run's records."""
    head = read_head(store, corpus)
    state = Channel(store, corpus).read()
    manifest = read_manifest(store, corpus, head.snapshot) if head.snapshot else None
    served = read_release(store, corpus, state.release).bundle.snapshot if state.release else None
    dataset = read_dataset_head(store, corpus).dataset
    adapter = read_adapter_head(store, corpus).head
    return {
        "corpus": corpus,
        "release": state.release,
        "version": state.head.seq if state.head else 0,
        "snapshot": head.snapshot,
        "up_to_date": served is not None and served == head.snapshot,
        "documents": manifest.counts.indexed if manifest else 0,
        "chunks": manifest.counts.chunks if manifest else 0,
        "segments": len(manifest.segments) if manifest else 0,
        "quarantine": [item.model_dump() for item in manifest.quarantine] if manifest else [],
        "dataset": dataset,
        "qa": read_dataset(store, corpus, dataset).counts.model_dump() if dataset else None,
        "adapter": adapter.key if adapter else None,
        "last_run": newest_run(store, corpus),
    }


def release_history(store: ArtifactStore, corpus: str, limit: int) -> list[dict[str, Any]]:
    """Return the newest entries of the champion channel, newest first."""
    written = {found.key: found.modified for found in store.list_keys(f"{corpus}/channels/{CHAMPION}/entries/")}
    rows: list[dict[str, Any]] = []
    for digest, entry in Channel(store, corpus).history():
        if len(rows) == limit:
            break
        release = read_release(store, corpus, entry.release)
        snapshot, adapter = release.bundle.snapshot, release.bundle.adapter
        counts = read_manifest(store, corpus, snapshot).counts
        rows.append(
            {
                "version": entry.seq,
                "op": entry.op,
                "release": entry.release,
                "snapshot": snapshot,
                "adapter": adapter.key if adapter else None,
                "serving_mode": release.serving_mode,
                "documents": counts.indexed,
                "chunks": counts.chunks,
                "entry": digest,
                "approval": entry.approval,
                "reason": entry.reason,
                "written": written.get(keys.channel_entry(corpus, CHAMPION, digest)),
            }
        )
    return rows
