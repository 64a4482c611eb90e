"""The arms of an evaluation: which index, adapter and prompt answer, over which rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from tidegate.core.canonical import sha256_hex
from tidegate.core.config import RetrievalConfig
from tidegate.core.errors import EmbedderMismatchError, EmbedderMissingError
from tidegate.core.evaluation_records import ArmReport, Figure, ServingMode
from tidegate.core.prompts import Passage, PromptRenderer
from tidegate.core.protocols import Embedder
from tidegate.core.records import Bundle
from tidegate.core.training_config import TrainingConfig
from tidegate.evaluation.answer_metrics import Rate, Summary, summarise
from tidegate.evaluation.retrieval_metrics import mean_metrics, score_ranking
from tidegate.indexing.snapshot import Snapshot
from tidegate.pipelines.asking import Answer, Asker, as_asked
from tidegate.pipelines.compose_release import prompts_of
from tidegate.pipelines.evaluate_retrieval import DEPTH, ranked_documents
from tidegate.pipelines.training_rows import RowSource
from tidegate.pipelines.workspace import Workspace
from tidegate.prompting.renderer import PromptSet
from tidegate.qa.dataset import Row


@dataclass(frozen=True)
class Side:
    """A bundle as it would answer: its own snapshot, its own prompts."""

    workspace: Workspace
    bundle: Bundle
    dataset: str
    model: Path
    """Folder of the base model."""

    @cached_property
    def source(self) -> RowSource:
        """The dataset's rows with this snapshot's passages."""
        training = self.workspace.config.training or TrainingConfig()
        return RowSource(self._as_bundled(), training, self.dataset, self.bundle.snapshot, self.model)

    @cached_property
    def prompts(self) -> PromptSet:
        """The bundle's prompts."""
        return prompts_of(self.workspace, self.bundle)

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of the indexed bytes of the dataset's documents, by key; those that are gone are absent."""
        paths = {key: item.path for key, item in self.source.known.items()}
        snapshot = Snapshot(self.workspace.store, self.workspace.corpus, self.bundle.snapshot)
        ledger = snapshot.rows(sorted(set(paths.values())))
        return {key: ledger[path].sha256 for key, path in paths.items() if path in ledger}

    @cached_property
    def closed(self) -> set[str]:
        """Documents whose passages are not shown, since not all of the audience may read them."""
        return self.source.closed(())

    @property
    def adapter(self) -> str | None:
        """Key of the bundle's adapter."""
        return self.bundle.adapter.key if self.bundle.adapter else None

    def _as_bundled(self) -> Workspace:
        """Return the workspace with the bundle's settings: a champion answers as it was released."""
        config = self.workspace.config
        retrieval = self.bundle.retrieval.model_dump(include=set(RetrievalConfig.model_fields))
        shown = {"passages": self.prompts.passages, "window_tokens": self.prompts.window_tokens}
        bundled = {
            "retrieval": RetrievalConfig(**retrieval),
            "prompt": config.prompt.model_copy(update=shown),
        }
        return replace(self.workspace, config=config.model_copy(update=bundled), given_embedder=self._embedder())

    def _embedder(self) -> Embedder:
        """Return the embedder of the bundle's index: the configured one, or a former one that is still installed."""
        wanted, former = self.bundle.embedder, self.workspace
        if former.embedder_identity.space != wanted.space:
            embedder = former.config.embedder.model_copy(update={"model": f"package:{wanted.id}"})
            config = former.config.model_copy(update={"embedder": embedder})
            former = replace(former, config=config, given_embedder=None)
        try:
            known = former.embedder_identity.space == wanted.space
        except EmbedderMissingError:
            known = False
        if not known:
            raise EmbedderMismatchError(
                f"snapshot {self.bundle.snapshot[:12]} was embedded by {wanted.id} revision {wanted.revision[:12]},"
                " which is not installed: it cannot be measured as it serves",
                next_action="install that model's package beside the new one until a release of the new one serves",
            )
        return former.embedder


@dataclass(frozen=True)
class ArmSpec:
    """One arm: passages of one side, or none, read by the base model or by an adapter."""

    name: str
    side: Side
    adapter: str | None
    retrieves: bool

    @property
    def renderer(self) -> PromptRenderer:
        """The prompt of this arm."""
        prompts = self.side.prompts
        return prompts.closed if not self.retrieves else prompts.adapter if self.adapter else prompts.base

    @property
    def generator_name(self) -> str | None:
        """Name under which the engine knows the adapter, None for the base model alone."""
        return adapter_name(self.side.workspace.corpus, self.adapter) if self.adapter else None

    def passages(self, questions: Sequence[str]) -> list[list[Passage]]:
        """Return what the prompt of each question shows."""
        if not self.retrieves:
            return [[] for _ in questions]
        return self.side.source.finder.find(questions, self.side.prompts.passages, without=self.side.closed)


