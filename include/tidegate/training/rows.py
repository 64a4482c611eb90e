"""RAFT rows: questions with the passages that retrieval gives them, and what is to be answered.

A *context* is a set of passages in one order; its *branches* are questions about it, each of which sees the passages
and itself alone. A branch is answered where a passage holds its evidence, and refuses where none holds its answer:
because the documents do not say (unanswerable), or because the passage was withheld (Zhang et al. 2024, RAFT). In a
share of the contexts the answer is swapped for another value, in passage and answer alike, so that an adapter learns
to read and not to remember. Equal inputs and seed give equal rows.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tidegate.core.answer_text import holds
from tidegate.core.prompts import ChatTokenizer, Passage, PromptRenderer
from tidegate.core.tables import body_lines
from tidegate.training.practice import practice_questions

Kind = Literal["answered", "swapped", "withheld", "unanswerable", "practice"]

_NUMBER = re.compile(r"\d+")
_PLAIN_SHARE = 0.5
"""Share of the contexts with at least one passage that was not chosen for another question."""
_MORE_DISTRACTORS = 2
"""Distractors are drawn from this many times the passages that a prompt shows."""


@dataclass(frozen=True, slots=True)
class TrainingQuestion:
    """One row of a dataset's training split, with what retrieval found for it."""

    row: str
    question: str
    answer: str
    quotes: tuple[str, ...]
    answerable: bool
    gold: tuple[Passage, ...]
    """Windows that hold its evidence; empty if no passage holds a whole quote."""
    retrieved: tuple[Passage, ...]
    """Best windows of real retrieval, none of a document of another split."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A question about a context, and what is to be answered."""

    row: str
    kind: Kind
    question: str
    answer: str
    """The answer, or '' for a refusal."""
    withheld: str = ""
    """The answer that the passages must not hold."""
    shown_in: tuple[str, str] | None = None
    """Document and headings of the passage that holds the evidence; None: any that holds the answer."""


@dataclass(frozen=True, slots=True)
class Context:
    """Passages as a prompt shows them, and the questions about them."""

    passages: tuple[Passage, ...]
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True)
class RowSettings:
    """How rows are made."""

    passages: int
    questions_per_context: int
    repeats: int
    """How often a question is asked, each time among other passages."""
    withheld_share: float
    """Share of the contexts of answerable questions whose evidence is taken out."""
    refusal_share: float
    """Share of refusals among the branches that is aimed at."""
    swapped_share: float
    """Share of the contexts whose answers are swapped for other values."""
    seed: int
    practice: int = 0
    """Questions per context that the passages ask of themselves (``training/practice.py``)."""


