"""Batches: every row once an epoch, hardly any padding, and the positions and labels of each question asked alone."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.training.batches import UNLABELLED, collate, plan_steps, row_of

LINE = {
    "prefix": [10, 11, 12],
    "branches": [{"prompt": [20, 21], "completion": [30, 31, 32, 2]}, {"prompt": [22], "completion": [33, 2]}],
}
SHORT = {"prefix": [40], "branches": [{"prompt": [41], "completion": [2]}]}
NO = UNLABELLED


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=60),
    batch_tokens=st.integers(1, 2000),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_every_epoch_trains_each_row_once_within_the_tokens_of_a_step(
    lengths: list[int], batch_tokens: int, epochs: int, seed: int
) -> None:
    steps = plan_steps(lengths, batch_tokens=batch_tokens, epochs=epochs, seed=seed)
    per_epoch = len(steps) // epochs
    for epoch in range(epochs):
        rows = [at for step in steps[epoch * per_epoch : (epoch + 1) * per_epoch] for at in step]
        assert sorted(rows) == list(range(len(lengths)))
    for step in steps:
        assert len(step) == 1 or len(step) * max(lengths[at] for at in step) <= batch_tokens


@pytest.mark.parametrize("batch_tokens", [1280, 4096, 16384])
@pytest.mark.parametrize("sigma", [0.3, 0.6, 1.0])
def test_at_least_95_of_100_slots_hold_a_token_on_a_log_normal_mix(batch_tokens: int, sigma: float) -> None:
    draw = random.Random(f"{batch_tokens}/{sigma}")
    lengths = [min(1024, max(8, round(draw.lognormvariate(5.5, sigma)))) for _ in range(2000)]
    steps = plan_steps(lengths, batch_tokens=batch_tokens, epochs=1, seed=0)
    slots = sum(len(step) * max(lengths[at] for at in step) for step in steps)
    assert sum(lengths) / slots >= 0.95  # a row a step would hold nothing but tokens: 1.0 is the optimum
    roomy = [step for step in steps if (len(step) + 1) * max(lengths[at] for at in step) <= batch_tokens]
    assert len(roomy) <= 1  # and that is not bought with small steps


def test_a_plan_follows_from_its_arguments_and_orders_every_epoch_anew() -> None:
    lengths = [random.Random(at).randrange(5, 100) for at in range(80)]

    def plan(seed: int) -> list[list[int]]:
        return plan_steps(lengths, batch_tokens=200, epochs=2, seed=seed)

    assert plan(1) == plan(1) != plan(2)
    half = len(plan(1)) // 2
    assert plan(1)[:half] != plan(1)[half:]
    longest = [max(lengths[at] for at in step) for step in plan(1)[:half]]
    assert any(one < other for one, other in pairwise(longest))  # not sorted by length


def test_a_row_counts_positions_on_from_the_shared_tokens_and_learns_the_answers() -> None:
    row = row_of(LINE)
    assert row.tokens == (10, 11, 12, 20, 21, 30, 31, 32, 2, 22, 33, 2)
    assert row.positions == (0, 1, 2, 3, 4, 5, 6, 7, 8, 3, 4, 5)
    assert row.branches == (0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2)
    assert row.labels == (NO, NO, NO, NO, NO, 30, 31, 32, 2, NO, 33, 2)
    assert row.weights == pytest.approx((0, 0, 0, 0, 0, *[0.5] * 4, 0, *[2**-0.5] * 2))


def test_a_batch_is_padded_on_the_right_with_nothing_to_learn() -> None:
    batch = collate([row_of(LINE), row_of(SHORT)])
    assert batch["input_ids"].shape == (2, 12)
    assert batch["input_ids"][1, :3].tolist() == [40, 41, 2]
    assert batch["labels"][1].tolist() == [NO, NO, 2, *[NO] * 9]
    assert batch["weights"][1].tolist() == [0, 0, 1, *[0] * 9]
    assert batch["position_ids"][1, :3].tolist() == [0, 1, 2]
    assert batch["labels"][0].tolist() == list(row_of(LINE).labels)


def test_a_token_sees_itself_what_is_before_it_in_its_branch_and_the_shared_ones() -> None:
    batch = collate([row_of(LINE), row_of(SHORT)])
    assert batch["attention_mask"].shape == (2, 1, 12, 12)
    sees = [[at for at, seen in enumerate(line) if seen] for line in batch["attention_mask"][0, 0].tolist()]
    assert sees[2] == [0, 1, 2]
    assert sees[8] == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert sees[9] == [0, 1, 2, 9]
    assert sees[11] == [0, 1, 2, 9, 10, 11]
    short = batch["attention_mask"][1, 0]
    assert not short[:3, 3:].any()  # no token sees padding
    assert short.any(dim=1).all()  # a line that sees nothing would be divided by zero


def test_packed_rows_lie_in_one_line_without_padding_and_positions_start_anew() -> None:
    single = {"prefix": [10], "branches": LINE["branches"][:1]}
    batch = collate([row_of(single), row_of(SHORT)], packed=True)
    assert batch["input_ids"].tolist() == [[10, 20, 21, 30, 31, 32, 2, 40, 41, 2]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5, 6, 0, 1, 2]]
    assert batch["labels"].tolist() == [[NO, NO, NO, 30, 31, 32, 2, NO, NO, 2]]
    assert batch["weights"].tolist() == [[0, 0, 0, 0.5, 0.5, 0.5, 0.5, 0, 0, 1]]
    assert "attention_mask" not in batch


def test_a_row_with_several_questions_is_not_packed() -> None:
    with pytest.raises(ValueError, match="several questions"):
        collate([row_of(LINE)], packed=True)


def test_rows_of_a_step_have_like_lengths() -> None:
    lengths = [10] * 6 + [100] * 6
    steps = plan_steps(lengths, batch_tokens=300, epochs=1, seed=0)
    assert Counter(frozenset(lengths[at] for at in step) for step in steps)[frozenset({10, 100})] == 0
