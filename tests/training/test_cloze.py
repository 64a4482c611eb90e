"""Gap questions: the answer is the gap, and the question does not give it away."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate.training.cloze import gap_question

from tidegate.core.prompts import Passage

GAP = "____"
WORDS = st.sampled_from(
    ["the", "pump", "runs", "for", "12", "30", "days", "at", "`make run`", "EUR", "1,250", "5.", "per"]
)


def asked(text: str, seeds: int = 60) -> set[tuple[str, str] | None]:
    return {gap_question(Passage("a.md", "A", text), random.Random(seed)) for seed in range(seeds)}


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
def test_the_answer_is_a_number_or_a_code_span(text: str, answers: set[str]) -> None:
    found = asked(text)
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
def test_a_passage_without_a_sentence_that_fits_gives_no_question(text: str) -> None:
    assert asked(text) == {None}


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS, max_size=30), st.integers(0, 1000))
def test_a_question_is_a_sentence_of_the_passage_without_the_answer(words: list[str], seed: int) -> None:
    text = " ".join(words)
    made = gap_question(Passage("a.md", "A", text), random.Random(seed))
    if made is None:
        return
    question, answer = made
    shown = question.split(": ", 1)[1].split()
    assert answer in text
    assert shown.count(GAP) == 1
    assert answer not in " ".join(shown).split(GAP)
    gap = shown.index(GAP)
    assert is_found_in_order([*shown[:gap], *answer.split(), *shown[gap + 1 :]], text.replace("`", "").split())


def is_found_in_order(wanted: list[str], words: list[str]) -> bool:
    rest = iter(words)
    return all(word.strip("`") in rest for word in wanted)
