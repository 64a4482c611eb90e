"""Passages: what the units of a document are, what introduces them, and which quotes stand in it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import WordTokenizer
from tidegate.chunking.splitter import Limits, split
from tidegate.core.documents import Block
from tidegate.core.examples import Evidence, Example
from tidegate.parsing.markdown import parse_blocks, parse_markdown
from tidegate.qa.evidence import Tied, tie
from tidegate.qa.passages import Passages, anchor_of, key_of, rendered

PRICES = """\
| Plan | Price per month | Seats |
|:-----|----------------:|-------|
| Basic | 10 € | 1 |
| Pro Plus | **20 €** | `5` |"""

NESTED = """\
Before all.

## Install

Take care.

### On Linux

Use apt.

### On `macOS`

Use brew.

## Re-move it!

Use rm."""


def read(text: str, title: str = "Guide") -> Passages:
    return Passages(title, tuple(parse_blocks(text)))


def units(text: str) -> list[tuple[str, str]]:
    """Return (kind, key) of every unit."""
    passages = read(text)
    return [(unit.kind, passages.key_of([unit])) for unit in passages.units]


def look_up(passages: Passages, quote: str, section: str = "") -> Tied:
    evidence = Evidence("d.md", quote, section)
    example = Example("r", "Which one?", "this", (evidence,))
    return tie(example, evidence, passages, key="k", path="d.md", fingerprint="f")


def found(passages: Passages, quote: str, section: str = "") -> tuple[str, ...] | None:
    """Return the units that a quote stands in, None if it stands nowhere."""
    tied = look_up(passages, quote, section)
    return tied.anchor.units if tied.anchor else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One two. Three\nfour? Five!", [("text", "Onetwo."), ("text", "Threefour?"), ("text", "Five!")]),
        ("Use v1.5 of a.b now. No end", [("text", "Usev1.5ofa.bnow."), ("text", "Noend")]),
        ("Run `a. b` now. Go.", [("text", "Runa.bnow."), ("text", "Go.")]),
        ("- one\n- two\n  goes on\n* three", [("text", "one"), ("text", "twogoeson"), ("text", "three")]),
        ("1. one\n2. two 3. three\n3) four", [("text", "one"), ("text", "two3."), ("text", "three"), ("text", "four")]),
        ("> said\n> twice", [("text", "saidtwice")]),
        ("```sh\ngit pull\n\n  make all\n```", [("code", "gitpull"), ("code", "makeall")]),
        ("~~~\nx = `y`\n~~~", [("code", "x=y")]),
        ("`git pull`", [("code", "gitpull")]),
        ("- `git pull`\n- ``a `b` c``", [("code", "gitpull"), ("code", "abc")]),
        ("Run `git pull` daily.", [("text", "Rungitpulldaily.")]),
        ("## Set **it** up\n\nDone.", [("text", "Setitup"), ("text", "Done.")]),
        ("| a | b |\n|---|---|\n| 1 \\| 2 | |", [("cell", "a"), ("cell", "b"), ("cell", "1|2")]),
        ("a | b\n--|--\n1 | 2", [("cell", "a"), ("cell", "b"), ("cell", "1"), ("cell", "2")]),
    ],
)
def test_a_document_is_read_as_whole_units(text: str, expected: list[tuple[str, str]]) -> None:
    assert units(text) == expected


def test_code_spans_in_a_sentence_are_units_inside_it() -> None:
    passages = read("Say:\n\nSo `a b`, or ``c `d` ``: *then* `e`.\n\nNo span: `f`")
    assert [(span.kind, passages.key_of([span]), span.lead, span.block) for span in passages.spans] == [
        ("span", "ab", "Say:", 1), ("span", "cd", "Say:", 1), ("span", "e", "Say:", 1), ("span", "f", "", 2),
    ]  # fmt: skip
    assert found(passages, "`c `d``") == ("cd",)
    assert found(passages, "`a b`,") == ("Soab,orcd:thene.",)


def test_a_cell_stands_in_its_row_and_its_column() -> None:
    passages = read(PRICES)
    labels = {passages.key_of([unit]): unit.lead for unit in passages.units}
    assert labels == {
        "Plan": "", "Pricepermonth": "Plan|Pricepermonth", "Seats": "Plan|Seats",
        "Basic": "Plan|Pricepermonth|Seats", "10€": "Basic|Pricepermonth", "1": "Basic|Seats",
        "ProPlus": "Plan|Pricepermonth|Seats", "20€": "ProPlus|Pricepermonth", "5": "ProPlus|Seats",
    }  # fmt: skip


def test_a_line_that_ends_in_a_colon_introduces_what_follows_until_the_next_sentence_or_heading() -> None:
    passages = read(
        "- Pull it:\n\n`git pull`\n\n```\nmake\n```\n\nThen wait. See this:\n\nfirst\n\nsecond:\n\n# End\n\nz"
    )
    assert {passages.key_of([unit]): unit.lead for unit in passages.units} == {
        "Pullit:": "", "gitpull": "Pullit:", "make": "Pullit:", "Thenwait.": "Pullit:", "Seethis:": "",
        "first": "Seethis:", "second:": "", "End": "", "z": "",
    }  # fmt: skip


def test_units_know_the_headings_that_they_stand_under() -> None:
    passages = read(NESTED)
    assert [unit.path for unit in passages.units] == [
        (),
        ("Install",), ("Install",),
        ("Install", "On Linux"), ("Install", "On Linux"),
        ("Install", "On `macOS`"), ("Install", "On `macOS`"),
        ("Re-move it!",), ("Re-move it!",),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "quote", "expected"),
    [
        ("One line\ngoes on.", "One line goes on.", ("Onelinegoeson.",)),
        ("One line goes on.", "One line\r\n   goes\u00a0on.", ("Onelinegoeson.",)),
        ("He said “don’t” – twice…", 'He said "don\'t" - twice...', ('Hesaid"don\'t"-twice...',)),
        ('He said "don\'t" - twice...', "He said “don’t” — twice…", ('Hesaid"don\'t"-twice...',)),
        ("‘One’ „two“", "'One' \"two\"", ("'One'\"two\"",)),
        ("soft\u00adly \ufb01ne", "softly fine", ("softlyfine",)),
        ("cafe\u0301", "caf\u00e9", ("café",)),
        ("See [the *guide*](https://a.example/g) now.", "See the guide now.", ("Seetheguidenow.",)),
        ('See [it](g.md "Guide").', 'See [it](g.md "Guide").', ("Seeit.",)),
        ("![The map](map.png) shows it.", "The map shows it.", ("Themapshowsit.",)),
        ("This is **very** _much_ *so*.", "This is very much so.", ("Thisisverymuchso.",)),
        ("This is very much so.", "This is **very** _much_ so.", ("Thisisverymuchso.",)),
        ("Set snake_case_name to 2*3*4.", "snake_case_name to 2*3*4", ("Setsnake_case_nameto2*3*4.",)),
        ("Run `git pull` daily.", "Run git pull daily.", ("Rungitpulldaily.",)),
        ("Run `git pull` daily.", "git pull", ("gitpull",)),
        ("Use `id`s here.", "id", ("id",)),
        ("Pass \\**kw on.", "Pass **kw on.", ("Pass**kwon.",)),
        ("Use a | b now.", "- Use a | b now.", ("Usea|bnow.",)),
        ("Use `**kwargs` here.", "Use `**kwargs` here.", ("Use**kwargshere.",)),
        ("- one\n- two", "one two", ("one", "two")),
        ("- one\n- two", "- one\n- two", ("one", "two")),
        ("> one\n> two", "> one\n> two", ("onetwo",)),
        ("One. Two.\n\nThree.", "Two.\n\nThree.", ("Two.", "Three.")),
        ("## Pay\n\nIn cash.", "Pay\n\nIn cash.", ("Pay", "Incash.")),
        ("```sh\ngit pull\nmake\n```", "git pull\nmake", ("gitpull", "make")),
        ("```\nf(**k, *a)\n```", "f(**k, *a)", ("f(**k,*a)",)),
        (PRICES, "| Basic | 10 € | 1 |", ("Basic", "10€", "1")),
        (PRICES, "Pro Plus | 20 €", ("ProPlus", "20€")),
        (PRICES, "20 €", ("20€",)),
        (PRICES, PRICES, ("Plan", "Pricepermonth", "Seats", "Basic", "10€", "1", "ProPlus", "20€", "5")),
        ("One two.", "One Two.", None),
        ("One two.", "One, two.", None),
        ("One. Two.", "Two. One.", None),
        ("One two.", "One two. Three.", None),
    ],
)
def test_a_quote_is_found_as_it_is_written_or_shown(text: str, quote: str, expected: tuple[str, ...] | None) -> None:
    assert found(read(text), quote) == expected


@pytest.mark.parametrize(
    ("text", "quote", "expected"),
    [
        pytest.param("```sh\ngit pull\n```", "```sh\ngit pull\n```", ("gitpull",), id="code copied with its fence"),
        pytest.param("a | b\n--|--\n1 | 2\n3 | 4", "1 | 2\n3 | 4", ("1", "2", "3", "4"), id="rows without outer bars"),
        pytest.param("See [it](a_(b).md) now.", "See it now.", ("Seeitnow.",), id="link whose target has brackets"),
        pytest.param("Cost: \\*5\\*", "Cost: *5*", ("Cost:*5*",), id="escaped stars"),
        pytest.param("- [x] Sign it\n- [ ] Send it", "Sign it Send it", ("Signit", "Sendit"), id="task list"),
    ],
)
def test_a_quote_is_found_through_rarer_markup(text: str, quote: str, expected: tuple[str, ...]) -> None:
    assert found(read(text), quote) == expected


@pytest.mark.parametrize("quote", ["5 MB", "The limit is 1", "limit i"])
def test_a_quote_that_begins_or_ends_inside_a_word_is_not_found(quote: str) -> None:
    assert found(read("The limit is 15 MB."), quote) is None


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("Install", "Install", "Usebrew."),
        ("install", "Install", "Usebrew."),
        ("On Linux", "OnLinux", "Useapt."),
        ("### On Linux", "OnLinux", "Useapt."),
        ("#on-linux", "OnLinux", "Useapt."),
        ("On macOS", "OnmacOS", "Usebrew."),
        ("on-macos", "OnmacOS", "Usebrew."),
        ("Re‑move it!", "Re-moveit!", "Userm."),
        ("re-move-it", "Re-moveit!", "Userm."),
        ("Guide", "Beforeall.", "Userm."),
        ("guide", "Beforeall.", "Userm."),
    ],
)
def test_a_section_is_named_by_heading_or_anchor_and_holds_its_sub_sections(name: str, first: str, last: str) -> None:
    passages = read(NESTED)
    section = passages.section(name)
    assert [passages.key_of([unit]) for unit in (section[0], section[-1])] == [first, last]


@pytest.mark.parametrize("name", ["Installation", "on", "linux", "", "#", "use-apt"])
def test_a_section_that_no_heading_names_is_empty(name: str) -> None:
    assert read(NESTED).section(name) == []


@pytest.mark.parametrize("name", ["", "#"])
def test_a_heading_without_words_is_not_meant_by_an_empty_name(name: str) -> None:
    assert read("## ...\n\nSo on.").section(name) == []


def test_sections_of_the_same_name_are_one() -> None:
    passages = read("## A\n\n### Use\n\nOne.\n\n## B\n\n### Use\n\nTwo.")
    assert [passages.key_of([unit]) for unit in passages.section("use")] == ["Use", "One.", "Use", "Two."]


def test_a_quote_must_stand_in_its_section() -> None:
    passages = read(NESTED)
    assert found(passages, "Use apt.", "Install") == ("Useapt.",)
    assert look_up(passages, "Use apt.", "on-macos") == Tied(
        None, "quote_missing", "not in section 'on-macos' of d.md: Use apt."
    )
    assert look_up(passages, "Use apt.", "Windows") == Tied(None, "section_missing", "d.md has no section 'Windows'")


def test_a_document_without_headings_is_looked_at_as_a_whole() -> None:
    passages = Passages("Report", (Block("text", "Page one."), Block("text", "Page two.")))
    assert not passages.has_headings
    assert read(NESTED).has_headings
    assert found(passages, "one. Page two.", "Results") == ("Pageone.", "Pagetwo.")
    assert look_up(passages, "three", "Results") == Tied(None, "quote_missing", "not in d.md: three")


def test_the_text_of_a_key_is_the_block_that_holds_it() -> None:
    passages = read("One.\n\nTwo *and* three.\n\nTwo.")
    assert passages.text_of(key_of("Two and")) == "Two *and* three."
    assert (passages.text_of("Four"), passages.text_of("")) == ("", "")


def test_anchors_are_made_as_documentation_tools_make_them() -> None:
    assert anchor_of("  The `--all` flag: [what](x.md) it **does**  ") == "the-all-flag-what-it-does"
    assert anchor_of("Über_uns & mehr") == "über-uns-mehr"


def test_rendering_leaves_code_spans_as_they_are() -> None:
    assert rendered("**a** `**b** [c](d)` _e_") == "a `**b** [c](d)` e"


def chunked(text: str, words: int) -> Passages:
    """Return a document as it is read back from chunks of at most so many words."""
    chunks = split(parse_markdown(text), WordTokenizer(), Limits(max_tokens=words, min_tokens=0))
    assert len(chunks) > 1
    return read("\n\n".join(chunk.text for chunk in chunks))


CODE = "```\n" + "\n".join(f"step {number} of nine" for number in range(9)) + "\n```"
SENTENCES = " ".join(f"Sentence number {number} ends here." for number in range(9))
WRAPPED = "\n".join(f"line {number} of a sentence" for number in range(9)) + "."


@pytest.mark.parametrize(
    ("text", "quote"),
    [
        (CODE, CODE.strip("`\n")),
        (SENTENCES, SENTENCES),
        (WRAPPED, WRAPPED),
        (WRAPPED.replace(" ", "\n"), WRAPPED),
    ],
    ids=["code", "sentences", "a wrapped sentence", "a word a line"],
)
def test_a_quote_is_found_across_chunks(text: str, quote: str) -> None:
    assert found(chunked(text, 16), quote) is not None


WORDS = st.integers(0, 999).map("word{:03}".format)
PHRASES = st.lists(WORDS, min_size=1, max_size=6).map(" ".join)
PARAGRAPHS = st.lists(PHRASES, min_size=1, max_size=5)
SHAPES = {
    "{}": lambda parts: (" ".join(f"{part}." for part in parts), [f"{part}." for part in parts]),
    "wrapped": lambda parts: ("\n".join(f"{part}." for part in parts), [f"{part}." for part in parts]),
    "list": lambda parts: ("\n".join(f"- {part}" for part in parts), parts),
    "code": lambda parts: ("\n".join(["```", *parts, "```"]), parts),
    "table": lambda parts: ("\n".join(["| a | b |", "|---|---|", *(f"| {part} | x |" for part in parts)]), parts),
    "heading": lambda parts: (f"## {parts[0]}", parts[:1]),
}
"""Each: from texts, a block of Markdown and the units in it as they are written."""
BLOCKS = st.tuples(st.sampled_from(sorted(SHAPES)), PARAGRAPHS).map(lambda drawn: SHAPES[drawn[0]](drawn[1]))


@settings(max_examples=150, deadline=None)
@given(blocks=st.lists(BLOCKS, min_size=1, max_size=8), words=st.integers(16, 60))
def test_every_unit_is_found_whole_whatever_the_size_of_chunks(blocks: list[tuple[str, list[str]]], words: int) -> None:
    document = parse_markdown("# Title\n\n" + "\n\n".join(text for text, _ in blocks))
    chunks = split(document, WordTokenizer(), Limits(max_tokens=words, min_tokens=0))
    passages = read("\n\n".join(chunk.text for chunk in chunks))
    for _, expected in blocks:
        for unit in expected:
            assert "".join(found(passages, unit) or ()) == key_of(unit)
    ends = [0, *(unit.end for unit in passages.units)]
    assert all(before <= unit.start for before, unit in zip(ends, passages.units, strict=False))
    between = (passages.key[end : unit.start] for end, unit in zip(ends, passages.units, strict=False))
    assert set("".join(between)) <= {"|"}
