"""``tidegate evaluate retrieval``: exact metrics at document level, and what is left out."""

import json
import math
from pathlib import Path

import pytest

from tests.cli.conftest import Call, Served

METRICS = ["hit@1", "hit@5", "hit@10", "recall@1", "recall@5", "recall@10", "mrr", "ndcg@10"]
SECOND = 1 / math.log2(3)


@pytest.fixture
def qa(tmp_path: Path) -> Path:
    return tmp_path / "qa.jsonl"


def write_rows(path: Path, *rows: tuple[str, list[str]], **extra: object) -> Path:
    path.write_text(
        "".join(
            json.dumps({"question": question, "evidence": [{"document": name} for name in golds], **extra}) + "\n"
            for question, golds in rows
        )
    )
    return path


def evaluate(cli: Call, served: Served, qa: Path) -> dict[str, dict[str, float]]:
    found = cli("evaluate", "retrieval", "--qa", qa, "--store", served.store, "--json")
    assert (found.code, found.err) == (0, "")
    return found.json


def test_every_mode_has_exactly_these_metrics(served: Served, cli: Call, qa: Path) -> None:
    found = evaluate(cli, served, write_rows(qa, ("where do quokkas live", ["animals.txt"])))
    assert list(found) == ["hybrid", "dense", "sparse"]
    assert [list(metrics) for metrics in found.values()] == [METRICS] * 3
    assert all(0 <= value <= 1 for metrics in found.values() for value in metrics.values())


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("quokka", ["guide/retries.md"])], [1, 1, 1, 1, 1, 1, 1, 1]),
        ([("quokka", ["animals.txt"])], [0, 1, 1, 0, 1, 1, 0.5, SECOND]),
        ([("quokka", ["api/errors.html"])], [0, 0, 0, 0, 0, 0, 0, 0]),
        ([("quokka", ["animals.txt", "guide/retries.md"])], [1, 1, 1, 0.5, 1, 1, 1, 1]),
        ([("quokka", ["animals.txt", "api/errors.html"])], [0, 1, 1, 0, 0.5, 0.5, 0.5, SECOND / (1 + SECOND)]),
        ([("quokka", ["animals.txt", "animals.txt"])], [0, 1, 1, 0, 1, 1, 0.5, SECOND]),
        ([("quokka", ["guide/retries.md"]), ("E4711", ["animals.txt"])], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]),
        ([("lever", ["old/rollback.md"])], [0, 1, 1, 0, 1, 1, 0.5, SECOND]),
    ],
    ids=[
        "first",
        "second",
        "not found",
        "both golds",
        "one gold of two",
        "a gold named twice",
        "mean of two",
        "the second of twins",
    ],
)
def test_the_metrics_are_those_of_the_ranks(
    rows: list[tuple[str, list[str]]], expected: list[float], served: Served, cli: Call, qa: Path
) -> None:
    sparse = evaluate(cli, served, write_rows(qa, *rows))["sparse"]
    assert sparse == pytest.approx(dict(zip(METRICS, expected, strict=True)))


@pytest.mark.parametrize(
    "name", ["errors.html", "api/errors.html", "handbook/api/errors.html", "/some/where/handbook/api/errors.html"]
)
def test_a_document_may_be_named_by_its_unambiguous_end(name: str, served: Served, cli: Call, qa: Path) -> None:
    assert evaluate(cli, served, write_rows(qa, ("E4711", [name])))["sparse"]["hit@1"] == 1


def test_evidence_that_names_no_document_or_several_is_left_out_and_named(served: Served, cli: Call, qa: Path) -> None:
    write_rows(qa, ("E4711", ["errors.html", "gone.md"]), ("lever", ["rollback.md"]), ("quokka", ["rrors.html"]))
    found = cli("evaluate", "retrieval", "--qa", qa, "--store", served.store, "--json")
    assert found.json["sparse"] == dict.fromkeys(METRICS, 1.0)
    assert found.err.count("\n") == 1
    assert found.err.endswith("left out: gone.md, rollback.md, rrors.html\n")


def test_unanswerable_rows_and_rows_without_evidence_are_left_out(served: Served, cli: Call, qa: Path) -> None:
    rows = [
        {
            "question": "E4711",
            "evidence": [{"document": "errors.html", "quote": "E4711"}],
            "answerable": True,
            "answer": "tide",
        },
        {"question": "brass", "evidence": [{"document": "animals.txt"}], "answerable": False},
        {"question": "lever", "evidence": []},
        {"question": "quokka"},
    ]
    qa.write_text("\n".join(map(json.dumps, rows)))
    assert evaluate(cli, served, qa)["sparse"]["hit@1"] == 1
    shown = cli("evaluate", "retrieval", "--qa", qa, "--store", served.store).out.splitlines()
    assert shown[0] == f"1 questions scored by document, 3 unanswerable left out; release {served.release[:12]}"


def test_a_person_reads_a_row_of_metrics_per_mode(served: Served, cli: Call, qa: Path) -> None:
    write_rows(qa, ("quokka", ["animals.txt"]))
    lines = cli("evaluate", "retrieval", "--qa", qa, "--store", served.store).out.splitlines()
    assert lines[2].split() == ["mode", *METRICS]
    assert [line.split()[0] for line in lines[3:]] == ["hybrid", "dense", "sparse"]
    assert lines[5].split()[1:] == ["0.000", "1.000", "1.000", "0.000", "1.000", "1.000", "0.500", "0.631"]
