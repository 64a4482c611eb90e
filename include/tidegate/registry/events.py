"""Events in a store: one object per decision, created once, listed newest first."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import get_args

from tidegate.core import keys
from tidegate.core.errors import ObjectCorruptError
from tidegate.core.event_records import Event, EventKind
from tidegate.core.protocols import ArtifactStore
from tidegate.core.publishing import create_once

_ORDER = {kind: number for number, kind in enumerate(get_args(EventKind))}


@dataclass(frozen=True, slots=True)
class EventList:
    """The newest events of a corpus."""

    events: tuple[Event, ...]
    """Newest first; those of one second by what can follow what."""
    damaged: tuple[str, ...]
    """A sentence for each object among them that is no event: the history is shown, and its gaps with it."""


def write_event(store: ArtifactStore, event: Event) -> str:
    """Store an event and return its digest; writing it again is no change."""
    create_once(store, keys.event(event.corpus, event.name), event.to_bytes())
    return event.digest


def read_events(store: ArtifactStore, corpus: str, newest: int) -> EventList:
    """Return the ``newest`` events of a corpus; no other is read."""
    found = deque((item.key for item in store.list_keys(keys.events(corpus))), maxlen=newest)
    events, damaged = [], []
    for key in found:
        try:
            events.append(_read(store, key))
        except ObjectCorruptError as error:
            damaged.append(error.what)
    events.sort(key=lambda event: (event.when, _ORDER[event.kind]), reverse=True)
    return EventList(tuple(events), tuple(damaged))


def _read(store: ArtifactStore, key: str) -> Event:
    stored = store.read(key)
    if stored is None:
        raise ObjectCorruptError(f"{key} in {store.uri} went away while it was read")
    event = Event.from_bytes(stored.data, key=key)
    if keys.event(event.corpus, event.name) != key:
        raise ObjectCorruptError(f"{key} in {store.uri} does not hold the event by which it is named")
    return event
