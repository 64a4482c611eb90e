"""``SFTTrainer`` as a job drives it: whole steps from the plan, loss at the answers, checkpoints at logged steps."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import SequentialSampler
from transformers import PreTrainedTokenizerFast, PrinterCallback, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from tidegate.training.batches import Row, collate
from tidegate.training.checkpoints import Checkpoint
from tidegate.training.model import answer_loss
from tidegate.training.trl_backend import LOG_STEPS

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from tidegate.training.trl_backend import Job

_MAX_GRADIENT_NORM = 1.0


def make_trainer(job: Job, model: Any, lora: LoraConfig, resumed: Checkpoint | None) -> AnswerTrainer:
    """Return a trainer for what is left of a job's plan, its adapter and optimizer as they were left."""
    left = len(job.plan) - job.position.step
    recipe = job.spec.recipe
    arguments = SFTConfig(
        output_dir=str(job.spec.output / "trainer"),
        max_steps=max(1, left),
        per_device_train_batch_size=1,  # an item of the dataset is a whole step
        learning_rate=recipe.learning_rate,
        max_grad_norm=_MAX_GRADIENT_NORM,
        gradient_checkpointing=recipe.gradient_checkpointing,
        use_cpu=not torch.cuda.is_available(),
        bf16=False,  # the loss sets the precision of its products itself
        seed=recipe.seed,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    steps = Dataset.from_dict({"step": list(range(job.position.step, len(job.plan))) or [0]})
    return AnswerTrainer(job, resumed, model=model, args=arguments, train_dataset=steps, peft_config=lora)


class AnswerTrainer(SFTTrainer):  # type: ignore[misc]
    """Trains on the labelled tokens alone and counts steps over the whole job."""

    def __init__(self, job: Job, resumed: Checkpoint | None, **options: Any) -> None:
        self._job = job
        self._resumed = resumed
        recipe = job.spec.recipe
        self._cast = torch.autocast(
            "cuda" if torch.cuda.is_available() else "cpu",
            dtype=torch.bfloat16,
            enabled=recipe.precision == "bfloat16",
        )
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(job.spec.base_model / "tokenizer.json"))
        super().__init__(processing_class=tokenizer, data_collator=self._collate, callbacks=[_Steps(self)], **options)
        self.remove_callback(PrinterCallback)
        if resumed:
            set_peft_model_state_dict(self.model, dict(resumed.adapter))

    def _collate(self, items: list[dict[str, int]]) -> dict[str, Any]:
        rows = self.rows_of(items[0]["step"])
        return collate(rows, packed=self._job.spec.recipe.packing)

    def rows_of(self, step: int) -> list[Row]:
        """Return the rows of a step of the plan."""
        return [self._job.rows[at] for at in self._job.plan[step]]

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Return the loss of the answers; what the job notes of it is checked before the optimizer steps."""
        del return_outputs, num_items_in_batch
        with self._cast:
            loss = answer_loss(self.accelerator.unwrap_model(model), inputs)
        self.last_loss = float(loss.detach())
        return loss

    def create_optimizer(self, *options: Any) -> torch.optim.Optimizer:
        """Return AdamW over the adapter, with the moments of a resumed job."""
        made = self.optimizer is None
        optimizer = super().create_optimizer(*options)
        if made and self._resumed:
            optimizer.load_state_dict(self._resumed.optimizer)
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        """Return warm-up and cosine over the whole job, from the step at which this try begins."""
        del num_training_steps
        if getattr(self, "lr_scheduler", None) is None:
            optimizer = optimizer or self.optimizer
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] = self._job.spec.recipe.learning_rate
            first, total = self._job.position.step, len(self._job.plan)
            share = self._job.spec.recipe.warmup_share
            self.lr_scheduler = LambdaLR(optimizer, lambda step: rate(first + step, total, share))
        return self.lr_scheduler

    def adapter(self) -> dict[str, torch.Tensor]:
        """Return the adapter's tensors."""
        return dict(get_peft_model_state_dict(self.model))

    def dev_loss(self) -> float:
        """Return the mean loss over the dev batches, weighted by their labels."""
        self.model.eval()
        total = weight = 0.0
        with torch.no_grad(), self._cast:
            for rows in self._job.dev:
                batch = self._prepare_inputs(collate(rows))
                held = float(batch["weights"].sum())
                total += float(answer_loss(self.accelerator.unwrap_model(self.model), batch)) * held
                weight += held
        self.model.train()
        return total / weight if weight else math.nan


class _Steps(TrainerCallback):  # type: ignore[misc]
    """Tells the job of every step, and does at logged steps what is due."""

    def __init__(self, trainer: AnswerTrainer) -> None:
        self._trainer = trainer
        self._kept = self._started = time.monotonic()
        self._random = dict(trainer._resumed.random) if trainer._resumed else {}

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Begin to measure time."""
        self._kept = self._started = time.monotonic()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Put random numbers back to where a resumed job left them, after the loader has drawn its own."""
        if self._random:
            torch.set_rng_state(self._random["cpu"])
            if "cuda" in self._random:
                torch.cuda.set_rng_state(self._random["cuda"])
            self._random = {}

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        job, trainer = self._trainer._job, self._trainer
        del args, state
        job.stepped(trainer.last_loss, trainer.rows_of(job.position.step))
        step, total = job.position.step, len(job.plan)
        if step % LOG_STEPS and step != total:
            return control
        self._tell(step, total)
        if job.evaluation_is_due() and job.evaluated(trainer.dev_loss(), trainer.adapter()):
            control.should_training_stop = True
        if step < total and time.monotonic() - self._kept >= job.spec.checkpoint_seconds:
            job.keep(trainer.adapter(), trainer.optimizer.state_dict(), _random_state())
            self._kept = time.monotonic()
        return control

    def _tell(self, step: int, total: int) -> None:
        job = self._trainer._job
        seconds = time.monotonic() - self._started
        done = step - (total - len(self._trainer.train_dataset))
        job.report(
            {
                "event": "step",
                "step": step,
                "of": total,
                "loss": round(job.position.losses[-1][1], 4),
                "tokens_per_second": round(job.tokens / seconds, 1) if seconds else 0.0,
                "eta_seconds": round(seconds / done * (total - step)) if done else None,
            }
        )


def rate(step: int, total: int, warmup_share: float) -> float:
    """Return the factor of the learning rate at a step: linear warm-up, then half a cosine down to zero."""
    warmup = max(1, round(total * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _random_state() -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state
