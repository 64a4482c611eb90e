"""What cannot be trained or served is refused before anything is spent, with the value and what is valid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.training.jobs import LAYERS, LINEAR, make_recipe
from tidegate.core.errors import AdapterInvalidError, TrainingSpecInvalidError
from tidegate.training.preflight import (
    CONFIG,
    WEIGHTS,
    check_adapter,
    check_recipe,
    layers_of,
    linear_modules,
    resolved_targets,
)

BASE = "base-1"
MODULES = {"model.layers.0.self_attn.q_proj": (8, 6), "model.layers.0.mlp.up_proj": (12, 6)}
RANK = 2
Q_A, Q_B = (f"base_model.model.model.layers.0.self_attn.q_proj.lora_{part}.weight" for part in "AB")
CONFIG_VALUES = {
    "peft_type": "LORA",
    "base_model_name_or_path": BASE,
    "r": RANK,
    "lora_alpha": 4,
    "target_modules": ["q_proj", "up_proj"],
    "modules_to_save": None,
    "use_dora": False,
    "use_rslora": False,
    "bias": "none",
    "rank_pattern": {},
    "alpha_pattern": {},
}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter of ones that can be served."""
    tensors = {
        f"base_model.model.{name}.lora_{part}.weight": np.ones(shape, dtype=np.float32)
        for name, (outputs, inputs) in MODULES.items()
        for part, shape in (("A", (RANK, inputs)), ("B", (outputs, RANK)))
    }
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_file(tensors, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(CONFIG_VALUES))
    return folder


