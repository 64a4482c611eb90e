"""Change capture: from a source and the last snapshot to every new ledger row and every text that needs a vector.

Nothing is published here. A document that cannot be read or parsed becomes a quarantined row and keeps its last good
version; only what a hint cannot vouch for is opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from tidegate.chunking.splitter import split
from tidegate.core.changes import ChangeSet, KnownDocument, diff, suspects
from tidegate.core.documents import CHUNK_ID_BYTES, LedgerRow, ListedDocument, Listing, Passage, QuarantineError
from tidegate.core.errors import QuarantineExceededError, SourceEmptyError
from tidegate.core.progress import ProgressLog
from tidegate.indexing.snapshot import Snapshot
from tidegate.parsing.parser import Parser, kind_of
from tidegate.pipelines.workspace import Workspace

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Capture:
    """What changed, and what the next snapshot needs."""

    changes: ChangeSet
    rows: tuple[LedgerRow, ...]
    removed: tuple[str, ...]
    texts: tuple[tuple[bytes, str, str], ...]
    """(chunk id, context, text) of each distinct text without a vector in the parent, in reading order."""


def capture(
    workspace: Workspace, listing: Listing, parent: Snapshot | None, hints: Mapping[str, str | None]
) -> Capture:
    """Compare a listing with the parent snapshot and read what may have changed.

    Raises ``SourceEmptyError`` or ``QuarantineExceededError`` where a guard of the corpus refuses the change.
    """
    known = parent.known(workspace.recipes) if parent else {}
    if known and not listing.documents and not listing.unlisted and not workspace.config.source.allow_empty:
        raise SourceEmptyError(
            f"the source of corpus {workspace.corpus} lists no document, but the index holds {len(known)}"
        )
    if parent and parent.manifest.embedder.space != workspace.embedder_identity.space:
        parent = None  # its vectors cannot be reused: every document is made anew, and only its names still count
    reading = _Reading(workspace, known, reusable=_by_content(known) if parent else {})
    reading.read_all(suspects(listing, known, hints))
    known |= {document: replace(known[document], current=False) for document in reading.recovered}
    changes = diff(listing, known, reading.seen)
    rows = _new_rows(workspace, listing, parent, reading, changes)
    _refuse_excess(workspace, listing, known, rows)
    removed = tuple(sorted([*changes.deleted, *(old for old, _ in changes.moved)]))
    return Capture(changes, rows, removed, _missing_texts(parent, rows, reading.passages))


def _by_content(known: Mapping[str, KnownDocument]) -> dict[tuple[str, str | None], str]:
    """Return, for each (sha256, kind) that today's settings have parsed, a document that holds it."""
    return {
        (entry.sha256, kind_of(document)): document
        for document, entry in sorted(known.items(), reverse=True)
        if entry.sha256 and entry.current
    }


@dataclass
class _Reading:
    """One pass over the suspects, and what it found."""

    workspace: Workspace
    known: Mapping[str, KnownDocument]
    reusable: Mapping[tuple[str, str | None], str]
    """(sha256, kind) to a document of the parent whose row can be taken over."""
    seen: dict[str, str] = field(default_factory=dict)
    rows: dict[str, LedgerRow] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    """Document to a document of the parent with the same bytes."""
    passages: dict[bytes, Passage] = field(default_factory=dict)
    recovered: list[str] = field(default_factory=list)
    """Documents in quarantine that can be parsed now, although their bytes are the same."""

    def read_all(self, listed: Sequence[ListedDocument]) -> None:
        """Read every suspect; one that fails becomes a quarantined row."""
        parser = Parser()
        progress = ProgressLog("read", "documents")
        try:
            for done, item in enumerate(listed, 1):
                self._read(item.document, parser)
                progress(done, len(listed))
        finally:
            parser.close()

    def _read(self, document: str, parser: Parser) -> None:
        try:
            data = self.workspace.source.read(document)
        except QuarantineError as refused:
            self.seen[document] = f"!{refused.reason}"
            self.rows[document] = _refused(self.workspace, document, f"!{refused.reason}", refused)
            return
        sha256 = hashlib.sha256(data).hexdigest()
        self.seen[document] = sha256
        known = self.known.get(document)
        content = (sha256, kind_of(document))
        as_before = known is not None and known.current and known.seen == sha256
        if known and as_before and known.sha256 == sha256:
            return
        if content in self.reusable:
            self.copies[document] = self.reusable[content]
            return
        try:
            self.rows[document] = self._parsed(document, sha256, data, parser)
        except QuarantineError as refused:
            self.rows[document] = _refused(self.workspace, document, sha256, refused)
        else:
            if as_before:
                self.recovered.append(document)

    def _parsed(self, document: str, sha256: str, data: bytes, parser: Parser) -> LedgerRow:
        kind = kind_of(document) or "text"
        parsed = parser.parse(kind, data)
        passages = split(parsed, self.workspace.tokenizer, self.workspace.limits)
        self.passages.update((passage.chunk_id, passage) for passage in passages)
        return LedgerRow(
            document=document,
            kind=kind,
            seen=sha256,
            sha256=sha256,
            recipe=self.workspace.recipes[kind],
            title=parsed.title,
            metadata=parsed.metadata,
            chunks=tuple(passage.chunk_id for passage in passages),
            headings=tuple(passage.heading for passage in passages),
        )


