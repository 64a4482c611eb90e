"""The stretches of passages that a prompt shows: which, how long, in what order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fakes import WordTokenizer
from tidegate.core.prompts import Passage
from tidegate.prompting.chat import FileChatTokenizer
from tidegate.prompting.windows import RankedPassage, best_windows, window_around

MANY = 1000
Count = Callable[[Sequence[str]], list[int]]
words = WordTokenizer().count


def characters(texts: Sequence[str]) -> list[int]:
    return [len(text) for text in texts]


def ranked(*texts: str, scores: Sequence[float] | None = None, headings: Sequence[str] = ()) -> list[RankedPassage]:
    """Return passages of documents named by their number, all ranked equally unless scores are given."""
    names = headings or [""] * len(texts)
    return [
        RankedPassage(Passage(f"{number}.md", name, text), score)
        for number, (text, name, score) in enumerate(zip(texts, names, scores or [1.0] * len(texts), strict=True))
    ]


def shown(
    question: str, passages: list[RankedPassage], limit: int, most: int = MANY, count: Count = words
) -> list[str]:
    return [window.text for window in best_windows(question, passages, count, limit=limit, most=most)]


@st.composite
def texts_of_unique_words(draw: st.DrawFn, name: str) -> str:
    """Return sentences, list items, table rows and lines of code in which no word occurs twice."""
    forms = st.sampled_from(["{}.", "- {}", "| {} |", "{}", "    {}", "{}?"])
    gaps = st.sampled_from([" ", "\n", "\n\n", "   ", "\n\n\n\n", "\n \t\n"])
    text, count = "", 0
    for _ in range(draw(st.integers(1, 8))):
        size = draw(st.integers(1, 12))
        inside = " ".join(f"{name}w{count + at}" for at in range(size))
        text, count = text + draw(gaps) + draw(forms).format(inside), count + size
    return text + draw(gaps)


@st.composite
def searches(draw: st.DrawFn) -> tuple[str, list[RankedPassage], int]:
    """Return a question, ranked passages of unique words, and a limit."""
    texts = [draw(texts_of_unique_words(name)) for name in "abcd"[: draw(st.integers(1, 4))]]
    scores = draw(st.lists(st.sampled_from([0.25, 0.5, 1.0]), min_size=len(texts), max_size=len(texts)))
    known = draw(st.lists(st.sampled_from(" ".join(texts).replace(".", " ").split()), max_size=4))
    question = f"what is {' '.join(known)}?"
    return question, ranked(*texts, scores=scores), draw(st.integers(2, 40))


def unique_words(text: str) -> list[str]:
    return [word for word in "".join(char if char.isalnum() else " " for char in text).split() if "w" in word]


@given(searches(), st.sampled_from([words, characters]))
def test_windows_are_short_whole_stretches_that_never_overlap(
    search: tuple[str, list[RankedPassage], int], count: Count
) -> None:
    question, passages, limit = search
    limit = limit if count is words else 5 * limit
    found = best_windows(question, passages, count, limit=limit, most=MANY)
    by_document = {item.passage.document: item.passage for item in passages}
    assert found
    for window in found:
        assert window.text.strip()
        assert window.text in by_document[window.document].text
    assert max(count([window.text for window in found])) <= limit
    seen = [word for window in found for word in unique_words(window.text)]
    if count is words:  # a unit that is cut between characters leaves a piece of a word
        assert len(seen) == len(set(seen))


@given(st.text("ab.!| \n\t,1é猫\U0001f600", max_size=200), st.integers(8, 40))
@example("\n\n".join("a" * 20), 8)  # two tokens between two words
@example("a." + " a." * 20, 8)
@settings(deadline=None)
def test_no_window_has_more_of_the_base_models_tokens_than_allowed(
    tokenizer: FileChatTokenizer, text: str, limit: int
) -> None:
    found = best_windows("a b", ranked(text), tokenizer.count, limit=limit, most=MANY)
    assert bool(found) is bool(text.strip())
    assert max(tokenizer.count([window.text for window in found]), default=0) <= limit


@given(searches(), st.integers(1, 6))
def test_fewer_windows_are_the_best_of_more(search: tuple[str, list[RankedPassage], int], most: int) -> None:
    question, passages, limit = search
    every = shown(question, passages, limit)
    assert shown(question, passages, limit, most) == every[:most]


@given(searches(), st.randoms(use_true_random=False))
def test_the_order_of_passages_decides_only_between_equals(
    search: tuple[str, list[RankedPassage], int], random: object
) -> None:
    question, passages, limit = search
    permuted = list(passages)
    random.shuffle(permuted)
    assert sorted(shown(question, permuted, limit)) == sorted(shown(question, passages, limit))
    rescaled = [RankedPassage(item.passage, item.score * 8) for item in passages]
    assert shown(question, rescaled, limit) == shown(question, passages, limit)


@given(searches(), st.data())
def test_the_window_around_a_stretch_holds_it_or_nothing_does(
    search: tuple[str, list[RankedPassage], int], data: st.DataObject
) -> None:
    _, passages, limit = search
    passage = passages[0].passage
    stretch = data.draw(st.sampled_from(passage.text.split()))
    start = passage.text.index(stretch)
    window = window_around(passage, start, start + len(stretch), words, limit)
    if window is None:
        assert limit <= max(words(passage.text.splitlines()))
    else:
        assert stretch in window.text
        assert window.text in passage.text
        assert words([window.text])[0] <= limit


def test_nothing_ranked_shows_nothing() -> None:
    assert best_windows("port", [], words, limit=8, most=3) == []
    assert shown("port", ranked(" \n\n "), 8) == []


def units_of(number: int) -> dict[str, object]:
    """Return a counter by which every unit has ten tokens or a few more, and the limit for so many units."""
    return {"count": lambda texts: [10] * len(texts), "limit": 10 * number + 5}


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("It takes 1.5 hours, e.g. 90 minutes.", ["It takes 1.5 hours, e.g. 90 minutes."]),
        ("Stop! Why? Because.", ["Stop!", "Why?", "Because."]),
        ("- one\n- two\n\n```\n  run x\n```\n", ["- one", "- two", "```", "  run x", "```"]),
        ("1. Do this.\n2. Do that.", ["1. Do this.", "2. Do that."]),
        ("| a | b |\n|---|---|\n| Say it. Stop. | no |", ["| a | b |\n|---|---|", "| Say it. Stop. | no |"]),
    ],
)
def test_units_are_sentences_list_items_table_rows_and_lines(text: str, units: list[str]) -> None:
    assert shown("", ranked(text), **units_of(1)) == units


@pytest.mark.parametrize(
    ("number", "window"),
    [
        (1, "c c."),
        (2, "c c. d d."),
        (3, "b b.\nc c. d d."),
        (4, "b b.\nc c. d d.\ne e."),
        (5, "a a. b b.\nc c. d d.\ne e."),
    ],
)
def test_a_window_takes_in_the_unit_after_and_the_unit_before_in_turn(number: int, window: str) -> None:
    assert shown("c", ranked("a a. b b.\nc c. d d.\ne e."), **units_of(number))[0] == window


def test_a_window_stands_around_the_unit_that_matches_and_others_keep_clear_of_it() -> None:
    assert shown("key", ranked("a. b. key. c. d. e."), **units_of(2)) == ["key. c.", "a. b.", "d. e."]


TABLE = "| device | port |\n|---|---|\n| scanner | 21 |\n| printer | 9100 |\n| mailbox | 25 |"


def test_the_row_of_a_table_that_matches_is_shown_first() -> None:
    question = "What does the printer listen on?"
    assert shown(question, ranked(TABLE), **units_of(1))[0] == "| printer | 9100 |"


HEAD = "| device | port |\n|---|---|"


@pytest.mark.parametrize(
    ("number", "window"),
    [
        (1, "| printer | 9100 |"),
        (2, f"{HEAD}\n| printer | 9100 |"),
        (3, f"{HEAD}\n| printer | 9100 |\n| mailbox | 25 |"),
        (4, TABLE),
    ],
)
def test_a_window_that_starts_below_the_head_of_its_table_carries_the_head_while_it_fits(
    number: int, window: str
) -> None:
    assert shown("printer", ranked(TABLE), **units_of(number))[0] == window


def test_a_window_that_starts_behind_a_table_carries_no_head() -> None:
    assert shown("closing", ranked(f"{TABLE}\n\nThe closing words. More."), **units_of(2))[0] == (
        "The closing words. More."
    )


def test_the_window_around_a_quote_carries_the_head_of_its_table() -> None:
    place = TABLE.index("9100")
    units = units_of(2)
    found = window_around(Passage("a.md", "", TABLE), place, place + 4, units["count"], units["limit"])
    assert found == Passage("a.md", "", f"{HEAD}\n| printer | 9100 |")


@pytest.mark.parametrize(
    ("heading", "text", "found"),
    [
        ("Office > Ports", "## Ports\n\nPort 21. Port 22.", "Port 21. Port 22."),
        ("Office > Ports", "## Cables\n\nPort 21.", "## Cables\n\nPort 21."),
        ("Office > Ports", "Port 21.\n## Ports\nPort 22.", "Port 21.\n## Ports\nPort 22."),
        ("Office > Ports", "## Ports", "## Ports"),
    ],
)
def test_a_first_heading_that_the_title_path_repeats_is_left_out(heading: str, text: str, found: str) -> None:
    assert shown("port", ranked(text, headings=[heading]), **units_of(9)) == [found]


def test_a_sentence_that_matches_wins_over_a_passage_that_ranks_a_little_better() -> None:
    passages = ranked("The scanner hums.", "It rains. The printer listens on port 9100.", scores=[1.0, 0.8])
    assert shown("Where does the printer listen?", passages, **units_of(1))[0] == "The printer listens on port 9100."
    assert shown("Where is the kitchen?", passages, **units_of(1))[0] == "The scanner hums."


def test_a_heading_counts_as_words_of_its_passage() -> None:
    passages = ranked("It is 21.", "It is 9100.", headings=["Ports > Scanner", "Ports > Printer"])
    assert shown("Which port has the printer?", passages, **units_of(1)) == ["It is 9100.", "It is 21."]


def test_a_word_that_few_passages_hold_counts_more() -> None:
    passages = ranked("The printer hums.", "The printer is loud.", "Toner is dear.", "A printer.")
    assert shown("printer toner", passages, **units_of(1))[0] == "Toner is dear."


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        ("ports", "port"),
        ("service", "services"),
        ("policy", "policies"),
        ("release", "releases"),
        ("configure", "configured"),
        ("LISTENING", "listens"),
    ],
)
def test_a_word_matches_its_other_forms(asked: str, written: str) -> None:
    assert shown(f"which {asked}", ranked("Other things.", f"Here {written}."), **units_of(1))[0] == f"Here {written}."


def test_a_short_word_is_not_taken_for_a_form_of_another() -> None:
    assert shown("who used", ranked("For us.", "Once used."), **units_of(1))[0] == "Once used."


@pytest.mark.parametrize("scores", [(0.9, 0.1), (1e-9, -5.0), (0.0, -0.5), (-0.1, -0.9)])
def test_a_better_score_wins_where_nothing_else_differs(scores: tuple[float, float]) -> None:
    assert shown("port", ranked("First.", "Second.", scores=scores), **units_of(1)) == ["First.", "Second."]
    assert shown("port", ranked("First.", "Second.", scores=scores[::-1]), **units_of(1)) == ["Second.", "First."]


def test_an_endless_unit_is_cut_at_the_limit_between_two_words() -> None:
    text = "port 9100 " * 5000
    found = best_windows("port", ranked(text), characters, limit=18, most=1)[0].text
    assert 10 <= len(found) <= 18
    assert set(found.split()) == {"port", "9100"}
    assert best_windows("", ranked("x" * 5000), characters, limit=18, most=1)[0].text in {"x" * 17, "x" * 18}


@pytest.mark.parametrize("limit", [4, 5])
def test_an_endless_word_that_is_cut_to_a_word_of_the_question_is_shown_like_any_other(limit: int) -> None:
    (found,) = best_windows("port", ranked("portable" * 1000), characters, limit=limit, most=MANY)
    assert found.text == "portable"[: len(found.text)]


@pytest.mark.parametrize(
    ("number", "window"),
    [(1, None), (2, "Two three. Four."), (3, "Two three. Four. Five."), (9, "One. Two three. Four. Five.")],
)
def test_the_window_around_a_quote_grows_from_the_units_it_touches(number: int, window: str | None) -> None:
    passage = Passage("a.md", "A > B", "One. Two three. Four. Five.")
    place = passage.text.index("three"), passage.text.index("Four") + 4
    units = units_of(number)
    expected = None if window is None else Passage("a.md", "A > B", window)
    assert window_around(passage, *place, units["count"], units["limit"]) == expected
