"""The stretches of ranked passages that a prompt shows: at most so many tokens around the sentences that match.

A passage is cut into sentences, list items, table rows and lines of code. Every unit grows into a window by taking in
its neighbours while they fit, and the best windows are kept, best first, without overlap. A window that starts below
the head of its table carries that head, and a heading that the title path repeats is left out. The score of a window is
its passage's score relative to the best passage, plus the share of the question's words (by inverse document frequency
among these passages) that the window and its headings hold, plus half of that share for the unit alone. The same
words, passages and limits give the same windows: training, evaluation and serving all come through here.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tidegate.core.prompts import Passage
from tidegate.core.tables import TABLE_HEAD

VERSION = 3
_UNIT_WEIGHT = 0.5
_LINE = re.compile(r"[^\n]+")
_BREAK = re.compile(r"(?<=[.!?])[ \t]+(?=[^\s\d,;])")
_TABLE_ROW = re.compile(r"\s*\|")
_TABLE = re.compile(rf"{TABLE_HEAD.pattern}(?P<rows>(?:\n[ \t]*\|.*)*)", re.MULTILINE)
_FIRST_HEADING = re.compile(r"\s*#{1,6}[ \t]+(.*\S)[ \t]*(?=\n|$)")
_ITEM_NUMBER = re.compile(r"\s*\d+[.)]?")
_WORD_END = re.compile(r"(?<=\S)\s")
_WORD = re.compile(r"[^\W_]+")
_ENDINGS = ("ing", "ies", "ed", "es", "s", "e", "y")
_LEAST_STEM = 3

CountTokens = Callable[[Sequence[str]], list[int]]
"""Returns the number of tokens of each text."""


@dataclass(frozen=True, slots=True)
class RankedPassage:
    """A passage as retrieval returned it."""

    passage: Passage
    score: float


@dataclass(frozen=True, slots=True)
class _Window:
    start: int
    end: int
    unit: tuple[int, int]
    head: tuple[int, int] | None = None
    """Where the head of the table stands in whose rows the window starts."""

    def of(self, text: str) -> str:
        """Return what is shown of a text."""
        shown = text[self.start : self.end].strip("\n")
        return f"{text[slice(*self.head)]}\n{shown}" if self.head else shown


@dataclass(frozen=True, slots=True)
class _Units:
    """Sentences, table rows and other lines of a passage, with their tokens."""

    places: list[tuple[int, int]]
    sizes: list[int]
    heads: list[tuple[int, int] | None]
    """Per unit, where the head of its table stands; None outside of a table's rows."""
    head_sizes: list[int]


def best_windows(
    question: str, ranked: Sequence[RankedPassage], count_tokens: CountTokens, *, limit: int, most: int
) -> list[Passage]:
    """Return at most ``most`` windows of at most ``limit`` tokens each, best first; [] if nothing was ranked."""
    if not ranked:
        return []
    wanted = _terms(question)
    rarity = _rarity([f"{item.passage.heading}\n{item.passage.text}" for item in ranked])
    total = math.fsum(rarity.get(term, rarity[""]) for term in sorted(wanted)) or 1.0
    best = abs(max(item.score for item in ranked)) or 1.0

    def coverage(text: str, headings: frozenset[str]) -> float:
        return math.fsum(rarity.get(term, 0.0) for term in sorted(wanted & (_terms(text) | headings))) / total

    scored = []
    for number, item in enumerate(ranked):
        text, headings = item.passage.text, _terms(item.passage.heading)
        for window in _windows(item.passage, count_tokens, limit):
            held = coverage(window.of(text), headings)
            score = item.score / best + held + _UNIT_WEIGHT * coverage(text[slice(*window.unit)], headings)
            scored.append((-score, number, window.unit[0], window))
    chosen: list[tuple[int, _Window]] = []
    for _, number, _, window in sorted(scored, key=lambda found: found[:3]):
        if len(chosen) == most:
            break
        if not any(number == at and window.start < other.end and other.start < window.end for at, other in chosen):
            chosen.append((number, window))
    return [_cut(ranked[number].passage, window) for number, window in chosen]


def window_around(passage: Passage, start: int, end: int, count_tokens: CountTokens, limit: int) -> Passage | None:
    """Return the window that holds a stretch of a passage's text; None if it does not fit into ``limit`` tokens."""
    units = _units(passage, count_tokens)
    inside = [at for at, unit in enumerate(units.places) if unit[0] < end and start < unit[1]]
    if not inside or sum(units.sizes[at] for at in inside) > limit:
        return None
    return _cut(passage, _grown(units, inside[0], inside[-1], limit))


def _windows(passage: Passage, count_tokens: CountTokens, limit: int) -> list[_Window]:
    """Return the window of every unit of a passage; a unit that is too long by itself is cut at ``limit`` tokens."""
    units = _units(passage, count_tokens)
    found = []
    for at, (start, end) in enumerate(units.places):
        if units.sizes[at] <= limit:
            found.append(_grown(units, at, at, limit))
        else:
            cut = _fitting(passage.text, start, end, count_tokens, limit)
            found.append(_Window(start, cut, (start, cut)))
    return found


