"""The disposable cache of a source's hints: losing it costs one pass of hashing, never an embedding.

It belongs to one snapshot: read beside any other, it says nothing.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from tidegate.core.documents import Listing
from tidegate.core.protocols import ArtifactStore


@dataclass(frozen=True, slots=True)
class Hints:
    """Hints of the documents that ``snapshot`` holds, as listed under ``settings``."""

    snapshot: str = ""
    settings: str = ""
    documents: Mapping[str, str | None] = field(default_factory=dict)


def hints_of(listing: Listing) -> dict[str, str | None]:
    """Return the hint of each listed document; a problem seen in the listing is part of it."""
    return {
        listed.document: f"{listed.problem} {listed.hint}" if listed.problem and listed.hint else listed.hint
        for listed in listing.documents
    }


def load_hints(store: ArtifactStore, key: str) -> Hints:
    """Return the stored hints; empty ones if there are none or they cannot be read."""
    stored = store.read(key)
    if stored is None:
        return Hints()
    try:
        values = json.loads(zlib.decompress(stored.data))
        return Hints(values["snapshot"], values["settings"], values["documents"])
    except (zlib.error, ValueError, KeyError, TypeError):
        return Hints()


def save_hints(store: ArtifactStore, key: str, hints: Hints) -> None:
    """Overwrite the stored hints."""
    values = {"snapshot": hints.snapshot, "settings": hints.settings, "documents": dict(hints.documents)}
    store.put(key, zlib.compress(json.dumps(values, separators=(",", ":")).encode(), level=1))
