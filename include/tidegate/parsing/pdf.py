"""PDF to paragraphs and headings with page numbers, by pdfminer.six. Runs in the sandbox: a file can be a bomb."""

from __future__ import annotations

import io
import itertools
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from pdfminer.high_level import extract_pages
from pdfminer.layout import LTChar, LTPage, LTTextBox, LTTextLine
from pdfminer.pdfdocument import PDFEncryptionError, PDFPasswordIncorrect

from tidegate.core.documents import Block, ParsedDocument, QuarantineError

VERSION = "1"

_HEADING_SCALE = 1.15
"""A line set this much larger than the body is a heading."""
_HEADING_MAX_CHARACTERS = 120
_FULL_LINE = 0.75
"""A line that fills this share of its box goes on in the next line."""


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    size: float
    page: int
    box: int
    full: bool


def parse_pdf(data: bytes) -> ParsedDocument:
    """Parse a PDF; raise ``QuarantineError`` ``encrypted`` or ``no_text``.

    A broken file raises whatever pdfminer trips over; the sandbox calls that ``corrupt``.
    """
    try:
        lines = [
            line for number, page in enumerate(extract_pages(io.BytesIO(data)), 1) for line in _lines(page, number)
        ]
    except (PDFPasswordIncorrect, PDFEncryptionError) as error:
        raise QuarantineError("encrypted") from error
    if not lines:
        raise QuarantineError("no_text", "no page holds text; a scan needs OCR before it can be indexed")
    blocks = tuple(_blocks(lines))
    headings = [block for block in blocks if block.kind == "heading"]
    return ParsedDocument(min(headings, key=lambda block: block.level).text if headings else "", blocks)


def _lines(page: LTPage, number: int) -> Iterator[_Line]:
    boxes = [element for element in page if isinstance(element, LTTextBox)]
    for at, box in enumerate(boxes):
        for line in box:
            text = " ".join(line.get_text().split()) if isinstance(line, LTTextLine) else ""
            if text:
                sizes = [char.size for char in line if isinstance(char, LTChar)]
                full = line.width >= _FULL_LINE * box.width
                yield _Line(
                    text, round(statistics.median(sizes), 1) if sizes else 0.0, number, number * 10_000 + at, full
                )


def _blocks(lines: list[_Line]) -> Iterator[Block]:
    body = statistics.median(size for line in lines for size in [line.size] * len(line.text))
    levels = sorted({line.size for line in lines if _is_heading(line, body)}, reverse=True)
    paragraph: list[_Line] = []
    for line in lines:
        heading = _is_heading(line, body)
        if paragraph and (heading or line.box != paragraph[-1].box):
            yield Block("text", _joined(paragraph), page=paragraph[0].page)
            paragraph = []
        if heading:
            yield Block("heading", line.text, level=levels.index(line.size) + 1, page=line.page)
        else:
            paragraph.append(line)
    if paragraph:
        yield Block("text", _joined(paragraph), page=paragraph[0].page)


def _is_heading(line: _Line, body: float) -> bool:
    return line.size >= _HEADING_SCALE * body and len(line.text) <= _HEADING_MAX_CHARACTERS


def _joined(lines: list[_Line]) -> str:
    text = lines[0].text
    for previous, line in itertools.pairwise(lines):
        text += (" " if previous.full else "\n") + line.text
    return text
