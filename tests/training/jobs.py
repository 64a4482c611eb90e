"""Small training jobs: rows of random tokens, and the spec of a job over them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tidegate.training.spec import LoraShape, Recipe, TrainSpec

LINEAR = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
LORA = {
    "r": 4,
    "alpha": 8,
    "dropout": 0.0,
    "targets": LINEAR,
    "skip_layers": 0,
    "rslora": False,
    "quantization": "none",
}
RECIPE = {
    "backend": "trl",
    "precision": "float32",
    "epochs": 1,
    "learning_rate": 1e-2,
    "warmup_share": 0.05,
    "batch_tokens": 256,
    "max_length": 512,
    "packing": False,
    "gradient_checkpointing": False,
    "threads": 1,
    "early_stopping": 0,
    "evaluations": 1,
    "seed": 0,
}
END = 2
LAYERS = 2
"""Of the tiny base model."""


def context(draw: random.Random, branches: int) -> dict[str, Any]:
    """Return a line of a training file: tokens without meaning."""

    def tokens(fewest: int, most: int) -> list[int]:
        return [draw.randrange(20, 49152) for _ in range(draw.randint(fewest, most))]

    return {
        "prefix": tokens(20, 60),
        "branches": [
            {"row": f"r{at}", "kind": "answered", "question": "?", "answer": "!", "prompt": tokens(2, 8)}
            | {"completion": [*tokens(1, 6), END]}
            for at in range(branches)
        ],
    }


def write_rows(path: Path, count: int, seed: int) -> Path:
    """Write a training file of ``count`` contexts of one to three questions; return its path."""
    draw = random.Random(seed)
    lines = [json.dumps(context(draw, draw.randint(1, 3))) for _ in range(count)]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def make_recipe(**changes: Any) -> Recipe:
    """Return the recipe of a small job."""
    lora = LoraShape(**(LORA | changes.pop("lora", {})))
    return Recipe(lora=lora, **(RECIPE | changes))


def make_spec(base: Path, folder: Path, **changes: Any) -> TrainSpec:
    """Return the spec of a job whose files are in ``folder``; ``changes`` are keys of the recipe."""
    return TrainSpec(
        recipe=make_recipe(**changes),
        base_model=base,
        base_model_id="tiny-llama",
        train=folder / "train.jsonl",
        dev=folder / "dev.jsonl",
        output=folder / "out",
        resume=None,
        checkpoint_seconds=0.0,
    )
