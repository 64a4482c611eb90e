"""The loss of a batch, however its rows lie: with shared passages, padded or packed, that of each question alone."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.jobs import LAYERS, context, make_spec
from tidegate.core.errors import TrainingSpecInvalidError
from tidegate.training.batches import UNLABELLED, Row, collate, row_of
from tidegate.training.model import answer_loss, load_base_model, lora_config

TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def model(tiny_base_model: Path) -> Any:
    """The tiny model with an adapter that changes much, in float32."""
    from peft import get_peft_model

    spec = make_spec(tiny_base_model, tiny_base_model, precision="float32")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = get_peft_model(load_base_model(spec, "cpu"), lora_config(spec.recipe.lora, LAYERS))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 2:  # sharp attention: what a token sees, and where, decides its loss
                    parameter.copy_(torch.randn_like(parameter) * 0.5)
    return model.eval()


def loss(model: Any, rows: list[Row], *, packed: bool = False) -> float:
    with torch.no_grad():
        return float(answer_loss(model, collate(rows, packed=packed)))


def weight(row: Row) -> float:
    return sum(row.weights)


def plain_loss(model: Any, row: Row) -> float:
    """Return a single row's loss from all logits of an ordinary forward pass."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([row.tokens])).logits[0, :-1]
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor(row.labels[1:]), reduction="none")
    weights = torch.tensor(row.weights[1:])
    return float((losses * weights).sum() / weights.sum())


def mean(parts: list[tuple[float, float]]) -> float:
    return sum(value * size for value, size in parts) / sum(size for _, size in parts)


def alone(line: dict[str, Any]) -> list[Row]:
    return [row_of({**line, "branches": [branch]}) for branch in line["branches"]]


def test_the_loss_of_a_question_is_that_of_an_ordinary_forward_pass(model: Any) -> None:
    row = row_of(context(random.Random(0), branches=1))
    assert row.labels.count(UNLABELLED) < len(row.labels)
    assert loss(model, [row]) == pytest.approx(plain_loss(model, row), abs=TOLERANCE)


def test_questions_that_share_passages_have_the_losses_of_each_asked_alone(model: Any) -> None:
    line = context(random.Random(1), branches=4)
    wanted = mean([(plain_loss(model, row), weight(row)) for row in alone(line)])
    assert loss(model, [row_of(line)]) == pytest.approx(wanted, abs=TOLERANCE)


def test_padding_changes_no_loss(model: Any) -> None:
    lines = [context(random.Random(seed), branches=branches) for seed, branches in ((2, 3), (3, 1), (4, 2))]
    rows = [row_of(line) for line in lines]
    assert len({len(row.tokens) for row in rows}) == 3
    wanted = mean([(loss(model, [row]), weight(row)) for row in rows])
    assert loss(model, rows) == pytest.approx(wanted, abs=TOLERANCE)


def test_packing_changes_no_loss(model: Any) -> None:
    rows = [row_of(context(random.Random(seed), branches=1)) for seed in range(5, 9)]
    wanted = mean([(plain_loss(model, row), weight(row)) for row in rows])
    assert loss(model, rows, packed=True) == pytest.approx(wanted, abs=TOLERANCE)


def test_a_mask_of_ones_would_mix_packed_rows(model: Any) -> None:
    rows = [row_of(context(random.Random(seed), branches=1)) for seed in range(5, 9)]
    batch = collate(rows, packed=True)
    size = batch["input_ids"].shape[1]
    ones = torch.tril(torch.ones(1, 1, size, size, dtype=torch.bool))  # what a mask of ones is to a causal model
    with torch.no_grad():
        mixed = float(answer_loss(model, batch | {"attention_mask": ones}))
    assert abs(mixed - loss(model, rows, packed=True)) > 100 * TOLERANCE


def test_long_answers_do_not_outweigh_short_ones(model: Any) -> None:
    line = context(random.Random(9), branches=2)
    line["branches"][0]["completion"] = [*range(100, 163), 2]
    line["branches"][1]["completion"] = [200, 201, 202, 2]
    long, short = alone(line)
    assert (weight(long), weight(short)) == (pytest.approx(8), pytest.approx(2))
    wanted = 0.8 * plain_loss(model, long) + 0.2 * plain_loss(model, short)
    assert loss(model, [row_of(line)]) == pytest.approx(wanted, abs=TOLERANCE)


def test_four_bits_without_a_gpu_are_refused_with_what_is_valid(tiny_base_model: Path) -> None:
    spec = make_spec(tiny_base_model, tiny_base_model, lora={"quantization": "nf4"})
    with pytest.raises(TrainingSpecInvalidError, match="quantization is nf4, but this worker has no GPU; valid: none"):
        load_base_model(spec, "cpu")
