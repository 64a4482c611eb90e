"""The page of an evaluation: figures of the record, charts to scale, and untrusted text that stays text."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from bs4 import BeautifulSoup

from tests.evaluation.reports import (
    COSTS,
    EVIL,
    RULES,
    a_report,
    an_example,
    evil_report,
    page_of,
    words,
)
from tidegate.core.records import GateRule
from tidegate.evaluation.charts import decades, interval_plot, linear_ticks


def shape(page: BeautifulSoup) -> list[tuple[str, list[str]]]:
    """Return all elements with their attributes; titles, which labels that are cut have, aside."""
    return [(node.name, sorted(node.attrs)) for node in page.find_all() if node.name != "title"]


def rows_of(page: BeautifulSoup, section: str, table: int = 0) -> list[list[str]]:
    found = page.select(f"#{section} table")[table].select("tr")
    return [[words(cell) for cell in row.find_all(["th", "td"])] for row in found]


@pytest.mark.parametrize("text", EVIL)
def test_untrusted_text_stays_text_on_the_page(text: str) -> None:
    page, plain = page_of(evil_report(text)), page_of(evil_report("plain"))
    assert shape(page) == shape(plain)
    html = str(page)
    assert all(character.isprintable() or character == "\n" for character in html)
    shown = page.select_one(".passage p:not(.where)").get_text()
    expected = text.replace("\u202e", "\\u202e").replace("\u2066", "\\u2066").replace("\u200b", "\\u200b")
    assert shown == "\n".join(expected.replace("\x1b", "\\x1b").replace("\x00", "\\x00").splitlines())


def test_the_page_fetches_nothing_and_runs_nothing() -> None:
    page = page_of(evil_report("https://evil.test"))
    assert page.find_all(["script", "link", "img", "iframe", "object", "embed", "base", "form"]) == []
    assert {node["href"][0] for node in page.find_all(href=True)} == {"#"}
    names = {name for node in page.find_all() for name in node.attrs}
    assert not any(name.startswith("on") for name in names)
    assert names.isdisjoint({"src", "srcset", "xlink:href", "style"})
    assert "url(" not in page.style.string
    assert "@import" not in page.style.string
    assert page.find("meta", {"http-equiv": "Content-Security-Policy"})["content"].startswith("default-src 'none';")


def test_every_link_of_the_page_has_its_section_and_every_section_its_heading() -> None:
    page = page_of(a_report())
    sections = [section["id"] for section in page.select("section")]
    assert [link["href"] for link in page.select("nav a")] == [f"#{name}" for name in sections]
    assert sections == [
        "arms", "comparisons", "gate", "examples", "tags", "retrieval", "changes", "cost", "latency", "measured",
    ]  # fmt: skip
    assert all(section.h2["id"] == section["aria-labelledby"] for section in page.select("section"))
    assert len(page.find_all("h1")) == 1
    assert all(cell.has_attr("scope") for cell in page.find_all("th"))
    assert all(figure.figcaption and figure.svg["aria-label"] for figure in page.find_all("figure"))


def test_the_page_shows_the_figures_of_the_record() -> None:
    page = page_of(a_report(judge={"model": "judge-1", "prompt": "v2", "preference": "tie"}))
    assert rows_of(page, "arms")[4] == [
        "adapter+RAG", "84.2 % 80.7–87.1", "83.1 % 78.9–86.7", "86.7 % 80.3–91.2", "6.3 % 4.2–9.3",
    ]  # fmt: skip
    assert rows_of(page, "arms", 1)[4] == [
        "adapter+RAG", "74.6 %", "66.3 %", "85.5 %", "0.806", "0.798", "412", "14.2",
    ]  # fmt: skip
    assert rows_of(page, "comparisons")[1:3] == [
        [
            "Candidate with champion", "▲ better", "+5.0 +2.1 to +7.9", "< 0.001", "1.000", "500 (100)", "39 : 14",
            "< 0.001",
        ],
        [
            "On rows with unchanged evidence", "◆ not enough evidence", "+1.2 −0.9 to +3.4", "0.131", "0.880",
            "412 (81)", "17 : 12", "0.458",
        ],
    ]  # fmt: skip
    assert "model judge-1, preference tie, prompt v2" in words(page.select_one("#comparisons"))
    assert rows_of(page, "tags")[1] == ["version", "36", "75.0 % 58.9–86.2", "88.9 % 74.7–95.6", "−13.9"]
    assert [row[0] for row in rows_of(page, "tags")[2:]] == [
        "procedure", "number", "list", "code", "near-miss", "table", "security",
    ]  # fmt: skip
    assert rows_of(page, "retrieval") == [
        ["Index", "recall@1", "recall@5", "recall@10", "mrr", "ndcg@10"],
        ["candidate", "0.741", "0.884", "0.912", "0.806", "0.829"],
        ["champion", "0.735", "0.880", "0.908", "0.801", "0.825"],
    ]
    assert rows_of(page, "cost")[3] == ["adapter+RAG", "0.31", "262.00", "262.31", "265.10", "293.00", "572.00"]
    assert rows_of(page, "latency")[2] == ["adapter+RAG", "1.21", "1.88", "–", "11.7", "16", "1"]
    measured = words(page.select_one("#measured"))
    assert "Engine transformers 5.23.0, float32" in measured
    assert "Left out 11 rows" in measured
    assert "base 60.0 % of 40, adapter 55.0 % of 40" in measured


def test_every_rule_stands_on_the_page_and_failed_ones_first() -> None:
    failed = GateRule(name="churn", value=0.7, threshold=0.4, passed=False)
    page = page_of(a_report(rules=(*RULES[:11], failed, *RULES[12:])))
    rows = rows_of(page, "gate")[1:]
    assert rows[0] == ["churn", "0.70", "at most 0.40", "✗ fail"]
    assert [row[0] for row in rows[1:]] == [rule.name for rule in RULES if rule.name != "churn"]
    assert {row[3] for row in rows[1:]} == {"✓ pass"}


def test_wins_and_losses_show_question_answers_and_passages() -> None:
    page = page_of(a_report())
    first = page.select(".example")[0]
    assert words(page.select("#examples h3")[0]) == "Lost: 1"
    assert words(first) == (
        "How long does the badge office keep visitor records? Right answer 90 days Candidate The documents do not say."
        " ✗ wrong Champion 90 days [1] ✓ right 2 passages shown to the candidate"
        + "".join(
            f" [{number}] runbooks/printing.md · Printing > Ports The label printer listens on port 9100. The office"
            " printers listen on port 631 and need a queue name."
            for number in (1, 2)
        )
    )
    many = page_of(a_report(examples=tuple(an_example(f"Question {number}?") for number in range(200))))
    assert len(many.select(".example")) == 200
    assert [words(folded.summary) for folded in many.select("#examples > details")] == ["188 more"]


def test_the_plot_of_the_arms_places_values_on_its_axis() -> None:
    svg = page_of(a_report()).select_one("#arms svg")
    ticks = {text.get_text(): float(text["x"]) for text in svg.select("text.tick") if text.get_text().isdigit()}
    assert sorted(ticks, key=int) == ["0", "20", "40", "60", "80", "100"]
    scale = (ticks["100"] - ticks["0"]) / 100
    served = svg.select_one(".mark.candidate")
    assert float(served.circle["cx"]) == pytest.approx(ticks["0"] + 84.2 * scale, abs=0.1)
    assert float(served.line["x1"]) == pytest.approx(ticks["0"] + 80.74 * scale, abs=0.1)
    assert float(served.line["x2"]) == pytest.approx(ticks["0"] + 87.13 * scale, abs=0.1)
    assert [words(text) for text in svg.select("text.note")] == [
        "10.4 %", "69.8 %", "32.4 %", "84.2 %", "79.2 %", "82.4 %", "80.2 %",
    ]  # fmt: skip
    assert svg.select_one("text.strong").get_text() == "adapter+RAG"


def test_the_plot_of_costs_has_its_rings_where_lines_cross() -> None:
    svg = page_of(a_report()).select_one("#cost svg")
    lines = [
        [tuple(map(float, point.split(","))) for point in line["points"].split()] for line in svg.select("polyline")
    ]
    assert len(lines) == 4
    scale = {text.get_text(): float(text["y"]) - 4 for text in svg.select('text.tick[text-anchor="end"]')}
    api = lines[3][0]  # 110 USD at 1,000 queries
    assert api[1] == pytest.approx(scale["100"] + (scale["1,000"] - scale["100"]) * math.log10(1.1), abs=0.1)
    rings = [(float(ring["cx"]), float(ring["cy"])) for ring in svg.select(".ring")]
    for (across, height), pair in zip(rings, ((0, 2), (2, 3)), strict=True):
        for number in pair:
            near = [y for x, y in lines[number] if abs(x - across) < 14]
            assert min(near) - 1 <= height <= max(near) + 1
    assert len({line["stroke-dasharray"] for line in svg.select("polyline")}) == 4  # not by colour alone
    heights = sorted(float(name["y"]) for name in svg.select("text.name"))
    assert min(below - above for above, below in pairwise(heights)) >= 15


@pytest.mark.parametrize("each", [0.0, 5.0])
def test_costs_of_nothing_have_no_curve(each: float) -> None:
    free = [arm.model_copy(update={"per_1000_queries": 0.0, "fixed_per_month": 0.0}) for arm in COSTS.arms[:2]]
    priced = COSTS.arms[3].model_copy(update={"per_1000_queries": each})
    page = page_of(a_report(costs=COSTS.model_copy(update={"arms": (*free, priced), "break_even": ()})))
    assert len(page.select("#cost polyline")) == (1 if each else 0)
    assert len(page.select("#cost figure")) == (1 if each else 0)
    assert len(rows_of(page, "cost")) == 4


def test_ticks_are_round_and_enclose_their_range() -> None:
    assert linear_ticks(10.4, 87.1, (0, 100)) == [0, 20, 40, 60, 80, 100]
    assert linear_ticks(-0.9, 18.3) == [-5, 0, 5, 10, 15, 20]
    assert linear_ticks(99.2, 100, (0, 100)) == pytest.approx([99.2, 99.4, 99.6, 99.8, 100])
    for value in (0.0, 50.0, 100.0):
        ticks = linear_ticks(value, value, (0, 100))
        assert ticks[0] <= value <= ticks[-1]
        assert ticks[0] < ticks[-1]
    assert decades(1_000, 1_000_000) == [1_000, 10_000, 100_000, 1_000_000]
    assert decades(0.5, 20) == [1, 10]
    with pytest.raises(ValueError, match="a plot needs at least one row"):
        interval_plot((), title="t", unit="u")
