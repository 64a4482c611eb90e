"""Training by Unsloth on a GPU, in the interpreter of requirements-gpu.txt.

The steps are those of ``training/batches.py``, one item of the dataset each, with one row per question: Unsloth reads
no shared passages. Unsloth replaces defaults of TRL (optimizer, weight decay, accumulation, warm-up), so every argument
that decides the adapter is given. Its loss is the mean over the answers' tokens, without the weights of a ``Row``.
"""

from __future__ import annotations

import gc
import json
import math
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tidegate.core.canonical import canonical_json
from tidegate.core.errors import TrainingDivergedError, TrainingSpecInvalidError
from tidegate.training.batches import UNLABELLED, plan_steps
from tidegate.training.model import (
    CONFIG,
    WEIGHTS,
    device_of_training,
    load_base_model,
    out_of_memory,
    save_adapter,
)
from tidegate.training.probe import PROBES, probe
from tidegate.training.spec import TrainResult, TrainSpec

Report = Callable[[dict[str, Any]], None]
"""Receives what happens, one JSON-able event at a time."""

TokenRow = dict[str, list[int]]
"""``input_ids`` and ``labels`` of one question, equally long."""

LOG_STEPS = 5
_WHOLE = 1 - 1e-9
"""The share of all steps: transformers reads a number below 1 as a share, and 1 as every single step."""
_LIBRARIES = ("torch", "transformers", "peft", "trl", "unsloth", "unsloth_zoo", "bitsandbytes")


def model_arguments(spec: TrainSpec) -> dict[str, Any]:
    """Return the arguments of ``FastLanguageModel.from_pretrained``."""
    return {
        "model_name": str(spec.base_model),
        "max_seq_length": spec.recipe.max_length,
        "dtype": spec.recipe.precision,
        "load_in_4bit": spec.recipe.lora.quantization == "nf4",
        "use_exact_model_name": True,  # else a known name is swapped for a quantized copy on a hub
        "use_gradient_checkpointing": _checkpointing(spec),
        "random_state": spec.recipe.seed,
    }


def lora_arguments(spec: TrainSpec, layers: int) -> dict[str, Any]:
    """Return the arguments of ``FastLanguageModel.get_peft_model`` for a model of so many layers, besides the model."""
    lora = spec.recipe.lora
    return {
        "r": lora.r,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": list(lora.targets),
        "layers_to_transform": lora.adapted(layers),
        "bias": "none",
        "use_rslora": lora.rslora,
        "use_gradient_checkpointing": _checkpointing(spec),
        "random_state": spec.recipe.seed,
    }


def trainer_arguments(spec: TrainSpec, *, watched: bool = True) -> dict[str, Any]:
    """Return the arguments of TRL's ``SFTConfig``; ``watched``: whether there are rows to measure the loss on."""
    recipe = spec.recipe
    best = watched and recipe.early_stopping > 0
    share = min(1 / recipe.evaluations, _WHOLE)
    return {
        "output_dir": str(spec.output / "trainer"),
        "num_train_epochs": 1,  # the plan holds all epochs
        "per_device_train_batch_size": 1,  # an item of the dataset is a whole step
        "per_device_eval_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "train_sampling_strategy": "sequential",
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": recipe.warmup_share,  # below 1: a share of all steps
        "optim": "adamw_torch_fused",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "bf16": True,
        "fp16": False,
        "gradient_checkpointing": recipe.gradient_checkpointing,
        "max_length": recipe.max_length,
        "packing": recipe.packing,  # padding_free alone is dropped by Unsloth where rows are tokenised already
        "padding_free": recipe.packing,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "remove_unused_columns": False,
        "logging_steps": LOG_STEPS,
        "logging_nan_inf_filter": False,  # a loss that is not a number must be seen
        "eval_strategy": "steps" if watched else "no",
        "eval_steps": share,
        "save_strategy": "steps" if best else "no",
        "save_steps": share,
        "save_total_limit": 1,
        "save_only_model": True,
        "load_best_model_at_end": best,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "report_to": "none",
        "disable_tqdm": True,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
    }


