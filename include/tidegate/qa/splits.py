"""Draw train, dev and holdout once per group, so that no document and no near-duplicate question is in two of them.

Rows that share a document, or ask nearly the same, are one group. What was drawn stays: a new row takes the split of
the documents and questions that it touches; a group that touches none is drawn by a keyed hash; a row that touches
two splits is excluded, because it would carry one into the other.
"""

from __future__ import annotations

import hashlib
import heapq
import hmac
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tidegate.core.examples import Split

_DIGITS = 8
Node = tuple[str, str]
"""('document', key) or ('row', id)."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the groups, and the key of the hash that draws them."""

    dev: float
    holdout: float
    key: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """Splits that were drawn before: they never change."""

    rows: Mapping[str, Split] = field(default_factory=dict)
    documents: Mapping[str, Split] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SplitResult:
    """The split of every row and document, and the rows that bridge two."""

    rows: dict[str, Split]
    documents: dict[str, Split]
    bridging: dict[str, tuple[Split, ...]]
    """Excluded rows, with the splits that each would join."""


def draw_splits(
    rows: Mapping[str, Sequence[str]], alike: Iterable[tuple[str, str]], drawn: Drawn, shares: Shares
) -> SplitResult:
    """Return the split of each row (id to its document keys); ``alike`` are pairs of rows that ask nearly the same.

    ``alike`` may name rows that are not in ``rows`` any more but in ``drawn``. The order of nothing matters.
    """
    neighbours = _neighbours(rows, alike)
    fixed: dict[Node, Split] = {("document", key): split for key, split in drawn.documents.items()}
    fixed |= {("row", row): split for row, split in drawn.rows.items()}
    bridging: dict[str, tuple[Split, ...]] = {}
    waiting = sorted(rows, key=lambda row: _hash(shares.key, row))
    _spread(waiting, neighbours, fixed, bridging)
    waiting = [row for row in waiting if ("row", row) not in fixed and row not in bridging]
    apart = set(waiting)  # what is left touches nothing drawn, so its groups do not touch each other either
    for row in waiting:
        if ("row", row) not in fixed:
            _draw_group(row, apart, neighbours, fixed, shares)
    return SplitResult(
        rows={row: fixed["row", row] for row in rows if row not in bridging},
        documents={key: split for (kind, key), split in fixed.items() if kind == "document"},
        bridging=bridging,
    )


def shared_between_splits(rows: Mapping[str, Sequence[str]], splits: Mapping[str, Split]) -> list[str]:
    """Return the document keys that rows of two splits share: the leakage that :func:`draw_splits` rules out."""
    found: dict[str, set[Split]] = defaultdict(set)
    for row, split in splits.items():
        for key in rows.get(row, ()):
            found[key].add(split)
    return sorted(key for key, among in found.items() if len(among) > 1)


def _neighbours(rows: Mapping[str, Sequence[str]], alike: Iterable[tuple[str, str]]) -> dict[Node, set[Node]]:
    found: dict[Node, set[Node]] = defaultdict(set)
    edges: list[tuple[Node, Node]] = [(("row", row), ("document", key)) for row, keys in rows.items() for key in keys]
    edges += [(("row", one), ("row", other)) for one, other in alike]
    for one, other in edges:
        found[one].add(other)
        found[other].add(one)
    return found


def _spread(
    waiting: Sequence[str],
    neighbours: Mapping[Node, set[Node]],
    fixed: dict[Node, Split],
    bridging: dict[str, tuple[Split, ...]],
) -> None:
    """Place the rows that a drawn split reaches, each with its documents; exclude those that touch two.

    Of the rows that are reached, the first in order goes first, so that the outcome depends on the set alone.
    """
    order = {row: number for number, row in enumerate(waiting)}
    queue = [number for row, number in order.items() if _touched(row, neighbours, fixed)]
    heapq.heapify(queue)
    done = set()
    while queue:
        row = waiting[heapq.heappop(queue)]
        if row in done:
            continue
        done.add(row)
        touched = _touched(row, neighbours, fixed)
        if len(touched) > 1:
            bridging[row] = tuple(sorted(touched))
            continue
        around = neighbours.get(("row", row), set())
        reached = [("row", row), *(near for near in around if near[0] == "document" and near not in fixed)]
        fixed.update(dict.fromkeys(reached, next(iter(touched))))
        for node in reached:
            for kind, name in neighbours.get(node, set()):
                if kind == "row" and name in order and name not in done:
                    heapq.heappush(queue, order[name])


def _touched(row: str, neighbours: Mapping[Node, set[Node]], fixed: Mapping[Node, Split]) -> set[Split]:
    node: Node = ("row", row)
    return {fixed[near] for near in (node, *neighbours.get(node, set())) if near in fixed}


def _draw_group(
    start: str, waiting: set[str], neighbours: Mapping[Node, set[Node]], fixed: dict[Node, Split], shares: Shares
) -> None:
    """Draw one split for everything that is reached from a row that touches none."""
    group: set[Node] = set()
    stack: list[Node] = [("row", start)]
    while stack:
        node = stack.pop()
        if node in group or (node[0] == "row" and node[1] not in waiting):
            continue
        group.add(node)
        stack += neighbours.get(node, set()) - group
    name = min(group)  # a document's key where there is one: it outlives its rows
    fixed.update(dict.fromkeys(group, _draw(name[1], shares)))


def _draw(name: str, shares: Shares) -> Split:
    at = _hash(shares.key, name) / 16 ** (2 * _DIGITS)
    if at < shares.holdout:
        return "holdout"
    return "dev" if at < shares.holdout + shares.dev else "train"


def _hash(key: str, name: str) -> int:
    return int.from_bytes(hmac.digest(key.encode(), name.encode(), hashlib.sha256)[:_DIGITS])
