"""Training through TRL against a bare loop over the same model and batches, which scores answer positions only too."""

from __future__ import annotations

import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from tidegate.core.config import BaseModelConfig
from tidegate.training.base_model import find_base_model
from tidegate.training.batches import collate, plan_steps, read_rows
from tidegate.training.machine import fitting_precision, processors
from tidegate.training.model import answer_loss, load_base_model, lora_config
from tidegate.training.preflight import linear_modules, resolved_targets
from tidegate.training.spec import LoraShape, Recipe, TrainSpec
from tidegate.training.trl_backend import Job

_SHARED, _PROMPT, _ANSWER, _BRANCHES = (160, 280), (14, 34), (2, 12), (4, 12)
"""Fewest and most tokens of passages, question and answer, and questions of a context."""
_WARMUP = 0.05
_MAX_GRADIENT_NORM = 1.0


def measure(contexts: int, rounds: int) -> tuple[float, float, int, int]:
    """Return seconds of a training run by TRL and by the bare loop (best of some rounds), its tokens and its slots."""
    with tempfile.TemporaryDirectory() as scratch:
        spec = _spec(Path(scratch), contexts)
        ours, bare = [], []
        for _ in range(rounds):
            job = Job(spec, lambda _: None)
            result = job.run()
            ours.append(result.seconds)
            bare.append(_bare_loop(spec))
        return min(ours), min(bare), result.tokens, result.slots


def _bare_loop(spec: TrainSpec) -> float:
    """Train the same steps with nothing around them; return the seconds of the loop."""
    import torch
    from peft import get_peft_model

    recipe = spec.recipe
    torch.set_num_threads(recipe.threads)
    rows = read_rows(spec.train)
    plan = plan_steps([len(row.tokens) for row in rows], batch_tokens=recipe.batch_tokens, epochs=1, seed=recipe.seed)
    base = load_base_model(spec, "cpu")
    model = get_peft_model(base, lora_config(recipe.lora, base.config.num_hidden_layers))
    parameters = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate)
    model.train()
    started = time.perf_counter()
    for step in plan:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            loss = answer_loss(model, collate([rows[at] for at in step]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, _MAX_GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - started


def _spec(folder: Path, contexts: int) -> TrainSpec:
    base = find_base_model(BaseModelConfig().model)
    draw = random.Random(1)
    lines = [_context(draw) for _ in range(contexts)]
    for name in ("train.jsonl", "dev.jsonl"):
        (folder / name).write_text(
            "".join(json.dumps(line) + "\n" for line in (lines if name[0] == "t" else lines[:0]))
        )
    targets = resolved_targets(("all-linear",), linear_modules(base.folder))
    shape = LoraShape(r=16, alpha=32, dropout=0.0, targets=targets, skip_layers=12, rslora=False, quantization="none")
    recipe = Recipe(
        backend="trl", lora=shape, precision=fitting_precision("auto"), epochs=1, learning_rate=1e-3,
        warmup_share=_WARMUP, batch_tokens=1280, max_length=1024, packing=False, gradient_checkpointing=False,
        threads=processors(), early_stopping=0, evaluations=1, seed=0,
    )  # fmt: skip
    return TrainSpec(
        recipe=recipe, base_model=base.folder, base_model_id=base.name, train=folder / "train.jsonl",
        dev=folder / "dev.jsonl", output=folder, resume=None, checkpoint_seconds=1e9,
    )  # fmt: skip


def _context(draw: random.Random) -> dict[str, Any]:
    def tokens(limits: tuple[int, int]) -> list[int]:
        return [draw.randrange(3, 40_000) for _ in range(draw.randint(*limits))]

    branches = [{"prompt": tokens(_PROMPT), "completion": tokens(_ANSWER)} for _ in range(draw.randint(*_BRANCHES))]
    return {"prefix": tokens(_SHARED), "branches": branches}
