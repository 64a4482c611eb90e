"""Whether an adapter can be trained, and whether a trained one can be served, without loading a model.

A server refuses, or worse ignores, an adapter with another shape than it expects (``vllm/lora/peft_helper.py`` and
``lora_model.py``), so everything it looks at is looked at here first: before training at the settings, after training
at the files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.core.errors import AdapterInvalidError, TrainingSpecInvalidError, suggest
from tidegate.training.spec import Recipe

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_LAYER = re.compile(r"^(?:.+\.)?layers\.\d+\..*?([^.]+)\.weight$")
_NUMBER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_TENSOR = re.compile(r"^base_model\.model\.(.+)\.lora_([AB])\.weight$")
_ALL_LINEAR = ("all-linear",)
_LARGEST_UPDATE = 100.0
"""Largest root mean square of scale * B that is taken for learnt; an adapter that diverged is far above it."""

Shapes = Mapping[str, tuple[int, int]]
"""(outputs, inputs) of a base model's linear modules by their name."""


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What was found in an adapter."""

    rank: int
    parameters: int
    update: float
    """Root mean square of all entries of scale * B: 0 has learnt nothing."""


def linear_modules(base_model: Path) -> Shapes:
    """Return the linear modules of a base model's layers, from the headers of its safetensors files."""
    from safetensors import safe_open

    found = {}
    for path in sorted(base_model.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dictionary
                shape = tensors.get_slice(name).get_shape()
                if _LAYER.match(name) and len(shape) == 2:
                    found[name.removesuffix(".weight")] = (int(shape[0]), int(shape[1]))
    return found


def layers_of(modules: Shapes) -> int:
    """Return how many layers a base model has."""
    return 1 + max((_layer_of(name) for name in modules), default=-1)


def resolved_targets(targets: Sequence[str], modules: Shapes) -> tuple[str, ...]:
    """Return the names of the modules that get an adapter; raise ``TrainingSpecInvalidError`` for an unknown one."""
    valid = sorted({name.rpartition(".")[2] for name in modules})
    if tuple(targets) == _ALL_LINEAR:
        return tuple(valid)
    for target in targets:
        if target not in valid:
            raise TrainingSpecInvalidError(
                f"training.lora.targets names {target!r}{suggest(target, [*valid, 'all-linear'])}"
            )
    return tuple(sorted(set(targets)))


def check_recipe(recipe: Recipe, lengths: Sequence[int], config: Mapping[str, Any], max_rank: int) -> None:
    """Raise ``TrainingSpecInvalidError`` for settings or rows that cannot be trained or served.

    ``lengths`` are the tokens of the longest question of every context, and ``config`` is the base model's.
    """
    if recipe.lora.r > max_rank:
        raise TrainingSpecInvalidError(
            f"training.lora.r is {recipe.lora.r}, but the pool loads at most serving.max_lora_rank {max_rank}"
        )
    if not lengths:
        raise TrainingSpecInvalidError("no training row is left: the dataset's training split gives none")
    room = min(recipe.max_length, int(config.get("max_position_embeddings", recipe.max_length)))
    if max(lengths) > room:
        raise TrainingSpecInvalidError(
            f"the longest row has {max(lengths)} tokens, but training.max_length is {recipe.max_length} and the base"
            f" model takes {config.get('max_position_embeddings', 'any number')}",
            next_action="lower prompt.window_tokens or prompt.passages, or raise training.max_length; nothing is cut",
        )


def check_adapter(folder: Path, modules: Shapes, base_model_id: str, max_rank: int) -> AdapterFacts:
    """Check an adapter's files as the server will see them; raise ``AdapterInvalidError`` for what is wrong."""
    present = {path.name for path in folder.iterdir()}
    if present != {CONFIG, WEIGHTS}:
        raise AdapterInvalidError(f"an adapter is {CONFIG} and {WEIGHTS} alone, found: {', '.join(sorted(present))}")
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except ValueError as error:
        raise AdapterInvalidError(f"{CONFIG} is not JSON: {error}") from error
    _check_config(config, base_model_id, max_rank)
    tensors = _tensors(folder / WEIGHTS)
    _check_shapes(tensors, modules, config)
    scale = config["lora_alpha"] / (config["r"] ** (0.5 if config.get("use_rslora") else 1))
    b_parts = [value for name, value in tensors.items() if name.endswith("lora_B.weight")]
    for name, value in tensors.items():
        if not np.isfinite(value).all():
            raise AdapterInvalidError(f"{name} holds values that are not finite")
    size = sum(value.size for value in b_parts)
    update = float(np.sqrt(sum(float(np.square(value, dtype=np.float64).sum()) for value in b_parts) / size)) * scale
    if update == 0:
        raise AdapterInvalidError("every B is zero: the adapter has learnt nothing")
    if update > _LARGEST_UPDATE:
        raise AdapterInvalidError(f"the adapter's update has a root mean square of {update:.3g}: training diverged")
    return AdapterFacts(int(config["r"]), sum(value.size for value in tensors.values()), update)


def _check_config(config: Mapping[str, Any], base_model_id: str, max_rank: int) -> None:
    wanted: dict[str, tuple[Any, ...]] = {
        "peft_type": ("LORA",),
        "base_model_name_or_path": (base_model_id,),
        "modules_to_save": (None, []),
        "use_dora": (False, None),
        "bias": ("none",),
        "rank_pattern": (None, {}),
        "alpha_pattern": (None, {}),
        "auto_mapping": (None,),
        "trainable_token_indices": (None,),
    }
    for key, allowed in wanted.items():
        if config.get(key) not in allowed:
            raise AdapterInvalidError(f"{CONFIG}: {key} is {config.get(key)!r}; the server needs {allowed[0]!r}")
    if not 0 < int(config["r"]) <= max_rank:
        raise AdapterInvalidError(f"{CONFIG}: r is {config['r']}; the pool loads at most {max_rank}")


def _layer_of(name: str) -> int:
    found = _NUMBER.search(name)
    return int(found[1]) if found else -1


def _tensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, TypeError) as error:
        raise AdapterInvalidError(f"{path.name} is not a safetensors file of numbers: {error}") from error


def _check_shapes(tensors: Mapping[str, Any], modules: Shapes, config: Mapping[str, Any]) -> None:
    rank, targets = int(config["r"]), set(config["target_modules"])
    adapted = config.get("layers_to_transform")
    expected = {
        f"base_model.model.{name}.lora_{part}.weight": shape
        for name, (outputs, inputs) in modules.items()
        if name.rpartition(".")[2] in targets and (adapted is None or _layer_of(name) in adapted)
        for part, shape in (("A", (rank, inputs)), ("B", (outputs, rank)))
    }
    if not expected:
        raise AdapterInvalidError(f"{CONFIG}: target_modules {sorted(targets)} are not in the base model")
    for name, value in tensors.items():
        if not _TENSOR.match(name) or name not in expected:
            raise AdapterInvalidError(f"{WEIGHTS}: tensor {name} belongs to no target module of the base model")
        if tuple(value.shape) != expected[name]:
            raise AdapterInvalidError(
                f"{WEIGHTS}: tensor {name} has shape {tuple(value.shape)}, the base model needs {expected[name]}"
            )
    missing = expected.keys() - tensors.keys()
    if missing:
        raise AdapterInvalidError(f"{WEIGHTS}: tensor {min(missing)} is missing ({len(missing)} in all)")