def make_contexts(questions: Sequence[TrainingQuestion], settings: RowSettings) -> list[Context]:
    """Return the contexts of a training file, in the order in which they are trained."""
    draw = random.Random(settings.seed)  # noqa: S311 - reproducible, not secret
    contexts = []
    for _ in range(settings.repeats):
        order = sorted(questions, key=lambda item: item.row)
        draw.shuffle(order)
        asked: set[str] = set()
        for seed in order:
            if seed.row in asked or not (seed.gold or seed.retrieved):
                continue
            context = _Maker(order, asked, settings, draw).make(seed)
            if context is not None:
                contexts.append(context)
                asked |= {branch.row for branch in context.branches if branch.kind != "withheld"} | {seed.row}
    draw.shuffle(contexts)
    return contexts


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes the context of one question and finds the others that fit it."""

    order: Sequence[TrainingQuestion]
    asked: set[str]
    settings: RowSettings
    draw: random.Random

    def make(self, seed: TrainingQuestion) -> Context | None:
        others = [item for item in self.order if item.row not in self.asked and item.row != seed.row]
        passages = self._passages(seed, others)
        first = _kind(seed, passages)
        if first is None:
            return None
        branches = [_branch(seed, first, passages), *self._answered(others, passages)]
        branches += self._refused(passages, seed, branches)
        if self.draw.random() < self.settings.swapped_share:
            passages, branches = swap_answers(passages, branches, self._answers(), self.draw)
        practised = practice_questions(passages, self.settings.practice, self.draw)
        own = [Branch("", "practice", question, answer) for question, answer in practised]
        return Context(tuple(passages), (*branches, *own))

    def _passages(self, seed: TrainingQuestion, others: Sequence[TrainingQuestion]) -> list[Passage]:
        """Return evidence and distractors in random order.

        Distractors come from the seed's own retrieval. Where a passage that it found holds the evidence of another
        question, the window around that evidence is shown, so that the context answers both.
        """
        withheld = seed.answerable and self.draw.random() < self.settings.withheld_share
        chosen = [] if withheld else list(seed.gold[:1])
        found = {(item.document, item.heading) for item in (*seed.retrieved, *seed.gold)}
        shared = [gold for item in others for gold in item.gold[:1] if (gold.document, gold.heading) in found]
        self.draw.shuffle(shared)
        near = list(seed.retrieved[: self.settings.passages * _MORE_DISTRACTORS])
        self.draw.shuffle(near)
        most_shared = self.settings.passages - len(chosen) - (self.draw.random() < _PLAIN_SHARE)
        for item in [*shared[:most_shared], *near, *shared[most_shared:]]:
            if len(chosen) == self.settings.passages:
                break
            spoils = withheld and holds(item.text, seed.answer)
            if not spoils and not any(_overlap(item, other) for other in (*chosen, *(seed.gold if withheld else ()))):
                chosen.append(item)
        self.draw.shuffle(chosen)
        return chosen

    def _answered(self, others: Sequence[TrainingQuestion], passages: Sequence[Passage]) -> list[Branch]:
        found = [item for item in others if item.answerable and _kind(item, passages) == "answered"]
        return [_branch(item, "answered", passages) for item in found[: self.settings.questions_per_context - 1]]

    def _refused(
        self,
        passages: Sequence[Passage],
        seed: TrainingQuestion,
        branches: Sequence[Branch],
    ) -> list[Branch]:
        """Return questions about the same documents that the passages do not answer, as the share of refusals asks."""
        refused = sum(branch.kind != "answered" for branch in branches)
        answered = len(branches) - refused
        share = self.settings.refusal_share
        expected = answered * share / (1 - share) - refused
        count = int(expected) + (self.draw.random() < expected % 1) if expected > 0 else 0
        room = self.settings.questions_per_context - len(branches)
        documents = {passage.document for passage in passages}
        near = [item for item in self.order if item.row != seed.row and _touches(item, documents)]
        unanswerable = [item for item in near if not item.answerable and item.row not in self.asked]
        withheld = [item for item in near if item.answerable and _kind(item, passages) == "withheld"]
        chosen = [*unanswerable, *withheld][: max(0, min(count, room))]
        return [_branch(item, "withheld" if item.answerable else "unanswerable", passages) for item in chosen]

    def _answers(self) -> list[str]:
        return [item.answer for item in self.order if item.answerable]


def swap_answers(
    passages: Sequence[Passage], branches: Sequence[Branch], answers: Sequence[str], draw: random.Random
) -> tuple[list[Passage], list[Branch]]:
    """Give the answers that stand in the passages word for word other values, in passage and branch alike.

    Numbers become other numbers of as many digits; an answer without numbers becomes another question's answer of as
    many words. An answer stays as it is where the new text would no longer hold what another branch answers.
    """
    shown, swapped = list(passages), list(branches)
    for at, branch in enumerate(branches):
        if branch.kind != "answered":
            continue
        value = other_value(branch.answer, answers, draw)
        new = [replace(item, text=_replaced(item.text, branch.answer, value)) for item in shown]
        changed = replace(branch, kind="swapped", answer=value)
        candidate = [*swapped[:at], changed, *swapped[at + 1 :]]
        left = any(holds(item.text, branch.answer) for item in new)  # in other case or mark-up: the evidence, perhaps
        if new != shown and not left and all(_stands(item, new) for item in candidate):
            shown, swapped = new, candidate
    return shown, swapped


def other_value(answer: str, answers: Sequence[str], draw: random.Random) -> str:
    """Return another value of the same shape as an answer; the answer itself if there is none."""
    if _NUMBER.search(answer):
        return _NUMBER.sub(lambda match: _other_number(match[0], draw), answer)
    size = len(answer.split())
    alike = [item for item in answers if item != answer and len(item.split()) == size and not _NUMBER.search(item)]
    return draw.choice(alike) if alike else answer


def encode(
    context: Context, renderer: PromptRenderer, tokenizer: ChatTokenizer
) -> tuple[list[int], list[tuple[list[int], list[int]]]]:
    """Return the tokens that all branches share, and per branch those of its prompt after them and of its answer.

    Shared and own prompt tokens together are exactly those of the question asked alone.
    """
    prompts = [
        tokenizer.encode_prompt(renderer.turns(branch.question, context.passages)) for branch in context.branches
    ]
    shared = shared_tokens(prompts)
    return prompts[0][:shared], [
        (prompt[shared:], tokenizer.encode_completion(said(branch, context.passages, renderer)))
        for prompt, branch in zip(prompts, context.branches, strict=True)
    ]


def said(branch: Branch, passages: Sequence[Passage], renderer: PromptRenderer) -> str:
    """Return what the model is to write: the answer, with the number of its passage where the prompt asks for it."""
    if not branch.answer:
        return renderer.refusal
    holding = [(at, item) for at, item in enumerate(passages, 1) if holds(item.text, branch.answer)]
    holding.sort(key=lambda found: (found[1].document, found[1].heading) != branch.shown_in)
    number = holding[0][0] if holding else None
    return f"{branch.answer} [{number}]" if renderer.cites and number else branch.answer


def as_lines(
    contexts: Sequence[Context], renderer: PromptRenderer, tokenizer: ChatTokenizer
) -> Iterator[dict[str, Any]]:
    """Yield one line of a training file per context: what it shows and asks, and its tokens."""
    for context in contexts:
        prefix, branches = encode(context, renderer, tokenizer)
        yield {
            "passages": [passage.as_json() for passage in context.passages],
            "prefix": prefix,
            "branches": [
                {
                    "row": branch.row,
                    "kind": branch.kind,
                    "question": branch.question,
                    "answer": said(branch, context.passages, renderer),
                    "prompt": prompt,
                    "completion": completion,
                }
                for branch, (prompt, completion) in zip(context.branches, branches, strict=True)
            ],
        }


def _kind(item: TrainingQuestion, passages: Sequence[Passage]) -> Kind | None:
    """Return what a question is to passages; None where they hold its answer but not its evidence."""
    if not item.answerable:
        return "unanswerable"
    if not any(holds(passage.text, item.answer) for passage in passages):
        return "withheld"
    return "answered" if _evidence(item, passages) else None


def _evidence(item: TrainingQuestion, passages: Sequence[Passage]) -> Passage | None:
    """Return the first passage that holds a question's answer and one of its quotes."""
    shown = [passage for passage in passages if holds(passage.text, item.answer)]
    return next((passage for passage in shown if any(holds(passage.text, quote) for quote in item.quotes)), None)


