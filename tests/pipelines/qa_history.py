"""A Q&A set that lives: pages, rows and a store, validated again and again, each commit compared with all before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import make_workspace, refresh, settle
from tidegate.core import keys
from tidegate.core.examples import SPLITS
from tidegate.pipelines import validate_qa
from tidegate.pipelines.workspace import Workspace
from tidegate.qa.duplicates import near_duplicates, normalised
from tidegate.registry.datasets import read_dataset_head
from tidegate.registry.file_store import FileStore

# fmt: off
TOWNS = [
    "Aberdeen", "Bologna", "Cadiz", "Dresden", "Esbjerg", "Firenze", "Grenoble", "Huelva", "Innsbruck", "Jyvaskyla",
    "Krakow", "Limoges", "Maribor", "Nijmegen", "Oostende", "Palermo", "Quimper", "Rostock", "Salzburg", "Tampere",
    "Uppsala", "Valencia", "Wroclaw", "Yverdon", "Zwolle", "Brindisi", "Coimbra", "Derry",
]
# fmt: on
OLD, NEW = TOWNS[:18], TOWNS[18:]
FACTS = {
    "crates": ("How many crates does the depot in {} hold?", "The depot in {} holds {} crates.", "{} crates"),
    "opening": (
        "When does the depot in {} open?",
        "The depot in {} opens {} minutes past four.",
        "{} minutes past four",
    ),
    "fence": ("How tall is the fence of the depot in {}?", "The fence of the depot in {} is {} feet tall.", "{} feet"),
    "lorries": ("Which lorries serve {}?", "The depot in {} is served by {} lorries.", "{} lorries"),
}
LOOSE = {"min_rows": 1, "max_failed_share": 1, "max_unanswerable_share": 1, "max_tag_share": 1}
Row = dict[str, Any]


def number(town: str) -> int:
    return 100 + TOWNS.index(town)


def page(town: str) -> str:
    said = [sentence.format(town, number(town)) for _, sentence, _ in FACTS.values()]
    return f"# Depot {town}\n\n" + "\n\n".join(said) + "\n"


def asked(town: str, fact: str, *documents: str, **changes: object) -> Row:
    """A row on a fact of a town's page, and on other pages as a whole."""
    question, sentence, answer = FACTS[fact]
    first, *others = documents or (f"{town}.md",)
    evidence = [{"document": first, "quote": sentence.format(town, number(town))}]
    return {
        "id": f"{town}-{fact}",
        "question": question.format(town),
        "answer": answer.format(number(town)),
        "evidence": evidence + [{"document": other} for other in others],
    } | changes


def unanswerable(town: str) -> Row:
    question = f"Which telephone number does the depot in {town} have?"
    return {"id": f"{town}-telephone", "question": question, "answerable": False, "evidence": [f"{town}.md"]}