def read_token_rows(path: Path) -> list[TokenRow]:
    """Return one row per question of a training file; only its answer is labelled."""
    rows = []
    with path.open(encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            for branch in line["branches"]:
                prompt = [*line["prefix"], *branch["prompt"]]
                labels = [*[UNLABELLED] * len(prompt), *branch["completion"]]
                rows.append({"input_ids": [*prompt, *branch["completion"]], "labels": labels})
    return rows


def plan_items(rows: Sequence[TokenRow], spec: TrainSpec, *, epochs: int) -> list[dict[str, Any]]:
    """Return every optimizer step: ``rows``, or if they are packed all in one line, with their ``seq_lengths``."""
    lengths = [len(row["input_ids"]) for row in rows]
    recipe = spec.recipe
    steps = plan_steps(lengths, batch_tokens=recipe.batch_tokens, epochs=epochs, seed=recipe.seed)
    if not recipe.packing:
        return [{"rows": [rows[at] for at in step]} for step in steps]
    joined = [
        {name: [token for at in step for token in rows[at][name]] for name in ("input_ids", "labels")} for step in steps
    ]
    return [{**item, "seq_lengths": [lengths[at] for at in step]} for item, step in zip(joined, steps, strict=True)]


def train(spec: TrainSpec, report: Report) -> TrainResult:
    """Train an adapter and write it to ``spec.output``; raise a typed error for divergence and lack of memory."""
    device = device_of_training()
    _require_supported(spec, device)
    steps = plan_items(read_token_rows(spec.train), spec, epochs=spec.recipe.epochs)
    dev = plan_items(read_token_rows(spec.dev), spec, epochs=1)
    report({"event": "loading", "device": device, "steps": len(steps), "done": 0})
    progress = _Progress(steps, report)
    try:
        done = _fit(spec, dev, progress)
    except RuntimeError as error:
        raise (out_of_memory(error, spec) or error) from error
    _probe_apart(spec)
    best = min(progress.dev_losses, key=lambda found: (found[1], found[0]), default=(done, 0.0))
    return TrainResult(
        steps=done,
        first_step=0,
        tokens=progress.tokens(done),
        slots=sum(_slots(item) for item in steps[:done]),
        seconds=progress.seconds,
        losses=tuple(progress.losses),
        dev_losses=tuple(progress.dev_losses),
        stopped_early=done < len(steps),
        best_step=best[0] if spec.recipe.early_stopping else done,
        device=device,
        versions={**{name: version(name) for name in _LIBRARIES}, "python": platform.python_version()},
    )


def write_probes(spec: TrainSpec) -> None:
    """Ask the finished adapter a few questions and write its answers; needs a process without Unsloth."""
    base = load_base_model(spec, device_of_training())
    with tempfile.TemporaryDirectory() as scratch:
        for name in (CONFIG, WEIGHTS):
            shutil.copy(spec.output / name, scratch)
        found = probe(base, Path(scratch), spec.dev, spec.base_model / "tokenizer.json")
    (spec.output / PROBES).write_bytes(canonical_json(found))


@dataclass
class _Progress:
    """Turns what the trainer logs into events, and keeps the losses."""

    steps: list[dict[str, Any]]
    report: Report
    started: float = 0.0
    seconds: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)
    dev_losses: list[tuple[int, float]] = field(default_factory=list)

    def tokens(self, done: int) -> int:
        """Return how many tokens the first steps hold."""
        return sum(_tokens(item) for item in self.steps[:done])

    def logged(self, step: int, logs: dict[str, float]) -> None:
        """Note a line of the trainer's log; raise ``TrainingDivergedError`` if a loss is not finite."""
        if "eval_loss" in logs:
            self.dev_losses.append((step, logs["eval_loss"]))
            self.report({"event": "evaluated", "step": step, "dev_loss": round(logs["eval_loss"], 4)})
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise TrainingDivergedError(f"the loss of step {step} is {logs['loss']}")
        self.losses.append((step, logs["loss"]))
        seconds, total = time.monotonic() - self.started, len(self.steps)
        self.report(
            {
                "event": "step",
                "step": step,
                "of": total,
                "loss": round(logs["loss"], 4),
                "tokens_per_second": round(self.tokens(step) / seconds, 1) if seconds else 0.0,
                "eta_seconds": round(seconds / step * (total - step)),
            }
        )


