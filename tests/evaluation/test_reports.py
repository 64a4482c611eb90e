"""The words of a report: exact lines, untrusted text that stays text, and nothing said that is not there."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.evaluation.reports import (
    ARMS,
    BETTER,
    COSTS,
    EVIL,
    RELEASE,
    RULES,
    a_first_report,
    a_report,
    an_arm,
    an_example,
    evil_report,
    page_of,
    rate,
    words,
)
from tidegate.core.evaluation_records import BreakEven
from tidegate.core.records import GateRule
from tidegate.evaluation.report_markdown import approval_body, escaped, verdict_lines
from tidegate.evaluation.report_text import amount, break_even_line, doubts, gate_line, headline, losses

ALL_PASSED = (
    "all 14 rules passed; tightest: recall@10 0.91, at least 0.88; tag version −0.14, at least −0.15;"
    " forgetting 0.55, at least 0.50"
)
WORSE = BETTER.model_copy(update={"verdict": "worse", "difference": -0.031, "low": -0.06, "high": -0.004})
UNCLEAR = BETTER.model_copy(update={"verdict": "not_enough_evidence", "difference": 0.01, "low": -0.02, "high": 0.04})
AUTOLINK = re.compile(r"https?://|www\.|xmpp:|[-.\w+]@[-\w]+\.", re.IGNORECASE)
"""What GitHub's Markdown makes a link of in plain text."""


def tokens_of(body: str) -> list[Token]:
    parsed = MarkdownIt("commonmark").enable("table").enable("strikethrough").parse(body)
    return [inner for token in parsed for inner in (token, *(token.children or []))]


FORM = [
    "**Better than the champion: 84.2 % correct against 79.2 %, +5.0 points (95 % interval +2.1 to +7.9).**",
    "**Serving mode: hybrid** (adapter+RAG). adapter+RAG answers best within the limits of latency and cost.",
    (
        "| Arm (bold serves; 95 % intervals) | Correct (n 500) | Contained match (n 350) | Refusals (n 150)"
        " | Wrong refusals (n 350) |"
    ),
    "| --- | ---: | ---: | ---: | ---: |",
    "| base | 10.4 % (8.0–13.4) | 3.4 % (2.0–5.9) | 26.7 % (20.2–34.3) | 30.0 % (25.4–35.0) |",
    "| base+RAG | 69.8 % (65.6–73.7) | 68.9 % (63.8–73.5) | 72.0 % (64.3–78.6) | 11.7 % (8.8–15.5) |",
    "| adapter | 32.4 % (28.4–36.6) | 8.9 % (6.3–12.3) | 87.3 % (81.1–91.7) | 54.3 % (49.0–59.4) |",
    "| **adapter+RAG** | 84.2 % (80.7–87.1) | 83.1 % (78.9–86.7) | 86.7 % (80.3–91.2) | 6.3 % (4.2–9.3) |",
    "| champion | 79.2 % (75.4–82.5) | 79.1 % (74.6–83.1) | 79.3 % (72.2–85.0) | 7.7 % (5.4–11.0) |",
    ("| new adapter on old index | 82.4 % (78.8–85.5) | 81.1 % (76.7–84.9) | 85.3 % (78.8–90.1) | 6.9 % (4.7–10.0) |"),
    ("| old adapter on new index | 80.2 % (76.5–83.5) | 80.3 % (75.8–84.1) | 80.0 % (72.9–85.6) | 7.4 % (5.1–10.7) |"),
    "| Compared | Verdict | Points | 95 % interval | Rows (documents) | Won : lost | p better |",
    "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    "| Candidate with champion | **better** | +5.0 | +2.1 to +7.9 | 500 (100) | 39 : 14 | < 0.001 |",
    "| On rows with unchanged evidence | not enough evidence | +1.2 | −0.9 to +3.4 | 412 (81) | 17 : 12 | 0.131 |",
    "| adapter+RAG with base+RAG | **better** | +14.4 | +10.5 to +18.3 | 500 (100) | 88 : 16 | < 0.001 |",
    f"**Gate:** {ALL_PASSED}.",
    (
        "- **Documents:** 12 added, 8 modified, 2 removed; 240 documents in all (+ runbooks/printing.md,"
        " \\~ policies/badges.md, - faq/fax.md)."
    ),
    "- **Rows:** 20 added, 6 changed, 1 removed.",
    "- **Freshness:** 2 of 242 documents held, oldest 3.5 days; 0 unexplained stale passages.",
    "**Only one is right:** 39 won, 14 lost.",
    "|  | Question | Right answer | Candidate | Champion |",
    "| --- | --- | --- | --- | --- |",
    "| won | On which port does the label printer listen? | 9100 | 9100 \\[1\\] | 631 \\[1\\] |",
    (
        "| won | Which cloud region hosts the staging mirror? | *(a refusal)* | The documents do not say."
        " | eu-west-1 \\[2\\] |"
    ),
    (
        "| **lost** | How long does the badge office keep visitor records? | 90 days | The documents do not say."
        " | 90 days \\[1\\] |"
    ),
    "- **Cost per 1,000 queries:** base+RAG 0.94 USD, adapter 0.21 USD, adapter+RAG 0.31 USD, API 110.00 USD.",
    (
        "- **Break-even:** adapter+RAG costs less than base+RAG above 337,000 queries a month; adapter+RAG costs"
        " less than API above 2,390 queries a month; adapter costs less than adapter+RAG at every volume."
    ),
    "- **Paid once:** training 1.26 USD, index refresh 0.04 USD, evaluation 0.35 USD.",
    "- **Latency (median):** base+RAG 1.34 s, p95 2.05 s (n 16); adapter+RAG 1.21 s, p95 1.88 s (n 16).",
    (
        "[Full report](</tidegate/handbook?a=1%29%3E>). This decision is bound to release `4be14be14be1`,"
        " evaluation `e7a1e7a1e7a1`, dataset `d5b2d5b2d5b2`, snapshot `5a3c5a3c5a3c`, adapter `ad44ad44ad44`,"
        " champion `c0dec0dec0de`."
    ),
]


