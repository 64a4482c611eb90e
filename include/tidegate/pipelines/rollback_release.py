"""Let an earlier release serve again: index and adapter as the pair that they were, by one entry of the channel.

A rollback is asked for on what served then (``asked_on``). It stands over a promotion that races with it, it is done
once however often its task runs, and it is refused if something else was promoted before it could be done: nothing is
undone that the person who asked has not seen.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Literal

from tidegate.core import keys
from tidegate.core.errors import (
    CommitLostError,
    ConfigInvalidError,
    ObjectCorruptError,
    ObjectMissingError,
    ReleaseMissingError,
    ReleaseUnknownError,
)
from tidegate.core.event_records import Actor, Event, format_time
from tidegate.core.protocols import ArtifactStore
from tidegate.core.records import Entry, SegmentManifest
from tidegate.core.stored_records import read_record
from tidegate.pipelines.release_events import note_event, release_subject
from tidegate.pipelines.release_names import choose, version
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.adapters import read_adapter
from tidegate.registry.channel import CHAMPION, Channel, Promotion
from tidegate.registry.heads import read_manifest
from tidegate.registry.releases import read_release

MIN_REASON = 3
"""Characters that a reason has at least."""
COMMAND = "tidegate rollback"
"""The run that the event of a rollback by hand names."""

Chain = list[tuple[str, Entry]]
"""(digest, entry) from the newest to the first."""


@dataclass(frozen=True, slots=True)
class PastRelease:
    """A release that served before."""

    id: str
    version: str
    """Label of its newest entry, ``v<seq>``."""
    written: float | None
    """When that entry was written, by the store's clock."""
    snapshot: str
    adapter: str | None
    serving_mode: str
    documents: int


@dataclass(frozen=True, slots=True)
class Rollback:
    """What a rollback did."""

    outcome: Literal["rolled_back", "done_before", "serves_already"]
    """``done_before``: the same rollback was done by an earlier try; ``serves_already``: there was nothing to do."""
    release: str
    """What was asked for."""
    before: str
    """What served before it was done."""
    serves: str
    """What serves now: another one if a release was promoted since."""
    version: str
    """Label of the entry that restored the release, or of what serves already."""


def previous_releases(workspace: Workspace, limit: int | None = None) -> list[PastRelease]:
    """Return the releases of the channel's history that do not serve now, each once, the newest first."""
    store, corpus = workspace.store, workspace.corpus
    written = {found.key: found.modified for found in store.list_keys(_entries(corpus))}
    seen, found = set[str](), list[PastRelease]()
    for digest, entry in Channel(store, corpus).history():
        if len(found) == limit:
            break
        if seen and entry.release not in seen:
            past = _past_release(workspace, entry, written.get(keys.channel_entry(corpus, CHAMPION, digest)))
            found += [past] if past else []
        seen.add(entry.release)
    return found


def _past_release(workspace: Workspace, entry: Entry, written: float | None) -> PastRelease | None:
    """Return what the form shows of an entry's release; None if it is not whole, so that it could not be restored."""
    store, corpus = workspace.store, workspace.corpus
    try:
        bundle = (release := read_release(store, corpus, entry.release)).bundle
        documents = read_manifest(store, corpus, bundle.snapshot).counts.indexed
    except (ObjectMissingError, ObjectCorruptError):
        return None
    return PastRelease(
        id=entry.release,
        version=version(entry.seq),
        written=written,
        snapshot=bundle.snapshot,
        adapter=bundle.adapter.key if bundle.adapter else None,
        serving_mode=release.serving_mode,
        documents=documents,
    )


def find_previous(workspace: Workspace, wanted: str | None) -> str:
    """Return the id of a release of the channel's history, by version or the beginning of its id.

    None means the one that served before, without those that a rollback undid. Raises ``ReleaseUnknownError``.
    """
    return _meant(workspace.corpus, _history(workspace), wanted)


def serving(workspace: Workspace) -> int:
    """Return the number of the entry that serves; raise ``ReleaseMissingError`` if nothing does."""
    return _history(workspace)[0][1].seq


def checked_reason(reason: str) -> str:
    """Return a reason without the space around it; raise ``ConfigInvalidError`` if too little is left."""
    if len(reason.strip()) < MIN_REASON:
        raise ConfigInvalidError(
            f"the reason {reason!r} is shorter than {MIN_REASON} characters",
            next_action="say in a few words why; the reason stays in the channel's history",
        )
    return reason.strip()


def rollback(
    workspace: Workspace,
    release: str | None,
    reason: str,
    who: Actor,
    *,
    asked_on: int | None = None,
    run: str = COMMAND,
) -> Rollback:
    """Let an earlier release serve again (None: the one before), and write the event.

    ``asked_on`` is the number of the entry that served when the rollback was asked for (None: now). Raises
    ``ReleaseUnknownError``, ``ConfigInvalidError`` for the reason, ``CommitLostError`` if something else was promoted
    since it was asked for, ``ObjectMissingError`` or ``ObjectCorruptError`` if the release is not whole.
    """
    reason, chain = checked_reason(reason), _history(workspace)
    newest = chain[0][1]
    again = asked_on is None and newest.op == "rollback" and newest.reason == reason
    target = newest.release if again and release is None else _meant(workspace.corpus, chain, release)
    if asked_on is None:  # a command that was killed and is given again is the same rollback
        asked_on = newest.seq - 1 if again and newest.release == target else newest.seq
    channel, applied = Channel(workspace.store, workspace.corpus), False
    for attempt in count():
        state = channel.read()
        since = takewhile(lambda item: item[1].seq > asked_on, channel.history(state.entry))
        done = next((item for item in since if _is(item[1], target, reason)), None)
        if done:
            before = _note(workspace, *done, who, run)
            outcome: Literal["rolled_back", "done_before"] = "rolled_back" if applied else "done_before"
            return Rollback(outcome, target, before, state.release or target, version(done[1].seq))
        if state.release == target:
            return Rollback("serves_already", target, target, target, version(state.head.seq if state.head else 0))
        if attempt == 0:
            _require_unmoved(workspace, state.head.seq if state.head else 0, asked_on, target)
            require_stored(workspace.store, workspace.corpus, target)
        with contextlib.suppress(CommitLostError):  # a promotion came first: the rollback stands over it
            applied = channel.apply(Promotion("rollback", target, state.entry, reason=reason))
    raise AssertionError("unreachable")


