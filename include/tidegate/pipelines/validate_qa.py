"""Validate a Q&A set against a snapshot: load and tie its rows, judge them, commit a dataset. The DAG runs these steps.

A failing set commits nothing: the previous dataset stays. A kill at any point leaves the old dataset, and the next run
repeats the work and loses none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tidegate.core.canonical import digest_of
from tidegate.core.errors import CommitLostError, ConfigInvalidError, DatasetInvalidError, ReleaseMissingError
from tidegate.core.examples import Finding, Split
from tidegate.core.records import DatasetManifest, StoredFile
from tidegate.indexing.tokenizer import ModelTokenizer
from tidegate.pipelines.data_docs import publish_pages
from tidegate.pipelines.qa_documents import SnapshotDocuments
from tidegate.pipelines.qa_rows import Reviewed, tie_rows, with_reviews
from tidegate.pipelines.workspace import Workspace
from tidegate.qa import checks
from tidegate.qa.dataset import Dataset, KnownDocument, Memory, Row, from_files, sorted_findings, to_files
from tidegate.qa.duplicates import near_duplicates, normalised
from tidegate.qa.expectations import validate as validate_columns
from tidegate.qa.importing import QaSource
from tidegate.qa.report import make_report
from tidegate.qa.splits import Drawn, Shares, draw_splits
from tidegate.registry.datasets import (
    commit_dataset,
    read_dataset,
    read_dataset_file,
    read_dataset_head,
    stored_file,
)
from tidegate.registry.heads import read_head
from tidegate.registry.runs import Run
from tidegate.training.base_model import find_base_model, require_tokenizer

_SHOWN = 5


@dataclass(frozen=True)
class Loaded:
    """Rows tied to a snapshot, and what the dataset will be made from."""

    parent: str | None
    seq: int
    op_id: str
    snapshot: str
    source: str
    settings: str
    rows: tuple[Row, ...]
    known: dict[str, KnownDocument]
    """Documents by key, as the snapshot has them."""
    copies: dict[str, str] = field(default_factory=dict)

    def summary(self) -> str:
        """Return what was loaded, in one line for a log."""
        counts = {
            name: sum(row.status == name for row in self.rows) for name in ("stale", "dangling", "draft", "dropped")
        }
        more = "".join(f", {count} {name}" for name, count in counts.items() if count)
        return f"rows: {len(self.rows)} loaded{more}; snapshot {self.snapshot[:12]}"


@dataclass(frozen=True)
class Validated:
    """A judged and split set; it may be committed if ``broken`` is empty."""

    dataset: Dataset
    report: dict[str, Any]
    broken: str = ""
    """The rules over the whole set that it breaks, in words."""


def qa_source(workspace: Workspace, given: Path | None = None) -> QaSource:
    """Return the corpus's Q&A source, or a file or folder ``given`` instead; raise if there is none."""
    settings = workspace.config.qa
    if given is None and settings.path is None:
        raise ConfigInvalidError(
            f"corpus {workspace.corpus} has no Q&A set", next_action="set qa.path in the corpus file, or give --qa FILE"
        )
    path = given if given is not None else workspace.base / Path(settings.path or "").expanduser()
    return QaSource(path, settings.columns, settings.rows)


def load(workspace: Workspace, source: QaSource, reviews: Mapping[str, Reviewed] | None = None) -> Loaded | str:
    """Read the rows and tie them to the newest snapshot; return the dataset's digest if nothing changed since."""
    snapshot = read_head(workspace.store, workspace.corpus).snapshot
    if snapshot is None:
        raise ReleaseMissingError(
            f"corpus {workspace.corpus} in {workspace.store.uri} has no snapshot to check against"
        )
    head = read_dataset_head(workspace.store, workspace.corpus)
    manifest = read_dataset(workspace.store, workspace.corpus, head.dataset) if head.dataset else None
    digest, settings = source.digest(), settings_digest(workspace)
    made_from = {"snapshot": snapshot, "source": digest, "settings": settings}
    if manifest and head.dataset and not reviews and made_from == {name: getattr(manifest, name) for name in made_from}:
        return head.dataset
    before = read_whole_dataset(workspace, head.dataset) if head.dataset else Dataset((), {}, Memory())
    documents = SnapshotDocuments(
        workspace.store, workspace.corpus, snapshot, before.memory.documents, manifest.snapshot if manifest else None
    )
    was = {(row.id, row.example.digest): row for row in before.rows}
    rows = with_reviews(source.read(), was, reviews or {})
    unreviewed = {which: row for which, row in was.items() if row.id not in (reviews or {})}
    tied = tie_rows(rows, unreviewed, documents, use_generated=workspace.config.qa.use_generated)
    reviewed = {name: [item.example.digest, item.drop] for name, item in (reviews or {}).items()}
    return Loaded(
        parent=head.dataset,
        seq=manifest.seq + 1 if manifest else 1,
        op_id=digest_of({**made_from, "parent": head.dataset, "reviews": reviewed}),
        rows=tuple(tied),
        known=documents.known,
        copies=documents.copies(),
        **made_from,
    )