def test_the_form_says_what_a_person_needs_to_decide_and_in_this_order() -> None:
    body = approval_body(a_report(), release=RELEASE, report_url="/tidegate/handbook?a=1)>")
    assert [line for line in body.splitlines() if line] == FORM


def test_the_verdict_is_five_lines() -> None:
    assert verdict_lines(a_report(judge={"preference": "champion"}), RELEASE) == [
        "handbook: Better than the champion: 84.2 % correct against 79.2 %, +5.0 points (95 % interval +2.1 to +7.9).",
        "Serve: hybrid (adapter+RAG). adapter+RAG answers best within the limits of latency and cost.",
        "Correct: base 10.4 %, base+RAG 69.8 %, adapter 32.4 %, adapter+RAG 84.2 %, champion 79.2 %.",
        f"Gate: {ALL_PASSED}.",
        (
            "Release 4be14be14be1: documents: 12 added, 8 modified, 2 removed; 240 documents in all; rows: 20 added, 6"
            " changed, 1 removed. Warning: The judge disagrees: it prefers the champion. It does not decide."
        ),
    ]
    evil = [verdict_lines(evil_report(text), RELEASE) for text in EVIL]
    assert [len(lines) for lines in evil] == [5] * len(EVIL)
    assert all(line.isprintable() for lines in evil for line in lines)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "Better than the champion: 84.2 % correct against 79.2 %, +5.0 points (95 % interval +2.1 to +7.9)."),
        ({"comparison": WORSE, "arms": ()}, "Worse than the champion: −3.1 points (95 % interval −6.0 to −0.4)."),
        (
            {"comparison": UNCLEAR, "arms": ()},
            "Not enough evidence that it is better than the champion: +1.0 points (95 % interval −2.0 to +4.0).",
        ),
        (
            {"comparison": None, "champion": None, "serving_mode": "rag"},
            (
                "First release: there is no champion to beat; base+RAG is correct on 69.8 % (65.6 % to 73.7 %) of 500"
                " questions."
            ),
        ),
        ({"comparison": None, "arms": ()}, "Not compared with the champion."),
    ],
)
def test_the_headline_is_the_verdict(changes: dict[str, object], expected: str) -> None:
    assert headline(a_report(**changes)) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"comparison": WORSE}, ["The candidate answers worse than the champion."]),
        ({"unchanged": WORSE}, ["The candidate answers worse where the evidence did not change."]),
        ({"against_rag": WORSE}, ["The adapter answers worse than the base model with the same passages."]),
        ({"rules": (GateRule(name="x", value=0, threshold=1, passed=False),)}, ["The gate fails: 1 of 1 rule."]),
        ({"rules": ()}, ["The gate has no rule: nothing was checked."]),
        ({"comparison": None}, ["The candidate was not compared with the champion."]),
        (
            {"comparison": BETTER.model_copy(update={"rows": 99})},
            ["Few questions: 99 rows of 100 documents were compared."],
        ),
        (
            {"comparison": BETTER.model_copy(update={"documents": 24})},
            ["Few questions: 500 rows of 24 documents were compared."],
        ),
        ({"comparison": BETTER.model_copy(update={"rows": 100, "documents": 25})}, []),
        ({"left_out": 55}, []),
        ({"left_out": 56}, ["56 rows of the holdout left out: the evidence is not current in this index."]),
        ({"judge": {"preference": "champion"}}, ["The judge disagrees: it prefers the champion. It does not decide."]),
        ({"judge": {"preference": "candidate"}}, []),
        (
            {"judge": {"preference": "candidate"}, "comparison": WORSE},
            [
                "The candidate answers worse than the champion.",
                "The judge disagrees: it prefers the candidate. It does not decide.",
            ],
        ),
        ({"judge": {"preference": "champion"}, "comparison": UNCLEAR}, [
            "The judge disagrees: it prefers the champion. It does not decide."
        ]),
        (
            {"freshness": a_report().freshness.model_copy(update={"unexplained_stale": 1})},
            ["1 stale passage without an explanation."],
        ),
    ],
)  # fmt: skip
def test_whatever_is_off_stands_at_the_top(changes: dict[str, object], expected: list[str]) -> None:
    report = a_report(**changes)
    assert losses(report) + doubts(report) == expected
    body = approval_body(report, release=RELEASE).splitlines()
    shown = ["> **Look closer before you approve.**", *(f"> - {text}" for text in expected)] if expected else []
    assert [line for line in body if line.startswith(">")] == body[: len(shown)] == shown
    assert [item.get_text() for item in page_of(report).select(".warning li")] == expected


