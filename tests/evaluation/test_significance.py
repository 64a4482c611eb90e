"""The comparison of two arms against values worked out by hand, plain enumeration and scipy."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.evaluation_records import Comparison
from tidegate.evaluation.significance import compare, document_groups, non_inferior

ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.25, 1.0]), st.integers(0, 9)), min_size=1
)
"""Score of the first arm, of the second, and the document."""


def enumerated(first: Sequence[float], second: Sequence[float], groups: Sequence[int], margin: float = 0.0) -> float:
    """The p-value of `better`, by walking all flips in plain Python."""
    sums = dict.fromkeys(groups, 0.0)
    for a, b, group in zip(first, second, groups, strict=True):
        sums[group] += a - b - margin
    totals = [sum(sign * value for sign, value in zip(signs, sums.values(), strict=True)) for signs in flips(len(sums))]
    return sum(total >= totals[0] - 1e-9 for total in totals) / len(totals)


def flips(n: int) -> list[tuple[int, ...]]:
    """All signs of n sums; none is flipped in the first."""
    return list(product((1, -1), repeat=n))


def arms(wins: int, losses: int, ties: int = 0) -> tuple[list[bool], list[bool], list[int]]:
    """Rows of as many documents: the first arm alone is right, the second alone is, both are."""
    first = [True] * wins + [False] * losses + [True] * ties
    second = [False] * wins + [True] * losses + [True] * ties
    return first, second, list(range(len(first)))


def ps(found: Comparison) -> tuple[float, float]:
    return found.p_better, found.p_worse


@pytest.mark.parametrize(
    ("documents", "groups"),
    [
        ([], []),
        ([(), (), ()], [0, 1, 2]),
        ([{"a"}, {"b"}, {"a"}], [0, 1, 0]),
        ([{"a"}, (), {"a", "b"}, {"c"}, ["b"]], [0, 1, 0, 2, 0]),
        ([{"a"}, {"b"}, {"c"}, {"d"}, {"a", "b"}, {"c", "d"}, {"d", "a"}, {"e"}], [0, 0, 0, 0, 0, 0, 0, 1]),
        ([{"c", "d"}, {"b"}, {"a", "b"}, {"a", "d"}], [0, 0, 0, 0]),
    ],
)
def test_rows_that_share_a_document_directly_or_through_others_are_one_group(
    documents: Sequence[Collection[str]], groups: list[int]
) -> None:
    assert document_groups(documents) == groups


@given(st.lists(st.sets(st.sampled_from("abcdefghijkl"), max_size=3), max_size=12))
def test_groups_are_the_components_that_merging_sets_finds(documents: list[set[str]]) -> None:
    components: list[tuple[set[int], set[str]]] = []
    for row, names in enumerate(documents):
        touched = [item for item in components if item[1] & names]
        components = [item for item in components if not item[1] & names]
        rows = {row}.union(*(item[0] for item in touched))
        components.append((rows, names.union(*(item[1] for item in touched))))
    found = document_groups(documents)
    assert {frozenset(rows) for rows, _ in components} == {
        frozenset(row for row, label in enumerate(found) if label == wanted) for wanted in found
    }
    assert list(dict.fromkeys(found)) == list(range(len(components)))


@pytest.mark.parametrize("documents", [1, 4, 5, 6, 7, 40])
def test_documents_all_won_have_a_power_of_one_half_and_six_are_the_fewest_that_show_anything(documents: int) -> None:
    won, lost = (compare(*rows, seed=0) for rows in (arms(documents, 0, 3), arms(0, documents, 3)))
    assert (won.p_better, lost.p_worse) == pytest.approx((0.5**documents, 0.5**documents))
    assert (won.p_worse, lost.p_better) == pytest.approx((1, 1))
    shown = documents >= 6
    assert won.verdict == ("better" if shown else "not_enough_evidence")
    assert lost.verdict == ("worse" if shown else "not_enough_evidence")


def test_the_figures_of_a_comparison_are_those_worked_out_by_hand() -> None:
    # Summed differences of the documents: 2, -1, 1, 0, 0. Flips of 2, 1 and 1 total 4, 2, 2, 0, 0, -2, -2 and -4.
    first = [1, 1, 0, 0, 1, 1, 0, 0.5]
    second = [0, 0, 0, 1, 0, 0.5, 0, 1]
    found = compare(first, second, [7, 7, 7, 3, 9, 5, 2, 5], seed=0)
    assert ps(found) == pytest.approx((3 / 8, 7 / 8))
    assert (found.rows, found.documents, found.wins, found.losses) == (8, 5, 4, 2)
    assert (found.difference, found.mcnemar) == pytest.approx((2 / 8, 2 * (1 + 6 + 15) / 64))
    assert found.verdict == "not_enough_evidence"


@given(ROWS, st.sampled_from([0.0, 0.05, 0.3]))
def test_p_values_are_those_of_a_walk_through_all_flips(rows: list[tuple[float, float, int]], margin: float) -> None:
    first, second, groups = zip(*rows, strict=True)
    found = compare(first, second, groups, seed=0, margin=margin)
    assert found.p_better == pytest.approx(enumerated(first, second, groups, margin), abs=1e-12)
    assert found.p_worse == pytest.approx(enumerated(second, first, groups, margin), abs=1e-12)


def test_p_values_of_whole_documents_are_those_of_scipy() -> None:
    from scipy.stats import permutation_test

    rng = np.random.default_rng(1)
    groups = rng.integers(12, size=80)
    first, second = rng.random(80) < 0.75, rng.random(80) < 0.5
    sums = [np.bincount(groups, arm, 12) for arm in (first, second)]
    for alternative, p in zip(("greater", "less"), ps(compare(first, second, groups, seed=0)), strict=True):
        expected = permutation_test(
            sums,
            lambda x, y, axis: (x - y).sum(axis=axis),
            permutation_type="samples",
            n_resamples=np.inf,
            vectorized=True,
            alternative=alternative,
        )
        assert p == pytest.approx(expected.pvalue, abs=1e-12)


@pytest.mark.parametrize(("wins", "losses"), [(30, 14), (14, 30), (20, 20), (300, 200)])
def test_with_one_row_per_document_the_test_is_the_exact_sign_test(wins: int, losses: int) -> None:
    from scipy.stats import binomtest

    found = compare(*arms(wins, losses, 100), seed=0)
    assert found.p_better == pytest.approx(binomtest(wins, wins + losses, alternative="greater").pvalue, rel=1e-9)
    assert found.p_worse == pytest.approx(binomtest(losses, wins + losses, alternative="greater").pvalue, rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.2])
def test_random_flips_stand_in_where_there_are_too_many_to_walk(shift: float) -> None:
    rng = np.random.default_rng(3)
    first, second = np.minimum(1, rng.random(20) + shift), rng.random(20)
    signs = 1 - 2 * ((np.arange(2**20)[:, None] >> np.arange(20)) & 1)
    exact = float((signs @ (first - second) >= (first - second).sum() - 1e-9).mean())
    found = compare(first, second, range(20), seed=0).p_better
    assert found != exact
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 10_000))


def test_random_flips_count_the_observed_one_and_never_give_zero() -> None:
    first = np.random.default_rng(0).random(60)
    found = compare(first, [0.0] * 60, range(60), seed=0)
    assert (found.p_better, found.p_worse, found.verdict) == (1 / 10_001, 1, "better")


def test_a_margin_asks_for_a_lead_of_more_than_itself() -> None:
    first, second, groups = arms(16, 2, 182)
    leads = {margin: compare(first, second, groups, seed=0, margin=margin) for margin in (0.0, 0.02, 0.07, 0.2)}
    assert [lead.verdict for lead in leads.values()] == ["better", "better", *2 * ["not_enough_evidence"]]
    behind = {margin: compare(second, first, groups, seed=0, margin=margin) for margin in leads}
    assert [lag.verdict for lag in behind.values()] == ["worse", "worse", *2 * ["not_enough_evidence"]]
    assert len({(lead.low, lead.high, lead.difference) for lead in leads.values()}) == 1


@pytest.mark.parametrize(("wins", "ties"), [(5, 7), (7, 5), (9, 11)])
def test_ends_of_the_interval_are_expanded_percentiles_of_a_binomial(wins: int, ties: int) -> None:
    from scipy.stats import binom, norm, t

    n = wins + ties
    tail = norm.cdf(-math.sqrt(n / (n - 1)) * t.ppf(0.975, n - 1))
    expected, plain = (
        [float(binom.ppf(end, n, wins / n)) / n for end in (share, 1 - share)] for share in (tail, 0.025)
    )
    found = compare(*arms(wins, 0, ties), seed=0)
    assert [found.low, found.high] == pytest.approx(expected, abs=1e-9)
    assert expected[0] < plain[0] < plain[1] < expected[1]


def test_the_interval_is_that_of_scipy_over_whole_documents() -> None:
    from scipy.stats import bootstrap, norm, t

    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(30), rng.integers(1, 20, size=30))
    first, second = rng.random(len(groups)) < 0.9, rng.random(len(groups)) < 0.1
    sums, sizes = np.bincount(groups, first * 1.0 - second), np.bincount(groups)
    expected = bootstrap(
        (sums, sizes),
        lambda x, n, axis: x.sum(axis=axis) / n.sum(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=50_000,
        confidence_level=1 - 2 * norm.cdf(-math.sqrt(30 / 29) * t.ppf(0.975, 29)),
        rng=np.random.default_rng(0),
    ).confidence_interval
    found = compare(first, second, groups, seed=0)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.006)
    assert found.low < found.difference < found.high


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (3, 3), (4, 3), (2, 12), (12, 2), (80, 120), (700, 600)])
def test_mcnemar_is_the_exact_two_sided_binomial_test_by_rows(wins: int, losses: int) -> None:
    from scipy.stats import binomtest

    first, second, _ = arms(wins, losses, 5)
    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1
    assert compare(first, second, [0] * len(first), seed=0).mcnemar == pytest.approx(expected, rel=1e-9)


@given(ROWS, st.randoms(use_true_random=False))
def test_neither_the_order_of_rows_nor_the_names_of_groups_change_anything(
    rows: list[tuple[float, float, int]], random: object
) -> None:
    shuffled = [(a, b, 50 - group) for a, b, group in rows]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert compare(*zip(*shuffled, strict=True), seed=4) == compare(*zip(*rows, strict=True), seed=4)


def test_the_order_of_rows_does_not_change_random_flips_either() -> None:
    rng = np.random.default_rng(6)
    first, second, groups = rng.random(200), rng.random(200), rng.integers(40, size=200)
    order = rng.permutation(200)
    assert compare(first[order], second[order], groups[order], seed=2) == compare(first, second, groups, seed=2)


def test_a_seed_repeats_a_comparison_and_another_one_moves_only_what_is_drawn() -> None:
    rng = np.random.default_rng(7)
    first, second, groups = rng.random(300) < 0.6, rng.random(300) < 0.5, rng.integers(60, size=300)
    one, again, other = (compare(first, second, groups, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert (one.low, one.high) != (other.low, other.high)
    assert one.model_copy(update={"low": other.low, "high": other.high}) == other


@given(ROWS)
def test_swapping_the_arms_swaps_the_sides(rows: list[tuple[float, float, int]]) -> None:
    first, second, groups = zip(*rows, strict=True)
    there, back = compare(first, second, groups, seed=0), compare(second, first, groups, seed=0)
    assert ps(there) == pytest.approx(ps(back)[::-1])
    assert (there.difference, there.wins, there.mcnemar) == (-back.difference, back.losses, back.mcnemar)


@pytest.mark.parametrize("rows", [1, 5, 1000])
def test_an_arm_against_itself_is_never_better_and_always_non_inferior(rows: int) -> None:
    scores = np.random.default_rng(rows).random(rows) < 0.7
    found = compare(scores, scores, range(rows), seed=rows)
    assert found.verdict == "not_enough_evidence"
    assert (found.difference, found.low, found.high) == (0, 0, 0)
    assert (found.p_better, found.p_worse, found.mcnemar) == (1, 1, 1)
    assert non_inferior(found, 0.0)


def test_rows_of_one_document_are_one_piece_of_evidence() -> None:
    first, second, apart = arms(30, 0, 20)
    together = compare(first, second, [0] * 50, seed=0)
    assert (together.verdict, together.p_better, together.documents) == ("not_enough_evidence", 0.5, 1)
    assert (together.low, together.difference, together.high) == (-1, 0.6, 1)
    assert together.mcnemar < 1e-8
    assert compare(first, second, apart, seed=0).verdict == "better"
    cancelled = compare([1, 0], [0, 1], [0, 0], seed=0)
    assert (cancelled.low, cancelled.high, non_inferior(cancelled, 0.5)) == (-1, 1, False)


@pytest.mark.parametrize(
    ("wins", "losses", "ties", "passes"),
    [
        (4, 0, 0, False),  # too few documents to show anything
        (5, 0, 0, False),
        (6, 0, 0, True),
        (0, 0, 1, True),  # nothing differs
        (1, 1, 10, False),  # no loss seen, none ruled out
        (10, 10, 980, True),
        (0, 50, 450, False),
        (0, 5, 995, True),  # a loss, but within the margin
    ],
)
def test_non_inferior_is_what_rules_out_a_loss_beyond_the_margin(
    wins: int, losses: int, ties: int, passes: bool
) -> None:
    assert non_inferior(compare(*arms(wins, losses, ties), seed=0), 0.03) is passes


def test_an_interval_that_ends_at_the_margin_is_non_inferior() -> None:
    found = compare(*arms(10, 10, 80), seed=0).model_copy(update={"low": -0.03})
    assert non_inferior(found, 0.03)
    assert not non_inferior(found, 0.0299)


@pytest.mark.parametrize(
    ("first", "second", "groups", "margin", "message"),
    [
        ([], [], [], 0, "first has 0 scores: give one per row"),
        ([1, 0], [1], [0, 1], 0, "second has 1 scores: give one per row, 2"),
        ([1, 0], [], [0, 1], 0, "second has 0 scores: give one per row, 2"),
        ([1, 0], [1, 1], [0], 0, "2 rows have 1 groups"),
        ([1, math.nan], [1, 1], [0, 1], 0, "first has the score nan in row 1: scores are 0 to 1"),
        ([1, 0], [1.5, 1], [0, 1], 0, r"second has the score 1\.5 in row 0"),
        ([-0.1, 0], [1, 1], [0, 1], 0, r"first has the score -0\.1 in row 0"),
        ([1], [1], [0], -0.1, r"margin must be at least 0 and below 1, got -0\.1"),
        ([1], [1], [0], 1, "margin must be at least 0 and below 1, got 1"),
        ([1], [1], [0], math.nan, "got nan"),
    ],
)
def test_rows_that_are_no_paired_scores_are_refused(
    first: list[float], second: list[float], groups: list[int], margin: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        compare(first, second, groups, seed=0, margin=margin)
