"""What a run keeps for itself: its record for people, and staged bytes for its own later tasks."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tidegate.core import keys
from tidegate.core.canonical import canonical_json, sha256_hex
from tidegate.core.errors import StageMissingError
from tidegate.core.protocols import ArtifactStore, Stored


def run_name(started: datetime, identity: str) -> str:
    """Return a run's folder name: sortable by time, stable over retries of the same run."""
    return f"{started.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}-{_suffix(identity)}"


def find_run(store: ArtifactStore, corpus: str, identity: str) -> str | None:
    """Return the folder name of a run by its identity, None if it has none; the newest if there are several."""
    names = [name for name in store.children(keys.runs(corpus)) if name.endswith(f"-{_suffix(identity)}")]
    return names[-1] if names else None


def _suffix(identity: str) -> str:
    return sha256_hex(identity.encode())[:8]


@dataclass(frozen=True, slots=True)
class Run:
    """One run's private folder ``runs/<name>/`` in a corpus."""

    store: ArtifactStore
    corpus: str
    name: str

    def record(self, step: str, values: dict[str, Any]) -> None:
        """Write what a step did or why it failed, for ``tidegate status`` and the run report."""
        self.store.put(self._key(f"{step}.json"), canonical_json(values))

    def stage(self, name: str, data: bytes) -> None:
        """Keep bytes for a later task of this run."""
        self.store.put(self._key(f"staged/{name}"), hashlib.sha256(data).digest() + data)

    def staged(self, name: str) -> bytes:
        """Return staged bytes; raise ``StageMissingError`` if an earlier task left none."""
        stored = self.store.read(self._key(f"staged/{name}"))
        if stored is None:
            raise StageMissingError(f"{self._key(f'staged/{name}')} is not in {self.store.uri}")
        digest, data = stored.data[:32], stored.data[32:]
        if hashlib.sha256(data).digest() != digest:
            raise StageMissingError(f"{self._key(f'staged/{name}')} in {self.store.uri} is damaged")
        return data

    def has_staged(self, name: str) -> bool:
        """Tell whether bytes are staged under a name."""
        return any(
            found.key == self._key(f"staged/{name}") for found in self.store.list_keys(self._key(f"staged/{name}"))
        )

    def _key(self, name: str) -> str:
        return f"{keys.runs(self.corpus)}{self.name}/{name}"


def newest_run(store: ArtifactStore, corpus: str) -> dict[str, Any]:
    """Return the records of the newest run by step, {} before the first."""
    names = store.children(keys.runs(corpus))
    if not names:
        return {}
    prefix = f"{keys.runs(corpus)}{names[-1]}/"
    found = [
        item.key
        for item in store.list_keys(prefix)
        if item.key.count("/") == prefix.count("/") and item.key.endswith(".json")
    ]
    records = {key.rpartition("/")[2].removesuffix(".json"): _note(store.read(key)) for key in found}
    return {step: record for step, record in records.items() if record is not None}


def _note(stored: Stored | None) -> dict[str, Any] | None:
    """Return a run record; one that is damaged says nothing: it is for people, and nothing relies on it."""
    try:
        record = json.loads(stored.data) if stored else None
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
