"""The demo handbook: enough pages of every kind, and questions whose evidence stands word for word in them."""

from __future__ import annotations

import json
import random
import re
import runpy
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup

from tests.conftest import ROOT
from tidegate.core.documents import ParsedDocument
from tidegate.parsing.front_matter import split_front_matter
from tidegate.parsing.parser import Parser, kind_of

DEMO = ROOT / "include" / "demo"
HANDBOOK = DEMO / "handbook"
PDF_SOURCES = DEMO / "pdf_sources"
UNANSWERABLE = {"near-miss", "off-topic"}
TYPES = {"guides": "guide", "incidents": "incident", "policies": "policy", "runbooks": "runbook"}
"""Document type of a folder, where it is not the folder's name."""


@cache
def pages() -> Mapping[str, ParsedDocument]:
    """Return every page as the index reads it."""
    parser, parsed = Parser(), {}
    try:
        for path in sorted(path for path in HANDBOOK.rglob("*") if path.is_file()):
            kind = kind_of(path.name)
            assert kind, f"{path} is of no kind that is indexed"
            parsed[path.relative_to(HANDBOOK).as_posix()] = parser.parse(kind, path.read_bytes())
    finally:
        parser.close()
    return parsed


@cache
def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DEMO / "qa.jsonl").read_text(encoding="utf-8").splitlines()]


def one_line(text: str) -> str:
    """Return a text without its line breaks: where a page breaks its lines is no part of what it says."""
    return " ".join(text.split())


def answerable() -> list[dict[str, Any]]:
    return [row for row in rows() if row["answerable"]]


def pdf_source(page: str) -> Path:
    return (PDF_SOURCES / page).with_suffix(".md")


def test_the_handbook_has_at_least_96_pages_in_three_formats() -> None:
    kinds = Counter(kind_of(page) for page in pages())
    assert kinds.total() >= 96
    assert kinds["markdown"] >= 80
    assert min(kinds["html"], kinds["pdf"]) >= 4
    assert kinds.keys() == {"markdown", "html", "pdf"}


def test_every_page_says_its_type_product_and_version() -> None:
    for page, parsed in pages().items():
        metadata = parsed.metadata
        if page.endswith(".pdf"):
            metadata, _ = split_front_matter(pdf_source(page).read_text(encoding="utf-8"))
        assert [key for key in ("doc_type", "product", "version") if not metadata.get(key)] == [], page
        folder = page.partition("/")[0]
        assert metadata["doc_type"] == TYPES.get(folder, folder), page


def test_there_are_at_least_950_questions_and_none_is_asked_twice() -> None:
    assert len(rows()) >= 950
    for key in ("id", "question"):
        values = Counter(" ".join(row[key].casefold().split()) for row in rows())
        assert [value for value, count in values.items() if count > 1] == []


def test_a_quarter_has_no_answer_most_of_it_nearly_and_a_quarter_of_it_about_something_else() -> None:
    kinds = Counter(kind for row in rows() if not row["answerable"] for kind in UNANSWERABLE & set(row["tags"]))
    without = [row for row in rows() if not row["answerable"]]
    assert kinds.total() == len(without) >= 0.25 * len(rows())
    assert kinds.keys() == UNANSWERABLE
    assert min(kinds.values()) >= 0.25 * len(without)
    for row in without:
        assert row["answer"] == ""
        # A near miss names the page where the answer would stand; what is about nothing here names none.
        expected = 1 if "near-miss" in row["tags"] else 0
        assert [set(item) for item in row["evidence"]] == [{"document"}] * expected, row["id"]
        assert all(item["document"] in pages() for item in row["evidence"]), row["id"]


def stands_in(item: Mapping[str, str]) -> bool:
    """Tell whether a quote stands in its page, and the section that is named is there."""
    blocks = pages()[item["document"]].blocks
    headings = {block.text for block in blocks if block.kind == "heading"}
    text = one_line(" ".join(block.text for block in blocks))
    return one_line(item["quote"]) in text and item["section"] in headings


@pytest.mark.parametrize("kind", ["markdown", "html", "pdf"])
def test_every_quote_stands_word_for_word_in_its_page(kind: str) -> None:
    evidence = [
        (row["id"], item) for row in answerable() for item in row["evidence"] if kind_of(item["document"]) == kind
    ]
    assert len(evidence) >= 30
    assert [f"{question}: {item['quote']}" for question, item in evidence if not stands_in(item)] == []


def test_every_answer_stands_in_a_quote() -> None:
    for row in answerable():
        assert not UNANSWERABLE & set(row["tags"]), row["id"]
        assert row["answer"].strip(), row["id"]
        assert any(row["answer"] in item["quote"] for item in row["evidence"]), row["id"]


def test_every_page_answers_questions_and_is_no_favourite() -> None:
    asked = Counter(item["document"] for row in answerable() for item in row["evidence"])
    assert asked.keys() == pages().keys()
    assert max(asked.values()) <= 14


@pytest.mark.parametrize("seed", range(5))
def test_a_third_of_the_pages_held_out_has_160_questions(seed: int) -> None:
    held = set(random.Random(seed).sample(sorted(pages()), len(pages()) // 3))
    about = [row for row in rows() if row["evidence"] and all(item["document"] in held for item in row["evidence"])]
    assert len(about) >= 160
    assert sum(row["answerable"] for row in about) >= 130


def test_the_pdfs_are_the_typeset_sources_byte_for_byte(tmp_path: Path) -> None:
    typeset = runpy.run_path(str(DEMO / "typeset.py"))["typeset"]
    printed = {page for page in pages() if page.endswith(".pdf")}
    assert {pdf_source(page) for page in printed} == set(PDF_SOURCES.rglob("*.md"))
    for page in printed:
        again = tmp_path / page
        typeset(pdf_source(page), again)
        assert again.read_bytes() == (HANDBOOK / page).read_bytes(), page


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings as Git hosts make them."""
    headings = (block.text.lower() for block in pages()[page].blocks if block.kind == "heading")
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


def links(page: str) -> Iterator[str]:
    """Yield the links in a page's content; a site's own navigation is not part of the handbook."""
    text = (HANDBOOK / page).read_text(encoding="utf-8")
    if page.endswith(".md"):
        prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
        yield from re.findall(r"\]\(([^)\s]+)\)", prose)
    else:
        body = BeautifulSoup(text, "html.parser").main
        assert body
        yield from (str(link["href"]) for link in body.find_all("a", href=True))


def test_every_link_leads_to_a_page_and_a_heading_that_exist() -> None:
    broken, followed = [], 0
    for page in (page for page in pages() if not page.endswith(".pdf")):
        for link in links(page):
            target, _, anchor = link.partition("#")
            path = (HANDBOOK / page).parent / target if target else HANDBOOK / page
            found = path.resolve().relative_to(HANDBOOK.resolve()).as_posix() if path.is_file() else ""
            if not found or (anchor and anchor not in anchors(found)):
                broken.append(f"{page}: {link}")
            followed += 1
    assert broken == []
    assert followed >= 50
