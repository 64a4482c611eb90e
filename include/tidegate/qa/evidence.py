"""Tie a row's evidence to a document, and tell later whether it still holds when the document has changed.

A quote is tied as the whole units that it stands in. A unit that was edited no longer proves the answer, although the
quote may still be a part of it; nor does one that now stands under another heading, or follows another introduction,
while the old heading or introduction is still there with something else. docs/qa.md describes the rules.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from tidegate.core.canonical import sha256_hex
from tidegate.core.examples import Evidence, Example
from tidegate.qa.passages import Passages, Unit, UnitKind, key_of, path_text, rendered, without_marks

AnchorKind = UnitKind | Literal["section", "document", "absence"]
Held = Literal["held", "reworded", "stale"]

_WORD = re.compile(r"[^\W_]+(?:[-_./:][^\W_]+)*")
_MIN_WORD = 3
_FUNCTION_WORDS = frozenset(
    """
    about after all also and any are been before being both but can did does done during each for from get had has
    have her his how its into just may might more most must not now off once one only other our out over own per
    same shall she should some such than that the their them then there these they this those through too under
    until use was were what when where which while who whom whose why will with would you your
    """.split()  # noqa: SIM905 - read as prose
)
"""English words that say nothing about what a text is about."""
_SHOWN = 2000
_BELOW = " > "


@dataclass(frozen=True, slots=True)
class Anchor:
    """What one piece of evidence rests on, taken from the document when the row was tied to it."""

    document: str
    """Key of the document, which survives moves."""
    path: str
    """Where the document was."""
    fingerprint: str
    """SHA-256 of the document's indexed bytes."""
    kind: AnchorKind
    units: tuple[str, ...] = ()
    """Texts of the units without white space; for a section or document one digest; for an absence the words."""
    heading: str = ""
    lead: str = ""
    passage: str = ""
    """The passage as it read, for review."""

    def as_json(self) -> dict[str, Any]:
        """Return the anchor as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Anchor:
        """Invert :meth:`as_json`."""
        return cls(**{**values, "units": tuple(values["units"])})


@dataclass(frozen=True, slots=True)
class Tied:
    """An anchor, or the rule that the evidence breaks."""

    anchor: Anchor | None
    rule: str = ""
    detail: str = ""


def tie(example: Example, evidence: Evidence, passages: Passages, *, key: str, path: str, fingerprint: str) -> Tied:
    """Tie one piece of a row's evidence to its document."""
    named = bool(evidence.section) and passages.has_headings  # what has none, a PDF, is looked at as a whole
    section = passages.section(evidence.section) if named else passages.units
    if not section and named:
        return Tied(None, "section_missing", f"{path} has no section {evidence.section!r}")

    def anchor(kind: AnchorKind, units: tuple[str, ...], at: Unit | None = None, passage: str = "") -> Tied:
        heading, lead = _around([at]) if at else ("", "")
        return Tied(Anchor(key, path, fingerprint, kind, units, heading, lead, passage[:_SHOWN]))

    if evidence.quote:
        run = _find_quote(example, evidence.quote, section, passages)
        if run is None:
            where = f"section {evidence.section!r} of {path}" if named else path
            return Tied(None, "quote_missing", f"not in {where}: {_short(evidence.quote)}")
        units = tuple(passages.key[unit.start : unit.end] for unit in run)
        return anchor(run[0].kind, units, run[0], _written(passages, run))
    if not example.answerable:
        return anchor("absence", tuple(sorted(_words(example.question) - _words(passages.text))))
    if named:
        return anchor("section", (_digest(passages, section),), section[0], _written(passages, section))
    return anchor("document", (_digest(passages, passages.units),))


def carry(anchor: Anchor, evidence: Evidence, path: str, fingerprint: str, passages: Passages) -> tuple[Held, Anchor]:
    """Return (whether an anchor still holds in a document that changed since, the anchor tied to it as it is now)."""
    now = replace(anchor, path=path, fingerprint=fingerprint)
    if anchor.kind == "absence":
        found = not anchor.units or set(anchor.units) & _words(passages.text)
        return ("stale", anchor) if found else ("held", now)
    if anchor.kind in ("document", "section"):
        units = passages.section(evidence.section) if anchor.kind == "section" else passages.units
        return ("held", now) if anchor.units == (_digest(passages, units),) else ("stale", anchor)
    runs = passages.whole_runs(anchor.kind, anchor.units)
    compared = [(_compare(anchor, run[0], passages), run) for run in runs]
    for wanted in ("held", "reworded"):
        for judged, run in compared:
            if judged == wanted:
                heading, lead = _around(run)
                return judged, replace(now, heading=heading, lead=lead, passage=_written(passages, run)[:_SHOWN])
    return "stale", anchor


