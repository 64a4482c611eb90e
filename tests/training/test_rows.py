"""Training rows: what is answered stands in the passages, what is refused does not, in any world of questions."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.answer_text import holds
from tidegate.core.prompts import Passage
from tidegate.training.rows import (
    Branch,
    Context,
    RowSettings,
    TrainingQuestion,
    make_contexts,
    other_value,
    swap_answers,
)

VALUES = ("5", "5 days", "2.5 days", "15 days", "weekly", "ann", "bob", "ann bob")
"""Some stand within others, and passages may write them in capitals."""
SETTINGS = RowSettings(
    passages=3,
    questions_per_context=3,
    repeats=1,
    withheld_share=0.3,
    refusal_share=0.3,
    swapped_share=0.5,
    seed=0,
)


def fact(number: int, value: str) -> str:
    """Return the line that answers question ``number``."""
    return f"The k{number} is {value}."


@st.composite
def worlds(draw: st.DrawFn) -> list[TrainingQuestion]:
    """Questions about facts in a few sections: some unanswerable, some whose evidence no window holds whole."""
    values = draw(st.lists(st.sampled_from(VALUES), min_size=1, max_size=9))
    written = [draw(st.sampled_from([value, value, value.title()])) for value in values]
    per_section = draw(st.integers(1, 4))
    lines = [fact(number, value) for number, value in enumerate(written)]
    sections = [lines[at : at + per_section] for at in range(0, len(lines), per_section)]

    def window(section: int, line: int) -> Passage:
        first, last = draw(st.integers(0, line)), draw(st.integers(line + 1, len(sections[section])))
        return Passage(f"{section // 2}.md", f"Guide > {section}", "\n".join(sections[section][first:last]))

    def anywhere() -> Passage:
        section = draw(st.integers(0, len(sections) - 1))
        return window(section, draw(st.integers(0, len(sections[section]) - 1)))

    questions = []
    for number, value in enumerate(values):
        kind = draw(st.sampled_from(["gold", "gold", "no gold", "unanswerable"]))
        gold = (window(*divmod(number, per_section)),) if kind == "gold" else ()
        retrieved = tuple(anywhere() for _ in range(draw(st.integers(1, 5))))
        answer, quotes = ("", ()) if kind == "unanswerable" else (value, (lines[number],))
        questions.append(
            TrainingQuestion(f"r{number}", f"What is k{number}?", answer, quotes, bool(answer), gold, retrieved)
        )
    return questions


SHARES = st.sampled_from([0.0, 0.5, 0.9])
ALL_SETTINGS = st.builds(
    RowSettings,
    passages=st.integers(1, 4),
    questions_per_context=st.integers(1, 4),
    repeats=st.integers(1, 3),
    withheld_share=SHARES,
    refusal_share=SHARES,
    swapped_share=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 50),
    practice=st.integers(0, 2),
)


def asked(contexts: list[Context]) -> list[tuple[Context, Branch]]:
    """Return every question of a person with its context."""
    return [(context, branch) for context in contexts for branch in context.branches if branch.row]


@settings(max_examples=300, deadline=None)
@given(worlds(), ALL_SETTINGS)
def test_an_answer_stands_in_the_line_that_the_question_is_about(
    questions: list[TrainingQuestion], chosen: RowSettings
) -> None:
    by_row = {item.row: item for item in questions}
    for context, branch in asked(make_contexts(questions, chosen)):
        item = by_row[branch.row]
        if branch.kind in ("answered", "swapped"):
            line = fact(int(branch.row[1:]), branch.answer)
            assert any(holds(passage.text, line) for passage in context.passages), (branch, context.passages)
            assert (branch.answer == item.answer) == (branch.kind == "answered")
        else:
            assert branch.answer == ""
            assert item.answerable == (branch.kind == "withheld")


@settings(max_examples=300, deadline=None)
@given(worlds(), ALL_SETTINGS)
def test_no_passage_holds_the_answer_of_a_question_that_is_refused(
    questions: list[TrainingQuestion], chosen: RowSettings
) -> None:
    answers = {item.row: item.answer for item in questions}
    for context, branch in asked(make_contexts(questions, chosen)):
        if branch.kind == "withheld":
            assert not any(holds(passage.text, answers[branch.row]) for passage in context.passages)


@settings(max_examples=150, deadline=None)
@given(worlds(), ALL_SETTINGS)
def test_every_question_is_asked_as_often_as_wanted(questions: list[TrainingQuestion], chosen: RowSettings) -> None:
    found = [(branch.row, branch.kind) for _, branch in asked(make_contexts(questions, chosen))]
    total, answered = Counter(row for row, _ in found), Counter(row for row, kind in found if kind != "withheld")
    for item in questions:
        if not item.answerable:
            assert total[item.row] == chosen.repeats
        elif item.gold:
            assert answered[item.row] <= chosen.repeats <= total[item.row]
            assert chosen.withheld_share or answered[item.row] == chosen.repeats


@settings(max_examples=150, deadline=None)
@given(worlds(), ALL_SETTINGS)
def test_a_context_keeps_to_its_sizes_and_shows_no_line_twice(
    questions: list[TrainingQuestion], chosen: RowSettings
) -> None:
    for context in make_contexts(questions, chosen):
        assert len(context.passages) <= chosen.passages
        rows = [branch.row for branch in context.branches if branch.row]
        assert 1 <= len(rows) <= chosen.questions_per_context
        assert len(rows) == len(set(rows))
        keys = [line.split(" is ")[0] for passage in context.passages for line in passage.text.splitlines()]
        assert len(keys) == len(set(keys))


@settings(max_examples=100, deadline=None)
@given(worlds(), ALL_SETTINGS, st.randoms(use_true_random=False))
def test_rows_follow_from_the_seed_and_not_from_the_order_of_the_questions(
    questions: list[TrainingQuestion], chosen: RowSettings, draw: random.Random
) -> None:
    mixed = list(questions)
    draw.shuffle(mixed)
    assert make_contexts(mixed, chosen) == make_contexts(questions, chosen)


def neighbours(count: int) -> list[TrainingQuestion]:
    """Questions with a passage each; every question's retrieval finds all passages."""
    shown = [Passage(f"{at}.md", f"Page {at}", fact(at, f"{at + 10} days")) for at in range(count)]
    return [
        TrainingQuestion(
            f"r{at:02}",
            f"What is k{at}?",
            f"{at + 10} days",
            (fact(at, f"{at + 10} days"),),
            True,
            (shown[at],),
            tuple(shown),
        )
        for at in range(count)
    ]