def validate(workspace: Workspace, loaded: Loaded, data_docs: Path | None = None) -> Validated:
    """Judge the rows, draw their splits, judge the whole; ``data_docs`` is a folder for Great Expectations' pages."""
    settings = workspace.config.qa
    before = read_whole_dataset(workspace, loaded.parent) if loaded.parent else Dataset((), {}, Memory())
    judged = [row for row in loaded.rows if row.status == "valid"]
    known = {(row.id, row.example.digest) for row in before.rows if row.status == "valid"}
    absent = before.memory.questions.keys() - {row for row, _ in known}
    asked = {row: before.memory.questions[row] for row in absent}  # rows that were used once, and come back
    known |= {(row.id, row.example.digest) for row in judged if asked.get(row.id) == row.example.question}
    aside = {row.id: row.example.where for row in loaded.rows if row.status in ("stale", "dangling")}
    found = _judge(workspace, judged, known, aside, data_docs) if judged else []
    failing = {(finding.row, finding.where) for finding in found}
    rows = [
        replace(row, status="failed") if row.status == "valid" and (row.id, row.example.where) in failing else row
        for row in loaded.rows
    ]
    rows, splits, memory, alike = _split(workspace, rows, before.memory, loaded)
    valid = [row for row in rows if row.status == "valid"]
    facts = checks.set_facts(valid, splits, len(judged), len(failing), alike)
    broken = _broken_set_rules(workspace, facts)
    dataset = Dataset(tuple(rows), splits, memory, sorted_findings(found))
    report = make_report(dataset, facts, broken, snapshot=loaded.snapshot)
    return Validated(dataset, report, _said(facts, broken, settings))