def nearest_passage(anchor: Anchor, passages: Passages) -> str:
    """Return what a document says in an anchor's place: below its introduction, else what reads most like it."""
    from rapidfuzz import fuzz, process

    introduced = next((unit for unit in passages.units if anchor.lead and unit.lead == anchor.lead), None)
    if introduced:
        return passages.blocks[introduced.block].text[:_SHOWN]
    texts = [block.text for block in passages.blocks if block.kind != "heading"]
    best = process.extractOne(anchor.passage, texts, scorer=fuzz.token_sort_ratio, score_cutoff=30) if texts else None
    heading = key_of(rendered(anchor.heading.rpartition(_BELOW)[2]))
    return str(best[0] if best else passages.text_of(heading))[:_SHOWN]


def answer_in_quotes(example: Example) -> bool:
    """Tell whether an answer stands in one of its row's quotes; case and a closing full stop do not count."""
    quotes = [evidence.quote for evidence in example.evidence if evidence.quote]
    forms = {key_of(example.answer), key_of(rendered(example.answer))}
    wanted = {form.casefold().rstrip(".") for form in forms} - {""}
    texts = [form.casefold() for quote in quotes for form in (key_of(quote), key_of(rendered(quote)))]
    return not quotes or any(form in text for form in wanted for text in texts)


def _find_quote(example: Example, quote: str, section: Sequence[Unit], passages: Passages) -> list[Unit] | None:
    """Return the units that a quote stands in: whole ones before parts, those that the question names before others."""
    inside = {unit.start for unit in section}
    for key in dict.fromkeys((key_of(quote), key_of(rendered(quote)), key_of(rendered(without_marks(quote))))):
        found = [(passages.covering(at, at + len(key)), at) for at in passages.occurrences(key)]
        runs = [(run, at) for run, at in found if run and passages.unit_at(run[0].start).start in inside]
        if runs:
            asked = _words(example.question)
            return max(runs, key=lambda found: _rank(found[0], key, asked, passages, -found[1]))[0]
    return None


def _rank(run: Sequence[Unit], key: str, asked: set[str], passages: Passages, place: int) -> tuple[bool, int, int]:
    is_whole = passages.key_of(run) == key.strip("|")
    introduced = run[0].lead.casefold()
    return is_whole, sum(key_of(word) in introduced for word in asked), place


def _compare(anchor: Anchor, unit: Unit, passages: Passages) -> Held:
    """Judge one place where the quote stands whole, by what it stands in."""
    same_lead = unit.lead == anchor.lead
    heading = path_text(unit)
    if same_lead and heading == anchor.heading:
        return "held"
    if anchor.kind == "cell" and not same_lead:
        return "stale"  # a cell says nothing without its row and column
    lead_stands = not same_lead and bool(anchor.lead) and anchor.lead in passages.leads
    own, last = heading.rpartition(_BELOW)[2], anchor.heading.rpartition(_BELOW)[2]
    still_there = anchor.heading in passages.paths or (own != last and last in passages.headings)
    heading_stands = heading != anchor.heading and bool(anchor.heading) and still_there
    return "stale" if lead_stands or heading_stands else "reworded"


def _around(run: Sequence[Unit]) -> tuple[str, str]:
    """Return (heading, lead) of a run of units."""
    return path_text(run[0]), run[0].lead


def _written(passages: Passages, units: Sequence[Unit]) -> str:
    return "\n\n".join(passages.blocks[number].text for number in dict.fromkeys(unit.block for unit in units))


def _all_text(passages: Passages) -> str:
    return "\n".join([passages.title, *(block.text for block in passages.blocks)])


def _digest(passages: Passages, units: Sequence[Unit]) -> str:
    return sha256_hex("\n".join(passages.key[unit.start : unit.end] for unit in units).encode())


def _words(text: str) -> set[str]:
    return {word for word in _WORD.findall(text.casefold()) if len(word) >= _MIN_WORD} - _FUNCTION_WORDS


def _short(text: str, size: int = 120) -> str:
    return text if len(text) <= size else f"{text[:size]}…"
