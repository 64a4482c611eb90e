"""The rules in isolation: what no real run brings about, bounds to the token, and rows that ask the same."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

import pytest

from tidegate.core.config import QaConfig
from tidegate.core.examples import ROW_RULES, Evidence, Example, Split
from tidegate.qa import checks
from tidegate.qa.dataset import Row
from tidegate.qa.evidence import Anchor
from tidegate.qa.expectations import validate

SETTINGS = QaConfig(max_question_tokens=9, max_answer_tokens=7)


def row(name: str, question: str = "How many?", answer: str = "4 boats", **more: object) -> Row:
    quote = Evidence("a.md", answer)
    fields = {"evidence": (quote,), "answerable": bool(answer), "where": f"line {name}", **more}
    return Row(Example(name, question, answer, **fields))


def found(
    rows: list[Row],
    alike: Iterable[tuple[int, int]] = (),
    tokens: tuple[int, int] = (5, 5),
    known: Collection[tuple[str, str]] = (),
) -> list[tuple[str, str, str]]:
    """Return (row, rule, detail) of every finding."""
    columns = checks.row_columns(rows, [tokens] * len(rows), alike, known, SETTINGS)
    rules = checks.row_rules(SETTINGS)
    assert {rule.column for rule in rules} <= columns.keys()
    findings = checks.findings(rows, columns, rules, validate("test", columns, rules))
    return [(item.row, item.rule, item.detail) for item in findings]


def test_every_rule_is_an_expectation() -> None:
    assert sorted(rule.name for rule in checks.row_rules(SETTINGS)) == sorted(ROW_RULES)
    assert [rule.name for rule in checks.set_rules(SETTINGS)] == list(checks.SET_RULES)


@pytest.mark.parametrize(
    ("tokens", "rules"),
    [
        ((2, 1), []),
        ((9, 7), []),
        ((1, 1), [("a", "question_length", "1 tokens; 2 to 9 are allowed")]),
        ((10, 7), [("a", "question_length", "10 tokens; 2 to 9 are allowed")]),
        ((9, 8), [("a", "answer_length", "8 tokens; 1 to 7 are allowed")]),
    ],
)
def test_lengths_are_bounded_to_the_token(tokens: tuple[int, int], rules: list[tuple[str, str, str]]) -> None:
    assert found([row("a")], tokens=tokens) == rules


def test_what_is_missing_has_no_length() -> None:
    missing = row("a", question="", answer="")
    assert found([missing], tokens=(0, 0)) == [("a", "question_missing", "no question")]


def test_answers_that_differ_in_case_spaces_and_marks_only_are_no_conflict() -> None:
    rows = [row("a", answer="`4 boats`"), row("b", answer="4  Boats")]
    assert found(rows, alike=[(0, 1)]) == [("b", "duplicate_question", "as a (line a)")]


def test_of_three_that_ask_the_same_every_conflict_and_every_copy_is_named() -> None:
    rows = [row("a"), row("b"), row("c", answer="5 boats")]
    assert found(rows, alike=[(0, 1), (0, 2), (1, 2)]) == [
        ("b", "duplicate_question", "as a (line a)"),
        ("a", "conflicting_answers", "c (line c) says '5 boats'"),
        ("b", "conflicting_answers", "c (line c) says '5 boats'"),
        ("c", "conflicting_answers", "a (line a) says '4 boats'"),
    ]


@pytest.mark.parametrize(("known", "copy"), [(frozenset(), "b"), (frozenset({"b"}), "a"), (frozenset({"a", "b"}), "b")])
def test_of_two_copies_the_one_that_is_new_fails(known: frozenset[str], copy: str) -> None:
    other = "a" if copy == "b" else "b"
    rows = [row("a"), row("b")]
    used = {(item.id, item.example.digest) for item in rows if item.id in known}
    assert found(rows, [(0, 1)], known=used) == [(copy, "duplicate_question", f"as {other} (line {other})")]


def test_a_copy_of_a_row_in_conflict_is_named_too() -> None:
    rows = [row("a"), row("b", answer="5 boats"), row("c", answer="5 boats")]
    assert found(rows, alike=[(0, 1), (0, 2), (1, 2)]) == [
        ("c", "duplicate_question", "as b (line b)"),
        ("a", "conflicting_answers", "b (line b) says '5 boats'"),
        ("b", "conflicting_answers", "a (line a) says '4 boats'"),
        ("c", "conflicting_answers", "a (line a) says '4 boats'"),
    ]


def test_an_answer_and_none_are_a_conflict() -> None:
    rows = [row("a"), row("b", answer="")]
    assert found(rows, alike=[(0, 1)]) == [
        ("a", "conflicting_answers", "b (line b) says that there is no answer"),
        ("b", "conflicting_answers", "a (line a) says '4 boats'"),
    ]


@pytest.mark.parametrize(("known", "loser"), [("", "line 2"), ("first", "line 2"), ("second", "line 1")])
def test_of_two_rows_with_one_id_the_one_that_is_new_fails(known: str, loser: str) -> None:
    rows = [row("a", where="line 1"), row("a", "How long?", "4 miles", where="line 2")]
    used = {("a", rows[known == "second"].example.digest)} if known else set()
    winner = "line 1" if loser == "line 2" else "line 2"
    columns = checks.row_columns(rows, [(5, 5)] * 2, [], used, SETTINGS)
    assert columns["duplicate_id"][loser == "line 2"] == f"a is also at {winner}"
    assert columns["duplicate_id"][winner == "line 2"] is None


def test_what_a_document_breaks_is_told_unless_it_holds_personal_data() -> None:
    told = (("quote_missing", "not in a.md: 4 boats"), ("quote_missing", "not in b.md: 4 boats"))
    secret = (("quote_missing", "not in a.md: write to maria.keller@tidewater-bikes.com"),)
    rows = [replace(row("a"), broken=told), replace(row("b"), broken=secret)]
    assert found(rows) == [
        ("a", "quote_missing", "not in a.md: 4 boats; not in b.md: 4 boats"),
        ("b", "quote_missing", "(hidden: it holds a secret or personal data)"),
    ]


def test_what_an_unanswerable_row_says_stands_in_no_quote() -> None:
    rows = [row("a", answer="5 boats", answerable=False, evidence=(Evidence("a.md", "4 boats"),))]
    assert found(rows) == [("a", "answer_unexpected", "answerable is false, but the answer is '5 boats'")]


def split(name: str, document: str, tags: tuple[str, ...] = ()) -> Row:
    anchor = Anchor(document, f"{document}.md", "f" * 64, "text")
    return Row(Example(name, f"Question {name}?", "yes", tags=tags), anchors=(anchor,))


def test_a_document_or_a_question_in_two_splits_breaks_the_set() -> None:
    rows = [split("a", "one"), split("b", "one"), split("c", "two"), split("d", "two"), split("e", "three")]
    splits: dict[str, Split] = {"a": "train", "b": "holdout", "c": "dev", "d": "dev", "e": "train"}
    alike = [("a", "b"), ("c", "d"), ("d", "e"), ("e", "gone")]
    facts = checks.set_facts(rows, splits, 5, 0, alike)
    assert (facts.shared_documents, facts.shared_questions) == (1, 2)
    outcome = validate("test as a whole", facts.columns(), checks.set_rules(QaConfig(min_rows=1)))
    assert outcome.failed == {"shared_documents": (0,), "shared_questions": (0,)}


def test_a_tag_counts_once_a_row() -> None:
    rows = [split("a", "one", ("x", "x", "x", "y")), split("b", "two", ("y",)), split("c", "three")]
    splits: dict[str, Split] = dict.fromkeys("abc", "train")
    facts = checks.set_facts(rows, splits, 4, 1, [])
    assert facts.largest_tag == ("y", 2)
    assert facts.columns()["tag_share"] == [2 / 3]
    assert facts.columns()["failed_share"] == [0.25]


def test_a_set_without_rows_has_shares_of_nothing() -> None:
    facts = checks.set_facts([], {}, 0, 0, [])
    assert facts.columns() == {
        "rows": [0],
        "failed_share": [0.0],
        "unanswerable_share": [0.0],
        "tag_share": [0.0],
        "shared_documents": [0],
        "shared_questions": [0],
    }