def _fit(spec: TrainSpec, dev: list[dict[str, Any]], progress: _Progress) -> int:
    """Train, write the adapter as plain LoRA, and return how many steps were done."""
    trainer = _trainer(spec, dev, progress)
    progress.started = time.monotonic()
    trainer.train()
    progress.seconds = time.monotonic() - progress.started
    for config in trainer.model.peft_config.values():
        config.auto_mapping = None  # Unsloth's own mark
        config.target_modules = set(spec.recipe.lora.targets)  # a pattern, for some models
    save_adapter(trainer.model, spec.base_model_id, spec.output)
    return int(trainer.state.global_step)


def _probe_apart(spec: TrainSpec) -> None:
    """Probe in a new process, as a server would load the adapter: Unsloth has changed this one's transformers."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as apart:
        apart.submit(write_probes, spec).result()


def _trainer(spec: TrainSpec, dev: list[dict[str, Any]], progress: _Progress) -> Any:
    """Return Unsloth's trainer of a job; raise ``TrainingSpecInvalidError`` if it cannot pack this model's rows."""
    from unsloth import FastLanguageModel  # isort: skip - it patches trl and transformers, so it comes first
    from datasets import Dataset
    from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    class Logged(TrainerCallback):  # type: ignore[misc]
        def on_log(self, _: Any, state: Any, __: Any, logs: dict[str, float], **___: Any) -> None:
            progress.logged(state.global_step, logs)

    model, tokenizer = FastLanguageModel.from_pretrained(**model_arguments(spec))
    model = FastLanguageModel.get_peft_model(model, **lora_arguments(spec, model.config.num_hidden_layers))
    pad = DataCollatorForLanguageModeling(pad_token_id=0)
    callbacks: list[TrainerCallback] = [Logged()]
    if dev and spec.recipe.early_stopping:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=spec.recipe.early_stopping))
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**trainer_arguments(spec, watched=bool(dev))),
        data_collator=None if spec.recipe.packing else lambda items: pad(items[0]["rows"]),
        train_dataset=Dataset.from_list(progress.steps),
        eval_dataset=Dataset.from_list(dev) if dev else None,
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    if spec.recipe.packing and not trainer.data_collator.padding_free:
        raise TrainingSpecInvalidError(
            f"training.packing is true, but Unsloth does not pack rows of {spec.base_model_id}; valid: false"
        )
    return trainer


def _require_supported(spec: TrainSpec, device: str) -> None:
    if device == "cpu":
        raise TrainingSpecInvalidError("training.backend is unsloth, but this worker has no GPU; valid: trl")
    if spec.recipe.precision != "bfloat16":
        raise TrainingSpecInvalidError(
            f"training.precision is {spec.recipe.precision}, but backend unsloth computes in bfloat16; valid: bfloat16"
        )
    if spec.resume:
        raise TrainingSpecInvalidError(f"backend unsloth does not go on from a checkpoint, got {spec.resume.name}")


def _checkpointing(spec: TrainSpec) -> str | bool:
    """Return Unsloth's own way to recompute activations, or none."""
    return "unsloth" if spec.recipe.gradient_checkpointing else False


def _tokens(item: dict[str, Any]) -> int:
    return len(item["input_ids"]) if "rows" not in item else sum(len(row["input_ids"]) for row in item["rows"])


def _slots(item: dict[str, Any]) -> int:
    if "rows" not in item:
        return len(item["input_ids"])
    return len(item["rows"]) * max(len(row["input_ids"]) for row in item["rows"])
