"""Evidence under any edit: edits elsewhere never make a quote stale, an edit of the quote's own unit always does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tidegate.core.examples import Evidence, Example
from tidegate.parsing.markdown import parse_blocks
from tidegate.qa.evidence import carry, tie
from tidegate.qa.passages import Passages

KEEPS_INTRODUCTION = frozenset({"code", "line", "table"})
"""Kinds after which a line that ends in a colon still introduces what follows."""
TYPED = "abcxyzABCXYZ0123456789.,;!?%&=+/"


@dataclass(frozen=True, eq=False)
class Piece:
    """A block of Markdown and the units that it holds, as they are written."""

    kind: str
    text: str
    quotes: tuple[str, ...]


def piece(kind: str, number: int, size: int) -> Piece:
    """Return a block whose words occur in no block with another number."""
    parts = [f"a{number}x{part}z b{number}x{part}z" for part in range(size)]
    sentences = [f"{part} ends." for part in parts]
    rows = [f"| {part} | c{number}x{at}z |" for at, part in enumerate(parts)]
    cells = [cell.strip() for row in rows for cell in row.strip("|").split("|")]
    text, quotes = {
        "heading": (f"## {parts[0]}", parts[:1]),
        "introduction": (f"{parts[0]}:", [f"{parts[0]}:"]),
        "text": (" ".join(sentences), sentences),
        "wrapped": ("\n".join(sentences), sentences),
        "list": ("\n".join(f"- {part}" for part in parts), parts),
        "code": ("\n".join(["```", *parts, "```"]), parts),
        "line": (f"`{parts[0]}`", parts[:1]),
        "span": (f"Use `{parts[0]}` now.", parts[:1]),
        "table": ("\n".join(["| Name | Size |", "|---|---|", *rows]), cells),
    }[kind]
    return Piece(kind, text, tuple(quotes))


KINDS = ("heading", "introduction", "text", "wrapped", "list", "code", "line", "span", "table")
SHAPES = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 3)), min_size=1, max_size=9)
DOCUMENTS = SHAPES.map(lambda shapes: [piece(kind, number, size) for number, (kind, size) in enumerate(shapes)])


def read(pieces: list[Piece]) -> Passages:
    return Passages("Title", tuple(parse_blocks("\n\n".join(item.text for item in pieces))))


def judge(old: list[Piece], new: list[Piece], quote: str) -> str:
    evidence = Evidence("d.md", quote)
    example = Example("r", "Which one?", "this", (evidence,))
    anchor = tie(example, evidence, read(old), key="k", path="d.md", fingerprint="f1").anchor
    assert anchor is not None
    return carry(anchor, evidence, "d.md", "f2", read(new))[0]


def heading_of(pieces: list[Piece], at: int) -> int | None:
    """Return where the heading stands that a block stands under, or is."""
    return next((place for place in range(at, -1, -1) if pieces[place].kind == "heading"), None)


def introduction_of(pieces: list[Piece], at: int) -> int | None:
    """Return where the line stands that introduces a block."""
    if pieces[at].kind == "heading":
        return None
    before = (place for place in range(at - 1, -1, -1) if pieces[place].kind not in KEEPS_INTRODUCTION)
    nearest = next(before, None)
    return nearest if nearest is not None and pieces[nearest].kind == "introduction" else None


def is_harmless(pieces: list[Piece], own: Piece, change: str, at: int, new: Piece) -> bool:
    """Tell whether a change leaves a block, its heading and its introduction as they are, and next to each other."""
    place = pieces.index(own)
    heading, introduction = heading_of(pieces, place), introduction_of(pieces, place)
    if change in ("delete", "replace") and at in (place, heading, introduction):
        return False
    if change == "delete":
        return True
    first = at if change == "replace" else at - 1  # the last block that stays in front
    if introduction is not None and introduction <= first < place:
        return False
    return not (new.kind == "heading" and heading is not None and heading <= first < place)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), pieces=DOCUMENTS)
def test_changes_elsewhere_never_make_a_quote_stale(data: Any, pieces: list[Piece]) -> None:
    own = data.draw(st.sampled_from(pieces))
    quote = data.draw(st.sampled_from(own.quotes))
    new = list(pieces)
    for number in range(data.draw(st.integers(1, 6))):
        change = data.draw(st.sampled_from(["insert", "copy", "replace", "delete"]))
        at = data.draw(st.integers(0, len(new) - (change in ("replace", "delete"))))
        other = piece(data.draw(st.sampled_from(KINDS)), 100 + number, data.draw(st.integers(1, 3)))
        if change == "copy":
            copied = data.draw(st.sampled_from(pieces))
            other = Piece(copied.kind, copied.text, copied.quotes)
        if is_harmless(new, own, change, at, other):
            new[at : at + (change in ("replace", "delete"))] = [] if change == "delete" else [other]
    assert judge(pieces, new, quote) in ("held", "reworded")


@settings(max_examples=200, deadline=None)
@given(data=st.data(), pieces=DOCUMENTS, is_copied=st.booleans())
def test_any_edit_of_its_unit_makes_a_quote_stale_unless_the_unit_stands_elsewhere(
    data: Any, pieces: list[Piece], is_copied: bool
) -> None:
    at = data.draw(st.integers(0, len(pieces) - 1))
    own = pieces[at]
    quote = data.draw(st.sampled_from(own.quotes))
    place = own.text.index(quote) + data.draw(st.integers(0, len(quote) - 1).filter(lambda at: quote[at] != " "))
    typed, removed = data.draw(st.sampled_from(["", *TYPED])), data.draw(st.integers(0, 1))
    edited = own.text[:place] + typed + own.text[place + removed :]
    assume(edited != own.text)
    new = [*pieces[:at], Piece(own.kind, edited, ()), *pieces[at + 1 :]]
    heading, introduction = heading_of(pieces, at), introduction_of(pieces, at)
    if is_copied:
        copies = [pieces[place] for place in (heading, introduction, at) if place is not None]
        copies = copies[1:] if own.kind == "heading" else copies
        new = [*new, *copies] if heading is not None else [*copies, *new]
    assert judge(pieces, new, quote) == ("held" if is_copied else "stale")
