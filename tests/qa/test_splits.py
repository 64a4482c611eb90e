"""The draw of train, dev and holdout: exact cases, a first draw against another algorithm, and histories of edits."""

from __future__ import annotations

import hmac
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tidegate.core.examples import SPLITS
from tidegate.qa.splits import Drawn, Shares, SplitResult, draw_splits, shared_between_splits

SHARES = Shares(dev=0.3, holdout=0.3, key="key")
KEYS = [replace(SHARES, key=f"key {number}") for number in range(20)]


def at(name: str, shares: Shares) -> float:
    """Where a name is between 0 and 1: the first 64 bits of its HMAC-SHA-256."""
    return int(hmac.new(shares.key.encode(), name.encode(), "sha256").hexdigest()[:16], 16) / 2**64


def lot(name: str, shares: Shares) -> str:
    """The split of a group by its name."""
    place = at(name, shares)
    return "holdout" if place < shares.holdout else "dev" if place < shares.holdout + shares.dev else "train"


def by_union_find(
    rows: Mapping[str, Sequence[str]], alike: Iterable[tuple[str, str]], shares: Shares
) -> dict[str, str]:
    """The first draw, by merging rows instead of walking from row to row."""
    leader = {row: row for row in rows}

    def find(row: str) -> str:
        while leader[row] != row:
            row = leader[row]
        return row

    sharing = [(one, other) for one, other in combinations(rows, 2) if set(rows[one]) & set(rows[other])]
    for one, other in [*sharing, *alike]:
        if {one, other} <= rows.keys():
            leader[find(one)] = find(other)
    members = defaultdict(list)
    for row in rows:
        members[find(row)].append(row)
    names = {
        first: min([key for row in group for key in rows[row]], default=min(group)) for first, group in members.items()
    }
    return {row: lot(names[find(row)], shares) for row in rows}


DOCUMENTS = st.lists(st.sampled_from("abcdefghij"), max_size=3, unique=True)
ROWS = st.dictionaries(st.sampled_from([f"r{number}" for number in range(14)]), DOCUMENTS)
PAIRS = st.lists(st.tuples(*[st.sampled_from([f"r{number}" for number in range(15)])] * 2), max_size=6)


@settings(max_examples=300, deadline=None)
@given(rows=ROWS, alike=PAIRS, shares=st.sampled_from(KEYS))
def test_the_first_draw_is_that_of_connected_groups(
    rows: dict[str, list[str]], alike: list[tuple[str, str]], shares: Shares
) -> None:
    result = draw_splits(rows, alike, Drawn(), shares)
    assert result.rows == by_union_find(rows, alike, shares)
    assert result.documents == {key: result.rows[row] for row, keys in rows.items() for key in keys}
    assert result.bridging == {}
    assert shared_between_splits(rows, result.rows) == []


def one_by_one(
    rows: Mapping[str, Sequence[str]], alike: Sequence[tuple[str, str]], drawn: Drawn, shares: Shares
) -> SplitResult:
    """A later draw, looking at all rows again after each: the lowest that touches a split goes next."""
    placed, documents, bridging = dict(drawn.rows), dict(drawn.documents), {}
    left = sorted(rows, key=lambda row: at(row, shares))

    def touched(row: str) -> set[str]:
        near = {row, *(other for pair in alike if row in pair for other in pair)}
        return {placed[other] for other in near & placed.keys()} | {
            documents[key] for key in rows[row] if key in documents
        }

    while (row := next(filter(touched, left), None)) is not None:
        left.remove(row)
        splits = touched(row)
        if len(splits) > 1:
            bridging[row] = tuple(sorted(splits))
        else:
            placed[row] = splits.pop()
            documents |= dict.fromkeys(rows[row], placed[row])
    placed |= by_union_find({row: rows[row] for row in left}, alike, shares)
    documents |= {key: placed[row] for row in left for key in rows[row]}
    return SplitResult({row: placed[row] for row in rows if row not in bridging}, documents, bridging)


DRAWN = Drawn(rows={"t": "train", "v": "dev", "h": "holdout"}, documents={"T": "train", "V": "dev", "H": "holdout"})
LATER = st.dictionaries(
    st.sampled_from([*"tvh", *(f"r{number}" for number in range(9))]),
    st.lists(st.sampled_from("TVHabcdef"), max_size=2, unique=True),
)
LATER_PAIRS = st.lists(st.tuples(*[st.sampled_from([*"tvh", *(f"r{number}" for number in range(9))])] * 2), max_size=5)


