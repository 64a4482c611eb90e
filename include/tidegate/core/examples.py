"""The values of a Q&A set: what a file states, what was found wrong with it, and what ties it to the documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from tidegate.core.canonical import digest_of

Split = Literal["train", "dev", "holdout"]
SPLITS: tuple[Split, ...] = ("train", "dev", "holdout")

GENERATED = "generated"
"""The tag of a draft that no person has reviewed; it enters no split unless ``qa.use_generated`` is set."""

ROW_RULES: Mapping[str, str] = {
    "schema": "a field is missing where it must not be, or has the wrong type",
    "question_missing": "the row has no question",
    "answer_missing": "an answerable row has no answer",
    "answer_unexpected": "an unanswerable row has an answer",
    "question_length": "the question has too few or too many of the base model's tokens",
    "answer_length": "the answer has too few or too many of the base model's tokens",
    "duplicate_id": "another row has the same id",
    "duplicate_question": "another row asks the same and has the same answer",
    "near_duplicate_question": "another row asks nearly the same",
    "conflicting_answers": "another row asks the same and has another answer",
    "evidence_missing": "an answerable row names no document",
    "document_missing": "the evidence names a document that is not in the snapshot",
    "document_ambiguous": "the evidence names a document by an ending that several share",
    "quote_missing": "the quote does not stand in its document",
    "section_missing": "the document has no such section",
    "answer_not_in_quote": "the answer does not stand in any of its quotes",
    "personal_data": "the row holds an e-mail address, a telephone, card, account or social security number",
    "secret": "the row holds a credential",
}
"""Why a row fails: rule and meaning. docs/qa.md has a line for each."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where an answer stands."""

    document: str
    """Corpus-relative path, or an ending of it that only one document has."""
    quote: str = ""
    section: str = ""
    """Heading of the section, as written or as an anchor (``the-heading``)."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a Q&A set, as its file states it."""

    id: str
    question: str
    answer: str
    evidence: tuple[Evidence, ...] = ()
    answerable: bool = True
    tags: tuple[str, ...] = ()
    author: str = ""
    reviewed_at: str = ""
    where: str = ""
    """File and line, for people; not part of what the row says."""
    problems: tuple[str, ...] = ()
    """What is wrong with the row's fields (rule ``schema``)."""

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what the row says."""
        values = self.as_json()
        del values["id"]
        return digest_of(values)

    @property
    def stated(self) -> str:
        """SHA-256 (hex) of what an adapter learns from the row: question, answer, and whether it has one."""
        return digest_of([self.question, self.answer, self.answerable])

    def as_json(self) -> dict[str, Any]:
        """Return the row as it is stored: what it says, without its place."""
        values = asdict(self)
        del values["where"], values["problems"]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Example:
        """Invert :meth:`as_json`; other keys are left out."""
        names = {field.name for field in fields(cls)}
        taken = {name: value for name, value in values.items() if name in names}
        evidence = tuple(
            Evidence(item["document"], item.get("quote") or "", item.get("section") or "")
            for item in taken.get("evidence", ())
        )
        return cls(**{**taken, "evidence": evidence, "tags": tuple(taken.get("tags", ())), "problems": ()})


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that one row breaks."""

    row: str
    where: str
    rule: str
    detail: str
