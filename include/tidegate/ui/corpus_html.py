"""The page of one corpus, and the list of several, as HTML fragments for the Airflow UI.

Addresses are relative: they start at the ``<base>`` of Airflow's page, wherever a path prefix puts it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Literal
from urllib.parse import quote

from markupsafe import Markup

from tidegate.core.evaluation_records import EvaluationReport, Figure
from tidegate.core.records import DatasetCounts
from tidegate.ui.markup import age, count, digest, facts, join, moment, percent, table, tag
from tidegate.ui.page_data import METRICS, CorpusPage, Decision, Served, SnapshotShown, Version, champion_figures
from tidegate.ui.release_chart import draw_releases

Theme = Literal["light", "dark"]

_OPEN_ROWS = 8
"""Releases that are listed before the rest is folded away."""
_MODES: dict[str, str] = {
    "rag": "base model and retrieval",
    "adapter": "adapter, no retrieval",
    "hybrid": "adapter and retrieval",
}
_ENDINGS = {
    "gate_failed": "stopped by the gate",
    "rejected": "rejected",
    "expired": "not answered in time",
    "refused": "not published",
}
_VERDICTS = {"better": "better", "worse": "worse", "not_enough_evidence": "not enough evidence"}


def page_address(corpus: str = "") -> str:
    """Return where the page of a corpus, or the list of all, is in Airflow's UI."""
    return f"plugin/tidegate/{quote(corpus)}".rstrip("/")


def report_address(dag_id: str, evaluation: str, theme: Theme | None = None) -> str:
    """Return where the HTML report of an evaluation is served."""
    query = f"?theme={theme}" if theme else ""
    return f"tidegate/corpora/{quote(dag_id)}/evaluations/{evaluation}/report.html{query}"


def in_theme(report: bytes, theme: Theme | None) -> bytes:
    """Return a report whose styles ask no longer what the system prefers: the switch of Airflow's UI decides."""
    if theme is None:
        return report
    styles, end, body = report.partition(b"</style>")
    dark = b"@media all" if theme == "dark" else b"@media not all"
    styles = styles.replace(b"@media (prefers-color-scheme: dark)", dark)
    return styles.replace(b"color-scheme: light dark", f"color-scheme: {theme}".encode()) + end + body


def corpus_fragment(page: CorpusPage, *, alone: bool = False, theme: Theme | None = None) -> str:
    """Return the page of a corpus; one that is ``alone`` links to no list. Without a theme the system's is used."""
    others = None if alone else tag("a", "All corpora", href=page_address())
    dags = [tag("a", words, href=f"dags/{quote(dag)}") for dag, words in _dags(page)]
    return _fragment(
        tag("header", tag("h1", page.corpus), tag("nav", others, *dags)),
        _problems(page),
        tag("div", _champion(page), _candidate(page), _freshness(page), _rows(page), class_="cards"),
        _releases(page),
        _quarantine(page),
        _report(page, theme),
    )


def list_fragment(pages: Sequence[CorpusPage]) -> str:
    """Return one row per corpus."""
    headings = ["Corpus", "Champion", "Candidate", "Since", "Unapplied changes", "Quarantined", "Stale rows", "State"]
    rows = [
        (
            tag("a", page.corpus, href=page_address(page.corpus)),
            _version_name(page.champion) if page.champion else _none(),
            digest(page.candidate.release) if page.candidate and not page.decision else _none(),
            moment(page.champion.written if page.champion else None) or _none(),
            _unapplied(page),
            len(page.quarantine),
            page.rows.stale + page.rows.dangling if page.rows else _none(),
            _state(page),
        )
        for page in pages
    ]
    shown = table(headings, rows) if rows else tag("p", "No corpus that you may read.", class_="quiet")
    return _fragment(tag("header", tag("h1", "Corpora")), tag("section", shown))


def _fragment(*children: object) -> str:
    style = tag("style", Markup((files(__package__) / "page.css").read_text(encoding="utf-8")))  # noqa: S704 - our file
    return join([style, *children])


def _dags(page: CorpusPage) -> list[tuple[str, str]]:
    """Return (DAG id, words) of what may be done from here."""
    found = [(page.dag_id, "Promotions"), (f"refresh_index.{page.corpus}", "Refreshes")]
    previous = len({version.release for version in page.versions}) > 1
    return [*found, (f"rollback_release.{page.corpus}", "Roll back")] if previous else found


