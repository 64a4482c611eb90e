"""Is one arm better than another on the same rows? Rows of one document are not independent, so documents decide.

Test: if the arms were equal, swapping them on any document would change nothing but the sign of the document's summed
difference (Fisher 1935). ``better`` if the one-sided p-value is at most 2.5 %, ``worse`` if that of the other side is,
otherwise ``not_enough_evidence``. Five documents, all won, have p = 2^-5 = 3.1 %: under six nothing can be shown.

Interval: 95 %, by a bootstrap that draws whole documents with replacement and divides summed differences by rows (Field
and Welsh 2007). Its percentiles are expanded (Hesterberg 2015): plain ones are too narrow where documents are few.

McNemar's test (1947) takes rows as independent. It is shown and decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from tidegate.core.evaluation_records import Comparison, Verdict

_LEVEL = 0.025
_FEWEST_GROUPS = 6
"""2^-6 is the largest power of 1/2 under the level."""
_MOST_TOTALS = 2**16
"""Totals that an exact test follows: 16 documents with any sums, many more with whole ones."""
_FLIPS = 10_000
_RESAMPLES = 5_000
_BLOCK = 100
"""Flips or resamples at a time: bounds memory."""
_TIE = 1e-9
"""Sums of floats that differ by less are equal."""

_Floats = NDArray[np.float64]


def document_groups(documents: Sequence[Collection[str]]) -> list[int]:
    """Label each row; rows that share a document, directly or through other rows, share a label.

    A row without documents is a group of its own. Labels count from 0 by first row.
    """
    parent = list(range(len(documents)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    holder: dict[str, int] = {}
    for row, names in enumerate(documents):
        for name in names:
            parent[root(row)] = root(holder.setdefault(name, row))
    labels: dict[int, int] = {}
    return [labels.setdefault(root(row), len(labels)) for row in range(len(documents))]


def compare(
    first: Sequence[float], second: Sequence[float], groups: Sequence[int], *, seed: int, margin: float = 0.0
) -> Comparison:
    """Compare two arms by their scores (0 to 1) of the same rows; ``groups`` are those of :func:`document_groups`.

    With a margin, ``better`` means ahead by more than it, and ``worse`` behind by more than it. The order of rows
    changes nothing. Raises ``ValueError`` for no rows, unequal lengths, and scores or a margin outside 0 to 1.
    """
    differences = _checked("first", first) - _checked("second", second, rows=len(first))
    if len(groups) != len(first):
        raise ValueError(f"{len(first)} rows have {len(groups)} groups: give one group per row")
    if not 0 <= margin < 1:
        raise ValueError(f"margin must be at least 0 and below 1, got {margin}")
    sums, sizes = _per_group(differences, groups)
    p_better = _sign_flip(sums - margin * sizes, np.random.default_rng((seed, 0)))
    p_worse = _sign_flip(-sums - margin * sizes, np.random.default_rng((seed, 1)))
    verdict: Verdict = "better" if p_better <= _LEVEL else "worse" if p_worse <= _LEVEL else "not_enough_evidence"
    low, high = _bootstrap(sums, sizes, np.random.default_rng((seed, 2))) if differences.any() else (0.0, 0.0)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    return Comparison(
        verdict=verdict,
        difference=math.fsum(sums) / len(differences),
        low=low,
        high=high,
        p_better=p_better,
        p_worse=p_worse,
        rows=len(differences),
        documents=len(sums),
        wins=wins,
        losses=losses,
        mcnemar=_mcnemar(wins, losses),
    )


def non_inferior(comparison: Comparison, margin: float) -> bool:
    """Tell whether the first arm loses at most ``margin``: the interval lies at or above ``-margin``.

    That is a one-sided test at 2.5 % (CONSORT, Piaggio et al. 2012). False means that a larger loss is not ruled out,
    not that there is one; under six documents it is not, whatever they show. Arms that score the same on every row are
    non-inferior, however few the rows.
    """
    if comparison.wins == comparison.losses == 0:
        return True
    return comparison.documents >= _FEWEST_GROUPS and comparison.low >= -margin


def _checked(name: str, scores: Sequence[float], rows: int | None = None) -> _Floats:
    values = np.asarray(scores, np.float64)
    if not len(values) or len(values) != (rows or len(values)):
        raise ValueError(f"{name} has {len(values)} scores: give one per row" + (f", {rows}" if rows else ""))
    wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(wrong):
        raise ValueError(f"{name} has the score {values[wrong[0]]} in row {wrong[0]}: scores are 0 to 1")
    return values


def _per_group(differences: _Floats, groups: Sequence[int]) -> tuple[_Floats, _Floats]:
    """Return summed difference and number of rows of each group, in an order that depends on these alone."""
    members: dict[int, list[float]] = {}
    for group, difference in zip(groups, differences.tolist(), strict=True):
        members.setdefault(group, []).append(difference)
    found = np.array(sorted((math.fsum(values), len(values)) for values in members.values()))
    return found[:, 0], found[:, 1]


def _sign_flip(sums: _Floats, rng: np.random.Generator) -> float:
    """Return the one-sided p-value: the share of sign flips whose total is at least that of ``sums``.

    Exact where flips lead to few totals, as those of 0/1 scores do: groups whose sums have the same size flip
    together, and equal totals merge (Pagano and Tritchler 1983). Otherwise by random flips, which count the observed
    signs as one of them (Phipson and Smyth 2010).
    """
    reached = sums.sum() - _TIE
    moved = np.abs(sums[sums != 0])
    totals, shares = np.zeros(1), np.ones(1)
    for value, count in zip(*np.unique(moved, return_counts=True), strict=True):
        steps = value * np.arange(-count, count + 1, 2)
        if len(totals) * len(steps) > _MOST_TOTALS:
            return _random_flips(moved, reached, rng)
        drawn = np.multiply.outer(shares, _tosses(count)).ravel()
        totals, where = np.unique(np.add.outer(totals, steps).ravel(), return_inverse=True)
        shares = np.bincount(where, drawn).astype(np.float64)
    return min(1.0, float(shares[totals >= reached].sum()))


def _random_flips(moved: _Floats, reached: float, rng: np.random.Generator) -> float:
    hits = 0
    for _ in range(_FLIPS // _BLOCK):
        bits = np.unpackbits(rng.integers(256, size=(_BLOCK, len(moved) // 8 + 1), dtype=np.uint8), axis=1)
        hits += int((bits[:, : len(moved)] @ (2 * moved) - moved.sum() >= reached).sum())
    return (1 + hits) / (1 + _FLIPS)


def _bootstrap(sums: _Floats, sizes: _Floats, rng: np.random.Generator) -> tuple[float, float]:
    """Return the ends of the 95 % interval of the difference; -1 and 1 for a single group."""
    if len(sums) == 1:
        return -1.0, 1.0
    ratios = []
    for _ in range(_RESAMPLES // _BLOCK):
        drawn = rng.integers(len(sums), size=(_BLOCK, len(sums)), dtype=np.uint32)
        ratios.append(sums.take(drawn).sum(axis=1) / sizes.take(drawn).sum(axis=1))
    tail = _expanded_tail(len(sums))
    low, high = np.quantile(np.concatenate(ratios), [tail, 1 - tail])
    return float(low), float(high)


def _expanded_tail(n: int) -> float:
    """Return the percentile to cut at for n groups: Φ(-√(n/(n-1)) t), t the 97.5 % point of Student's t at n - 1.

    t by the expansion in Abramowitz and Stegun 26.7.5: within 0.003 from six groups.
    """
    z, v = NormalDist().inv_cdf(1 - _LEVEL), n - 1
    t = z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    return NormalDist().cdf(-math.sqrt(n / v) * t)


def _mcnemar(wins: int, losses: int) -> float:
    """Return the exact two-sided p-value: min(wins, losses) or fewer heads in as many tosses, twice."""
    return min(1.0, 2 * float(_tosses(wins + losses)[: min(wins, losses) + 1].sum()))


def _tosses(n: int) -> _Floats:
    """Return the probabilities of 0 to n heads in n tosses of a fair coin."""
    logs = np.array([math.lgamma(k + 1) for k in range(n + 1)])
    return np.asarray(np.exp(logs[-1] - logs - logs[::-1] - n * math.log(2)), np.float64)
