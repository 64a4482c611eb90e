"""Which questions are copies of another in nearly the same words, and which only look like it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tidegate.qa.duplicates import near_duplicates, normalised


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("  How\u00a0long — roughly — is\tit?!  ", "how long roughly is it"),
        ("What’s “Gangway”?", "what's gangway"),
        ("Was kostet die STRASSE, die Straße?", "was kostet die strasse die strasse"),
        ("Is foo_bar (or a.b-c) **set**, or [E-1206]?", "is foo_bar or a.b-c set or e-1206"),
        ("tar: Use `--flag` with {{x}} on /path/, or *.txt.", "tar use --flag with {{x}} on /path/ or *.txt"),
        ("What does `plan_window()` do with C++, 3.5% and -5?", "what does plan_window() do with c++ 3.5% and -5"),
        ("ﬁve soft\u00adware zero\u200bwidth 2–3", "five software zerowidth 2-3"),
        ("((((?!…", ""),
    ],
)
def test_a_normalised_question_has_no_case_and_no_punctuation_around_its_words(question: str, text: str) -> None:
    assert normalised(question) == text
    assert normalised(text) == text


ALIKE = [
    ("Who pays?", "who  PAYS ?!"),
    ("How long are access logs kept?", "Please, how long are the access logs kept"),
    ("What is a key's limit?", "What's a key’s limit"),
    ("How do I restart Tern?", "How to restart Tern"),
    ("What does error E-1206 mean?", "What error does E-1206 mean?"),
    ("Which plugin is needed for the build?", "Which plugins are needed for builds?"),
    ("tar: List files in an archive", "tar: Listing the files in archives"),
    ("Who copies the queries?", "Who is copying the query?"),
    ("What exceeds the limit?", "What is exceeding the limit?"),
    ("Who makes the file?", "Who is making the files?"),
    ("When does Tern stop the cancelled job?", "When is Tern stopping the cancelled jobs?"),
    ("What can't the couriers do?", "What cannot the couriers do, please?"),
    ("What is our limit in eu-west?", "In eu-west, what is the limit?"),
    ("How long in us-east does the drill last?", "How long does the drill last in us-east?"),
    ("How many months does a card last?", "A card lasts how many months?"),
    ("What does the `halyard` command do?", "what does the halyard command do"),
    ("How long are sessions retained?", "How long are sessions retaned?"),
    ("How long are sessions retained?", "How long are sessions retainned?"),
    ("How long are sessions retained?", "How long are sessions retaimed?"),
    ("How long are sessions retained?", "How long are sessions reatined?"),
    ("How long are sessions retained?", "Please: how long are seessions retained?"),
    ("In eu-west, who keeps the ledger?", "Who keeps the ledegr in eu-west?"),
]  # fmt: skip
DIFFERENT = [
    ("How long is a 2026 session?", "How long is a 2025 session?"),
    ("What does E-1206 mean?", "What does E-1207 mean?"),
    ("What is `a.b-c`?", "What is `a.b_c`?"),
    ("Use --flag?", "Use -flag?"),
    ("Who calls Kelp?", "Who calls Tern?"),
    ("Which service does Kelp call?", "Which service calls Kelp?"),
    ("Does Kelp call Tern?", "Does Tern call Kelp?"),
    ("How do I convert PDF to PNG?", "How do I convert PNG to PDF?"),
    ("How do I copy from A1 to B2?", "How do I copy to A1 from B2?"),
    ("What is the test card?", "What is the card test?"),
    ("Test card?", "Card test?"),
    ("How do I copy A1 from B2?", "How do I copy from A1 B2?"),
    ("Who is paged at night?", "Who pages at night?"),
    ("Can I stop it?", "Can't I stop it?"),
    ("Is Tern used?", "Is Tern never used?"),
    ("May I deploy with a review?", "May I deploy without a review?"),
    ("Who may merge?", "Who alone may merge?"),
    ("What comes before the cut-off?", "What comes after the cut-off?"),
    ("What is the minimum amount?", "What is the maximum amount?"),
    ("Who files a dispute?", "When is a dispute filed?"),
    ("How many hours is it?", "How long is it?"),
    ("What is Tern?", "What does Tern do?"),
    ("How long may a session last?", "How long does a session last?"),
    ("When did the drill start?", "When does the drill start?"),
    ("When is the charge made?", "When is the change made?"),
    ("What does the employee pay?", "What does the employer pay?"),
    ("When is the eighth run?", "When is the eighty run?"),
    ("Who owns Tern?", "Who owns Turn?"),
    ("Who owns session1?", "Who owns sesion1?"),
    ("gnulink: View the manual", "gunlink: View the manual"),
    ("What does `gnulink` do?", "What does `gunlink` do?"),
    ("ng: Display the version", "ngs: Display the version"),
    ("View the manual of the `do` keyword", "View the manual of the `for` keyword"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_the_same_question_in_nearly_the_same_words_is_found(one: str, other: str) -> None:
    assert near_duplicates([one, "Is this another one?", other]) == [(0, 2)]
    assert near_duplicates([other, one]) == [(0, 1)]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_another_word_that_counts_makes_another_question(one: str, other: str) -> None:
    assert near_duplicates([one, other]) == []
    assert near_duplicates([other, one]) == []


def test_a_word_that_other_questions_have_is_no_typing_error() -> None:
    pair = ["Who owns the halyard desk?", "Who owns the haylard desk?"]
    assert near_duplicates([*pair, "Where is the halyard team?"]) == [(0, 1)]
    assert near_duplicates([*pair, "Where is the halyard team?", "Where are the haylards?"]) == []
    assert near_duplicates([*pair, "who owns the HAYLARD desk"]) == [(0, 1), (1, 2)]


def test_each_copy_is_paired_with_the_first_and_empty_questions_with_none() -> None:
    assert near_duplicates(["Who pays?", "", "Who pays", "?", "Who is paid?", "who pays"]) == [(0, 2), (0, 5)]
    assert near_duplicates([]) == []
    assert len(near_duplicates(["Who pays?"] * 50_000)) == 49_999


def test_in_a_very_long_text_neither_a_typing_error_nor_a_moved_phrase_is_looked_for() -> None:
    words = [f"word{number}" for number in range(20_000)]
    text, wrong, moved = ["settlement", *words], ["setlement", *words], [*words, "settlement"]
    assert near_duplicates([" ".join(some) for some in (text, wrong, moved, ["the", *text])]) == [(0, 3)]


POOL = [question for pair in (*ALIKE, *DIFFERENT) for question in pair]


@settings(deadline=None)
@given(st.lists(st.sampled_from(POOL), max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_the_questions_changes_nothing(questions: list[str], random: object) -> None:
    order = list(range(len(questions)))
    random.shuffle(order)
    found = near_duplicates([questions[at] for at in order])
    texts = [normalised(question) for question in questions]

    def said(pairs: list[tuple[int, int]]) -> set[frozenset[str]]:
        return {frozenset((texts[one], texts[other])) for one, other in pairs}

    assert said([(order[one], order[other]) for one, other in found]) == said(near_duplicates(questions))
    assert len(found) == len(near_duplicates(questions))


def demo() -> list[str]:
    lines = (ROOT / "include/demo/qa.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["question"] for line in lines]


PLAIN_WORD = re.compile(r"(?<![\w`'.\-_/{:])[a-z]{7,}(?![\w`'.\-_/}:])")


def mistyped(change: Callable[[str], str]) -> Callable[[str], str]:
    """Return what mistypes the longest plain word of a question."""

    def copy(question: str) -> str:
        word = max(PLAIN_WORD.findall(question.partition("`")[0]), key=len, default="")
        return question.replace(word, change(word)) if word else question

    return copy


SAME = {
    "upper case": str.upper,
    "no punctuation": lambda text: text.rstrip("?.").replace(", ", " "),
    "quotes and spaces": lambda text: "“" + text.replace(" ", " \u00a0") + "”",
    "please": lambda text: text.rstrip("?") + ", please?",
    "no articles": lambda text: re.sub(r"\b(?:the|an?) ", "", text),
    "more articles": lambda text: re.sub(r"\b(in|for|of) (?=[a-z])", r"\1 the ", text),
    "a letter missing": mistyped(lambda word: word[:3] + word[4:]),
    "a letter too many": mistyped(lambda word: word[:3] + "q" + word[3:]),
    "another letter": mistyped(lambda word: word[:3] + "q" + word[4:]),
    "two letters swapped": mistyped(lambda word: word[:3] + word[4] + word[3] + word[5:]),
}
OTHER = {
    "another number": lambda text: re.sub(r"\d+", lambda match: str(int(match[0]) + 977), text),
    "another name": lambda text: re.sub(r"Gangway|Halyard|Ferrybox|Capstan|Kelp|Tern", "Skua", text),
    "a negation": lambda text: re.sub(r"\b(is|are|can|may|must|does|do)\b", r"\1 not", text, count=1),
    "another question word": lambda text: re.sub(r"^(?:How \w+|What|Which|Who|When|Where)\b", "Why", text),
    "another qualifier": lambda text: text.rstrip("?") + " in Lisbon?",
    "a word less": lambda text: PLAIN_WORD.sub("", text, count=1),
}


def test_no_two_questions_of_the_demo_are_near_duplicates() -> None:
    assert len(demo()) == 1463
    assert near_duplicates(demo()) == []


@pytest.mark.parametrize("change", SAME.values(), ids=SAME.keys())
def test_a_copy_of_a_demo_question_in_nearly_the_same_words_is_found(change: Callable[[str], str]) -> None:
    questions = demo()
    copies = [(at, copy) for at, copy in enumerate(map(change, questions[:300])) if copy != questions[at]]
    assert len(copies) >= 80
    assert [copy for at, copy in copies if near_duplicates([*questions[at : at + 20], copy]) != [(0, 20)]] == []


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER.keys())
def test_a_demo_question_that_asks_something_else_is_not_found(change: Callable[[str], str]) -> None:
    questions = demo()
    others = [other for at, other in enumerate(map(change, questions)) if other != questions[at]]
    assert len(others) >= 80
    assert near_duplicates([*questions, *others]) == []


@pytest.mark.shared
@pytest.mark.parametrize(("name", "pairs"), [("tldr/2025-08-22", 1), ("tldr/2026-08-22", 1), ("anthropic_docs", 0)])
def test_real_sets_hold_one_copied_question_each_at_most(shared: Path, name: str, pairs: int) -> None:
    lines = (shared / name / "qa.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in lines]
    found = [(questions[one], questions[other]) for one, other in near_duplicates(questions)]
    assert found == [("gh-extension: List installed extensions",) * 2] * pairs
