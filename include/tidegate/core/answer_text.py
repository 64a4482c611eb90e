"""Answers compared as words: without case, punctuation, markup and articles (as SQuAD does, Rajpurkar et al. 2016).

A text holds an answer where the answer's words stand in it one after another, whole: ``5`` is not in ``15``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+")
_ARTICLES = frozenset({"a", "an", "the"})


def words_of(text: str) -> list[str]:
    """Return the words of a text, lower case, without articles unless there is nothing else."""
    words = _WORD.findall(text.lower())
    return [word for word in words if word not in _ARTICLES] or words


def holds(text: str, answer: str) -> bool:
    """Tell whether a text holds an answer's words in a row; an answer without words is held by none."""
    return _place(words_of(text), words_of(answer)) is not None


def locate(text: str, quote: str) -> tuple[int, int] | None:
    """Return where the words of a quote stand in a text (start and end), None if they do not."""
    found = [match for match in _WORD.finditer(text.lower()) if match[0] not in _ARTICLES]
    wanted = [word for word in _WORD.findall(quote.lower()) if word not in _ARTICLES]
    at = _place([match[0] for match in found], wanted)
    return None if at is None else (found[at].start(), found[at + len(wanted) - 1].end())


def _place(words: Sequence[str], wanted: Sequence[str]) -> int | None:
    """Return where one list of words stands in another, None if nowhere."""
    size = len(wanted)
    if not size:
        return None
    return next((at for at in range(len(words) - size + 1) if words[at : at + size] == wanted), None)
