"""Texts and answers compared as words: what counts as a word, what holds what, and where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.answer_text import holds, locate, words_of

TEXTS = st.text("ab AzZ0159.,-_|`\n\u0130ßéЖ猫", max_size=40)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The port is 9100.", ["port", "is", "9100"]),
        ("  An `API-key`, **a** _must_!\n", ["api", "key", "must"]),
        ("| name | value |", ["name", "value"]),
        ("max_open_files", ["max", "open", "files"]),
        ("Zürich & МОСКВА & 東京", ["zürich", "москва", "東京"]),
        ("anthem theatre", ["anthem", "theatre"]),
        ("the", ["the"]),
        ("A", ["a"]),
        ("… — !", []),
        ("", []),
    ],
)
def test_words_are_lower_case_without_punctuation_markup_and_articles(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("text", "answer", "held"),
    [
        ("It listens on port 9100.", "9100", True),
        ("It listens on port 9100.", "Port: 9100", True),
        ("It listens on port 9100.", "listens on the port", True),
        ("It listens on port 9100.", "910", False),
        ("It listens on port 9100.", "listens 9100", False),
        ("It listens on port 9100.", "9100 port", False),
        ("at most 15 minutes", "5", False),
        ("at most 1.5 minutes", "5", False),
        ("at most 1.5 minutes", "1.5", True),
        ("at most 1.5 minutes, or 5", "5", True),
        ("version 3.11.2 or later", "3.11", False),
        ("it costs 1,000 euros", "1", False),
        ("it costs 1,000 euros.", "1,000", True),
        ("5, 10, 15", "10", True),
        ("| retries | `3` |", "3", True),
        ("the last three", "the last three", True),
        ("use grade A steel", "A", True),
        ("Café", "Cafe\u0301", True),
        ("anything", "", False),
        ("anything", "?!", False),
        ("", "9100", False),
    ],
)
def test_a_text_holds_an_answer_whose_words_stand_in_it_whole_and_in_a_row(text: str, answer: str, held: bool) -> None:
    assert holds(text, answer) is held
    assert (locate(text, answer) is not None) is held


@pytest.mark.parametrize(
    ("text", "quote", "found"),
    [
        ("Say: it listens on port **9100**.", "Listens on the port 9100!", "listens on port **9100"),
        ("9100, then 9100", "9100", "9100"),
        ("of the\n| table |", "of table", "of the\n| table"),
        ("in the end", "the end", "end"),
        ("\u0130stanbul has port 9100.", "port 9100", "port 9100"),  # İ is two characters in lower case
        ("\u0130\u0130\u0130 on", "on", "on"),
    ],
)
def test_a_quote_is_located_from_its_first_word_to_its_last(text: str, quote: str, found: str) -> None:
    place = locate(text, quote)
    assert place is not None
    assert text[slice(*place)] == found


def test_a_quote_is_located_where_it_stands_first() -> None:
    assert locate("a port, a port", "port") == (2, 6)


@given(TEXTS, TEXTS)
def test_a_quote_is_located_exactly_where_a_text_holds_it(text: str, quote: str) -> None:
    place = locate(text, quote)
    assert (place is not None) == holds(text, quote)
    if place:
        assert words_of(text[slice(*place)]) == words_of(quote)


@given(TEXTS, st.data())
def test_every_stretch_of_a_texts_words_is_held_by_it(text: str, data: st.DataObject) -> None:
    words = words_of(text)
    start = data.draw(st.integers(0, len(words)))
    end = data.draw(st.integers(start, len(words)))
    assert holds(text, " ".join(words[start:end])) is (end > start)


@given(TEXTS)
def test_words_of_words_are_the_same_words(text: str) -> None:
    assert words_of(" ".join(words_of(text))) == words_of(text)
