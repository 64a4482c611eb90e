"""All interleavings: of a model of the protocol with kills and lost requests, and of the real channel's requests."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.registry.faulty_store import FaultyStore, Pick, Turns, every_choice
from tests.registry.protocol_model import Publisher, Rules, State, explore, violations
from tidegate.core import publishing
from tidegate.core.errors import CommitLostError
from tidegate.registry.channel import Channel, Promotion
from tidegate.registry.file_store import FileStore

TWO_AND_A_ROLLBACK = {
    "P0 R",
    "P0 P1 R", "P0 P2 R", "P0 R P1", "P0 R P2",
    "P0 P1 P2 R", "P0 P2 P1 R", "P0 P1 R P2", "P0 P2 R P1", "P0 R P1 P2", "P0 R P2 P1",
}  # fmt: skip
ONE_AND_A_ROLLBACK = {"P0 R", "P0 P1 R", "P0 R P1"}


@pytest.mark.parametrize(
    ("operations", "histories", "states"),
    [
        (["P1", "P2", "R"], TWO_AND_A_ROLLBACK, 150_000),
        (["P1", "P1", "R"], ONE_AND_A_ROLLBACK, 40_000),  # a zombie and a retry
        (["P1", "R", "R"], ONE_AND_A_ROLLBACK, 40_000),
    ],
    ids=["two promotions, a rollback", "a promotion twice, a rollback", "a promotion, a rollback twice"],
)
def test_no_interleaving_with_kills_and_lost_requests_breaks_the_protocol(
    operations: list[str], histories: set[str], states: int
) -> None:
    found = explore(map(Publisher, operations), Rules())
    assert found.violations == {}
    assert found.histories == histories
    assert found.states > states


@pytest.mark.parametrize(
    ("rules", "operations", "kills", "kinds"),
    [
        (Rules(compare=False, read_back=False), ["P1", "P2", "R"], 0, {"acknowledged but lost"}),
        (Rules(read_back=False, delete_own=True), ["P1", "R"], 0, {"dangling", "failed but live"}),
        (Rules(read_back=False), ["P1", "R"], 0, {"failed but live"}),
        (
            Rules(new_id=frozenset(["P1"])),
            ["P1", "R"],
            1,
            {"done twice", "undid the rollback", "failed but live"},
        ),
        (Rules(new_id=frozenset(["R"])), ["P1", "R"], 1, {"done twice"}),
        (Rules(head_first=True), ["P1", "R"], 0, {"dangling"}),
    ],
    ids=[
        "a plain put of the head",
        "412 is a failure: own files deleted",
        "412 is a failure: no read-back",
        "a new id on each try of a promotion",
        "a new id on each try of a rollback",
        "the head before the files",
    ],
)
def test_each_naive_variant_breaks_what_it_is_known_to_break(
    rules: Rules, operations: list[str], kills: int, kinds: set[str]
) -> None:
    found = explore([Publisher(operation, kills=kills) for operation in operations], rules)
    assert found.violations.keys() == kinds


@pytest.mark.parametrize(
    ("head", "entries", "told", "decided", "kinds"),
    [
        ("P0 P1", ["P0", "P0 P1"], [("done", "P1"), ("failed", "P2")], [("P1", "P0")], []),
        ("P0 P1", ["P0"], [], [], ["dangling"]),
        ("P0", ["P0"], [("done", "P1")], [], ["acknowledged but lost"]),
        ("P0 P1", ["P0", "P0 P1"], [("failed", "P1")], [], ["failed but live"]),
        ("P0 P1 P1.1", ["P0", "P0 P1", "P0 P1 P1.1"], [], [], ["done twice"]),
        ("P0 R P1", ["P0", "P0 R", "P0 R P1"], [], [("P1", "P0")], ["undid the rollback"]),
        ("P0 R P1", ["P0", "P0 R", "P0 R P1"], [], [("P1", "P0 R")], []),
    ],
)
def test_the_invariants_see_each_kind_of_violation(
    head: str, entries: list[str], told: list[tuple[str, str]], decided: list[tuple[str, str]], kinds: list[str]
) -> None:
    state = State(head, frozenset(entries), frozenset(), frozenset(decided), (), frozenset(told))
    assert violations(state) == kinds


def test_every_choice_is_made_once() -> None:
    made = []

    def play(pick: Pick) -> None:
        first = pick(2)
        made.append((first, pick(3)) if first else (first,))

    assert every_choice(play) == 4
    assert made == [(0,), (1, 0), (1, 1), (1, 2)]


HEAD = "c/channels/champion/HEAD.json"
RELEASES = {name: str(number) * 64 for number, name in enumerate(("P0", "P1", "P2"))}
FAULTS = ("", "503 before", "503 after", "409")


def interleave(root: Path, operations: list[str], faults: int, pick: Pick) -> str:
    """Race operations of the real channel, all decided on P0, and check the end; return the history.

    Up to ``faults`` moves of the head go wrong. Only requests for the head are interleaved: no other can meet another.
    """
    left = 0

    def draw(verb: str, key: str) -> str:
        nonlocal left
        fault = FAULTS[pick(len(FAULTS))] if key == HEAD and verb == "swap" and left else ""
        left -= bool(fault)
        return fault

    store = FaultyStore(FileStore(root), Turns(pick), draw, gives_way=lambda verb, key: key == HEAD)
    channel = Channel(store, "c")
    channel.apply(Promotion("promote", RELEASES["P0"], None, approval="0" * 64))
    left, base = faults, channel.read().entry
    ends: list[tuple[str, str]] = []

    def promote(name: str) -> None:
        try:
            channel.apply(Promotion("promote", RELEASES[name], base, approval=RELEASES[name]))
            ends.append((name, "done"))
        except CommitLostError:
            ends.append((name, "failed"))

    def roll_back() -> None:
        while ("R", "done") not in ends:
            with suppress(CommitLostError):
                channel.apply(Promotion("rollback", RELEASES["P0"], channel.read().entry, reason="worse"))
                ends.append(("R", "done"))

    store.turns.run(
        {f"{number}": roll_back if name == "R" else partial(promote, name) for number, name in enumerate(operations)}
    )
    heads = [json.loads(head) for head in store.heads]
    entries = [json.loads(store.objects[f"c/channels/champion/entries/{head['entry']}.json"]) for head in heads]
    names = {release: name for name, release in RELEASES.items()}
    history = ["R" if entry["op"] == "rollback" else names[entry["release"]] for entry in entries]
    assert [head["seq"] for head in heads] == list(range(1, len(heads) + 1))
    assert [entry["prev"] for entry in entries] == [None, *(head["entry"] for head in heads[:-1])]
    assert len(set(history)) == len(history)
    assert len(ends) == len(operations)
    assert all((name in history) == (end == "done") for name, end in ends)
    return " ".join(history)


@pytest.mark.parametrize(
    ("operations", "faults", "histories", "runs"),
    [
        (["P1", "P2"], 1, {"P0 P1", "P0 P2"}, 80),
        (["P1", "P1"], 1, {"P0 P1"}, 80),
        (["P1", "R"], 1, {"P0 R", "P0 P1 R"}, 170),
        (["P1", "P2", "R"], 0, {"P0 R", "P0 P1 R", "P0 P2 R"}, 800),
    ],
    ids=["two promotions", "a zombie and a retry", "a promotion, a rollback", "two promotions, a rollback"],
)
def test_every_interleaving_of_the_real_channel_ends_right(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    operations: list[str],
    faults: int,
    histories: set[str],
    runs: int,
) -> None:
    monkeypatch.setattr(publishing, "_FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    met = Counter[str]()

    def play(pick: Pick) -> None:
        met[interleave(tmp_path / f"{met.total()}", operations, faults, pick)] += 1

    assert every_choice(play) > runs
    assert met.keys() == histories
