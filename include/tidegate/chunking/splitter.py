"""Split on structure: headings bound sections, blocks stay whole, and cuts are anchored in the content.

A section's blocks are packed up to ``max_tokens``. Where more than one chunk is needed, the cut falls before the block
with the smallest hash among those that leave the chunk at least half full: the choice depends on the blocks near the
cut and not on all that stands before it, so an inserted line moves few boundaries (content-defined chunking). Short
neighbouring sections share a chunk. No chunk exceeds the limit, the document's title included.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tidegate.core.documents import Block, ParsedDocument, Passage
from tidegate.core.protocols import Tokenizer

VERSION = "2"

_SENTENCE_END = re.compile(r"(?<=[.!?])[ \t]+")
_CONTEXT_SHARE = 4
"""The title may take at most a quarter of a chunk."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Chunk sizes in the embedder's tokens, special tokens left out."""

    max_tokens: int
    min_tokens: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """A block, or a part of one that is too long for a chunk."""

    text: str
    tokens: int
    page: int


@dataclass(frozen=True, slots=True)
class _Section:
    """Blocks from one heading to the next; the headings themselves are its first blocks."""

    path: tuple[str, ...]
    blocks: tuple[Block, ...]
    tokens: int


def split(document: ParsedDocument, tokenizer: Tokenizer, limits: Limits) -> list[Passage]:
    """Return the passages of a document in reading order; none embeds more than ``limits.max_tokens`` tokens."""
    context = tokenizer.cut(document.title, limits.max_tokens // _CONTEXT_SHARE)[0] if document.title else ""
    room = limits.max_tokens - (tokenizer.count([context])[0] if context else 0)
    passages = []
    for section in _join_short(list(_sections(document, tokenizer)), limits):
        for group in _pack(_pieces(section.blocks, tokenizer, room), room):
            text = "\n\n".join(piece.text for piece in group)
            passages.append(Passage(context, text, (" > ".join(section.path) + _pages(group)).strip()))
    if not passages and document.title:
        passages.append(Passage("", context, document.title))  # a page that is a title only can be found by it
    return passages


def _pages(group: Sequence[_Piece]) -> str:
    first, last = group[0].page, group[-1].page
    if not first:
        return ""
    return f" (page {first})" if first == last else f" (pages {first}-{last})"


def _sections(document: ParsedDocument, tokenizer: Tokenizer) -> Iterator[_Section]:
    """Cut at every heading that follows text; a first heading equal to the title is not repeated in the text."""
    stack: list[tuple[int, str]] = [(0, document.title)] if document.title else []
    blocks: list[Block] = []
    path: tuple[str, ...] = tuple(text for _, text in stack)
    tokens = 0
    has_body, is_first = False, True
    sizes = tokenizer.count([block.text for block in document.blocks])
    for block, size in zip(document.blocks, sizes, strict=True):
        if block.kind == "heading":
            if has_body:
                yield _Section(path, tuple(blocks), tokens)
                blocks, tokens, has_body = [], 0, False
            while len(stack) > 0 and stack[-1][0] >= block.level:
                stack.pop()
            is_title, is_first = is_first and block.text == document.title, False
            if not block.text or is_title:
                continue
            stack.append((block.level, block.text))
            blocks.append(Block("text", f"{'#' * block.level} {block.text}", page=block.page))
        else:
            blocks.append(block)
            has_body = True
        path = tuple(text for _, text in stack)
        tokens += size
    if blocks:
        yield _Section(path, tuple(blocks), tokens)


def _join_short(sections: Sequence[_Section], limits: Limits) -> Iterator[_Section]:
    """Join a section below ``min_tokens`` with those that follow while the sum stays small."""
    at = 0
    while at < len(sections):
        section = sections[at]
        at += 1
        while (
            at < len(sections)
            and section.tokens < limits.min_tokens
            and section.tokens + sections[at].tokens <= limits.max_tokens // 2
        ):
            section = _Section(section.path, section.blocks + sections[at].blocks, section.tokens + sections[at].tokens)
            at += 1
        yield section


def _pieces(blocks: Sequence[Block], tokenizer: Tokenizer, room: int) -> list[_Piece]:
    sizes = tokenizer.count([block.text for block in blocks])
    pieces: list[_Piece] = []
    for block, size in zip(blocks, sizes, strict=True):
        if size <= room:
            pieces.append(_Piece(block.text, size, block.page))
        else:
            parts = _break(block, tokenizer, room)
            pieces += [
                _Piece(part, count, block.page) for part, count in zip(parts, tokenizer.count(parts), strict=True)
            ]
    return pieces


def _break(block: Block, tokenizer: Tokenizer, room: int) -> list[str]:
    """Break a block that is too long: tables by row under their header, the rest by line, sentence, then token."""
    if block.kind == "table":
        header, rows = block.text.split("\n")[:2], block.text.split("\n")[2:]
        left = room - tokenizer.count(["\n".join(header)])[0]
        if left >= room // 2:
            return ["\n".join([*header, *group]) for group in _fill(rows, tokenizer, left)]
    separator = "\n"
    units = block.text.split("\n")
    if block.kind == "text":
        units = [sentence for line in units for sentence in _SENTENCE_END.split(line)]
        separator = "\n" if "\n" in block.text and len(block.text.split("\n")) > 2 else " "
    return [separator.join(group) for group in _fill(units, tokenizer, room)]


def _fill(units: Sequence[str], tokenizer: Tokenizer, room: int) -> Iterator[list[str]]:
    """Group consecutive units up to ``room`` tokens at content-anchored cuts; cut a unit that alone is too long."""
    fitting: list[_Piece] = []
    for unit, size in zip(units, tokenizer.count(units), strict=True):
        parts = [unit] if size <= room else tokenizer.cut(unit, room)
        sizes = [size] if size <= room else tokenizer.count(parts)
        fitting += [_Piece(part, count, 0) for part, count in zip(parts, sizes, strict=True)]
    for group in _pack(fitting, room):
        yield [piece.text for piece in group]


def _pack(pieces: Sequence[_Piece], room: int) -> Iterator[Sequence[_Piece]]:
    """Yield consecutive groups of at most ``room`` tokens, cut at the smallest hash in the second half of each."""
    start = 0
    while start < len(pieces):
        filled, end = 0, start
        candidates: list[int] = []
        while end < len(pieces) and filled + pieces[end].tokens <= room:
            filled += pieces[end].tokens
            end += 1
            if filled * 2 >= room:
                candidates.append(end)
        if end < len(pieces) and candidates:
            end = min(candidates, key=lambda cut: zlib.crc32(pieces[cut].text.encode()))
        end = max(end, start + 1)
        yield pieces[start:end]
        start = end