def change_tensors(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    tensors = dict(load_file(folder / WEIGHTS))
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def check(folder: Path, max_rank: int = 8) -> Any:
    return check_adapter(folder, MODULES, BASE, max_rank)


def test_the_linear_modules_are_those_of_the_layers_with_their_shapes(tiny_base_model: Path) -> None:
    modules = linear_modules(tiny_base_model)
    assert len(modules) == 2 * 7
    assert modules["model.layers.1.self_attn.k_proj"] == (16, 32)
    assert modules["model.layers.0.mlp.down_proj"] == (32, 64)
    assert resolved_targets(["all-linear"], modules) == LINEAR
    assert layers_of(modules) == LAYERS
    assert layers_of({}) == 0


def test_targets_are_sorted_and_named_once() -> None:
    assert resolved_targets(["up_proj", "q_proj", "up_proj"], MODULES) == ("q_proj", "up_proj")


def test_an_unknown_target_is_refused_with_the_valid_ones() -> None:
    wanted = r"targets names 'q_prj'; did you mean 'q_proj'\? valid: all-linear, q_proj, up_proj"
    with pytest.raises(TrainingSpecInvalidError, match=wanted):
        resolved_targets(["up_proj", "q_prj"], MODULES)


def test_all_linear_beside_other_targets_is_refused() -> None:
    with pytest.raises(TrainingSpecInvalidError, match="targets names 'all-linear'"):
        resolved_targets(["all-linear", "q_proj"], MODULES)


@pytest.mark.parametrize(
    ("changes", "lengths", "positions", "message"),
    [
        ({"lora": {"r": 65}}, [10], 1024, "lora.r is 65, but the pool loads at most serving.max_lora_rank 64"),
        ({}, [], 1024, "no training row is left"),
        ({"max_length": 100}, [10, 101], 1024, "longest row has 101 tokens, but training.max_length is 100"),
        ({"max_length": 4096}, [1025, 9], 1024, "longest row has 1025 tokens.*the base model takes 1024"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_its_value(
    changes: dict[str, Any], lengths: list[int], positions: int, message: str
) -> None:
    with pytest.raises(TrainingSpecInvalidError, match=message):
        check_recipe(make_recipe(**changes), lengths, {"max_position_embeddings": positions}, max_rank=64)


def test_the_largest_that_is_allowed_is_trained() -> None:
    recipe = make_recipe(lora={"r": 64}, max_length=100)
    check_recipe(recipe, [100], {"max_position_embeddings": 100}, max_rank=64)
    check_recipe(recipe, [100], {}, max_rank=64)


@pytest.mark.parametrize(("layers", "fits"), [([0], True), ([0, 1], True), ([1], False), ([], False), (None, True)])
def test_only_layers_that_are_to_be_adapted_may_have_tensors(
    adapter: Path, layers: list[int] | None, fits: bool
) -> None:
    (adapter / CONFIG).write_text(json.dumps(CONFIG_VALUES | {"layers_to_transform": layers}))
    if fits:
        assert check(adapter).rank == RANK
    else:
        with pytest.raises(AdapterInvalidError, match=r"are not in the base model|belongs to no target module"):
            check(adapter)


def test_a_layer_that_was_to_be_adapted_and_was_not_is_missed(adapter: Path) -> None:
    modules = MODULES | {"model.layers.1.mlp.up_proj": (12, 6)}
    assert layers_of(modules) == 2
    (adapter / CONFIG).write_text(json.dumps(CONFIG_VALUES | {"layers_to_transform": [0]}))
    assert check_adapter(adapter, modules, BASE, 8).rank == RANK
    (adapter / CONFIG).write_text(json.dumps(CONFIG_VALUES | {"layers_to_transform": [0, 1]}))
    with pytest.raises(AdapterInvalidError, match=r"layers\.1\.mlp\.up_proj\.lora_A\.weight is missing \(2 in all\)"):
        check_adapter(adapter, modules, BASE, 8)


def test_facts_of_an_adapter_are_its_rank_size_and_update(adapter: Path) -> None:
    facts = check(adapter)
    assert (facts.rank, facts.parameters) == (RANK, 2 * 6 * 2 + 8 * 2 + 12 * 2)
    assert facts.update == pytest.approx(4 / 2)  # alpha / r times ones
    (adapter / CONFIG).write_text(json.dumps(CONFIG_VALUES | {"use_rslora": True}))
    assert check(adapter).update == pytest.approx(4 / 2**0.5)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("base_model_name_or_path", "base-2", "base_model_name_or_path is 'base-2'; the server needs 'base-1'"),
        ("use_dora", True, "use_dora is True; the server needs False"),
        ("modules_to_save", ["lm_head"], r"modules_to_save is \['lm_head'\]; the server needs None"),
        ("bias", "all", "bias is 'all'; the server needs 'none'"),
        ("peft_type", "IA3", "peft_type is 'IA3'; the server needs 'LORA'"),
        ("rank_pattern", {"q_proj": 4}, "rank_pattern is {'q_proj': 4}"),
        ("alpha_pattern", {"q_proj": 4}, "alpha_pattern is {'q_proj': 4}"),
        ("trainable_token_indices", [1], r"trainable_token_indices is \[1\]"),
        ("r", 9, "r is 9; the pool loads at most 8"),
        ("r", 0, "r is 0; the pool loads at most 8"),
        ("target_modules", ["w1"], r"target_modules \['w1'\] are not in the base model"),
    ],
)
def test_a_configuration_that_the_server_refuses_is_named(adapter: Path, key: str, value: Any, message: str) -> None:
    (adapter / CONFIG).write_text(json.dumps(CONFIG_VALUES | {key: value}))
    with pytest.raises(AdapterInvalidError, match=message):
        check(adapter)


@pytest.mark.parametrize("name", ["adapter_model.bin", "optimizer.pt"])
def test_a_file_that_could_be_unpickled_may_not_lie_beside(adapter: Path, name: str) -> None:
    (adapter / name).write_bytes(b"")
    with pytest.raises(AdapterInvalidError, match=f"{CONFIG} and {WEIGHTS} alone, found: .*{name}"):
        check(adapter)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_missing_file_is_refused(adapter: Path, name: str) -> None:
    (adapter / name).unlink()
    with pytest.raises(AdapterInvalidError, match="alone, found: adapter_"):
        check(adapter)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_file_that_cannot_be_read_is_refused_by_name(adapter: Path, name: str) -> None:
    (adapter / name).write_bytes(b"not what it says")
    with pytest.raises(AdapterInvalidError, match=name):
        check(adapter)


def one_entry(value: float) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        tensors[Q_A][0, 0] = value

    return change


def scaled(factor: float) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        for name in tensors:
            if "lora_B" in name:
                tensors[name] *= factor

    return change


FOREIGN = "base_model.model.lm_head.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(Q_B), rf"tensor {Q_B} is missing \(1 in all\)"),
        (lambda tensors: tensors.update({FOREIGN: np.ones((2, 6))}), f"tensor {FOREIGN} belongs to no target module"),
        (lambda tensors: tensors.update({Q_A: np.ones((6, 2))}), rf"{Q_A} has shape \(6, 2\), .* needs \(2, 6\)"),
        (lambda tensors: tensors.update({Q_B: np.ones((8, 3))}), rf"{Q_B} has shape \(8, 3\), .* needs \(8, 2\)"),
        (one_entry(np.nan), f"{Q_A} holds values that are not finite"),
        (one_entry(-np.inf), f"{Q_A} holds values that are not finite"),
        (scaled(0.0), "every B is zero: the adapter has learnt nothing"),
        (scaled(60.0), "root mean square of 120: training diverged"),
    ],
)
def test_tensors_that_the_server_would_misread_are_refused(
    adapter: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    change_tensors(adapter, change)
    with pytest.raises(AdapterInvalidError, match=message):
        check(adapter)