@dataclass(frozen=True)
class ArmAnswers:
    """What an arm said, by row."""

    spec: ArmSpec
    answers: Mapping[str, Answer]

    def correct(self, rows: Sequence[str]) -> list[float]:
        """Return 1.0 or 0.0 for each row."""
        return [float(self.answers[row].judged.correct) for row in rows]

    @cached_property
    def report(self) -> ArmReport:
        """The figures of this arm."""
        answers = list(self.answers.values())
        slices = summarise([answer.judged for answer in answers])
        return ArmReport(
            arm=self.spec.name,
            snapshot=self.spec.side.bundle.snapshot,
            adapter=self.spec.adapter,
            slices={name: _figures(summary) for name, summary in slices.items()},
            prompt_tokens=math.fsum(answer.prompt_tokens for answer in answers) / max(1, len(answers)),
            answer_tokens=math.fsum(answer.tokens for answer in answers) / max(1, len(answers)),
        )


def adapter_name(corpus: str, key: str) -> str:
    """Return the name under which every engine knows an adapter: ``<corpus>-<digest12>``."""
    return f"{corpus}-{key[:12]}"


def candidate_arms(side: Side) -> list[ArmSpec]:
    """Return the arms of a candidate."""
    arms = [ArmSpec("base", side, None, retrieves=False), ArmSpec("base+RAG", side, None, retrieves=True)]
    if side.adapter:
        arms += [
            ArmSpec("adapter", side, side.adapter, retrieves=False),
            ArmSpec("adapter+RAG", side, side.adapter, retrieves=True),
        ]
    return arms


def champion_arms(candidate: Side, champion: Side, mode: ServingMode) -> list[ArmSpec]:
    """Return the champion as it serves, and, where index and adapter both changed, each change by itself."""
    served = champion.adapter if mode != "rag" else None
    arms = [ArmSpec("champion", champion, served, retrieves=mode != "adapter")]
    if candidate.bundle.snapshot != champion.bundle.snapshot and candidate.adapter != champion.adapter:
        arms += [
            ArmSpec("new adapter, old index", champion, candidate.adapter, retrieves=True),
            ArmSpec("old adapter, new index", candidate, served, retrieves=True),
        ]
    return arms


def ask_arm(asker: Asker, spec: ArmSpec, rows: Sequence[Row]) -> ArmAnswers:
    """Return an arm's answers to the rows of a holdout."""
    found = spec.passages([row.example.question for row in rows])
    asked = [as_asked(row, passages) for row, passages in zip(rows, found, strict=True)]
    answers = asker.answers(asked, spec.renderer, spec.generator_name, spec.name)
    return ArmAnswers(spec, {answer.asked.row: answer for answer in answers})


def current_rows(candidate: Side, most: int) -> tuple[list[Row], int]:
    """Return the holdout's rows whose evidence is current in the candidate's snapshot, and how many are left out.

    Of more than ``most``, those with the lowest digests of their ids are taken: the same at every evaluation.
    """
    rows = candidate.source.rows("holdout")
    memory, now = candidate.source.dataset.memory.documents, candidate.fingerprints
    current = [row for row in rows if all(now.get(key) == memory[key].sha256 for key in row.documents)]
    drawn = sorted(current, key=lambda row: sha256_hex(row.id.encode()))[:most]
    return sorted(drawn, key=lambda row: row.id), len(rows) - len(current)


def unchanged_rows(rows: Sequence[Row], candidate: Side, champion: Side) -> list[str]:
    """Return the rows whose documents are the same in both snapshots."""
    now, before = candidate.fingerprints, champion.fingerprints
    return [row.id for row in rows if all(now.get(key) == before.get(key) for key in row.documents)]


def retrieval_metrics(side: Side, rows: Sequence[Row]) -> dict[str, float]:
    """Return recall, MRR and nDCG by document over the answerable rows that name one; {} without any."""
    paths = {key: item.path for key, item in side.source.known.items()}
    scored = [(row, {paths[key] for key in row.documents if key in paths}) for row in rows if row.example.answerable]
    scored = [(row, gold) for row, gold in scored if gold]
    if not scored:
        return {}
    settings = side.bundle.retrieval.model_copy(update={"top_k": DEPTH})
    hits = side.source.finder.search([row.example.question for row, _ in scored], settings)
    return mean_metrics(
        score_ranking(ranked_documents(found), gold) for found, (_, gold) in zip(hits, scored, strict=True)
    )


def _figures(summary: Summary) -> dict[str, Figure]:
    rates = {name: figure_of(rate) for name, rate in summary.rates.items()}
    means = {name: Figure(value=mean.value, n=mean.n) for name, mean in summary.means.items()}
    return {**rates, **means}


def figure_of(rate: Rate) -> Figure:
    """Return a rate as a report holds it."""
    low, high = rate.interval
    return Figure(value=rate.value, n=rate.n, low=low, high=high)