def _stands(branch: Branch, passages: Sequence[Passage]) -> bool:
    """Tell whether passages still hold what a branch answers, and still lack what it must refuse."""
    wanted = branch.answer or branch.withheld
    return not wanted or any(holds(passage.text, wanted) for passage in passages) == bool(branch.answer)


def _branch(item: TrainingQuestion, kind: Kind, passages: Sequence[Passage]) -> Branch:
    if kind == "answered":
        evidence = _evidence(item, passages)
        shown_in = (evidence.document, evidence.heading) if evidence else None
        return Branch(item.row, kind, item.question, item.answer, shown_in=shown_in)
    return Branch(item.row, kind, item.question, "", withheld=item.answer if kind == "withheld" else "")


def _overlap(one: Passage, other: Passage) -> bool:
    """Tell whether two windows of one document share a line below the head of a table, or one holds the other."""
    if one.document != other.document:
        return False
    return bool(body_lines(one.text) & body_lines(other.text)) or one.text in other.text or other.text in one.text


def _touches(item: TrainingQuestion, documents: set[str]) -> bool:
    return any(passage.document in documents for passage in (*item.gold, *item.retrieved[:3]))


def _replaced(text: str, answer: str, value: str) -> str:
    return re.sub(rf"(?<![\w.]){re.escape(answer)}(?![\w])", lambda _: value, text)


def _other_number(digits: str, draw: random.Random) -> str:
    low = 10 ** (len(digits) - 1) if len(digits) > 1 else 1
    while True:
        value = str(draw.randrange(low, 10 ** len(digits)))
        if value != digits:
            return value


def shared_tokens(prompts: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all prompts have in common at their beginning, leaving each at least one of its own."""
    shortest = min(len(prompt) for prompt in prompts) - 1
    first = prompts[0]
    return next((at for at in range(shortest) if any(prompt[at] != first[at] for prompt in prompts)), shortest)
