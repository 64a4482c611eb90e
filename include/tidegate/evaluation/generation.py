"""Who writes answers: one protocol over in-process transformers and any OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tidegate.core.protocols import Progress
from tidegate.core.records import DecodingSettings


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt, and who is to answer it."""

    tokens: tuple[int, ...]
    """As the base model's tokenizer and chat template make them: the same on every engine."""
    adapter: str | None = None
    """Name under which the generator knows an adapter; None for the base model alone."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What was written."""

    text: str
    """Without special tokens and surrounding white space."""
    tokens: int
    """Tokens written, the end-of-turn token included if it was reached."""
    finished: bool
    """Whether the end-of-turn token was reached before the limit."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What computes: part of the key of a cached answer, since two engines may round differently."""

    name: str
    version: str
    dtype: str
    base_model: str
    """Digest of the base model, or the name by which an endpoint knows it."""


class Generator(Protocol):
    """Writes answers. Greedy decoding (temperature 0) is repeatable for equal engine, prompt and batch."""

    engine: Engine

    def generate(
        self, prompts: Sequence[Prompt], decoding: DecodingSettings, progress: Progress | None = None
    ) -> list[Completion]:
        """Return one completion per prompt, in the order given.

        Raises ``GenerationFailedError`` if the engine refuses a prompt, an adapter is not known, or no answer came.
        """
