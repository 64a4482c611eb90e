"""Questions that passages ask of themselves: the answer stands where it is asked for, and is not given away."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.test_rows import SETTINGS
from tidegate.core.prompts import Passage
from tidegate.training.practice import gap_question, lookup_question, practice_questions
from tidegate.training.rows import TrainingQuestion, make_contexts

GAP = "____"
WORDS = st.sampled_from(
    ["the", "pump", "runs", "for", "12", "30", "days", "at", "`make run`", "EUR", "1,250", "5.", "per"]
)
TABLE = "| Plan | Price | Seats |\n|---|---|---|\n| Basic | EUR 9 | 5 |\n| Team | EUR 29 | 20 |"
SETTING = "```yaml\nretry_limit: 5\nmode: strict  # or loose\n```"


def passage(text: str) -> Passage:
    return Passage("a.md", "A", text)


def gaps(text: str) -> set[tuple[str, str] | None]:
    return {gap_question(passage(text), random.Random(seed)) for seed in range(60)}


def lookups(*texts: str, absent: bool) -> set[tuple[str, str] | None]:
    shown = [passage(text) for text in texts]
    return {lookup_question(shown, random.Random(seed), absent=absent) for seed in range(100)}


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("The pump rests for 30 minutes after every run of the line.", {"30 minutes"}),
        ("Start the whole thing with `make run` and then wait a while.", {"make run"}),
        ("A late return costs the team EUR 1,250 at the very least.", {"EUR 1,250"}),
        ("Doors of the hall open at 08:30 and close at 17:05 every day.", {"08:30", "17:05"}),
        ("The hall is large and bright. Its doors open at 08:30 on every day.", {"08:30"}),
    ],
)
def test_a_gap_is_a_number_or_a_code_span(text: str, answers: set[str]) -> None:
    found = gaps(text)
    assert None not in found
    assert {answer for _, answer in found} == answers


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The pump rests for a while after every run of the line.",
        "It takes 5 days.",
        "Wait 30 minutes and then again 30 minutes before you start it.",
        "The pump model v30 rests for a while after every run of it.",
    ],
)
def test_a_passage_without_a_sentence_that_fits_has_no_gap(text: str) -> None:
    assert gaps(text) == {None}


@settings(max_examples=200, deadline=None)
@given(st.lists(WORDS, max_size=30), st.integers(0, 1000))
def test_a_gap_question_is_a_sentence_of_the_passage_without_the_answer(words: list[str], seed: int) -> None:
    text = " ".join(words)
    made = gap_question(passage(text), random.Random(seed))
    if made is None:
        return
    question, answer = made
    shown = question.split(": ", 1)[1].split()
    assert answer in text
    assert shown.count(GAP) == 1
    assert not [word for word in shown if answer in word]
    assert {word for word in shown if word != GAP} <= {*text.split(), "."}


def test_a_lookup_asks_for_a_cell_by_row_and_column_or_for_a_setting_by_name() -> None:
    found = {}
    for question, answer in lookups(TABLE, SETTING, absent=False):
        name = next(name for name in ("Basic", "Team", "retry_limit", "mode") if name in question)
        column = next((column for column in ("price", "seats") if column in question), "")
        found[name, column] = answer
    assert found == {
        ("Basic", "price"): "EUR 9",
        ("Basic", "seats"): "5",
        ("Team", "price"): "EUR 29",
        ("Team", "seats"): "20",
        ("retry_limit", ""): "5",
        ("mode", ""): "strict",
    }


def test_a_lookup_of_what_no_passage_holds_is_refused() -> None:
    found = lookups(TABLE, SETTING, "| Room | Size |\n|---|---|\n| R14 | 9 |", absent=True) - {None}
    assert found
    assert {answer for _, answer in found} == {""}
    held = [("Basic", "price"), ("Basic", "seats"), ("Team", "price"), ("Team", "seats"), ("R14", "size")]
    assert not [question for question, _ in found for row, column in held if row in question and column in question]
    assert not [question for question, _ in found if "retry_limit" in question]
    known = [question for question, _ in found if any(row in question for row, _ in held)]
    assert {("R14" in question, "size" in question) for question in known} == {(True, False), (False, True)}


def test_practice_looks_up_misses_and_fills_gaps_in_turn() -> None:
    shown = [passage(TABLE), passage("Doors of the hall open at 08:30 and close at 17:05 every day.")]
    made = practice_questions(shown, 3, random.Random(3))
    assert [answer == "" for _, answer in made] == [False, True, False]
    assert [GAP in question for question, _ in made] == [False, False, True]


@given(st.lists(WORDS, max_size=30), st.integers(0, 8), st.integers(0, 100))
def test_practice_never_asks_a_question_twice_and_no_more_than_wanted(words: list[str], most: int, seed: int) -> None:
    made = practice_questions([passage(TABLE), passage(" ".join(words))], most, random.Random(seed))
    assert len({question for question, _ in made}) == len(made)
    assert len(made) == most or most > 4  # four cells at least can be asked for


@pytest.mark.parametrize("texts", [[], [""], ["The pump rests for a while."]])
def test_passages_that_ask_nothing_give_no_practice(texts: list[str]) -> None:
    assert practice_questions([passage(text) for text in texts], 4, random.Random(0)) == []


def test_prose_and_a_table_cut_off_from_its_header_are_not_looked_up() -> None:
    assert lookups("The pump rests for 30 minutes.", "| Basic | EUR 9 | 5 |", absent=False) == {None}


def test_a_context_practises_on_the_passages_as_they_are_shown() -> None:
    text = "| Plan | Price |\n|---|---|\n| Basic | 9 euros |"
    item = TrainingQuestion("r", "What does it cost?", "9 euros", ("| Basic | 9 euros |",), True, (passage(text),), ())
    kept = {"withheld_share": 0.0, "refusal_share": 0.0, "swapped_share": 1.0, "practice": 1}
    (context,) = make_contexts([item], replace(SETTINGS, **kept))
    swapped, practised = context.branches
    assert (swapped.kind, practised.kind, practised.row) == ("swapped", "practice", "")
    assert practised.answer == swapped.answer != "9 euros"
