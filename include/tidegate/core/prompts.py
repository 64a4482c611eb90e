"""What stands between retrieval and a model: passages, the turns of a conversation, and who turns them into tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a document, with the headings that it stands under."""

    document: str
    heading: str
    """Title path: ``Title > Section > Sub-section``."""
    text: str

    def as_json(self) -> dict[str, str]:
        """Return the passage as it is stored."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation, as chat templates and OpenAI-compatible endpoints take it."""

    role: Literal["system", "user", "assistant"]
    content: str

    def as_json(self) -> dict[str, str]:
        """Return the message as endpoints take it."""
        return asdict(self)


class PromptRenderer(Protocol):
    """Turns a question and its passages into a conversation; one for training, evaluation and serving."""

    @property
    def refusal(self) -> str:
        """What is written where the passages do not answer."""

    @property
    def cites(self) -> bool:
        """Whether an answer ends with the number of its passage."""

    def turns(self, question: str, passages: Sequence[Passage]) -> list[Turn]:
        """Return the conversation up to the turn that the model is to write."""


class ChatTokenizer(Protocol):
    """A base model's tokenizer with its chat template."""

    def encode_prompt(self, turns: Sequence[Turn]) -> list[int]:
        """Return the tokens up to where the model begins to write."""

    def encode_completion(self, text: str) -> list[int]:
        """Return the tokens of what the model is to write, its end-of-turn token last."""
