"""A store that decides which request goes next and what becomes of it, so that a race with faults can be replayed.

The publishers are threads of which one moves at a time: every request waits for its turn, and ``pick`` says whose it
is. With a seeded ``pick`` a run is repeated exactly; with :func:`every_choice` all runs are made.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tidegate.core.errors import StoreUnavailableError
from tidegate.core.protocols import ArtifactStore, ConflictError, PreconditionFailedError, Stored, StoredKey

Pick = Callable[[int], int]
"""Returns a number below the one that it is given."""

READ_FAULTS = ("slow", "503 before")
WRITE_FAULTS = ("slow", "409", "412 applied", "503 before", "503 after", "503 late", "killed before", "killed after")
SILENT = frozenset({"409", "412 applied", "503 before", "503 after", "503 late"})
"""Faults after which a publisher does not know what became of its request."""


class KilledError(BaseException):
    """The publisher is gone; nothing of it may run on."""


class Turns:
    """Threads of which exactly one runs: at every :meth:`wait` one of those that wait is picked."""

    def __init__(self, pick: Pick) -> None:
        self._pick = pick
        self._waiting: dict[str, threading.Event] = {}
        self._running = False
        self._arrived: set[str] = set()

    def run(self, tasks: Mapping[str, Callable[[], None]]) -> None:
        """Run the tasks to their ends, each in a thread of its name; raise what the first of them raised."""
        errors: list[BaseException] = []
        done = threading.Event()

        def body(name: str, task: Callable[[], None]) -> None:
            self._waiting[name].wait()
            del self._waiting[name]
            self._arrived.add(name)
            try:
                task()
            except BaseException as error:  # noqa: BLE001 - raised again below
                errors.append(error)
            if self._waiting:
                self._go_on()
            else:
                done.set()

        self._waiting = {name: threading.Event() for name in tasks}
        for name, task in tasks.items():
            threading.Thread(target=body, args=(name, task), name=name).start()
        self._running = True
        self._go_on()
        done.wait()
        self._running = False
        if errors:
            raise errors[0]

    def wait(self) -> None:
        """Let another thread go first, or the same again; outside of :meth:`run` there is nobody to wait for."""
        name, turn = threading.current_thread().name, threading.Event()
        if name in self._arrived:
            self._arrived.remove(name)  # it was picked for this, its first step
        elif self._running:
            self._waiting[name] = turn
            if self._go_on() is not turn:
                turn.wait()
            del self._waiting[name]

    def _go_on(self) -> threading.Event:
        turn = self._waiting[sorted(self._waiting)[self._pick(len(self._waiting))]]
        turn.set()
        return turn


@dataclass(frozen=True)
class Request:
    """One request as a publisher saw it."""

    publisher: str
    verb: str
    key: str
    fault: str


@dataclass
class FaultyStore:
    """Requests to ``inner``, each in its turn, with the fault that ``draw(verb, key)`` names, '' for none.

    Keeps its own record of what the store was made to hold: every object that was created and every head in order.
    """

    inner: ArtifactStore
    turns: Turns
    draw: Callable[[str, str], str]
    gives_way: Callable[[str, str], bool] = lambda verb, key: True
    requests: list[Request] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    heads: list[bytes] = field(default_factory=list)
    _late: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Take what the store holds already into the record."""
        self.uri = self.inner.uri
        self.bytes_written = 0
        for found in self.inner.list_keys(""):
            stored = self.inner.read(found.key)
            assert stored is not None
            self._note(found.key, stored.data)

    def read(self, key: str) -> Stored | None:
        fault = self._begin("read", key)
        if fault == "503 before":
            raise StoreUnavailableError(f"injected: no answer ({key})")
        stored = self.inner.read(key)
        self._answer(fault)
        return stored

    def create(self, key: str, data: bytes | Path) -> None:
        def apply() -> None:
            self.inner.create(key, data)
            self._note(key, data)

        self._write("create", key, apply)

    def swap(self, key: str, data: bytes, version: str) -> None:
        def apply() -> None:
            self.inner.swap(key, data, version)
            self._note(key, data)

        self._write("swap", key, apply)

    def put(self, key: str, data: bytes) -> None:
        raise AssertionError(f"what serves is never written without a condition: {key}")

    def fetch(self, key: str, *, fresh: bool = False) -> Path | None:
        return self.inner.fetch(key, fresh=fresh)

    def list_keys(self, prefix: str) -> Iterator[StoredKey]:
        return self.inner.list_keys(prefix)

    def children(self, prefix: str) -> list[str]:
        return self.inner.children(prefix)

    def now(self) -> float:
        return self.inner.now()

    def deliver_late(self) -> None:
        """Let every request arrive that is still under way."""
        while self._late:
            self._late.pop()()

    def _note(self, key: str, data: bytes | Path) -> None:
        self.objects[key] = data if isinstance(data, bytes) else data.read_bytes()
        if key.endswith("/champion/HEAD.json"):
            self.heads.append(self.objects[key])

    def _begin(self, verb: str, key: str) -> str:
        if self.gives_way(verb, key):
            self.turns.wait()
        if self._late and not self.draw("late", key):
            self._late.pop(0)()
        fault = self.draw(verb, key)
        self.requests.append(Request(threading.current_thread().name, verb, key, fault))
        if fault == "slow":
            self.turns.wait()
        return fault

    def _answer(self, fault: str) -> None:
        if fault == "slow":
            self.turns.wait()

    def _write(self, verb: str, key: str, apply: Callable[[], None]) -> None:
        fault = self._begin(verb, key)
        if fault == "killed before":
            raise KilledError
        if fault == "503 before":
            raise StoreUnavailableError(f"injected: request lost ({key})")
        if fault == "409":
            raise ConflictError(key)
        if fault == "503 late":
            self._late.append(lambda: _unless_refused(apply))
            raise StoreUnavailableError(f"injected: request on its way ({key})")
        apply()
        self._answer(fault)
        if fault == "killed after":
            raise KilledError
        if fault == "412 applied":
            raise PreconditionFailedError(key)
        if fault == "503 after":
            raise StoreUnavailableError(f"injected: answer lost ({key})")


def _unless_refused(apply: Callable[[], None]) -> None:
    try:
        apply()
    except PreconditionFailedError:
        return


def every_choice(play: Callable[[Pick], None]) -> int:
    """Call ``play`` once for every sequence of picks that it can make; return how many those were."""
    runs, planned = 0, [0]
    while True:
        widths: list[int] = []

        def pick(width: int) -> int:
            place = len(widths)  # noqa: B023 - the list of this run
            widths.append(width)  # noqa: B023
            if place == len(planned):
                planned.append(0)
            return planned[place]

        play(pick)
        runs += 1
        del planned[len(widths) :]
        while planned and planned[-1] == widths[len(planned) - 1] - 1:
            planned.pop()
        if not planned:
            return runs
        planned[-1] += 1
