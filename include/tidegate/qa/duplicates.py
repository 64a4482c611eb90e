"""Questions that ask the same in nearly the same words.

Two questions are near-duplicates if they differ only in case, punctuation, spacing, function words, inflection, the
place of one phrase, or one typing error. Any other word counts: another number, code, identifier, name, negation,
comparison or question word makes another question. A name in backticks, or before a colon at the start, is never
inflected or mistyped.

Order bears meaning: "Which service does A call?" has the words of "Which service calls A?". So a phrase may only stand
elsewhere as a rotation of the whole question ("Who pays in X?", "In X, who pays?"), or behind a preposition of its own
("How long in X does Y last?", "How long does Y last in X?"). So does voice: "Who is paged?" is not "Who pages?".

A typing error is one edit, or one swap of neighbours, in a word of at least six letters, where one of the two words
occurs, in any inflection, in no other question of the set. Two words of :data:`_REAL_WORDS` are two words.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′´", "'"),
        **dict.fromkeys("“”„‟″«»‹›", '"'),
        **dict.fromkeys("‐‑‒–−", "-"),
        **dict.fromkeys("—―", " - "),
        **dict.fromkeys("`\u00ad\u200b\u200c\u200d\u2060\ufeff", ""),
    }
)
_BEFORE, _AFTER = "\"'¿¡,;", "\"'?!.,;:"
"""Signs without meaning before and after a word."""

_DO = frozenset({"do", "does"})
_BE = frozenset({"is", "are", "am", "'s", "'re", "'m"})
_WEIGHTLESS = _DO | _BE | {"a", "an", "the", "please", "i", "we", "you", "my", "our", "your"}
"""Words that may be left out or added; "do" bears meaning at the end."""
_LIGHT = frozenset({"of", "for", "to"})
"""Words that may be left out or added, and say where a phrase starts."""
_PREPOSITIONS = frozenset(
    {
        *("after", "as", "at", "before", "by", "during", "for", "from", "if", "in", "into", "of", "on", "per", "since"),
        *("to", "under", "until", "via", "when", "while", "with", "within"),
    }
)
_CONTRACTION = re.compile(r"(?P<word>.+?)(?P<end>'(?:s|re|m|ll|ve)|n't)|(?P<can>can)not")
_ENDS = {"n't": "not", "'ll": "will", "'ve": "have", None: "not"}
_WORDS = {"ca": "can", "wo": "will"}

_CODE = re.compile(r"`([^`]+)`")
_MIN_MISTYPED = 6
_LETTERS = re.compile(rf"[a-zà-öø-ÿ]{{{_MIN_MISTYPED - 1},40}}")
_MAX_WORDS = 128
"""In a longer text, neither typing errors nor moved phrases are looked for: the work grows with its square."""

_REAL_WORDS = """
action auction adapt adopt advice advise affect effect attach attack back pack lock block look pick park mark market
patch match watch catch billion million trillion border order bought brought sought carrier barrier case cause clause
pause center enter chance change charge chapter charter compete complete compute complement compliment concept concert
convert consent content context contest contact contract contrast count mount county country counter create treat
defend depend deliver delivery deserve reserve preserve reverse designation resignation design resign detail retail
retain remain regain device devise discover discovery recover recovery earn learn warn east eastern either neither
elect select reject eject election selection emerge merge merger mission emission employed employee employer enable
unable expect expert export expensive extensive extend extent factor factory fail mail file fill bill kill formal
normal format former forth forty fourth function junction gender tender sender vendor render lender get set let hand
handle land head read lead load hear heat header reader leader holder older folder height weight eight eighth eighty
host post cost identify identity intention invention invent invest internal interval external eternal issue tissue
last list later latter layer lawyer player lower power make take mark manage manager master faster material maternal
motion notion nothing note vote office officer parent patent patient pass parse payee payer phase phrase place play
plan plant point print paint police policy portal postal prefer refer premise promise present prevent president
resident principal principle price prize produce product producer project protect protest promote prompt properly
property provide provider publish publisher public qualify quality range rank rate race receive receiver remote remove
report resort reporter resolution revolution rest test revise revive reward regard rise raise safely safety sample
simple score store share shape ship skip slip shop stop step send spend pend lend end series serve server seventh
seventy sign sing slowest lowest newest fewest stable table stage state stay start stream steam strike string strong
thread threat though thought through thorough trail trial train trainee trainer upload unload casual causal united
untied verse versus wait write withdraw withdrawn book cook
"""
"""Words of working life that are one edit from another of them."""


@dataclass(frozen=True, slots=True)
class _Question:
    """What a normalised question says."""

    words: tuple[str, ...]
    """Without the weightless ones."""
    stems: tuple[str, ...]
    content: tuple[str, ...]
    """Stems of the words that count, sorted."""
    said: frozenset[str]
    """Every word."""
    names: frozenset[str]
    passive: tuple[bool, frozenset[str]]
    """Whether it has a form of "be", and the stems of the words in "-ed"."""


def normalised(question: str) -> str:
    """Return a question without case, typographic signs, punctuation at the edges of words, and needless space."""
    text = unicodedata.normalize("NFKC", question.translate(_PLAIN))
    text = unicodedata.normalize("NFKC", text.casefold()).translate(_PLAIN)
    return " ".join(filter(None, map(_bare, text.split())))


def near_duplicates(questions: Sequence[str]) -> list[tuple[int, int]]:
    """Return the pairs (i < j) of questions that ask the same in nearly the same words, sorted.

    Of questions that are equal once normalised, each is paired with the first, and the first stands for them all.
    """
    places: dict[str, list[int]] = defaultdict(list)
    names: dict[str, set[str]] = defaultdict(set)
    for place, question in enumerate(questions):
        if text := normalised(question):
            places[text].append(place)
            names[text].update(_names(question))
    asked = [_parsed(text, frozenset(names[text])) for text in places]
    first = [group[0] for group in places.values()]
    pairs = {(group[0], copy) for group in places.values() for copy in group[1:]}
    alike = ((first[one], first[other]) for one, other in (*_reworded(asked), *_mistyped(asked)))
    return sorted(pairs | {(min(pair), max(pair)) for pair in alike})


def _bare(word: str) -> str:
    """Return a word without quotes, brackets and punctuation around it; '' if nothing else or only dashes are left."""
    whole = None
    while word != whole:
        whole, word = word, word.rstrip(_AFTER).lstrip(_BEFORE)
        for opening, closing in ("()", "[]", "**"):
            opens, closes = word.startswith(opening), word.endswith(closing)
            if opens and closes and len(word) > 1:
                word = word[1:-1]
            elif opens and closing not in word:
                word = word[1:]
            elif closes and opening not in word:
                word = word[:-1]
    return word if word.strip("-") else ""


def _names(question: str) -> Iterator[str]:
    """Yield the normalised words in backticks, and the one before a colon at the start."""
    first = question.split(maxsplit=1)[0]
    label = [first] if first.endswith(":") and normalised(first) != "please" else []
    for text in (*label, *_CODE.findall(question)):
        yield from normalised(text).split()


def _parsed(text: str, names: frozenset[str]) -> _Question:
    """Return what a normalised question says."""
    said = tuple(word for written in text.split() for word in _spelled_out(written))
    last = max((at for at, word in enumerate(said) if word != "please"), default=0)
    words = tuple(word for at, word in enumerate(said) if word not in _WEIGHTLESS or (at == last and word in _DO))
    stems = tuple(map(_stem, words))
    content = tuple(sorted(stem for stem in stems if stem not in _LIGHT))
    past = frozenset(stem for word, stem in zip(words, stems, strict=True) if word.endswith("ed"))
    return _Question(words, stems, content, frozenset(said), names, (not _BE.isdisjoint(said), past))


def _spelled_out(word: str) -> tuple[str, ...]:
    """Return the words of a contraction: "don't" is "do", "not"."""
    match = _CONTRACTION.fullmatch(word) if "'" in word or word == "cannot" else None
    if not match:
        return (word,)
    start, end = match["word"] or match["can"], match["end"]
    return (_WORDS.get(start, start), _ENDS.get(end, end))


_C, _V = "[^aeiou][^aeiouy]*", "[aeiouy][aeiou]*"
_VOWEL = re.compile(f"(?:{_C})?[aeiouy]")
_SYLLABLE = re.compile(f"(?:{_C})?{_V}{_C}")
_SYLLABLES = re.compile(f"(?:{_C})?{_V}{_C}{_V}{_C}")
_SHORT = re.compile(f"{_C}[aeiouy][^aeiouwxy]")


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    """Return an English word without its inflection: the steps 1 and 5 of Porter's algorithm."""
    if not (word.isascii() and word.isalpha() and len(word) > 2):
        return word
    word = _uninflected(_singular(word))
    if word.endswith("y") and _VOWEL.match(word[:-1]):
        return word[:-1] + "i"
    start = word[:-1]
    silent = _SYLLABLES.match(start) or (_SYLLABLE.match(start) and not _SHORT.fullmatch(start))
    if (word.endswith("e") and silent) or (word.endswith("ll") and _SYLLABLES.match(start)):
        return start
    return word


