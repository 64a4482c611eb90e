"""The documents of a snapshot as a Q&A set refers to them: by name, by a key that survives moves, by their text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from tidegate.core.canonical import sha256_hex
from tidegate.core.documents import Block
from tidegate.core.protocols import ArtifactStore
from tidegate.indexing.snapshot import Snapshot
from tidegate.parsing.markdown import parse_blocks
from tidegate.qa.dataset import KnownDocument
from tidegate.qa.passages import Passages
from tidegate.registry.heads import read_manifest

_MARKUP = frozenset({"markdown", "html"})
_MAX_STEPS = 200
"""Snapshots between two datasets that are looked at for moves; beyond them only the two ends are compared."""
_KEY_DIGITS = 16


class SnapshotDocuments:
    """The indexed documents of one snapshot."""

    def __init__(
        self, store: ArtifactStore, corpus: str, snapshot: str, known: Mapping[str, KnownDocument], since: str | None
    ) -> None:
        """``known`` are the documents that earlier datasets referred to, by key, as they were in snapshot ``since``."""
        self._snapshot = Snapshot(store, corpus, snapshot)
        ledger = self._snapshot.ledger
        columns = ledger.select(["document", "sha256", "kind", "title"]).to_pydict()
        indexed = [row for row in zip(*columns.values(), strict=True) if row[1]]
        self._sha256 = {document: sha256 for document, sha256, _, _ in indexed}
        self._kinds = {document: (kind, title) for document, _, kind, title in indexed}
        self._unindexed = set(columns["document"]) - self._sha256.keys()
        self._by_ending = _endings(self._sha256)
        steps = _steps(store, corpus, snapshot, since)
        self.known = follow_moves(dict(known), [*steps, self._sha256])
        self._keys = {document.path: key for key, document in self.known.items() if document.path in self._sha256}
        self._passages: dict[str, Passages] = {}

    def resolve(self, name: str) -> tuple[str | None, str, str]:
        """Return (document that a name means, rule that it breaks, detail): itself, or the only one that ends so."""
        if name in self._sha256:
            return name, "", ""
        longer = [name.partition("/")[2]] if "/" in name else []
        while longer and "/" in longer[-1]:
            longer.append(longer[-1].partition("/")[2])
        found = sorted({*self._by_ending.get(name, ()), *(ending for ending in longer if ending in self._sha256)})
        if len(found) == 1:
            return found[0], "", ""
        if found:
            shown = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")
            return None, "document_ambiguous", f"{name} may be {shown}"
        state = "is in quarantine and was never indexed" if name in self._unindexed else "is not in the snapshot"
        return None, "document_missing", f"{name} {state}"

    def key(self, document: str) -> str:
        """Return the key of a document; a new one is made from its path."""
        if document not in self._keys:
            key = sha256_hex(document.encode())[:_KEY_DIGITS]
            while key in self.known:  # another document began at this path, and moved away
                key = sha256_hex(f"{key}/{document}".encode())[:_KEY_DIGITS]
            self._keys[document] = key
            self.known[key] = KnownDocument(document, self._sha256[document])
        return self._keys[document]

    def path(self, key: str) -> str | None:
        """Return where the document with a key is now, None if it is gone."""
        known = self.known.get(key)
        return known.path if known and known.path in self._sha256 else None

    def fingerprint(self, document: str) -> str:
        """Return the SHA-256 of a document's indexed bytes."""
        return str(self._sha256[document])

    def load(self, documents: Iterable[str]) -> None:
        """Read the texts of some documents at once."""
        missing = sorted(set(documents) - self._passages.keys())
        for document, texts in self._snapshot.texts(missing).items():
            kind, title = self._kinds[document]
            blocks = parse_blocks("\n\n".join(texts)) if kind in _MARKUP else (Block("text", text) for text in texts)
            self._passages[document] = Passages(title, tuple(blocks))

    def passages(self, document: str) -> Passages:
        """Return the text of a document."""
        self.load([document])
        return self._passages[document]

    def copies(self) -> dict[str, str]:
        """Return, for each key whose document has the same bytes as another's, the first of their keys."""
        by_content: dict[str, list[str]] = defaultdict(list)
        for document, key in self._keys.items():
            by_content[self._sha256[document]].append(key)
        return {key: min(keys) for keys in by_content.values() for key in keys if len(keys) > 1}


def follow_moves(known: dict[str, KnownDocument], ledgers: list[dict[str, str]]) -> dict[str, KnownDocument]:
    """Return known documents as the last ledger (document to SHA-256) has them, through every ledger in between.

    A document that is gone from one ledger to the next has moved to a new one with the same bytes; each new one takes
    one, in order of the keys. One that is gone keeps its last path, and is found again there.
    """
    for ledger in ledgers:
        taken = {document.path for document in known.values()}
        arrived: dict[str, list[str]] = defaultdict(list)
        for path in sorted(ledger.keys() - taken, reverse=True):
            arrived[ledger[path]].append(path)
        for key, document in sorted(known.items()):
            path = document.path
            if path not in ledger and arrived.get(document.sha256):
                path = arrived[document.sha256].pop()
            known[key] = KnownDocument(path, ledger.get(path, document.sha256), document.split)
    return known


def _steps(store: ArtifactStore, corpus: str, snapshot: str, since: str | None) -> list[dict[str, str]]:
    """Return the ledgers between two snapshots, oldest first; [] if ``since`` does not lead to ``snapshot``."""
    between: list[str] = []
    digest = read_manifest(store, corpus, snapshot).parent if since not in (None, snapshot) else since
    while digest is not None and digest != since and len(between) < _MAX_STEPS:
        between.append(digest)
        digest = read_manifest(store, corpus, digest).parent
    if digest != since or since is None:
        return []
    return [_indexed(Snapshot(store, corpus, item)) for item in reversed(between)]


def _indexed(snapshot: Snapshot) -> dict[str, str]:
    columns = snapshot.ledger.select(["document", "sha256"]).to_pydict()
    return {document: sha256 for document, sha256 in zip(*columns.values(), strict=True) if sha256}


def _endings(documents: Iterable[str]) -> dict[str, list[str]]:
    """Return the documents by every ending of their path that begins after a slash."""
    found: dict[str, list[str]] = defaultdict(list)
    for document in documents:
        ending = document
        while "/" in ending:
            ending = ending.partition("/")[2]
            found[ending].append(document)
    return found
