"""The values that travel from a source to a segment: listed, parsed, split and recorded documents."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

CHUNK_ID_BYTES = 16

QUARANTINE_REASONS: Mapping[str, str] = {
    "bad_encoding": "the bytes are not valid UTF-8 (or the encoding that the file declares)",
    "broken_link": "a symbolic link that points nowhere",
    "changing": "the file kept changing while it was read",
    "corrupt": "the file does not follow its format",
    "empty": "the file has no bytes",
    "encrypted": "the file needs a password",
    "name_conflict": "another file has the same name after Unicode normalisation",
    "no_text": "the file holds no text (a scan, pictures only, or markup only)",
    "not_regular": "not a regular file (a pipe, a socket, a device)",
    "not_text": "binary bytes where text was expected",
    "outside_root": "a symbolic link that leaves the source's folder",
    "too_complex": "parsing ran into its time, memory or output limit",
    "too_large": "larger than source.max_document_bytes",
    "unreadable": "the file could not be opened or read",
}
"""Why a document is in quarantine: code and meaning. docs/runbook.md has a line for each."""


class QuarantineError(Exception):
    """One document cannot be indexed; ``reason`` is a key of :data:`QUARANTINE_REASONS`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class ListedDocument:
    """One document as a listing shows it, without opening it."""

    document: str
    """Corpus-relative path with forward slashes, NFC-normalised: the document's identity."""
    size: int
    """Bytes."""
    hint: str | None
    """Equal hints mean equal content; None where the source cannot promise that yet (racy timestamps)."""
    problem: str = ""
    """A quarantine reason already known from the listing, or ''."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a source holds. ``unlisted`` names the path prefixes that could not be listed ('' = anything)."""

    documents: tuple[ListedDocument, ...]
    unlisted: tuple[str, ...] = ()

    def covers(self, document: str) -> bool:
        """Tell whether absence of ``document`` from this listing means that it is gone."""
        return not any(document.startswith(prefix) for prefix in self.unlisted)


BlockKind = Literal["heading", "text", "code", "table"]


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a parsed document that should stay whole where it fits."""

    kind: BlockKind
    text: str
    level: int = 0
    """Heading level from 1; 0 for other kinds."""
    page: int = 0
    """Page of a paged format from 1; 0 otherwise."""


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """What a parser makes of one document's bytes."""

    title: str
    blocks: tuple[Block, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk as one document holds it."""

    context: str
    """Title path; part of what is embedded, so that a passage keeps its subject."""
    text: str
    heading: str
    """Where in the document it stands, for people: title path and page. Not part of the chunk's identity."""

    @property
    def chunk_id(self) -> bytes:
        """The identity of the distinct text: the first 16 bytes of the SHA-256 of what is embedded."""
        return hashlib.sha256(embedded_text(self.context, self.text).encode()).digest()[:CHUNK_ID_BYTES]


def embedded_text(context: str, text: str) -> str:
    """Return the text that is embedded and tokenised for a chunk."""
    return f"{context}\n{text}" if context else text


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One document of a snapshot. Content only: no clock, no inode, no path of a machine."""

    document: str
    kind: str
    """The parser: markdown, html, pdf or text."""
    seen: str
    """SHA-256 of the bytes last looked at, or '!reason' where they could not be read."""
    sha256: str = ""
    """SHA-256 of the bytes that are indexed; '' if no version ever parsed."""
    recipe: str = ""
    """Digest of parser, splitter and embedder settings that made the chunks."""
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    chunks: tuple[bytes, ...] = ()
    headings: tuple[str, ...] = ()
    problem: str = ""
    """Quarantine reason of the bytes last seen; the indexed version, if any, is the last good one."""
    detail: str = ""