def require_stored(store: ArtifactStore, corpus: str, release: str) -> None:
    """Raise unless every file of a release is in the store with its size: index and adapter, no byte is read."""
    expected = dict(_files(store, corpus, release))
    folders = {key.rpartition("/")[0] for key in expected}
    found = {item.key: item.size for folder in sorted(folders) for item in store.list_keys(f"{folder}/")}
    advice = "choose another release, or restore the object from a copy of the store; what serves now keeps serving"
    for key, size in expected.items():
        if key not in found:
            what = f"{key} of release {release[:12]} is not in {store.uri}"
            raise ObjectMissingError(what, next_action=advice)
        if found[key] != size:
            what = f"{key} of release {release[:12]} has {found[key]} bytes in {store.uri}, its manifest says {size}"
            raise ObjectCorruptError(what, next_action=advice)


def _files(store: ArtifactStore, corpus: str, release: str) -> Iterator[tuple[str, int]]:
    """Yield key and size of every file that serving a release reads."""
    bundle = read_release(store, corpus, release).bundle
    manifest = read_manifest(store, corpus, bundle.snapshot)
    yield keys.snapshot_tombstones(corpus, bundle.snapshot), manifest.tombstones.size
    for reference in manifest.segments:
        folder = keys.segment_prefix(corpus, reference.key)
        segment = read_record(store, f"{folder}/segment.json", SegmentManifest, reference.digest)
        yield from ((f"{folder}/{name}", file.size) for name, file in segment.files.items())
    if bundle.adapter:
        folder = keys.adapter(corpus, bundle.adapter.key)
        adapter = read_adapter(store, corpus, bundle.adapter.key)
        yield from ((f"{folder}/{name}", file.size) for name, file in adapter.files.items())


def _history(workspace: Workspace) -> Chain:
    chain = list(Channel(workspace.store, workspace.corpus).history())
    if not chain:
        raise ReleaseMissingError(f"corpus {workspace.corpus} in {workspace.store.uri} has no release yet")
    return chain


def _meant(corpus: str, chain: Chain, wanted: str | None) -> str:
    if wanted is not None:
        releases = list(dict.fromkeys(entry.release for _, entry in chain))
        return choose(wanted, corpus, {entry.seq: entry.release for _, entry in chain}, releases)
    stood: list[str] = []
    for _, entry in reversed(chain):
        if entry.op == "rollback" and entry.release in stood:
            while stood[-1] != entry.release:
                stood.pop()
        else:
            stood.append(entry.release)
    if len(stood) < 2:
        what = f"nothing served in corpus {corpus} before release {stood[-1][:12]} that was not rolled back"
        raise ReleaseUnknownError(what, next_action="name a release of 'tidegate releases' if it is meant all the same")
    return stood[-2]


def _is(entry: Entry, release: str, reason: str) -> bool:
    """Tell whether an entry is this rollback."""
    return (entry.op, entry.release, entry.reason) == ("rollback", release, reason)


def _require_unmoved(workspace: Workspace, seq: int, asked_on: int, target: str) -> None:
    if seq != asked_on:
        raise CommitLostError(
            f"the rollback to release {target[:12]} was asked for while {version(asked_on)} of corpus "
            f"{workspace.corpus} served, but {version(seq)} serves now",
            next_action="see 'tidegate releases' and ask for a new rollback if what serves now must go too",
        )


def _note(workspace: Workspace, digest: str, entry: Entry, who: Actor, run: str) -> str:
    """Write the event of a rollback unless it has one; return what served before. A retry writes the same bytes."""
    store, corpus = workspace.store, workspace.corpus
    _, replaced = next(Channel(store, corpus).history(entry.prev))
    (stored,) = store.list_keys(keys.channel_entry(corpus, CHAMPION, digest))
    if not _has_event(store, corpus, digest, stored.modified):
        what = release_subject(read_release(store, corpus, entry.release), digest)
        evidence = {"base_entry": entry.prev or "", "replaced": replaced.release}
        why, when = entry.reason or "", stored.modified
        note_event(workspace, "rolled_back", what, why, evidence=evidence, run=run, who=who, when=when)
    return replaced.release


def _has_event(store: ArtifactStore, corpus: str, entry: str, written: float) -> bool:
    """Tell whether an entry has an event; it would be of the entry's second, with which its name begins."""
    second = re.sub("[-:]", "", format_time(written))
    for found in list(store.list_keys(f"{keys.events(corpus)}{second}-")):
        stored = store.read(found.key)
        if stored and Event.from_bytes(stored.data, key=found.key).what.entry == entry:
            return True
    return False


def _entries(corpus: str) -> str:
    return keys.channel_entry(corpus, CHAMPION, "").removesuffix(".json")
