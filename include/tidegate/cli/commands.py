"""The body of each command: open the store, run the pipeline, show its result or print it as JSON."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.cli import views
from tidegate.cli.output import note, say, short
from tidegate.core.errors import (
    BaseModelMissingError,
    CommitLostError,
    ConfigInvalidError,
    QuestionsInvalidError,
    SourceIncompleteError,
    TidegateError,
)
from tidegate.core.home import corpora_folders, default_store_uri, project_home
from tidegate.core.protocols import ArtifactStore
from tidegate.pipelines.corpora import (
    begun_corpora,
    choose_stored,
    find_target,
    remember_folder,
    stored_corpora,
    stored_workspace,
)
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.runs import Run, run_name
from tidegate.registry.store import open_store

if TYPE_CHECKING:
    from tidegate.pipelines.promote_release import Candidate
    from tidegate.pipelines.refresh_index import RefreshReport
    from tidegate.pipelines.search_index import OpenRelease

_RESTARTS = 2


def refresh(options: argparse.Namespace) -> int:
    """Index a folder or corpus, and release it by its policy."""
    started, clock = datetime.now(UTC), time.monotonic()
    home, store = project_home(), store_of(options)
    target = find_target(options.target, options.corpus, store, corpora_folders(home))
    if target.continues:
        note(f"{target.continues} is gone; its corpus {target.config.corpus} goes on from {target.config.source.path}")
    workspace = Workspace(target.config, store, home)
    if not target.has_file:
        remember_folder(store, target.config)
    run = Run(store, workspace.corpus, run_name(started, uuid.uuid4().hex))
    try:
        report, candidate = _refresh(workspace, restarts=_RESTARTS)
    except TidegateError as failure:
        if not failure.usage:
            with contextlib.suppress(TidegateError):  # the failure matters, not that it could not be recorded
                told = {"started": started.isoformat(), "outcome": "failed", "failure": failure.as_record()}
                run.record("refresh", told)
        raise
    result = report.as_json() | {"release": candidate.champion, "bytes_written": store.bytes_written}
    result["seconds"] = round(time.monotonic() - clock, 3)
    run.record("refresh", {"started": started.isoformat(), "outcome": "done", **result})
    if options.json:
        say(json.dumps(result))
    else:
        views.show_refresh(workspace.corpus, report, candidate, result)
    return 0


def _refresh(workspace: Workspace, restarts: int) -> tuple[RefreshReport, Candidate]:
    """Refresh and release; start over from the newer state if another run committed in between."""
    from tidegate.pipelines import promote_release, refresh_index

    try:
        found = refresh_index.detect(workspace)
        if isinstance(found, refresh_index.RefreshReport):
            return found, promote_release.promote(workspace)
        report = refresh_index.commit(workspace, found, refresh_index.embed(workspace, found.capture.texts))
        return report, promote_release.promote(workspace, verified=report.snapshot)
    except SourceIncompleteError:
        promote_release.promote(workspace)  # what could be read is committed, and serves
        raise
    except CommitLostError:
        if not restarts:
            raise
        return _refresh(workspace, restarts - 1)


def search(options: argparse.Namespace) -> int:
    """Answer one question or a file of them from the champion."""
    from tidegate.cli.questions import read_rows

    example = 'e.g. tidegate search "how do I roll back?"'
    if (options.question is None) == (options.queries is None):
        raise QuestionsInvalidError("give either a QUESTION or --queries FILE.jsonl", next_action=example)
    if options.question is not None and not options.question.strip():
        raise QuestionsInvalidError("the QUESTION is empty", next_action=example)
    rows = read_rows(options.queries, evidence=False) if options.queries else [{"question": options.question}]
    filters = _filters(options.filter)
    release = _open(options)
    questions = [row["question"] for row in rows]
    found = release.search(questions, mode=options.mode, top_k=options.top_k, filters=filters)
    for row, hits in zip(rows, found, strict=True):
        passages = [asdict(hit) for hit in hits]
        if options.json:
            own = {"id": row["id"]} if "id" in row else {}
            answer = {**own, "question": row["question"], "release": release.id, "passages": passages}
            say(json.dumps(answer, ensure_ascii=False))
        else:
            views.show_passages(row["question"], passages)
    return 0


def evaluate_retrieval(options: argparse.Namespace) -> int:
    """Measure each search mode on questions with known evidence."""
    from tidegate.cli.questions import read_rows
    from tidegate.pipelines.evaluate_retrieval import evaluate_retrieval as evaluate

    rows = read_rows(options.qa, evidence=True)
    release = _open(options)
    result = evaluate(release, rows)
    if not result.scored:
        missing = f" (not there: {', '.join(result.unresolved[:5])})" if result.unresolved else ""
        raise QuestionsInvalidError(
            f"no row of {options.qa} has evidence in release {short(release.id)}{missing}",
            next_action="evidence paths must be those of the corpus, or their unambiguous ends",
        )
    views.note_unresolved(result.unresolved, release.id)
    if options.json:
        say(json.dumps(result.modes))
    else:
        views.show_metrics(result, release.id)
    return 0


def status(options: argparse.Namespace) -> int:
    """Show what each corpus serves and how its last run went."""
    from tidegate.pipelines.status import corpus_status

    store = store_of(options)
    names = [choose_stored(store, options.corpus)] if options.corpus else stored_corpora(store)
    found = [corpus_status(store, name) for name in names]
    if options.json:
        for item in found:
            say(json.dumps(item))
    elif found:
        views.show_status(found)
    else:
        say(f"{store.uri} holds no corpus yet; run 'tidegate refresh <folder>'")
    return 0


def verify(options: argparse.Namespace) -> int:
    """Read everything back; the first thing that is wrong becomes the exit code and the reason."""
    from tidegate.pipelines.verify_store import verify_corpus

    store = store_of(options)
    held = begun_corpora(store)
    for name in held if held and not options.corpus else [choose_stored(store, options.corpus, held)]:
        try:
            found = asdict(verify_corpus(store, name))
        except TidegateError as failure:
            if options.json:
                say(json.dumps({"corpus": name, "ok": False, "code": failure.code, "reason": failure.what}))
            raise
        counts = ", ".join(f"{count} {what}" for what, count in found.items() if what != "corpus")
        say(json.dumps({**found, "ok": True}) if options.json else f"{name}: all right: {counts} read back")
    return 0


def setup(options: argparse.Namespace) -> int:
    """Prepare the default embedding model and base model, and those of the configured corpora."""
    from tidegate.core.config import BaseModelConfig, EmbedderConfig, load_corpora
    from tidegate.indexing.models import find_model
    from tidegate.indexing.onnx_export import export, is_exported
    from tidegate.training.base_model import find_base_model, prepare_base_model

    del options
    corpora = load_corpora(corpora_folders(project_home()))[0]
    embedders = [EmbedderConfig(), *(item.embedder for item in corpora)]
    for model in dict.fromkeys(embedder.model for embedder in embedders if embedder.backend == "onnx"):
        files = find_model(model)
        _prepare(files.name, files.exported, is_exported(files), partial(export, files))
    wanted = [item.base_model.model for item in corpora if item.qa.path]
    for model in dict.fromkeys([BaseModelConfig().model, *wanted]):
        try:
            base = find_base_model(model)
        except BaseModelMissingError as failure:
            if model in wanted:
                raise
            say(f"{failure.what}: 'tidegate qa' and adapters need it")
            continue
        _prepare(base.name, base.prepared, base.is_prepared, partial(prepare_base_model, base))
    return 0


def _prepare(name: str, folder: Path, is_ready: bool, prepare: Callable[[], None]) -> None:
    if is_ready:
        say(f"{name} is ready in {folder}")
        return
    clock = time.monotonic()
    prepare()
    say(f"{name} prepared in {folder} in {time.monotonic() - clock:.0f} s")


def store_of(options: argparse.Namespace) -> ArtifactStore:
    """Open the store that a command works on."""
    if options.store is not None:
        return open_store(options.store, base=Path.cwd())
    home = project_home()
    return open_store(default_store_uri(home), base=home)


def _open(options: argparse.Namespace) -> OpenRelease:
    from tidegate.pipelines.search_index import open_champion

    store, home = store_of(options), project_home()
    return open_champion(stored_workspace(store, choose_stored(store, options.corpus), corpora_folders(home), home))


def _filters(given: list[str]) -> dict[str, list[str]]:
    filters: dict[str, list[str]] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise ConfigInvalidError(
                f"--filter {item!r} is not KEY=VALUE", next_action="e.g. --filter doc_type=runbook"
            )
        filters.setdefault(key, []).append(value)
    return filters
