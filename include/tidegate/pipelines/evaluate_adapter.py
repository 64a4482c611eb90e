"""Measure what an adapter adds: base model and adapter on the same passages, over the holdout and beside it.

The base model may choose the prompt that does best on dev; the holdout only judges. Beside the rows as retrieval
serves them, two questions are put to both arms: do they refuse where only other documents are shown (near misses), and
do they read a value that changed after training, instead of remembering the old one.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tidegate.core import keys
from tidegate.core.adapter_records import AdapterManifest
from tidegate.core.answer_text import holds
from tidegate.core.errors import ConfigInvalidError
from tidegate.evaluation.answer_metrics import JudgedAnswer, Mean, Rate, Summary, summarise
from tidegate.evaluation.generation import Generator
from tidegate.pipelines.asking import Answer, Asked, Asker, StageProgress, as_asked, greedy
from tidegate.pipelines.training_rows import RowSource
from tidegate.prompting.renderer import BASE_PROMPTS, Renderer
from tidegate.qa.dataset import Row
from tidegate.training.rows import TrainingQuestion, other_value

ADAPTER = "adapter"
"""Name by which the generator knows the adapter that is measured."""
_DEV_ROWS, _NEAR_ROWS, _CHANGED_ROWS = 80, 120, 80
"""Rows at most: of dev for the choice of a prompt, of near misses, of changed values; drawn by the adapter's key."""
_NUMBERS = "0123456789"


@dataclass(frozen=True)
class AdapterEvaluation:
    """Both arms, the same rows and passages."""

    adapter: str
    base_prompt: str
    """The prompt that did best on dev, by contained match."""
    dev: dict[str, Summary]
    """Answerable rows of dev by base prompt."""
    arms: dict[str, dict[str, Summary]]
    """Slices by arm, ``base+RAG`` and ``adapter+RAG``."""
    changed: dict[str, dict[str, Rate]]
    """``new`` and ``old`` value said, by arm, where a value was changed after training."""
    answers: dict[str, list[Answer]]
    fresh_failures: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return figures, counts and intervals; answers are left out."""
        return {
            "adapter": self.adapter,
            "base_prompt": self.base_prompt,
            "dev": {name: _summary_json(found) for name, found in self.dev.items()},
            "arms": {
                arm: {name: _summary_json(item) for name, item in found.items()} for arm, found in self.arms.items()
            },
            "changed": {
                arm: {name: _rate_json(rate) for name, rate in found.items()} for arm, found in self.changed.items()
            },
        }


@dataclass(frozen=True)
class AdapterEvaluator:
    """Asks both arms; ``generator`` knows the adapter as :data:`ADAPTER`."""

    source: RowSource
    generator: Generator
    key: str
    manifest: AdapterManifest
    progress: StageProgress

    def run(self) -> AdapterEvaluation:
        """Choose the base model's prompt on dev, then judge both arms on the holdout and its variations.

        Raises ``ConfigInvalidError`` if the adapter was trained with another prompt than the settings give.
        """
        self._require_its_prompt()
        dev = self._asked(self._drawn(self.source.rows("dev"), _DEV_ROWS))
        tried = {prompt.name: self._answers(dev, prompt, None, f"dev, {prompt.name}") for prompt in BASE_PROMPTS}
        judged = {name: summarise([item.judged for item in answers]) for name, answers in tried.items()}
        summaries = {name: slices["answerable"] for name, slices in judged.items() if "answerable" in slices}
        best = max(
            BASE_PROMPTS,
            key=lambda prompt: summaries[prompt.name].rates["contained_match"].value if summaries else 0.0,
        )
        holdout = self._asked(self.source.rows("holdout"))
        near, changed = self._near_misses(), self._changed_values()
        arms, answers, values = {}, {}, {}
        for arm, prompt, adapter in (("base+RAG", best, None), ("adapter+RAG", self.source.renderer, ADAPTER)):
            found = self._answers(holdout, prompt, adapter, f"holdout, {arm}")
            missed = self._answers(near, prompt, adapter, f"near misses, {arm}")
            read = self._answers(changed, prompt, adapter, f"changed values, {arm}")
            arms[arm] = summarise([item.judged for item in found], _slices(found, missed))
            answers[arm], values[arm] = found, _values(read)
        return AdapterEvaluation(self.key, best.name, summaries, arms, values, answers, self._fresh_failures())

    def _require_its_prompt(self) -> None:
        prompt = self.source.workspace.config.prompt
        now = self.source.renderer.digest(window_tokens=prompt.window_tokens, passages=prompt.passages)
        if now != self.manifest.renderer:
            raise ConfigInvalidError(
                f"adapter {self.key[:12]} was trained with prompt {self.manifest.renderer[:12]}, the settings give"
                f" {now[:12]}",
                next_action="train an adapter with the settings as they are, or evaluate with those of then",
            )

    def _drawn(self, rows: Sequence[Row], most: int) -> list[Row]:
        shuffled = list(rows)
        random.Random(self.key).shuffle(shuffled)  # noqa: S311 - reproducible, not secret
        return sorted(shuffled[:most], key=lambda row: row.id)

    def _asked(self, rows: Sequence[Row]) -> list[Asked]:
        shown = self.source.workspace.config.prompt.passages
        found = self.source.finder.find([row.example.question for row in rows], shown, without=self.source.closed(()))
        return [as_asked(row, passages) for row, passages in zip(rows, found, strict=True)]

    def _near_misses(self) -> list[Asked]:
        """Return answerable holdout rows with passages of other documents alone, none of which holds the answer."""
        shown = self.source.workspace.config.prompt.passages
        answerable = [row for row in self.source.rows("holdout") if row.example.answerable]
        rows = self._drawn(answerable, _NEAR_ROWS)
        paths = {key: document.path for key, document in self.source.dataset.memory.documents.items()}
        asked = []
        closed = self.source.closed(())
        for row in rows:
            own = {paths[key] for key in row.documents}
            (found,) = self.source.finder.find([row.example.question], 2 * shown, without=closed | own)
            kept = [passage for passage in found if not holds(passage.text, row.example.answer)][:shown]
            asked.append(replace(as_asked(row, kept), gold=None))
        return asked

    def _changed_values(self) -> list[Asked]:
        """Return training rows whose passages hold another number than when the adapter was trained."""
        draw = random.Random(self.key)  # noqa: S311 - reproducible, not secret
        questions = self.source.questions(self.source.rows("train"), self.source.closed(("dev", "holdout")))
        fitting = [item for item in questions if item.gold and any(digit in item.answer for digit in _NUMBERS)]
        draw.shuffle(fitting)
        changed = [self._with_another_value(item, draw) for item in fitting]
        return [item for item in changed if item is not None][:_CHANGED_ROWS]

    def _with_another_value(self, item: TrainingQuestion, draw: random.Random) -> Asked | None:
        shown, gold = self.source.workspace.config.prompt.passages, item.gold[0]
        value = other_value(item.answer, [], draw)
        text = gold.text.replace(item.answer, value)
        if not holds(text, value) or holds(text, item.answer):
            return None
        others = [
            passage
            for passage in item.retrieved
            if not holds(passage.text, item.answer) and passage.document != gold.document
        ]
        passages = [replace(gold, text=text), *others[: shown - 1]]
        draw.shuffle(passages)
        return Asked(item.row, item.question, value, (), tuple(passages), old=item.answer)

    def _fresh_failures(self) -> tuple[str, ...]:
        """Return rows outside the holdout that came after the adapter's dataset and that it answers wrongly."""
        workspace = self.source.workspace
        then = RowSource(
            workspace, self.source.training, self.manifest.dataset, self.manifest.snapshot, self.source.model
        )
        known = {row.id for row in then.dataset.rows}
        rows = [row for split in ("train", "dev") for row in self.source.rows(split) if row.id not in known]
        found = self._answers(self._asked(rows), self.source.renderer, ADAPTER, "fresh rows") if rows else []
        return tuple(sorted(item.asked.row for item in found if not item.judged.correct))

    def _answers(self, asked: Sequence[Asked], prompt: Renderer, adapter: str | None, stage: str) -> list[Answer]:
        decoding = greedy(self.source.workspace.config.prompt.max_answer_tokens)
        return Asker(self.generator, self.source.tokenizer, decoding, self.progress).answers(
            asked, prompt, adapter, stage
        )