def _problems(page: CorpusPage) -> Markup | None:
    failed = [
        tag(
            "li",
            tag("strong", f"{step.step} failed in the newest run: {step.code}. "),
            f"{step.what}. Next: {step.next_action}",
        )
        for step in page.failures
    ]
    lines = [*failed, *(tag("li", problem) for problem in page.problems)]
    return tag("section", tag("ul", *lines), class_="problems", role="status") if lines else None


def _card(title: str, *children: object) -> Markup:
    return tag("section", tag("h2", title), *children, class_="card")


def _champion(page: CorpusPage) -> Markup:
    version = page.champion
    if version is None:
        return _card("Champion", tag("p", "None: no release of this corpus serves yet.", class_="quiet"))
    served = version.served
    return _card(
        "Champion",
        tag("p", _version_name(version), class_="main"),
        facts(
            ("release", digest(version.release)),
            ("since", moment(version.written)),
            ("by", version.by if version.op == "promote" else f"rollback: {version.by}"),
            *(_contents(served, page.champion_snapshot) if served else ()),
        ),
    )


def _candidate(page: CorpusPage) -> Markup:
    candidate, decision = page.candidate, page.decision
    if decision is not None:
        return _ended(page, decision)
    if candidate is None:
        return _card("Candidate", tag("p", "None: no other release waits.", class_="quiet"))
    told = _evaluated(candidate, candidate.report) if candidate.report else tag("p", "Not evaluated.", class_="quiet")
    return _card(
        "Candidate", tag("p", digest(candidate.release), class_="main"), facts(*_contents(candidate, None)), told
    )


def _ended(page: CorpusPage, decision: Decision) -> Markup:
    """Return how the newest candidate ended; the report below is its own."""
    candidate = page.candidate
    own = candidate if candidate and candidate.release == decision.release else None
    return _card(
        "Candidate",
        tag("p", f"None waits: the newest was {_ENDINGS[decision.kind]}", class_="main"),
        facts(
            ("release", digest(decision.release)),
            ("by", decision.who),
            ("why", decision.why),
            ("when", moment(decision.when)),
        ),
        _evaluated(own, own.report) if own and own.report else None,
    )


def _evaluated(candidate: Served, report: EvaluationReport) -> Markup:
    """Return verdict, gate and figures of a candidate; the champion's are those of the same evaluation."""
    failed = [rule.name for rule in report.rules if not rule.passed]
    gate = f"stopped by {', '.join(failed)}" if failed else f"all {len(report.rules)} rules pass"
    verdict = _VERDICTS[report.comparison.verdict] if report.comparison else "no champion to compare with"
    decided = facts(("verdict", verdict), ("gate", tag("span", gate, class_="bad" if failed else "good")))
    after, before = candidate.figures(), champion_figures(report)
    rows = [(words, *(_figure(found, name) for found in (after, before))) for name, words in METRICS.items()]
    return decided + table(["", "candidate", "champion"], rows)


def _figure(figures: Mapping[str, Figure], metric: str) -> Markup | str:
    return percent(figures[metric].value) if metric in figures else _none()


def _none() -> Markup:
    return tag("span", "–", class_="quiet")


def _contents(served: Served, snapshot: SnapshotShown | None) -> list[tuple[str, object]]:
    held = f"{count(snapshot.documents, 'document')}, {count(snapshot.chunks, 'chunk')}" if snapshot else None
    return [
        ("serves by", _mode(served)),
        ("adapter", digest(served.adapter) or "none"),
        ("snapshot", digest(served.snapshot)),
        ("holds", held),
    ]


def _freshness(page: CorpusPage) -> Markup:
    looked = age(page.now - page.refreshed) + " ago" if page.refreshed is not None else "not recorded"
    report = next((served.report for served in (page.candidate, _served(page)) if served and served.report), None)
    stale = report.freshness.unexplained_stale if report else None
    return _card(
        "Freshness",
        tag("p", _unapplied(page), class_="main"),
        facts(
            ("source read", looked),
            ("newest snapshot", digest(page.newest.snapshot) if page.newest else "none"),
            ("holds", count(page.newest.documents, "document") if page.newest else None),
            ("in quarantine", count(len(page.quarantine), "document")),
            ("withheld deletions", page.withheld),
            ("oldest held", f"{report.freshness.held_days:.1f} d" if report and report.freshness.held else None),
            ("unexplained stale passages", stale),
        ),
    )


