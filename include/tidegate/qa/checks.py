"""What is wrong with each row, as columns for Great Expectations, and the rules over rows and over the whole set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tidegate.core.config import QaConfig
from tidegate.core.examples import ROW_RULES, SPLITS, Example, Finding, Split
from tidegate.qa.dataset import Row
from tidegate.qa.duplicates import normalised
from tidegate.qa.evidence import answer_in_quotes
from tidegate.qa.expectations import Outcome, Rule
from tidegate.qa.passages import key_of
from tidegate.qa.sensitive import find_personal_data, find_secret
from tidegate.qa.splits import shared_between_splits

VERSION = "1"
"""Part of a dataset's settings: another version judges every row anew."""

_MIN_QUESTION_TOKENS = 2
_SHOWN = 60
_UNREADABLE = "(unreadable)"
_HIDDEN = "(hidden: it holds a secret or personal data)"
_COUNTED = ("question_missing", "question_length", "answer_length")
"""Rules over a value; every other rule has a column of its own that says what is wrong."""
_EVIDENCE_RULES = ("document_missing", "document_ambiguous", "quote_missing", "section_missing")

Columns = dict[str, list[object]]


def row_rules(settings: QaConfig) -> list[Rule]:
    """Return the rules over rows."""
    return [
        Rule("question_missing", "question", "present"),
        Rule("question_length", "question_tokens", "between", _MIN_QUESTION_TOKENS, settings.max_question_tokens),
        Rule("answer_length", "answer_tokens", "between", 1, settings.max_answer_tokens),
        *(Rule(name, name, "absent") for name in ROW_RULES if name not in _COUNTED),
    ]


def row_columns(
    rows: Sequence[Row],
    tokens: Sequence[tuple[int, int]],
    alike: Iterable[tuple[int, int]],
    known: Collection[tuple[str, str]],
    settings: QaConfig,
    *,
    aside: Mapping[str, str] | None = None,
) -> Columns:
    """Return a column per fact or rule, each as long as ``rows``.

    ``tokens`` are those of question and answer; ``alike`` the pairs of rows that ask nearly the same; ``known`` the
    (id, digest) of rows that the last dataset used: of two copies, the newcomer fails. ``aside`` are
    rows that are not judged, id to place: stale ones, which keep their ids.
    """
    examples = [row.example for row in rows]
    columns: Columns = {
        "row": [f"{example.id} ({example.where})" for example in examples],
        "question": [example.question or (_UNREADABLE if example.problems else None) for example in examples],
        "question_tokens": [count if example.question else None for example, (count, _) in _with(examples, tokens)],
        "answer_tokens": [count if example.answer else None for example, (_, count) in _with(examples, tokens)],
        "schema": ["; ".join(example.problems) or None for example in examples],
        "answer_missing": [_missing(example, example.answer, "no answer") for example in examples],
        "answer_unexpected": [
            f"answerable is false, but the answer is {_short(example.answer)}"
            if example.answer and not example.answerable
            else None
            for example in examples
        ],
        "evidence_missing": [_missing(example, example.evidence, "no evidence") for example in examples],
        "answer_not_in_quote": [_unsupported(example, settings) for example in examples],
        "personal_data": [_first(find_personal_data, example) for example in examples],
        "secret": [_first(find_secret, example) for example in examples],
        "duplicate_id": _duplicate_ids(examples, known, aside or {}),
    }
    for rule in _EVIDENCE_RULES:
        columns[rule] = [_masked("; ".join(detail for name, detail in row.broken if name == rule)) for row in rows]
    return columns | _question_columns(examples, alike, known)


def named(columns: Columns, rules: Sequence[Rule]) -> Columns:
    """Return columns in which what is wrong with a row names the row, for people who read it in Data Docs."""
    told = {rule.column for rule in rules if rule.kind == "absent"}
    return {
        name: [f"{row}: {value}" if value else None for row, value in zip(columns["row"], values, strict=True)]
        if name in told
        else values
        for name, values in columns.items()
    }


def findings(
    rows: Sequence[Row], columns: Mapping[str, Sequence[object]], rules: Sequence[Rule], outcome: Outcome
) -> list[Finding]:
    """Return a finding for every row that Great Expectations reports, with what its column says of it."""
    found = []
    for rule in rules:
        for number in outcome.failed.get(rule.name, ()):
            value = columns[rule.column][number]
            if rule.kind == "between":
                detail = f"{value} tokens; {rule.low:g} to {rule.high:g} are allowed"
            else:
                detail = "no question" if value is None else str(value)
            found.append(Finding(rows[number].id, rows[number].example.where, rule.name, detail))
    return found


@dataclass(frozen=True, slots=True)
class SetFacts:
    """What the rules over the whole set judge."""

    rows: int
    """Valid rows."""
    judged: int
    failed: int
    unanswerable: int
    largest_tag: tuple[str, int]
    """The tag that most valid rows have."""
    shared_documents: int
    """Documents in two splits."""
    shared_questions: int
    """Pairs of near-duplicate questions in two splits."""

    def columns(self) -> Columns:
        """Return one row of columns."""
        return {
            "rows": [self.rows],
            "failed_share": [self.failed / self.judged if self.judged else 0.0],
            "unanswerable_share": [self.unanswerable / self.rows if self.rows else 0.0],
            "tag_share": [self.largest_tag[1] / self.rows if self.rows else 0.0],
            "shared_documents": [self.shared_documents],
            "shared_questions": [self.shared_questions],
        }


SET_RULES: Mapping[str, str] = {
    "rows": "qa.min_rows",
    "failed_share": "qa.max_failed_share",
    "unanswerable_share": "qa.min_unanswerable_share and qa.max_unanswerable_share",
    "tag_share": "qa.max_tag_share",
    "shared_documents": "no document may be in two splits",
    "shared_questions": "no near-duplicate question may be in two splits",
}
"""Rules over the whole set, and what sets their limits."""


