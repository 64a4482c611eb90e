"""The demo's second revision: applied exactly, seen exactly, and safe to repeat after any interruption."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, make_workspace, refresh
from tests.fakes import HashEmbedder
from tidegate.pipelines.refresh_index import Plan, detect
from tidegate.registry.file_store import FileStore

DEMO = ROOT / "include" / "demo"
SCRIPT = DEMO / "revise.py"
HANDBOOK = DEMO / "handbook"
EDITS: list[dict[str, dict[str, str]]] = yaml.safe_load((DEMO / "edits.yaml").read_text(encoding="utf-8"))

revise = runpy.run_path(str(SCRIPT))


def entries(operation: str) -> list[dict[str, str]]:
    return [edit[operation] for edit in EDITS if operation in edit]


ADDED = {entry["document"] for entry in entries("add")}
MODIFIED = {entry["document"] for entry in entries("replace")}
MOVED = {(entry["document"], entry["to"]) for entry in entries("move")}
DELETED = {entry["document"] for entry in entries("delete")}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(*arguments: str) -> str:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A working copy as written."""
    revise["reset"](tmp_path / "handbook")
    return tmp_path / "handbook"


@pytest.fixture(scope="module")
def revised(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an undisturbed edit makes of the handbook."""
    target = tmp_path_factory.mktemp("revised") / "handbook"
    revise["reset"](target)
    revise["edit"](target)
    return contents(target)


def test_the_second_revision_changes_30_pages_adds_6_moves_6_and_deletes_3() -> None:
    assert [len(entries(operation)) for operation in ("replace", "add", "move", "delete")] == [30, 6, 6, 3]
    touched = [*MODIFIED, *ADDED, *DELETED, *(page for pair in MOVED for page in pair)]
    assert len(touched) == len(set(touched)) == len(MODIFIED) + 6 + 3 + 2 * 6


def test_an_edit_applies_each_entry_and_leaves_every_other_page_alone(tmp_path: Path) -> None:
    target = tmp_path / "handbook"
    run("reset", "--target", str(target))
    before = contents(target)
    assert before == contents(HANDBOOK)
    assert run("edit", "--target", str(target)).startswith(f"{target} edited: 30 replace, 6 add, 6 move, 3 delete")
    expected = dict(before)
    for entry in entries("replace"):
        old = expected[entry["document"]].decode()
        assert old.count(entry["old"]) == 1
        expected[entry["document"]] = old.replace(entry["old"], entry["new"]).encode()
    for page in ADDED:
        assert page not in before
        expected[page] = (DEMO / "revision_2" / page).read_bytes()
    for old_place, new_place in MOVED:
        expected[new_place] = expected.pop(old_place)
    for page in DELETED:
        del expected[page]
    assert contents(target) == expected
    assert contents(DEMO / "revision_2").keys() == ADDED


def test_a_refresh_sees_exactly_the_second_revision(target: Path, tmp_path: Path) -> None:
    embedder = HashEmbedder()
    workspace = make_workspace(target, FileStore(tmp_path / "store"), embedder)
    first = refresh(workspace)
    pages = len(contents(HANDBOOK))
    assert (first.documents["total"], first.documents["quarantined"]) == (pages, 0)
    revise["edit"](target)
    plan = detect(workspace)
    assert isinstance(plan, Plan)
    changes = plan.capture.changes
    assert (set(changes.added), set(changes.modified), set(changes.moved)) == (ADDED, MODIFIED, MOVED)
    assert set(changes.deleted) == DELETED
    embedder.embedded.clear()
    report = refresh(workspace)
    assert report.documents == {
        "total": pages + 6 - 3,
        "added": 6,
        "modified": len(MODIFIED),
        "moved": 6,
        "deleted": 3,
        "quarantined": 0,
        "unchanged": pages - len(MODIFIED) - 6 - 3,
    }
    edited = {row.document: set(row.chunks) for row in plan.capture.rows if row.document in ADDED | MODIFIED}
    new = {chunk for chunk, _, _ in plan.capture.texts}
    assert new <= set().union(*edited.values())
    assert report.chunks["embedded"] == len(embedder.embedded) == len(new)
    assert 30 <= sum(len(new & edited[page]) for page in MODIFIED) <= 1.5 * 30


def test_reset_puts_an_edited_copy_back_as_written_any_number_of_times(target: Path) -> None:
    revise["edit"](target)
    (target / "own-notes.md").write_text("to be forgotten")
    for _ in range(2):
        revise["reset"](target)
        assert contents(target) == contents(HANDBOOK)


def test_setting_up_again_leaves_a_working_copy_alone(target: Path) -> None:
    (target / "own-notes.md").write_text("to be kept")
    assert run("reset", "--once", "--target", str(target)) == ""
    assert (target / "own-notes.md").read_text() == "to be kept"


def test_editing_twice_is_editing_once(target: Path, revised: dict[str, bytes]) -> None:
    for _ in range(2):
        revise["edit"](target)
        assert contents(target) == revised


def test_an_edit_of_a_page_that_says_something_else_names_the_page_and_the_way_out(target: Path) -> None:
    (target / "config" / "gangway.md").write_text("rewritten by hand")
    with pytest.raises(SystemExit, match=r"config/gangway\.md does not hold .* once: 'make demo-reset' starts over"):
        revise["edit"](target)


KILLED = """
import os, runpy, sys

target, left = sys.argv[1], int(sys.argv[2])


def before(event, values):
    global left
    opens = event == "open" and values[2] & (os.O_WRONLY | os.O_RDWR)
    if (opens or event in ("os.mkdir", "os.rename", "os.remove")) and str(values[0]).startswith(target):
        left -= 1
        if left == -1:
            if opens:
                open(values[0], "wb").close()
            os._exit(137)


sys.addaudithook(before)
sys.argv[:] = [sys.argv[3], *sys.argv[4:], "--target", target]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs the script, and ends it as it is about to change a file of the target; one that it opened is left empty."""


def killed_after(changes: int, target: Path, *arguments: str) -> bool:
    """Run the script until it has made that many changes; return False if it made no more."""
    command = [sys.executable, "-B", "-c", KILLED, str(target), str(changes), str(SCRIPT), *arguments]
    status = subprocess.run(command, capture_output=True, check=False).returncode
    assert status in (0, 137)
    return status == 137


def test_an_edit_that_was_killed_is_completed_by_the_next_one(target: Path, revised: dict[str, bytes]) -> None:
    changes = 0
    while killed_after(changes, target, "edit"):
        revise["edit"](target)
        assert contents(target) == revised
        revise["reset"](target)
        changes += 7
    assert changes > len(EDITS)


def test_a_first_set_up_that_was_killed_is_completed_by_the_next_one(tmp_path: Path) -> None:
    for changes in (1, 2, 40):
        target = tmp_path / f"killed-{changes}"
        assert killed_after(changes, target, "reset", "--once")
        run("reset", "--once", "--target", str(target))
        assert contents(target) == contents(HANDBOOK)
