"""The documents of a snapshot as a Q&A set refers to them: by name, by a key that survives moves, by their text."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from tidegate.core.canonical import sha256_hex
from tidegate.core.documents import Block
from tidegate.core.protocols import ArtifactStore
from tidegate.indexing.snapshot import Snapshot
from tidegate.parsing.markdown import parse_blocks
from tidegate.qa.dataset import KnownDocument
from tidegate.qa.passages import Passages
from tidegate.registry.heads import read_manifest

_MARKUP = frozenset({"markdown", "html"})
_BLANK_LINES = re.compile(r"\n[ \t]*\n")
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
        self.known = follow_moves(dict(known), _ledgers(store, corpus, self._snapshot, since, known))
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
            key = _fresh_key(document, self.known)
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
            blocks = _markup_blocks(texts) if kind in _MARKUP else _plain_blocks(texts)
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


def _markup_blocks(texts: Sequence[str]) -> Iterator[Block]:
    """Yield the blocks of a document from its chunks: sentences and tables that were cut are whole again."""
    joined = ""
    for text in texts:
        goes_on = text[:1].islower() and joined.rstrip()[-1:].isalnum()
        joined += ("\n" if goes_on else "\n\n") + text
    last: Block | None = None
    for block in parse_blocks(joined):
        header = block.text.split("\n")[:2]
        if last and block.kind == last.kind == "table" and last.text.split("\n")[:2] == header:
            last = replace(last, text="\n".join([last.text, *block.text.split("\n")[2:]]))
            continue
        if last:
            yield last
        last = block
    if last:
        yield last


def _plain_blocks(texts: Sequence[str]) -> Iterator[Block]:
    for text in texts:
        yield from (Block("text", part) for part in _BLANK_LINES.split(text) if part.strip())


def follow_moves(known: dict[str, KnownDocument], ledgers: Sequence[Mapping[str, str]]) -> dict[str, KnownDocument]:
    """Return known documents as the last ledger (document to SHA-256) has them, through every ledger before it.

    From one ledger to the next a document is where its bytes are: where it was; else, if its path is gone, at any path
    that is no other known document's, and if its path has other bytes now, at a path that did not have them before
    (each path takes one, in order of the keys); else where it was, with other bytes. It is gone if its path is, or now
    holds the bytes of another known document; it keeps its path then, unless that is another's now. What follows a
    document at its path takes its split: it may be an edited version, beside a copy of the old one.
    """
    for before, now in itertools.pairwise(ledgers):
        paths = _paths(known, before, now)
        taken, others = set(paths.values()), {document.sha256 for document in known.values()}
        for key, document in sorted(known.items()):
            replaced = document.path in taken or now.get(document.path) in others
            path = paths.get(key, "" if replaced else document.path)
            known[key] = KnownDocument(path, now.get(path, document.sha256), document.split)
            if path != document.path and document.path in now and not replaced:
                known[_fresh_key(document.path, known)] = replace(document, sha256=now[document.path])
    return known


def _paths(known: Mapping[str, KnownDocument], before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Return where the bytes of known documents are now, by key."""
    paths = {key: document.path for key, document in known.items() if now.get(document.path) == document.sha256}
    taken = set(paths.values())
    free: dict[str, list[str]] = defaultdict(list)
    for path, sha256 in sorted(now.items()):
        if path not in taken:
            free[sha256].append(path)
    for key, document in sorted(known.items()):
        for path in free.get(document.sha256, ()) if key not in paths else ():
            if path not in taken and (document.path not in now or before.get(path) != document.sha256):
                paths[key] = path
                taken.add(path)
                break
    return paths


def _fresh_key(path: str, known: Mapping[str, KnownDocument]) -> str:
    """Return a key made from a path that no known document has."""
    key = sha256_hex(path.encode())[:_KEY_DIGITS]
    while key in known:  # another document began at this path, and moved away
        key = sha256_hex(f"{key}/{path}".encode())[:_KEY_DIGITS]
    return key


def _ledgers(
    store: ArtifactStore, corpus: str, snapshot: Snapshot, since: str | None, known: Mapping[str, KnownDocument]
) -> list[dict[str, str]]:
    """Return the ledgers from ``since`` to a snapshot, oldest first.

    If the one does not lead to the other, only what is known stands for the older.
    """
    between: list[str] = []
    digest: str | None = snapshot.digest
    while digest not in (None, since) and len(between) < _MAX_STEPS:
        digest = read_manifest(store, corpus, digest or "").parent
        between += [digest] if digest else []
    if since is None or digest != since:
        return [{document.path: document.sha256 for document in known.values()}, _indexed(snapshot)]
    older = [_indexed(Snapshot(store, corpus, item)) for item in reversed(between)]
    return [*older, _indexed(snapshot)]


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
