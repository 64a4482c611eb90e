"""Training by TRL's ``SFTTrainer`` on a PEFT model, on CPU and GPU.

The trainer is given whole optimizer steps (``training/batches.py`` plans them) and the part of the plan that is not
done yet. Learning rate, losses and checkpoints count over the whole job, so a job that was killed and goes on ends
with the bytes of one that was not, on a device whose sums are repeatable.
"""

from __future__ import annotations

import math
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.core.canonical import canonical_json, digest_of, sha256_hex
from tidegate.core.errors import TrainingDivergedError
from tidegate.training.batches import Row, plan_steps, read_rows
from tidegate.training.checkpoints import Checkpoint, Position, read_checkpoint, write_checkpoint
from tidegate.training.model import (
    CONFIG,
    WEIGHTS,
    device_of_training,
    load_base_model,
    lora_config,
    out_of_memory,
    save_adapter,
)
from tidegate.training.probe import PROBES, probe
from tidegate.training.spec import TrainResult, TrainSpec

if TYPE_CHECKING:
    import torch

Report = Callable[[dict[str, Any]], None]
"""Receives what happens, one JSON-able event at a time."""

LOG_STEPS = 5
_ZERO_LOSS, _ZERO_LOGS = 1e-6, 5
_DIVERGED_FACTOR = 3.0
_LIBRARIES = ("torch", "transformers", "peft", "trl")


def train(spec: TrainSpec, report: Report) -> TrainResult:
    """Train an adapter and write it to ``spec.output``; raise a typed error for divergence and lack of memory."""
    import torch

    recipe = spec.recipe
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    job = Job(spec, report)
    try:
        return job.run()
    except RuntimeError as error:
        raise (out_of_memory(error, spec) or error) from error


