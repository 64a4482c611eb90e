"""Refresh an index: detect what changed, embed what is new, commit a verified snapshot. The DAG runs these steps.

The head moves last, after everything it names was written and read back. A kill at any point leaves the old snapshot,
and the next run repeats the work and loses none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tidegate.core import keys
from tidegate.core.changes import ChangeSet
from tidegate.core.errors import SourceIncompleteError, one_line
from tidegate.core.progress import ProgressLog
from tidegate.core.records import SnapshotManifest
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.heads import ReadHead, commit_snapshot, read_head, read_manifest
from tidegate.sources.hints import Hints, hints_of, load_hints, save_hints

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tidegate.pipelines.capture import Capture


@dataclass(frozen=True)
class Plan:
    """A refresh that has something to do."""

    base: ReadHead
    capture: Capture
    hints: dict[str, str | None]
    """What to remember of the listing once the snapshot is committed."""
    unlisted: tuple[str, ...]
    files_opened: int

    def summary(self) -> str:
        """Return what is to be done, in one line for a log."""
        changes = self.capture.changes
        counts = {
            "added": changes.added,
            "modified": changes.modified,
            "moved": changes.moved,
            "deleted": changes.deleted,
        }
        found = (
            ", ".join(f"{len(documents)} {name}" for name, documents in counts.items() if documents)
            or "settings changed"
        )
        return f"documents: {found}, {self.files_opened} opened; chunks: {len(self.capture.texts)} to embed"


@dataclass(frozen=True)
class RefreshReport:
    """What a refresh did, in the words of ``tidegate refresh --json``."""

    snapshot: str
    documents: dict[str, int]
    """``total`` is the sum of added, modified, moved, unchanged and quarantined."""
    chunks: dict[str, int]
    """``live`` is the sum of embedded and reused."""
    files_opened: int
    quarantine: list[dict[str, str]] = field(default_factory=list)

    def summary(self) -> str:
        """Return the report in a few lines for a log."""
        documents = ", ".join(f"{count} {name}" for name, count in self.documents.items() if count or name == "total")
        chunks = ", ".join(f"{count} {name}" for name, count in self.chunks.items())
        bad = [f"in quarantine: {one_line(item['document'])}: {item['reason']}" for item in self.quarantine]
        return "\n".join(
            [
                *bad,
                f"documents: {documents}; {self.files_opened} opened",
                f"chunks: {chunks}",
                f"snapshot {self.snapshot[:12]}",
            ]
        )

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "snapshot": self.snapshot,
            "documents": self.documents,
            "chunks": self.chunks,
            "files_opened": self.files_opened,
            "quarantine": self.quarantine,
        }


def detect(workspace: Workspace) -> Plan | RefreshReport:
    """List the source and compare it with the last snapshot: return a plan, or the report of a run with nothing to do.

    Where every hint of the listing is known, no document is opened and the index itself is not read.
    """
    base = read_head(workspace.store, workspace.corpus)
    listing = workspace.source.list_documents()
    hints = hints_of(listing)
    remembered = load_hints(workspace.store, keys.hints(workspace.corpus, workspace.config.source.kind))
    if not base.snapshot or remembered.snapshot != base.snapshot:
        remembered = Hints()
    vouched = hints == remembered.documents and None not in hints.values() and not listing.unlisted
    if base.snapshot and vouched and remembered.settings == workspace.settings_digest:
        return _unchanged(
            read_manifest(workspace.store, workspace.corpus, base.snapshot), base.snapshot, files_opened=0
        )

    from tidegate.indexing.snapshot import Snapshot
    from tidegate.pipelines.capture import capture

    opened_before = workspace.source.opened
    parent = Snapshot(workspace.store, workspace.corpus, base.snapshot) if base.snapshot else None
    captured = capture(workspace, listing, parent, remembered.documents)
    opened = workspace.source.opened - opened_before
    if parent and captured.changes.is_empty and parent.manifest.metadata_rules == workspace.config.metadata:
        _remember(workspace, parent.digest, hints)
        _require_complete(workspace, listing.unlisted)
        return _unchanged(parent.manifest, parent.digest, files_opened=opened)
    return Plan(base, captured, hints, listing.unlisted, opened)


def embed(workspace: Workspace, texts: Sequence[tuple[bytes, str, str]]) -> NDArray[np.float32]:
    """Return the vectors of a plan's texts, shape (len(texts), dimension)."""
    if not texts:
        import numpy as np

        return np.zeros((0, workspace.embedder_identity.dimension), dtype=np.float32)
    from tidegate.core.documents import embedded_text

    return workspace.embedder.embed(
        [embedded_text(context, text) for _, context, text in texts], ProgressLog("embed", "chunks")
    )


