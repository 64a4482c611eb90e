"""Independent answers to compare with: brute force over plain values, and rank_bm25 with only its idf replaced."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from rank_bm25 import BM25Okapi

from tidegate.indexing.lexical import tokenize


class Bm25Oracle(BM25Okapi):
    """BM25Okapi with the idf ln(1 + (N - df + 0.5)/(df + 0.5))."""

    def _calc_idf(self, nd: Mapping[str, int]) -> None:
        for word, frequency in nd.items():
            self.idf[word] = math.log(1 + (self.corpus_size - frequency + 0.5) / (frequency + 0.5))


def bm25_scores(texts: Sequence[str], question: str) -> list[float]:
    """Return the score of each text; an empty corpus scores nothing."""
    if not texts:
        return []
    return [float(score) for score in Bm25Oracle([tokenize(text) for text in texts]).get_scores(tokenize(question))]


def document_frequencies(texts: Sequence[str]) -> dict[str, int]:
    """Return in how many texts each token occurs."""
    frequencies: dict[str, int] = {}
    for text in texts:
        for token in set(tokenize(text)):
            frequencies[token] = frequencies.get(token, 0) + 1
    return frequencies


def hybrid_ranking(
    ids: Sequence[bytes], dense: np.ndarray, sparse: np.ndarray, weight: float
) -> list[tuple[float, bytes]]:
    """Return (score, id) of every chunk by relative scores of both arms, best first, ties by id."""
    if not len(ids):
        return []
    scores = weight * dense / max(dense.max(), 0.25) + (1 - weight) * sparse / (sparse.max() or 1.0)
    return sorted(
        ((float(score), chunk) for score, chunk in zip(scores, ids, strict=True)), key=lambda pair: (-pair[0], pair[1])
    )
