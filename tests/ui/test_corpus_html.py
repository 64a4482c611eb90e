"""The page of a corpus as HTML: what it says, what it escapes, and the chart of its releases."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from tests.evaluation.reports import ARMS, RULES, a_first_report, a_report, an_arm
from tidegate.core.records import DatasetCounts, GateRule, QuarantinedDocument
from tidegate.ui.corpus_html import corpus_fragment, in_theme, list_fragment
from tidegate.ui.page_data import CorpusPage, Decision, FailedStep, Served, SnapshotShown, Version, Waiting
from tidegate.ui.release_chart import draw_releases

DAY = 86400.0
NOW = 1_780_000_000.0
KEY = "e7a1" * 16
HOSTILE = "<script>alert('x')</script>\" onload=\"x"
OURS = {
    *("style", "header", "h1", "h2", "nav", "a", "div", "section", "p", "dl", "dt", "dd", "ul", "li", "strong", "span"),
    *("table", "thead", "tbody", "tr", "th", "td", "code", "time", "details", "summary", "iframe"),
    *("svg", "g", "line", "polyline", "circle", "rect", "path", "text", "title"),
}


class Parts(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: dict[str, str] = {}
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.here = dict(attrs).get("href" if tag == "a" else "src") if tag in {"a", "iframe"} else None

    def handle_data(self, data: str) -> None:
        self.words += f" {data}"
        if getattr(self, "here", None):
            self.links[data] = str(self.here)
            self.here = None


def served(release: str = "a" * 64, **report: object) -> Served:
    made = a_report(corpus="harbour", **report)
    return Served(release, "5" * 64, f"{'ad' * 32}.0f1e2d3c", "hybrid", KEY, made)


def index_only(release: str = "b" * 64) -> Served:
    return Served(release, "5" * 64, None, "rag", None)


def stopped(rule: str) -> GateRule:
    return GateRule(name=rule, value=1.0, threshold=0.5, passed=False)


def version(seq: int, holds: Served | None, **changes: object) -> Version:
    fields = {
        "op": "promote",
        "by": "approval",
        "written": NOW - (40 - seq) * DAY,
        "release": "a" * 64,
        "served": holds,
    }
    return Version(seq=seq, **(fields | changes))


def page(**changes: object) -> CorpusPage:
    return CorpusPage(**({"corpus": "harbour", "now": NOW, "versions": (version(7, served()),)} | changes))


def test_every_text_that_is_not_ours_is_escaped() -> None:
    hostile = page(
        corpus=HOSTILE,
        versions=(version(7, served(), by=HOSTILE, op="rollback"),),
        candidate=served("c" * 64, rules=(stopped(HOSTILE),)),
        quarantine=(QuarantinedDocument(document=HOSTILE, reason=HOSTILE),),
        failures=(FailedStep(HOSTILE, HOSTILE, HOSTILE, HOSTILE),),
        problems=(HOSTILE,),
        embedded=KEY,
    )
    for shown in (Parts(corpus_fragment(hostile)), Parts(list_fragment([hostile]))):
        assert shown.tags <= OURS
        assert not {name for name in shown.attributes if name.startswith("on")}
        assert HOSTILE in shown.words


def test_the_cards_say_what_serves_what_waits_and_how_old_the_oldest_change_is() -> None:
    arms = (*ARMS[:3], an_arm("adapter+RAG", 200, 100, 30), ARMS[4])
    shown = page(
        candidate=served("c" * 64, arms=arms, rules=(*RULES, stopped("churn"), stopped("tag number"))),
        newest=SnapshotShown("5" * 64, 9, 1240, 5310),
        champion_snapshot=SnapshotShown("4" * 64, 7, 1200, 5100),
        waiting=Waiting(2, NOW - 76 * 3600),
        refreshed=NOW - 5.9 * 3600,
        withheld=3,
        quarantine=(QuarantinedDocument(document="a.pdf", reason="corrupt"),),
        rows=DatasetCounts(
            train=600, dev=80, holdout=400, failed=3, stale=14, dangling=2, bridging=5, drafts=9, dropped=1
        ),
    )
    words = re.sub(r"\s+", " ", Parts(corpus_fragment(shown)).words)
    for told in (
        "Champion v7 release aaaaaaaaaaaa since",
        "by approval serves by adapter and retrieval",
        "holds 1,200 documents, 5,100 chunks",
        "verdict better gate stopped by churn, tag number",
        "answers correct 60.0 % 79.2 %",
        "refusal recall 66.7 % 79.3 %",
        "recall@10 91.2 % 90.8 %",
        "Freshness 3 d old, 2 snapshots wait source read 5 h ago",
        "in quarantine 1 document withheld deletions 3 oldest held 3.5 d unexplained stale passages 0",
        "14 stale, 2 dangling",
        "1,080 rows: 600 train, 80 dev, 400 holdout failed 3 left out 15",
        "1 document in quarantine Document Reason a.pdf corrupt",
    ):
        assert told in words


@pytest.mark.parametrize(
    ("waiting", "told"),
    [
        (Waiting(0, None), "up to date"),
        (Waiting(1, NOW - 60), "less than 1 h old, 1 snapshot waits"),
        (Waiting(30, NOW - 300 * DAY, at_least=True), "over 300 d old, 30 snapshots wait"),
        (Waiting(2, None), "2 snapshots wait"),
        (None, "not known"),
    ],
)
def test_unapplied_changes_are_told_by_the_age_of_the_oldest(waiting: Waiting | None, told: str) -> None:
    assert f'<p class="main">{told}</p>' in corpus_fragment(page(waiting=waiting))


@pytest.mark.parametrize(
    ("kind", "told"),
    [("gate_failed", "stopped by the gate"), ("rejected", "rejected"), ("expired", "not answered in time")],
)
def test_a_candidate_that_ended_does_not_wait_and_says_how_it_ended(kind: str, told: str) -> None:
    decision = Decision(kind, HOSTILE, "wrong refusals", NOW - DAY, "c" * 64, KEY)
    shown = page(candidate=served("c" * 64, rules=(stopped("wrong refusals"),)), decision=decision)
    words = re.sub(r"\s+", " ", Parts(corpus_fragment(shown)).words)
    assert f"None waits: the newest was {told}" in words
    assert "stopped by wrong refusals" in words
    assert HOSTILE in Parts(corpus_fragment(shown)).words
    assert "c" * 12 not in Parts(list_fragment([shown])).words


def test_a_corpus_without_anything_says_so() -> None:
    words = Parts(corpus_fragment(CorpusPage(corpus="harbour", now=NOW))).words
    assert "None: no release of this corpus serves yet." in words
    assert "nothing serves yet" in words
    assert "Releases" not in words


def test_addresses_are_relative_so_that_they_work_behind_a_path_prefix() -> None:
    versions = (version(2, served()), version(1, index_only(), release="b" * 64))
    links = Parts(corpus_fragment(page(versions=versions, embedded=KEY), theme="dark")).links
    report = f"tidegate/corpora/promote_release.harbour/evaluations/{KEY}/report.html?theme=dark"
    assert links == {
        "All corpora": "plugin/tidegate",
        "Promotions": "dags/promote_release.harbour",
        "Refreshes": "dags/refresh_index.harbour",
        "Roll back": "dags/rollback_release.harbour",
        "Open on its own": report,
    }
    assert f'<iframe src="{report}"' in corpus_fragment(page(embedded=KEY), theme="dark")
    assert 'sandbox="allow-popups"' in corpus_fragment(page(embedded=KEY))
    assert Parts(list_fragment([page()])).links == {"harbour": "plugin/tidegate/harbour"}
    assert "All corpora" not in corpus_fragment(page(), alone=True)


def test_releases_beyond_eight_are_folded_and_the_rest_is_counted() -> None:
    versions = tuple(version(seq, index_only()) for seq in range(500, 470, -1))
    shown = corpus_fragment(page(versions=versions))
    assert "<summary>22 older releases of 492</summary>" in shown
    open_rows, folded = shown.split("<details>")
    assert (open_rows.count("<td>v"), folded.count("<td>v")) == (8, 22)


def points(svg: str, metric: str) -> list[tuple[float, float]]:
    found = re.search(rf'data-metric="{re.escape(metric)}"', svg)
    assert found
    group = re.findall(r'<g data-metric="([^"]+)"><polyline points="([^"]*)"', svg)
    return [tuple(map(float, point.split(","))) for point in dict(group)[metric].split()]


def test_the_chart_draws_each_metric_over_the_releases_and_the_candidate_last() -> None:
    arms = (*ARMS[:3], an_arm("adapter+RAG", 100, 150, 0), ARMS[4])  # 250 of 500 correct, every refusal
    versions = (version(3, served()), version(2, index_only()), version(1, served()))
    svg = str(draw_releases(versions, served("c" * 64, arms=arms)))
    # Four columns share 872 units from 48 on; 0 % is at y 198, 100 % at 14.
    assert points(svg, "correct") == [(157.0, 43.1), (593.0, 43.1), (811.0, 106.0)]
    assert points(svg, "refusal_recall")[-1] == (811.0, 14.0)
    assert points(svg, "recall@10")[-1] == (811.0, 30.2)
    assert re.findall(r">(v\d|candidate)</text>", svg) == ["v1", "v2", "v3", "candidate"]
    assert "50.0 % answers correct" in svg
    assert "answers correct: 50.0 % (45.6 % to 54.4 %), 500 rows" in svg
    assert "not evaluated" in svg
    assert set(re.findall(r'(?:fill|stroke)="([^"]+)"', svg)) == {"currentColor", "none"}


@pytest.mark.parametrize("all_right", [True, False])
def test_the_labels_of_the_chart_never_touch(all_right: bool) -> None:
    right, refused, recall = (350, 150, 1.0) if all_right else (0, 0, 0.0)
    arms = (*ARMS[:3], an_arm("adapter+RAG", right, refused, 0), ARMS[4])
    svg = str(draw_releases((version(1, served(arms=arms, retrieval={"candidate": {"recall@10": recall}})),), None))
    heights = [float(y) for y in re.findall(r'x="942" y="([\d.]+)"', svg)]
    assert len(heights) == 3
    assert all(below - above >= 15 for above, below in pairwise(heights))
    assert max(heights) <= 202


def test_at_most_fifteen_columns_are_named_and_the_newest_always_is() -> None:
    svg = str(draw_releases(tuple(version(seq, served()) for seq in range(30, 0, -1)), None))
    named = re.findall(r">(v\d+)</text>", svg)
    assert (len(named), named[-1]) == (15, "v30")


def test_without_a_metric_there_is_no_chart() -> None:
    assert draw_releases((version(1, index_only()), version(2, None)), None) is None
    words = Parts(corpus_fragment(page(versions=(version(2, None),)))).words
    assert "No release shown here has been evaluated." in words
    assert "not readable" in words


def test_a_first_release_shows_its_metrics_without_a_champion_to_compare_with() -> None:
    first = Served("c" * 64, "5" * 64, None, "rag", KEY, a_first_report(corpus="harbour"))
    words = re.sub(r"\s+", " ", Parts(corpus_fragment(page(versions=(), candidate=first))).words)
    assert "verdict no champion to compare with gate all 4 rules pass" in words
    assert "answers correct 69.8 % –" in words


@pytest.mark.parametrize(("theme", "query"), [("dark", b"@media all"), ("light", b"@media not all")])
def test_a_report_takes_the_theme_of_the_host_and_its_text_stays(theme: str, query: bytes) -> None:
    asked = b"@media (prefers-color-scheme: dark)"
    report = (
        b"<style>:root { color-scheme: light dark }" + asked + b"{}</style><p>" + asked + b" color-scheme: light dark"
    )
    styled = b"<style>:root { color-scheme: " + theme.encode() + b" }" + query + b"{}</style>"
    assert in_theme(report, theme) == styled + b"<p>" + asked + b" color-scheme: light dark"
    assert in_theme(report, None) == report


def test_the_styles_of_a_real_report_have_the_query_that_the_theme_replaces() -> None:
    from tidegate.evaluation.report_html import html_report

    report = html_report(a_report(), release="a" * 64).encode()
    dark = in_theme(report, "dark")
    assert b"prefers-color-scheme" not in dark
    assert dark != in_theme(report, "light") != report
