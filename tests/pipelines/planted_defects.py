"""Twenty-five mistakes that people make in a Q&A set, planted in the demo's, and the findings that must name them.

The credential is put together from parts, so that no scanner takes this file for a leak.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SECRET = "sk" + "_live_" + "q7Zt2Xw9Lm4Kc8Vb1Nf6Rd3H"
E_MAIL = "maria.keller@tidewater-bikes.com"
CARD = "4539 1488 0343 6467"

Row = dict[str, Any]


@dataclass(frozen=True)
class Changed:
    """A row of the set that says something else."""

    row: str
    changes: Row
    rules: tuple[str, ...]


@dataclass(frozen=True)
class Added:
    """A row at the end of the set, made from another."""

    like: str
    changes: Row
    breaks: tuple[tuple[str, str], ...]
    """(row, rule) of all that it breaks."""


def evidence(document: str, quote: str, section: str = "") -> list[Row]:
    return [{"document": document, "section": section, "quote": quote}]


CHANGED = {
    "the question is null": Changed("hb-8901386f", {"question": None}, ("question_missing",)),
    "a word stands where a truth value belongs": Changed("hb-d52aba6f", {"answerable": "yes"}, ("schema",)),
    "an answerable row has no answer": Changed("hb-ecdd12e2", {"answer": ""}, ("answer_missing",)),
    "an unanswerable row has an answer": Changed("hb-ced331ba", {"answer": "20 tokens"}, ("answer_unexpected",)),
    "the question is a whole ticket": Changed(
        "hb-2d37484f",
        {"question": "A merchant writes: " + "the clock of server %d was off, and calls were refused; " * 20 + "why?"},
        ("question_length",),
    ),
    "the question is one word": Changed("hb-99cd4125", {"question": "Who"}, ("question_length",)),
    "the answer is a whole page": Changed(
        "hb-56224242",
        {
            "answer": "A key and its stored answer are kept. " * 80,
            "evidence": [{"document": "api/gangway-idempotency.html", "section": "How long we remember"}],
        },
        ("answer_length",),
    ),
    "an answerable row has no evidence": Changed("hb-5e049713", {"evidence": []}, ("evidence_missing",)),
    "the document has another extension": Changed(
        "hb-12dc599f",
        {"evidence": evidence("api/gangway-idempotency.md", "A key is between 16 and 96 characters long")},
        ("document_missing",),
    ),
    "two documents have the name": Changed(
        "hb-fc5de2e6",
        {"evidence": evidence("gangway.md", "replaced Portcullis, a heap of Lua inside a web server")},
        ("document_ambiguous",),
    ),
    "a word in the quote is altered": Changed(
        "hb-daff0cac",
        {
            "evidence": evidence(
                "api/ferrybox-webhook-endpoints.md",
                "| `disabled` | never | 4 days without a single success and at least 50 attempts |",
                "States",
            )
        },
        ("quote_missing",),
    ),
    "the quote stands in another document": Changed(
        "hb-f24c47dc",
        {"evidence": evidence("config/ferrybox.md", "A berth may have 12 endpoints in live mode.")},
        ("quote_missing",),
    ),
    "the quote stands in another section": Changed(
        "hb-87944b6d",
        {
            "evidence": evidence(
                "api/ferrybox-webhook-endpoints.md",
                "The endpoint has 10 seconds to answer 200 with the nonce as its plain-text body.",
                "States",
            )
        },
        ("quote_missing",),
    ),
    "the document has no such section": Changed(
        "hb-ec7d449e",
        {
            "evidence": evidence(
                "architecture/gangway.md", "Access logs are kept for 21 days, hashed bodies never.", "Retention"
            )
        },
        ("section_missing",),
    ),
    "the answer is not in its quote": Changed("hb-0cd4298a", {"answer": "six shards"}, ("answer_not_in_quote",)),
    "the question holds an e-mail address": Changed(
        "hb-4d9cac76",
        {"question": f"{E_MAIL} asks: up to how many seconds may gangway.spillway.hold_s be set?"},
        ("personal_data",),
    ),
    "the question holds a card number": Changed(
        "hb-c4e6417d",
        {"question": f"A payment with {CARD} got lost: how many partitions has the topic ferrybox.parcels?"},
        ("personal_data",),
    ),
    "the question holds a live key": Changed(
        "hb-244380ef",
        {"question": f"I set {SECRET} by hand with gangctl: when does my change lapse by itself?"},
        ("secret",),
    ),
}

ADDED = {
    "an id is used twice": Added(
        "hb-e2401031",
        {
            "question": "My computer was stolen in the office. Which extension do I phone?",
            "answer": "extension 5555",
        },
        (("hb-e2401031", "duplicate_id"),),
    ),
    "a row is copied": Added("hb-750500be", {"id": "copy"}, (("copy", "duplicate_question"),)),
    "a question differs in case and punctuation": Added(
        "hb-8d733c28",
        {"id": "case", "question": "how many exceptions from the Weekly Freeze did we allow in 2025"},
        (("case", "duplicate_question"),),
    ),
    "a question differs in an article": Added(
        "hb-b509a5d4",
        {"id": "article", "question": "How many wrong PIN tries lock the hardware security key?"},
        (("article", "near_duplicate_question"),),
    ),
    "a question differs in a typing error": Added(
        "hb-312dde60",
        {"id": "typo", "question": "How long does the hawser VPN stay conected?"},
        (("typo", "near_duplicate_question"),),
    ),
    "a question has another answer": Added(
        "hb-f57643c5",
        {"id": "conflict", "answer": "after 30 days"},
        (("conflict", "conflicting_answers"), ("hb-f57643c5", "conflicting_answers")),
    ),
    "a question is also called unanswerable": Added(
        "hb-3ec3701c",
        {"id": "unanswerable", "answer": "", "answerable": False},
        (("unanswerable", "conflicting_answers"), ("hb-3ec3701c", "conflicting_answers")),
    ),
}


def corrupted(rows: list[Row]) -> list[Row]:
    """Return a copy of the demo's rows with every defect in it."""
    changes = {defect.row: defect.changes for defect in CHANGED.values()}
    by_id = {row["id"]: row for row in rows}
    return [
        *({**row, **changes.get(row["id"], {})} for row in rows),
        *({**by_id[defect.like], **defect.changes} for defect in ADDED.values()),
    ]


def expected() -> list[tuple[str, str]]:
    """Return (row, rule) of everything that must be found, sorted."""
    changed = [(defect.row, rule) for defect in CHANGED.values() for rule in defect.rules]
    return sorted([*changed, *(found for defect in ADDED.values() for found in defect.breaks)])