def _unapplied(page: CorpusPage) -> str:
    """Return the age of the oldest change that a snapshot holds and the champion does not."""
    waiting = page.waiting
    if waiting is None:
        return "not known" if page.champion or page.problems else "nothing serves yet"
    if not waiting.snapshots:
        return "up to date"
    held = count(waiting.snapshots, "snapshot") + (" wait" if waiting.snapshots > 1 else " waits")
    if waiting.oldest is None:
        return held
    return f"{'over ' if waiting.at_least else ''}{age(page.now - waiting.oldest)} old, {held}"


def _rows(page: CorpusPage) -> Markup:
    rows = page.rows
    if rows is None:
        return _card("Q&A set", tag("p", "None: releases cannot be evaluated without one.", class_="quiet"))
    valid = rows.train + rows.dev + rows.holdout
    return _card(
        "Q&A set",
        tag("p", _stale(rows), class_="main"),
        facts(
            ("dataset", digest(page.dataset)),
            ("valid", f"{valid:,} rows: {rows.train:,} train, {rows.dev:,} dev, {rows.holdout:,} holdout"),
            ("failed", f"{rows.failed:,}"),
            ("left out", f"{rows.bridging + rows.drafts + rows.dropped:,}"),
        ),
    )


def _stale(rows: DatasetCounts) -> str:
    return f"{rows.stale:,} stale, {rows.dangling:,} dangling"


def _releases(page: CorpusPage) -> Markup | None:
    if not page.versions:
        return None
    chart = draw_releases(page.versions, page.candidate)
    none = tag("p", "No release shown here has been evaluated.", class_="quiet")
    rows = [_release_row(version) for version in page.versions]
    headings = ["Version", "Written", "Release", "By", "Adapter", "Serves by", *METRICS.values()]
    total, shown = page.versions[0].seq, len(rows)
    more = f"{count(shown - _OPEN_ROWS, 'older release')}" + (f" of {total - _OPEN_ROWS:,}" if total > shown else "")
    folded = tag("details", tag("summary", more), table(headings, rows[_OPEN_ROWS:])) if shown > _OPEN_ROWS else None
    return tag("section", tag("h2", "Releases"), chart or none, table(headings, rows[:_OPEN_ROWS]), folded)


def _release_row(version: Version) -> list[object]:
    served = version.served
    figures = served.figures() if served else {}
    shown = [_figure(figures, name) for name in METRICS]
    mode = _mode(served) if served else "not readable"
    adapter = (digest(served.adapter) or "none") if served else ""
    when = moment(version.written) or ""
    return [_version_name(version), when, digest(version.release), version.by, adapter, mode, *shown]


def _mode(served: Served) -> str:
    return "passages, no model" if served.adapter is None else _MODES[served.serving_mode]


def _version_name(version: Version) -> str:
    return f"v{version.seq}" + (" (rollback)" if version.op == "rollback" else "")


def _quarantine(page: CorpusPage) -> Markup | None:
    if not page.quarantine:
        return None
    rows = [(item.document, item.reason) for item in page.quarantine]
    title = tag("h2", f"{count(len(rows), 'document')} in quarantine")
    return tag("section", title, table(["Document", "Reason"], rows))


def _report(page: CorpusPage, theme: Theme | None) -> Markup | None:
    if page.embedded is None:
        return None
    own = page.candidate is not None and page.candidate.evaluation == page.embedded
    title = f"Report of the {'candidate' if own else 'champion'}"
    address = report_address(page.dag_id, page.embedded, theme)
    frame = tag("iframe", src=address, title=title, sandbox="allow-popups", loading="lazy")
    link = tag("a", "Open on its own", href=address, target="_blank", rel="noopener")
    return tag("section", tag("h2", title, link), frame)


def _served(page: CorpusPage) -> Served | None:
    return page.champion.served if page.champion else None


def _state(page: CorpusPage) -> Markup:
    if page.failures:
        return tag("span", f"failed: {page.failures[0].code}", class_="bad")
    if page.problems:
        return tag("span", "not readable in part", class_="bad")
    return tag("span", "ok", class_="good") if page.newest else tag("span", "no snapshot yet", class_="quiet")
