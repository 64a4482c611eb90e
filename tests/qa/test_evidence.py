"""Evidence: what a quote is tied to, and which changes of its document leave it standing. One case per rule."""

from __future__ import annotations

import json

import pytest

from tidegate.core.canonical import sha256_hex
from tidegate.core.examples import Evidence, Example
from tidegate.parsing.markdown import parse_blocks
from tidegate.qa.evidence import Anchor, Held, Tied, answer_in_quotes, carry, nearest_passage, tie
from tidegate.qa.passages import Passages

PRICES = "| Plan | Month | Year |\n|---|---|---|\n| Basic | 10 | 100 |\n| Pro | 20 | 200 |"
TWO_PARTS = "## Pay\n\nIn cash.\n\n## Wait\n\nOne day."
TWO_STEPS = "- Add it:\n\n`git add .`\n\n- Send it:\n\n`git push`"
SAME_NAMES = "## Linux\n\n### Use\n\nRun apt.\n\n## macOS\n\n### Use\n\nRun brew."


def read(text: str, title: str = "Guide") -> Passages:
    return Passages(title, tuple(parse_blocks(text)))


def row(quote: str = "", section: str = "", question: str = "Which one?", answerable: bool = True) -> Example:
    evidence = Evidence("d.md", quote, section)
    return Example("r", question, "this" if answerable else "", (evidence,), answerable)


def tied(example: Example, passages: Passages) -> Tied:
    return tie(example, example.evidence[0], passages, key="k", path="d.md", fingerprint="f1")


def anchored(example: Example, passages: Passages) -> Anchor:
    anchor = tied(example, passages).anchor
    assert anchor is not None
    return anchor


def carried(example: Example, old: str, new: str) -> tuple[Held, Anchor]:
    return carry(anchored(example, read(old)), example.evidence[0], "e.md", "f2", read(new))


def judged(old: str, new: str, quote: str) -> Held:
    return carried(row(quote), old, new)[0]


def test_a_quote_is_tied_as_the_whole_units_that_it_stands_in() -> None:
    anchor = anchored(row("30 days. Late"), read("## How to **pay**\n\nTerms:\n\nPay in 30 days. Late *costs* 5 %."))
    assert anchor == Anchor(
        document="k",
        path="d.md",
        fingerprint="f1",
        kind="text",
        units=("Payin30days.", "Latecosts5%."),
        heading="How to **pay**",
        lead="Terms:",
        passage="Pay in 30 days. Late *costs* 5 %.",
    )
    assert Anchor.from_json(json.loads(json.dumps(anchor.as_json()))) == anchor


@pytest.mark.parametrize(
    ("text", "quote", "kind", "units"),
    [
        ("Run `git pull` now.", "git pull", "span", ("gitpull",)),
        ("Run `git pull` now.", "pull", "span", ("gitpull",)),
        ("Run `git pull` now.", "Run git pull", "text", ("Rungitpullnow.",)),
        ("`git pull`", "git pull", "code", ("gitpull",)),
        ("```\ngit pull\n```", "pull", "code", ("gitpull",)),
        (PRICES, "20", "cell", ("20",)),
        ("|A|B|\n|-|-|\n|C|2 mm|\n|C|2|", "|C|2", "cell", ("C", "2")),
        ("A wait of 20 days.\n\n20", "20", "text", ("20",)),
        ("The fee is 20 a day.\n\nA fee of 20.", "20", "text", ("Thefeeis20aday.",)),
        ("To push:\n\n`git push`\n\nTo send, with tags:\n\n`git push`", "git push", "code", ("gitpush",)),
    ],
)
def test_whole_units_are_preferred_to_parts_and_earlier_ones_to_later(
    text: str, quote: str, kind: str, units: tuple[str, ...]
) -> None:
    anchor = anchored(row(quote), read(text))
    assert (anchor.kind, anchor.units) == (kind, units)


def test_of_equal_units_the_one_that_the_question_introduces_is_taken() -> None:
    passages = read("- Show it:\n\n`cat`\n\n- Join two files:\n\n`cat`\n\n- Join two streams:\n\n`cat`")
    assert anchored(row("cat"), passages).lead == "Showit:"
    assert anchored(row("cat", question="How do I join streams?"), passages).lead == "Jointwostreams:"
    assert anchored(row("cat", question="How do I join files?"), passages).lead == "Jointwofiles:"