def _grown(units: _Units, first: int, last: int, limit: int) -> _Window:
    """Take in the unit after and the unit before in turn while they fit, together with the head of their table."""
    unit = (units.places[first][0], units.places[last][1])
    total = sum(units.sizes[first : last + 1])
    heads = units.head_sizes if total + units.head_sizes[first] <= limit else [0] * len(units.places)
    grown = True
    while grown:
        grown = False
        if last + 1 < len(units.places) and total + units.sizes[last + 1] + heads[first] <= limit:
            last, grown = last + 1, True
            total += units.sizes[last]
        if first > 0 and total + units.sizes[first - 1] + heads[first - 1] <= limit:
            first, grown = first - 1, True
            total += units.sizes[first]
    return _Window(units.places[first][0], units.places[last][1], unit, units.heads[first] if heads[first] else None)


def _units(passage: Passage, count_tokens: CountTokens) -> _Units:
    """Cut a passage; a heading in front that its title path ends with is no unit."""
    text = passage.text
    repeated = _FIRST_HEADING.match(text)
    start = repeated.end() if repeated and passage.heading.endswith(repeated[1]) else 0
    every = _places(text)
    places = [place for place in every if place[0] >= start] or every
    heads = _heads(text, places)
    sizes = _sizes(text, places, count_tokens)
    wanted = sorted({head for head in heads if head})
    counted = dict(zip(wanted, count_tokens([f"{text[slice(*head)]}\n" for head in wanted]), strict=True))
    return _Units(places, sizes, heads, [counted[head] if head else 0 for head in heads])


def _heads(text: str, places: Sequence[tuple[int, int]]) -> list[tuple[int, int] | None]:
    """Return for each place the head of the table in whose rows it stands."""
    tables = [(match.start(), match.start("rows"), match.end()) for match in _TABLE.finditer(text)]
    return [next(((head, rows) for head, rows, end in tables if rows <= place[0] < end), None) for place in places]


def _places(text: str) -> list[tuple[int, int]]:
    """Return where sentences, table rows and other lines stand.

    The number of a list item stays with its text, the rule below the head of a table with the head.
    """
    heads = [match.span() for match in TABLE_HEAD.finditer(text)]
    found = []
    for line in _LINE.finditer(text):
        at = line.start()
        head = next((span for span in heads if span[0] <= at < span[1]), None)
        if head:
            found += [head] if head[0] == at else []
            continue
        gaps = [] if _TABLE_ROW.match(line[0]) else list(_BREAK.finditer(text, *line.span()))
        if gaps and _ITEM_NUMBER.fullmatch(text, at, gaps[0].start()):
            del gaps[0]
        for gap in [*gaps, None]:
            end = gap.start() if gap else line.end()
            if text[at:end].strip():
                found.append((at, end))
            at = gap.end() if gap else end
    return found


def _sizes(text: str, units: list[tuple[int, int]], count_tokens: CountTokens) -> list[int]:
    """Return the tokens of each unit, with the gap before it if that makes more: no window has more than their sum."""
    if not units:
        return []
    gaps = [0, *(end for _, end in units)]
    with_gap = count_tokens([text[start:end] for start, (_, end) in zip(gaps, units, strict=False)])
    alone = count_tokens([text[start:end] for start, end in units])
    return [max(sizes) for sizes in zip(with_gap, alone, strict=True)]


def _fitting(text: str, start: int, end: int, count_tokens: CountTokens, limit: int) -> int:
    """Return where a unit that is too long is cut: behind a word, and inside one only where the first does not fit."""
    places = [gap.start() for gap in _WORD_END.finditer(text, start, end)]
    if not places or count_tokens([text[start : places[0]]])[0] > limit:
        places = list(range(start + 1, end))
    low, high = 0, len(places) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if count_tokens([text[start : places[middle]]])[0] <= limit:
            low = middle
        else:
            high = middle - 1
    return places[low]


def _cut(passage: Passage, window: _Window) -> Passage:
    return Passage(passage.document, passage.heading, window.of(passage.text))


def _rarity(texts: Sequence[str]) -> Mapping[str, float]:
    """Return the inverse document frequency of every term; under ``""`` that of a term that no text holds."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_terms(text))
    many = len(texts)
    found = {term: math.log(1 + (many - count + 0.5) / (count + 0.5)) for term, count in counts.items()}
    return {**found, "": math.log(1 + (many + 0.5) / 0.5)}


def _terms(text: str) -> frozenset[str]:
    return frozenset(_stem(word) for word in _WORD.findall(text.lower()))


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _LEAST_STEM:
            return word.removesuffix(ending)
    return word
