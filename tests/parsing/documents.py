"""Documents made on the spot: PDFs of every kind that goes wrong."""

from __future__ import annotations

import io

from PIL import Image
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas


def text_pdf(*pages: list[tuple[int, str]]) -> bytes:
    """Return a PDF; each page is a list of (font size, line)."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=True)
    for lines in pages:
        y = 800
        for size, line in lines:
            y -= size + 8
            canvas.setFont("Helvetica", size)
            canvas.drawString(72, y, line)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def locked_pdf() -> bytes:
    """Return a PDF that needs a password."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, encrypt=StandardEncryption("user", "owner"))
    canvas.drawString(72, 700, "secret")
    canvas.save()
    return buffer.getvalue()


def scanned_pdf() -> bytes:
    """Return a PDF that holds a picture and no text."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=True)
    canvas.drawImage(ImageReader(Image.new("RGB", (40, 20), (200, 30, 30))), 72, 600)
    canvas.save()
    return buffer.getvalue()


def memory_bomb_pdf() -> bytes:
    """Return a small PDF whose content stream inflates to hundreds of megabytes of text operators."""
    import zlib

    stream = zlib.compress(b"BT /F1 12 Tf 72 700 Td " + b"(aaaaaaaaaaaaaaaa) Tj " * 6_000_000 + b"ET", 9)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
            b" /Resources << /Font << /F1 5 0 R >> >> >>"
        ),
        b"<< /Length " + str(len(stream)).encode() + b" /Filter /FlateDecode >>\nstream\n" + stream + b"\nendstream",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{offset:010} 00000 n \n".encode() for offset in offsets)
    out += f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)
