"""Which release a person means: an id or its beginning, ``v12``, ``champion`` or ``candidate``."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from tidegate.core import keys
from tidegate.core.errors import ReleaseMissingError, ReleaseUnknownError
from tidegate.core.protocols import ArtifactStore
from tidegate.registry.channel import Channel

CANDIDATE = "candidate"
_SHOWN = 10


def version(seq: int) -> str:
    """Return the label of the ``seq``-th entry of a channel."""
    return f"v{seq}"


def find_release(store: ArtifactStore, corpus: str, wanted: str) -> str:
    """Return the id of any stored release; raise ``ReleaseUnknownError`` if not exactly one is meant."""
    versions = {entry.seq: entry.release for _, entry in Channel(store, corpus).history()}
    written = {_id(found.key): found.modified for found in store.list_keys(_releases(corpus))}
    if wanted == "champion":
        if not versions:
            raise ReleaseMissingError(f"corpus {corpus} in {store.uri} has no release yet")
        return versions[max(versions)]
    if wanted == CANDIDATE:
        newest = Channel(store, corpus, CANDIDATE).read().release
        if newest and newest not in versions.values():
            return newest
        waiting = written.keys() - versions.values()
        if not waiting:
            raise ReleaseUnknownError(f"corpus {corpus} has no candidate: every release has served")
        return max(waiting, key=lambda release: (written[release], release))
    return choose(wanted, corpus, versions, sorted(written, key=lambda release: -written[release]))


def choose(wanted: str, corpus: str, versions: Mapping[int, str], releases: Collection[str]) -> str:
    """Return the one of ``releases`` (newest first) that is meant by a version or the beginning of an id."""
    label = re.fullmatch(r"v(\d{1,9})", wanted.strip())
    found = {versions.get(int(label[1]))} if label else {name for name in releases if name.startswith(wanted.strip())}
    found &= set(releases)
    if len(found) == 1:
        return str(found.pop())
    newest = {release: version(seq) for seq, release in sorted(versions.items())}
    choices = [f"{newest.get(release, 'not served')} {release[:12]}" for release in releases]
    more = f", … ({len(choices)} in all)" if len(choices) > _SHOWN else ""
    many = f"{len(found)} releases" if found else "no release"
    raise ReleaseUnknownError(
        f"{many} of corpus {corpus} {'begin with' if found else 'is'} {wanted[:80]!r}; "
        f"choices: {', '.join(choices[:_SHOWN]) or 'none'}{more}"
    )


def _releases(corpus: str) -> str:
    return keys.release(corpus, "").removesuffix(".json")


def _id(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".json")
