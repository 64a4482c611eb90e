import time

import pytest

from tidegate.core.documents import Block
from tidegate.parsing.markdown import parse_markdown


def kinds(text: str) -> list[tuple[str, str]]:
    return [(block.kind, block.text) for block in parse_markdown(text).blocks]


def test_headings_paragraphs_code_and_tables_are_whole_blocks() -> None:
    text = "# Title #\n\nA line\nand another.\n\nSetext\n===\n\nSub\n---\n\n"
    text += "```python\n# no heading\n\nx = 1\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\nafter"
    assert parse_markdown(text).blocks == (
        Block("heading", "Title", level=1),
        Block("text", "A line\nand another."),
        Block("heading", "Setext", level=1),
        Block("heading", "Sub", level=2),
        Block("code", "```python\n# no heading\n\nx = 1\n```"),
        Block("table", "| a | b |\n|---|---|\n| 1 | 2 |"),
        Block("text", "after"),
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("# A {#anchor}", ("heading", "A")),
        ("#not a heading", ("text", "#not a heading")),
        ("####### seven", ("text", "####### seven")),
        ("    # indented code", ("text", "    # indented code")),
        ("## C# and F#", ("heading", "C# and F#")),
        ("##", ("heading", "")),
        ("a | b", ("text", "a | b")),
        ("- item\n- item", ("text", "- item\n- item")),
    ],
)
def test_what_is_and_what_is_not_a_heading(line: str, expected: tuple[str, str]) -> None:
    assert kinds(line) == [expected]


def test_a_fence_of_other_length_or_character_does_not_close() -> None:
    assert kinds("````\n```\n~~~\n````\nafter") == [("code", "````\n```\n~~~\n````"), ("text", "after")]
    assert kinds("~~~ text\n```\n~~~") == [("code", "~~~ text\n```\n~~~")]


def test_a_fence_in_a_list_or_quote_is_code() -> None:
    assert kinds("- ```\n  code\n  ```")[0][0] == "code"
    assert kinds("> ```\n> code\n> ```")[0][0] == "code"


def test_one_lost_fence_does_not_turn_the_rest_of_the_page_into_code() -> None:
    whole = "```sh\none\n```\n\n## A\n\ntext\n\n```sh\ntwo\n```\n\n## B\n"
    broken = whole.replace("one\n```\n", "one\n", 1)
    assert [text for kind, text in kinds(broken) if kind == "heading"] == ["A", "B"]
    assert ("code", "```sh\ntwo\n```") in kinds(broken)
    assert kinds("```\nnever closed\n# still a heading")[-1] == ("heading", "still a heading")


def test_fences_that_pair_up_are_read_as_they_stand_however_blank_lines_fall() -> None:
    text = "before\n```\ncode\n\n```\nafter\n```\nmore\n\n```\n## End\n"
    assert [(block.kind, block.text) for block in parse_markdown(text).blocks] == [
        ("text", "before"),
        ("code", "```\ncode\n\n```"),
        ("text", "after"),
        ("code", "```\nmore\n\n```"),
        ("heading", "End"),
    ]


def test_a_lost_fence_changes_nothing_beyond_its_section_where_blank_lines_mislead() -> None:
    section = "## {0}\n\ntext {0}\n```\ncode {0}\n\n```\nafter {0}\n\n"
    whole = "".join(section.format(name) for name in "abc")
    before = [(block.kind, block.text) for block in parse_markdown(whole).blocks]
    damaged = parse_markdown(whole.replace("```\ncode b", "code b")).blocks
    changed = [block.text for block in damaged if (block.kind, block.text) not in before]
    assert changed == ["text b\ncode b", "```\nafter b"]


@pytest.mark.parametrize("lost", [2, 4, 10, 12])
def test_a_lost_fence_without_a_language_changes_only_its_own_block(lost: int) -> None:
    """Opening and closing fences look alike; where they stand tells them apart."""
    lines = ["# A", "", "```", "one", "```", "", "## B", "", "text", "", "```", "# two", "```", "", "## C", "", "end"]
    whole = kinds("\n".join(lines))
    assert whole[1] == ("code", "```\none\n```")
    assert whole[4] == ("code", "```\n# two\n```")
    del lines[lost]
    broken = kinds("\n".join(lines))
    other = 4 if lost < 6 else 1
    assert whole[other] in broken
    assert [block for block in broken if block in whole and block[0] != "code"] == [
        ("heading", "A"),
        ("heading", "B"),
        ("text", "text"),
        ("heading", "C"),
        ("text", "end"),
    ]


def test_comments_are_removed_and_an_open_one_is_text() -> None:
    assert kinds("a <!-- b\nc --> d") == [("text", "a  d")]
    assert kinds("a <!-- b") == [("text", "a <!-- b")]


def test_the_title_is_the_front_matters_else_the_first_heading() -> None:
    assert parse_markdown("---\ntitle: From front matter\n---\n# Heading").title == "From front matter"
    assert parse_markdown("text\n\n## First\n\n# Second").title == "First"
    assert parse_markdown("no heading").title == ""


def test_windows_line_ends_change_nothing() -> None:
    text = "---\ntitle: T\n---\n# A\n\ntext\n"
    assert parse_markdown(text.replace("\n", "\r\n")) == parse_markdown(text)


@pytest.mark.parametrize(
    "hostile",
    [
        "# a" + " " * 400_000 + "b",
        "<!--" * 100_000,
        "```" + " " * 400_000 + "`",
        "|" + "-" * 400_000 + "x",
        "a|b\n" + "|-" * 200_000 + "x",
        "# {#" + "{#" * 200_000 + "}",
        "\n".join("`" * n for n in range(1000, 3, -1)),
        "> " * 200_000,
    ],
    ids=range(8),
)
def test_hostile_lines_are_parsed_in_linear_time(hostile: str) -> None:
    started = time.process_time()
    parse_markdown(hostile)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Use `<!--` to open.\n\nkept\n\n```mermaid\nA --> B\n```", ["kept", "A --> B", "Use `<!--` to open."]),
        ("```html\n<!-- kept -->\n```\n\nend", ["<!-- kept -->", "end"]),
        ("a `x` <!-- gone --> kept", ["a `x`  kept"]),
        ("<!--> kept", ["kept"]),
        ("one <!-- gone --> two <!-- gone\ngone --> three", ["one  two  three"]),
    ],
)
def test_comments_go_and_code_that_shows_one_stays(text: str, kept: list[str]) -> None:
    found = "\n".join(block for _, block in kinds(text))
    assert [part for part in kept if part not in found] == []
    assert "gone" not in found
