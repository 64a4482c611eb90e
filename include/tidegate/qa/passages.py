"""A document as evidence sees it: whole units (sentences, code spans, code lines, table cells) with what they stand in.

Texts are compared without white space and inline markup, so that a quote is found across line and chunk boundaries
and whether it was copied from the source or from the rendered page. Case and wording count.
"""

from __future__ import annotations

import bisect
import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from tidegate.core.documents import Block

UnitKind = Literal["text", "code", "span", "cell"]
"""A sentence; a line of code, or a code span that is a line of its own; a code span in a sentence; a table cell."""

_PLAIN = str.maketrans(
    {
        "‘": "'", "’": "'", "‚": "'", "“": '"', "”": '"', "„": '"', "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-",
        "−": "-", "\u00ad": None, "\u200b": None, "\u200c": None, "\u200d": None, "\u2060": None, "\ufeff": None,
    }
)  # fmt: skip
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_ITEM = re.compile(r"\n(?=[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t])")
_CODE_SPAN = re.compile(r"(`+)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"!?\[([^\[\]]*)\]\((?:[^()\s]|\([^()\s]*\))*(?:\s\"[^\"]*\")?\)")
_EMPHASIS = re.compile(r"(?<!\\)(?:\*\*|__)|(?<![\w*\\])\*(?=\S)|(?<=[^\s\\])\*(?![\w*])|(?<!\w)_(?=\S)|(?<=\S)_(?!\w)")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
_CELL_END = re.compile(r"(?<!\\)\|")
_TABLE_RULE = re.compile(r"[\s|:-]+")
_LIST_MARK = re.compile(r"^[ \t]*(?:(?:[-*+]|\d{1,9}[.)]|>|\[[ xX]\])[ \t]+)+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of a document that means what it means only as a whole."""

    kind: UnitKind
    start: int
    end: int
    """Where it stands in the key of its document."""
    lead: str
    """Key of what introduces it: a sentence that ends in a colon; for a cell, its row's first cell and its column, and
    for the first cell of a row the whole header."""
    path: tuple[str, ...]
    """The headings that it stands under, outermost first."""
    block: int
    """Number of its block."""


class Passages:
    """The units of a document and its text without white space."""

    def __init__(self, title: str, blocks: Sequence[Block]) -> None:
        self.title = title
        self.blocks = tuple(blocks)
        self.key = ""
        self.units: list[Unit] = []
        """In reading order, without overlap; between cells the key has their bars."""
        self.spans: list[Unit] = []
        """Code spans inside the units, in order; none lies in another."""
        self.breaks: set[int] = set()
        """Places of the key where the text has white space, or a unit begins."""
        self._sections: dict[str, list[Unit]] = {}
        _Reader(self).read()

    @property
    def has_headings(self) -> bool:
        """Whether the document is divided into sections."""
        return any(block.kind == "heading" for block in self.blocks)

    def text_of(self, key: str) -> str:
        """Return the block that holds a key's first occurrence as it is written, '' if none does."""
        at = self.key.find(key)
        return self.blocks[self.unit_at(at).block].text if at >= 0 and key and self.units else ""

    def section(self, name: str) -> list[Unit]:
        """Return the units below a heading (as written, or as an anchor), sub-sections included; [] if none is."""
        if name not in self._sections:
            wanted = {heading for heading in self.headings if _same_heading(name, heading)}
            inside = [unit for unit in self.units if not wanted.isdisjoint(unit.path)]
            self._sections[name] = self.units if _same_heading(name, self.title) else inside
        return self._sections[name]

    def unit_at(self, place: int) -> Unit:
        """Return the unit that holds a place of the key, or the one after it."""
        return self.units[min(bisect.bisect_right(self._ends, place), len(self.units) - 1)]

    def covering(self, start: int, end: int) -> list[Unit]:
        """Return the fewest consecutive units that hold a stretch of the key: one code span, or one or more units."""
        number = bisect.bisect_right(self._span_starts, start) - 1
        if number >= 0 and end <= self.spans[number].end:
            return [self.spans[number]]
        first = bisect.bisect_right(self._ends, start)
        return list(itertools.takewhile(lambda unit: unit.start < end, itertools.islice(self.units, first, None)))

    def whole_runs(self, kind: str, texts: Sequence[str]) -> Iterator[list[Unit]]:
        """Yield every run of consecutive whole units with these texts; a single one must be of the same kind."""
        if kind == "span":
            yield from ([unit] for unit in self.spans if self.key[unit.start : unit.end] == texts[0])
            return
        for at in self._places.get(texts[0], ()):
            run = self.units[at : at + len(texts)]
            same = all(self.key[unit.start : unit.end] == text for unit, text in zip(run, texts, strict=False))
            if same and len(run) == len(texts) and (len(run) > 1 or run[0].kind == kind):
                yield run

    @cached_property
    def headings(self) -> frozenset[str]:
        """The headings that units stand under."""
        return frozenset(heading for unit in self.units for heading in unit.path)

    @cached_property
    def paths(self) -> frozenset[str]:
        """The headings that units stand under, outermost first, as one text."""
        return frozenset(path_text(unit) for unit in self.units)

    @cached_property
    def leads(self) -> frozenset[str]:
        """What units are introduced by."""
        return frozenset(unit.lead for unit in (*self.units, *self.spans))

    @cached_property
    def text(self) -> str:
        """Title and blocks as they are written."""
        return "\n".join([self.title, *(block.text for block in self.blocks)])

    @cached_property
    def _ends(self) -> list[int]:
        return [unit.end for unit in self.units]

    @cached_property
    def _span_starts(self) -> list[int]:
        return [span.start for span in self.spans]

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = {}
        for number, unit in enumerate(self.units):
            places.setdefault(self.key[unit.start : unit.end], []).append(number)
        return places

    def occurrences(self, key: str) -> Iterator[int]:
        """Yield every place where a key stands, and neither begins nor ends inside a word."""
        at = self.key.find(key) if key else -1
        while at >= 0:
            if self._is_edge(at) and self._is_edge(at + len(key)):
                yield at
            at = self.key.find(key, at + 1)

    def _is_edge(self, place: int) -> bool:
        """Tell whether no word goes on across a place of the key."""
        around = self.key[max(0, place - 1) : place + 1]
        return place in self.breaks or len(around) < 2 or not (around[0].isalnum() and around[1].isalnum())

    def key_of(self, units: Sequence[Unit]) -> str:
        """Return the text of consecutive units without white space."""
        return self.key[units[0].start : units[-1].end]


def path_text(unit: Unit) -> str:
    """Return the headings that a unit stands under, outermost first, as one text."""
    return " > ".join(unit.path)


def key_of(text: str) -> str:
    """Return a text without white space and back quotes, with plain quotes and dashes: what is compared."""
    return "".join(unicodedata.normalize("NFKC", text).translate(_PLAIN).replace("`", "").split())


def rendered(text: str) -> str:
    """Return a text without the inline markup that a reader does not see; code spans stay as they are."""
    parts = []
    at = 0
    for span in _CODE_SPAN.finditer(text):
        parts += [_without_markup(text[at : span.start()]), span.group()]
        at = span.end()
    return "".join([*parts, _without_markup(text[at:])])


def without_marks(text: str) -> str:
    """Return a text without the marks of lists, quotes, fences and the rules of tables; rows have their outer bars."""
    lines = [line for line in _LIST_MARK.sub("", text).split("\n") if not _is_table_rule(line) and not _is_fence(line)]
    rows = [f"|{line.strip().strip('|')}|" if "|" in line and len(lines) > 1 else line for line in lines]
    return "\n".join(rows)


def anchor_of(heading: str) -> str:
    """Return a heading as documentation tools make an anchor of it."""
    words = re.sub(r"[^\w\s-]", "", rendered(heading).replace("`", "").casefold())
    return re.sub(r"[\s_-]+", "-", words).strip("-")


class _Reader:
    """Fills a :class:`Passages` from its blocks."""

    def __init__(self, passages: Passages) -> None:
        self._to = passages
        self._keys: list[str] = []
        self._length = 0
        self._path: list[tuple[int, str]] = []
        self._lead = ""

    def read(self) -> None:
        for number, block in enumerate(self._to.blocks):
            if block.kind == "heading":
                self._heading(block, number)
            elif block.kind == "code":
                for line in _code_lines(block.text):
                    self._add("code", line, self._lead, number)
            elif block.kind == "table":
                self._table(block, number)
            else:
                self._text(block, number)
        self._to.key = "".join(self._keys)

    def _heading(self, block: Block, number: int) -> None:
        while self._path and self._path[-1][0] >= block.level:
            self._path.pop()
        self._path.append((block.level, block.text))
        self._lead = ""
        self._add("text", rendered(block.text), "", number)

    def _text(self, block: Block, number: int) -> None:
        for sentence in _sentences(block.text):
            shown = rendered(sentence).strip()
            if _CODE_SPAN.fullmatch(shown):
                self._add("code", shown, self._lead, number)
                continue
            for span in _CODE_SPAN.finditer(shown):
                begin = self._length + len(key_of(shown[: span.start()]))
                end = begin + len(key_of(span[2]))
                self._to.breaks.update((begin, end))
                self._to.spans.append(Unit("span", begin, end, self._lead, self._headings(), number))
            self._add("text", shown, self._lead, number)
            self._lead = key_of(shown) if shown.endswith(":") else ""

    def _table(self, block: Block, number: int) -> None:
        header: list[str] = []
        for line in block.text.split("\n"):
            if _is_table_rule(line):
                continue
            cells = [rendered(cell) for cell in _CELL_END.split(line.strip().strip("|"))]
            whole = "|".join(header)
            header = header or [key_of(cell) for cell in cells]
            self._put("|")
            for column, cell in enumerate(cells):
                label = f"{key_of(cells[0])}|{header[column] if column < len(header) else ''}" if column else whole
                self._add("cell", cell, label, number)
                self._put("|")

    def _add(self, kind: UnitKind, text: str, lead: str, block: int) -> None:
        start = self._length
        for word in text.split():
            self._to.breaks.add(self._length)
            self._put(key_of(word))
        if self._length > start:
            self._to.units.append(Unit(kind, start, self._length, lead, self._headings(), block))
            self._to.breaks.add(self._length)

    def _put(self, key: str) -> None:
        self._keys.append(key)
        self._length += len(key)

    def _headings(self) -> tuple[str, ...]:
        return tuple(text for _, text in self._path)


def _is_fence(line: str) -> bool:
    return line.lstrip().startswith(("```", "~~~"))


def _is_table_rule(line: str) -> bool:
    return "-" in line and "|" in line and bool(_TABLE_RULE.fullmatch(line))


def _without_markup(text: str) -> str:
    return _ESCAPE.sub(r"\1", _EMPHASIS.sub("", _LINK.sub(r"\1", text)))


def _sentences(text: str) -> Iterator[str]:
    """Yield sentences and list items without their marks; an end inside a code span does not count."""
    for item in (_LIST_MARK.sub("", written) for written in _ITEM.split(text)):
        spans = [(span.start(), span.end()) for span in _CODE_SPAN.finditer(item)]
        at = 0
        for end in _SENTENCE_END.finditer(item):
            if not any(start < end.start() < stop for start, stop in spans):
                yield item[at : end.start()]
                at = end.end()
        yield item[at:]


def _code_lines(text: str) -> list[str]:
    lines = text.split("\n")
    return lines[1:-1] if len(lines) > 1 and lines[0].lstrip(" >-*+0123456789.)").startswith(("```", "~~~")) else lines


def _same_heading(name: str, heading: str) -> bool:
    wanted = name.strip().lstrip("#").strip()
    return bool(wanted) and (
        key_of(rendered(wanted)) == key_of(rendered(heading)) or anchor_of(wanted) == anchor_of(heading)
    )