def test_rules_that_failed_are_named_and_the_tightest_of_those_that_passed() -> None:
    low = GateRule(name="refusals", value=0.4, threshold=0.5, passed=False)
    missing = GateRule(name="tag a, b", value=None, threshold=0.5, passed=False)
    report = a_report(rules=(RULES[0], low, missing))
    assert gate_line(report) == (
        "2 of 3 rules failed: refusals 0.40, at least 0.50; tag a, b not measured, at least 0.50"
    )
    body = approval_body(report, release=RELEASE)
    assert "| refusals | 0.40 | at least 0.50 |\n| tag a, b | not measured | at least 0.50 |\n" in body
    assert "| correct |" not in body
    assert gate_line(a_report(rules=(RULES[8], RULES[8]))) == "all 2 rules passed"  # nothing to be near to
    assert gate_line(a_report(rules=RULES[:1])) == "the only rule passed; tightest: correct 0.84, at least 0.60"


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (("base+RAG", "adapter+RAG", 336_508.0), "adapter+RAG costs less than base+RAG above 337,000 queries a month"),
        (("adapter+RAG", "base+RAG", 336_508.0), "adapter+RAG costs less than base+RAG above 337,000 queries a month"),
        (("adapter+RAG", "adapter", None), "adapter costs less than adapter+RAG at every volume"),
        (("adapter", "adapter", None), "adapter and adapter cost the same at every volume"),
        (("adapter", "elsewhere", 12.0), "adapter and elsewhere cost the same at 12 queries a month"),
        (("adapter", "elsewhere", None), "adapter and elsewhere cost the same at no volume"),
    ],
)
def test_a_break_even_says_which_arm_costs_less_beyond_it(pair: tuple[str, str, float | None], expected: str) -> None:
    first, second, volume = pair
    assert break_even_line(COSTS, BreakEven(first=first, second=second, queries_per_month=volume)) == expected


def test_amounts_show_the_digits_that_matter() -> None:
    values = (0, 0.000042, 0.0123456, 0.1, 1.256, 999.0, 1000.4, 1_234_567)
    assert [amount(value) for value in values] == [
        "0.00", "0.00004", "0.01235", "0.10", "1.26", "999.00", "1,000", "1,234,567",
    ]  # fmt: skip


def test_counts_stand_in_the_cells_where_they_differ() -> None:
    fewer = ARMS[1].model_copy(update={"slices": {"all": {"correct": rate(30, 40)}}})
    body = approval_body(a_report(arms=(fewer, ARMS[3])), release=RELEASE)
    assert "| Arm (bold serves; 95 % intervals) | Correct | Contained match (n 350) |" in body
    assert "| base+RAG | 75.0 % (59.8–85.8), n 40 | – | – | – |" in body


