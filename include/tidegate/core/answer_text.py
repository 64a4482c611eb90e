"""Answers compared as words: without case, punctuation, markup and articles (as SQuAD does, Rajpurkar et al. 2016).

A text holds an answer where the answer's words stand in it one after another, whole: ``5`` is not in ``15``, nor in
``1.5``, which is one word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_WORD = re.compile(r"\d+(?:[.,]\d+)+(?![^\W_])|[^\W_](?:[^\W_]|[\u0300-\u036f])*")
_ARTICLES = frozenset({"a", "an", "the"})


def words_of(text: str) -> list[str]:
    """Return the words of a text, lower case, without articles unless there is nothing else."""
    words = [_plain(word) for word in _WORD.findall(text)]
    return [word for word in words if word not in _ARTICLES] or words


def holds(text: str, answer: str) -> bool:
    """Tell whether a text holds an answer's words in a row; an answer without words is held by none."""
    return locate(text, answer) is not None


def locate(text: str, quote: str) -> tuple[int, int] | None:
    """Return where the words of a quote stand in a text (start and end), None if they do not."""
    wanted = words_of(quote)
    only_articles = _ARTICLES.issuperset(wanted)
    found = [
        (word, match) for match in _WORD.finditer(text) if (word := _plain(match[0])) not in _ARTICLES or only_articles
    ]
    at = _place([word for word, _ in found], wanted)
    return None if at is None else (found[at][1].start(), found[at + len(wanted) - 1][1].end())


def _plain(word: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", word).lower())


def _place(words: Sequence[str], wanted: Sequence[str]) -> int | None:
    """Return where one list of words stands in another, None if nowhere."""
    size = len(wanted)
    if not size:
        return None
    return next((at for at in range(len(words) - size + 1) if words[at : at + size] == wanted), None)
