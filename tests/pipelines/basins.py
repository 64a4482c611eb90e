"""Ten pages and ten rows about them: a Q&A set small enough to break in one place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.conftest import make_workspace, refresh, settle
from tidegate.core.protocols import ArtifactStore
from tidegate.pipelines import validate_qa
from tidegate.pipelines.validate_qa import Loaded, Validated
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.datasets import read_dataset_head

Row = dict[str, Any]
BASINS = ("anchor", "buoy", "canal", "dinghy", "estuary", "fender", "galley", "harbour", "island", "jetty")


def page(basin: str, boats: int, more: str = "") -> str:
    return f"# The {basin}\n\n## Room\n\nThe {basin} has room for {boats} boats{more}.\n\n## Paint\n\nGreen.\n"


def row(basin: str, boats: int, **changes: Any) -> Row:
    evidence = [{"document": f"{basin}.md", "quote": f"The {basin} has room for {boats} boats"}]
    asked = f"How many boats fit into the {basin}?"
    return {"id": basin, "question": asked, "answer": f"{boats} boats", "evidence": evidence, **changes}


def ten_rows(unanswerable: int = 0, tagged: int = 0) -> list[Row]:
    """One row a page: the last ones without an answer, the first ones with the tag ``room``."""
    rows = [row(basin, boats) for boats, basin in enumerate(BASINS, 11)]
    for number in range(unanswerable):
        basin = BASINS[-1 - number]
        rows[-1 - number] = {"id": basin, "question": f"Who owns the {basin}?", "answer": "", "answerable": False}
    return [{**item, "tags": ["room"] if number < tagged else []} for number, item in enumerate(rows)]


def save(folder: Path, rows: list[Row]) -> None:
    """Write the Q&A set of a folder of pages, beside it."""
    folder.with_name("qa.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in rows))


def basins(folder: Path, store: ArtifactStore, **settings: Any) -> Workspace:
    """Return a workspace over a folder of pages and the Q&A set beside it."""
    qa = {"path": str(folder.with_name("qa.jsonl")), "min_rows": 1, **settings}
    return make_workspace(folder, store, qa=qa)


def write_pages(folder: Path) -> None:
    for boats, basin in enumerate(BASINS, 11):
        (folder / f"{basin}.md").write_text(page(basin, boats))


def index(folder: Path, store: ArtifactStore) -> str:
    """Refresh the index from a folder of pages; return the snapshot."""
    settle()
    return refresh(make_workspace(folder, store)).snapshot


def judge(workspace: Workspace) -> tuple[Loaded, Validated]:
    loaded = validate_qa.load(workspace, validate_qa.qa_source(workspace))
    assert isinstance(loaded, Loaded)
    return loaded, validate_qa.validate(workspace, loaded)


def run(workspace: Workspace) -> str:
    """Validate and commit; return the dataset's digest."""
    return validate_qa.commit(workspace, *judge(workspace))


def found(validated: Validated) -> list[tuple[str, str]]:
    """Return (row, rule) of every finding, sorted."""
    return sorted((item["row"], item["rule"]) for item in validated.report["failures"])


def head(store: ArtifactStore) -> str | None:
    return read_dataset_head(store, "test").dataset


def stored(store: ArtifactStore) -> dict[str, bytes]:
    """Return all that a store holds."""
    return {item.key: store.read(item.key).data for item in store.list_keys("")}
