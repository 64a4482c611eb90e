"""Events: pinned bytes, written once, read newest first, with their gaps."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from tests.fakes import FaultStore
from tidegate.core import publishing
from tidegate.core.canonical import sha256_hex
from tidegate.core.event_records import AIRFLOW, POLICY, Actor, Event, Subject, format_time, parse_time
from tidegate.core.protocols import ArtifactStore, Stored
from tidegate.registry.events import read_events, write_event

MakeStore = Callable[[], ArtifactStore]

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
APPROVED = Event(
    corpus="handbook",
    kind="approved",
    who=Actor(id="ml_lead", name="ML lead"),
    what=Subject(release=A, adapter=f"{B}.01234567"),
    why="better on every tag",
    when="2026-11-21T10:00:00Z",
    evidence={"evaluation": B, "base_entry": C},
    run="manual__1",
)


def event(when: str, **fields: Any) -> Event:
    return Event.model_validate(APPROVED.model_dump() | {"when": when, **fields})


class CountingStore(FaultStore):
    """A store that keeps the keys that were read."""

    def __init__(self, inner: ArtifactStore) -> None:
        super().__init__(inner)
        self.reads: list[str] = []

    def read(self, key: str) -> Stored | None:
        self.reads.append(key)
        return super().read(key)


def test_the_stored_bytes_are_these() -> None:
    golden = (
        f'{{"corpus":"handbook","evidence":{{"base_entry":"{C}","evaluation":"{B}"}},"format":1,"kind":"approved",'
        f'"run":"manual__1","what":{{"adapter":"{B}.01234567","dataset":null,"entry":null,"release":"{A}",'
        '"snapshot":null},"when":"2026-11-21T10:00:00Z","who":{"id":"ml_lead","name":"ML lead"},'
        '"why":"better on every tag"}'
    ).encode()
    assert APPROVED.to_bytes() == golden
    assert Event.from_bytes(golden, key="x") == APPROVED
    assert APPROVED.name == f"20261121T100000Z-{sha256_hex(golden)[:8]}"


def test_an_event_is_written_once_whoever_repeats_it(any_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_FIRST_WAIT_SECONDS", 0.0)
    store = FaultStore(any_store(), {1: "after"})
    assert write_event(store, APPROVED) == write_event(any_store(), APPROVED) == APPROVED.digest
    assert [item.key for item in store.list_keys("")] == [f"handbook/events/{APPROVED.name}.json"]
    assert read_events(store, "handbook", 10).events == (APPROVED,)


def test_the_newest_events_come_first_and_no_other_is_read(any_store: MakeStore) -> None:
    store = CountingStore(any_store())
    times = [format_time(parse_time("2026-12-31T23:59:57Z") + second) for second in range(6)]
    for when in (times[3], times[0], times[5], times[2], times[4], times[1]):
        write_event(store, event(when))
    write_event(store, event(times[5], corpus="wiki"))
    store.reads.clear()
    found = read_events(store, "handbook", 3)
    assert [item.when for item in found.events] == [
        "2027-01-01T00:00:02Z",
        "2027-01-01T00:00:01Z",
        "2027-01-01T00:00:00Z",
    ]
    assert len(store.reads) == 3
    assert len(read_events(store, "handbook", 100).events) == 6
    assert read_events(store, "handbook", 0).events == read_events(store, "nothing", 9).events == ()


def test_events_of_one_second_stand_in_the_order_in_which_they_can_follow(any_store: MakeStore) -> None:
    store = any_store()
    for kind in ("promoted", "evaluated", "approved", "proposed"):
        write_event(store, event(APPROVED.when, kind=kind, who=AIRFLOW if kind == "evaluated" else POLICY))
    found = read_events(store, "handbook", 9).events
    assert [item.kind for item in found] == ["promoted", "approved", "proposed", "evaluated"]


def test_a_damaged_event_is_reported_and_hides_no_other(any_store: MakeStore) -> None:
    store = any_store()
    earlier, later = event("2026-11-20T10:00:00Z"), event("2026-11-22T10:00:00Z")
    for item in (earlier, APPROVED, later):
        write_event(store, item)
    cut, edited = f"handbook/events/{APPROVED.name}.json", f"handbook/events/{later.name}.json"
    store.put(cut, APPROVED.to_bytes()[:40])
    store.put(edited, later.to_bytes().replace(b"ml_lead", b"nobody_"))
    found = read_events(store, "handbook", 9)
    assert found.events == (earlier,)
    assert len(found.damaged) == 2
    assert found.damaged[0].startswith(f"{cut} is not a valid Event: the whole object: Invalid JSON")
    assert found.damaged[1] == f"{edited} in {store.uri} does not hold the event by which it is named"


def test_an_event_that_goes_away_while_it_is_read_is_reported(store: ArtifactStore) -> None:
    write_event(store, APPROVED)

    class Emptied(FaultStore):
        def read(self, key: str) -> None:
            return None

    found = read_events(Emptied(store), "handbook", 9)
    assert found.events == ()
    assert found.damaged == (f"handbook/events/{APPROVED.name}.json in {store.uri} went away while it was read",)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"when": "2026-11-21 10:00:00"}, "'2026-11-21 10:00:00' is not a time like 2026-11-21T10:00:00Z"),
        ({"when": "2026-11-21T10:00:00.5Z"}, "is not a time like"),
        ({"when": "2026-1-21T10:00:00Z"}, "is not a time like"),
        ({"when": "2026-02-30T10:00:00Z"}, "is not a time like"),
        ({"kind": "guessed"}, "Input should be 'evaluated', 'gate_failed'"),
        ({"why": ""}, "at least 1 character"),
        ({"who": {"id": "", "name": ""}}, "at least 1 character"),
        ({"comment": "x"}, "Extra inputs are not permitted"),
        ({"what": {"replica": "x"}}, "Extra inputs are not permitted"),
    ],
)
def test_an_event_that_is_not_whole_cannot_be_made(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Event.model_validate(APPROVED.model_dump() | fields)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1970-01-01T00:00:00Z"), (1_795_255_200.999, "2026-11-21T10:00:00Z"), (1_709_164_800, "2024-02-29T00:00:00Z")],
)
def test_times_are_whole_seconds_in_utc(seconds: float, text: str) -> None:
    assert format_time(seconds) == text
    assert parse_time(text) == int(seconds)
