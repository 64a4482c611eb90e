"""Mistakes in calls of ``tidegate qa`` and ``tidegate adapters``, and in the files that people give them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.cli.conftest import Call, assert_mistake
from tests.cli.harbour import copy_to, decide, done, head, links, prepare, statuses, update
from tests.pipelines.basins import page, row, save, ten_rows

MISTAKES = {
    "no subject": ("qa", ["WHAT", "tidegate qa --help"]),
    "an unknown subject": ("qa validat", ["'validat'", "'validate', 'stale', 'review', 'unanswered'"]),
    "adapters and no subject": ("adapters", ["WHAT", "tidegate adapters --help"]),
    "a store without a corpus": (
        "qa validate --store empty",
        ["holds no corpus yet", "run 'tidegate refresh <folder>'"],
    ),
    "stale rows of no corpus": ("qa stale --store empty", ["holds no corpus yet"]),
    "adapters of no corpus": ("adapters affected --store empty", ["holds no corpus yet"]),
    "an unknown corpus": ("qa stale --corpus harbor", ["no corpus 'harbor'", "did you mean 'harbour'"]),
    "several corpora": ("qa stale", ["several corpora (bare, harbour)", "--corpus bare"]),
    "no set": ("qa validate --corpus bare", ["corpus bare has no Q&A set", "set qa.path", "--qa FILE"]),
    "no dataset": ("qa stale --corpus bare", ["corpus bare", "has no dataset yet", "tidegate qa validate --qa FILE"]),
    "a missing set": ("qa validate --corpus harbour --qa nowhere.jsonl", ["nowhere.jsonl: expected a file"]),
    "a set of another kind": ("qa validate --corpus harbour --qa set.txt", ["set.txt", ".jsonl", "a folder"]),
    "a set that is no JSON": ("qa validate --corpus harbour --qa half.jsonl", ["half.jsonl line 2: expected JSON"]),
    "a set without a file": ("qa validate --corpus harbour --qa empty", ["expected files", "none"]),
    "no review file": ("qa review", ["FILE.jsonl", "tidegate qa review --help"]),
    "a missing review file": ("qa review nowhere.jsonl --corpus harbour", ["nowhere.jsonl: expected a file"]),
    "a review file that is no JSON": ("qa review half.jsonl --corpus harbour", ["half.jsonl line 2: expected JSON"]),
    "a review file of another kind": ("qa review rows.json --corpus harbour", ["rows.json is not a review file"]),
    "a wrong decision": (
        "qa review wrong.jsonl --corpus harbour",
        ["wrong.jsonl line 2: decision is 'keeep'; did you mean 'keep'? valid: drop, keep"],
    ),
    "a review file for a folder": ("qa stale --corpus harbour --export no/such/file", ["no/such/file", "No such file"]),
    "no log": ("qa unanswered", ["LOG.jsonl", "tidegate qa unanswered --help"]),
    "a missing log": ("qa unanswered nowhere.jsonl --corpus harbour", ["nowhere.jsonl does not exist"]),
    "a log that is no JSON": ("qa unanswered half.jsonl --corpus harbour", ["half.jsonl line 2 is not JSON"]),
    "a log without a question": ("qa unanswered log.jsonl --corpus harbour", ['log.jsonl line 1 has no "question"']),
    "an option that does not exist": ("qa validate --quick", ["--quick"]),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def pages(prepared: Path, home: Path) -> Path:
    return copy_to(home, prepared)


@pytest.fixture
def files(pages: Path, cli: Call) -> Path:
    """A second corpus without a Q&A set, and files that are not what they should be."""
    bare = pages.with_name("bare")
    bare.mkdir()
    (bare / "a.md").write_text("# A\n\nOne page.\n")
    done(cli("refresh", bare))
    (bare.parent / "empty").mkdir()
    good, bad = json.dumps(row("anchor", 11, decision="keep")), json.dumps(row("buoy", 12, decision="keeep"))
    for name, text in {
        "set.txt": good,
        "half.jsonl": f'{good}\n{{"question": \n',
        "rows.json": f"[{good}]",
        "wrong.jsonl": f"{good}\n{bad}\n",
        "log.jsonl": '{"answered": false}\n',
    }.items():
        (bare.parent / name).write_text(text)
    return pages


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_that_says_what_to_do_instead(case: str, files: Path, cli: Call) -> None:
    arguments, named = MISTAKES[case]
    before = head(files)
    assert_mistake(cli(*shlex.split(arguments)), *named)
    assert head(files) == before


@pytest.mark.parametrize("line", ["[1]", "null", '"keep"', "7"])
def test_a_line_of_a_review_file_that_is_no_object_is_a_mistake(line: str, pages: Path, cli: Call) -> None:
    Path("review.jsonl").write_text(f"{line}\n")
    assert_mistake(cli("qa", "review", "review.jsonl"), "review.jsonl")


def test_a_folder_is_no_review_file(pages: Path, cli: Call) -> None:
    Path("reviews").mkdir()
    Path("reviews", "review.jsonl").write_text(json.dumps(row("anchor", 11, decision="keep")))
    assert_mistake(cli("qa", "review", "reviews"), "reviews is not a review file")


def test_a_decision_that_is_null_is_none(pages: Path, cli: Call) -> None:
    Path("review.jsonl").write_text(json.dumps(row("anchor", 11, decision=None)))
    assert (cli("qa", "review", "review.jsonl").code, cli("qa", "review", "review.jsonl").err) == (0, "")


def test_a_review_file_may_hold_any_character_of_a_page(pages: Path, cli: Call) -> None:
    (pages / "anchor.md").write_text(page("anchor", 11, " in\u2028summer\u0085and\u2029winter"), encoding="utf-8")
    update(pages, cli)
    done(cli("qa", "stale", "--export", "review.jsonl"))
    assert "\u2028" in Path("review.jsonl").read_text(encoding="utf-8")
    decided = Path("review.jsonl").read_bytes().replace(b'"decision":""', b'"decision":"drop"')
    Path("review.jsonl").write_bytes(decided)
    done(cli("qa", "review", "review.jsonl"))
    assert statuses(pages) == {"anchor": "dropped"}


@pytest.mark.parametrize("passages", [None, ["a text"], {"document": "buoy.md"}, [None]])
def test_passages_of_a_log_in_another_shape_do_not_lose_the_question(passages: object, pages: Path, cli: Call) -> None:
    Path("log.jsonl").write_text(json.dumps({"question": "Is there a crane?", "answered": False, "passages": passages}))
    (asked,) = done(cli("qa", "unanswered", "log.jsonl", "--json")).rows
    assert asked["question"] == "Is there a crane?"


@pytest.mark.parametrize("reviewed_at", ["", "2025-01-01"])
def test_a_row_that_a_person_keeps_as_it_is_comes_back_every_time(reviewed_at: str, pages: Path, cli: Call) -> None:
    save(pages, [row("anchor", 11, reviewed_at=reviewed_at), *ten_rows()[1:]])
    done(cli("qa", "validate"))
    for season in ("summer", "autumn"):
        (pages / "anchor.md").write_text(page("anchor", 11, f" in {season}"))
        update(pages, cli)
        assert statuses(pages) == {"anchor": "stale"}
        cli("qa", "stale", "--export", "review.jsonl")
        done(cli("qa", "review", decide(Path("review.jsonl"), anchor={"decision": "keep"})))
        assert statuses(pages) == {}
        assert links(pages)["anchor"]["anchors"][0]["passage"] == f"The anchor has room for 11 boats in {season}."


def test_what_is_wrong_with_a_reviewed_row_is_not_forgotten(pages: Path, cli: Call) -> None:
    Path("review.jsonl").write_text(json.dumps(row("anchor", 11, decision="keep", tags={"a": 1})))
    cli("qa", "review", "review.jsonl")
    first = statuses(pages)
    (pages / "jetty.md").write_text(page("jetty", 20) + "\nMore.\n")
    update(pages, cli)
    assert statuses(pages) == first


def test_status_keeps_showing_the_last_run_when_a_set_was_refused(pages: Path, cli: Call) -> None:
    save(pages, [row("anchor", 99), row("buoy", 99), row("canal", 99)])
    assert cli("qa", "validate").code == 1
    found = cli("status", "--json").json["last_run"]
    assert found["validate_qa"]["outcome"] == "failed"
    assert found["validate_qa"]["failure"]["code"] == "dataset_invalid"


def test_a_set_without_rows_has_data_docs_or_names_none(pages: Path, cli: Call) -> None:
    save(pages, [])
    found = cli("qa", "validate", "--json")
    assert found.code == 1
    linked = found.json["data_docs"]
    assert not linked or Path(linked.removeprefix("file://")).is_file()