@settings(max_examples=500, deadline=None)
@given(rows=LATER, alike=LATER_PAIRS, shares=st.sampled_from(KEYS), seed=st.integers(0, 99))
def test_a_later_draw_goes_row_by_row_from_what_was_drawn(
    rows: dict[str, list[str]], alike: list[tuple[str, str]], shares: Shares, seed: int
) -> None:
    wanted = one_by_one(rows, alike, DRAWN, shares)
    assert draw_splits(rows, alike, DRAWN, shares) == wanted
    order = random.Random(seed)
    mixed = {row: order.sample(rows[row], len(rows[row])) for row in order.sample(sorted(rows), len(rows))}
    pairs = [pair[::-1] for pair in order.sample(alike, len(alike))]
    assert draw_splits(mixed, pairs + alike[:2], DRAWN, shares) == wanted


def test_a_group_without_documents_is_drawn_by_its_first_row_and_another_by_its_first_document() -> None:
    rows = {"b": [], "a": [], "y": ["n", "m"], "x": ["n"], "z": ["l"]}
    result = draw_splits(rows, [("b", "a"), ("z", "gone")], Drawn(), SHARES)
    assert result.rows == {name: lot(by, SHARES) for name, by in zip("baxyz", "aamml", strict=True)}


@pytest.mark.parametrize("shares", KEYS[:4], ids=lambda shares: shares.key)
def test_shares_come_out_right_over_many_groups(shares: Shares) -> None:
    count = 20_000
    rows = {f"r{number}": [f"d{number}"] for number in range(count)}
    wanted = replace(shares, dev=0.1, holdout=0.25)
    found = list(draw_splits(rows, [], Drawn(), wanted).rows.values())
    for split, share in zip(SPLITS, (0.65, 0.1, 0.25), strict=True):
        # Five standard deviations of a binomial count: a fair draw misses one time in a million.
        assert abs(found.count(split) - count * share) < 5 * math.sqrt(count * share * (1 - share))


@pytest.mark.parametrize(("dev", "holdout", "only"), [(0.0, 0.0, {"train"}), (0.0, 0.4, {"train", "holdout"})])
def test_a_share_of_nothing_draws_nothing(dev: float, holdout: float, only: set[str]) -> None:
    rows = {f"r{number}": [f"d{number}"] for number in range(500)}
    assert set(draw_splits(rows, [], Drawn(), Shares(dev, holdout, "key")).rows.values()) == only


def test_another_key_draws_new_groups_anew_and_changes_nothing_drawn() -> None:
    count = 6_000
    old, new = {f"r{n}": [f"d{n}"] for n in range(500)}, {f"s{n}": [f"e{n}"] for n in range(count)}
    first = draw_splits(old, [], Drawn(), KEYS[0])
    drawn = Drawn(first.rows, first.documents)
    one, other = (draw_splits(old | new, [], drawn, shares) for shares in KEYS[:2])
    assert {row: one.rows[row] for row in old} == {row: other.rows[row] for row in old} == first.rows
    # Two independent draws agree with the chance of 0.3² + 0.3² + 0.4²; five standard deviations of a binomial count.
    agreeing = sum(one.rows[row] == other.rows[row] for row in new)
    assert abs(agreeing - count * 0.34) < 5 * math.sqrt(count * 0.34 * 0.66)


@pytest.mark.parametrize("shares", KEYS[:6], ids=lambda shares: shares.key)
@pytest.mark.parametrize(
    ("rows", "alike", "splits", "documents"),
    [
        pytest.param({"n": ["H"]}, [], {"n": "holdout"}, {}, id="by a document"),
        pytest.param({"n": ["H", "X", "Y"]}, [], {"n": "holdout"}, {"X": "holdout", "Y": "holdout"}, id="with others"),
        pytest.param({"n": ["X"]}, [("v", "n")], {"n": "dev"}, {"X": "dev"}, id="by a question of a row that is gone"),
        pytest.param({"h": ["H"], "n": []}, [("n", "h")], {"h": "holdout", "n": "holdout"}, {}, id="by a question"),
        pytest.param({"t": ["X"], "n": ["X"]}, [], {"t": "train", "n": "train"}, {"X": "train"}, id="edited evidence"),
        pytest.param(
            {f"n{at}": [f"X{at}", f"X{at + 1}"] for at in range(6)} | {"v": ["V", "X3"]},
            [],
            {f"n{at}": "dev" for at in range(6)} | {"v": "dev"},
            {f"X{at}": "dev" for at in range(7)},
            id="over many rows",
        ),
    ],
)
def test_a_new_row_takes_the_split_of_what_it_touches(
    rows: dict[str, list[str]],
    alike: list[tuple[str, str]],
    splits: dict[str, str],
    documents: dict[str, str],
    shares: Shares,
) -> None:
    result = draw_splits(rows, alike, DRAWN, shares)
    assert result == SplitResult(splits, dict(DRAWN.documents) | documents, {})


