"""Events: what was decided about a release, by whom, why, when and on which evidence, as stored records."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tidegate.core.records import Digest, Part, Record

_FORM = "%Y-%m-%dT%H:%M:%SZ"

EventKind = Literal[
    "evaluated",
    "gate_failed",
    "proposed",
    "superseded",
    "approved",
    "rejected",
    "expired",
    "promoted",
    "rolled_back",
    "refused",
]
"""In the order in which they can befall a release."""


def format_time(seconds: float) -> str:
    """Return seconds since the epoch as ISO 8601 in UTC, cut to whole seconds: ``2026-11-21T10:00:00Z``."""
    return datetime.fromtimestamp(seconds // 1, UTC).strftime(_FORM)


def parse_time(text: str) -> float:
    """Return the seconds since the epoch of what :func:`format_time` makes; raise ``ValueError`` for anything else."""
    try:
        seconds = datetime.strptime(text, _FORM).replace(tzinfo=UTC).timestamp()
    except ValueError:
        seconds = None
    if seconds is None or format_time(seconds) != text:
        raise ValueError(f"{text!r} is not a time like 2026-11-21T10:00:00Z")
    return seconds


def _timestamp(text: str) -> str:
    parse_time(text)
    return text


Timestamp = Annotated[str, AfterValidator(_timestamp)]
"""ISO 8601 in UTC, whole seconds."""


class Actor(Part):
    """Who did it."""

    id: str = Field(min_length=1)
    name: str


POLICY = Actor(id="policy", name="policy")
"""The corpus file decided, not a person."""
AIRFLOW = Actor(id="airflow", name="airflow")
"""A task or the clock, not a person."""


class Subject(Part):
    """What it was done to."""

    release: Digest | None = None
    entry: Digest | None = None
    snapshot: Digest | None = None
    adapter: str | None = None
    """``<digest>.<build8>``."""
    dataset: Digest | None = None


class Event(Record):
    """``events/<time>-<digest8>.json``: one decision."""

    corpus: str
    kind: EventKind
    who: Actor
    what: Subject
    why: str = Field(min_length=1)
    """One sentence."""
    when: Timestamp
    """When it was decided, not when it was written: a retry writes the same event."""
    evidence: dict[str, Digest]
    """Digests by name: ``evaluation``, ``approval``, ``base_entry``, or the release that supersedes."""
    run: str

    @property
    def name(self) -> str:
        """Name under which it is stored; names sort by time."""
        compact = self.when.replace("-", "").replace(":", "")
        return f"{compact}-{self.digest[:8]}"
