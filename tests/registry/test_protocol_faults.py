"""Seeded races of promotions, rollbacks, retries and zombies over a store that fails in every way it may.

Each seed decides whose request goes next and what becomes of it. ``TIDEGATE_FAULT_SEED=17`` replays one seed.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_workspace, refresh
from tests.registry.faulty_store import READ_FAULTS, SILENT, WRITE_FAULTS, FaultyStore, KilledError, Request, Turns
from tidegate.core import publishing
from tidegate.core.errors import CommitLostError, CommitUnknownError, ReleaseHeldError, StoreUnavailableError
from tidegate.core.event_records import Actor
from tidegate.core.protocols import ArtifactStore
from tidegate.core.publishing import ATTEMPTS, Outcome
from tidegate.pipelines import promote_release, rollback_release
from tidegate.pipelines.verify_store import verify_corpus
from tidegate.pipelines.workspace import Workspace
from tidegate.registry import channel as channel_module
from tidegate.registry.channel import Channel, Promotion
from tidegate.registry.events import read_events
from tidegate.registry.file_store import FileStore
from tidegate.registry.heads import read_head
from tidegate.registry.store import open_store

SEEDS, S3_SEEDS, PIPELINE_SEEDS = 300, 12, 60
AGAIN = (CommitUnknownError, StoreUnavailableError, KilledError)
"""After these a publisher, or its next try, does the same again."""
Make = Callable[[int], ArtifactStore]
Call = Callable[[], object]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # the power does not fail here


@dataclass(frozen=True)
class Attempt:
    """One call that does an operation: how it ended, and the requests that it made."""

    operation: str
    """Authority of a promotion or reason of a rollback: no two operations share one."""
    ended: type[BaseException] | None
    requests: list[Request]


@dataclass
class Race:
    """What one seed plays: two or three publishers with up to three operations each."""

    corpus = "c"
    generator: random.Random
    store: FaultyStore
    attempts: list[Attempt] = field(default_factory=list)
    calls: list[tuple[str, Call]] = field(default_factory=list)
    """Every operation that was decided, for a zombie to do it once more."""
    releases: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @staticmethod
    def operation(entry: dict[str, Any]) -> str:
        """Return the operation that an entry is."""
        return str(entry["approval"] or entry["policy"] or entry["reason"])

    def was_lost(self, attempt: Attempt) -> bool:
        """Tell whether an attempt that ended as lost says that nobody can do its operation any more."""
        return True

    def publisher(self) -> None:
        for _ in range(self.generator.randint(1, 3)):
            kind = self.generator.choice(["promote", "promote", "roll back", "zombie"])
            if kind == "promote":
                self.promote()
            elif kind == "roll back" and self.releases:
                self.roll_back(self.generator.choice(self.releases))
            elif self.calls:
                self.repeat(*self.generator.choice(self.calls))

    def promote(self) -> None:
        """Decide on the head and promote; decide anew, three times in all, if another was first."""
        self.releases.append(release := f"{len(self.releases) + 1:064x}")
        kind = self.generator.choice(["approval", "policy"])
        for _ in range(3):
            authority, base = f"{next(self.numbers):064x}", self.base()
            promotion = Promotion("promote", release, base, **{kind: authority})
            if self.repeat(authority, self.applied(promotion)) is not CommitLostError:
                return

    def roll_back(self, release: str) -> None:
        """Decide on the head and roll back, anew as long as another is first."""
        ended: type[BaseException] | None = CommitLostError
        while ended is CommitLostError:
            reason = f"reason {next(self.numbers)}"
            ended = self.repeat(reason, self.applied(Promotion("rollback", release, self.base(), reason=reason)))

    def applied(self, promotion: Promotion) -> Call:
        def call() -> None:
            try:
                Channel(self.store, self.corpus).apply(promotion)
            except ReleaseHeldError as error:  # somebody has rolled back to it, and from it, before it was promoted
                raise CommitLostError("it is held") from error

        return call

    def repeat(self, operation: str, call: Call) -> type[BaseException] | None:
        """Do an operation as often as its publisher is patient and does not know the end; return that end."""
        self.calls.append((operation, call))
        for _ in range(self.generator.randint(1, 5)):
            ended = self.attempt(operation, call)
            if ended not in AGAIN:
                break
        return ended

    def attempt(self, operation: str, call: Call) -> type[BaseException] | None:
        before, ended = len(self.store.requests), None
        try:
            call()
        except (CommitLostError, *AGAIN) as error:
            ended = type(error)
        mine = [made for made in self.store.requests[before:] if made.publisher == threading.current_thread().name]
        self.attempts.append(Attempt(operation, ended, mine))
        return ended

    def base(self) -> str | None:
        return self.patiently(lambda: Channel(self.store, self.corpus).read().entry)

    def patiently(self, call: Callable[[], Any]) -> Any:
        while True:
            try:
                return call()
            except AGAIN:
                continue


def draw_faults(generator: random.Random) -> Callable[[str, str], str]:
    """Return a source of faults: how many and of which kinds differs from seed to seed."""
    rate = generator.choice([0.0, 0.2, 0.5, 0.8])
    writes = generator.sample(WRITE_FAULTS, generator.randint(1, len(WRITE_FAULTS)))
    faults = {"read": (rate / 8, READ_FAULTS), "create": (rate / 2, writes), "swap": (rate, writes)}

    def draw(verb: str, key: str) -> str:
        share, kinds = faults.get(verb, (0.8, ["not yet"]))
        return generator.choice(kinds) if generator.random() < share else ""

    return draw


def play(inner: ArtifactStore, seed: int, kind: type[Race] = Race) -> Race:
    """Play one seed and check how it ended."""
    generator = random.Random(seed)
    store = FaultyStore(inner, Turns(generator.randrange), lambda verb, key: "")
    race = kind(generator, store)
    if generator.random() < 0.8:
        race.promote()
    store.draw = draw_faults(generator)
    store.turns.run({f"publisher {number}": race.publisher for number in range(generator.randint(2, 3))})
    store.draw = lambda verb, key: ""
    store.deliver_late()
    check(race)
    return race


def check(race: Race) -> list[dict[str, Any]]:
    """Hold the store's own record of the race against what the publishers were told; return the entries."""
    store, folder = race.store, f"{race.corpus}/channels/champion/entries"
    heads = [json.loads(head) for head in store.heads]
    entries = [json.loads(store.objects[f"{folder}/{head['entry']}.json"]) for head in heads]
    first = heads[0]["seq"] if heads else 1
    assert [head["seq"] for head in heads] == list(range(first, first + len(heads))), "a gap or a fork in the heads"
    assert [entry["prev"] for entry in entries[1:]] == [head["entry"] for head in heads[:-1]], "a gap or a fork"
    for head, entry in zip(heads, entries, strict=True):
        assert all(head[name] == entry[name] for name in ("seq", "op_id", "release"))
    assert {found.key for found in store.list_keys("")} == store.objects.keys(), "an object is gone, or from nowhere"
    for key, data in store.objects.items():
        assert store.inner.read(key).data == data, f"{key} was changed"
    walked = [entry.op_id for _, entry in Channel(store.inner, race.corpus).history()]
    assert walked[: len(heads)] == [head["op_id"] for head in heads][::-1], (
        "the chain is not what the head went through"
    )
    done = Counter(race.operation(entry) for entry in entries)
    for attempt in race.attempts:
        assert not (attempt.ended is CommitLostError and race.was_lost(attempt) and done[attempt.operation]), (
            "lost but live"
        )
        check_attempt(attempt, done[attempt.operation])
    return entries


