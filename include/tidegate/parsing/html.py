"""HTML to blocks by way of Markdown, navigation and scripts left out. Runs in the sandbox: nesting can be hostile."""

from __future__ import annotations

import re

from bs4 import BeautifulSoup, Tag
from bs4.dammit import EncodingDetector
from markdownify import MarkdownConverter

from tidegate.core.documents import ParsedDocument
from tidegate.parsing.markdown import first_heading, parse_blocks
from tidegate.parsing.text import decode

VERSION = "2"

_BOILERPLATE = ("title", "script", "style", "noscript", "template", "nav", "footer", "svg", "iframe")
_BODIES = ("main", "article")
_IGNORED_META = re.compile(r"^(viewport|robots|generator|theme-color|color-scheme|og:|twitter:)", re.IGNORECASE)


def parse_html(data: bytes) -> ParsedDocument:
    """Parse a page; ``<meta name content>`` becomes metadata, the one ``<main>`` or ``<article>`` is the body."""
    declared = EncodingDetector.find_declared_encoding(data, is_html=True)
    soup = BeautifulSoup(decode(data, declared or "utf-8"), "html.parser")
    metadata = {
        str(meta["name"]): str(meta["content"])
        for meta in soup.find_all("meta", attrs={"name": True, "content": True})
        if not _IGNORED_META.match(str(meta["name"]))
    }
    title = soup.title.get_text(strip=True) if soup.title else ""
    body = _body(soup)
    # An aside of the page is navigation, one inside the article is a note.
    for tag in soup([*_BOILERPLATE, *([] if body.name in _BODIES else ["aside"])]):
        tag.decompose()
    blocks = tuple(parse_blocks(_as_markdown(body)))
    return ParsedDocument(title or first_heading(blocks), blocks, metadata)


def _body(soup: BeautifulSoup) -> Tag:
    """Return the page's one main or article; of several none is the whole."""
    for name in _BODIES:
        found = soup.find_all(name)
        if len(found) == 1:
            return found[0]
    return soup.body or soup


class _Converter(MarkdownConverter):
    """Markdown whose code blocks are fenced by more backticks than they hold."""

    def convert_pre(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """Return preformatted text as a fenced block."""
        del el, parent_tags
        longest = max((len(run) for run in re.findall("`+", text)), default=0)
        fence = "`" * max(3, longest + 1)
        return f"\n\n{fence}\n{text}\n{fence}\n\n" if text else ""


def _as_markdown(body: Tag) -> str:
    converter = _Converter(
        heading_style="ATX",
        bullets="-",
        strip=["img"],
        escape_asterisks=False,
        escape_underscores=False,
        escape_misc=False,
    )
    return str(converter.convert_soup(body))
