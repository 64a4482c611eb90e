"""What a training job is given and what it gives back: JSON in, JSON out, whatever interpreter runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tidegate.core.canonical import digest_of

Precision = Literal["float32", "bfloat16"]


class _Values(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LoraShape(_Values):
    """The adapter's shape."""

    r: int
    alpha: int
    dropout: float
    targets: tuple[str, ...]
    skip_layers: int
    """Layers without an adapter, counted from the input."""
    rslora: bool
    quantization: Literal["none", "nf4"]

    def adapted(self, layers: int) -> list[int] | None:
        """Return the numbers of the layers that get an adapter; None: all of the model's ``layers``."""
        return list(range(self.skip_layers, layers)) if self.skip_layers else None


class Recipe(_Values):
    """All that decides an adapter's bytes, given base model, training file and versions of the libraries."""

    backend: Literal["trl", "unsloth"]
    lora: LoraShape
    precision: Precision
    epochs: int
    learning_rate: float
    warmup_share: float
    batch_tokens: int
    max_length: int
    packing: bool
    gradient_checkpointing: bool
    threads: int
    early_stopping: int
    evaluations: int
    seed: int

    @property
    def digest(self) -> str:
        """SHA-256 of the recipe."""
        return digest_of(self.model_dump(mode="json"))


class TrainSpec(_Values):
    """One training job. Folders are on the machine that trains and decide nothing."""

    recipe: Recipe
    base_model: Path
    """Folder in the form of transformers."""
    base_model_id: str
    """What the adapter's configuration names as its base."""
    train: Path
    dev: Path
    """JSONL files of contexts (``training/rows.py``)."""
    output: Path
    """Folder for adapter, history and result; made if it does not exist."""
    resume: Path | None
    """Folder of a complete checkpoint of the same job."""
    checkpoint_seconds: float


class TrainResult(_Values):
    """What came out."""

    steps: int
    first_step: int
    """Steps that an earlier try had done."""
    tokens: int
    """Tokens trained by this try, padding left out."""
    slots: int
    """Places in its batches, padding included."""
    seconds: float
    """Of the training loop of this try."""
    losses: tuple[tuple[int, float], ...]
    """(step, mean loss of the answers' tokens since the last entry) over the whole job."""
    dev_losses: tuple[tuple[int, float], ...]
    stopped_early: bool
    best_step: int
    device: str
    versions: dict[str, str]

    @property
    def tokens_per_second(self) -> float:
        """Throughput of this try."""
        return self.tokens / self.seconds if self.seconds else 0.0
