import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import WordTokenizer
from tidegate.chunking import splitter
from tidegate.chunking.splitter import Limits, split
from tidegate.core.documents import Block, ParsedDocument, Passage, embedded_text
from tidegate.parsing.markdown import parse_markdown

LIMITS = Limits(max_tokens=40, min_tokens=8)


def passages(text: str, limits: Limits = LIMITS) -> list[Passage]:
    return split(parse_markdown(text), WordTokenizer(), limits)


def words(count: int, start: int = 0) -> str:
    return " ".join(f"w{number}" for number in range(start, start + count))


def test_a_heading_starts_a_chunk_and_stands_in_its_text() -> None:
    text = f"# Title\n\n{words(20)}\n\n## Part\n\n{words(20, 100)}"
    assert passages(text) == [
        Passage("Title", words(20), "Title"),
        Passage("Title", f"## Part\n\n{words(20, 100)}", "Title > Part"),
    ]


def test_headings_without_text_of_their_own_go_with_the_next() -> None:
    found = passages(f"# T\n\n## A\n\n### B\n\n{words(20)}")
    assert [(item.text, item.heading) for item in found] == [(f"## A\n\n### B\n\n{words(20)}", "T > A > B")]


def test_a_passage_of_a_paged_document_names_its_pages() -> None:
    blocks = tuple(Block("text", words(25, 100 * page), page=page) for page in (1, 1, 2, 3))
    short = (Block("text", "end", page=3), Block("text", "of it", page=4))
    found = split(ParsedDocument("T", blocks + short), WordTokenizer(), LIMITS)
    assert [item.heading for item in found] == ["T (page 1)", "T (page 1)", "T (page 2)", "T (pages 3-4)"]


def test_short_sections_share_a_chunk() -> None:
    found = passages("# T\n\n## A\n\none two\n\n## B\n\nthree four\n\n## C\n\n" + words(25))
    assert [item.text for item in found] == ["## A\n\none two\n\n## B\n\nthree four", f"## C\n\n{words(25)}"]


def test_code_and_tables_stay_whole_if_they_fit() -> None:
    code = "```\n" + "\n".join(f"line {number}" for number in range(12)) + "\n```"
    found = passages(f"# T\n\n{words(25)}\n\n{code}")
    assert [item.text for item in found] == [words(25), code]


def test_a_long_table_is_cut_between_rows_and_each_part_keeps_the_header() -> None:
    rows = [f"| {number} | meaning of {number} |" for number in range(30)]
    found = passages("# T\n\n| code | meaning |\n|---|---|\n" + "\n".join(rows))
    assert len(found) > 3
    assert all(item.text.startswith("| code | meaning |\n|---|---|\n") for item in found)
    assert [row for item in found for row in item.text.split("\n")[2:]] == rows


def test_a_long_paragraph_is_cut_between_sentences_and_an_endless_sentence_anywhere() -> None:
    sentences = [f"Sentence {number} has exactly six words." for number in range(20)]
    found = passages("# T\n\n" + " ".join(sentences))
    assert [item.text.count("Sentence") == len(item.text.split()) / 6 for item in found] == [True] * len(found)
    assert " ".join(item.text for item in found) == " ".join(sentences)
    endless = passages("# T\n\n" + words(200))
    assert " ".join(" ".join(item.text for item in endless).split()) == words(200)


def test_an_empty_heading_path_has_no_context() -> None:
    assert passages(words(5)) == [Passage("", words(5), "")]


MARKDOWN = st.lists(
    st.one_of(
        st.integers(1, 60).map(words),
        st.tuples(st.integers(1, 4), st.integers(1, 3)).map(lambda pair: f"{'#' * pair[0]} {words(pair[1], 900)}"),
        st.integers(1, 30).map(lambda n: "```\n" + "\n".join(words(3, at) for at in range(n)) + "\n```"),
        st.integers(1, 30).map(lambda n: "| a | b |\n|---|---|\n" + "\n".join(f"| {at} | x |" for at in range(n))),
        st.text(st.characters(codec="utf-8"), max_size=200),
    ),
    max_size=12,
).map("\n\n".join)


@settings(max_examples=300, deadline=None)
@given(MARKDOWN)
def test_no_chunk_is_too_long_and_no_word_is_lost(text: str) -> None:
    tokenizer = WordTokenizer()
    document = parse_markdown(text)
    found = split(document, tokenizer, LIMITS)
    assert all(tokenizer.count([embedded_text(item.context, item.text)])[0] <= LIMITS.max_tokens for item in found)
    kept = {word for item in found for word in f"{item.context} {item.text}".split()}
    given_words = {word for block in document.blocks for word in block.text.split()}
    title = set(document.title.split())
    assert given_words - kept - title == set()


def churn(seed: int, rounds: int) -> float:
    """Return how many chunks an inserted line changes in a long section, on average."""
    generator = random.Random(seed)
    changed = []
    for _ in range(rounds):
        lines = [words(generator.randint(3, 15), generator.randrange(10_000)) for _ in range(60)]
        before = {item.chunk_id for item in passages("# T\n\n" + "\n\n".join(lines))}
        lines.insert(generator.randrange(60), "an inserted line")
        changed.append(len({item.chunk_id for item in passages("# T\n\n" + "\n\n".join(lines))} - before))
    return sum(changed) / len(changed)


def test_cuts_are_anchored_in_the_content(monkeypatch: pytest.MonkeyPatch) -> None:
    """An inserted line moves fewer cuts than filling chunks from the start would."""
    anchored = churn(7, 200)
    monkeypatch.setattr(splitter, "_pack", filled_from_the_start)
    assert anchored <= 0.8 * churn(7, 200)


def filled_from_the_start(pieces: list, room: int) -> Iterator[list]:
    group: list = []
    for piece in pieces:
        if group and sum(item.tokens for item in group) + piece.tokens > room:
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


@pytest.mark.parametrize("size", [1, 39, 40, 41, 400])
def test_any_length_of_one_line_is_kept(size: int) -> None:
    found = passages(words(size))
    assert " ".join(" ".join(item.text for item in found).split()) == words(size)


def test_a_page_that_is_a_title_only_can_be_found_by_it() -> None:
    assert passages("# Only Title\n") == [Passage("", "Only Title", "Only Title")]


def test_a_later_heading_equal_to_the_title_is_a_heading() -> None:
    found = passages(f"# A\n\n## Setup\n\n{words(20)}\n\n## A\n\n{words(20, 100)}")
    assert [item.heading for item in found] == ["A > Setup", "A > A"]
    assert found[1].text.startswith("## A\n\n")
