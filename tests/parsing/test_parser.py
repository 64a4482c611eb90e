import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parsing.documents import locked_pdf, memory_bomb_pdf, scanned_pdf, text_pdf
from tidegate.core.documents import Block, QuarantineError
from tidegate.parsing import sandbox
from tidegate.parsing.parser import Parser, kind_of
from tidegate.parsing.sandbox import Sandbox, SandboxLimits


@pytest.fixture(scope="module")
def parser() -> Iterator[Parser]:
    parser = Parser(Sandbox(SandboxLimits(memory_bytes=600 << 20, cpu_seconds=10, wall_seconds=20)))
    yield parser
    parser.close()


def refused(parser: Parser, kind: str, data: bytes) -> str:
    with pytest.raises(QuarantineError) as caught:
        parser.parse(kind, data)
    return caught.value.reason


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.md", "markdown"),
        ("A.MDX", "markdown"),
        ("b/c.Html", "html"),
        ("x.pdf", "pdf"),
        ("x.rst", "text"),
        ("x.png", None),
    ],
)
def test_the_suffix_tells_the_parser(name: str, kind: str | None) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        ("markdown", b"", "empty"),
        ("markdown", bytes(range(256)), "not_text"),
        ("markdown", "naïve".encode("latin-1"), "bad_encoding"),
        ("markdown", b"---\ntitle: only front matter\n---\n", "no_text"),
        ("markdown", b"***\n\n---\n", "no_text"),
        ("text", b"\n \n", "no_text"),
        ("html", b"<html><script>var x = 1</script></html>", "no_text"),
        ("pdf", b"%PDF-1.4 nothing of the sort", "corrupt"),
        ("pdf", b"plain text", "corrupt"),
        ("pdf", text_pdf([(11, "hello")])[:300], "corrupt"),
        ("pdf", locked_pdf(), "encrypted"),
        ("pdf", scanned_pdf(), "no_text"),
    ],
)
def test_a_document_that_cannot_be_indexed_has_a_reason(parser: Parser, kind: str, data: bytes, reason: str) -> None:
    assert refused(parser, kind, data) == reason


def test_byte_order_marks_are_understood(parser: Parser) -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        assert parser.parse("markdown", "# Größe".encode(encoding)).title == "Größe"


def test_plain_text_is_cut_at_blank_lines(parser: Parser) -> None:
    parsed = parser.parse("text", b"one\ntwo\n\n \nthree\n")
    assert parsed.title == ""
    assert [block.text for block in parsed.blocks] == ["one\ntwo", "three"]


def test_html_keeps_structure_and_drops_boilerplate(parser: Parser) -> None:
    page = b"""<!doctype html><html><head><title>Limits</title><meta name="doc_type" content="api">
      <meta name="viewport" content="x"><style>p{}</style></head><body><nav>Menu</nav><h1>Limits</h1><p>At most
      <b>40</b> calls.</p><pre><code>curl -X POST /v1_x</code></pre>
      <table><tr><th>code</th><th>meaning</th></tr><tr><td>GWY-1</td><td>slow_down</td></tr></table>
      <footer>Impressum</footer></body></html>"""
    parsed = parser.parse("html", page)
    assert parsed.title == "Limits"
    assert parsed.metadata == {"doc_type": "api"}
    assert [block.kind for block in parsed.blocks] == ["heading", "text", "code", "table"]
    text = "\n".join(block.text for block in parsed.blocks)
    assert "curl -X POST /v1_x" in text
    assert "| GWY-1 | slow_down |" in text
    assert "At most **40** calls." in " ".join(text.split())
    assert "Menu" not in text
    assert "Impressum" not in text


def test_html_in_its_declared_encoding(parser: Parser) -> None:
    page = '<meta charset="iso-8859-1"><title>T</title><p>Größe'.encode("latin-1")
    assert parser.parse("html", page).blocks[0].text == "Größe"
    assert refused(parser, "html", page.replace(b"iso-8859-1", b"utf-8")) == "bad_encoding"


def test_html_nested_beyond_reason_is_too_complex(parser: Parser) -> None:
    assert refused(parser, "html", b"<div>" * 50_000 + b"x") == "too_complex"


