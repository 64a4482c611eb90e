"""The write protocol over any store: objects once, heads by compare-and-swap, no lost answer taken for a lost race.

A mutation may be applied although its answer is lost, and a client's own retry then reports "precondition failed" for
its own write. So nothing here trusts an error: it reads back and decides APPLIED, LOST or UNKNOWN. UNKNOWN repeats the
same write; nothing is ever deleted. docs/guarantees.md describes the protocol and its crash points.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from tidegate.core.errors import CommitLostError, CommitUnknownError, ObjectCorruptError, StoreUnavailableError
from tidegate.core.failpoints import reach
from tidegate.core.protocols import ArtifactStore, ConflictError, PreconditionFailedError, Stored

ATTEMPTS = 4
_FIRST_WAIT_SECONDS = 0.05


class Outcome(Enum):
    """What became of a compare-and-swap."""

    APPLIED = "applied"
    LOST = "lost"
    UNKNOWN = "unknown"


def create_once(store: ArtifactStore, key: str, data: bytes | Path) -> None:
    """Make sure that an immutable object exists with exactly these bytes, whoever wrote it first.

    Raises ``ObjectCorruptError`` if the key holds other bytes, ``StoreUnavailableError`` if no attempt got an answer.
    """
    for attempt in range(ATTEMPTS):
        try:
            store.create(key, data)
        except PreconditionFailedError:
            _require_same(store, key, data)
        except (ConflictError, StoreUnavailableError):
            if attempt == ATTEMPTS - 1:
                raise StoreUnavailableError(f"no answer while writing {key} to {store.uri}") from None
            time.sleep(_FIRST_WAIT_SECONDS * 2**attempt)
            continue
        return


def advance(
    store: ArtifactStore, key: str, expected: Stored | None, data: bytes, applied: Callable[[bytes], bool]
) -> Outcome:
    """Move a head from ``expected`` (None: it does not exist) to ``data``.

    ``applied`` tells from a head's bytes whether this operation is in its history, so that a later head of someone
    else still counts as APPLIED if it stands on this one.
    """
    for attempt in range(ATTEMPTS):
        try:
            if expected is None:
                store.create(key, data)
            else:
                store.swap(key, data, expected.version)
        except (PreconditionFailedError, ConflictError, StoreUnavailableError):
            outcome = _read_back(store, key, expected, applied)
            if outcome is not Outcome.UNKNOWN:
                return outcome
            time.sleep(_FIRST_WAIT_SECONDS * 2**attempt)
        else:
            return Outcome.APPLIED
    return Outcome.UNKNOWN


def require_applied(outcome: Outcome, what: str) -> None:
    """Raise ``CommitLostError`` or ``CommitUnknownError`` unless the outcome is APPLIED."""
    if outcome is Outcome.LOST:
        raise CommitLostError(f"{what} was not committed: another run moved the head first")
    if outcome is Outcome.UNKNOWN:
        raise CommitUnknownError(f"{what} may or may not be committed: the store gave no answer")


def _read_back(store: ArtifactStore, key: str, expected: Stored | None, applied: Callable[[bytes], bool]) -> Outcome:
    try:
        current = store.read(key)
        if current is not None and applied(current.data):
            return Outcome.APPLIED
    except StoreUnavailableError:
        return Outcome.UNKNOWN
    unchanged = (current and current.version) == (expected and expected.version)
    return Outcome.UNKNOWN if unchanged else Outcome.LOST


def _require_same(store: ArtifactStore, key: str, data: bytes | Path) -> None:
    reach("read-back")
    stored = store.read(key)  # not fetch: a local copy says nothing of the store
    if stored is None or stored.data != (data if isinstance(data, bytes) else data.read_bytes()):
        raise ObjectCorruptError(f"{key} in {store.uri} exists with other bytes than this run made for the same id")
