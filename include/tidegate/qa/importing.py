"""Read a Q&A set: files of several formats, rows of several shapes, each row with what is wrong with it.

``qa.columns`` says where a field is: at a path, ``answers.text.0``; in its negation, ``!is_impossible``; in a text with
paths, ``pages/{title}.md``; in a constant, ``=reviewed``; an empty value leaves it out. A path through a list yields a
list, ``*`` applies the rest of the path to each element, and a text that holds JSON is opened where the path goes on.

Only a file that cannot be read as its format stops an import. A row is never dropped: what is wrong with it stands in
its ``problems``. A field that is absent, null or blank is no problem here; the rules on missing fields report it.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, NoReturn

from tidegate.core.canonical import digest_of, sha256_hex
from tidegate.core.errors import ConfigInvalidError, QuestionsInvalidError, one_line, suggest
from tidegate.core.examples import Evidence, Example

_Getters = Mapping[str, Callable[[dict[str, Any]], Any]]
_TABLES = (".csv", ".tsv", ".parquet")
_SUFFIXES = (".jsonl", ".ndjson", ".json", *_TABLES)
_ANY_SUFFIX = f"({', '.join(_SUFFIXES)})"
_EVIDENCE = ("evidence.document", "evidence.quote", "evidence.section")
_TARGETS = ("id", "question", "answer", "answerable", "tags", "author", "reviewed_at", *_EVIDENCE)
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_SCALARS = frozenset({bool, int, float, date, datetime})
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class QaSource:
    """Where Q&A rows come from: a file or a folder of files."""

    path: Path
    columns: Mapping[str, str]
    rows: str

    def digest(self) -> str:
        """Return the SHA-256 (hex) of all names, bytes and settings; raise ``QuestionsInvalidError`` without a file."""
        files = [(name, sha256_hex(data)) for name, data in self._files()]
        return digest_of({"files": files, "columns": dict(self.columns), "rows": self.rows})

    def read(self) -> list[Example]:
        """Return all rows in order; raise ``QuestionsInvalidError`` or ``ConfigInvalidError`` naming file or key."""
        getters = {target: _getter(target, expression) for target, expression in self.columns.items()}
        return _with_ids([row.example(getters) for name, data in self._files() for row in self._rows(name, data)])

    def _files(self) -> Iterator[tuple[str, bytes]]:
        """Yield (name relative to the folder, bytes) of every file, sorted; links to folders are not followed."""
        is_file = self.path.is_file() and self.path.suffix.lower() in _SUFFIXES
        root = self.path.parent if is_file else self.path
        paths = [self.path] if is_file else list(_listed(self.path))
        if not paths:
            raise _invalid(self.path, f"files {_ANY_SUFFIX} in it", "none", "add one or correct qa.path")
        names = [one_line(path.relative_to(root).as_posix()) for path in paths]
        for name, path in sorted(zip(names, paths, strict=True)):
            try:
                yield name, path.read_bytes()
            except OSError as error:
                _unreadable(error, name)

    def _rows(self, name: str, data: bytes) -> Iterator[_Row]:
        suffix = Path(name).suffix.lower()
        if suffix == ".parquet":
            return self._parquet(name, data)
        text = _text(name, data)
        if suffix in _TABLES:
            return self._cells(name, text, "," if suffix == ".csv" else "\t")
        if suffix == ".json":
            rows = enumerate(_found(_parsed(text, name), self.rows, name), 1)
            return (_Row(f"{name} row {number}", row) for number, row in rows)
        lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
        return (_Row(f"{name} line {number}", _parsed(line, name, number)) for number, line in lines)

    def _cells(self, name: str, text: str, delimiter: str) -> Iterator[_Row]:
        reader = csv.reader(io.StringIO(text.replace("\r\n", "\n"), newline=""), delimiter=delimiter, strict=True)
        header: list[str] = []
        start = 1
        try:
            for cells in reader:
                where, start = f"{name} line {start}", reader.line_num + 1
                if len(cells) <= 1 and not "".join(cells).strip():
                    continue  # a blank line
                if not header:
                    header = self._header([cell.strip() for cell in cells], where)
                    continue
                problem = f"row: expected {len(header)} cells, got {len(cells)}"
                values = {key: cell for key, cell in zip(header, cells, strict=False) if cell.strip()}
                yield _Row(where, values, is_table=True, problems=[problem] if len(cells) > len(header) else [])
        except csv.Error as error:
            raise _invalid(
                f"{name} line {start}", "cells", error, "close quoted cells, double quotes in them"
            ) from error
        if not header:
            self._header([], f"{name} line 1")

    def _parquet(self, name: str, data: bytes) -> Iterator[_Row]:
        import pyarrow as pa
        from pyarrow.parquet import read_table

        try:
            table = read_table(pa.BufferReader(data))
            rows = table.to_pylist()
        except (OSError, ValueError, pa.ArrowException) as error:
            raise _invalid(name, "a Parquet file", str(error)[:_SHOWN], "write the file again") from error
        self._header(table.column_names, name)
        return (_Row(f"{name} row {number}", row, is_table=True) for number, row in enumerate(rows, 1))

    def _header(self, names: list[str], where: str) -> list[str]:
        """Return a table's header; raise ``QuestionsInvalidError`` unless it has every column that is used."""
        used = {"question": "question", **self.columns}.values()
        for path in (path for expression in used for path in _paths(expression)):
            if path not in names and path.split(".")[0] not in names:
                raise _invalid(where, f"a header with {path!r}", _shown(names), "add a header or correct qa.columns")
        return names