def test_pdf_lines_become_headings_and_paragraphs_with_pages(parser: Parser) -> None:
    parsed = parser.parse(
        "pdf", text_pdf([(20, "Payouts"), (11, "Leave at noon.")], [(14, "Refunds"), (11, "Take a day.")])
    )
    assert parsed.title == "Payouts"
    assert parsed.blocks == (
        Block("heading", "Payouts", level=1, page=1),
        Block("text", "Leave at noon.", page=1),
        Block("heading", "Refunds", level=2, page=2),
        Block("text", "Take a day.", page=2),
    )


def test_a_bomb_costs_only_its_own_process_and_the_next_document_is_parsed(parser: Parser) -> None:
    bomb = memory_bomb_pdf()
    assert len(bomb) < 1_000_000
    assert refused(parser, "pdf", bomb) == "too_complex"
    assert parser.parse("pdf", text_pdf([(11, "still here")])).blocks[0].text == "still here"


def test_time_is_limited_by_the_clock_as_well() -> None:
    with Sandbox(SandboxLimits(wall_seconds=1)) as box:
        with pytest.raises(QuarantineError) as caught:
            box.parse("pdf", memory_bomb_pdf())
        assert caught.value.reason == "too_complex"


ROOMY = SandboxLimits(memory_bytes=1 << 40)
"""For a child of the test's own process, whose address space may be large already."""


def test_a_child_that_is_slow_to_leave_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a child may be stopped between its answer and its exit: the answer counts."""
    leave = os._exit
    monkeypatch.setattr(sandbox.os, "_exit", lambda code: (time.sleep(0.3), leave(code)))
    assert json.loads(sandbox._in_child("html", b"<title>T</title><p>x", ROOMY))["title"] == "T"


def test_a_child_killed_for_memory_from_outside_gets_a_second_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, outcome = tmp_path / "tried", sandbox._outcome

    def killed_once(kind: str, data: bytes) -> bytes:
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), 9)
        return outcome(kind, data)

    monkeypatch.setattr(sandbox, "_outcome", killed_once)
    assert json.loads(sandbox._in_child("html", b"<title>T</title><p>x", ROOMY))["title"] == "T"


def test_processor_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    def forever(kind: str, data: bytes) -> bytes:
        while True:
            pass

    monkeypatch.setattr(sandbox, "_outcome", forever)
    assert (
        json.loads(sandbox._in_child("html", b"x", SandboxLimits(memory_bytes=ROOMY.memory_bytes, cpu_seconds=1)))[
            "reason"
        ]
        == "too_complex"
    )


def test_a_helper_that_was_killed_is_replaced() -> None:
    with Sandbox() as sandbox:
        assert sandbox.parse("html", b"<p>one").blocks[0].text == "one"
        os.kill(sandbox._helper.pid, 9)
        sandbox._helper.wait()
        assert sandbox.parse("html", b"<p>two").blocks[0].text == "two"


def test_the_child_sees_no_token_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    with Sandbox() as sandbox:
        sandbox.parse("html", b"<p>one")
        environment = Path(f"/proc/{sandbox._helper.pid}/environ").read_bytes()
    assert b"SECRET_TOKEN" not in environment


@pytest.mark.parametrize(
    ("page", "kept"),
    [
        ("<body><article>one</article><article><h1>Two</h1><p>three</p></article></body>", "one three"),
        ("<main><p>text</p><aside class=note>a note</aside></main><aside>gone</aside>", "text note"),
        ("<body><p>text</p><aside>gone</aside></body>", "text"),
        ("<body><div>gone</div><article>text</article></body>", "text"),
    ],
)
def test_the_body_of_a_page_is_its_one_main_or_article(parser: Parser, page: str, kept: str) -> None:
    text = " ".join(block.text for block in parser.parse("html", page.encode()).blocks)
    assert [word for word in kept.split() if word not in text] == []
    assert "gone" not in text


def test_preformatted_text_that_holds_a_fence_stays_one_code_block(parser: Parser) -> None:
    page = b"<p>before</p><pre>```\n# no heading\n```\n\n# no heading either</pre><p>after</p>"
    blocks = parser.parse("html", page).blocks
    assert [block.kind for block in blocks] == ["text", "code", "text"]
    assert "# no heading either" in blocks[1].text
