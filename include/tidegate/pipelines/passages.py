"""What a prompt shows of a snapshot: the best windows for a question, and the window that holds a quote."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tidegate.core.answer_text import locate
from tidegate.core.prompts import Passage
from tidegate.core.records import RetrievalSettings
from tidegate.indexing.search import Hit, SearchIndex
from tidegate.indexing.snapshot import Snapshot
from tidegate.pipelines.workspace import Workspace
from tidegate.prompting.windows import CountTokens, RankedPassage, best_windows, window_around

_DEEP = 100
"""Passages that are looked at where some documents may not be shown."""


@dataclass(frozen=True)
class PassageFinder:
    """One snapshot, searched with the corpus's settings."""

    workspace: Workspace
    snapshot: Snapshot
    count_tokens: CountTokens
    window_tokens: int
    _known_texts: dict[frozenset[str], frozenset[str]] = field(default_factory=dict, repr=False)

    @cached_property
    def _index(self) -> SearchIndex:
        return SearchIndex(self.snapshot)

    def find(
        self, questions: Sequence[str], most: int, *, without: Collection[str] = frozenset()
    ) -> list[list[Passage]]:
        """Return the best windows for each question, none whose text occurs in a document of ``without``."""
        if not questions:
            return []
        settings = self.workspace.retrieval
        shown = settings.top_k
        found = self.search(
            questions, settings.model_copy(update={"top_k": max(shown, _DEEP)}) if without else settings
        )
        closed = self._texts_of(frozenset(without))
        return [
            best_windows(
                question,
                _allowed(hits, without, closed)[:shown],
                self.count_tokens,
                limit=self.window_tokens,
                most=most,
            )
            for question, hits in zip(questions, found, strict=True)
        ]

    def search(self, questions: Sequence[str], settings: RetrievalSettings) -> list[list[Hit]]:
        """Rank passages for a batch of questions."""
        vectors = None if settings.mode == "sparse" else self.workspace.embedder.embed(questions)
        return self._index.search(questions, vectors, settings)

    def holding(self, document: str, quote: str, *, without: Collection[str] = frozenset()) -> Passage | None:
        """Return the window of a document that holds a quote; None where no passage holds it whole.

        A passage whose text occurs in a document of ``without`` does not count.
        """
        for passage in self._passages_of(document, self._texts_of(frozenset(without))):
            place = locate(passage.text, quote)
            if place:
                return window_around(passage, *place, self.count_tokens, self.window_tokens)
        return None

    def _texts_of(self, documents: frozenset[str]) -> frozenset[str]:
        if documents not in self._known_texts:
            found = self.snapshot.texts(sorted(documents))
            self._known_texts[documents] = frozenset(text for texts in found.values() for text in texts)
        return self._known_texts[documents]

    def _passages_of(self, document: str, closed: frozenset[str]) -> list[Passage]:
        row = self.snapshot.rows([document]).get(document)
        texts = self.snapshot.texts([document]).get(document, [])
        headings = row.headings if row else ()
        return [
            Passage(document, heading, text)
            for heading, text in zip(headings, texts, strict=True)
            if text not in closed
        ]


def _allowed(hits: Sequence[Hit], without: Collection[str], closed: Collection[str]) -> list[RankedPassage]:
    """Return hits of no document of ``without``, nor with a text that stands in one under another title."""
    return [
        RankedPassage(Passage(hit.document, hit.heading, hit.text), hit.score)
        for hit in hits
        if hit.text not in closed and not any(document in without for document in (hit.document, *hit.also_in))
    ]