def _paths(expression: str) -> list[str]:
    """Return the paths that a value of ``qa.columns`` follows."""
    if not expression or expression.startswith("="):
        return []
    return re.findall(r"\{([^{}]*)\}", expression) or [expression.removeprefix("!")]


def _getter(target: str, expression: str) -> Callable[[dict[str, Any]], Any]:
    """Return what takes a field from a row."""
    if target not in _TARGETS:
        raise ConfigInvalidError(f"qa.columns: unknown key {target!r}{suggest(target, _TARGETS)}")
    paths, texts = _paths(expression), re.split(r"\{[^{}]*\}", expression)
    if not paths:
        return lambda _: expression[1:] or None
    if not all(paths) or any("{" in text or "}" in text for text in texts):
        raise ConfigInvalidError(f"qa.columns.{target}: expected a path, or paths in braces, got {expression!r}")
    if len(texts) > 1:
        return lambda row: _filled(texts, [_follow(row, path) for path in paths])
    if expression.startswith("!"):
        return lambda row: not truth if isinstance(truth := _truth(_follow(row, paths[0])), bool) else truth
    return lambda row: _follow(row, expression)


def _follow(value: Any, path: str) -> Any:
    """Return what a path leads to, None where it ends before; a field whose name is the whole path wins."""
    value, (part, _, rest) = _opened(value), path.partition(".")
    if isinstance(value, dict):
        part, rest = (path, "") if path in value else (part, rest)
        found = value.get(part)
    elif not isinstance(value, list):
        return None
    elif part == "*":
        return [_follow(item, rest) if rest else item for item in value]
    elif part.isdecimal():
        found = value[int(part)] if int(part) < len(value) else None
    else:
        found = [_follow(item, part) for item in value]
    return _follow(found, rest) if rest else found


def _opened(value: Any) -> Any:
    """Return the list or object that a text holds as JSON, any other value as it is."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        with suppress(ValueError, RecursionError):
            return _JSON.decode(value)
    return value


def _filled(texts: Sequence[str], values: Sequence[Any]) -> Any:
    """Return a text with values put in; the value instead if it has no text; a list if a value is one."""
    if any(isinstance(value, list) for value in values):
        return [_filled(texts, group) for group in _aligned(values)]
    spelled = [_spelled(value) for value in values]
    for value in spelled:
        if not isinstance(value, str) or not value:
            return value
    return texts[0] + "".join(value + text for value, text in zip(spelled, texts[1:], strict=True))


def _aligned(values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield values side by side: what is no list is repeated, a short list ends in None."""
    length = max((len(value) for value in values if isinstance(value, list)), default=1)
    full = ([*value, *[None] * length][:length] if isinstance(value, list) else [value] * length for value in values)
    return zip(*full, strict=True)


