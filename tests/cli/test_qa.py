"""``tidegate qa`` and ``tidegate adapters``: a set from its file to a dataset, and the rows that need a person."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Call
from tests.cli.harbour import copy_to, decide, done, edit, head, lines, links, prepare, statuses, store_of, update, used
from tests.conftest import settle
from tests.pipelines.basins import BASINS, page, row, save, ten_rows


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def pages(prepared: Path, home: Path) -> Path:
    """The pages of the prepared project, copied to the home of this test."""
    return copy_to(home, prepared)


@pytest.fixture
def edited(pages: Path, cli: Call) -> Path:
    """The same pages, of which three were edited and one removed since."""
    edit(pages, cli)
    return pages


def test_a_person_reads_splits_failures_data_docs_and_dataset(pages: Path, cli: Call) -> None:
    save(pages, [row("anchor", 99), *ten_rows()[1:]])
    out = done(cli("qa", "validate")).out.splitlines()
    none = "(0 documents, 0 unanswerable)"
    assert out[:5] == [
        "rows: 10 in all; left out: 1 failed",
        f"splits: train 9 (9 documents, 0 unanswerable), dev 0 {none}, holdout 0 {none}",
        "",
        "anchor  quote_missing  qa.jsonl line 1  not in anchor.md: The anchor has room for 99 boats",
        "",
    ]
    index = store_of(pages) / "datasets" / head(pages) / "data_docs" / "index.html"
    assert out[5] == f"Data Docs: file://{index}"
    assert "Validation result" in index.read_text()
    assert re.fullmatch(rf"corpus harbour has dataset {head(pages)[:12]} now, \d+\.\d s", out[6])
    assert cli("qa", "validate").out == f"nothing changed: corpus harbour has dataset {head(pages)[:12]}\n"


def test_the_json_of_a_validation_is_its_report_and_that_of_an_unchanged_set_too(pages: Path, cli: Call) -> None:
    save(pages, [row("anchor", 99), *ten_rows()[1:]])
    first = done(cli("qa", "validate", "--json")).json
    assert (first["ok"], first["dataset"], first["rows"]["failed"]) == (True, head(pages), 1)
    assert first["failures"] == [
        {
            "row": "anchor",
            "where": "qa.jsonl line 1",
            "rule": "quote_missing",
            "detail": "not in anchor.md: The anchor has room for 99 boats",
        }
    ]
    again = done(cli("qa", "validate", "--json")).json
    assert again.pop("unchanged") is True
    assert again == {name: value for name, value in first.items() if name not in ("data_docs", "seconds")}


def test_a_set_given_by_hand_is_taken_from_the_working_directory(pages: Path, cli: Call, tmp_path: Path) -> None:
    other = tmp_path / "home" / "other"
    other.mkdir()
    shutil.copy(pages.parent / "qa.jsonl", other / "a.jsonl")
    (other / "b.jsonl").write_text(
        json.dumps({**row("jetty", 20), "id": "b", "question": "Is the jetty green?"}) + "\n"
    )
    rows = done(cli("qa", "validate", "--qa", "other", "--json")).json["rows"]
    assert (rows["total"], rows["train"]) == (11, 11)


def test_a_failing_set_ends_with_1_the_table_and_the_reason(pages: Path, cli: Call) -> None:
    before = head(pages)
    save(pages, [*(row(basin, 99) for basin in BASINS[:3]), *ten_rows()[3:]])
    failing = cli("qa", "validate")
    assert failing.code == 1
    told = failing.out.splitlines()
    assert told[0] == "rows: 10 in all; left out: 3 failed"
    assert [line.split()[:2] for line in told[3:6]] == [[basin, "quote_missing"] for basin in BASINS[:3]]
    assert Path(told[-1].removeprefix("Data Docs: file://")).is_file()
    block = failing.err.splitlines()
    assert block[1] == "FAILED  dataset_invalid"
    assert "failed_share is 0.3, allowed is at most 0.2 (qa.max_failed_share)" in block[2]
    report = cli("qa", "validate", "--json")
    assert (report.code, report.json["ok"], report.json["broken"]) == (1, False, ["failed_share"])
    assert [item["row"] for item in report.json["failures"]] == ["anchor", "buoy", "canal"]
    assert head(pages) == before
    save(pages, ten_rows()[3:])
    assert done(cli("qa", "validate", "--json")).json["rows"]["total"] == 7


def test_stale_rows_are_shown_with_what_their_pages_said_and_say_now(edited: Path, cli: Call) -> None:
    assert cli("qa", "stale").out.splitlines() == [
        "anchor: How many boats fit into the anchor?",
        "  anchor.md",
        "    - The anchor has room for 11 boats.",
        "    + The anchor has room for 11 boats in summer.",
        "",
        "buoy: How many boats fit into the buoy?",
        "  buoy.md",
        "    - The buoy has room for 12 boats.",
        "    + The buoy has room for 12 boats and a crane.",
        "",
        "canal: How many boats fit into the canal?",
        "  canal.md",
        "    - The canal has room for 13 boats.",
        "    + The canal has room for 77 boats.",
        "",
        "dinghy: How many boats fit into the dinghy?",
        "  gone: dinghy.md",
        "",
        "3 stale, 1 dangling",
    ]
    found = cli("qa", "stale", "--json").json
    assert [item["row"] for item in found["stale"]] == ["anchor", "buoy", "canal"]
    assert found["dangling"] == [
        {"row": "dinghy", "question": "How many boats fit into the dinghy?", "documents": ["dinghy.md"]}
    ]


def test_rows_are_stale_as_soon_as_their_page_is_indexed_and_looking_writes_nothing(pages: Path, cli: Call) -> None:
    before = head(pages)
    (pages / "anchor.md").write_text(page("anchor", 11, " in summer"))
    settle()
    done(cli("refresh", "harbour"))
    assert [item["row"] for item in cli("qa", "stale", "--json").json["stale"]] == ["anchor"]
    cli("qa", "stale", "--export", "review.jsonl")
    assert head(pages) == before
    done(cli("qa", "review", decide(Path("review.jsonl"), anchor={"decision": "drop"})))
    assert statuses(pages) == {"anchor": "dropped"}


def test_where_every_row_holds_none_is_stale(pages: Path, cli: Call) -> None:
    assert cli("qa", "stale").out == "0 stale, 0 dangling\n"
    assert (cli("qa", "stale", "--export", "none.jsonl").code, Path("none.jsonl").read_text()) == (0, "")


def test_a_reviewed_file_brings_rows_back_drops_them_or_leaves_them(edited: Path, cli: Call) -> None:
    exported = cli("qa", "stale", "--export", "review.jsonl")
    assert exported.err == (
        "4 rows written to review.jsonl: fill in decision (keep or drop), then 'tidegate qa review review.jsonl'\n"
    )
    review = Path("review.jsonl")
    assert lines(review)[2] == {
        **row("canal", 13, answerable=True, author="", reviewed_at="", tags=[]),
        "evidence": [{"document": "canal.md", "quote": "The canal has room for 13 boats", "section": ""}],
        "decision": "",
        "reason": "stale",
        "passages": [
            {
                "document": "canal.md",
                "old": "The canal has room for 13 boats.",
                "new": "The canal has room for 77 boats.",
            }
        ],
    }
    quoted = row("anchor", 11)["evidence"][0] | {"quote": "room for 11 boats in summer"}
    decide(
        review,
        anchor={"decision": "keep", "evidence": [quoted]},
        canal={"decision": "keep", **row("canal", 77)},
        dinghy={"decision": "drop"},
    )
    report = done(cli("qa", "review", review, "--json")).json
    assert statuses(edited) == {"buoy": "stale", "dinghy": "dropped"}
    assert (report["rows"]["train"], report["rows"]["dropped"], report["failures"]) == (8, 1, [])
    assert report["flags"]["reviewed"] == ["anchor", "canal", "dinghy"]
    assert used(edited, "anchor")["evidence"][0]["quote"] == "room for 11 boats in summer"
    assert used(edited, "canal")["answer"] == "77 boats"
    assert used(edited, "canal")["reviewed_at"] == datetime.now(UTC).date().isoformat()
    assert [item["id"] for item in lines(review)] == ["anchor", "buoy", "canal", "dinghy"]


def test_a_review_stands_until_the_row_in_the_source_says_something_else(edited: Path, cli: Call) -> None:
    cli("qa", "stale", "--export", "review.jsonl")
    decide(Path("review.jsonl"), canal={"decision": "keep", **row("canal", 77)}, anchor={"decision": "drop"})
    done(cli("qa", "review", "review.jsonl"))
    rows = ten_rows()
    save(edited, [*rows, row("jetty", 20, id="new", question="Is the jetty green?")])
    done(cli("qa", "validate"))
    assert statuses(edited) == {"anchor": "dropped", "buoy": "stale", "dinghy": "dangling"}
    assert used(edited, "canal")["answer"] == "77 boats"
    (edited / "jetty.md").write_text(page("jetty", 20) + "\nMore.\n")
    update(edited, cli)
    assert statuses(edited) == {"anchor": "dropped", "buoy": "stale", "dinghy": "dangling"}
    assert used(edited, "canal")["answer"] == "77 boats"
    changed = {"anchor": row("anchor", 11, author="Ada"), "canal": row("canal", 77, author="Ada")}
    save(edited, [changed.get(item["id"], item) for item in rows])
    done(cli("qa", "validate"))
    assert statuses(edited) == {"buoy": "stale", "dinghy": "dangling"}
    assert (used(edited, "canal")["author"], used(edited, "anchor")["author"]) == ("Ada", "Ada")
    assert links(edited)["canal"]["flags"] == []


def test_a_review_without_a_decision_changes_nothing(edited: Path, cli: Call) -> None:
    cli("qa", "stale", "--export", "review.jsonl")
    before = head(edited)
    found = cli("qa", "review", "review.jsonl")
    assert (found.code, found.err) == (0, "")
    assert found.out == "review.jsonl holds no decision: write keep or drop into a row's decision\n"
    assert head(edited) == before


def log(*rows: dict[str, Any]) -> Path:
    path = Path("log.jsonl")
    path.write_text("".join(f"{json.dumps(item)}\n" for item in rows))
    return path


CRANE = {"document": "buoy.md", "heading": "Room", "text": "The buoy has room for 12 boats."}
ASKED = (
    {"question": "Is there a crane?", "answered": False, "passages": []},
    {"question": "How many boats fit into the jetty?", "answered": False, "passages": []},
    {"question": "Who is the harbour master?", "answered": True, "passages": [CRANE]},
    {"question": "What colour is the buoy?", "answered": False, "passages": []},
    {"question": "is there a CRANE", "answered": False, "passages": [{**CRANE, "score": 0.4}, *[CRANE] * 5]},
)


def test_questions_that_were_answered_badly_are_listed_most_asked_first(pages: Path, cli: Call) -> None:
    assert [re.split(r"  +", line) for line in cli("qa", "unanswered", log(*ASKED)).out.splitlines()] == [
        ["asked", "question"],
        ["asked 2 times", "Is there a crane?"],
        ["asked once", "What colour is the buoy?"],
    ]
    crane, colour = cli("qa", "unanswered", log(*ASKED), "--json").rows
    name = crane.pop("id")
    assert crane == {
        "question": "Is there a crane?",
        "answer": "",
        "evidence": [],
        "tags": ["asked"],
        "decision": "",
        "reason": "asked 2 times",
        "passages": [CRANE] * 5,
    }
    assert (re.fullmatch("asked-[0-9a-f]{12}", name) is not None, colour["passages"]) == (True, [])
    assert cli("qa", "unanswered", log(ASKED[1], ASKED[2])).out == "none\n"


def test_an_asked_question_enters_the_set_with_the_answer_and_evidence_of_a_person(pages: Path, cli: Call) -> None:
    found = cli("qa", "unanswered", log(*ASKED), "--export", "asked.jsonl")
    assert found.err.startswith("2 rows written to asked.jsonl: fill in decision (keep or drop)")
    crane, colour = (item["id"] for item in lines(Path("asked.jsonl")))
    told = {"decision": "keep", "answer": "Green", "evidence": [{"document": "buoy.md", "quote": "Green."}]}
    decide(Path("asked.jsonl"), **{colour: told, crane: {"decision": "drop"}})
    done(cli("qa", "review", "asked.jsonl"))
    assert statuses(pages) == {crane: "dropped"}
    assert (used(pages, colour)["answer"], used(pages, colour)["tags"]) == ("Green", ["asked"])
    assert cli("qa", "unanswered", log(*ASKED)).out == "none\n"
    save(pages, ten_rows()[1:])
    done(cli("qa", "validate"))
    assert statuses(pages) == {crane: "dropped"}
    assert used(pages, colour)["answer"] == "Green"