def require_valid(workspace: Workspace, validated: Validated) -> None:
    """Raise ``DatasetInvalidError`` with the failing rows if the set breaks a rule."""
    if validated.broken:
        failures = validated.report["failures"]
        first = ", ".join(f"{found['row']} {found['rule']}" for found in failures[:_SHOWN])
        more = f"; failing rows: {first}" + (f", and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else "")
        raise DatasetInvalidError(
            f"the Q&A set of corpus {workspace.corpus} is refused: {validated.broken}{more if failures else ''}",
            document=failures[0]["where"] if failures else None,
        )


def commit(workspace: Workspace, loaded: Loaded, validated: Validated, run: Run | None = None) -> str:
    """Store the dataset and move the head to it; return its digest. ``run`` holds Data Docs to keep beside it.

    Raises ``CommitLostError`` if another dataset was committed since :func:`load`.
    """
    require_valid(workspace, validated)
    files = to_files(validated.dataset, validated.report)
    manifest = DatasetManifest(
        corpus=workspace.corpus,
        seq=loaded.seq,
        parent=loaded.parent,
        op_id=loaded.op_id,
        snapshot=loaded.snapshot,
        source=loaded.source,
        settings=loaded.settings,
        counts=validated.dataset.counts(),
        files={name: StoredFile.model_validate(stored_file(data)) for name, data in files.items()},
    )
    base = read_dataset_head(workspace.store, workspace.corpus)
    if base.dataset == manifest.digest:
        return manifest.digest  # an earlier try got this far
    if base.dataset != loaded.parent:
        raise CommitLostError(f"dataset {manifest.digest[:12]} was not committed: another run moved the head first")
    if run is not None:
        publish_pages(run, manifest.digest)  # before the head moves: a later run would find nothing to do
    return commit_dataset(workspace.store, base, manifest, files)


def read_whole_dataset(workspace: Workspace, digest: str) -> Dataset:
    """Return a stored dataset."""
    manifest = read_dataset(workspace.store, workspace.corpus, digest)
    return from_files(lambda name: read_dataset_file(workspace.store, workspace.corpus, digest, manifest, name))


def settings_digest(workspace: Workspace) -> str:
    """Return the digest of all settings that decide a dataset from the same rows and documents."""
    settings = workspace.config.qa.model_dump(mode="json", exclude={"path", "check", "columns", "rows"})
    return digest_of({"rules": checks.VERSION, "base_model": workspace.config.base_model.model, **settings})


def _judge(
    workspace: Workspace,
    rows: Sequence[Row],
    known: set[tuple[str, str]],
    aside: Mapping[str, str],
    data_docs: Path | None,
) -> list[Finding]:
    """Return what Great Expectations finds wrong with rows."""
    settings = workspace.config.qa
    tokenizer = ModelTokenizer(require_tokenizer(find_base_model(workspace.config.base_model.model)))
    questions = tokenizer.count([row.example.question for row in rows])
    answers = tokenizer.count([row.example.answer for row in rows])
    rules = checks.row_rules(settings)
    tokens = list(zip(questions, answers, strict=True))
    columns = checks.row_columns(rows, tokens, _alike(rows, known), known, settings, aside=aside)
    outcome = validate_columns(workspace.corpus, checks.named(columns, rules), rules, data_docs)
    return checks.findings(rows, columns, rules, outcome)


def _alike(rows: Sequence[Row], known: set[tuple[str, str]]) -> list[tuple[int, int]]:
    """Return the pairs that ask nearly the same; two rows that passed together before may stay, unless equal."""
    asking = [number for number, row in enumerate(rows) if row.example.question]
    pairs = near_duplicates([rows[number].example.question for number in asking])
    passed = [(row.id, row.example.digest) in known for row in rows]
    asked = [normalised(row.example.question) for row in rows]
    found = ((asking[one], asking[other]) for one, other in pairs)
    return [(one, other) for one, other in found if asked[one] == asked[other] or not (passed[one] and passed[other])]


def _split(
    workspace: Workspace, rows: Sequence[Row], memory: Memory, loaded: Loaded
) -> tuple[list[Row], dict[str, Split], Memory, list[tuple[str, str]]]:
    """Draw the splits of valid rows; return rows, splits, the new memory, and the pairs that ask nearly the same."""
    settings = workspace.config.qa
    valid = [row for row in rows if row.status == "valid"]
    questions = {row.id: row.example.question for row in valid}
    remembered = {row: question for row, question in memory.questions.items() if questions.get(row) != question}
    names = [*questions, *remembered]
    pairs = near_duplicates([*questions.values(), *remembered.values()])
    settled = memory.rows.keys() - (remembered.keys() & questions.keys())  # rows that were drawn as they are stay
    alike = [(names[one], names[other]) for one, other in pairs if not {names[one], names[other]} <= settled]
    first = _first_copies(memory, loaded)
    drawn = Drawn(
        rows=memory.rows,
        documents={first.get(key, key): known.split for key, known in loaded.known.items() if known.split},
    )
    grouped = {row.id: [first.get(key, key) for key in row.documents] for row in valid}
    shares = Shares(settings.dev_share, settings.holdout_share, settings.split_key)
    result = draw_splits(grouped, alike, drawn, shares)
    documents = {
        key: replace(known, split=known.split or result.documents.get(first.get(key, key)))
        for key, known in loaded.known.items()
    }
    after = Memory(
        documents,
        rows={**memory.rows, **{row: memory.rows.get(row, split) for row, split in result.rows.items()}},
        questions={**memory.questions, **{row: questions[row] for row in result.rows}},
    )
    placed = [
        replace(row, status="bridging", broken=(("bridging", f"joins {' and '.join(result.bridging[row.id])}"),))
        if row.status == "valid" and row.id in result.bridging
        else row
        for row in rows
    ]
    return placed, result.rows, after, alike


def _first_copies(memory: Memory, loaded: Loaded) -> dict[str, str]:
    """Return, for each document with the bytes of others, the one whose split it takes; none if its own was drawn."""
    drawn = {key for key, known in memory.documents.items() if known.split}
    leaders: dict[str, str] = {}
    for key, first in sorted(loaded.copies.items(), key=lambda item: (item[0] not in drawn, item[0])):
        leaders.setdefault(first, key)
    return {key: leaders[first] for key, first in loaded.copies.items() if key not in drawn}


def _broken_set_rules(workspace: Workspace, facts: checks.SetFacts) -> list[str]:
    rules = checks.set_rules(workspace.config.qa)
    outcome = validate_columns(f"{workspace.corpus} as a whole", facts.columns(), rules)
    return [rule.name for rule in rules if rule.name in outcome.failed]


def _said(facts: checks.SetFacts, broken: Sequence[str], settings: Any) -> str:
    columns = facts.columns()
    limits = {rule.name: (rule.low, rule.high) for rule in checks.set_rules(settings)}
    return "; ".join(
        f"{name} is {_number(columns[name][0])}, allowed is {_range(*limits[name])} ({checks.SET_RULES[name]})"
        for name in broken
    )


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"at least {_number(low)}" if low is not None else f"at most {_number(high)}"
    return f"{_number(low)} to {_number(high)}"


def _number(value: object) -> str:
    """Return a count in full, and a share with four digits."""
    return f"{value:.4g}" if isinstance(value, float) and value != int(value) else f"{value:.0f}"