def test_of_equal_cells_the_one_in_the_row_that_the_question_names_is_taken() -> None:
    passages = read("| Plan | Seats |\n|---|---|\n| Basic | 5 |\n| Business | 5 |")
    assert anchored(row("5", question="How many seats has Business?"), passages).lead == "Business|Seats"


def test_evidence_that_does_not_stand_in_its_document_breaks_a_rule() -> None:
    passages = read(TWO_PARTS)
    assert tied(row("In cash.", "wait"), passages) == Tied(
        None, "quote_missing", "not in section 'wait' of d.md: In cash."
    )
    assert tied(row("In coins."), passages) == Tied(None, "quote_missing", "not in d.md: In coins.")
    assert tied(row("", "Refunds"), passages) == Tied(None, "section_missing", "d.md has no section 'Refunds'")
    assert tied(row("x" * 121), passages).detail == f"not in d.md: {'x' * 120}…"


HELD = [
    ("another sentence edited", "Pay in 30 days. Ask Ann.", "Pay in 30 days. Ask Bob.", "Pay in 30 days."),
    ("moved within its section", "Pay in 30 days.\n\nAsk.", "Ask.\n\nPay in 30 days.", "Pay in 30 days."),
    ("wrapped anew", "Pay in 30 days.", "Pay\nin 30\ndays.", "Pay in 30 days."),
    ("markup added", "Don't pay in cash.", "Don’t pay in **cash**.", "Don't pay in cash."),
    ("made a list item", "Pay in 30 days.", "- Pay in 30 days.\n- Ask.", "Pay in 30 days."),
    ("a copy elsewhere goes", "# A\n\nPay.\n\n# B\n\nPay.", "# A\n\nPay.\n\n# B\n\nAsk.", "Pay."),
    ("a copy elsewhere comes", "# A\n\nPay.", "# B\n\nPay.\n\n# A\n\nPay.", "Pay."),
    ("a copy that is introduced comes", "Pay.", "Note:\n\nPay.\n\nSo.\n\nPay.", "Pay."),
    ("levels of headings changed", TWO_PARTS, TWO_PARTS.replace("## ", "### "), "One day."),
    ("section moved", TWO_PARTS, "## Wait\n\nOne day.\n\n## Pay\n\nIn cash.", "In cash."),
    ("code line fenced", "Run:\n\n`git pull`", "Run:\n\n```\ngit pull\n```", "git pull"),
    ("code line before it in its block", "```\na\nb\n```", "```\na\nx\nb\n```", "b"),
    ("step moved with its introduction", TWO_STEPS, "- Send it:\n\n`git push`\n\n- Add it:\n\n`git add .`", "git push"),
    ("sentence around a span edited", "Run `git pull` now.", "Please do run `git pull`.", "git pull"),
    ("row moved within its table", PRICES, "\n".join(PRICES.split("\n")[at] for at in (0, 1, 3, 2)), "20"),
    ("row added", PRICES, PRICES.replace("| Pro", "| Plus | 15 | 150 |\n| Pro"), "20"),
    ("other cell of its row edited", PRICES, PRICES.replace("200", "220"), "20"),
    ("column added", "|P|Y|\n|-|-|\n|A|1|", "|P|M|Y|\n|-|-|-|\n|A|2|1|", "1"),
    ("several units moved together", "One. Two. Three.", "Three.\n\nOne. Two.", "One. Two."),
    ("a paragraph cut in two", "One. Two.", "One.\n\nTwo.", "One. Two."),
    ("title gone", "# Guide\n\nPay in 30 days.", "# Guide\n\nIn short:\n\nNo.\n\nPay in 30 days.", "Pay in 30 days."),
]
STALE = [
    ("gone", "Pay in 30 days.", "Ask Ann.", "Pay in 30 days."),
    ("unit edited after the quote", "Pay in 30 days.", "Pay in 30 days, or ask.", "Pay in 30 days"),
    ("unit edited before the quote", "You may pay in cash.", "Nobody may pay in cash.", "may pay in cash."),
    ("one digit", "Pay in 30 days.", "Pay in 31 days.", "Pay in 30 days."),
    ("case", "Set x.", "Set X.", "Set x."),
    ("code line longer", "`git push`", "`git push --force`", "git push"),
    ("code line a part of a sentence", "Run:\n\n`git pull`", "Run:\n\nNever use `git pull`.", "git pull"),
    ("span in a sentence edited", "Run `git pull` now.", "Run `git pull -r` now.", "git pull"),
    ("sentence a cell", "Pay.\n\n| A | B |\n|---|---|\n| C | D |", "| A | B |\n|---|---|\n| C | Pay. |", "Pay."),
    ("only under another heading", TWO_PARTS, "## Pay\n\nOne day.\n\n## Wait\n\nTwo days.", "One day."),
    ("out of its section", TWO_PARTS, "One day.\n\n## Wait\n\nTwo days.", "One day."),
    (
        "its introduction introduces another",
        TWO_STEPS,
        TWO_STEPS.replace("push", "add .").replace("add .", "rm", 1),
        "add .",
    ),
    ("introductions exchanged", TWO_STEPS, "- Send it:\n\n`git add .`\n\n- Add it:\n\n`git push`", "git push"),
    ("cell under another row", PRICES, PRICES.replace("| 20 ", "| 25 ").replace("| 10 ", "| 20 "), "20"),
    ("row renamed", PRICES, PRICES.replace("Pro", "Team"), "20"),
    ("column renamed", PRICES, PRICES.replace("Month", "Week"), "20"),
    ("cell under another column", PRICES, PRICES.replace("| 20 | 200", "| 25 | 20"), "20"),
    ("first of several units edited", "One. Two.", "Won. Two.", "One. Two."),
    ("last of several units edited", "One. Two.", "One. Too.", "One. Two."),
    ("several units parted", "One. Two.", "One. Not so. Two.", "One. Two."),
    ("several units exchanged", "One. Two.", "Two. One.", "One. Two."),
    ("only some of several units", "One. Two. Three.", "One. Two.", "One. Two. Three."),
    ("a row edited", PRICES, PRICES.replace("200", "220"), "| Pro | 20 | 200 |"),
]
REWORDED = [
    ("heading renamed", TWO_PARTS, TWO_PARTS.replace("## Wait", "## Delay"), "One day."),
    ("heading removed", TWO_PARTS, TWO_PARTS.replace("## Wait\n\n", ""), "One day."),
    ("heading added", "Pay.", "## Terms\n\nPay.", "Pay."),
    ("introduction reworded", TWO_STEPS, TWO_STEPS.replace("Send it", "Publish it"), "git push"),
    ("introduction gone", "Run:\n\n`git pull`", "`git pull`", "git pull"),
    ("heading above it renamed", f"# A\n\n{TWO_PARTS}", f"# B\n\n{TWO_PARTS}", "One day."),
    ("introduction gone, heading the same", "# A\n\nRun:\n\n`git pull`", "# A\n\n`git pull`", "git pull"),
    ("introduction added", "`git pull`", "Run:\n\n`git pull`", "git pull"),
    ("heading and introduction reworded", "# A\n\nRun:\n\n`x y`", "# B\n\nCall:\n\n`x y`", "x y"),
    ("table under a renamed heading", f"# A\n\n{PRICES}", f"# B\n\n{PRICES}", "20"),
]
CASES = [
    pytest.param(old, new, quote, wanted, id=f"{wanted}: {name}")
    for wanted, cases in (("held", HELD), ("stale", STALE), ("reworded", REWORDED))
    for name, old, new, quote in cases
]


