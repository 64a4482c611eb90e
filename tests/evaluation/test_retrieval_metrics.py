"""Retrieval metrics against values worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.evaluation.retrieval_metrics import mean_metrics, score_ranking

RANKED = [f"d{rank}" for rank in range(1, 13)]
"""Twelve documents, named by their rank."""


def values(*numbers: float) -> dict[str, float]:
    names = ("hit@1", "hit@5", "hit@10", "recall@1", "recall@5", "recall@10", "mrr", "ndcg@10")
    return dict(zip(names, numbers, strict=True))


LOG3, LOG4, LOG7 = math.log2(3), math.log2(4), math.log2(7)


@pytest.mark.parametrize(
    ("gold", "expected"),
    [
        ({"d1"}, values(1, 1, 1, 1, 1, 1, 1, 1)),
        ({"d2"}, values(0, 1, 1, 0, 1, 1, 1 / 2, 1 / LOG3)),
        ({"d5"}, values(0, 1, 1, 0, 1, 1, 1 / 5, 1 / math.log2(6))),
        ({"d6"}, values(0, 0, 1, 0, 0, 1, 1 / 6, 1 / LOG7)),
        ({"d10"}, values(0, 0, 1, 0, 0, 1, 1 / 10, 1 / math.log2(11))),
        ({"d11"}, values(0, 0, 0, 0, 0, 0, 1 / 11, 0)),
        ({"absent"}, values(0, 0, 0, 0, 0, 0, 0, 0)),
        ({"d1", "d2"}, values(1, 1, 1, 1 / 2, 1, 1, 1, 1)),
        ({"d1", "d6"}, values(1, 1, 1, 1 / 2, 1 / 2, 1, 1, (1 + 1 / LOG7) / (1 + 1 / LOG3))),
        ({"d2", "d3"}, values(0, 1, 1, 0, 1, 1, 1 / 2, (1 / LOG3 + 1 / LOG4) / (1 + 1 / LOG3))),
        ({"d3", "absent"}, values(0, 1, 1, 0, 1 / 2, 1 / 2, 1 / 3, (1 / LOG4) / (1 + 1 / LOG3))),
    ],
)
def test_one_question_is_scored_as_by_hand(gold: set[str], expected: dict[str, float]) -> None:
    assert score_ranking(RANKED, gold) == pytest.approx(expected)


def test_nothing_found_scores_nothing() -> None:
    assert score_ranking([], {"a"}) == values(0, 0, 0, 0, 0, 0, 0, 0)


def test_with_more_golds_than_places_the_ideal_is_a_full_page() -> None:
    assert score_ranking(RANKED, set(RANKED)) == pytest.approx(values(1, 1, 1, 1 / 12, 5 / 12, 10 / 12, 1, 1))


def test_a_question_without_gold_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="without gold documents cannot be scored"):
        score_ranking(RANKED, set())


@given(st.lists(st.sampled_from(RANKED), unique=True), st.sets(st.sampled_from([*RANKED, "absent"]), min_size=1))
def test_metrics_stay_between_nothing_and_all_and_grow_with_depth(ranked: list[str], gold: set[str]) -> None:
    found = score_ranking(ranked, gold)
    assert all(0 <= value <= 1 + 1e-12 for value in found.values())
    assert found["hit@1"] <= found["hit@5"] <= found["hit@10"]
    assert found["recall@1"] <= found["recall@5"] <= found["recall@10"] <= found["hit@10"]
    assert (found["mrr"] > 0) == bool(gold & set(ranked))


def test_the_mean_is_over_questions() -> None:
    rows = [score_ranking(RANKED, {"d1"}), score_ranking(RANKED, {"d2"}), score_ranking(RANKED, {"absent"})]
    expected = values(1 / 3, 2 / 3, 2 / 3, 1 / 3, 2 / 3, 2 / 3, 1 / 2, (1 + 1 / LOG3) / 3)
    assert mean_metrics(iter(rows)) == pytest.approx(expected)
    assert mean_metrics([]) == {}
