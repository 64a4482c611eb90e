"""Markdown to blocks in one pass over the lines: headings, fenced code, tables and paragraphs, each whole.

Follows CommonMark where it matters for splitting (ATX and setext headings, fences of backticks or tildes that may be
indented); inline markup is kept as written, because people quote it and search for it. Every pattern is linear in the
length of a line: the text is not trusted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tidegate.core.documents import Block, ParsedDocument
from tidegate.parsing.fences import Fences
from tidegate.parsing.front_matter import split_front_matter

VERSION = "3"

_ATX = re.compile(r" {0,3}(#{1,6})(?![^ \t])")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_TABLE_RULE = re.compile(r"\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?$")


def parse_markdown(text: str) -> ParsedDocument:
    """Parse a Markdown text with optional front matter; the title is the front matter's, else the first heading."""
    metadata, body = split_front_matter(text.replace("\r\n", "\n").replace("\r", "\n"))
    blocks = tuple(parse_blocks("\n".join(_without_comments(body.split("\n")))))
    return ParsedDocument(title=metadata.get("title") or first_heading(blocks), blocks=blocks, metadata=metadata)


def first_heading(blocks: tuple[Block, ...]) -> str:
    """Return the text of the first heading, '' without one."""
    return next((block.text for block in blocks if block.kind == "heading" and block.text), "")


def parse_blocks(body: str) -> Iterator[Block]:
    """Yield the blocks of a body without front matter."""
    lines = body.split("\n")
    fences = Fences(lines)
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        block, at = _block_at(lines, at, fences)
        yield block


def _block_at(lines: list[str], at: int, fences: Fences) -> tuple[Block, int]:
    end = fences.end(at)
    if end:
        return Block("code", "\n".join(lines[at:end])), end
    heading = _ATX.match(lines[at])
    if heading:
        return Block("heading", _heading_text(lines[at][heading.end() :]), level=len(heading[1])), at + 1
    if _table_starts(lines, at):
        end = at + 2
        while end < len(lines) and "|" in lines[end]:
            end += 1
        return Block("table", "\n".join(lines[at:end])), end
    return _paragraph(lines, at, fences)


def _table_starts(lines: list[str], at: int) -> bool:
    rule = lines[at + 1].strip() if at + 1 < len(lines) and "|" in lines[at] else ""
    return "-" in rule and bool(_TABLE_RULE.match(rule))


def _paragraph(lines: list[str], at: int, fences: Fences) -> tuple[Block, int]:
    end = at + 1
    while end < len(lines) and lines[end].strip():
        underline = _SETEXT.match(lines[end])
        if underline and end == at + 1:
            return Block("heading", _heading_text(lines[at]), level=1 if underline[1][0] == "=" else 2), end + 1
        if _ATX.match(lines[end]) or fences.end(end) or _table_starts(lines, end):
            break
        end += 1
    return Block("text", "\n".join(lines[at:end])), end


def _heading_text(raw: str) -> str:
    """Return a heading without its closing hashes and without a ``{#anchor}`` of a documentation tool."""
    text = raw.strip()
    unclosed = text.rstrip("#")
    if unclosed != text and (not unclosed or unclosed[-1] in " \t"):
        text = unclosed.rstrip()
    anchor = text.rfind("{#") if text.endswith("}") else -1
    return text[:anchor].rstrip() if anchor >= 0 else text


def _without_comments(lines: list[str]) -> list[str]:
    """Remove HTML comments, but not from code; one that is never closed stays as text."""
    lines = list(lines)
    fences = Fences(lines)
    last = max((at for at, line in enumerate(lines) if "-->" in line), default=-1)
    kept: list[str] = []
    at = 0
    while at < len(lines):
        fenced = fences.end(at)
        start = -1 if fenced else _comment_start(lines[at])
        stop = _comment_stop(lines, at, start) if start >= 0 and at <= last else -1
        if stop < 0:
            kept += lines[at : fenced or at + 1]
            at = fenced or at + 1
        else:
            end = lines[stop].index("-->", start + 2 if stop == at else 0) + len("-->")
            lines[stop] = lines[at][:start] + lines[stop][end:]
            at = stop
    return kept


def _comment_start(line: str) -> int:
    """Return where a comment opens outside inline code, -1 if none does."""
    start = line.find("<!--")
    while start >= 0 and line.count("`", 0, start) % 2:
        start = line.find("<!--", start + 1)
    return start


def _comment_stop(lines: list[str], at: int, start: int) -> int:
    """Return the line on which the comment that opens at ``(at, start)`` ends, -1 if none."""
    if "-->" in lines[at][start + 2 :]:
        return at
    return next((stop for stop in range(at + 1, len(lines)) if "-->" in lines[stop]), -1)