@pytest.mark.parametrize(("old", "new", "quote", "wanted"), CASES)
def test_what_a_change_does_to_a_quote(old: str, new: str, quote: str, wanted: Held) -> None:
    assert judged(old, new, quote) == wanted
    assert judged(old, old, quote) == "held"


@pytest.mark.parametrize(
    ("old", "new", "quote"),
    [
        pytest.param(
            SAME_NAMES,
            SAME_NAMES.replace("apt", "x").replace("brew", "apt"),
            "Run apt.",
            id="under a heading of the same name in another part",
        ),
        pytest.param(PRICES, PRICES.replace("Month", "Week"), "| Pro | 20 |", id="row under a renamed column"),
        pytest.param(
            "| Plan | Month |\n|---|---|\n| Pro | 20 |\n\n| Plan | Year |\n|---|---|\n| Pro | 200 |",
            "| Plan | Month |\n|---|---|\n| Pro | 25 |\n\n| Plan | Year |\n|---|---|\n| Pro | 20 |",
            "| Pro | 20 |",
            id="row in another table",
        ),
        pytest.param(
            "First:\n\n1. Stop.\n\nThen:\n\n1. Go.", "First:\n\n1. Go.\n\nThen:\n\n1. Stop.", "Go.", id="numbered item"
        ),
    ],
)
def test_a_quote_that_says_something_else_now_is_stale(old: str, new: str, quote: str) -> None:
    assert judged(old, new, quote) == "stale"


