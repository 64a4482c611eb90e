"""Answer questions from the champion release: open its snapshot, embed the questions, rank passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from tidegate.core.errors import EmbedderMismatchError
from tidegate.core.records import Release
from tidegate.indexing.search import Hit, SearchIndex
from tidegate.indexing.snapshot import Snapshot
from tidegate.pipelines.promote_release import champion
from tidegate.pipelines.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Mode = Literal["hybrid", "dense", "sparse"]


@dataclass(frozen=True)
class OpenRelease:
    """A release opened for search; the index and the model are loaded when first needed."""

    workspace: Workspace
    id: str
    release: Release

    @cached_property
    def snapshot(self) -> Snapshot:
        """The release's snapshot."""
        return Snapshot(self.workspace.store, self.workspace.corpus, self.release.bundle.snapshot)

    @cached_property
    def index(self) -> SearchIndex:
        """The release's index."""
        return SearchIndex(self.snapshot)

    def vectors(self, questions: Sequence[str]) -> NDArray[np.float32]:
        """Embed questions with the release's embedder; raise ``EmbedderMismatchError`` if it is not the one at hand."""
        embedder, wanted = self.workspace.embedder, self.release.bundle.embedder
        if embedder.identity.space != wanted.space:
            raise EmbedderMismatchError(
                f"release {self.id[:12]} was made with embedder {wanted.id} revision {wanted.revision[:12]},"
                f" at hand is {embedder.identity.id} revision {embedder.identity.revision[:12]}"
            )
        return embedder.embed(questions)

    def search(
        self,
        questions: Sequence[str],
        *,
        mode: Mode | None = None,
        top_k: int | None = None,
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> list[list[Hit]]:
        """Rank passages for a batch of questions with the release's settings, or with another mode or depth."""
        settings = self.release.bundle.retrieval
        settings = settings.model_copy(update={"mode": mode or settings.mode, "top_k": top_k or settings.top_k})
        vectors = None if settings.mode == "sparse" else self.vectors(questions)
        return self.index.search(questions, vectors, settings, filters)


def open_champion(workspace: Workspace) -> OpenRelease:
    """Open what serves; raise ``ReleaseMissingError`` if nothing does."""
    return OpenRelease(workspace, *champion(workspace))
