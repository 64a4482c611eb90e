"""The body of each command over Q&A sets and adapters."""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.cli import views
from tidegate.cli.commands import store_of
from tidegate.cli.output import note, say, short
from tidegate.cli.questions import read_rows
from tidegate.core.canonical import canonical_json
from tidegate.core.errors import ConfigInvalidError, DatasetMissingError, TidegateError
from tidegate.core.home import corpora_folders, project_home
from tidegate.pipelines.corpora import choose_stored, stored_workspace
from tidegate.pipelines.data_docs import first_page, keep_pages
from tidegate.pipelines.qa_rows import Reviewed
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.runs import Run, run_name

if TYPE_CHECKING:
    from tidegate.pipelines.validate_qa import Loaded, Validated
    from tidegate.qa.dataset import Row
    from tidegate.qa.importing import QaSource


def validate(options: argparse.Namespace) -> int:
    """Check a Q&A set, split it and keep it as a dataset."""
    return _validate(options, {})


def review(options: argparse.Namespace) -> int:
    """Take in a person's decisions on rows, and validate the set with them."""
    from tidegate.pipelines.review_qa import read_reviews

    reviews = read_reviews(Path(options.file), today=datetime.now(UTC).date())
    if not reviews:
        say(f"{options.file} holds no decision: write keep or drop into a row's decision")
        return 0
    return _validate(options, reviews)


def _validate(options: argparse.Namespace, reviews: Mapping[str, Reviewed]) -> int:
    from tidegate.pipelines import validate_qa

    started, clock = datetime.now(UTC), time.monotonic()
    workspace = _workspace(options)
    loaded = validate_qa.load(workspace, _source(workspace, options), reviews)
    if isinstance(loaded, str):
        return _unchanged(options, workspace, loaded)
    run = Run(workspace.store, workspace.corpus, run_name(started, uuid.uuid4().hex))
    try:
        validated, pages = _judge(options, workspace, loaded, run)
        dataset = validate_qa.commit(workspace, loaded, validated, run)
    except TidegateError as failure:
        if not failure.usage:
            with contextlib.suppress(TidegateError):  # the failure matters, not that it could not be recorded
                run.record("validate_qa", {"outcome": "failed", "failure": failure.as_record()})
        raise
    pages = first_page(run, dataset)
    run.record("validate_qa", {"outcome": "done", "dataset": dataset, "rows": validated.report["rows"]})
    seconds = round(time.monotonic() - clock, 3)
    if options.json:
        told = {"ok": True, "dataset": dataset, "data_docs": pages, "seconds": seconds}
        say(json.dumps({**told, **validated.report}))
    else:
        _say_report(validated.report, pages)
        say(f"corpus {workspace.corpus} has dataset {short(dataset)} now, {seconds:.1f} s")
    return 0


def _judge(options: argparse.Namespace, workspace: Workspace, loaded: Loaded, run: Run) -> tuple[Validated, str]:
    """Judge the set and keep its pages; show why and raise ``DatasetInvalidError`` if it is refused."""
    from tidegate.pipelines import validate_qa

    with tempfile.TemporaryDirectory(prefix="tidegate-") as folder:
        validated = validate_qa.validate(workspace, loaded, Path(folder))
        pages = keep_pages(run, Path(folder))
    if validated.broken and options.json:
        say(json.dumps({"ok": False, "data_docs": pages, **validated.report}))
    elif validated.broken:
        _say_report(validated.report, pages)
    validate_qa.require_valid(workspace, validated)
    return validated, pages


def _say_report(report: Mapping[str, Any], pages: str) -> None:
    from tidegate.qa.report import failure_table, summary

    say(f"{summary(report)}\n\n{failure_table(report)}\n")
    if pages:
        say(f"Data Docs: {pages}")


def _unchanged(options: argparse.Namespace, workspace: Workspace, dataset: str) -> int:
    report = _report(workspace, dataset)
    if options.json:
        say(json.dumps({"ok": True, "dataset": dataset, "unchanged": True, **report}))
    else:
        say(f"nothing changed: corpus {workspace.corpus} has dataset {short(dataset)}")
    return 0


