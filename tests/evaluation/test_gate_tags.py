"""The gate's rule for tags: a broken one is found, and chance alone breaks none of twenty."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from tests.evaluation.planted_answers import CONFIG, answers, champion, facts, failed, improved, rule_of
from tidegate.core.evaluation_records import Comparison, Figure
from tidegate.core.records import GateRule
from tidegate.evaluation.gate import Facts, judge_candidate
from tidegate.evaluation.significance import compare


@pytest.fixture(scope="module")
def honest() -> Facts:
    """An honest improvement."""
    return facts(answers(improved))


def a_comparison(difference: float, *, rows: int, wins: int, losses: int, half: float = 0.02) -> Comparison:
    return Comparison(
        verdict="better",
        difference=difference,
        low=difference - half,
        high=difference + half,
        p_better=0.001,
        p_worse=1.0,
        rows=rows,
        documents=20,
        wins=wins,
        losses=losses,
        mcnemar=0.5,
    )


COUNTS = {"travel": 20, "security": 20, "rare": 19}
"""Rows of the champion by tag; security is compared on 19 of them."""


@pytest.mark.parametrize(("loss", "passed"), [(0.15, True), (0.4, False)])
def test_what_a_tag_may_lose_is_its_margin_or_what_chance_explains(honest: Facts, loss: float, passed: bool) -> None:
    """Worked out by hand: of 400 rows 60 differ, of the tag's 20 so many as it lost."""
    overall = a_comparison(0.05, rows=400, wins=40, losses=20, half=NormalDist().inv_cdf(0.975) * 0.025)
    tag = a_comparison(-loss, rows=20, wins=0, losses=round(20 * loss))
    slices = {f"tag:{name}": {"correct": Figure(value=0.5, n=n)} for name, n in COUNTS.items()}
    before = honest.champion.model_copy(update={"slices": slices}) if honest.champion else None
    few = a_comparison(-1.0, rows=19, wins=0, losses=19)
    found = replace(honest, champion=before, comparison=overall, tags={"travel": tag, "security": few})
    rules = judge_candidate(found, CONFIG)
    assert [rule.name for rule in rules if rule.name.startswith("tag ")] == ["tag travel"]
    judged_tag = rule_of(rules, "tag travel")
    variance, whole = loss - loss**2, 0.15 - 0.05**2
    standard = 0.025 * math.sqrt(400 / 20) * math.sqrt(max(1, variance / whole))
    assert judged_tag.threshold == pytest.approx(-max(0.1, 1.6448536 * standard), abs=1e-6)
    assert judged_tag.passed is passed


def test_a_tag_that_nothing_moved_is_held_to_its_margin() -> None:
    rules = judge_candidate(facts(answers(champion)), CONFIG)
    assert rule_of(rules, "tag travel") == GateRule(name="tag travel", value=0.0, threshold=-0.1, passed=True)


def differences(rng: np.random.Generator, wins: float, losses: float) -> np.ndarray:
    """Return 4 documents of 5 rows of a tag: 1, 0 or -1, with a correlation of 0.2 within a document."""
    outcomes, shares = [1, -1, 0], [wins, losses, 1 - wins - losses]
    own, shared = (rng.choice(outcomes, size=shape, p=shares) for shape in ((4, 5), (4, 1)))
    return np.where(rng.random((4, 5)) < math.sqrt(0.2), shared, own)


def simulated(honest: Facts, tags: list[np.ndarray]) -> Facts:
    """Return the honest facts with the differences of simulated rows."""
    whole = np.concatenate(tags)
    groups = np.repeat(np.arange(len(whole)), 5).tolist()
    overall = compare((whole.ravel() > 0) * 1.0, (whole.ravel() < 0) * 1.0, groups, seed=0)
    found = {
        f"{number:02d}": a_comparison(
            float(tag.mean()), rows=20, wins=int((tag > 0).sum()), losses=int((tag < 0).sum())
        )
        for number, tag in enumerate(tags)
    }
    slices = {f"tag:{name}": {"correct": Figure(value=0.5, n=20)} for name in found}
    before = honest.champion.model_copy(update={"slices": slices}) if honest.champion else None
    return replace(honest, champion=before, comparison=overall, tags=found)


@pytest.mark.parametrize(("wins", "losses", "most"), [(0.07, 0.02, 0.02), (0.045, 0.045, 0.05)])
def test_of_20_tags_none_fails_by_chance(honest: Facts, wins: float, losses: float, most: float) -> None:
    """An improvement by five points, and an equal: a margin of ten points alone would stop most of them."""
    rng, alarms, margin_alone = np.random.default_rng(0), 0, 0
    for _ in range(200):
        tags = [differences(rng, wins, losses) for _ in range(20)]
        rules = judge_candidate(simulated(honest, tags), CONFIG)
        alarms += any(name.startswith("tag ") for name in failed(rules))
        margin_alone += any(tag.mean() < -0.1 for tag in tags)
    assert alarms / 200 <= most
    assert margin_alone / 200 >= 0.25


def test_a_broken_tag_among_20_is_found_and_named(honest: Facts) -> None:
    """The tag loses 70 points of its 20 rows."""
    rng, found = np.random.default_rng(0), 0
    for _ in range(100):
        tags = [differences(rng, 0.07, 0.02) for _ in range(19)]
        broken = np.where(rng.permutation(20) < 14, -1, 0).reshape(4, 5)
        names = failed(judge_candidate(simulated(honest, [*tags, broken]), CONFIG))
        found += [name for name in names if name.startswith("tag ")] == ["tag 19"]
    assert found >= 97