def commit(workspace: Workspace, plan: Plan, vectors: NDArray[np.float32]) -> RefreshReport:
    """Build, verify and commit the next snapshot; raise ``CommitLostError`` if the head moved since :func:`detect`."""
    from tidegate.indexing.builder import build_snapshot
    from tidegate.indexing.segment import ChunkRow
    from tidegate.indexing.snapshot import Snapshot
    from tidegate.indexing.survivors import SnapshotChange

    parent = Snapshot(workspace.store, workspace.corpus, plan.base.snapshot) if plan.base.snapshot else None
    change = SnapshotChange(
        rows=plan.capture.rows,
        removed=plan.capture.removed,
        chunks=tuple(ChunkRow(*text, vector) for text, vector in zip(plan.capture.texts, vectors, strict=True)),
        embedder=workspace.embedder_identity,
        metadata_rules=workspace.config.metadata,
    )
    built = build_snapshot(workspace.store, workspace.corpus, parent, change)
    commit_snapshot(workspace.store, workspace.corpus, plan.base, built.digest, built.manifest)
    _remember(workspace, built.digest, plan.hints)
    _require_complete(workspace, plan.unlisted)
    return _report(built.manifest, built.digest, plan, built.embedded_chunks, built.removed_chunks)


def _remember(workspace: Workspace, snapshot: str, hints: dict[str, str | None]) -> None:
    save_hints(
        workspace.store,
        keys.hints(workspace.corpus, workspace.config.source.kind),
        Hints(snapshot, workspace.settings_digest, hints),
    )


def _require_complete(workspace: Workspace, unlisted: tuple[str, ...]) -> None:
    if unlisted:
        raise SourceIncompleteError(
            f"{len(unlisted)} folders of corpus {workspace.corpus} could not be listed: {', '.join(unlisted[:5])}",
            document=unlisted[0],
        )


def _unchanged(manifest: SnapshotManifest, snapshot: str, *, files_opened: int) -> RefreshReport:
    return _counted(manifest, snapshot, ChangeSet(), files_opened, embedded=0, removed=0)


def _report(manifest: SnapshotManifest, snapshot: str, plan: Plan, embedded: int, removed: int) -> RefreshReport:
    return _counted(manifest, snapshot, plan.capture.changes, plan.files_opened, embedded=embedded, removed=removed)


def _counted(
    manifest: SnapshotManifest, snapshot: str, changes: ChangeSet, files_opened: int, *, embedded: int, removed: int
) -> RefreshReport:
    bad = {item.document for item in manifest.quarantine}
    counts = {
        "added": len(set(changes.added) - bad),
        "modified": len(set(changes.modified) - bad),
        "moved": len({new for _, new in changes.moved} - bad),
    }
    unchanged = manifest.counts.listed - len(bad) - sum(counts.values())
    return RefreshReport(
        snapshot=snapshot,
        documents={
            "total": manifest.counts.listed,
            **counts,
            "deleted": len(changes.deleted),
            "quarantined": len(bad),
            "unchanged": unchanged,
        },
        chunks={
            "live": manifest.counts.chunks,
            "embedded": embedded,
            "reused": manifest.counts.chunks - embedded,
            "removed": removed,
        },
        files_opened=files_opened,
        quarantine=[{"document": item.document, "reason": item.reason} for item in manifest.quarantine],
    )
