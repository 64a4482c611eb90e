"""What a job is given and gives back: JSON that reads back equal, and a digest of all that decides the adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.training.jobs import RECIPE, make_recipe, make_spec
from tidegate.training.spec import Recipe, TrainResult, TrainSpec


@pytest.mark.parametrize(
    "changes",
    [
        {"backend": "unsloth"},
        {"precision": "bfloat16"},
        {"epochs": 2},
        {"learning_rate": 1e-3},
        {"warmup_share": 0.1},
        {"batch_tokens": 128},
        {"max_length": 100},
        {"packing": True},
        {"gradient_checkpointing": True},
        {"threads": 2},
        {"early_stopping": 1},
        {"evaluations": 2},
        {"seed": 1},
        {"lora": {"r": 8}},
        {"lora": {"targets": ("q_proj",)}},
        {"lora": {"dropout": 0.1}},
    ],
)
def test_everything_in_a_recipe_decides_its_digest(changes: dict[str, Any]) -> None:
    assert make_recipe().digest == make_recipe().digest != make_recipe(**changes).digest


def test_the_cases_above_cover_every_field() -> None:
    assert Recipe.model_fields.keys() == {*RECIPE, "lora"}


def test_a_spec_and_a_result_read_back_equal(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, tmp_path)
    assert TrainSpec.model_validate_json(spec.model_dump_json()) == spec
    result = made_result(seconds=2.0)
    assert TrainResult.model_validate_json(result.model_dump_json()) == result


def test_a_spec_with_a_key_of_another_version_is_refused(tmp_path: Path) -> None:
    values = make_spec(tmp_path, tmp_path).model_dump(mode="json")
    with pytest.raises(ValidationError, match="extra_forbidden"):
        TrainSpec.model_validate(values | {"other": 1})


def test_throughput_is_of_this_try_and_nothing_if_it_did_nothing() -> None:
    assert made_result(seconds=2.0).tokens_per_second == 150.0
    assert made_result(seconds=0.0).tokens_per_second == 0.0


def made_result(seconds: float) -> TrainResult:
    return TrainResult(
        steps=10,
        first_step=5,
        tokens=300,
        slots=320,
        seconds=seconds,
        losses=((5, 1.0), (10, 0.1)),
        dev_losses=((10, 0.2),),
        stopped_early=False,
        best_step=10,
        device="cpu",
        versions={"torch": "2"},
    )