def check_attempt(attempt: Attempt, done: int) -> None:
    """Hold one end of a call against what was done and what the store had answered."""
    moves = [
        number
        for number, made in enumerate(attempt.requests)
        if made.verb != "read" and made.key.endswith("/champion/HEAD.json")
    ]
    assert done <= 1, "an operation was done twice"
    if attempt.ended is None:
        assert done, "acknowledged but lost"
    elif attempt.ended is StoreUnavailableError:
        assert any(made.fault in SILENT for made in attempt.requests), "unavailable without a fault"
    elif attempt.ended is CommitUnknownError:
        assert len(moves) >= ATTEMPTS, "gave up early"
        for place in moves[-ATTEMPTS:]:
            written, following = attempt.requests[place], attempt.requests[place + 1 :]
            until = next((n for n, made in enumerate(following) if made.verb != "read"), len(following))
            assert SILENT & {written.fault, *(made.fault for made in following[:until])}, "the store had answered"


def play_all(make: Make, seeds: Iterable[int], kind: type[Race] = Race) -> list[Race]:
    """Play seeds, each on a store of its own; a failure names its seed."""
    wanted = os.environ.get("TIDEGATE_FAULT_SEED")
    races = []
    for seed in [int(wanted)] if wanted else seeds:
        try:
            races.append(play(make(seed), seed, kind))
        except BaseException as error:
            error.add_note(f"seed {seed}: replay it with TIDEGATE_FAULT_SEED={seed}")
            raise
    return races


@pytest.fixture
def fresh(tmp_path: Path) -> Make:
    """Makes an empty file store for each seed."""
    return lambda seed: FileStore(Path(tempfile.mkdtemp(dir=tmp_path)))


def test_no_seed_of_faults_breaks_the_channel(fresh: Make) -> None:
    races = play_all(fresh, range(SEEDS))
    if len(races) == SEEDS:
        met = Counter(attempt.ended for race in races for attempt in race.attempts)
        assert set(met) == {None, CommitLostError, *AGAIN}
        assert {made.fault for race in races for made in race.store.requests} == {"", *READ_FAULTS, *WRITE_FAULTS}