def _refused(workspace: Workspace, document: str, seen: str, refused: QuarantineError) -> LedgerRow:
    kind = kind_of(document) or "text"
    return LedgerRow(
        document, kind, seen, recipe=workspace.recipes[kind], problem=refused.reason, detail=refused.detail
    )


def _new_rows(
    workspace: Workspace, listing: Listing, parent: Snapshot | None, reading: _Reading, changes: ChangeSet
) -> tuple[LedgerRow, ...]:
    """Return the new row of every added, modified or moved document; a refused one keeps its last good version."""
    problems = {listed.document: listed.problem for listed in listing.documents if listed.problem}
    changed = sorted([*changes.added, *changes.modified, *(new for _, new in changes.moved)])
    rows = {
        document: _refused(workspace, document, f"!{problems[document]}", QuarantineError(problems[document]))
        if document in problems
        else reading.rows.get(document)
        for document in changed
    }
    refused = [document for document, row in rows.items() if row and row.problem]
    old = parent.rows([*reading.copies.values(), *refused]) if parent else {}
    return tuple(
        replace(old[reading.copies[document]], document=document, seen=reading.seen[document], problem="", detail="")
        if row is None
        else _with_last_good(row, old.get(document))
        for document, row in rows.items()
    )


def _with_last_good(row: LedgerRow, old: LedgerRow | None) -> LedgerRow:
    if not row.problem or old is None or not old.sha256:
        return row
    return replace(old, seen=row.seen, recipe=row.recipe, problem=row.problem, detail=row.detail)


def _refuse_excess(
    workspace: Workspace, listing: Listing, known: Mapping[str, KnownDocument], rows: Sequence[LedgerRow]
) -> None:
    """Raise ``QuarantineExceededError`` if more documents failed anew than both limits of the corpus allow."""
    limits = workspace.config.quarantine
    new = [row for row in rows if row.problem and (row.document not in known or known[row.document].seen != row.seen)]
    if len(new) > limits.max_new and len(new) > limits.max_share * len(listing.documents):
        shown = "; ".join(f"{row.document}: {row.problem}" for row in new[:_SHOWN])
        more = f"; and {len(new) - _SHOWN} more" if len(new) > _SHOWN else ""
        raise QuarantineExceededError(
            f"{len(new)} of {len(listing.documents)} documents failed, more than quarantine.max_new {limits.max_new}"
            f" and quarantine.max_share {limits.max_share:g}: {shown}{more}",
            document=new[0].document,
        )


def _missing_texts(
    parent: Snapshot | None, rows: Sequence[LedgerRow], passages: Mapping[bytes, Passage]
) -> tuple[tuple[bytes, str, str], ...]:
    wanted = list(dict.fromkeys(chunk for row in rows for chunk in row.chunks))
    ids = pa.array(wanted, pa.binary(CHUNK_ID_BYTES))
    stored = pc.is_in(ids, value_set=parent.stored_chunk_ids()).to_pylist() if parent else [False] * len(wanted)
    missing = [chunk for chunk, have in zip(wanted, stored, strict=True) if not have]
    return tuple((chunk, passages[chunk].context, passages[chunk].text) for chunk in missing)
