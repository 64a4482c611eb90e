"""One entry to all parsers: from a document's name and bytes to blocks, or the reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from tidegate.core.documents import ParsedDocument, QuarantineError
from tidegate.parsing import markdown, text
from tidegate.parsing.sandbox import Sandbox

KINDS: Mapping[str, str] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".mdx": "markdown",
    ".html": "html",
    ".htm": "html",
    ".pdf": "pdf",
    ".txt": "text",
    ".text": "text",
    ".rst": "text",
}
"""File suffix (lower case) to parser."""

VERSIONS: Mapping[str, str] = {
    "markdown": markdown.VERSION,
    "html": f"2.{markdown.VERSION}",
    "pdf": "1",
    "text": text.VERSION,
}
"""Raised whenever a parser's output changes, so that its documents are parsed again. html.py and pdf.py are not
imported here: only the sandbox loads them."""


def kind_of(document: str) -> str | None:
    """Return the parser for a document's name, None if its suffix is not one of :data:`KINDS`."""
    return KINDS.get(PurePosixPath(document).suffix.lower())


class Parser:
    """Parses documents of all kinds; HTML and PDF in the sandbox, which it starts when first needed."""

    def __init__(self, sandbox: Sandbox | None = None) -> None:
        self._sandbox = sandbox or Sandbox()

    def parse(self, kind: str, data: bytes) -> ParsedDocument:
        """Return the blocks of one document; raise ``QuarantineError`` with the reason if it cannot be indexed."""
        if not data:
            raise QuarantineError("empty")
        if kind == "markdown":
            parsed = markdown.parse_markdown(text.decode(data))
        elif kind == "text":
            parsed = text.parse_text(text.decode(data))
        else:
            parsed = self._sandbox.parse(kind, data)
        if not any(character.isalnum() for block in parsed.blocks for character in block.text):
            raise QuarantineError("no_text")
        return parsed

    def close(self) -> None:
        """Stop the sandbox's helper."""
        self._sandbox.close()