def test_a_quote_under_no_heading_is_reworded_under_a_new_one_though_other_text_stays_under_none() -> None:
    assert judged("In short.\n\nPay.", "In short.\n\n## Terms\n\nPay.", "Pay.") == "reworded"


def test_a_quote_that_leaves_its_heading_is_stale_although_the_heading_above_was_renamed() -> None:
    assert judged(f"# A\n\n{TWO_PARTS}", "# B\n\n## Pay\n\nOne day.\n\n## Wait\n\nTwo days.", "One day.") == "stale"


def test_a_held_quote_is_tied_to_the_document_as_it_is_now() -> None:
    example = row("In cash.")
    verdict, anchor = carried(example, TWO_PARTS, "## Wait\n\nNo.\n\n## Terms\n\nSo:\n\nIn *cash*. Or not.")
    assert (verdict, anchor) == (
        "reworded",
        Anchor("k", "e.md", "f2", "text", ("Incash.",), heading="Terms", lead="So:", passage="In *cash*. Or not."),
    )
    back = carry(anchor, example.evidence[0], "e.md", "f3", read("## Pay\n\nIn cash.\n\n## Terms\n\nNone."))
    assert back == ("stale", anchor)


def test_a_stale_quote_keeps_what_it_was_tied_to() -> None:
    example = row("In cash.")
    before = anchored(example, read(TWO_PARTS))
    assert carried(example, TWO_PARTS, "No.") == ("stale", before)
    assert (before.path, before.fingerprint, before.passage) == ("d.md", "f1", "In cash.")


@pytest.mark.parametrize(
    ("new", "wanted"),
    [
        (TWO_PARTS.replace("One day", "Two days"), "held"),
        (TWO_PARTS.replace("In cash", "In  *cash*"), "held"),
        (TWO_PARTS.replace("In cash", "In coins"), "stale"),
        (TWO_PARTS.replace("In cash.", "In cash.\n\n### How\n\nBy hand."), "stale"),
        (TWO_PARTS.replace("## Pay", "## Terms"), "stale"),
    ],
)
def test_evidence_that_is_a_section_is_the_whole_of_it(new: str, wanted: Held) -> None:
    example = row("", "pay")
    anchor = anchored(example, read(TWO_PARTS))
    assert (anchor.kind, anchor.heading, anchor.passage) == ("section", "Pay", "Pay\n\nIn cash.")
    assert anchor.units == (sha256_hex(b"Pay\nIncash."),)
    assert carried(example, TWO_PARTS, new)[0] == wanted


def test_a_long_passage_is_cut_to_what_a_person_reads() -> None:
    long = "Word. " * 400
    assert len(anchored(row("", "long"), read(f"# Long\n\n{long}")).passage) == 2000
    assert len(carried(row("Word."), "Word.", long)[1].passage) == 2000


@pytest.mark.parametrize(
    ("new", "wanted"),
    [(TWO_PARTS.replace("cash", "**cash**"), "held"), (TWO_PARTS.replace("day", "week"), "stale"), ("", "stale")],
)
def test_evidence_without_quote_and_section_is_the_whole_document(new: str, wanted: Held) -> None:
    assert anchored(row(), read(TWO_PARTS)).kind == "document"
    assert carried(row(), TWO_PARTS, new)[0] == wanted