@pytest.mark.parametrize("shares", KEYS[:6], ids=lambda shares: shares.key)
@pytest.mark.parametrize(
    ("row", "keys", "alike", "joins"),
    [
        pytest.param("n", ["T", "H"], [], ("holdout", "train"), id="two documents"),
        pytest.param("n", ["V"], [("n", "h")], ("dev", "holdout"), id="a document and a question"),
        pytest.param("n", ["X"], [("n", "h"), ("t", "n")], ("holdout", "train"), id="two questions"),
        pytest.param("n", ["T", "V", "H"], [], ("dev", "holdout", "train"), id="all three"),
        pytest.param("t", ["V"], [], ("dev", "train"), id="a drawn row with other evidence"),
    ],
)
def test_a_row_that_touches_two_splits_is_excluded_and_carries_nothing_over(
    row: str, keys: list[str], alike: list[tuple[str, str]], joins: tuple[str, ...], shares: Shares
) -> None:
    others = {"h": ["H"], "m": ["X2"]}
    result = draw_splits({row: [*keys, "X1", "X2"], **others}, alike, DRAWN, shares)
    assert result.bridging == {row: joins}
    assert result.rows == {"h": "holdout", "m": lot("X2", shares)}
    assert result.documents == dict(DRAWN.documents) | {"X2": lot("X2", shares)}


@pytest.mark.parametrize("shares", KEYS, ids=lambda shares: shares.key)
def test_of_two_new_rows_that_would_join_two_splits_together_one_is_excluded(shares: Shares) -> None:
    result = draw_splits({"n": ["T", "X"], "m": ["X", "H"]}, [], DRAWN, shares)
    assert (result.bridging, result.rows) in [
        ({"n": ("holdout", "train")}, {"m": "holdout"}),
        ({"m": ("holdout", "train")}, {"n": "train"}),
    ]
    assert result.documents["X"] == next(iter(result.rows.values()))


def test_shared_documents_are_those_of_rows_in_two_splits() -> None:
    rows = {"a": ["y", "x"], "b": ["y", "z"], "c": ["z"], "d": ["x"], "out": ["x", "z"]}
    splits = {"a": "train", "b": "dev", "c": "dev", "d": "holdout", "gone": "train"}
    assert shared_between_splits(rows, splits) == ["x", "y"]


Asked = tuple[int, tuple[str, ...]]
"""A row: its question and its documents. Questions are numbers, and neighbouring numbers ask nearly the same."""


