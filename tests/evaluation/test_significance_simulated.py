"""How often a comparison is right: simulated pairs of arms whose true difference is known."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from tidegate.core.evaluation_records import Comparison
from tidegate.evaluation import significance
from tidegate.evaluation.significance import compare, non_inferior

PAIRS = 2_000
QUESTIONS = 500


def simulated(
    rng: np.random.Generator, documents: int, win: float, loss: float, correlation: float, *, equal_sizes: bool = False
) -> Comparison:
    """Compare two arms with so large shares of wins and losses.

    With probability √correlation a row has the outcome that its document drew, otherwise one of its own: two rows of a
    document then correlate as wanted, and the shares stay.
    """
    groups = np.arange(QUESTIONS) % documents if equal_sizes else rng.integers(documents, size=QUESTIONS)
    shared = rng.random(QUESTIONS) < math.sqrt(correlation)
    drawn = np.where(shared, rng.random(documents)[groups], rng.random(QUESTIONS))
    both = rng.random(QUESTIONS) < 0.6
    wins, losses = drawn < win, drawn > 1 - loss
    return compare(wins | ~losses & both, losses | ~wins & both, groups, seed=0)


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """For verdicts alone: the interval does not decide them."""
    monkeypatch.setattr(significance, "_RESAMPLES", 100)


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize(
    ("documents", "correlation", "discordant"), [(25, 0.0, 0.09), (25, 0.2, 0.15), (100, 0.0, 0.15), (100, 0.2, 0.09)]
)
def test_of_equal_arms_few_are_called_better_and_mcnemar_calls_more_where_rows_cluster(
    documents: int, correlation: float, discordant: float
) -> None:
    rng = np.random.default_rng((documents, round(10 * correlation)))
    called: Counter[str] = Counter()
    for _ in range(PAIRS):
        found = simulated(rng, documents, discordant / 2, discordant / 2, correlation)
        called[found.verdict] += 1
        called["mcnemar"] += found.mcnemar <= 0.05 and found.wins > found.losses
    assert called["better"] <= 0.035 * PAIRS
    assert called["worse"] <= 0.035 * PAIRS
    assert called["better"] >= 0.01 * PAIRS  # a test that never speaks is no test
    by_mcnemar = called["mcnemar"] / PAIRS
    if correlation:
        assert by_mcnemar >= {25: 0.15, 100: 0.05}[documents]
    else:
        assert by_mcnemar <= 0.035


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize("equal_sizes", [True, False])
def test_a_lead_of_five_points_over_100_documents_is_found(equal_sizes: bool) -> None:
    rng = np.random.default_rng(8)
    found = [simulated(rng, 100, 0.07, 0.02, 0.2, equal_sizes=equal_sizes) for _ in range(PAIRS)]
    assert np.mean([item.difference for item in found]) == pytest.approx(0.05, abs=0.002)
    assert sum(item.verdict == "better" for item in found) >= 0.75 * PAIRS
    assert not any(item.verdict == "worse" for item in found)


@pytest.mark.parametrize(("documents", "coverage"), [(25, 0.92), (100, 0.93)])
def test_the_interval_holds_the_true_difference_about_as_often_as_it_says(
    documents: int, coverage: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(significance, "_RESAMPLES", 1_000)
    rng = np.random.default_rng(9)
    found = [simulated(rng, documents, 0.075, 0.075, 0.2) for _ in range(1_000)]
    assert coverage <= np.mean([item.low <= 0 <= item.high for item in found]) <= 0.97


def test_a_loss_beyond_the_margin_is_seldom_non_inferior(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(significance, "_RESAMPLES", 1_000)
    rng = np.random.default_rng(10)

    def passed(win: float, loss: float, margin: float) -> float:
        found = [simulated(rng, 100, win, loss, 0.2) for _ in range(300)]
        return sum(non_inferior(item, margin) for item in found) / len(found)

    assert passed(0.03, 0.06, 0.03) <= 0.05  # the loss is the margin
    assert passed(0.02, 0.10, 0.03) == 0
    assert passed(0.045, 0.045, 0.1) >= 0.95