def stale(options: argparse.Namespace) -> int:
    """List rows whose evidence changed or is gone, or write them as a review file."""
    from tidegate.pipelines.review_qa import review_rows
    from tidegate.qa.report import dangling_row, stale_row

    workspace = _workspace(options)
    rows = _rows_now(workspace, options)
    if options.export:
        return _export(options, review_rows(rows))
    found = {
        "stale": [stale_row(row) for row in rows if row.status == "stale"],
        "dangling": [dangling_row(row) for row in rows if row.status == "dangling"],
    }
    if options.json:
        say(json.dumps(found))
    else:
        views.show_stale(found)
    return 0


def _rows_now(workspace: Workspace, options: argparse.Namespace) -> Sequence[Row]:
    """Return the rows as the documents have them now, judged or not; those of the dataset if there is no source."""
    from tidegate.pipelines import validate_qa

    if options.qa is None and workspace.config.qa.path is None:
        return validate_qa.read_whole_dataset(workspace, _dataset(workspace)).rows
    loaded = validate_qa.load(workspace, _source(workspace, options))
    return validate_qa.read_whole_dataset(workspace, loaded).rows if isinstance(loaded, str) else loaded.rows


def unanswered(options: argparse.Namespace) -> int:
    """List questions that were answered badly, or write them as a review file."""
    from tidegate.pipelines.review_qa import asked_rows
    from tidegate.pipelines.validate_qa import read_whole_dataset
    from tidegate.registry.datasets import read_dataset_head

    workspace = _workspace(options)
    dataset = read_dataset_head(workspace.store, workspace.corpus).dataset
    known = [row.example.question for row in read_whole_dataset(workspace, dataset).rows] if dataset else []
    rows = asked_rows(read_rows(options.log, evidence=False), known)
    if options.export:
        return _export(options, rows)
    if options.json:
        for row in rows:
            say(json.dumps(row, ensure_ascii=False))
    else:
        views.show_asked(rows)
    return 0


def affected(options: argparse.Namespace) -> int:
    """List adapters trained on rows that went stale, or on documents to be forgotten."""
    from tidegate.indexing.snapshot import Snapshot
    from tidegate.pipelines.review_qa import affected_adapters
    from tidegate.pipelines.validate_qa import read_whole_dataset
    from tidegate.qa.dataset import Dataset, Memory
    from tidegate.registry.datasets import read_dataset_head
    from tidegate.registry.heads import read_head

    workspace = _workspace(options)
    head = read_dataset_head(workspace.store, workspace.corpus).dataset
    dataset = read_whole_dataset(workspace, head) if head else Dataset((), {}, Memory())
    snapshot = read_head(workspace.store, workspace.corpus).snapshot
    ledger = Snapshot(workspace.store, workspace.corpus, snapshot).rows(options.document) if snapshot else {}
    forget = {path: ledger[path].sha256 if path in ledger else "" for path in options.document}
    found = affected_adapters(workspace.store, workspace.corpus, dataset, forget)
    if options.json:
        for item in found:
            say(json.dumps(item))
    else:
        views.show_affected(found)
    return 0


def _workspace(options: argparse.Namespace) -> Workspace:
    store, home = store_of(options), project_home()
    return stored_workspace(store, choose_stored(store, options.corpus), corpora_folders(home), home)


def _source(workspace: Workspace, options: argparse.Namespace) -> QaSource:
    from tidegate.pipelines.validate_qa import qa_source

    return qa_source(workspace, Path(options.qa) if options.qa else None)


def _dataset(workspace: Workspace) -> str:
    from tidegate.registry.datasets import read_dataset_head

    dataset = read_dataset_head(workspace.store, workspace.corpus).dataset
    if dataset is None:
        raise DatasetMissingError(f"corpus {workspace.corpus} in {workspace.store.uri} has no dataset yet")
    return dataset


def _report(workspace: Workspace, dataset: str) -> dict[str, Any]:
    from tidegate.registry.datasets import read_dataset, read_dataset_file

    manifest = read_dataset(workspace.store, workspace.corpus, dataset)
    report = read_dataset_file(workspace.store, workspace.corpus, dataset, manifest, "report.json")
    return dict(json.loads(report))


def _export(options: argparse.Namespace, rows: Sequence[Mapping[str, Any]]) -> int:
    path = Path(options.export)
    try:
        path.write_bytes(b"".join(canonical_json(row) + b"\n" for row in rows))
    except OSError as error:
        raise ConfigInvalidError(f"--export {path} cannot be written: {error.strerror}") from error
    note(f"{len(rows)} rows written to {path}: fill in decision (keep or drop), then 'tidegate qa review {path}'")
    return 0
