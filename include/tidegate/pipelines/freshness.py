"""How far an index is behind its documents: what is held back, since when, and what nothing explains."""

from __future__ import annotations

from tidegate.core import keys
from tidegate.core.evaluation_records import Freshness
from tidegate.core.protocols import ArtifactStore
from tidegate.core.records import SnapshotManifest
from tidegate.indexing.snapshot import Snapshot
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.heads import read_head, read_manifest

_DAY = 86_400.0
_LOOKED_BACK = 60
"""Snapshots that are looked at for the first sight of a held document."""


def freshness_of(workspace: Workspace, snapshot: str) -> Freshness:
    """Compare a snapshot with the newest one, which is what capture last saw of the documents.

    A document is held while it is in quarantine: the index has an older version of it, or none. A passage is stale
    without explanation if its document is not held and has other bytes, or none, in the newest snapshot.
    """
    store, corpus = workspace.store, workspace.corpus
    manifest = read_manifest(store, corpus, snapshot)
    held = {item.document for item in manifest.quarantine}
    return Freshness(
        documents=max(manifest.counts.listed, len(held)),
        held=len(held),
        held_days=_held_days(store, corpus, snapshot, manifest),
        unexplained_stale=_stale_passages(workspace, snapshot, held),
    )


def _stale_passages(workspace: Workspace, snapshot: str, held: set[str]) -> int:
    newest = read_head(workspace.store, workspace.corpus).snapshot
    if newest is None or newest == snapshot:
        return 0
    old, new = (Snapshot(workspace.store, workspace.corpus, digest) for digest in (snapshot, newest))
    documents = old.ledger.column("document").to_pylist()
    then, now = old.rows(documents), new.rows(documents)
    stale = [
        document
        for document, row in then.items()
        if row.sha256 and document not in held and (document not in now or now[document].sha256 != row.sha256)
    ]
    return sum(len(texts) for texts in old.texts(stale).values())


def _held_days(store: ArtifactStore, corpus: str, snapshot: str, manifest: SnapshotManifest) -> float:
    """Return the age in days, by the store's clock, of the oldest snapshot in a row that held the same document."""
    held = {item.document for item in manifest.quarantine}
    if not held:
        return 0.0
    oldest, digest, found = snapshot, manifest.parent, held
    for _ in range(_LOOKED_BACK):
        if digest is None:
            break
        manifest = read_manifest(store, corpus, digest)
        found = found & {item.document for item in manifest.quarantine}
        if not found:
            break
        oldest, digest = digest, manifest.parent
    key = keys.snapshot_manifest(corpus, oldest)
    written = next(item.modified for item in store.list_keys(key))
    return max(0.0, (store.now() - written) / _DAY)
