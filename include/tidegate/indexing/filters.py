"""Metadata of documents and filters over it. Front matter wins over path rules; the names below need no metadata."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pathspec

from tidegate.core.errors import ConfigInvalidError, suggest
from tidegate.indexing.snapshot import Snapshot

if TYPE_CHECKING:
    from numpy.typing import NDArray

BUILT_IN = ("document", "kind", "title")
"""Filter keys that every document has; ``document`` also takes shell patterns."""


def document_metadata(snapshot: Snapshot) -> list[dict[str, str]]:
    """Return the metadata of each ledger row in order."""
    rules = [(pathspec.GitIgnoreSpec.from_lines([rule.match]), rule.set) for rule in snapshot.manifest.metadata_rules]
    columns = snapshot.ledger.select(["document", "kind", "title", "metadata"]).to_pydict()
    described = []
    for document, kind, title, own in zip(*columns.values(), strict=True):
        metadata: dict[str, str] = {}
        for spec, values in rules:
            if spec.match_file(document):
                metadata |= values
        described.append(metadata | json.loads(own) | {"document": document, "kind": kind, "title": title})
    return described


def matching_documents(snapshot: Snapshot, filters: Mapping[str, Sequence[str]]) -> NDArray[np.bool_]:
    """Return a mask of ledger rows: every key must match, any of a key's values may.

    Raises ``ConfigInvalidError`` for a key that no document has, naming those that exist.
    """
    described = document_metadata(snapshot)
    keys = set().union(*described) if described else set(BUILT_IN)
    for key in filters:
        if key not in keys:
            raise ConfigInvalidError(f"no document has the metadata key {key!r}{suggest(key, keys)}")
    return np.array(
        [all(_matches(key, row.get(key), filters[key]) for key in filters) for row in described], dtype=np.bool_
    )


def _matches(key: str, value: str | None, wanted: Sequence[str]) -> bool:
    if value is None:
        return False
    if key == "document":
        return value in wanted or any(fnmatch.fnmatchcase(value, pattern) for pattern in wanted)
    return value in wanted or any(item in wanted for item in value.split(", "))
