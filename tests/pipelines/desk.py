"""A folder of documents, a Q&A set about them, and the datasets made of both: the stage of tests on staleness."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import make_workspace, refresh, settle
from tidegate.core.examples import Split
from tidegate.core.protocols import ArtifactStore
from tidegate.pipelines import validate_qa
from tidegate.pipelines.validate_qa import Loaded, Validated
from tidegate.pipelines.workspace import Workspace
from tidegate.qa.dataset import Dataset, Memory, Row
from tidegate.qa.importing import QaSource

PAY = "# Pay\n\n## Terms\n\nPay in 30 days.\n\n## Help\n\nAsk Ann."
SHIP = "# Ship\n\nWe ship in 2 days."
LOOSE = {"min_rows": 1, "max_tag_share": 1, "max_unanswerable_share": 1, "max_failed_share": 1}


def row(document: str = "pay.md", quote: str = "Pay in 30 days.", **fields: Any) -> dict[str, Any]:
    evidence = [{"document": document, "quote": quote}]
    return {"id": "pay", "question": "When must I pay?", "answer": "30 days", "evidence": evidence, **fields}


SHIP_ROW = row("ship.md", "We ship in 2 days.", id="ship", question="How fast do you ship?", answer="2 days")


@dataclass
class Desk:
    """Documents, rows about them, and the steps of a validation."""

    folder: Path
    qa: Path
    workspace: Workspace
    first: dict[str, Row] = field(default_factory=dict)
    """The rows as they were first committed."""

    def write(self, **documents: str | bytes) -> None:
        """Write documents (``a`` is ``a.md``) and refresh the index."""
        for name, text in documents.items():
            (self.folder / f"{name}.md").write_bytes(text if isinstance(text, bytes) else text.encode())
        self.refresh()

    def refresh(self) -> None:
        settle()
        refresh(self.workspace)

    def ask(self, *rows: dict[str, Any]) -> None:
        self.qa.write_text("".join(json.dumps(values) + "\n" for values in rows))

    def load(self) -> Loaded:
        loaded = validate_qa.load(self.workspace, QaSource(self.qa, {}, ""))
        assert isinstance(loaded, Loaded)
        return loaded

    def rows(self) -> dict[str, Row]:
        """Tie the rows to the newest snapshot, and commit nothing."""
        return {row.id: row for row in self.load().rows}

    def commit(self) -> dict[str, Row]:
        """Commit the rows as they are now, without judging them."""
        loaded = self.load()
        splits: dict[str, Split] = {row.id: "train" for row in loaded.rows if row.status == "valid"}
        unjudged = Validated(Dataset(loaded.rows, splits, Memory(loaded.known)), {})
        validate_qa.commit(self.workspace, loaded, unjudged)
        return {row.id: row for row in loaded.rows}

    def validate(self) -> tuple[dict[str, Row], dict[str, str]]:
        """Judge and commit the rows as they are now; return them and the split of each valid one."""
        loaded = self.load()
        validated = validate_qa.validate(self.workspace, loaded)
        validate_qa.commit(self.workspace, loaded, validated)
        return {row.id: row for row in validated.dataset.rows}, dict(validated.dataset.splits)


def open_desk(folder: Path, store: ArtifactStore, **settings: Any) -> Desk:
    """Return two documents and a row about each, committed once."""
    desk = Desk(folder, folder.with_name("qa.jsonl"), make_workspace(folder, store, qa=LOOSE, **settings))
    desk.write(pay=PAY, ship=SHIP)
    desk.ask(row(), SHIP_ROW)
    desk.first = desk.commit()
    return desk


def outcome(row: Row) -> tuple[str, tuple[str, ...]]:
    return row.status, row.flags


def key_of(row: Row) -> str:
    """Return the key of a row's only document."""
    (anchor,) = row.anchors
    assert anchor is not None
    return anchor.document
