"""Questions that passages ask of themselves: reading practice that needs no person (Lewis et al. 2019, cloze QA).

A *gap*: a sentence loses one number or code span, and some of its other words; the answer is what was lost. A *lookup*:
a table row or a ``key: value`` line is asked for by its name; under a name that no passage holds, or for a column that
its table lacks, it must refuse.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tidegate.core.prompts import Passage

_SENTENCE = re.compile(r"(?<=[.!?])[ \t]+|\n+")
_UNIT = (
    r"per cent|percent|m?s|(?:milli)?seconds?|min|minutes?|hours?|(?:working )?days?|weeks?|months?|years?"
    r"|[kKMGT]i?B|bytes|times|people|euros|EUR|GBP|USD"
)
_NUMBER = r"(?<![\w.])((?:EUR |GBP |USD )?\d[\d.,:]*\d|\d)(?![\w])"
_SPAN = re.compile(rf"`([^`\n]{{2,40}})`|{_NUMBER}(?: (?:(?:{_UNIT})\b|%))?")
_SETTING = re.compile(r"^\s*(?:[-*]\s+)?`?([A-Za-z][\w.-]{3,40})`?\s*[:=]\s+([^\s#|{\[][^#\n]{0,39}?)\s*(?:#.*)?$")
_RULE = re.compile(r"^\|[\s|:-]+\|$")
_GAP = "____"
_DROPPED = 0.25
_FEWEST_WORDS, _MOST_WORDS = 5, 16
_LONGEST_CELL = 60
_OTHER_COLUMN = 0.5
"""Share of the lookups of what is not there that ask for a column of another table, where there is one."""
_TURNS = ("lookup", "absent", "gap")
_ASKED = ("What is the {column} of {name}?", "{name}: which {column}?", "Which {column} does {name} have?")
_SET = ("What is {name} set to?", "Which value has {name}?")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A cell by its row and column, or a setting, whose column is ''."""

    name: str
    column: str
    value: str
    columns: frozenset[str] = frozenset()
    """Of its table."""


def practice_questions(passages: Sequence[Passage], most: int, draw: random.Random) -> list[tuple[str, str]]:
    """Return at most so many (question, answer): lookups, lookups of what is not there, and gaps, in turn."""
    shown = list(passages)
    draw.shuffle(shown)
    found: dict[str, str] = {}
    for turn in range(len(_TURNS) * most):
        if len(found) == most or not shown:
            break
        kind = _TURNS[turn % len(_TURNS)]
        if kind == "gap":
            made = gap_question(shown[turn // len(_TURNS) % len(shown)], draw)
        else:
            made = lookup_question(shown, draw, absent=kind == "absent")
        if made:
            found.setdefault(*made)
    return list(found.items())


def gap_question(passage: Passage, draw: random.Random) -> tuple[str, str] | None:
    """Return (question, answer) of one gap in a passage; None if it has no sentence that fits."""
    found = list(_gaps(passage.text))
    if not found:
        return None
    before, answer, after = draw.choice(found)
    half = _MOST_WORDS // 2
    words = [*before[-half:], _GAP, *after[:half]]
    kept = [word for word in words if word == _GAP or draw.random() >= _DROPPED]
    return f"What is missing: {' '.join(kept)}", answer


def lookup_question(passages: Sequence[Passage], draw: random.Random, *, absent: bool) -> tuple[str, str] | None:
    """Return (question, answer) about a name in a table or a setting; None if the passages hold none.

    ``absent`` asks for a name like it that no passage holds, or for a column of another table: the answer is ''.
    """
    found = [entry for passage in passages for entry in (*_cells(passage.text), *_settings(passage.text))]
    if not found:
        return None
    entry = draw.choice(found)
    name, column, value = entry.name, entry.column, entry.value
    if absent:
        value = ""
        others = sorted({other.column for other in found if other.column} - entry.columns) if column else []
        if others and draw.random() < _OTHER_COLUMN:
            column = draw.choice(others)
            named = {other.column for other in found if other.name == name}
        else:
            name = _another_name(name, draw)
            named = {column} if any(name in passage.text for passage in passages) else set()
        if column in named:
            return None
    asked = draw.choice(_ASKED if column else _SET)
    return asked.format(name=name, column=column), value


def _gaps(text: str) -> Iterator[tuple[list[str], str, list[str]]]:
    for sentence in _SENTENCE.split(text):
        for match in _SPAN.finditer(sentence):
            answer = (match[1] or match[0]).strip()
            before, after = sentence[: match.start()].split(), sentence[match.end() :].split()
            if len(before) + len(after) >= _FEWEST_WORDS and answer not in " ".join([*before, *after]):
                yield before, answer, after


def _cells(text: str) -> Iterator[_Entry]:
    """Yield the cells of the tables whose header stands in the text."""
    columns: list[str] = []
    previous = ""
    for line in text.splitlines():
        if _RULE.match(line.strip()):
            columns = [column.lower() for column in _split(previous)]
        elif line.lstrip().startswith("|") and columns:
            name, *cells = _split(line)
            for column, cell in zip(columns[1:], cells, strict=False):
                if name and column and 0 < len(cell) <= _LONGEST_CELL:
                    yield _Entry(name, column, cell, frozenset(columns))
        elif not line.lstrip().startswith("|"):
            columns = []
        previous = line


def _settings(text: str) -> Iterator[_Entry]:
    for line in text.splitlines():
        match = _SETTING.match(line)
        if match:
            yield _Entry(match[1], "", match[2].strip("`\"' "))


def _split(line: str) -> list[str]:
    return [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]


def _another_name(name: str, draw: random.Random) -> str:
    """Return a name of the same shape: other digits, or another last part."""
    if re.search(r"\d", name):
        return re.sub(r"\d", lambda _: str(draw.randrange(10)), name)
    parts = re.split(r"([._-])", name)
    parts[-1] = draw.choice([word for word in ("limit", "timeout", "mode", "window", "share") if word != parts[-1]])
    return "".join(parts)
