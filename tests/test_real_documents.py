"""Real documents and the real model: retrieval as good as promised, and cost that follows change."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHARED, make_workspace, settle
from tidegate.core.config import EmbedderConfig
from tidegate.indexing.embedder_onnx import OnnxEmbedder
from tidegate.indexing.models import find_model
from tidegate.pipelines.refresh_index import Plan, detect
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.file_store import FileStore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.shared,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("real_documents"),  # both indexes are built once
]

EDITS = 200
"""One-line edits of each kind per corpus."""


@dataclass(frozen=True)
class Indexed:
    """A folder of documents and the store that holds its index."""

    folder: Path
    store: Path

    def refresh(self, folder: Path | None = None, corpus: str | None = "test") -> dict[str, Any]:
        named = ["--corpus", corpus] if corpus else []
        return dict(tidegate("refresh", str(folder or self.folder), "--store", str(self.store), *named))

    def evaluate(self, questions: Path) -> dict[str, dict[str, float]]:
        return dict(tidegate("evaluate", "retrieval", "--qa", str(questions), "--store", str(self.store)))

    def workspace(self) -> Workspace:
        """Open it in this process, with the model that the command line uses."""
        settings = EmbedderConfig()
        embedder = OnnxEmbedder(find_model(settings.model), threads=0, batch_tokens=settings.batch_tokens)
        return make_workspace(self.folder, FileStore(self.store), embedder)


def tidegate(*arguments: str) -> Any:
    """Run the command line; return the JSON that it prints."""
    command = [Path(sys.executable).parent / "tidegate", *arguments, "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def build(pages: Path, root: Path) -> Indexed:
    if not pages.is_dir():
        pytest.skip("the real documents (../shared/data) are not here")
    shutil.copytree(pages, root / "documents", copy_function=shutil.copyfile)
    (root / "documents").chmod(0o755)
    indexed = Indexed(root / "documents", root / "store")
    count = sum(path.is_file() for path in pages.rglob("*"))
    assert indexed.refresh()["documents"]["added"] == count
    return indexed


@pytest.fixture(scope="module")
def anthropic_docs(tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    """45 long pages of documentation."""
    return build(SHARED / "anthropic_docs" / "pages", tmp_path_factory.mktemp("anthropic_docs"))


@pytest.fixture(scope="module")
def tldr(tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    """382 short pages about commands."""
    return build(SHARED / "tldr" / "2025-08-22" / "pages", tmp_path_factory.mktemp("tldr"))


@pytest.fixture(scope="module")
def measured(anthropic_docs: Indexed) -> dict[str, dict[str, float]]:
    """Retrieval metrics of each search mode."""
    return anthropic_docs.evaluate(SHARED / "anthropic_docs" / "qa.jsonl")


@pytest.fixture(params=["anthropic_docs", "tldr"])
def copy(request: pytest.FixtureRequest, tmp_path: Path) -> Indexed:
    """A copy of each index and its documents, to change."""
    return copied(request.getfixturevalue(request.param), tmp_path)


def copied(indexed: Indexed, target: Path) -> Indexed:
    shutil.copytree(indexed.folder, target / "documents")
    shutil.copytree(indexed.store, target / "store")
    return Indexed(target / "documents", target / "store")


def test_hybrid_search_finds_the_page_and_is_no_worse_than_either_arm(measured: dict[str, dict[str, float]]) -> None:
    hybrid = measured["hybrid"]
    assert hybrid["recall@1"] >= 0.78
    assert hybrid["recall@5"] >= 0.94
    for arm in (measured["dense"], measured["sparse"]):
        assert hybrid["hit@5"] >= arm["hit@5"] - 0.01
        assert hybrid["mrr"] >= arm["mrr"]


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_year_of_changes_is_captured_as_a_plain_comparison_of_both_trees_sees_it(
    tldr: Indexed, tmp_path: Path
) -> None:
    later = SHARED / "tldr" / "2026-08-22" / "pages"
    index = copied(tldr, tmp_path)
    before, after = digests(index.folder), digests(later)
    for gone in before.keys() - after.keys():
        (index.folder / gone).unlink()
    for name in after:
        if before.get(name) != after[name]:
            (index.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(later / name, index.folder / name)
    gone, fresh = before.keys() - after.keys(), after.keys() - before.keys()
    assert not {before[name] for name in gone} & {after[name] for name in fresh}  # no page moved in that year
    modified = {name for name in before.keys() & after.keys() if before[name] != after[name]}

    plan = detect(index.workspace())
    assert isinstance(plan, Plan)
    changes = plan.capture.changes
    assert (set(changes.added), set(changes.modified), set(changes.deleted)) == (fresh, modified, gone)
    report = index.refresh()
    assert report["documents"] == {
        "total": len(after),
        "added": len(fresh),
        "modified": len(modified),
        "moved": 0,
        "deleted": len(gone),
        "quarantined": 0,
        "unchanged": len(before.keys() & after.keys()) - len(modified),
    }
    assert report["chunks"]["embedded"] == len(plan.capture.texts)


def change(lines: list[str], at: int, rng: random.Random) -> None:
    """Replace one word of a line."""
    words = lines[at].split(" ")
    words[rng.randrange(len(words))] = f"changed{rng.randrange(10**6)}"
    lines[at] = " ".join(words)


def insert(lines: list[str], at: int, rng: random.Random) -> None:
    lines.insert(at + 1, f"An inserted line about {rng.randrange(10**6)}.")


def delete(lines: list[str], at: int, rng: random.Random) -> None:
    del lines[at]


def edit_one_line(page: Path, how: Callable[[list[str], int, random.Random], None], rng: random.Random) -> None:
    """Edit any line that is not blank: headings and code fences too."""
    lines = page.read_text(encoding="utf-8").split("\n")
    how(lines, rng.choice([at for at, line in enumerate(lines) if line.strip()]), rng)
    page.write_text("\n".join(lines), encoding="utf-8")


def test_a_one_line_edit_embeds_at_most_one_and_a_half_chunks_on_average(copy: Indexed) -> None:
    workspace, rng = copy.workspace(), random.Random(1)
    pages = sorted(copy.folder.rglob("*.md"))
    embedded = []
    for how in (change, insert, delete):
        for page in rng.choices(pages, k=EDITS):
            written = page.read_bytes()
            edit_one_line(page, how, rng)
            plan = detect(workspace)
            embedded.append(len(plan.capture.texts) if isinstance(plan, Plan) else 0)
            page.write_bytes(written)
    assert sum(embedded) / len(embedded) <= 1.5
    assert embedded.count(1) > 0.75 * len(embedded)


def snapshot_bytes(index: Indexed) -> int:
    objects = FileStore(index.store).list_keys("test/")
    return sum(stored.size for stored in objects if stored.key.split("/")[1] in ("segments", "snapshots"))


def test_one_percent_edited_writes_at_most_three_percent_of_the_snapshot(copy: Indexed) -> None:
    rng, size = random.Random(1), snapshot_bytes(copy)
    pages = sorted(copy.folder.rglob("*.md"))
    edited = rng.sample(pages, max(1, len(pages) // 100))
    for page in edited:
        edit_one_line(page, change, rng)
    report = copy.refresh()
    assert report["documents"]["modified"] == len(edited)
    assert 0 < report["bytes_written"] <= 0.03 * size


def test_touching_every_file_embeds_nothing(copy: Indexed) -> None:
    for page in copy.folder.rglob("*.md"):
        os.utime(page)
    settle()
    report = copy.refresh()
    assert report["documents"]["unchanged"] == report["documents"]["total"] == report["files_opened"]
    assert report["chunks"]["embedded"] == 0
    assert copy.refresh()["files_opened"] == 0


@pytest.mark.parametrize("inside", [True, False], ids=["inside the folder", "with the folder"])
def test_moving_the_whole_tree_embeds_nothing_and_answers_the_same(
    anthropic_docs: Indexed, measured: dict[str, dict[str, float]], tmp_path: Path, inside: bool
) -> None:
    index = copied(anthropic_docs, tmp_path)
    # The folder of a corpus that was made from it is known to the store, which a copy must be told once.
    before = index.refresh()
    assert before["documents"]["unchanged"] == before["documents"]["total"] == 45
    moved = tmp_path / "moved"
    index.folder.rename(moved)
    if inside:
        (index.folder / "archive").mkdir(parents=True)
        moved.rename(index.folder / "archive" / "pages")
    report = index.refresh() if inside else index.refresh(moved, corpus=None)
    assert report["documents"]["moved" if inside else "unchanged"] == report["documents"]["total"] == 45
    assert report["chunks"] == before["chunks"]
    assert report["chunks"]["embedded"] == 0
    assert index.evaluate(SHARED / "anthropic_docs" / "qa.jsonl") == measured
