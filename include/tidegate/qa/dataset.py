"""A dataset: every row of a Q&A set with what became of it, and the files that hold it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter

from tidegate.core.canonical import canonical_json
from tidegate.core.examples import SPLITS, Example, Finding, Split
from tidegate.core.records import DatasetCounts
from tidegate.qa.evidence import Anchor

Status = Literal["valid", "failed", "stale", "dangling", "bridging", "draft", "dropped"]
Flag = Literal["cleared", "reworded", "moved", "reviewed"]

EXCLUDED, LINKS, MEMORY, REPORT = "excluded.jsonl", "links.jsonl", "memory.json", "report.json"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a Q&A set, and what became of it."""

    example: Example
    anchors: tuple[Anchor | None, ...] = ()
    """One per piece of evidence; None where it could not be tied."""
    status: Status = "valid"
    flags: tuple[Flag, ...] = ()
    """What happened to its evidence since it was tied, and whether a person reviewed it."""
    replaces: str | None = None
    """For a reviewed row: digest of the source row that it stands for, '' if it has none."""
    broken: tuple[tuple[str, str], ...] = ()
    """(rule, detail) of each rule that its evidence breaks."""
    now: tuple[str, ...] = ()
    """For a stale row: what the documents say in place of each anchor's passage."""

    @property
    def documents(self) -> tuple[str, ...]:
        """Keys of the documents that the row rests on."""
        return tuple(dict.fromkeys(anchor.document for anchor in self.anchors if anchor))

    @property
    def id(self) -> str:
        """Id of the row."""
        return self.example.id


@dataclass(frozen=True, slots=True)
class KnownDocument:
    """A document as a dataset remembers it: its key survives moves and absences."""

    path: str
    sha256: str
    split: Split | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What later datasets inherit: the keys of documents, and every split that was ever drawn."""

    documents: dict[str, KnownDocument] = field(default_factory=dict)
    rows: dict[str, Split] = field(default_factory=dict)
    questions: dict[str, str] = field(default_factory=dict)
    """Questions of the rows that were drawn a split, by row."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows, splits, memory and findings of one version of a Q&A set."""

    rows: tuple[Row, ...]
    splits: dict[str, Split]
    """Split of each valid row."""
    memory: Memory
    findings: tuple[Finding, ...] = ()

    def counts(self) -> DatasetCounts:
        """Return how many rows became what."""
        by_split = {name: sum(split == name for split in self.splits.values()) for name in SPLITS}
        by_status = {
            name: sum(row.status == name for row in self.rows)
            for name in ("failed", "stale", "dangling", "bridging", "dropped")
        }
        return DatasetCounts(**by_split, **by_status, drafts=sum(row.status == "draft" for row in self.rows))


def to_files(dataset: Dataset, report: Mapping[str, Any]) -> dict[str, bytes]:
    """Return a dataset's files by name; equal datasets have equal bytes, whatever the order of their rows."""
    rows = sorted(dataset.rows, key=lambda row: (row.id, row.example.digest, row.status))
    reasons: dict[tuple[str, str], list[dict[str, str]]] = {}
    for found in dataset.findings:
        reasons.setdefault((found.row, found.where), []).append({"rule": found.rule, "detail": found.detail})
    files = {
        f"{name}.jsonl": _lines(
            _used(row) for row in rows if dataset.splits.get(row.id) == name and row.status == "valid"
        )
        for name in SPLITS
    }
    files[EXCLUDED] = _lines(
        {**_used(row), "status": row.status, "reasons": reasons.get((row.id, row.example.where), [])}
        for row in rows
        if row.status != "valid"
    )
    files[LINKS] = _lines(_link(row) for row in rows)
    files[MEMORY] = canonical_json(asdict(dataset.memory))
    files[REPORT] = canonical_json(report)
    return files


def from_files(read: Callable[[str], bytes]) -> Dataset:
    """Invert :func:`to_files`; ``read`` returns a file by its name. Findings stay in the file of excluded rows."""
    examples: dict[str, Example] = {}
    splits: dict[str, Split] = {}
    for name in SPLITS:
        for values in _values(read(f"{name}.jsonl")):
            examples[_row_key(values)] = Example.from_json(values)
            splits[values["id"]] = name
    for values in _values(read(EXCLUDED)):
        examples[_row_key(values)] = Example.from_json(values)
    rows = tuple(_row(link, examples[f"{link['row']} {link['digest']}"]) for link in _values(read(LINKS)))
    return Dataset(rows, splits, TypeAdapter(Memory).validate_json(read(MEMORY)))


def _used(row: Row) -> dict[str, Any]:
    return {**row.example.as_json(), "documents": list(row.documents)}


def _row_key(values: Mapping[str, Any]) -> str:
    return f"{values['id']} {Example.from_json(values).digest}"


def _link(row: Row) -> dict[str, Any]:
    return {
        "row": row.id,
        "digest": row.example.digest,
        "status": row.status,
        "flags": list(row.flags),
        "replaces": row.replaces,
        "anchors": [anchor.as_json() if anchor else None for anchor in row.anchors],
        "now": list(row.now),
    }


def _row(link: Mapping[str, Any], example: Example) -> Row:
    return Row(
        example,
        anchors=tuple(Anchor.from_json(item) if item else None for item in link["anchors"]),
        status=link["status"],
        flags=tuple(link["flags"]),
        replaces=link["replaces"],
        now=tuple(link["now"]),
    )


def _lines(values: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(canonical_json(item) + b"\n" for item in values)


def _values(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


def sorted_findings(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return findings by row, then rule."""
    return tuple(sorted(findings, key=lambda found: (found.row, found.where, found.rule)))