def note_failures(source: RowSource, evaluation: AdapterEvaluation) -> None:
    """Keep which fresh rows fail, for the next decision whether to train."""
    note = {"adapter": evaluation.adapter, "rows": list(evaluation.fresh_failures)}
    source.workspace.store.put(keys.failures(source.workspace.corpus), json.dumps(note).encode())


def _slices(found: Sequence[Answer], missed: Sequence[Answer]) -> dict[str, list[JudgedAnswer]]:
    """Return the slices beside tags: by whether a passage shown holds the answer, and the near misses."""
    held = [item for item in found if item.asked.gold is not None]
    with_evidence = [item.judged for item in held if _holds_gold(item.asked)]
    without = [item.judged for item in held if not _holds_gold(item.asked)]
    return {
        "answer in the passages": with_evidence,
        "answer not in the passages": without,
        "near misses": [item.judged for item in missed],
    }


def _holds_gold(asked: Asked) -> bool:
    return asked.gold is not None and any(holds(passage.text, asked.gold) for passage in asked.passages)


def _values(read: Sequence[Answer]) -> dict[str, Rate]:
    if not read:
        return {}
    new = sum(bool(item.judged.contained_match) for item in read)
    old = sum(holds(item.text, item.asked.old) for item in read)
    refused = sum(item.judged.refused for item in read)
    return {"new": Rate(new, len(read)), "old": Rate(old, len(read)), "refused": Rate(refused, len(read))}


def _summary_json(summary: Summary) -> dict[str, Any]:
    means = {name: asdict(mean) for name, mean in summary.means.items() if isinstance(mean, Mean)}
    return {"n": summary.n, **{name: _rate_json(rate) for name, rate in summary.rates.items()}, **means}


def _rate_json(rate: Rate) -> dict[str, Any]:
    low, high = rate.interval
    return {"value": rate.value, "hits": rate.hits, "n": rate.n, "low": low, "high": high}
