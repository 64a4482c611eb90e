"""Typeset the PDF pages of the demo handbook from ``pdf_sources/``: `python include/demo/typeset.py` (needs reportlab).

The PDFs are committed; the same source always gives the same bytes, which a test checks.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.platypus import Flowable, Paragraph, Preformatted, SimpleDocTemplate, Spacer

HERE = Path(__file__).parent

_BODY = ParagraphStyle("body", fontName="Helvetica", fontSize=10, leading=13.5, spaceAfter=7)
_ITEM = ParagraphStyle("item", parent=_BODY, leftIndent=14, bulletIndent=4, spaceAfter=3)
_CODE = ParagraphStyle("code", fontName="Courier", fontSize=8, leading=10.5, spaceAfter=8, leftIndent=8)
_HEADINGS = {
    level: ParagraphStyle(
        f"h{level}", fontName="Helvetica-Bold", fontSize=size, leading=size * 1.25, spaceBefore=8, spaceAfter=6
    )
    for level, size in ((1, 19), (2, 14), (3, 12))
}


def flowables(source: str) -> list[Flowable]:
    """Return the page's content; headings, paragraphs, bullet items, table rows (one line each) and code."""
    body = source.split("\n---\n", 1)[1] if source.startswith("---\n") else source
    content: list[Flowable] = []
    code: list[str] | None = None
    for line in body.split("\n"):
        if line.startswith("```"):
            if code is not None:
                content.append(Preformatted("\n".join(code), _CODE))
            code = [] if code is None else None
        elif code is not None:
            code.append(line)
        elif line.strip():
            content.append(_flowable(line))
    return [item for item in content if item is not None]


def _flowable(line: str) -> Flowable:
    if line.startswith("#"):
        hashes, _, text = line.partition(" ")
        return Paragraph(escape(text), _HEADINGS[len(hashes)])
    if line.startswith("- "):
        return Paragraph(escape(line[2:]), _ITEM, bulletText="\u2022")
    if line.startswith("|"):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if all(set(cell) <= set("-: ") for cell in cells):
            return Spacer(1, 2)
        return Paragraph(escape(" | ".join(cells)), _ITEM)
    return Paragraph(escape(line), _BODY)


def typeset(source: Path, target: Path) -> None:
    """Write one PDF; no time stamp and no random id goes into it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    document = SimpleDocTemplate(
        str(target), pagesize=A4, invariant=True, title=source.stem, author="Brackwater Payments"
    )
    document.build(flowables(source.read_text(encoding="utf-8")))


def main() -> None:
    """Typeset every source into the handbook."""
    for source in sorted((HERE / "pdf_sources").rglob("*.md")):
        target = HERE / "handbook" / source.relative_to(HERE / "pdf_sources").with_suffix(".pdf")
        typeset(source, target)
        sys.stdout.write(f"{target.relative_to(HERE)}\n")


if __name__ == "__main__":
    main()
