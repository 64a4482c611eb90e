"""The body of each command: open the store, run the pipeline, print its result as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tidegate.cli.output import note, passage, say, short, shown, table, when
from tidegate.core.errors import CommitLostError, ConfigInvalidError, QuestionsInvalidError, TidegateError
from tidegate.core.home import corpora_folders, default_store_uri, project_home
from tidegate.core.protocols import ArtifactStore
from tidegate.pipelines.corpora import choose_stored, find_target, remember_folder, stored_corpora, stored_workspace
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.runs import Run, run_name
from tidegate.registry.store import open_store

if TYPE_CHECKING:
    from tidegate.pipelines.promote_release import Candidate
    from tidegate.pipelines.refresh_index import RefreshReport
    from tidegate.pipelines.search_index import OpenRelease

_RESTARTS = 2
_MODES = ("hybrid", "dense", "sparse")


def refresh(options: argparse.Namespace) -> int:
    """Index a folder or corpus, and release it by its policy."""
    started, clock = datetime.now(UTC), time.monotonic()
    home, store = project_home(), _store(options)
    target = find_target(options.target, options.corpus, store, corpora_folders(home))
    if target.continues:
        note(f"{target.continues} is gone; continuing its corpus {target.config.corpus!r} from {target.config.source.path}")
    workspace = Workspace(target.config, store, home)
    run = Run(store, workspace.corpus, run_name(started, uuid.uuid4().hex))
    try:
        report, candidate = _refresh(workspace, restarts=_RESTARTS)
    except TidegateError as failure:
        if not failure.usage:
            run.record("refresh", {"started": started.isoformat(), "outcome": "failed", "failure": failure.as_record()})
        raise
    if not target.has_file:
        remember_folder(store, target.config)
    result = report.as_json() | {"release": candidate.champion, "bytes_written": store.bytes_written}
    result["seconds"] = round(time.monotonic() - clock, 3)
    run.record("refresh", {"started": started.isoformat(), "outcome": "done", **result})
    if options.json:
        say(json.dumps(result))
    else:
        _show_refresh(workspace.corpus, report, candidate, result)
    return 0


def _refresh(workspace: Workspace, restarts: int) -> tuple[RefreshReport, Candidate]:
    """Refresh and release; start over from the newer state if another run committed in between."""
    from tidegate.pipelines import promote_release, refresh_index

    try:
        found = refresh_index.detect(workspace)
        if isinstance(found, refresh_index.Plan):
            found = refresh_index.commit(workspace, found, refresh_index.embed(workspace, found.capture.texts))
        return found, promote_release.promote(workspace)
    except CommitLostError:
        if not restarts:
            raise
        return _refresh(workspace, restarts - 1)


def search(options: argparse.Namespace) -> int:
    """Answer one question or a file of them from the champion."""
    from tidegate.cli.questions import read_rows

    if (options.question is None) == (options.queries is None):
        raise QuestionsInvalidError("give either a QUESTION or --queries FILE.jsonl", next_action='e.g. tidegate search "how do I roll back?"')
    if options.question is not None and not options.question.strip():
        raise QuestionsInvalidError("the QUESTION is empty", next_action='e.g. tidegate search "how do I roll back?"')
    rows = read_rows(options.queries, evidence=False) if options.queries else [{"question": options.question}]
    filters = _filters(options.filter)
    release = _open(options)
    hits = release.search([row["question"] for row in rows], mode=options.mode, top_k=options.top_k, filters=filters)
    for row, found in zip(rows, hits, strict=True):
        passages = [
            {"document": hit.document, "heading": hit.heading, "text": hit.text, "score": hit.score, "chunk": hit.chunk, "also_in": list(hit.also_in)}
            for hit in found
        ]
        if options.json:
            own = {"id": row["id"]} if "id" in row else {}
            say(json.dumps({**own, "question": row["question"], "release": release.id, "passages": passages}, ensure_ascii=False))
        else:
            _show_passages(row["question"], passages)
    return 0


def evaluate_retrieval(options: argparse.Namespace) -> int:
    """Measure each search mode on questions with known evidence."""
    from tidegate.cli.questions import read_rows
    from tidegate.pipelines.evaluate_retrieval import evaluate_retrieval as evaluate

    rows = read_rows(options.qa, evidence=True)
    release = _open(options)
    result = evaluate(release, rows)
    if result.unresolved:
        note(f"{len(result.unresolved)} evidence documents are not in release {short(release.id)} (or not unambiguous) and are left out: {', '.join(result.unresolved[:5])}")
    if not result.scored:
        raise QuestionsInvalidError(f"no row of {options.qa} has evidence in release {short(release.id)}", next_action="evidence paths must be those of the corpus, or their unambiguous ends")
    if options.json:
        say(json.dumps(result.modes))
    else:
        names = list(result.modes["hybrid"])
        say(f"{result.scored} questions scored by document, {result.unanswerable} unanswerable left out; release {short(release.id)}\n")
        say(table(["mode", *names], [[mode, *metrics.values()] for mode, metrics in result.modes.items()]))
    return 0


def status(options: argparse.Namespace) -> int:
    """Show what each corpus serves and how its last run went."""
    from tidegate.pipelines.status import corpus_status

    store = _store(options)
    names = [choose_stored(store, options.corpus)] if options.corpus else stored_corpora(store)
    found = [corpus_status(store, name) for name in names]
    if options.json:
        for item in found:
            say(json.dumps(item))
        return 0
    if not found:
        say(f"{store.uri} holds no corpus yet; run 'tidegate refresh <folder>'")
        return 0
    headings = ["corpus", "version", "release", "documents", "chunks", "segments", "quarantined", "last run", "up to date"]
    say(table(headings, [_status_row(item) for item in found]))
    for item in found:
        for bad in item["quarantine"]:
            say(f"  {item['corpus']}: {shown(bad['document'])} is in quarantine: {bad['reason']}")
        for step, record in item["last_run"].items():
            if record.get("failure"):
                say(f"  {item['corpus']}: {step} failed with {record['failure']['code']}: {record['failure']['what']}; {record['failure']['next_action']}")
    return 0


def releases(options: argparse.Namespace) -> int:
    """Show the history of the champion channel."""
    from tidegate.pipelines.status import release_history

    store = _store(options)
    corpus = choose_stored(store, options.corpus)
    history = release_history(store, corpus, options.limit)
    if options.json:
        for row in history:
            say(json.dumps(row))
        return 0
    headings = ["version", "op", "release", "snapshot", "documents", "chunks", "by", "written (UTC)"]
    rows = [
        [row["version"], row["op"], short(row["release"]), short(row["snapshot"]), row["documents"], row["chunks"], "approval" if row["approval"] else row["reason"] or "policy", when(row["written"])]
        for row in history
    ]
    say(table(headings, rows) if rows else f"corpus {corpus} has no release yet")
    return 0


def verify(options: argparse.Namespace) -> int:
    """Read everything back; the first thing that is wrong becomes the exit code and the reason."""
    from tidegate.pipelines.verify_store import verify_corpus

    store = _store(options)
    names = [choose_stored(store, options.corpus)] if options.corpus or not stored_corpora(store) else stored_corpora(store)
    for name in names:
        found = verify_corpus(store, name)
        if options.json:
            say(json.dumps({"corpus": name, "ok": True, "snapshots": found.snapshots, "segments": found.segments, "releases": found.releases, "entries": found.entries}))
        else:
            say(f"{name}: all right: {found.snapshots} snapshots, {found.segments} segments, {found.releases} releases, {found.entries} entries read back")
    return 0


def setup(options: argparse.Namespace) -> int:
    """Export the default embedding model to ONNX."""
    from tidegate.core.config import EmbedderConfig
    from tidegate.indexing.models import find_model
    from tidegate.indexing.onnx_export import export, is_exported

    del options
    files = find_model(EmbedderConfig().model)
    if is_exported(files):
        say(f"{files.name} is ready in {files.exported}")
        return 0
    clock = time.monotonic()
    export(files)
    say(f"{files.name} exported to {files.exported} in {time.monotonic() - clock:.0f} s")
    return 0


def _store(options: argparse.Namespace) -> ArtifactStore:
    home = project_home()
    return open_store(options.store or default_store_uri(home), base=home)


def _open(options: argparse.Namespace) -> OpenRelease:
    from tidegate.pipelines.search_index import open_champion

    store, home = _store(options), project_home()
    return open_champion(stored_workspace(store, choose_stored(store, options.corpus), corpora_folders(home), home))


def _filters(given: list[str]) -> dict[str, list[str]]:
    filters: dict[str, list[str]] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise ConfigInvalidError(f"--filter {item!r} is not KEY=VALUE", next_action="e.g. --filter doc_type=runbook")
        filters.setdefault(key, []).append(value)
    return filters


def _status_row(item: dict[str, Any]) -> list[object]:
    outcomes = {record.get("outcome", "?") for record in item["last_run"].values()}
    last = "failed" if "failed" in outcomes else "done" if outcomes else "-"
    return [
        item["corpus"],
        item["version"],
        short(item["release"]),
        item["documents"],
        item["chunks"],
        item["segments"],
        len(item["quarantine"]),
        last,
        "yes" if item["up_to_date"] else "no",
    ]


def _show_refresh(corpus: str, report: RefreshReport, candidate: Candidate, result: dict[str, Any]) -> None:
    say(table(["documents", *report.documents], [["", *report.documents.values()]]))
    say()
    say(table(["chunks", *report.chunks], [["", *report.chunks.values()]]))
    if report.quarantine:
        say()
        say(table(["quarantined", "reason"], [[item["document"], item["reason"]] for item in report.quarantine]))
    say()
    served = "" if candidate.is_champion else f" (release {short(candidate.release)} is ready but not promoted)"
    say(
        f"corpus {corpus} serves release {short(candidate.champion)}{served}: "
        f"{result['files_opened']} documents opened, {result['bytes_written']:,} bytes written, {result['seconds']:.1f} s"
    )


def _show_passages(question: str, passages: list[dict[str, Any]]) -> None:
    say(f"? {shown(question)}")
    if not passages:
        say("  no passage matches")
    for rank, item in enumerate(passages, 1):
        also = f" and {len(item['also_in'])} more" if item["also_in"] else ""
        heading = f" > {shown(item['heading'])}" if item["heading"] else ""
        say(f"{rank:>3}. {shown(item['document'])}{also}{heading}  [{item['score']:.3f}]")
        say(passage(item["text"]))
    say()
