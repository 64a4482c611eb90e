"""``tidegate events``: what was decided about a corpus, newest first, also where an event is damaged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.conftest import settle
from tidegate.core import keys
from tidegate.core.event_records import Actor, Event, Subject
from tidegate.registry.events import write_event
from tidegate.registry.file_store import FileStore

LEAD = Actor(id="7", name="ml_lead")
RELEASE, OTHER, SNAPSHOT, EVALUATION = "a" * 64, "b" * 64, "c" * 64, "d" * 64
ADAPTER = f"{'e' * 64}.{'0' * 8}"
HEADINGS = ["decided (UTC)", "event", "release", "snapshot", "adapter", "by", "why"]


def event(kind: str, time: str, why: str, **what: str) -> Event:
    return Event(
        corpus="documents",
        kind=kind,
        who=LEAD,
        what=Subject(**what),
        why=why,
        when=f"2031-02-03T{time}Z",
        evidence={"evaluation": EVALUATION},
        run="manual__1",
    )


@pytest.fixture
def written(folder: Path, cli: Call, home: Path) -> list[Event]:
    """Three events of the corpus ``documents``, oldest first, later than those of its one release."""
    (folder / "one.md").write_text("# one\n\nfirst\n")
    settle()
    assert cli("refresh", folder).code == 0
    found = [
        event("proposed", "10:00:00", "every rule passed", release=RELEASE, snapshot=SNAPSHOT, adapter=ADAPTER),
        event("rejected", "10:05:00", "too slow\n\x1b[31m", release=RELEASE, snapshot=SNAPSHOT, adapter=ADAPTER),
        event("rolled_back", "11:00:00", "worse answers", release=OTHER),
    ]
    for item in found:
        write_event(store_in(home), item)
    return found


def store_in(home: Path) -> FileStore:
    return FileStore(home / ".tidegate" / "store")


def test_a_person_reads_who_decided_what_and_why_newest_first(written: list[Event], cli: Call) -> None:
    said = cli("events", "--limit", 3)
    assert (said.code, said.err) == (0, "")
    assert [re.split(r"  +", line) for line in said.out.splitlines()] == [
        HEADINGS,
        ["2031-02-03 11:00:00", "rolled_back", "b" * 12, "-", "-", "ml_lead", "worse answers"],
        ["2031-02-03 10:05:00", "rejected", "a" * 12, "c" * 12, "e" * 12, "ml_lead", r"too slow\n\x1b[31m"],
        ["2031-02-03 10:00:00", "proposed", "a" * 12, "c" * 12, "e" * 12, "ml_lead", "every rule passed"],
    ]


def test_the_json_of_events_is_one_whole_event_a_line(written: list[Event], cli: Call) -> None:
    rows = cli("events", "--json", "--limit", 2).rows
    assert [Event.model_validate(row) for row in rows] == written[:0:-1]
    assert rows[0]["evidence"] == {"evaluation": EVALUATION}
    every = cli("events", "--json").rows
    assert every[:2] == rows
    assert (every[3]["kind"], every[3]["who"]["name"]) == ("promoted", "policy")


def test_a_damaged_event_is_named_and_the_others_are_shown(written: list[Event], cli: Call, home: Path) -> None:
    key = keys.event("documents", written[1].name)
    path = home / ".tidegate" / "store" / key
    path.chmod(0o644)
    path.write_bytes(b"{")
    said = cli("events", "--json", "--limit", 3)
    assert (said.code, [row["kind"] for row in said.rows]) == (0, ["rolled_back", "proposed"])
    (line,) = said.err.splitlines()
    assert line.startswith("left out: ")
    assert key in line


def test_a_corpus_without_events_says_so(written: list[Event], cli: Call, home: Path) -> None:
    for key in [item.key for item in store_in(home).list_keys(keys.events("documents"))]:
        (home / ".tidegate" / "store" / key).unlink()
    assert cli("events").out == "corpus documents has no event yet\n"
    assert (cli("events", "--json").code, cli("events", "--json").out) == (0, "")
