"""Measure a candidate and the champion on one holdout: arms, retrieval, latency, costs, forgetting; then the gate."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tidegate.core.answer_text import holds
from tidegate.core.config import CorpusConfig
from tidegate.core.errors import ConfigInvalidError, one_line
from tidegate.core.evaluation_config import CostsConfig
from tidegate.core.evaluation_records import (
    SERVED_BY,
    Comparison,
    CostReport,
    EvaluationReport,
    Example,
    Figure,
    LatencyReport,
    PassageShown,
)
from tidegate.evaluation.answer_cache import CachedGenerator
from tidegate.evaluation.answer_metrics import Rate
from tidegate.evaluation.costs import ArmUse, RefreshUse, cost_report
from tidegate.evaluation.gate import Facts, judge_candidate
from tidegate.evaluation.generation import Generator
from tidegate.evaluation.judge import ask_judge
from tidegate.evaluation.serving_mode import Choice, rank_arms
from tidegate.evaluation.significance import compare, document_groups
from tidegate.pipelines.asking import Answer, Asked, Asker, StageProgress
from tidegate.pipelines.compare_releases import changes_between
from tidegate.pipelines.compose_release import Composition
from tidegate.pipelines.evaluation_arms import (
    ArmAnswers,
    ArmSpec,
    Side,
    adapter_name,
    ask_arm,
    candidate_arms,
    champion_arms,
    current_rows,
    figure_of,
    retrieval_metrics,
    unchanged_rows,
)
from tidegate.pipelines.freshness import freshness_of
from tidegate.pipelines.stopwatch import Stopwatch
from tidegate.prompting.renderer import GENERAL_PROMPT
from tidegate.qa.dataset import Row

_SIMPLER = (("adapter", "base+RAG"), ("adapter+RAG", "base+RAG"), ("adapter+RAG", "adapter"))
_NO_ADAPTER = "It has no adapter: it serves passages, and no model answers."
_EXAMPLES = 12
"""Wins and losses each."""
_GENERAL = Path(__file__).parents[1] / "evaluation" / "general.jsonl"
_QUESTION_TOKENS = 16.0
"""Tokens that are embedded per question; a question is a sentence."""


@dataclass(frozen=True)
class Measurement:
    """What was measured, and every answer."""

    report: EvaluationReport
    answers: Mapping[str, ArmAnswers]


@dataclass(frozen=True)
class ReleaseMeter:
    """Measures one composition; ``generator`` knows the adapters by :func:`adapter_name`."""

    composition: Composition
    candidate: Side
    champion: Side | None
    generator: CachedGenerator
    engine: Generator
    """The same without a cache, for latency."""
    progress: StageProgress
    evaluation: str
    """Key of the evaluation."""
    training_hours: float | None = None
    """What training the candidate's adapter took."""
    judge_key: str | None = field(default=None, repr=False)
    """API key of ``evaluation.judge``."""

    def run(self) -> Measurement:
        """Ask every arm, compare, choose the way of serving, and judge by the gate's rules.

        Without an adapter the candidate serves passages alone: retrieval and index are measured, and no model answers.
        """
        rows, _ = self._rows
        if self.candidate.adapter is None:
            return Measurement(self._report({}, {}, None, Choice("rag", _NO_ADAPTER)), {})
        specs = candidate_arms(self.candidate)
        serving = self.composition.serving
        if self.champion and serving:
            specs += champion_arms(self.candidate, self.champion, serving.serving_mode)
        answers = {spec.name: ask_arm(self._asker, spec, rows) for spec in specs}
        latency = self._latency([spec for spec in specs if spec.name in SERVED_BY.values()])
        costs = self._costs(answers, latency)
        choice = self._choice(answers, latency, costs)
        return Measurement(self._report(answers, latency, costs, choice), answers)

    @cached_property
    def _rows(self) -> tuple[list[Row], int]:
        rows, left_out = current_rows(self.candidate, self._config.evaluation.max_rows)
        if not rows:
            raise ConfigInvalidError(
                f"dataset {self.candidate.dataset[:12]} has no holdout row whose evidence is current",
                next_action="raise qa.holdout_share or add questions, then run validate_qa",
            )
        return rows, left_out

    @cached_property
    def _asker(self) -> Asker:
        decoding = self.composition.bundle.decoding
        if decoding is None:
            raise ValueError("a bundle without decoding is not measured by answers")
        return Asker(self.generator, self.candidate.source.tokenizer, decoding, self.progress)

    @property
    def _config(self) -> CorpusConfig:
        return self.candidate.workspace.config

    def _report(
        self,
        answers: Mapping[str, ArmAnswers],
        latency: Mapping[str, LatencyReport],
        costs: CostReport | None,
        choice: Choice,
    ) -> EvaluationReport:
        facts, engine = self._facts(answers, latency, choice), self.engine.engine
        composed, (rows, left_out) = self.composition, self._rows
        adapter, rag = answers.get("adapter+RAG"), answers.get("base+RAG")
        examples = _examples(answers.get(SERVED_BY[choice.mode]), answers.get("champion"))
        if facts.freshness is None or facts.changes is None:
            raise ValueError("freshness and changes are always measured")
        return EvaluationReport(
            corpus=composed.bundle.corpus,
            evaluation=self.evaluation,
            dataset=self.candidate.dataset,
            snapshot=composed.bundle.snapshot,
            adapter=self.candidate.adapter,
            champion=composed.champion,
            base_prompt=self.candidate.prompts.base.name if answers else "",
            engine=f"{engine.name} {engine.version} {engine.dtype}" if answers else "",
            serving_mode=choice.mode,
            why_mode=choice.why,
            arms=tuple(item.report for item in answers.values()),
            retrieval={name: dict(metrics) for name, metrics in facts.retrieval.items()},
            comparison=facts.comparison,
            unchanged=facts.unchanged,
            against_rag=self._compared(adapter, rag, rows),
            general=dict(facts.general),
            latency=dict(latency),
            costs=costs,
            changes=facts.changes,
            freshness=facts.freshness,
            judge=self._judge(examples),
            left_out=left_out,
            rules=judge_candidate(facts, self._config.gate),
            examples=examples,
        )

    def _judge(self, examples: Sequence[Example]) -> dict[str, str]:
        """Return what an LLM judge prefers; empty without one, or without a pair to show it."""
        judge = self._config.evaluation.judge
        return ask_judge(judge, examples, self.judge_key) if judge and examples else {}

    def _facts(self, answers: Mapping[str, ArmAnswers], latency: Mapping[str, LatencyReport], choice: Choice) -> Facts:
        rows, _ = self._rows
        name, served, bundle = SERVED_BY[choice.mode], self.composition.serving, self.composition.bundle
        serving, champion = answers.get(name), answers.get("champion")
        kept = set(unchanged_rows(rows, self.candidate, self.champion)) if self.champion else set()
        before = (served.bundle.snapshot, served.dataset) if served else (None, None)
        workspace = self.candidate.workspace
        return Facts(
            mode=choice.mode if serving else None,
            first=served is None,
            new_adapter=self.composition.new_adapter,
            serving=serving.report if serving else None,
            champion=champion.report if champion else None,
            comparison=self._compared(serving, champion, rows),
            unchanged=self._compared(serving, champion, [row for row in rows if row.id in kept]),
            tags={
                tag: found for tag in _tags(rows) if (found := self._compared(serving, champion, _tagged(rows, tag)))
            },
            retrieval=self._retrieval(),
            general=self._general() if serving else {},
            freshness=freshness_of(workspace, bundle.snapshot),
            changes=changes_between(workspace, bundle.snapshot, self.composition.dataset, *before),
            latency=latency[name].p50 if name in latency else None,
        )

    def _compared(self, first: ArmAnswers | None, second: ArmAnswers | None, rows: Sequence[Row]) -> Comparison | None:
        """Compare two arms by the primary metric; None if one is missing, or without rows."""
        if first is None or second is None or not rows:
            return None
        ids = [row.id for row in rows]
        groups = document_groups([row.documents for row in rows])
        return compare(first.correct(ids), second.correct(ids), groups, seed=self._config.evaluation.seed)

    def _choice(
        self, answers: Mapping[str, ArmAnswers], latency: Mapping[str, LatencyReport], costs: CostReport | None
    ) -> Choice:
        rows, _ = self._rows
        pairs = {
            (first, second): compared
            for first, second in _SIMPLER
            if first in answers and (compared := self._compared(answers[first], answers[second], rows))
        }
        reports = [item.report for item in answers.values()]
        choice = rank_arms(reports, pairs, latency, costs, self._config.evaluation)
        return self._kept(answers, choice) or choice

    def _kept(self, answers: Mapping[str, ArmAnswers], choice: Choice) -> Choice | None:
        """Return the way in which the champion's adapter serves, unless another is better or a limit speaks against it.

        Else a difference at the edge of significance would switch a released adapter off and on with every index.
        """
        served = self.composition.serving
        if served is None or self.composition.new_adapter or served.serving_mode in ("rag", choice.mode):
            return None
        before = SERVED_BY[served.serving_mode]
        if before in choice.outside or before not in answers:
            return None
        rows, _ = self._rows
        compared = self._compared(answers[SERVED_BY[choice.mode]], answers[before], rows)
        if compared is None or compared.verdict == "better":
            return None
        return Choice(served.serving_mode, f"{before} serves on: no other way is shown to be better. {choice.why}")

    def _retrieval(self) -> dict[str, dict[str, float]]:
        rows, _ = self._rows
        found = {"candidate": retrieval_metrics(self.candidate, rows)}
        if self.champion:
            found["champion"] = retrieval_metrics(self.champion, rows)
        return found

    def _general(self) -> dict[str, Figure]:
        """Return the share of general questions that base model and adapter answer, each without passages."""
        asked = general_questions(self._config.evaluation.general, self.candidate.workspace.base)
        arms: list[tuple[str, str | None]] = [("base", None)]
        if self.candidate.adapter:
            arms.append(("adapter", adapter_name(self._config.corpus, self.candidate.adapter)))
        found = {}
        for arm, adapter in arms:
            answers = self._asker.answers(asked, GENERAL_PROMPT, adapter, f"general questions, {arm}")
            hits = sum(holds(answer.text, answer.asked.gold or "") for answer in answers)
            found[arm] = figure_of(Rate(hits, len(answers)))
        return found

    def _latency(self, specs: Sequence[ArmSpec]) -> dict[str, LatencyReport]:
        config, (rows, _) = self._config.evaluation, self._rows
        if not config.latency_requests:
            return {}
        stopwatch = Stopwatch(self.candidate.workspace, self.engine, self._asker, config)
        return {spec.name: stopwatch.measure(spec, rows) for spec in specs}

    def _costs(self, answers: Mapping[str, ArmAnswers], latency: Mapping[str, LatencyReport]) -> CostReport | None:
        """Return what the ways of serving cost; None where no price is given."""
        prices = self._config.costs
        if prices == CostsConfig():
            return None
        uses = []
        for name in SERVED_BY.values():
            if name not in answers:
                continue
            report, timed = answers[name].report, latency.get(name)
            uses.append(
                ArmUse(
                    name,
                    report.prompt_tokens,
                    report.answer_tokens,
                    timed.tokens_per_second if timed else None,
                    question_tokens=_QUESTION_TOKENS if answers[name].spec.retrieves else None,
                    training_hours=(self.training_hours or 0.0) if report.adapter else None,
                )
            )
        return cost_report(prices, uses, RefreshUse(training_hours=self.training_hours))