def test_no_seed_of_faults_breaks_the_channel_on_s3(s3_uri: str, tmp_path: Path) -> None:
    play_all(lambda seed: open_store(f"{s3_uri}/{seed}", base=tmp_path), range(SEEDS, SEEDS + S3_SEEDS))


def test_a_seed_is_replayed_request_by_request(fresh: Make) -> None:
    first, second = (play(fresh(2), 2) for _ in range(2))
    assert {"publisher 0", "publisher 1"} <= {made.publisher for made in first.store.requests}
    assert first.store.requests == second.store.requests
    assert first.store.heads == second.store.heads


class PipelineRace(Race):
    """The same by way of the pipelines, over real releases: their indexes, events and checks included."""

    corpus = "test"

    @staticmethod
    def operation(entry: dict[str, Any]) -> str:
        return str(entry["reason"] or f"{entry['release']} on {entry['prev']}")

    def was_lost(self, attempt: Attempt) -> bool:
        """A second copy of a rollback is refused once the head has moved; the first may still stand over the move."""
        return not attempt.operation.startswith("reason") or all(
            other.ended is CommitLostError for other in self.attempts if other.operation == attempt.operation
        )

    def promote(self) -> None:
        retrieval = {"top_k": next(self.numbers) + 20, "candidates": 200}
        workspace = make_workspace(Path(), self.store, retrieval=retrieval)
        for _ in range(3):
            candidate = self.patiently(lambda: self.proposed(workspace))
            operation = f"{candidate.release} on {candidate.base_entry}"
            if self.repeat(operation, partial(promote_release.publish, workspace, candidate)) is not CommitLostError:
                break
        self.releases = sorted({entry.release for _, entry in Channel(self.store.inner, "test").history()})

    def proposed(self, workspace: Workspace) -> promote_release.Candidate:
        composition = promote_release.compose(workspace, verified=read_head(self.store, "test").snapshot)
        return promote_release.propose(workspace, composition, None)

    def roll_back(self, release: str) -> None:
        workspace, reason = make_workspace(Path(), self.store), f"reason {next(self.numbers)}"
        asked_on = self.patiently(lambda: rollback_release.serving(workspace))

        def call() -> None:
            who = Actor(id="ada", name="Ada")
            done = rollback_release.rollback(workspace, release, reason, who, asked_on=asked_on)
            if done.outcome == "serves_already":
                raise CommitLostError(reason)

        self.repeat(reason, call)


@pytest.fixture
def released(tmp_path: Path, folder: Path) -> Make:
    """Makes a store with two real releases of one small index for each seed."""
    (folder / "a.md").write_text("# A\n\nThe first version.\n")
    template = FileStore(tmp_path / "template")
    refresh(make_workspace(folder, template))
    refresh(make_workspace(folder, template, retrieval={"top_k": 7}))

    def make(seed: int) -> ArtifactStore:
        return FileStore(shutil.copytree(template.root, tmp_path / f"seed-{seed}"))

    return make


def test_no_seed_of_faults_breaks_the_pipelines(released: Make) -> None:
    for race in play_all(released, range(PIPELINE_SEEDS), PipelineRace):
        verify_corpus(race.store.inner, "test")
        told = [(event.kind, event.what.entry) for event in read_events(race.store.inner, "test", 1000).events]
        assert len(set(told)) == len(told), "an entry has two events"
        acknowledged = {attempt.operation for attempt in race.attempts if attempt.ended is None}
        for digest, entry in Channel(race.store.inner, "test").history():
            if race.operation(entry.model_dump()) in acknowledged:
                assert ("promoted" if entry.op == "promote" else "rolled_back", digest) in told, "no event"


def _lost_without_a_look(*given: object) -> Outcome:
    return Outcome.LOST


def _unknown_without_a_look(*given: object) -> Outcome:
    return Outcome.UNKNOWN


def _id_of_the_try(**what: Any) -> str:
    return os.urandom(32).hex()


def _over_whatever_is_there(store: FaultyStore, key: str, expected: object, *rest: Any) -> Outcome:
    return publishing.advance(store, key, store.inner.read(key), *rest)


@pytest.mark.parametrize(
    ("place", "name", "broken", "found"),
    [
        (publishing, "_read_back", _lost_without_a_look, "lost but live"),
        (publishing, "_read_back", _unknown_without_a_look, "the store had answered"),
        (channel_module, "operation_id", _id_of_the_try, "lost but live"),
        (channel_module, "advance", _over_whatever_is_there, "a gap or a fork in the heads"),
    ],
)
def test_the_seeds_find_a_protocol_that_is_broken(
    fresh: Make, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, broken: Any, found: str
) -> None:
    monkeypatch.delenv("TIDEGATE_FAULT_SEED", raising=False)
    monkeypatch.setattr(place, name, broken)
    with pytest.raises(AssertionError, match=found):
        play_all(fresh, range(SEEDS))