class History:
    """A folder, a Q&A file and a store; every commit is compared with all before it."""

    def __init__(self, base: Path, **qa: object) -> None:
        self.folder, self.file, self.store = base / "documents", base / "qa.jsonl", FileStore(base / "store")
        self.settings = {"dev_share": 0.3, "holdout_share": 0.3, **LOOSE, **qa}
        self.rows: list[Row] = []
        self.seen: dict[str, str] = {}
        """The split of every row that was ever in one."""
        self.last: dict[str, Row] = {}
        """Rows, with the keys of their documents, as they were when they were last in a split."""
        self.asked: set[str] = set()
        """Every question that was ever in the set."""
        self.folder.mkdir()
        for town in OLD:
            self.write(f"{town}.md", page(town))
            self.rows += [asked(town, "crates"), asked(town, "opening"), unanswerable(town)]
        self.commit()

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(text, encoding="utf-8")

    def rename(self, old: str, new: str) -> None:
        (self.folder / new).parent.mkdir(exist_ok=True)
        (self.folder / old).rename(self.folder / new)

    def remove(self, *ids: str) -> list[Row]:
        gone = [row for row in self.rows if row["id"] in ids]
        self.rows = [row for row in self.rows if row["id"] not in ids]
        return gone

    def commit(self, **settings: object) -> None:
        """Refresh, validate and commit; then check the stored files."""
        workspace = make_workspace(self.folder, self.store, qa=self.settings | settings)
        self.file.write_text("".join(f"{json.dumps(row)}\n" for row in self.rows), encoding="utf-8")
        self.bytes, self.memory, self.report = committed(workspace, self.file)
        self.files = {name: lines(data) for name, data in self.bytes.items()}
        self.check()

    def check(self) -> None:
        """Every row is in one file, none moved, none was excluded without a cause, nothing leaks."""
        placed = [row["id"] for found in self.files.values() for row in found]
        assert sorted(placed) == sorted(row["id"] for row in self.rows)
        now = {row["id"]: name for name in SPLITS for row in self.files[name]}
        assert {row: (self.seen[row], at) for row, at in now.items() if self.seen.get(row, at) != at} == {}
        self.seen |= now
        assert self.memory["rows"] == self.seen
        for row in self.files["excluded"]:
            as_before = self.last.get(row["id"], {}).items() <= row.items() and row["id"] in self.seen
            assert not (as_before and row["status"] == "bridging"), (
                f"{row['id']} is excluded, and nothing of it changed"
            )
        self.asked |= {row["question"] for row in self.rows}
        self.last |= {row["id"]: row for name in SPLITS for row in self.files[name]}
        assert_nothing_leaks(self.files, self.asked, self.pages)

    def pages(self, row: Row) -> list[str]:
        """Texts of the documents that a row rests on, as they are now."""
        return [(self.folder / self.memory["documents"][key]["path"]).read_text() for key in row["documents"]]

    @property
    def bridging(self) -> dict[str, str]:
        assert {row["row"] for row in self.report["bridging"]} == self.excluded("bridging")
        return {row["row"]: row["detail"] for row in self.report["bridging"]}

    def excluded(self, status: str) -> set[str]:
        return {row["id"] for row in self.files["excluded"] if row["status"] == status}

    def towns(self, split: str) -> list[str]:
        """Towns whose page was drawn a split."""
        drawn = {known["path"]: known["split"] for known in self.memory["documents"].values()}
        return [town for town in TOWNS if drawn.get(f"{town}.md") == split]

    def new(self, *rows: Row) -> None:
        self.rows += rows


def committed(workspace: Workspace, file: Path) -> tuple[dict[str, bytes], dict[str, Any], dict[str, Any]]:
    """Refresh, validate and commit; return what the store holds: the files of rows, the memory, the report."""
    settle()
    refresh(workspace)
    loaded = validate_qa.load(workspace, validate_qa.qa_source(workspace, file))
    assert isinstance(loaded, validate_qa.Loaded)
    dataset = validate_qa.commit(workspace, loaded, validate_qa.validate(workspace, loaded))
    assert read_dataset_head(workspace.store, "test").dataset == dataset

    def stored(name: str) -> bytes:
        found = workspace.store.read(f"{keys.dataset('test', dataset)}/{name}")
        assert found is not None
        return found.data

    files = {name: stored(f"{name}.jsonl") for name in (*SPLITS, "excluded")}
    return files, json.loads(stored("memory.json")), json.loads(stored("report.json"))


def lines(data: bytes) -> list[Row]:
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


def assert_nothing_leaks(files: dict[str, list[Row]], asked: set[str], pages: Callable[[Row], list[str]]) -> None:
    """No row of holdout or dev, nothing that asks nearly the same and no text of its documents is in the train file.

    What is a typing error depends on the words of all questions: ``asked`` are those that the set ever had.
    """
    trained = files["train"]
    for kept in (files["holdout"], files["dev"]):
        questions = [row["question"] for row in trained + kept]
        alike = near_duplicates([*questions, *asked])
        assert [pair for pair in alike if pair[0] < len(trained) <= pair[1] < len(questions)] == []
        assert {normalised(row["question"]) for row in trained}.isdisjoint(normalised(row["question"]) for row in kept)
        assert {key for row in trained for key in row["documents"]}.isdisjoint(
            key for row in kept for key in row["documents"]
        )
        texts = {text for row in kept for text in pages(row)}
        assert texts.isdisjoint(text for row in trained for text in pages(row))
        quoted = [part["quote"] for row in trained for part in row["evidence"] if part["quote"]]
        assert not [quote for quote in quoted if any(quote in text for text in texts)]
