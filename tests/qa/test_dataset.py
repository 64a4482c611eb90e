"""A dataset as files: nothing is lost or said twice, and equal datasets have equal bytes."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.canonical import canonical_json
from tidegate.core.examples import SPLITS, Evidence, Example, Finding
from tidegate.qa.dataset import (
    Dataset,
    Flag,
    KnownDocument,
    Memory,
    Row,
    Status,
    from_files,
    sorted_findings,
    to_files,
)
from tidegate.qa.evidence import Anchor

TEXT = st.text(max_size=8)
NAMES = st.sampled_from("abcdef")
SPLIT = st.sampled_from(SPLITS)
REPORT = {"rows": {"total": 3}, "broken": []}

EVIDENCE = st.tuples(
    st.builds(Evidence, document=TEXT, quote=TEXT, section=TEXT),
    st.none()
    | st.builds(
        Anchor,
        document=NAMES,
        path=TEXT,
        fingerprint=TEXT,
        kind=st.sampled_from(["text", "code", "span", "cell", "section", "document", "absence"]),
        units=st.lists(TEXT, max_size=2).map(tuple),
        heading=TEXT,
        lead=TEXT,
        passage=TEXT,
    ),
)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    evidence = draw(st.lists(EVIDENCE, max_size=3))
    example = Example(
        id=draw(st.sampled_from(["a", "b", "a b", "é", "\r\u2028"])),
        question=draw(TEXT),
        answer=draw(TEXT),
        evidence=tuple(item for item, _ in evidence),
        answerable=draw(st.booleans()),
        tags=tuple(draw(st.lists(TEXT, max_size=2))),
        author=draw(TEXT),
        reviewed_at=draw(TEXT),
        where=f"line {draw(st.integers(1, 999))}",
        problems=tuple(draw(st.lists(TEXT, max_size=1))),
    )
    return Row(
        example,
        anchors=tuple(anchor for _, anchor in evidence),
        status=draw(st.sampled_from(get_args(Status))),
        flags=tuple(draw(st.lists(st.sampled_from(get_args(Flag)), max_size=2, unique=True))),
        replaces=draw(st.none() | TEXT),
        now=tuple(draw(st.lists(TEXT, max_size=2))),
    )


MEMORY = st.builds(
    Memory,
    documents=st.dictionaries(TEXT, st.builds(KnownDocument, path=TEXT, sha256=TEXT, split=st.none() | SPLIT)),
    rows=st.dictionaries(TEXT, SPLIT),
    questions=st.dictionaries(TEXT, TEXT),
)


@st.composite
def datasets(draw: st.DrawFn) -> Dataset:
    """Datasets in which many rows have one id, and at most one of them is valid."""
    taken = draw(st.lists(rows(), max_size=8, unique_by=lambda row: (row.id, row.example.digest)))
    taken = [replace(row, example=replace(row.example, where=f"line {at}")) for at, row in enumerate(taken)]
    valid: dict[str, Row] = {}
    for row in taken:
        if row.status == "valid":
            valid.setdefault(row.id, row)
    kept = [row if row.status != "valid" or valid[row.id] is row else replace(row, status="failed") for row in taken]
    failing = [row for row in kept if row.status == "failed"]
    findings = [
        Finding(row.id, row.example.where, rule, draw(TEXT))
        for row in failing
        for rule in draw(st.lists(st.sampled_from(["secret", "schema"]), unique=True))
    ]
    splits = {row: draw(SPLIT) for row in valid}
    return Dataset(tuple(kept), splits, draw(MEMORY), sorted_findings(findings))


def read_back(dataset: Dataset) -> Dataset:
    return from_files(to_files(dataset, REPORT).__getitem__)


def as_stored(dataset: Dataset) -> Dataset:
    """What of a dataset its files hold, sorted: places, problems and findings are for people."""
    stored = [replace(row, example=replace(row.example, where="", problems=()), broken=()) for row in dataset.rows]
    return Dataset(tuple(sorted(stored, key=lambda row: (row.id, row.example.digest))), dataset.splits, dataset.memory)


@settings(deadline=None)
@given(dataset=datasets())
def test_files_give_the_dataset_back(dataset: Dataset) -> None:
    assert read_back(dataset) == as_stored(dataset)


@settings(deadline=None)
@given(dataset=datasets(), seed=st.integers(0, 999))
def test_equal_datasets_have_equal_bytes_whatever_the_order_of_anything(dataset: Dataset, seed: int) -> None:
    order = random.Random(seed)

    def mixed(values: dict) -> dict:
        return dict(order.sample(sorted(values.items(), key=str), len(values)))

    memory = Memory(*(mixed(getattr(dataset.memory, name)) for name in ("documents", "rows", "questions")))
    other = Dataset(
        tuple(order.sample(dataset.rows, len(dataset.rows))),
        mixed(dataset.splits),
        memory,
        sorted_findings(order.sample(dataset.findings, len(dataset.findings))),
    )
    assert to_files(other, dict(reversed(REPORT.items()))) == to_files(dataset, REPORT)


@settings(deadline=None)
@given(dataset=datasets())
def test_every_row_is_in_exactly_one_file_with_what_it_says(dataset: Dataset) -> None:
    files = to_files(dataset, REPORT)
    assert sorted(files) == sorted(
        ["dev.jsonl", "excluded.jsonl", "holdout.jsonl", "links.jsonl", "memory.json", "report.json", "train.jsonl"]
    )
    found = {
        name: [json.loads(line) for line in files[f"{name}.jsonl"].split(b"\n")[:-1]] for name in (*SPLITS, "excluded")
    }
    placed = {name: Counter(canonical_json(line) for line in lines) for name, lines in found.items()}
    wanted: dict[str, Counter[bytes]] = {name: Counter() for name in found}
    for row in dataset.rows:
        line = row.example.as_json() | {"documents": list(dict.fromkeys(tied.document for tied in row.anchors if tied))}
        if row.status != "valid":
            reasons = [
                {"rule": finding.rule, "detail": finding.detail}
                for finding in dataset.findings
                if (finding.row, finding.where) == (row.id, row.example.where)
            ]
            line |= {"status": row.status, "reasons": reasons}
        wanted[dataset.splits[row.id] if row.status == "valid" else "excluded"][canonical_json(line)] += 1
    assert placed == wanted
    assert json.loads(files["report.json"]) == REPORT
    assert sum(dataset.counts().model_dump().values()) == len(dataset.rows)


def row(row_id: str, question: str, document: str, status: Status, line: int) -> Row:
    example = Example(row_id, question, "42", (Evidence(f"{document}.md"),), where=f"line {line}")
    return Row(example, (Anchor(document, f"{document}.md", "f" * 64, "document"),), status)


COPIES = Dataset(
    rows=(
        row("same", "How many?", "one", "failed", 1),
        row("same", "How much?", "two", "valid", 2),
        row("same", "How long?", "three", "stale", 3),
        row("other", "How many?", "one", "valid", 4),
    ),
    splits={"same": "holdout", "other": "train"},
    memory=Memory(),
    findings=(Finding("same", "line 1", "duplicate_id", "same is also at line 2"),),
)


def test_rows_with_one_id_are_kept_apart() -> None:
    files = to_files(COPIES, REPORT)
    split = {
        name: [json.loads(line)["documents"] for line in files[f"{name}.jsonl"].split(b"\n")[:-1]] for name in SPLITS
    }
    assert split == {"train": [["one"]], "dev": [], "holdout": [["two"]]}
    excluded = {found["question"]: found for found in map(json.loads, files["excluded.jsonl"].split(b"\n")[:-1])}
    assert {question: (found["status"], found["reasons"]) for question, found in excluded.items()} == {
        "How many?": ("failed", [{"rule": "duplicate_id", "detail": "same is also at line 2"}]),
        "How long?": ("stale", []),
    }
    assert {
        (found.id, found.example.question, found.documents, found.status)
        for found in from_files(files.__getitem__).rows
    } == {
        ("same", "How many?", ("one",), "failed"),
        ("same", "How much?", ("two",), "valid"),
        ("same", "How long?", ("three",), "stale"),
        ("other", "How many?", ("one",), "valid"),
    }


def test_exact_copies_of_a_row_are_stored_in_one_order() -> None:
    kept, copy = row("same", "How many?", "one", "valid", 1), row("same", "How many?", "one", "failed", 2)
    finding = Finding("same", "line 2", "duplicate_id", "same is also at line 1")
    files = [
        to_files(Dataset(order, {"same": "dev"}, Memory(), (finding,)), REPORT)
        for order in ((kept, copy), (copy, kept))
    ]
    assert files[0] == files[1]
    assert sorted(found.status for found in from_files(files[0].__getitem__).rows) == ["failed", "valid"]


def test_a_row_names_each_of_its_documents_once_and_in_order() -> None:
    anchors = tuple(Anchor(key, f"{key}.md", "f", "text") if key else None for key in ("b", None, "a", "b"))
    assert Row(Example("r", "?", ""), anchors).documents == ("b", "a")
