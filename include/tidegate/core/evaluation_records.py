"""What an evaluation reports: figures with their counts, arms, comparisons, costs and examples, as stored records.

``report.json`` beside an evaluation's ``results.json`` is one :class:`EvaluationReport`. The approval form, the HTML
report, the page in Airflow and the command line all show this record and compute nothing of their own.
"""

from __future__ import annotations

from typing import Literal

from tidegate.core.records import Digest, GateRule, Part, Record

Verdict = Literal["better", "worse", "not_enough_evidence"]
ServingMode = Literal["rag", "adapter", "hybrid"]
SERVED_BY: dict[ServingMode, str] = {"rag": "base+RAG", "adapter": "adapter", "hybrid": "adapter+RAG"}
"""The arm that a serving mode serves with."""
Arm = Literal["base", "base+RAG", "adapter", "adapter+RAG", "champion"]


class Figure(Part):
    """A rate or mean with the number of rows behind it."""

    value: float
    n: int
    low: float | None = None
    high: float | None = None
    """Ends of the 95 % interval; None for a mean."""


class ArmReport(Part):
    """One arm on the holdout."""

    arm: str
    """One of :data:`Arm`, or ``<adapter> on <index>`` where old and new are crossed."""
    snapshot: Digest
    adapter: str | None
    """Key of the adapter, None for the base model alone."""
    slices: dict[str, dict[str, Figure]]
    """Metric by name, by slice: ``all``, ``answerable``, ``unanswerable``, ``tag:<tag>``."""
    prompt_tokens: float
    answer_tokens: float
    """Means per question."""


class Comparison(Part):
    """One arm against another by the primary metric, over the same rows."""

    verdict: Verdict
    difference: float
    """Mean of the first minus mean of the second, in shares (0.05 is five points)."""
    low: float
    high: float
    """95 % interval by a bootstrap that draws whole documents."""
    p_better: float
    p_worse: float
    """One-sided p-values of the document-level sign-flip test."""
    rows: int
    documents: int
    wins: int
    losses: int
    """Rows that only the first, or only the second, gets right."""
    mcnemar: float
    """Exact two-sided p-value of McNemar's test; shown, never decides."""


class LatencyReport(Part):
    """Time to answer one question with one arm, in seconds."""

    requests: int
    concurrency: int
    p50: float
    p95: float
    p99: float | None
    """None under 500 requests."""
    tokens_per_second: float


class ArmCost(Part):
    """What one arm costs at the measured tokens and throughput, in the currency of the prices."""

    arm: str
    per_1000_queries: float
    fixed_per_month: float
    per_month: dict[int, float]
    """Queries a month to total cost."""


class BreakEven(Part):
    """The volume at which two arms cost the same."""

    first: str
    second: str
    queries_per_month: float | None
    """None where one is cheaper at every volume."""


class CostReport(Part):
    """Costs of the arms, by the prices of the corpus file."""

    currency: str
    arms: tuple[ArmCost, ...]
    break_even: tuple[BreakEven, ...]
    once: dict[str, float]
    """What was paid once: ``training``, ``index refresh``, ``evaluation``."""


class PassageShown(Part):
    """A passage as a prompt showed it."""

    document: str
    heading: str
    text: str


class Example(Part):
    """One question that only one of candidate and champion gets right."""

    row: str
    question: str
    gold: str | None
    """None where the right answer is a refusal."""
    candidate: str
    champion: str
    won: bool
    """Whether the candidate is right."""
    passages: tuple[PassageShown, ...]
    """Those of the candidate's prompt."""


class Changes(Part):
    """What a candidate changes against the champion."""

    added: int
    modified: int
    removed: int
    """Documents."""
    documents: int
    """Documents of the candidate."""
    names: tuple[str, ...]
    """Some of the changed documents, as ``+ path``, ``~ path`` or ``- path``."""
    rows_added: int
    rows_changed: int
    rows_removed: int
    """Rows of the dataset."""


class Freshness(Part):
    """Whether the index holds what the documents say."""

    documents: int
    held: int
    """Documents in quarantine or with withheld deletions: the index has an older version, or none."""
    held_days: float
    """Age of the oldest of them."""
    unexplained_stale: int
    """Passages of documents that are neither current nor held."""


class EvaluationReport(Record):
    """``evaluations/<key>/report.json``: all that a person needs to decide, and the sources of each figure."""

    corpus: str
    evaluation: Digest
    dataset: Digest
    snapshot: Digest
    adapter: str | None
    champion: Digest | None
    """Id of the champion release that was compared with."""
    base_prompt: str
    engine: str
    serving_mode: ServingMode
    why_mode: str
    """One sentence: why this way of serving."""
    arms: tuple[ArmReport, ...]
    retrieval: dict[str, dict[str, float]]
    """Retrieval metrics by ``candidate`` and ``champion``."""
    comparison: Comparison | None
    """Candidate, as it would serve, against the champion; None without a champion."""
    unchanged: Comparison | None
    """The same on rows whose evidence did not change."""
    against_rag: Comparison | None
    """``adapter+RAG`` against ``base+RAG``; None without an adapter."""
    general: dict[str, Figure]
    """Share of general questions answered, by ``base`` and ``adapter``."""
    latency: dict[str, LatencyReport]
    """By arm; empty if it was not measured."""
    costs: CostReport | None
    changes: Changes
    freshness: Freshness
    judge: dict[str, str]
    """Model, prompt version and preference of an LLM judge; empty without one. It never decides."""
    left_out: int
    """Rows of the holdout whose evidence is not current in the candidate's snapshot."""
    rules: tuple[GateRule, ...]
    examples: tuple[Example, ...]

    @property
    def passed(self) -> bool:
        """Whether every rule of the gate passed."""
        return all(rule.passed for rule in self.rules)

    def figure(self, arm: str, slice_: str, metric: str) -> Figure | None:
        """Return one figure of an arm, None if the slice has none."""
        found = next((item for item in self.arms if item.arm == arm), None)
        return found.slices.get(slice_, {}).get(metric) if found else None