def _truth(value: Any) -> Any:
    """Return the truth value that a text or number means, any other value as it is."""
    return _TRUTHS.get(str(value).strip().casefold(), value) if isinstance(value, (bool, int, str)) else value


def _spelled(value: Any) -> Any:
    """Return a truth value, number or date as text, any other value as it is; infinity and NaN have no text."""
    if type(value) not in _SCALARS or (isinstance(value, float) and not math.isfinite(value)):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(slots=True)
class _Row:
    """One row as its file has it; ``problems`` collects what is wrong with it."""

    where: str
    values: Any
    is_table: bool = False
    problems: list[str] = field(default_factory=list)
    getters: _Getters = field(default_factory=dict)

    def example(self, getters: _Getters) -> Example:
        if not isinstance(self.values, dict):
            self._report("row", "an object", self.values)
            self.values = {}
        is_flat = self.is_table and "evidence" not in self.values
        self.getters = {**_FLAT_EVIDENCE, **getters} if is_flat else getters
        answer = self._answer()
        return Example(
            id=self._text("id", self._value("id"), frozenset({int}), "text or an integer"),
            question=self._text("question", self._value("question")),
            answer=answer,
            evidence=tuple(dict.fromkeys(self._evidence())),
            answerable=self._answerable(default=bool(answer)),
            tags=self._tags(),
            author=self._text("author", self._value("author")),
            reviewed_at=self._text("reviewed_at", self._value("reviewed_at"), frozenset({date, datetime})),
            where=self.where,
            problems=tuple(dict.fromkeys(self.problems)),
        )

    def _answer(self) -> str:
        value = self._value("answer")
        if "answer" in self.getters and isinstance(value, list):
            value = next((item for item in value if item not in (None, "")), None)
        return self._text("answer", value, _SCALARS, "text, a number, true or false")

    def _answerable(self, *, default: bool) -> bool:
        value = self._value("answerable")
        if self.is_table or "answerable" in self.getters:
            value = _truth(value)
        if value is not None and not isinstance(value, bool):
            self._report("answerable", "true or false", value)
        return value if isinstance(value, bool) else default

    def _tags(self) -> tuple[str, ...]:
        value = self._value("tags")
        items = re.split("[;,]", value) if isinstance(value, str) else _items(value)
        texts = [self._text("tags", item, _SCALARS, "text or a list of texts") for item in items]
        return tuple(dict.fromkeys(text for text in texts if text))

    def _evidence(self) -> Iterator[Evidence]:
        if not self.getters.keys().isdisjoint(_EVIDENCE):
            yield from self._side_by_side([self._value(target) for target in _EVIDENCE])
            return
        for item in _items(_opened(self.values.get("evidence")) if self.is_table else self.values.get("evidence")):
            if isinstance(item, dict):
                yield from self._piece([item.get(name) for name in ("document", "quote", "section")])
            elif isinstance(item, str):
                yield from self._piece([item, None, None]) if item.strip() else ()
            elif item is not None:
                self._report("evidence", 'a list of {"document": path}', item)

    def _side_by_side(self, values: list[Any]) -> Iterator[Evidence]:
        values = [None if value == [] else value for value in values]
        lengths = [len(value) for value in values if isinstance(value, list)]
        if len(set(lengths)) > 1:
            self._report("evidence", "lists of one length", lengths)
        for group in _aligned(values):
            if any(item not in (None, "") for item in group):
                yield from self._piece(group, _SCALARS)

    def _piece(self, values: Sequence[Any], also: frozenset[type] = frozenset()) -> Iterator[Evidence]:
        texts = [self._text(target, value, also) for target, value in zip(_EVIDENCE, values, strict=True)]
        if texts[0]:
            yield Evidence(*texts)
        elif values[0] is None or isinstance(values[0], str):
            self._report(_EVIDENCE[0], "text", None)

    def _value(self, target: str) -> Any:
        return self.getters[target](self.values) if target in self.getters else _follow(self.values, target)

    def _text(self, target: str, value: Any, also: frozenset[type] = frozenset(), expected: str = "text") -> str:
        """Return a value as NFC text without space around it; '' (and a problem) if it is of no type expected."""
        text = "" if value is None else _spelled(value) if type(value) in also else value
        if not isinstance(text, str):
            self._report(target, expected, value)
            return ""
        whole = text.encode(errors="replace").decode()
        if whole != text:  # half a surrogate pair
            self._report(target, "whole characters", value)
        return unicodedata.normalize("NFC", whole).strip()

    def _report(self, target: str, expected: str, received: Any) -> None:
        self.problems.append(f"{target}: expected {expected}, got {_shown(received)}")