def set_rules(settings: QaConfig) -> list[Rule]:
    """Return the rules over the whole set."""
    return [
        Rule("rows", "rows", "between", low=settings.min_rows),
        Rule("failed_share", "failed_share", "between", high=settings.max_failed_share),
        Rule(
            "unanswerable_share",
            "unanswerable_share",
            "between",
            settings.min_unanswerable_share,
            settings.max_unanswerable_share,
        ),
        Rule("tag_share", "tag_share", "between", high=settings.max_tag_share),
        Rule("shared_documents", "shared_documents", "between", high=0),
        Rule("shared_questions", "shared_questions", "between", high=0),
    ]


def set_facts(
    valid: Sequence[Row], splits: Mapping[str, Split], judged: int, failed: int, alike: Iterable[tuple[str, str]]
) -> SetFacts:
    """Count what the rules over the whole set judge; ``alike`` are pairs of row ids."""
    tags = Counter(tag for row in valid for tag in dict.fromkeys(row.example.tags))
    pairs = [(one, other) for one, other in alike if {one, other} <= splits.keys()]
    return SetFacts(
        rows=len(valid),
        judged=judged,
        failed=failed,
        unanswerable=sum(not row.example.answerable for row in valid),
        largest_tag=max(tags.items(), key=lambda item: (item[1], item[0]), default=("", 0)),
        shared_documents=len(shared_between_splits({row.id: row.documents for row in valid}, splits)),
        shared_questions=sum(splits[one] != splits[other] for one, other in pairs),
    )


def split_table(valid: Sequence[Row], splits: Mapping[str, Split]) -> dict[str, dict[str, int]]:
    """Return rows, documents and unanswerable rows of each split."""
    return {
        name: {
            "rows": len(inside := [row for row in valid if splits[row.id] == name]),
            "documents": len({document for row in inside for document in row.documents}),
            "unanswerable": sum(not row.example.answerable for row in inside),
        }
        for name in SPLITS
    }


def _question_columns(
    examples: Sequence[Example], alike: Iterable[tuple[int, int]], known: Collection[tuple[str, str]]
) -> Columns:
    """Return the columns of rows that ask the same: a conflict fails all of them, a copy only the newcomer."""
    columns: Columns = {
        name: [None] * len(examples)
        for name in ("duplicate_question", "near_duplicate_question", "conflicting_answers")
    }
    for group in _groups(alike):
        first, *others = sorted(group, key=lambda at: (_which(examples[at]) not in known, at))
        answers = {at: key_of(examples[at].answer).casefold() if examples[at].answerable else None for at in group}
        for at in group if len(set(answers.values())) > 1 else ():
            against = next(other for other in (first, *others) if answers[other] != answers[at])
            said = _short(examples[against].answer) if examples[against].answerable else "that there is no answer"
            columns["conflicting_answers"][at] = f"{_place(examples[against])} says {said}"
        leaders: dict[str | None, int] = {}
        for at in (first, *others):
            leader = examples[leaders.setdefault(answers[at], at)]
            if leader is not examples[at]:
                exact = normalised(examples[at].question) == normalised(leader.question)
                columns["duplicate_question" if exact else "near_duplicate_question"][at] = f"as {_place(leader)}"
    return columns


def _groups(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the sets of rows that pairs connect, each in order."""
    group_of: dict[int, list[int]] = {}
    for one, other in pairs:
        left, right = group_of.setdefault(one, [one]), group_of.setdefault(other, [other])
        if left is not right:
            small, large = sorted((left, right), key=len)
            large += small
            group_of.update(dict.fromkeys(small, large))
    return [sorted(group) for group in {id(group): group for group in group_of.values()}.values()]


def _duplicate_ids(
    examples: Sequence[Example], known: Collection[tuple[str, str]], aside: Mapping[str, str]
) -> list[object]:
    first: dict[str, Example] = {}
    for at in sorted(range(len(examples)), key=lambda at: (_which(examples[at]) not in known, at)):
        first.setdefault(examples[at].id, examples[at])
    column: list[object] = []
    for example in examples:
        is_first = first[example.id] is example and example.id not in aside
        place = aside.get(example.id) or first[example.id].where
        column.append(None if is_first else f"{example.id} is also at {place}")
    return column


def _which(example: Example) -> tuple[str, str]:
    return example.id, example.digest


def _unsupported(example: Example, settings: QaConfig) -> str | None:
    applies = settings.extractive and example.answerable and example.answer
    return f"not in a quote: {_short(example.answer)}" if applies and not answer_in_quotes(example) else None


def _first(find: Callable[[str], str | None], example: Example) -> str | None:
    texts = (example.question, example.answer, *(evidence.quote for evidence in example.evidence))
    return next((found for text in texts if text and (found := find(text))), None)


def _with(examples: Sequence[Example], tokens: Sequence[tuple[int, int]]) -> Iterable[tuple[Example, tuple[int, int]]]:
    return zip(examples, tokens, strict=True)


def _missing(example: Example, field: object, detail: str) -> str | None:
    """Return a detail if an answerable row lacks a field, unless one could not be read: that is said already."""
    return detail if example.answerable and not field and not example.problems else None


def _place(example: Example) -> str:
    return f"{example.id} ({example.where})"


def _masked(detail: str) -> str | None:
    """Return a detail that may stand in a log, None for none."""
    return _HIDDEN if detail and (find_secret(detail) or find_personal_data(detail)) else detail or None


def _short(text: str) -> str:
    if find_secret(text) or find_personal_data(text):
        return _HIDDEN
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