def kinds(contexts: list[Context]) -> set[str]:
    return {branch.kind for context in contexts for branch in context.branches}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"withheld_share": 0.0, "refusal_share": 0.0, "swapped_share": 0.0}, {"answered"}),
        ({"withheld_share": 0.0, "refusal_share": 0.0, "swapped_share": 1.0}, {"swapped"}),
        ({"withheld_share": 1.0, "refusal_share": 0.0, "swapped_share": 0.0, "questions_per_context": 1}, {"withheld"}),
    ],
)
def test_a_share_of_none_or_all_is_kept_exactly(changes: dict[str, float], expected: set[str]) -> None:
    questions = neighbours(12)
    assert kinds(make_contexts(questions, replace(SETTINGS, **changes))) == expected


@pytest.mark.parametrize("seed", range(5))
def test_a_question_whose_evidence_was_withheld_is_not_asked_again_in_its_round(seed: int) -> None:
    changes = {"withheld_share": 0.5, "refusal_share": 0.0, "repeats": 2, "seed": seed}
    found = asked(make_contexts(neighbours(12), replace(SETTINGS, **changes)))
    assert {branch.kind for _, branch in found} >= {"withheld", "answered"}
    assert set(Counter(branch.row for _, branch in found).values()) == {2}


def test_another_seed_gives_other_rows() -> None:
    made = {repr(make_contexts(neighbours(12), replace(SETTINGS, seed=seed))) for seed in range(5)}
    assert len(made) == 5


def test_a_question_that_retrieval_found_nothing_for_is_left_out() -> None:
    lost = TrainingQuestion("lost", "Where?", "here", ("It is here.",), True, (), ())
    contexts = make_contexts([*neighbours(3), lost], SETTINGS)
    assert "lost" not in {branch.row for context in contexts for branch in context.branches}


@pytest.mark.parametrize("answer", ["5", "5 days", "EUR 1,250.00", "08:30 to 17:05", "v2.14"])
def test_a_number_becomes_another_number_of_as_many_digits(answer: str) -> None:
    def shape(text: str) -> str:
        return "".join("9" if sign.isdigit() else sign for sign in text)

    values = {other_value(answer, [], random.Random(seed)) for seed in range(50)}
    assert answer not in values
    assert {shape(value) for value in values} == {shape(answer)}


def test_an_answer_without_numbers_becomes_one_of_as_many_words_or_stays() -> None:
    answers = ["Ann Lee", "Bob Ray", "Cid", "Room 12", "Dee of Rye"]
    assert {other_value("Ann Lee", answers, random.Random(seed)) for seed in range(20)} == {"Bob Ray"}
    assert other_value("Ann Lee", ["Ann Lee", "Cid"], random.Random(0)) == "Ann Lee"


def test_a_swap_changes_every_passage_and_no_longer_word() -> None:
    shown = [Passage("a", "A", "Wait 5 days, not 15 days."), Passage("b", "B", "All 5 days count.")]
    passages, (branch,) = swap_answers(shown, [Branch("r", "answered", "How long?", "5 days")], [], random.Random(1))
    value = branch.answer
    assert value != "5 days"
    assert [item.text for item in passages] == [f"Wait {value}, not 15 days.", f"All {value} count."]
    assert branch.kind == "swapped"


def test_an_answer_that_stands_in_the_evidence_in_other_case_is_not_swapped_in_a_distractor_alone() -> None:
    shown = [Passage("a", "A", "Backups run Weekly."), Passage("b", "B", "The weekly letter is read by few.")]
    branch = Branch("r", "answered", "How often do backups run?", "weekly")
    passages, (after,) = swap_answers(shown, [branch], ["daily"], random.Random(0))
    assert holds(passages[0].text, f"Backups run {after.answer}")


def test_a_swap_leaves_no_other_answer_without_its_evidence() -> None:
    shown = [
        Passage("a", "A", "Letters rest 5 days."),
        Passage("b", "B", "Post rests 5 days."),
        Passage("c", "C", "Wait 2.5 days."),
    ]
    branches = [Branch(row, "answered", f"How long do {row} rest?", "5 days") for row in ("letters", "post")]
    passages, (letters, post) = swap_answers(shown, branches, [], random.Random(0))
    assert holds(passages[0].text, f"Letters rest {letters.answer}")
    assert holds(passages[1].text, f"Post rests {post.answer}")


def test_a_swap_that_would_answer_a_refused_question_is_not_made() -> None:
    shown = [Passage("a", "A", "Ann signs.")]
    branches = [Branch("r", "answered", "Who signs?", "Ann"), Branch("s", "withheld", "Who pays?", "", "Bob")]
    assert swap_answers(shown, branches, ["Bob"], random.Random(0)) == (shown, branches)