def _singular(word: str) -> str:
    """Return a word without the ending of a plural or of the third person."""
    if word.endswith(("sses", "ies")):
        return word[:-2]
    if word.endswith(("ss", "us")) or (word.endswith("is") and len(word) > 4):
        return word
    return word.removesuffix("s")


def _uninflected(word: str) -> str:
    """Return a word without "-ed" or "-ing", as it is spelled without it."""
    start = word.removesuffix("ing") if word.endswith("ing") else word.removesuffix("ed")
    if start == word or word.endswith("eed") or not _VOWEL.match(start):
        return word
    if _SHORT.fullmatch(start):
        return start + "e"
    doubled = start[-1:] == start[-2:-1] and start[-1] not in "aeioulsz"
    return start[:-1] if doubled else start


def _reworded(asked: Sequence[_Question]) -> Iterator[tuple[int, int]]:
    """Yield the pairs that have the same words that count."""
    alike: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, question in enumerate(asked):
        alike[question.content].append(number)
    for one, other in (pair for numbers in alike.values() for pair in combinations(numbers, 2)):
        if _may_be_same(asked[one], asked[other]) and _same_order(asked[one].stems, asked[other].stems):
            yield one, other


def _mistyped(asked: Sequence[_Question]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of which one has a typing error."""
    known = Counter(stem for question in asked for stem in set(question.stems))
    slots: dict[tuple[str, ...], list[_Place]] = defaultdict(list)
    for number, question in enumerate(asked):
        if len(question.words) > _MAX_WORDS:
            continue
        for at, (word, stem) in enumerate(zip(question.words, question.stems, strict=True)):
            if stem not in _LIGHT and _LETTERS.fullmatch(word):
                gap = question.content.index(stem)
                rest = question.content[:gap] + question.content[gap + 1 :]
                slots[rest].append(_Place(number, at, word, known[stem] == 1))
    for one, other in (pair for slot in slots.values() if len(slot) > 1 for pair in _one_edit_apart(slot)):
        first, second = asked[one.question], asked[other.question]
        if _may_be_same(first, second) and _same_order(_with_gap(first, one), _with_gap(second, other)):
            yield one.question, other.question


@dataclass(frozen=True, slots=True)
class _Place:
    """A word in a question."""

    question: int
    at: int
    word: str
    unknown: bool
    """Whether no other question has the word."""


def _one_edit_apart(slot: Sequence[_Place]) -> Iterator[tuple[_Place, _Place]]:
    """Yield the pairs of places whose words may be one word, mistyped once."""
    variants: dict[str, list[_Place]] = defaultdict(list)
    for place in slot:
        for variant in {place.word, *(place.word[:at] + place.word[at + 1 :] for at in range(len(place.word)))}:
            variants[variant].append(place)
    for one, other in (pair for places in variants.values() for pair in combinations(places, 2)):
        if one.question != other.question and (one.unknown or other.unknown) and _one_typo(one.word, other.word):
            yield one, other


def _one_typo(one: str, other: str) -> bool:
    """Tell whether one word may be the other, mistyped once."""
    short, long = sorted((one, other), key=len)
    if len(long) < _MIN_MISTYPED or len(long) - len(short) > 1 or _REAL_STEMS.issuperset((_stem(one), _stem(other))):
        return False
    at = next((at for at, (sign, wanted) in enumerate(zip(short, long, strict=False)) if sign != wanted), len(short))
    if len(short) < len(long):
        return short[at:] == long[at + 1 :]
    swapped = short[at : at + 2] == long[at : at + 2][::-1] and short[at + 2 :] == long[at + 2 :]
    return swapped or short[at + 1 :] == long[at + 1 :]


def _with_gap(question: _Question, place: _Place) -> tuple[str, ...]:
    """Return the stems of a question with a blank at a place."""
    return (*question.stems[: place.at], "", *question.stems[place.at + 1 :])


def _may_be_same(one: _Question, other: _Question) -> bool:
    """Tell whether each of two questions has the other's names as they are written, and its voice."""
    (be, past), (other_be, other_past) = one.passive, other.passive
    return one.names <= other.said and other.names <= one.said and (be == other_be or past == other_past)


def _same_order(one: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether two orders of the same words that count differ by the place of one phrase at most."""
    if [word for word in one if word not in _LIGHT] == [word for word in other if word not in _LIGHT]:
        return True
    if len(one) != len(other) or len(one) > _MAX_WORDS:
        return False
    differ = [at for at, (word, wanted) in enumerate(zip(one, other, strict=True)) if word != wanted]
    start, end = differ[0], differ[-1] + 1
    whole = end - start == len(one) > 2
    span, wanted_span = tuple(one[start:end]), tuple(other[start:end])
    for cut in range(1, len(span)):
        phrases = span[:cut], span[cut:]
        if phrases[1] + phrases[0] == wanted_span:
            return whole or any(len(phrase) > 1 and phrase[0] in _PREPOSITIONS for phrase in phrases)
    return False


_REAL_STEMS = frozenset(map(_stem, _REAL_WORDS.split()))