def general_questions(path: str | None, base: Path) -> list[Asked]:
    """Return the questions that guard against forgetting; raise ``ConfigInvalidError`` for an unusable file."""
    source = base / path if path else _GENERAL
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
        asked = [
            Asked(f"general-{at}", str(row["question"]), str(row["answer"]), (), ()) for at, row in enumerate(rows, 1)
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigInvalidError(
            f"evaluation.general: {source} is no JSONL file of questions: {one_line(str(error))}",
            next_action='give lines of {"question": ..., "answer": ...}, or leave evaluation.general out',
        ) from error
    if not asked:
        raise ConfigInvalidError(f"evaluation.general: {source} holds no question")
    return asked


def _tags(rows: Sequence[Row]) -> list[str]:
    return sorted({tag for row in rows for tag in row.example.tags})


def _tagged(rows: Sequence[Row], tag: str) -> list[Row]:
    return [row for row in rows if tag in row.example.tags]


def _examples(candidate: ArmAnswers | None, champion: ArmAnswers | None) -> tuple[Example, ...]:
    """Return rows that only one of the two gets right: first those whose answers differ most by token F1."""
    if candidate is None or champion is None:
        return ()
    pairs = [(candidate.answers[row], champion.answers[row]) for row in sorted(candidate.answers)]
    differing = [pair for pair in pairs if pair[0].judged.correct != pair[1].judged.correct]
    differing.sort(key=lambda pair: -abs(_score(pair[0]) - _score(pair[1])))
    wins = [pair for pair in differing if pair[0].judged.correct]
    losses = [pair for pair in differing if not pair[0].judged.correct]
    return tuple(_example(*pair) for pair in [*wins[:_EXAMPLES], *losses[:_EXAMPLES]])


def _score(answer: Answer) -> float:
    found = answer.judged.token_f1
    return float(answer.judged.correct) if found is None else found


def _example(candidate: Answer, champion: Answer) -> Example:
    asked = candidate.asked
    return Example(
        row=asked.row,
        question=asked.question,
        gold=asked.gold,
        candidate=candidate.text,
        champion=champion.text,
        won=candidate.judged.correct,
        passages=tuple(PassageShown(**passage.as_json()) for passage in asked.passages),
    )