def test_a_form_never_has_more_than_60_lines() -> None:
    many = a_report(
        arms=(*ARMS, *(an_arm(f"adapter {number} on old index", 200, 100, 20) for number in range(20))),
        comparison=WORSE.model_copy(update={"rows": 10, "documents": 5}),
        unchanged=WORSE,
        against_rag=WORSE,
        judge={"preference": "candidate"},
        left_out=400,
        freshness=a_report().freshness.model_copy(update={"unexplained_stale": 7}),
        rules=tuple(GateRule(name=f"tag t{number}", value=0, threshold=1, passed=False) for number in range(40)),
        examples=tuple(an_example("What? " * 200, won=number % 2 == 0) for number in range(200)),
        changes=a_report().changes.model_copy(update={"names": ("+ " + "x" * 500,) * 200}),
        latency={f"arm {number}": a_report().latency["base+RAG"] for number in range(20)},
    )
    body = approval_body(many, release=RELEASE, report_url="/report")
    assert 50 < len(body.splitlines()) <= 60
    assert max(map(len, body.splitlines())) < 600
    assert "| and more in the full report |  |  |" in body
    assert "**Only one is right:** 39 won, 14 lost." in body


@pytest.mark.parametrize("text", EVIL)
def test_untrusted_text_stays_text_in_the_form(text: str) -> None:
    body, plain = (approval_body(evil_report(given), release=RELEASE) for given in (text, "plain"))
    assert [token.type for token in tokens_of(body)] == [token.type for token in tokens_of(plain)]
    assert AUTOLINK.search(body) is None
    assert all(character.isprintable() or character in "\n\u2060" for character in body)


@pytest.mark.parametrize("text", EVIL)
def test_untrusted_text_shows_as_itself_in_the_form(text: str) -> None:
    found = [token.content for token in tokens_of(f"x {escaped(text)}") if token.type in ("text", "text_special")]
    shown = "".join(found).replace("\u2060", "").removeprefix("x ")
    printable = text.replace("\u202e", "\\u202e").replace("\u2066", "\\u2066").replace("\u200b", "\\u200b")
    assert shown == " ".join(printable.replace("\x1b", "\\x1b").replace("\x00", "\\x00").split())


def test_a_report_without_champion_adapter_costs_and_latency_has_no_empty_part() -> None:
    report = a_first_report()
    page = page_of(report)
    assert [section["id"] for section in page.select("section")] == [
        "arms",
        "gate",
        "tags",
        "retrieval",
        "changes",
        "measured",
    ]
    assert all(figure.svg for figure in page.find_all("figure"))
    assert words(page.select_one(".facts")) == "Correct 69.8 % 500 questions, base+RAG Gate ✓ passed 4 rules"
    text = words(page)
    assert "Champion" not in text
    assert "None" not in text
    body = approval_body(report, release=RELEASE)
    assert [line for line in body.splitlines() if re.match(r"\*\*|- \*\*|This", line)] == [
        (
            "**First release: there is no champion to beat; base+RAG is correct on 69.8 % (65.6 % to 73.7 %) of 500"
            " questions.**"
        ),
        "**Serving mode: rag** (base+RAG). There is no adapter.",
        (
            "**Gate:** all 4 rules passed; tightest: recall@10 0.91, at least 0.88; refusals 0.87, at least 0.76;"
            " correct 0.84, at least 0.60."
        ),
        "- **Documents:** 240 added; 240 documents in all.",
        "- **Rows:** no row changed.",
        "- **Freshness:** none of 240 documents is held; 0 unexplained stale passages.",
        (
            "This decision is bound to release `4be14be14be1`, evaluation `e7a1e7a1e7a1`, dataset `d5b2d5b2d5b2`,"
            " snapshot `5a3c5a3c5a3c`."
        ),
    ]


def test_a_report_of_nothing_still_renders() -> None:
    empty = a_first_report(arms=(), retrieval={}, rules=())
    assert [section["id"] for section in page_of(empty).select("section")] == ["changes", "measured"]
    assert "| Arm " not in approval_body(empty, release=RELEASE)
    assert verdict_lines(empty, RELEASE)[2:4] == ["Correct: not measured.", "Gate: no rule was checked."]
