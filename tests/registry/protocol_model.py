"""An explicit-state model of a channel: every order of every step, kill and lost request of its publishers.

An entry is named by its whole chain, as a digest names it: ``P0 P1 R`` is a rollback on P1 on P0; the second try of an
operation that takes a new id is ``P1.1``. A publisher reads the head, puts its entry, swaps the head. It may be killed
anywhere and start again, even after it was done (a cleared run), and may lose sight of one request to move the head:
the store gets that request at any later moment or never. This covers an answer lost before the write, after it, and a
request that arrives late.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

ROLLBACK = "R"
FIRST = "P0"
"""What serves before anything happens."""
ENDS = ("done", "failed")


@dataclass(frozen=True)
class Rules:
    """The protocol, or what a naive variant does instead."""

    compare: bool = True
    """The head moves only from the version that was read."""
    read_back: bool = True
    """After an error the history decides; otherwise the request is repeated, and a failed condition is a failure."""
    delete_own: bool = False
    """A publisher that failed deletes its entry."""
    new_id: frozenset[str] = frozenset()
    """Operations of which every try is a new one, decided on the head of its moment."""
    head_first: bool = False
    """The head moves before the entry is written."""


class Publisher(NamedTuple):
    """One process: which operation it does, and where it stands."""

    op: str
    at: str = "start"
    read: str = ""
    tries: int = 0
    kills: int = 1
    losses: int = 1

    @property
    def name(self) -> str:
        """The id of its operation."""
        return f"{self.op}.{self.tries}" if self.tries else self.op

    @property
    def entry(self) -> str:
        """The entry that it writes on the head that it read."""
        return f"{self.read} {self.name}"


class State(NamedTuple):
    """The store, the requests under way (expected head, new head), the publishers, and what they have told."""

    head: str
    entries: frozenset[str]
    flying: frozenset[tuple[str, str]]
    decided: frozenset[tuple[str, str]]
    """(operation, the head that it was decided on): survives a kill, like an approval."""
    publishers: tuple[Publisher, ...]
    told: frozenset[tuple[str, str]] = frozenset()


@dataclass
class Explored:
    """What an exploration met: violations by kind, and the histories of all runs that broke nothing."""

    states: int = 0
    violations: dict[str, int] = field(default_factory=dict)
    histories: set[str] = field(default_factory=set)


def explore(publishers: Iterable[Publisher], rules: Rules) -> Explored:
    """Visit every state that can be reached; one that breaks an invariant is counted and not left."""
    frontier = [State(FIRST, frozenset([FIRST]), frozenset(), frozenset(), tuple(publishers))]
    seen, found = set(frontier), Explored()
    while frontier:
        state = frontier.pop()
        broken = violations(state)
        for kind in broken:
            found.violations[kind] = found.violations.get(kind, 0) + 1
        if broken:
            continue
        following = set(steps(state, rules)) - seen
        seen |= following
        frontier += following
        if all(publisher.at in ENDS for publisher in state.publishers):
            found.histories.add(state.head)
    found.states = len(seen)
    return found


def chain(entry: str) -> list[str]:
    """Return the entry and all before it."""
    names = entry.split()
    return [" ".join(names[:length]) for length in range(1, len(names) + 1)]


def violations(state: State) -> list[str]:
    """Return the kinds of invariants that the state breaks."""
    history = [name.partition(".")[0] for name in state.head.split()]
    checks = {
        "dangling": not state.entries.issuperset(chain(state.head)),
        "acknowledged but lost": any(end == "done" and op not in history for end, op in state.told),
        "failed but live": any(end == "failed" and op in history for end, op in state.told),
        "done twice": len(set(history)) < len(history),
        "undid the rollback": any(_overtakes_a_rollback(op, base.split(), history) for op, base in state.decided),
    }
    return [kind for kind, broken in checks.items() if broken]


def _overtakes_a_rollback(op: str, base: list[str], history: list[str]) -> bool:
    """Tell whether an operation stands on a rollback that came after its decision."""
    last = max((place for place, name in enumerate(history) if name == op), default=0)
    return ROLLBACK in history[len(base) : last]


def steps(state: State, rules: Rules) -> Iterator[State]:
    """Yield what one step leads to: a late request arrives, or a publisher moves, or is killed and starts again."""
    for request in state.flying:
        arrived = state._replace(head=request[1], flying=state.flying - {request})
        yield _without_what_cannot_matter(arrived, rules)
    for number, publisher in enumerate(state.publishers):
        for world, moved in (*_moves(state, publisher, rules), *_kills(state, publisher, rules)):
            told = state.told
            if moved.at in ENDS:
                told, moved = told | {(moved.at, moved.op)}, moved._replace(read="")  # noqa: PLW2901
            publishers = (*state.publishers[:number], moved, *state.publishers[number + 1 :])
            yield _without_what_cannot_matter(world._replace(publishers=publishers, told=told), rules)


def _without_what_cannot_matter(state: State, rules: Rules) -> State:
    """Forget requests that must be refused (no head ever comes again) and entries out of everybody's reach."""
    flying = frozenset(request for request in state.flying if request[0] == state.head or not rules.compare)
    heads = [state.head, *(new for _, new in flying), *(publisher.entry for publisher in state.publishers)]
    reach = {entry for head in heads for entry in chain(head)}
    return state._replace(flying=flying, entries=state.entries & reach)


