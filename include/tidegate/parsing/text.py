"""Plain text to paragraphs, and bytes to text for every textual format."""

from __future__ import annotations

import codecs
import re

from tidegate.core.documents import Block, ParsedDocument, QuarantineError

VERSION = "1"

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_PARAGRAPH = re.compile(r"\n(?:[ \t]*\n)+")


def decode(data: bytes, encoding: str = "utf-8") -> str:
    """Return the text of a document; a byte-order mark wins over ``encoding``.

    Raises ``QuarantineError``: ``not_text`` for binary data, ``bad_encoding`` with the offset of the first bad byte.
    """
    for bom, named in _BOMS:
        if data.startswith(bom):
            data, encoding = data[len(bom) :], named
            break
    else:
        if b"\0" in data:
            raise QuarantineError("not_text", f"NUL byte at offset {data.index(0)}")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise QuarantineError("bad_encoding", f"not {encoding} at offset {error.start}") from error


def parse_text(text: str) -> ParsedDocument:
    """Parse plain text: blank lines part paragraphs; there is no title."""
    normal = text.replace("\r\n", "\n").replace("\r", "\n")
    return ParsedDocument(
        "", tuple(Block("text", part) for part in _PARAGRAPH.split(normal.strip("\n")) if part.strip())
    )
