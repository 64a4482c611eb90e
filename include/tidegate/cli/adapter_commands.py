"""The body of each command over adapters."""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.cli.commands import store_of
from tidegate.cli.output import note, say, short
from tidegate.core.errors import AdapterMissingError, ConfigInvalidError, suggest
from tidegate.core.home import corpora_folders, project_home
from tidegate.core.progress import ProgressLog
from tidegate.pipelines.corpora import choose_stored, stored_workspace
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.adapters import newest_adapter, place_adapter, read_adapter
from tidegate.registry.runs import Run, run_name

if TYPE_CHECKING:
    from tidegate.evaluation.answer_metrics import Rate, Summary
    from tidegate.pipelines.asking import Answer
    from tidegate.pipelines.evaluate_adapter import AdapterEvaluation


def train(options: argparse.Namespace) -> int:
    """Train an adapter if that pays, as the DAG does."""
    from tidegate.pipelines import refresh_adapter, training_plan
    from tidegate.pipelines.decide_training import decide, training_of

    _show_progress()
    workspace = _workspace(options)
    found = decide(workspace)
    if not found.train and not options.anyway:
        say(json.dumps({"adapter": None, "reason": found.reason}) if options.json else found.reason)
        return 0
    note(f"{found.reason}")
    run = Run(workspace.store, workspace.corpus, run_name(datetime.now(UTC), uuid.uuid4().hex))
    plan, expected, _ = training_plan.prepare(workspace, run)
    note(f"{plan.counts.contexts} contexts; {expected.said(training_of(workspace.config))}")
    refresh_adapter.train(workspace, run)
    key = refresh_adapter.commit(workspace, run)
    say(json.dumps({"adapter": key}) if options.json else f"adapter {short(key)} is ready")
    return 0


def place(options: argparse.Namespace) -> int:
    """Write the two files of an adapter that PEFT and vLLM load into a folder."""
    workspace = _workspace(options)
    key = _chosen(workspace, options.adapter)
    folder = Path(options.folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigInvalidError(f"{folder} is not an empty folder", next_action="name a new folder")
    place_adapter(workspace.store, workspace.corpus, key, folder)
    base = read_adapter(workspace.store, workspace.corpus, key).base_model
    say(json.dumps({"adapter": key, "folder": str(folder)}) if options.json else f"adapter {short(key)} is in {folder}")
    note(f"its base model is {base.id} ({short(base.digest)})")
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Measure the newest adapter against its base model on the holdout."""
    from tidegate.evaluation.transformers_generator import TransformersGenerator
    from tidegate.pipelines.decide_training import training_of
    from tidegate.pipelines.evaluate_adapter import ADAPTER, AdapterEvaluator, note_failures
    from tidegate.pipelines.training_plan import require_dataset
    from tidegate.pipelines.training_rows import RowSource
    from tidegate.training.base_model import find_base_model
    from tidegate.training.machine import fitting_precision, processors

    _show_progress()
    if options.answers:
        _write_answers(Path(options.answers), [])
    workspace = _workspace(options)
    training, base = training_of(workspace.config), find_base_model(workspace.config.base_model.model)
    key = _chosen(workspace, options.adapter)
    dataset, snapshot = require_dataset(workspace)
    source = RowSource(workspace, training, dataset, snapshot, base.folder)
    with tempfile.TemporaryDirectory(prefix="tidegate-") as scratch:
        placed = place_adapter(workspace.store, workspace.corpus, key, Path(scratch) / ADAPTER)
        generator = TransformersGenerator(
            base.folder,
            base.identity,
            {ADAPTER: placed},
            precision=fitting_precision(training.precision),
            threads=training.threads or processors(),
        )
        manifest = read_adapter(workspace.store, workspace.corpus, key)
        found = AdapterEvaluator(source, generator, key, manifest, _progress).run()
    if key == newest_adapter(workspace.store, workspace.corpus).key:
        note_failures(source, found)
    if options.answers:
        _write_answers(Path(options.answers), list(found.answers.items()))
    if options.json:
        say(json.dumps(found.as_json()))
    else:
        _show(found)
    return 0


def _show(found: AdapterEvaluation) -> None:
    chosen = f"the best of {len(found.dev)} on dev" if found.dev else "for want of answerable rows in dev"
    tried = f"the prompt {found.base_prompt!r}, {chosen}"
    say(f"adapter {short(found.adapter)}; base+RAG uses {tried}")
    rows = (
        ("contained match", "answerable", "contained_match"),
        ("  answer in the passages", "answer in the passages", "contained_match"),
        ("wrongly refused", "answerable", "wrong_refusal"),
        ("  answer in the passages", "answer in the passages", "wrong_refusal"),
        ("refused, answered nowhere", "unanswerable", "refusal_recall"),
        ("  tag near-miss", "tag:near-miss", "refusal_recall"),
        ("  tag off-topic", "tag:off-topic", "refusal_recall"),
        ("near misses refused", "near misses", "refusal_recall"),
        ("all correct", "all", "correct"),
    )
    arms = list(found.arms)
    say(f"{'':<28}" + "".join(f"{arm:>34}" for arm in arms))
    for name, part, metric in rows:
        say(f"{name:<28}" + "".join(f"{_cell(found.arms[arm], part, metric):>34}" for arm in arms))
    for value in ("new", "old", "refused"):
        cells = (_rate(found.changed[arm].get(value)) for arm in arms)
        say(f"{f'changed value: {value}':<28}" + "".join(f"{cell:>34}" for cell in cells))
    note(f"{len(found.fresh_failures)} fresh rows fail")


def _cell(summaries: dict[str, Summary], part: str, metric: str) -> str:
    return _rate(summaries[part].rates.get(metric)) if part in summaries else "no rows"


def _rate(rate: Rate | None) -> str:
    if rate is None:
        return "no rows"
    low, high = rate.interval
    return f"{rate.value:.3f} [{low:.3f}, {high:.3f}] {rate.hits}/{rate.n}"


def _write_answers(path: Path, found: Sequence[tuple[str, Sequence[Answer]]]) -> None:
    lines = [
        {
            "arm": arm,
            "row": item.asked.row,
            "question": item.asked.question,
            "gold": item.asked.gold,
            "answer": item.text,
            "correct": item.judged.correct,
            "passages": [passage.as_json() for passage in item.asked.passages],
        }
        for arm, answers in found
        for item in answers
    ]
    try:
        path.write_text("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise ConfigInvalidError(f"--answers {path} cannot be written: {error.strerror}") from error


def _show_progress() -> None:
    """Let what takes minutes say how far it is, in a pipe too."""
    logging.getLogger("tidegate").setLevel(logging.INFO)


def _progress(stage: str) -> Any:
    return ProgressLog(stage, "answers")


def _chosen(workspace: Workspace, wanted: str | None) -> str:
    """Return the key of an adapter by its beginning; the newest if none is named."""
    from tidegate.core import keys

    newest = newest_adapter(workspace.store, workspace.corpus).key
    if wanted is None:
        return newest
    names = workspace.store.children(keys.adapters(workspace.corpus))
    found = [name for name in names if name.startswith(wanted)]
    if len(found) != 1:
        raise AdapterMissingError(f"{len(found)} adapters begin with {wanted!r}{suggest(wanted, names)}")
    return found[0]


def _workspace(options: argparse.Namespace) -> Workspace:
    store, home = store_of(options), project_home()
    return stored_workspace(store, choose_stored(store, options.corpus), corpora_folders(home), home)
