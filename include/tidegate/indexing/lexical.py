"""BM25 over immutable postings: term frequencies are stored, statistics are taken from live rows at query time.

Scores are those of ``rank_bm25.BM25Okapi`` (k1 1.5, b 0.75) with the idf of Lucene, ln(1 + (N - df + 0.5)/(df + 0.5)),
which is never negative. N, df and the mean length count live rows only, so an index that was updated scores exactly
like one that was rebuilt.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

K1 = 1.5
B = 0.75

_TOKEN = re.compile(r"\w+(?:[-./:]\w+)*")
_PART = re.compile(r"[^\W_]+")

POSTINGS_SCHEMA = pa.schema([("term", pa.string()), ("rows", pa.list_(pa.uint32())), ("counts", pa.list_(pa.uint16()))])


def tokenize(text: str) -> list[str]:
    """Return lower-case words, and compounds such as ``pay-4012`` or ``halyard.batch.max_items`` whole as well."""
    tokens = []
    for token in _TOKEN.findall(text.lower()):
        parts = _PART.findall(token)
        tokens += parts
        if len(parts) > 1:
            tokens.append(token)
    return tokens


def build_postings(texts: Sequence[str]) -> tuple[pa.Table, NDArray[np.uint32]]:
    """Return (postings sorted by term, number of tokens of each text)."""
    rows: dict[str, list[int]] = {}
    counts: dict[str, list[int]] = {}
    lengths = np.zeros(len(texts), dtype=np.uint32)
    for row, text in enumerate(texts):
        tokens = tokenize(text)
        lengths[row] = len(tokens)
        for term, count in Counter(tokens).items():
            rows.setdefault(term, []).append(row)
            counts.setdefault(term, []).append(min(count, 65_535))
    terms = sorted(rows)
    columns = [terms, [rows[term] for term in terms], [counts[term] for term in terms]]
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, POSTINGS_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=POSTINGS_SCHEMA), lengths


@dataclass(frozen=True, slots=True)
class TermRows:
    """Where a term occurs in one segment."""

    rows: NDArray[np.uint32]
    counts: NDArray[np.uint16]


class Postings:
    """The postings of one segment, looked up by term."""

    def __init__(self, table: pa.Table) -> None:
        table = table.combine_chunks()
        self._terms = table.column("term").chunk(0) if table.num_rows else pa.array([], pa.string())
        self._rows = table.column("rows").chunk(0) if table.num_rows else None
        self._counts = table.column("counts").chunk(0) if table.num_rows else None

    def row_counts(self, rows: int) -> NDArray[np.uint32]:
        """Return the sum of term counts of each row: its length, if postings and chunks belong together."""
        totals = np.zeros(rows, dtype=np.uint32)
        if self._rows is not None and self._counts is not None:
            np.add.at(totals, self._rows.values.to_numpy(), self._counts.values.to_numpy())
        return totals

    def find(self, terms: Sequence[str]) -> dict[str, TermRows]:
        """Return rows and counts of the terms that occur in the segment."""
        if self._rows is None or self._counts is None or not terms:
            return {}
        places = pc.index_in(pa.array(terms, pa.string()), value_set=self._terms).to_pylist()
        found = {}
        for term, place in zip(terms, places, strict=True):
            if place is not None:
                rows = self._rows[place].values.to_numpy(zero_copy_only=True)
                counts = self._counts[place].values.to_numpy(zero_copy_only=True)
                found[term] = TermRows(rows, counts)
        return found


@dataclass(frozen=True, slots=True)
class LexicalPart:
    """One segment as BM25 sees it."""

    postings: Postings
    lengths: NDArray[np.uint32]
    live: NDArray[np.bool_]


class LexicalIndex:
    """BM25 over several segments with statistics of their live rows."""

    def __init__(self, parts: Sequence[LexicalPart]) -> None:
        self._parts = parts
        self._live_rows = sum(int(part.live.sum()) for part in parts)
        tokens = sum(int(part.lengths[part.live].sum()) for part in parts)
        self._mean_length = tokens / self._live_rows if self._live_rows else 0.0
        # What a row's length contributes to the denominator does not depend on the query.
        self._norms = [
            K1 * (1 - B + B * part.lengths.astype(np.float64) / self._mean_length)
            if self._mean_length
            else part.lengths.astype(np.float64)
            for part in parts
        ]

    def document_frequency(self, terms: Sequence[str]) -> dict[str, int]:
        """Return in how many live rows each term occurs."""
        frequencies = dict.fromkeys(terms, 0)
        for part in self._parts:
            for term, found in part.postings.find(list(frequencies)).items():
                frequencies[term] += int(part.live[found.rows].sum())
        return frequencies

    def scores(self, questions: Sequence[str]) -> list[NDArray[np.float64]]:
        """Return, per question, the score of every row of all segments in order; dead rows score 0."""
        tokens = [Counter(tokenize(question)) for question in questions]
        terms = sorted(set().union(*tokens)) if tokens else []
        found = [part.postings.find(terms) for part in self._parts]
        idf = self._idf(terms, found)
        return [
            np.concatenate(
                [self._part_scores(at, counts, found[at], idf) for at in range(len(self._parts))] or [np.zeros(0)]
            )
            for counts in tokens
        ]

    def _idf(self, terms: Sequence[str], found: Sequence[dict[str, TermRows]]) -> dict[str, float]:
        idf = {}
        for term in terms:
            hits = [(part, rows[term]) for part, rows in zip(self._parts, found, strict=True) if term in rows]
            frequency = sum(int(part.live[rows.rows].sum()) for part, rows in hits)
            idf[term] = math.log(1 + (self._live_rows - frequency + 0.5) / (frequency + 0.5))
        return idf

    def _part_scores(
        self, at: int, query: Counter[str], found: dict[str, TermRows], idf: dict[str, float]
    ) -> NDArray[np.float64]:
        part, norms = self._parts[at], self._norms[at]
        scores = np.zeros(len(part.live))
        for term, times in sorted(query.items()):
            if term in found:
                rows = found[term].rows
                counts = found[term].counts.astype(np.float64)
                scores[rows] += times * idf[term] * counts * (K1 + 1) / (counts + norms[rows])
        scores[~part.live] = 0.0
        return scores
