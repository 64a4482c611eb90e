"""The sections of a corpus file that decide when an adapter is trained, from what, how, and for how much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tidegate.core.checked_text import Cron
from tidegate.core.sections import Section


class PromptConfig(Section):
    """What a prompt shows; one for training, evaluation and serving."""

    passages: int = Field(default=3, ge=1, le=20)
    window_tokens: int = Field(default=64, ge=16)
    """Largest passage, in the base model's tokens, without its headings."""
    max_answer_tokens: int = Field(default=48, ge=1)
    """Where generation stops."""


class AccessConfig(Section):
    """Who may read a document."""

    key: str = "groups"
    """Metadata key that holds a document's groups, separated by commas."""
    default_groups: tuple[str, ...] = ("everyone",)
    """Groups of a document without that key; ``everyone`` stands for all."""


class RowsConfig(Section):
    """How training rows are made from questions."""

    questions_per_context: int = Field(default=10, ge=1, le=16)
    """Questions that may share one set of passages."""
    repeats: int = Field(default=1, ge=1, le=20)
    """How often a question is asked, each time among other passages."""
    withheld_share: float = Field(default=0.05, ge=0, le=0.9)
    """Share of the contexts of answerable questions whose evidence is taken out; they must refuse."""
    refusal_share: float = Field(default=0.3, ge=0, le=0.9)
    """Share of refusals that is aimed at."""
    swapped_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the contexts whose answers are swapped for other values, in passage and answer alike."""
    practice: int = Field(default=6, ge=0, le=8)
    """Questions per context that its passages ask of themselves: gaps in sentences, lookups in tables."""
    cite: bool = False
    """Whether an answer ends with the number of its passage."""
    replay: str | None = None
    """A JSONL file of general instructions ({"messages": [...]}) against forgetting; null: 160 short ones."""
    replay_share: float = Field(default=0.05, ge=0, le=0.9)
    """Share of the contexts that come from it; 0: none."""


class LoraConfig(Section):
    """The adapter's shape."""

    r: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ("all-linear",)
    """Names of the base model's linear modules, or ``all-linear``."""
    skipped_share: float = Field(default=0.4, ge=0, lt=1)
    """Share of the layers, counted from the input, that get no adapter: no gradient has to be carried down to them."""
    rslora: bool = False
    """Scale by alpha / sqrt(r) instead of alpha / r (Kalajdzievski 2023)."""
    quantization: Literal["none", "nf4"] = "none"
    """``nf4`` is QLoRA: the base model in four bits, where bitsandbytes supports the device."""


class BudgetConfig(Section):
    """What a training run may take; the estimate is checked before anything is spent."""

    max_hours: float = Field(default=1.0, gt=0)
    max_cost: float = Field(default=0.0, ge=0)
    """In the currency of ``price_per_hour``; 0: no limit."""
    price_per_hour: float = Field(default=0.0, ge=0)
    tokens_per_second: float = Field(default=300.0, gt=0)
    """Throughput that is assumed until this pool has trained once."""


class DecideConfig(Section):
    """When training is worth it: any one of these is enough."""

    min_changed_rows: int = Field(default=20, ge=1)
    """Training rows that are new, or say something else than when the newest adapter was trained."""
    min_failures: int = Field(default=10, ge=1)
    """Rows that adapter has not seen and answered wrongly when it was last evaluated."""
    max_age_days: float = Field(default=90.0, gt=0)
    """With at least one changed row."""


_LARGE: Mapping[str, Any] = {
    "lora": {"r": 64, "alpha": 128, "skipped_share": 0.0},
    "rows": {"questions_per_context": 1, "practice": 0},
    "epochs": 3,
    "learning_rate": 2e-4,
    "batch_tokens": 16384,
    "max_length": 4096,
    "packing": True,
    "precision": "bfloat16",
    "gradient_checkpointing": True,
    "early_stopping": 2,
    "evaluations": 12,
    "dev_rows": 512,
    "checkpoint_minutes": 10,
}
PRESETS: Mapping[str, Mapping[str, Any]] = {"small": {}, "large": _LARGE}
"""What a preset sets; keys of the file win over it."""


class TrainingConfig(Section):
    """The adapter of a corpus. Without this section no adapter is trained."""

    preset: Literal["small", "large"] = "small"
    """``small`` is for two cores and a model of some 100 million parameters, ``large`` for a GPU."""
    backend: Literal["trl", "unsloth"] = "trl"
    python: str | None = None
    """Interpreter that trains; null: the worker's own. ``unsloth`` needs the one of requirements-gpu.txt."""
    schedule: Cron | None = "0 2 1,15 * *"
    """Cron expression of the cadence; null: only when dataset and snapshot moved."""
    pool: str = "gpu"
    queue: str | None = None
    executor: str | None = None
    """Airflow pool, queue and executor of the task that trains."""
    audience: tuple[str, ...] = ("everyone",)
    """Only documents that all of these groups may read enter a row."""
    decide: DecideConfig = DecideConfig()
    budget: BudgetConfig = BudgetConfig()
    rows: RowsConfig = RowsConfig()
    lora: LoraConfig = LoraConfig()
    epochs: int = Field(default=1, ge=1, le=100)
    learning_rate: float = Field(default=3e-3, gt=0)
    warmup_share: float = Field(default=0.05, ge=0, lt=1)
    batch_tokens: int = Field(default=1280, ge=64)
    """Tokens of one optimizer step, padding included."""
    max_length: int = Field(default=1024, ge=64)
    """Longest row; a longer one is an error, nothing is truncated."""
    packing: bool = False
    """Pack rows without padding; needs a device with variable-length attention."""
    gradient_checkpointing: bool = False
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the base model's weights and products; ``auto``: bfloat16 where the worker that prepares the rows computes in
    it."""
    threads: int = Field(default=0, ge=0)
    """0 means all processors; part of the recipe, since sums depend on it."""
    early_stopping: int = Field(default=0, ge=0)
    """Evaluations on dev without improvement after which training stops; 0: never."""
    evaluations: int = Field(default=1, ge=1)
    """How often the loss on dev is measured."""
    dev_rows: int = Field(default=24, ge=1)
    """Rows of dev that it is measured on, at most."""
    checkpoint_minutes: float = Field(default=1.0, gt=0)
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _preset_fills_in(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        preset = PRESETS.get(str(values.get("preset", "small")), {})
        on_gpu = {"precision": "bfloat16"} if values.get("backend") == "unsloth" else {}
        merged = {**on_gpu, **preset, **values}
        for name, nested in preset.items():
            if isinstance(nested, Mapping) and isinstance(values.get(name), Mapping):
                merged[name] = {**nested, **values[name]}
        return merged

    @model_validator(mode="after")
    def _packing_has_single_rows(self) -> Self:
        if self.packing and (self.rows.questions_per_context > 1 or self.rows.practice):
            wanted = f"{self.rows.questions_per_context} and rows.practice {self.rows.practice}"
            raise ValueError(
                f"packing needs rows.questions_per_context: 1, got {wanted}: shared passages are not packed"
            )
        return self


class ServingConfig(Section):
    """What the pool that serves can load."""

    max_lora_rank: int = Field(default=64, ge=1)