@dataclass
class Job:
    """One training job: its plan, where it is, and what it says of it."""

    spec: TrainSpec
    report: Report
    position: Position = field(default_factory=Position)
    tokens: int = 0
    slots: int = 0
    _window: list[float] = field(default_factory=list)
    _best: dict[str, torch.Tensor] = field(default_factory=dict)

    @cached_property
    def rows(self) -> list[Row]:
        """The training rows."""
        return read_rows(self.spec.train)

    @cached_property
    def dev(self) -> list[list[Row]]:
        """Batches of the rows that the loss is watched on."""
        rows = read_rows(self.spec.dev)
        steps = plan_steps(
            [len(row.tokens) for row in rows], batch_tokens=self.spec.recipe.batch_tokens, epochs=1, seed=0
        )
        return [[rows[at] for at in step] for step in steps]

    @cached_property
    def plan(self) -> list[list[int]]:
        """Rows of every optimizer step of the whole job."""
        recipe = self.spec.recipe
        lengths = [len(row.tokens) for row in self.rows]
        return plan_steps(lengths, batch_tokens=recipe.batch_tokens, epochs=recipe.epochs, seed=recipe.seed)

    @cached_property
    def digest(self) -> str:
        """What a checkpoint must belong to."""
        files = [sha256_hex(path.read_bytes()) for path in (self.spec.train, self.spec.dev)]
        return digest_of([self.spec.recipe.digest, self.spec.base_model_id, files])

    def run(self) -> TrainResult:
        """Train what is left of the plan."""
        from tidegate.training.trl_trainer import make_trainer

        device = device_of_training()
        resumed = read_checkpoint(self.spec.resume, self.digest) if self.spec.resume else None
        if resumed:
            self.position, self._best = resumed.position, dict(resumed.best)
        first = self.position.step
        self.report({"event": "loading", "device": device, "steps": len(self.plan), "done": first})
        model = load_base_model(self.spec, device)
        trainer = make_trainer(self, model, lora_config(self.spec.recipe.lora, model.config.num_hidden_layers), resumed)
        started = time.monotonic()
        if first < len(self.plan) and not self._is_stopped():
            trainer.train()
        seconds = time.monotonic() - started
        self._restore_best(trainer.model)
        save_adapter(trainer.model, self.spec.base_model_id, self.spec.output)
        self._probe(trainer.model.unload())
        return TrainResult(
            steps=self.position.step,
            first_step=first,
            tokens=self.tokens,
            slots=self.slots,
            seconds=seconds,
            losses=self.position.losses,
            dev_losses=self.position.dev_losses,
            stopped_early=self._is_stopped(),
            best_step=self.position.best_step or self.position.step,
            device=device,
            versions={**{name: version(name) for name in _LIBRARIES}, "python": platform.python_version()},
        )

    def stepped(self, loss: float, batch: list[Row]) -> None:
        """Note an optimizer step; raise ``TrainingDivergedError`` if its loss says that training is lost."""
        step = self.position.step + 1
        if not math.isfinite(loss):
            raise TrainingDivergedError(f"the loss of step {step} is {loss}")
        self._window.append(loss)
        self.tokens += sum(len(row.tokens) for row in batch)
        self.slots += len(batch) * max(len(row.tokens) for row in batch)
        losses = self.position.losses
        if step % LOG_STEPS == 0 or step == len(self.plan):
            mean = math.fsum(self._window) / len(self._window)
            self._window.clear()
            losses = (*losses, (step, mean))
            self._judge(losses)
        self.position = Position(step, losses, self.position.dev_losses, self.position.best_step)

    def evaluation_is_due(self) -> bool:
        """Tell whether the loss on dev is to be measured now: at even distances, and at the end."""
        total, often = len(self.plan), self.spec.recipe.evaluations
        due = {-(-total * at // often // LOG_STEPS) * LOG_STEPS for at in range(1, often)}
        return bool(self.dev) and self.position.step in {*(step for step in due if step < total), total}

    def evaluated(self, loss: float, adapter: dict[str, torch.Tensor]) -> bool:
        """Note the loss on dev; return whether it has not improved for as long as early stopping allows."""
        step, patience = self.position.step, self.spec.recipe.early_stopping
        dev_losses = (*self.position.dev_losses, (step, loss))
        best_step, _ = min(dev_losses, key=lambda found: (found[1], found[0]))
        if patience and best_step == step:
            self._best = {name: value.detach().clone() for name, value in adapter.items()}
        self.position = Position(step, self.position.losses, dev_losses, best_step if patience else 0)
        self.report({"event": "evaluated", "step": step, "dev_loss": round(loss, 4)})
        return self._is_stopped()

    def _is_stopped(self) -> bool:
        """Tell whether the loss on dev has not improved for as long as early stopping allows."""
        patience, best_step = self.spec.recipe.early_stopping, self.position.best_step
        since = sum(at > best_step for at, _ in self.position.dev_losses)
        return bool(patience) and since >= patience

    def keep(
        self, adapter: dict[str, torch.Tensor], optimizer: dict[str, Any], random: dict[str, torch.Tensor]
    ) -> Path:
        """Write a checkpoint of this place."""
        made = Checkpoint(self.digest, self.position, adapter, self._best, optimizer, random)
        folder = write_checkpoint(self.spec.output / "checkpoints", made)
        self.report({"event": "checkpoint", "step": self.position.step, "folder": str(folder)})
        return folder

    def _probe(self, base: Any) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            for name in (CONFIG, WEIGHTS):
                shutil.copy(self.spec.output / name, scratch)
            found = probe(base, Path(scratch), self.spec.dev, self.spec.base_model / "tokenizer.json")
        (self.spec.output / PROBES).write_bytes(canonical_json(found))

    def _judge(self, losses: tuple[tuple[int, float], ...]) -> None:
        step, mean = losses[-1]
        start = losses[0][1]
        if len(losses) >= _ZERO_LOGS and all(loss <= _ZERO_LOSS for _, loss in losses[-_ZERO_LOGS:]):
            raise TrainingDivergedError(
                f"the loss is {mean:g} since step {step - LOG_STEPS * _ZERO_LOGS}: nothing is learnt"
            )
        if mean > _DIVERGED_FACTOR * max(start, 1.0):
            raise TrainingDivergedError(f"the loss rose from {start:.2f} to {mean:.2f} at step {step}")

    def _restore_best(self, model: Any) -> None:
        from peft import set_peft_model_state_dict

        if self._best:
            set_peft_model_state_dict(model, self._best)