@pytest.mark.parametrize(
    ("new", "wanted"),
    [
        ("We ship in 2 days, and are glad of it.", "held"),
        ("We ship in 5 days. How is it by us? So.", "held"),
        ("We ship in 2 days. A REFUND takes long.", "stale"),
        ("We ship in 2 days.\n\n## Refund", "stale"),
        ("We ship in 2 days.\n\n`refund.sh`", "held"),
    ],
)
def test_an_unanswerable_question_is_stale_once_a_word_that_its_document_lacked_stands_in_it(
    new: str, wanted: Held
) -> None:
    example = row(question="How is a refund by us given: in 5 days?", answerable=False)
    anchor = anchored(example, read("We ship in 2 days."))
    assert (anchor.kind, anchor.units) == ("absence", ("given", "refund"))
    assert carried(example, "We ship in 2 days.", new)[0] == wanted


def test_an_absence_counts_the_title_and_every_word_that_was_there() -> None:
    example = row(question="What does shipping cost?", answerable=False)
    anchor = anchored(example, read("We ship.", title="Shipping"))
    assert anchor.units == ("cost",)
    assert carry(anchor, example.evidence[0], "d.md", "f2", read("We ship.", title="Cost"))[0] == "stale"
    plain = row(question="When do we ship?", answerable=False)
    assert carried(plain, "We ship.", "We ship.\n\nMore.")[0] == "stale", "no word tells whether it is answered now"


def test_an_unanswerable_question_with_a_quote_rests_on_the_quote() -> None:
    example = row("We ship.", question="What is a refund?", answerable=False)
    assert carried(example, "We ship.", "We ship. A refund is due.")[0] == "held"
    assert carried(example, "We ship.", "We do not ship.")[0] == "stale"


def test_the_new_passage_is_the_block_that_reads_most_like_the_old_one() -> None:
    old = read("## Terms\n\nPay the invoice in 30 days.\n\nSteps:\n\nAsk Ann.")
    edited = read("## Terms\n\nPay your staff.\n\nPay the *invoice* within 14 days.\n\nSteps:\n\nAsk Ann.")
    anchor = anchored(row("30 days."), old)
    assert nearest_passage(anchor, edited) == "Pay the *invoice* within 14 days."
    assert (
        nearest_passage(anchor, read("# Pay the invoice in 30 days\n\nPay the bill in a week."))
        == "Pay the bill in a week."
    )
    assert nearest_passage(anchor, read("Xyz.")) == ""
    assert nearest_passage(anchor, read("")) == ""


def test_the_new_passage_is_what_the_old_introduction_introduces_now() -> None:
    anchor = anchored(row("git stop"), read("- Show it:\n\n`git show`\n\n- Stop it:\n\n`git stop`"))
    new = read("- Show it:\n\n`git show`\n\n- Stop it:\n\n`podman {{[halt|stop]}} --now {{name}}`")
    assert nearest_passage(anchor, new) == "`podman {{[halt|stop]}} --now {{name}}`"


def test_where_nothing_reads_like_the_old_passage_its_heading_is_shown() -> None:
    anchor = anchored(row("In cash."), read("## How to pay\n\nIn cash."))
    assert nearest_passage(anchor, read("## How to pay\n\n`q`")) == "How to pay"


@pytest.mark.parametrize(
    ("answer", "quotes", "expected"),
    [
        ("30 days", ("Pay in 30 days.",), True),
        ("Thirty Days.", ("Pay in thirty\ndays",), True),
        ("The guide", ("See [the *guide*](g.md).",), True),
        ("see *the* guide", ("See the guide.",), True),
        ("https://a.example/b", ("Ask [here](https://a.example/b).",), True),
        ("see [the guide](g.md)", ("See [the guide](g.md).",), True),
        ("`git pull`", ("git pull -r",), True),
        ("don't", ("You don’t.",), True),
        ("two", ("one", "two"), True),
        ("31 days", ("Pay in 30 days.",), False),
        ("one two", ("one", "two"), False),
        (".", ("One.",), False),
        ("anything", ("",), True),
        ("anything", (), True),
    ],
)
def test_an_answer_stands_in_a_quote_of_its_row(answer: str, quotes: tuple[str, ...], expected: bool) -> None:
    evidence = tuple(Evidence("d.md", quote) for quote in quotes)
    assert answer_in_quotes(Example("r", "Which one?", answer, evidence)) is expected
