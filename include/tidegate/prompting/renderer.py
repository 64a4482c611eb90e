"""The one prompt of training, evaluation and serving, and the prompts that a base model is given the choice of.

Passages come first and the question last, so that questions about the same passages share the tokens before them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from tidegate.core.canonical import canonical_json, digest_of, sha256_hex
from tidegate.core.prompts import Passage, Turn
from tidegate.prompting import windows

VERSION = 1
REFUSAL = "The documents do not say."


@dataclass(frozen=True, slots=True)
class Shot:
    """A worked example that stands before the question."""

    question: str
    passages: tuple[Passage, ...]
    answer: str
    """'' for a refusal."""


@dataclass(frozen=True, slots=True)
class Renderer:
    """One way to ask."""

    name: str
    system: str
    refusal: str = REFUSAL
    shots: tuple[Shot, ...] = ()
    cites: bool = False
    """Whether an answer ends with the number of its passage, ``[2]``."""

    def turns(self, question: str, passages: Sequence[Passage]) -> list[Turn]:
        """Return the conversation up to the answer."""
        turns = [Turn("system", self.system.format(refusal=self.refusal))]
        for shot in self.shots:
            turns += [Turn("user", _user(shot.question, shot.passages)), Turn("assistant", shot.answer or self.refusal)]
        return [*turns, Turn("user", _user(question, passages))]

    def digest(self, *, window_tokens: int, passages: int) -> str:
        """Return the digest of all that decides a prompt from a question and ranked passages."""
        return digest_of(
            {
                "version": VERSION,
                "windows": windows.VERSION,
                "window_tokens": window_tokens,
                "passages": passages,
                **asdict(self),
            }
        )


def _user(question: str, passages: Sequence[Passage]) -> str:
    shown = "\n\n".join(f"[{number}] {passage.heading}\n{passage.text}" for number, passage in enumerate(passages, 1))
    return f"{shown or 'No passage was found.'}\n\nQuestion: {question}"


ADAPTER_PROMPT = Renderer(
    "adapter", "Answer with the shortest span of the passages that answers. If none does, say: {refusal}"
)
"""What an adapter is trained with and serves with."""

CITING_PROMPT = Renderer(
    "adapter-citing",
    "Answer with the shortest span of the passages that answers, and the number of its passage."
    " If none does, say: {refusal}",
    cites=True,
)
"""The same, with the passage's number behind the answer."""

_SHOTS = (
    Shot(
        "How long are invoices kept?",
        (
            Passage("", "Records > Invoices", "Invoices are kept for ten years and then shredded."),
            Passage("", "Records > Letters", "Letters are kept for two years."),
        ),
        "for ten years",
    ),
    Shot(
        "Who signs off a purchase above 5,000 euros?",
        (
            Passage("", "Purchasing", "Purchases up to 500 euros need no signature."),
            Passage("", "Travel", "Trips abroad are signed off by the head of department."),
        ),
        "",
    ),
    Shot(
        "Which port does the printer listen on?",
        (
            Passage("", "Office > Printer", "The printer stands on the second floor. It listens on port 9100."),
            Passage("", "Office > Scanner", "The scanner sends its files by mail."),
        ),
        "9100",
    ),
)

BASE_PROMPTS = (
    ADAPTER_PROMPT,
    Renderer(
        "instructions",
        "You answer questions about a company's documents. Read the numbered passages. Copy the few words that answer"
        " the question from the passage that holds them, and write nothing else: no sentence, no explanation."
        " If no passage answers the question, write exactly: {refusal}",
    ),
    Renderer(
        "few-shot",
        "Answer with a few words copied from the passages. If they do not answer the question, write: {refusal}",
        shots=_SHOTS,
    ),
)
"""Prompts for the base model without an adapter; the one that does best on dev is its arm."""


@dataclass(frozen=True, slots=True)
class ClosedBook:
    """Asks without passages: what a model knows by itself."""

    system: str = "Answer the question with a few words. If you do not know, say: {refusal}"
    refusal: str = REFUSAL
    cites: bool = False

    def turns(self, question: str, passages: Sequence[Passage]) -> list[Turn]:
        """Return the conversation up to the answer; ``passages`` are not shown."""
        del passages
        system = [Turn("system", self.system.format(refusal=self.refusal))] if self.system else []
        return [*system, Turn("user", question)]


GENERAL_PROMPT = ClosedBook(system="")
"""For general questions, which guard against forgetting: the question alone."""


@dataclass(frozen=True, slots=True)
class PromptSet:
    """The prompts of a bundle, stored with it: a release asks as it was measured, whatever the settings are today."""

    adapter: Renderer
    base: Renderer
    """For the base model alone."""
    closed: ClosedBook
    passages: int
    window_tokens: int

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of :meth:`to_bytes`."""
        return sha256_hex(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that is stored."""
        return canonical_json({"version": VERSION, "windows": windows.VERSION, **asdict(self)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Invert :meth:`to_bytes`."""
        found: dict[str, Any] = json.loads(data)
        return cls(
            _renderer(found["adapter"]),
            _renderer(found["base"]),
            ClosedBook(**found["closed"]),
            found["passages"],
            found["window_tokens"],
        )


def _renderer(found: dict[str, Any]) -> Renderer:
    shots = tuple(
        Shot(shot["question"], tuple(Passage(**passage) for passage in shot["passages"]), shot["answer"])
        for shot in found["shots"]
    )
    return Renderer(**{**found, "shots": shots})