def _kills(state: State, publisher: Publisher, rules: Rules) -> Iterator[tuple[State, Publisher]]:
    if publisher.kills and publisher.at not in ("start", "read"):
        tries = publisher.tries + (publisher.op in rules.new_id)
        yield state, Publisher(publisher.op, "start", "", tries, publisher.kills - 1, publisher.losses)


def _moves(state: State, publisher: Publisher, rules: Rules) -> Iterator[tuple[State, Publisher]]:
    if publisher.at == "start":
        yield _decide(state, publisher), publisher._replace(at="read")
    elif publisher.at == "read":
        yield state, _read(state, publisher, rules)
    elif publisher.at == "put":
        written = state._replace(entries=state.entries | {publisher.entry})
        yield written, publisher._replace(at="done" if rules.head_first else "swap")
    elif publisher.at == "swap":
        yield from _swap(state, publisher, rules)
    elif publisher.at == "read back":
        yield state, _read_back(state, publisher)
    elif publisher.at == "delete":
        yield state._replace(entries=state.entries - {publisher.entry}), publisher._replace(at="failed")


def _decide(state: State, publisher: Publisher) -> State:
    """Bind a promotion to the head of this moment, unless it is bound already."""
    if publisher.op == ROLLBACK or any(op == publisher.op for op, _ in state.decided):
        return state
    return state._replace(decided=state.decided | {(publisher.op, state.head)})


def _read(state: State, publisher: Publisher, rules: Rules) -> Publisher:
    if publisher.name in state.head.split():
        return publisher._replace(at="done")
    bound = publisher.op != ROLLBACK and publisher.op not in rules.new_id
    if bound and (publisher.op, state.head) not in state.decided:
        return publisher._replace(at="failed")
    return publisher._replace(at="swap" if rules.head_first else "put", read=state.head)


def _swap(state: State, publisher: Publisher, rules: Rules) -> Iterator[tuple[State, Publisher]]:
    if rules.compare and state.head != publisher.read:
        refused = "read back" if rules.read_back else "delete" if rules.delete_own else "failed"
        yield state, publisher._replace(at=refused)
    else:
        yield state._replace(head=publisher.entry), publisher._replace(at="put" if rules.head_first else "done")
    if publisher.losses:
        lost = state._replace(flying=state.flying | {(publisher.read, publisher.entry)})
        yield lost, publisher._replace(at="read back" if rules.read_back else "swap", losses=publisher.losses - 1)


def _read_back(state: State, publisher: Publisher) -> Publisher:
    if publisher.name in state.head.split():
        return publisher._replace(at="done")
    if state.head == publisher.read:
        return publisher._replace(at="swap")
    return publisher._replace(at="read" if publisher.op == ROLLBACK else "failed")
