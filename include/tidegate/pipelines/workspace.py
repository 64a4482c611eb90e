"""What every step of a corpus receives: its settings, its store, its source and its embedder."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tidegate.chunking import splitter
from tidegate.core.canonical import digest_of
from tidegate.core.config import CorpusConfig
from tidegate.core.errors import ConfigInvalidError
from tidegate.core.protocols import ArtifactStore, DocumentSource, Embedder, Tokenizer
from tidegate.core.records import EmbedderIdentity, RetrievalSettings
from tidegate.indexing.models import ModelFiles, find_model, read_identity
from tidegate.parsing.parser import KINDS, VERSIONS, kind_of
from tidegate.sources.folder import FolderSource

_SPECIAL_TOKENS = 2
"""Tokens that a model adds around a text."""


@dataclass(frozen=True)
class Workspace:
    """One corpus in one store. Heavy parts (the model) are opened when first used."""

    config: CorpusConfig
    store: ArtifactStore
    base: Path
    """Folder that relative paths of the settings start from."""
    given_embedder: Embedder | None = field(default=None, repr=False)
    """Used instead of the configured model; for tests and benchmarks."""

    @property
    def corpus(self) -> str:
        """The corpus's name, which is also its prefix in the store."""
        return self.config.corpus

    @cached_property
    def source(self) -> DocumentSource:
        """The configured source."""
        settings = self.config.source
        return FolderSource(
            self.base / Path(settings.path).expanduser(),
            accepts=lambda document: kind_of(document) is not None,
            max_bytes=settings.max_document_bytes,
            include=settings.include,
            exclude=settings.exclude,
        )

    @cached_property
    def embedder(self) -> Embedder:
        """The configured embedder, loaded."""
        if self.given_embedder is not None:
            return self.given_embedder
        settings = self.config.embedder
        if settings.backend == "sentence-transformers":
            from tidegate.indexing.embedder_sentence_transformers import SentenceTransformersEmbedder

            return SentenceTransformersEmbedder(self._model, batch_tokens=settings.batch_tokens)
        from tidegate.indexing.embedder_onnx import OnnxEmbedder

        return OnnxEmbedder(self._model, threads=settings.threads, batch_tokens=settings.batch_tokens)

    @cached_property
    def embedder_identity(self) -> EmbedderIdentity:
        """The configured embedder's identity, without loading the model."""
        if self.given_embedder is not None:
            return self.given_embedder.identity
        return read_identity(self._model, self.config.embedder.backend)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The embedder's tokenizer, without loading the model."""
        if self.given_embedder is not None:
            return self.given_embedder.tokenizer
        from tidegate.indexing.tokenizer import ModelTokenizer

        return ModelTokenizer(self._model.tokenizer)

    @property
    def limits(self) -> splitter.Limits:
        """Chunk sizes; raise ``ConfigInvalidError`` if the embedder would truncate."""
        room = self.embedder_identity.max_tokens - _SPECIAL_TOKENS
        if self.config.chunking.max_tokens > room:
            wanted, model = self.config.chunking.max_tokens, self.embedder_identity.id
            raise ConfigInvalidError(f"chunking.max_tokens is {wanted}, but {model} takes at most {room}")
        return splitter.Limits(self.config.chunking.max_tokens, self.config.chunking.min_tokens)

    @cached_property
    def recipes(self) -> dict[str, str]:
        """Per kind of document, the digest of all that decides its chunks and vectors."""
        chunking = {
            "splitter": splitter.VERSION,
            **self.config.chunking.model_dump(),
            "space": self.embedder_identity.space,
        }
        return {kind: digest_of({"parser": VERSIONS[kind], **chunking})[:16] for kind in sorted(set(KINDS.values()))}

    @cached_property
    def settings_digest(self) -> str:
        """Digest of every setting that decides a snapshot from the same bytes."""
        return digest_of({"recipes": self.recipes, "rules": [rule.model_dump() for rule in self.config.metadata]})

    @property
    def retrieval(self) -> RetrievalSettings:
        """The configured retrieval settings as a bundle records them."""
        return RetrievalSettings(fusion="relative", **self.config.retrieval.model_dump())

    @cached_property
    def _model(self) -> ModelFiles:
        return find_model(self.config.embedder.model)