class Histories(RuleBasedStateMachine):
    """A set that is edited and drawn again and again, with the memory of a dataset.

    A row whose question was edited enters the draw as a new one that is alike to what it was.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, Asked] = {}
        self.memory = Drawn()
        self.included: dict[str, Asked] = {}
        """Rows as they were when they were last included."""

    @rule(row=st.integers(0, 11), question=st.integers(0, 40), keys=st.lists(st.sampled_from("abcdefgh"), max_size=3))
    def put(self, row: int, question: int, keys: list[str]) -> None:
        """Add a row, or edit question and evidence of one."""
        self.rows[f"r{row}"] = (question, tuple(dict.fromkeys(keys)))

    @rule(row=st.integers(0, 11), keys=st.lists(st.sampled_from("abcdefgh"), max_size=3))
    def edit_evidence(self, row: int, keys: list[str]) -> None:
        if f"r{row}" in self.rows:
            self.put(row, self.rows[f"r{row}"][0], keys)

    @rule(row=st.integers(0, 11))
    def remove(self, row: int) -> None:
        self.rows.pop(f"r{row}", None)

    @rule(row=st.integers(0, 11))
    def bring_back(self, row: int) -> None:
        if f"r{row}" in self.included:
            self.rows[f"r{row}"] = self.included[f"r{row}"]

    @rule(seed=st.integers(0, 99), shares=st.sampled_from(KEYS[:4]))
    def draw(self, seed: int, shares: Shares) -> None:
        result, again = self.drawn(shares), self.drawn(shares, random.Random(seed))
        assert result == again
        self.check(result)
        self.memory = Drawn(dict(self.memory.rows) | result.rows, result.documents)
        self.included |= {row: self.rows[row] for row in result.rows}
        later = self.drawn(KEYS[-1])
        assert later.rows.items() >= result.rows.items()
        assert later.documents.items() >= result.documents.items()

    def drawn(self, shares: Shares, order: random.Random | None = None) -> SplitResult:
        """Draw with everything sorted, or in some other order."""
        name = {row: row if self.is_known(row) else f"{row} as edited" for row in self.rows}
        asked = {row: question for row, (question, _) in self.included.items()}
        asked |= {name[row]: question for row, (question, _) in self.rows.items()}
        alike = [(one, other) for one, other in combinations(asked, 2) if abs(asked[one] - asked[other]) <= 1]
        alike += [(row, edited) for row, edited in name.items() if row != edited]
        rows: dict[str, Sequence[str]] = {name[row]: sorted(keys) for row, (_, keys) in self.rows.items()}
        memory = self.memory
        if order:
            rows = {row: order.sample(rows[row], len(rows[row])) for row in order.sample(sorted(rows), len(rows))}
            alike = [
                pair if order.random() < 0.5 else pair[::-1] for pair in order.sample(alike, len(alike)) + alike[:3]
            ]
            memory = Drawn(*(dict(order.sample(sorted(of.items()), len(of))) for of in (memory.rows, memory.documents)))
        result = draw_splits(rows, alike, memory, shares)
        back = {edited: row for row, edited in name.items()}
        return SplitResult(
            {back[row]: at for row, at in result.rows.items()},
            result.documents,
            {back[row]: joins for row, joins in result.bridging.items()},
        )

    def is_known(self, row: str) -> bool:
        """Whether a row asks what it asked when it was last included, or never was."""
        return row not in self.included or self.included[row][0] == self.rows[row][0]

    def check(self, result: SplitResult) -> None:
        was, where = self.memory, dict(self.memory.rows) | result.rows
        assert result.rows.keys() ^ result.bridging.keys() == self.rows.keys()
        assert all(where[row] == at for row, at in was.rows.items()), "a row moved"
        of_rows = {key: at for row, at in result.rows.items() for key in self.rows[row][1]}
        assert result.documents == dict(was.documents) | of_rows, "a document moved"
        for row in self.rows:
            _, keys = self.rows[row]
            around = {where[other] for other in self.near(row, result) & where.keys()} | {where.get(row)}
            around |= {result.documents.get(key) for key in keys}
            if row in result.rows:
                assert around - {None} == {where[row]}, "a document or question in two splits"
            else:
                assert self.included.get(row) != self.rows[row], "excluded as it was when it was drawn"
                assert len(result.bridging[row]) > 1
                assert list(result.bridging[row]) == sorted(around & set(result.bridging[row]))

    def near(self, row: str, result: SplitResult) -> set[str]:
        """Rows that ask nearly what a row asks now, or did when they were last included; excluded ones left out."""
        asks = self.rows[row][0]
        near = {other for other, (question, _) in self.rows.items() if abs(question - asks) <= 1}
        was = {other for other, (question, _) in self.included.items() if abs(question - asks) <= 1}
        return {other for other in near if other in result.rows} | was


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=250, stateful_step_count=30, deadline=None)


class Counted(str):
    """A text that counts how often it is looked up."""

    __slots__ = ()
    lookups = 0

    def __hash__(self) -> int:
        Counted.lookups += 1
        return str.__hash__(self)


def separate(count: int) -> tuple[dict[str, list[str]], Drawn]:
    """Groups of five rows."""
    return {Counted(f"r{at}"): [Counted(f"d{at // 5}")] for at in range(count)}, Drawn()


def together(count: int) -> tuple[dict[str, list[str]], Drawn]:
    """One group."""
    return {Counted(f"r{at}"): [Counted("d")] for at in range(count)}, Drawn()


def drawn_before(count: int) -> tuple[dict[str, list[str]], Drawn]:
    """Groups of five rows, of which half was drawn."""
    rows, _ = separate(count)
    half = dict(list(rows.items())[: count // 2])
    result = draw_splits(half, [], Drawn(), SHARES)
    return rows, Drawn(result.rows, result.documents)


def chained(count: int) -> tuple[dict[str, list[str]], Drawn]:
    """New rows that share a document each with the next; only the first touches one that was drawn."""
    rows = {Counted(f"r{at}"): [Counted(f"d{at}"), Counted(f"d{at + 1}")] for at in range(count)}
    return rows, Drawn(documents={Counted("d0"): "dev"})


@pytest.mark.parametrize(
    "made",
    [
        separate,
        together,
        drawn_before,
        chained,
    ],
    ids=["new groups", "one group", "half drawn", "a long chain"],
)
def test_work_grows_in_proportion_to_the_rows(made: Callable[[int], tuple[dict[str, list[str]], Drawn]]) -> None:
    costs = []
    for count in (500, 2000):
        rows, drawn = made(count)
        Counted.lookups = 0
        draw_splits(rows, [], drawn, SHARES)
        costs.append(Counted.lookups)
    assert costs[1] < 5 * costs[0]  # four times the rows; all pairs would be sixteen times the work
