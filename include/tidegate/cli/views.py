"""Results as people read them: one function per command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tidegate.cli.output import note, passage, say, short, shown, table, when

if TYPE_CHECKING:
    from tidegate.core.event_records import Event
    from tidegate.pipelines.compare_releases import ReleaseComparison
    from tidegate.pipelines.evaluate_retrieval import RetrievalResult
    from tidegate.pipelines.promote_release import Candidate
    from tidegate.pipelines.refresh_index import RefreshReport

_MORE = 5
_NAMED = 20
_DIGEST = 64
"""Digits of a digest."""


def show_refresh(corpus: str, report: RefreshReport, candidate: Candidate, result: Mapping[str, Any]) -> None:
    """Show counts, quarantine and what serves now."""
    say(table(["documents", *report.documents], [["", *report.documents.values()]]))
    say()
    say(table(["chunks", *report.chunks], [["", *report.chunks.values()]]))
    if report.quarantine:
        say()
        say(table(["quarantined", "reason"], [[item["document"], item["reason"]] for item in report.quarantine]))
    say()
    name = f"release {short(candidate.release)} is ready but not promoted" if candidate.release else "a new release"
    ready = "" if candidate.is_champion else f" ({name}: {candidate.why})"
    opened, written = f"{result['files_opened']} documents opened", f"{result['bytes_written']:,} bytes written"
    served = short(candidate.champion)
    say(f"corpus {corpus} serves release {served}{ready}: {opened}, {written}, {result['seconds']:.1f} s")


def show_passages(question: str, passages: Sequence[Mapping[str, Any]]) -> None:
    """Show ranked passages under their question."""
    say(f"? {shown(question)}")
    if not passages:
        say("  no passage matches")
    for rank, item in enumerate(passages, 1):
        also = f" and {len(item['also_in'])} more" if item["also_in"] else ""
        heading = f" > {shown(item['heading'])}" if item["heading"] else ""
        say(f"{rank:>3}. {shown(item['document'])}{also}{heading}  [{item['score']:.3f}]")
        say(passage(item["text"]))
    say()


def show_metrics(result: RetrievalResult, release: str) -> None:
    """Show one row of metrics per search mode."""
    names = list(result.modes["hybrid"])
    left_out = f"{result.unanswerable} unanswerable left out"
    say(f"{result.scored} questions scored by document, {left_out}; release {short(release)}\n")
    say(table(["mode", *names], [[mode, *metrics.values()] for mode, metrics in result.modes.items()]))


def note_unresolved(unresolved: Sequence[str], release: str) -> None:
    """Say which evidence is not in the release and therefore not scored."""
    if unresolved:
        names = ", ".join(shown(name) for name in unresolved[:_MORE]) + (", …" if len(unresolved) > _MORE else "")
        what = f"{len(unresolved)} evidence documents are not, or not unambiguously, in release {short(release)}"
        note(f"{what} and are left out: {names}")


def show_status(found: Sequence[Mapping[str, Any]]) -> None:
    """Show a row per corpus, then what needs attention."""
    headings = ["corpus", "version", "release", "documents", "chunks", "segments", "quarantined", "last run", "current"]
    say(table(headings, [_status_row(item) for item in found]))
    for item in found:
        for bad in item["quarantine"]:
            say(f"  {item['corpus']}: {shown(bad['document'])} is in quarantine: {bad['reason']}")
        if item["qa"]:
            say(f"  {item['corpus']}: dataset {short(item['dataset'])}: {_qa_counts(item['qa'])}")
        if item["adapter"]:
            say(f"  {item['corpus']}: adapter {short(item['adapter'])}")
        for step, record in item["last_run"].items():
            failure = record.get("failure")
            if failure:
                say(f"  {item['corpus']}: {step} failed with {failure['code']}: {failure['what']}")
                say(f"  {item['corpus']}: next: {failure['next_action']}")


def show_history(corpus: str, history: Sequence[Mapping[str, Any]]) -> None:
    """Show promotions and rollbacks, newest first."""
    headings = ["version", "op", "release", "mode", "snapshot", "adapter", "documents", "chunks", "by", "written (UTC)"]
    rows = [
        [
            f"v{row['version']}",
            row["op"],
            short(row["release"]),
            row["serving_mode"],
            short(row["snapshot"]),
            short(row["adapter"]),
            row["documents"],
            row["chunks"],
            "approval" if row["approval"] else row["reason"] or "policy",
            when(row["written"]),
        ]
        for row in history
    ]
    say(table(headings, rows) if rows else f"corpus {corpus} has no release yet")


def show_events(corpus: str, events: Sequence[Event]) -> None:
    """Show decisions, newest first."""
    headings = ["decided (UTC)", "event", "release", "snapshot", "adapter", "by", "why"]
    rows = [
        [
            event.when.replace("T", " ").removesuffix("Z"),
            event.kind,
            short(event.what.release),
            short(event.what.snapshot),
            short(event.what.adapter),
            event.who.name,
            event.why,
        ]
        for event in events
    ]
    say(table(headings, rows) if rows else f"corpus {corpus} has no event yet")


def show_difference(found: ReleaseComparison) -> None:
    """Show what a second release has otherwise than a first."""
    say(f"release {short(found.first)} -> {short(found.second)}")
    for what, difference in (("documents", found.documents), ("rows", found.rows)):
        marked = (("~", difference.changed), ("+", difference.added), ("-", difference.removed))
        counts = f"{len(difference.added)} added, {len(difference.changed)} changed, {len(difference.removed)} removed"
        say(f"\n{what}: {counts}; {difference.total} in {short(found.second)}")
        for mark, names in marked:
            for name in names[:_NAMED]:
                say(f"  {mark} {shown(name)}")
            if len(names) > _NAMED:
                say(f"  {mark} … and {len(names) - _NAMED} more")
    if found.metrics:
        say(f"\nmetrics over {'the same' if found.same_questions else 'different'} questions:")
        pairs = [(arm, name, *pair) for arm, values in found.metrics.items() for name, pair in values.items()]
        rows = [[arm, name, old, new, f"{new - old:+.3f}"] for arm, name, old, new in pairs]
        say(table(["arm", "metric", short(found.first), short(found.second), "change"], rows))
    if found.settings:
        say("\nsettings:")
        say(
            table(
                ["setting", short(found.first), short(found.second)],
                [_setting(*item) for item in found.settings.items()],
            )
        )


def _setting(name: str, pair: tuple[Any, Any]) -> list[object]:
    return [name, *(short(value) if isinstance(value, str) and len(value) >= _DIGEST else value for value in pair)]


def _qa_counts(counts: Mapping[str, int]) -> str:
    review = "; 'tidegate qa stale' lists what needs a person" if counts["stale"] or counts["dangling"] else ""
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) + review


def _status_row(item: Mapping[str, Any]) -> list[object]:
    outcomes = {record.get("outcome") for record in item["last_run"].values()}
    last = "failed" if "failed" in outcomes else "done" if outcomes else "-"
    current = "yes" if item["up_to_date"] else "no"
    counts = [item["documents"], item["chunks"], item["segments"], len(item["quarantine"])]
    return [item["corpus"], item["version"], short(item["release"]), *counts, last, current]


def show_stale(report: Mapping[str, Any]) -> None:
    """Show stale rows with old and new passage, then dangling ones."""
    for row in report["stale"]:
        say(f"{shown(row['row'])}: {shown(row['question'])}")
        for item in row["evidence"]:
            say(f"  {shown(item['document'])}")
            say(passage(item["old"], indent="    - ", lines=4))
            say(passage(item["new"], indent="    + ", lines=4) if item["new"] else "    + (nothing like it)")
        say()
    for row in report["dangling"]:
        say(f"{shown(row['row'])}: {shown(row['question'])}")
        say(f"  gone: {', '.join(shown(document) for document in row['documents'])}\n")
    say(f"{len(report['stale'])} stale, {len(report['dangling'])} dangling")


def show_asked(rows: Sequence[Mapping[str, Any]]) -> None:
    """Show questions that were answered badly, most asked first."""
    say(table(["asked", "question"], [[row["reason"], row["question"]] for row in rows]) if rows else "none")


def show_affected(found: Sequence[Mapping[str, Any]]) -> None:
    """Show adapters with the rows and documents that they should not have learnt from."""
    if not found:
        say("no adapter is affected")
    for item in found:
        say(f"adapter {short(item['adapter'])}, dataset {short(item['dataset'])}")
        for row, status in item["rows"].items():
            say(f"  row {shown(row)} is {status}")
        for document in item["documents"]:
            say(f"  document {shown(document)} must be forgotten")
