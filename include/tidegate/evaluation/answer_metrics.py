"""Metrics of single answers, and their rates over slices of a holdout.

Answers are compared as words, without case, punctuation and articles (Rajpurkar et al. 2016). A citation is a number in
square brackets that ends the answer, set off from the word before it; it is judged apart from the answer's words.

refused: the refusal sentence's words stand in the answer in a row, with at most as many other words as it has itself.
exact match: the same words. token F1: the harmonic mean of precision and recall of the words (Rajpurkar et al. 2016).
rouge_l: the F-measure of the longest common subsequence of words (Lin 2004), without stemming.
contained match: the gold's words stand in the answer in a row, and the answer has at most three times as many words.
citation hit: the passage that the answer cites holds the gold's words. These five exist for answerable rows only, where
a refusal is scored as an answer without words or citation (Rajpurkar et al. 2018). A gold without words is matched by
no answer.
correct: contained match where the row is answerable, refused where it is not.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any

from tidegate.core.answer_text import holds, words_of
from tidegate.core.prompts import Passage

_LONGEST_ANSWER = 3
_LONGEST_REFUSAL = 2
"""An answer's words, as a multiple of those of the gold or the refusal sentence."""
_CITATION = re.compile(r"(?<!\w)\[([0-9]{1,9})\]\.?\s*$")
_ROUGE_WORD = re.compile(r"[^\W_]+")
_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """The metrics of one answer; None where the row, being unanswerable, has no such metric."""

    answerable: bool
    correct: bool
    refused: bool
    cited: bool
    """Whether the answer ends with a citation, right or wrong."""
    exact_match: bool | None = None
    contained_match: bool | None = None
    citation_hit: bool | None = None
    token_f1: float | None = None
    rouge_l: float | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rate:
    """A proportion with its count; raise ``ValueError`` for a rate over nothing."""

    hits: int
    n: int

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.n or not self.n:
            raise ValueError(f"{self.hits} of {self.n} is no rate")

    @property
    def value(self) -> float:
        """The share of hits, 0 to 1."""
        return self.hits / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % score interval of Wilson 1927 (JASA 22:209-212), without continuity correction.

        ``(p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)``. Rows count as independent; those of one document are
        not quite, and the true interval is wider.
        """
        share = _Z**2 / self.n
        middle = self.value + share / 2
        half = math.sqrt(share * self.value * (1 - self.value) + share**2 / 4)
        low = 0.0 if self.hits == 0 else (middle - half) / (1 + share)
        high = 1.0 if self.hits == self.n else (middle + half) / (1 + share)
        return low, high


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with the number of rows behind it."""

    value: float
    n: int


@dataclass(frozen=True, slots=True)
class Summary:
    """The metrics of one slice; one that no row of the slice has is absent."""

    n: int
    rates: Mapping[str, Rate]
    means: Mapping[str, Mean]


def judge(
    answer: str, gold: str | None, *, refusal: str, passages: Sequence[Passage] = (), tags: Collection[str] = ()
) -> JudgedAnswer:
    """Judge one answer; ``gold`` is None where the row is unanswerable, ``passages`` are those that the prompt showed.

    Citations count from 1, as prompts number their passages.
    """
    found = _CITATION.search(answer)
    said = answer[: found.start()] if found else answer
    refused = _stands(refusal, said, _LONGEST_REFUSAL)
    if gold is None:
        return JudgedAnswer(False, refused, refused, found is not None, tags=tuple(tags))
    said = "" if refused else said
    contained = _stands(gold, said, _LONGEST_ANSWER)
    number = int(found[1]) if found and not refused else 0
    return JudgedAnswer(
        answerable=True,
        correct=contained,
        refused=refused,
        cited=found is not None,
        exact_match=contained and words_of(said) == words_of(gold),
        contained_match=contained,
        citation_hit=0 < number <= len(passages) and holds(passages[number - 1].text, gold),
        token_f1=_token_f1(words_of(said), words_of(gold)),
        rouge_l=float(_rouge().score(gold, said)["rougeL"].fmeasure),
        tags=tuple(tags),
    )


def summarise(
    judged: Sequence[JudgedAnswer], extra: Mapping[str, Sequence[JudgedAnswer]] | None = None
) -> dict[str, Summary]:
    """Return the metrics of ``all``, ``answerable``, ``unanswerable``, each ``tag:<tag>`` and each extra slice.

    An empty slice is absent. Raises ``ValueError`` if an extra slice has the name of another one.
    """
    slices: dict[str, Sequence[JudgedAnswer]] = {
        "all": judged,
        "answerable": [item for item in judged if item.answerable],
        "unanswerable": [item for item in judged if not item.answerable],
    }
    for tag in sorted({tag for item in judged for tag in item.tags}):
        slices[f"tag:{tag}"] = [item for item in judged if tag in item.tags]
    twice = slices.keys() & (extra or {}).keys()
    if twice:
        raise ValueError(f"a slice named {min(twice)!r} exists already")
    slices |= extra or {}
    return {name: _summary(items) for name, items in slices.items() if items}


def _summary(judged: Sequence[JudgedAnswer]) -> Summary:
    answerable = [item for item in judged if item.answerable]
    unanswerable = [item for item in judged if not item.answerable]
    refused = [item for item in judged if item.refused] if answerable and unanswerable else []
    rates: dict[str, list[bool | None]] = {
        "correct": [item.correct for item in judged],
        "exact_match": [item.exact_match for item in answerable],
        "contained_match": [item.contained_match for item in answerable],
        "cited": [item.cited for item in answerable],
        "citation_hit": [item.citation_hit for item in answerable],
        "wrong_refusal": [item.refused for item in answerable],
        "refusal_recall": [item.refused for item in unanswerable],
        # Always 0 or 1 where all rows are of one kind: absent there.
        "refusal_precision": [not item.answerable for item in refused],
    }
    means = {
        "token_f1": [item.token_f1 or 0.0 for item in answerable],
        "rouge_l": [item.rouge_l or 0.0 for item in answerable],
    }
    return Summary(
        len(judged),
        {name: Rate(sum(map(bool, found)), len(found)) for name, found in rates.items() if found},
        {name: Mean(math.fsum(found) / len(found), len(found)) for name, found in means.items() if found},
    )


def _stands(wanted: str, text: str, times: int) -> bool:
    """Tell whether a text holds words in a row and has at most so many times as many words itself."""
    return holds(text, wanted) and len(words_of(text)) <= times * len(words_of(wanted))


def _token_f1(words: Sequence[str], gold: Sequence[str]) -> float:
    common = (Counter(words) & Counter(gold)).total()
    return 2 * common / (len(words) + len(gold)) if common else 0.0


class _RougeWords:
    """Cuts a text as ROUGE does, but keeps letters outside a to z: its own words end at ``ü``."""

    def tokenize(self, text: str) -> list[str]:
        return _ROUGE_WORD.findall(text.lower())


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=_RougeWords())
