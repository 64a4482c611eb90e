"""Which documents are new, changed, moved or gone: decided from values alone, nothing is opened or written here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.core.documents import ListedDocument, Listing


@dataclass(frozen=True, slots=True)
class KnownDocument:
    """What the last snapshot recorded of a document."""

    seen: str
    """SHA-256 of the bytes last looked at, or '!reason'."""
    sha256: str
    """SHA-256 of the bytes that are indexed, '' if none."""
    current: bool
    """Whether its chunks were made with today's settings."""


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """The difference between a listing and the last snapshot, as sorted document ids."""

    added: tuple[str, ...] = ()
    modified: tuple[str, ...] = ()
    moved: tuple[tuple[str, str], ...] = ()
    """(from, to) pairs of documents with equal bytes."""
    deleted: tuple[str, ...] = ()
    """Gone and not moved."""
    unchanged: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing changed."""
        return not (self.added or self.modified or self.moved or self.deleted)


def suspects(
    listing: Listing, known: Mapping[str, KnownDocument], hints: Mapping[str, str | None]
) -> list[ListedDocument]:
    """Return the documents that must be read to know whether they changed."""
    return [
        listed
        for listed in listing.documents
        if not listed.problem
        and (
            listed.document not in known
            or not known[listed.document].current
            or listed.hint is None
            or hints.get(listed.document) != listed.hint
        )
    ]


def diff(listing: Listing, known: Mapping[str, KnownDocument], seen: Mapping[str, str]) -> ChangeSet:
    """Compare a listing with the known documents.

    ``seen`` holds, for each suspect, the SHA-256 of its bytes or '!reason'. A document that was added is *moved* if a
    deleted one had the same bytes; each deleted document pairs once, in order. A document that the listing cannot
    speak for is kept.
    """
    now = {
        listed.document: f"!{listed.problem}"
        if listed.problem
        else seen.get(listed.document, "") or known[listed.document].seen
        for listed in listing.documents
    }
    gone = sorted(document for document in known.keys() - now.keys() if listing.covers(document))
    fresh = sorted(now.keys() - known.keys())
    modified = tuple(
        sorted(
            document
            for document in now.keys() & known.keys()
            if now[document] != known[document].seen or (document in seen and not known[document].current)
        )
    )
    by_content: dict[str, list[str]] = {}
    for document in reversed(gone):
        if known[document].sha256 and known[document].sha256 == known[document].seen:
            by_content.setdefault(known[document].sha256, []).append(document)
    moved = tuple((by_content[now[new]].pop(), new) for new in fresh if by_content.get(now[new]))
    taken = {old for old, _ in moved} | {new for _, new in moved}
    added = tuple(document for document in fresh if document not in taken)
    deleted = tuple(document for document in gone if document not in taken)
    return ChangeSet(added, modified, moved, deleted, unchanged=len(now) - len(fresh) - len(modified))
