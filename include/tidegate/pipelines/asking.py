"""Put questions with their passages to a generator, and judge what it says: the same way for every arm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tidegate.core.prompts import ChatTokenizer, Passage, PromptRenderer
from tidegate.core.protocols import Progress
from tidegate.core.records import DecodingSettings
from tidegate.evaluation.answer_metrics import JudgedAnswer, judge
from tidegate.evaluation.generation import Generator, Prompt
from tidegate.qa.dataset import Row

StageProgress = Callable[[str], Progress]


@dataclass(frozen=True)
class Asked:
    """A row with the passages that the prompt shows."""

    row: str
    question: str
    gold: str | None
    tags: tuple[str, ...]
    passages: tuple[Passage, ...]
    old: str = ""
    """The answer before its value was changed."""


@dataclass(frozen=True)
class Answer:
    """What an arm said to one row."""

    asked: Asked
    text: str
    judged: JudgedAnswer
    prompt_tokens: int = 0
    tokens: int = 0
    """Tokens read and written."""


@dataclass(frozen=True)
class Asker:
    """A generator with a tokenizer and a decoding."""

    generator: Generator
    tokenizer: ChatTokenizer
    decoding: DecodingSettings
    progress: StageProgress

    def answers(self, asked: Sequence[Asked], prompt: PromptRenderer, adapter: str | None, stage: str) -> list[Answer]:
        """Return a judged answer to each question, in the order given."""
        prompts = [self.prompt(item, prompt, adapter) for item in asked]
        written = self.generator.generate(prompts, self.decoding, self.progress(stage))
        return [
            Answer(
                item,
                completion.text,
                judge(completion.text, item.gold, refusal=prompt.refusal, passages=item.passages, tags=item.tags),
                len(rendered.tokens),
                completion.tokens,
            )
            for item, rendered, completion in zip(asked, prompts, written, strict=True)
        ]

    def prompt(self, item: Asked, prompt: PromptRenderer, adapter: str | None) -> Prompt:
        """Return the prompt of one question."""
        return Prompt(tuple(self.tokenizer.encode_prompt(prompt.turns(item.question, item.passages))), adapter)


def greedy(max_answer_tokens: int) -> DecodingSettings:
    """Return the decoding of evaluation and serving: greedy."""
    return DecodingSettings(temperature=0.0, top_p=1.0, max_new_tokens=max_answer_tokens, seed=0)


def as_asked(row: Row, passages: Sequence[Passage]) -> Asked:
    """Return a row of a Q&A set as it is asked; one without an answer must be refused."""
    example = row.example
    gold = example.answer if example.answerable else None
    return Asked(row.id, example.question, gold, example.tags, tuple(passages))


def quiet(_: str) -> Progress:
    """Report no progress; a :data:`StageProgress`."""
    return lambda _, __: None
