"""A channel: a chain of immutable entries, and the head that is the only commit point of what serves.

Like a Git ref: HEAD names an entry, an entry names the one before. An entry that HEAD does not reach never happened.
``op_id`` is derived from what is done, so a zombie, a retry, a clear and a replay do it once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tidegate.core import keys
from tidegate.core.errors import ReleaseHeldError
from tidegate.core.failpoints import reach
from tidegate.core.protocols import ArtifactStore, Stored
from tidegate.core.publishing import Outcome, advance, create_once, require_applied
from tidegate.core.records import ChannelHead, Entry, operation_id
from tidegate.core.stored_records import read_record

CHAMPION = "champion"


@dataclass(frozen=True, slots=True)
class ChannelState:
    """A channel as it was read."""

    head: ChannelHead | None
    stored: Stored | None

    @property
    def entry(self) -> str | None:
        """Digest of the newest entry, None before the first."""
        return self.head.entry if self.head else None

    @property
    def release(self) -> str | None:
        """Id of the release that serves, None before the first."""
        return self.head.release if self.head else None


@dataclass(frozen=True, slots=True)
class Promotion:
    """What is to be done to a channel, and on whose authority."""

    op: Literal["promote", "rollback"]
    release: str
    base_entry: str | None
    """The entry that the decision was made on."""
    approval: str | None = None
    """Digest of a signed approval."""
    policy: str | None = None
    """Digest of the policy that promotes without one."""
    reason: str | None = None


class Channel:
    """One channel of one corpus."""

    def __init__(self, store: ArtifactStore, corpus: str, name: str = CHAMPION) -> None:
        self._store = store
        self._corpus = corpus
        self._name = name
        self._head_key = keys.channel_head(corpus, name)

    def read(self) -> ChannelState:
        """Return the head."""
        stored = self._store.read(self._head_key)
        return ChannelState(ChannelHead.from_bytes(stored.data, key=self._head_key) if stored else None, stored)

    def history(self, start: str | None = None) -> Iterator[tuple[str, Entry]]:
        """Yield (digest, entry) from the newest, or from ``start``, back to the first."""
        digest = start or self.read().entry
        while digest is not None:
            entry = self._entry(digest)
            yield digest, entry
            digest = entry.prev

    def apply(self, promotion: Promotion) -> bool:
        """Do a promotion or rollback once; return False if it had been done before.

        Raises ``CommitLostError`` if the channel is no longer at ``promotion.base_entry``, ``ReleaseHeldError`` if a
        policy would promote a release that was rolled back, and ``CommitUnknownError`` if the store does not say.
        """
        op_id = self.operation(promotion)
        state = self.read()
        if self._contains(state.entry, op_id):
            return False
        if state.entry != promotion.base_entry:
            require_applied(Outcome.LOST, f"{promotion.op} of release {promotion.release[:12]}")
        if promotion.policy and self.is_held(promotion.release):
            raise ReleaseHeldError(f"release {promotion.release[:12]} was promoted before and rolled back")
        entry = Entry(
            corpus=self._corpus,
            channel=self._name,
            seq=state.head.seq + 1 if state.head else 1,
            prev=state.entry,
            op=promotion.op,
            op_id=op_id,
            release=promotion.release,
            approval=promotion.approval,
            policy=promotion.policy,
            reason=promotion.reason,
        )
        create_once(self._store, keys.channel_entry(self._corpus, self._name, entry.digest), entry.to_bytes())
        reach("K13")
        head = ChannelHead(seq=entry.seq, entry=entry.digest, release=entry.release, op_id=op_id)

        def applied(data: bytes) -> bool:
            return self._contains(ChannelHead.from_bytes(data, key=self._head_key).entry, op_id)

        outcome = advance(self._store, self._head_key, state.stored, head.to_bytes(), applied)
        reach("K14")
        require_applied(outcome, f"{promotion.op} of release {promotion.release[:12]}")
        return True

    def has_done(self, promotion: Promotion) -> bool:
        """Tell whether a promotion is in the channel's history."""
        return self._contains(self.read().entry, self.operation(promotion))

    def is_held(self, release: str) -> bool:
        """Tell whether a rollback left a release and no person has promoted it since: no policy may promote it."""
        return release in self.held()

    def held(self) -> set[str]:
        """Return the releases that a rollback left and no person has promoted since."""
        found, approved = set[str](), set[str]()
        later: Entry | None = None
        for _, entry in self.history():
            left = later is not None and later.op == "rollback" and entry.release != later.release
            if left and entry.release not in approved:
                found.add(entry.release)
            if entry.approval:
                approved.add(entry.release)
            later = entry
        return found

    def operation(self, promotion: Promotion) -> str:
        """Return the id of a promotion: what is done, to which state, on whose authority. No run, no try, no clock."""
        return operation_id(
            corpus=self._corpus,
            channel=self._name,
            op=promotion.op,
            release=promotion.release,
            authority=promotion.approval or promotion.policy or promotion.reason,
            base_entry=promotion.base_entry,
        )

    def _contains(self, start: str | None, op_id: str) -> bool:
        return start is not None and any(entry.op_id == op_id for _, entry in self.history(start))

    def _entry(self, digest: str) -> Entry:
        return read_record(self._store, keys.channel_entry(self._corpus, self._name, digest), Entry, digest)