def _with_ids(examples: list[Example]) -> list[Example]:
    """Give ids to rows without one: of the question, and of the rest where that differs; row order is no matter."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for place, example in enumerate(examples):
        if not example.id:
            question = " ".join(unicodedata.normalize("NFKC", example.question).casefold().split())
            groups[f"q-{sha256_hex(question.encode())[:12]}"].append(place)
    for name, places in groups.items():
        digests = {place: examples[place].digest for place in places} if len(places) > 1 else {places[0]: ""}
        differ, seen = len(set(digests.values())) > 1, Counter[str]()
        for place in sorted(places, key=lambda place: (digests[place], examples[place].problems)):
            own = f"{name}-{digests[place][:4]}" if differ else name
            seen[own] += 1
            examples[place] = replace(examples[place], id=own if seen[own] == 1 else f"{own}-{seen[own]}")
    return examples


def _found(document: Any, path: str, name: str) -> list[Any]:
    """Return a JSON document's rows: its one list, or what a path leads to with the scalar fields around each row."""
    if not path:
        values = document.values() if isinstance(document, dict) else [document]
        lists = [value for value in values if isinstance(value, list)]
        if len(lists) != 1:
            raise _invalid(name, "a list of rows, or an object with one list", _shown(document), "correct qa.rows")
        return lists[0]
    level: list[tuple[dict[str, Any], Any]] = [({}, item) for item in _items(document)]
    for part in path.split("."):
        lost = [item for _, item in level if not isinstance(item, dict)]
        if lost or (level and not any(part in item for _, item in level)):
            raise _invalid(name, f"objects with {part!r}", _shown((lost or level[0])[-1]), "correct qa.rows")
        level = [
            ({**outer, **{key: value for key, value in item.items() if isinstance(value, (str, int, float))}}, inner)
            for outer, item in level
            for inner in _items(item.get(part))
        ]
    for outer, item in level:
        if isinstance(item, dict):
            item |= {key: value for key, value in outer.items() if item.get(key) is None}
    return [item for _, item in level]


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _parsed(text: str, name: str, line: int = 0) -> Any:
    try:
        return _JSON.decode(text)
    except json.JSONDecodeError as error:
        where, near = f"{name} line {line or error.lineno}", text[max(error.pos - _SHOWN // 2, 0) :][:_SHOWN].strip()
        advice = "correct it; a value over several lines needs a .json file" if line else "correct it"
        raise _invalid(where, "JSON", f"{near} ({error.msg} at column {error.colno})", advice) from error
    except (ValueError, RecursionError) as error:
        raise _invalid(f"{name} line {line}" if line else name, "JSON", error, "correct the value") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant}, which is no value")


_JSON = json.JSONDecoder(parse_constant=_refuse)
_FLAT_EVIDENCE = {target: _getter(target, target.removeprefix("evidence.")) for target in _EVIDENCE}


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = error.object[: error.start].count(b"\n") + 1, error.object[error.start]
        raise _invalid(f"{name} line {line}", "UTF-8", f"the byte {byte:#04x}", "save the file as UTF-8") from error


def _listed(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(parent, name) for name in names if not name.startswith(".")]
        yield from (path for path in paths if path.suffix.lower() in _SUFFIXES)


def _unreadable(error: OSError, name: str = "") -> NoReturn:
    expected, advice = f"a file {_ANY_SUFFIX} or a folder", "correct qa.path or its permissions"
    raise _invalid(name or error.filename, expected, error.strerror, advice) from error


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    with suppress(RecursionError):
        text = one_line(json.dumps(value, ensure_ascii=False, default=str))
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return "a value nested too deep"


def _invalid(where: object, expected: str, received: object, next_action: str) -> QuestionsInvalidError:
    return QuestionsInvalidError(one_line(f"{where}: expected {expected}, got {received}"), next_action=next_action)
