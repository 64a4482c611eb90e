"""Committing a dataset: races, lost answers, staging between tasks, and what cannot be trusted to fail."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes import FaultStore
from tests.pipelines.basins import basins, head, index, judge, page, row, run, save, stored, ten_rows, write_pages
from tidegate.core import keys, publishing
from tidegate.core.errors import (
    CommitLostError,
    ObjectCorruptError,
    ObjectMissingError,
    TidegateError,
    ValidationIncompleteError,
)
from tidegate.core.protocols import ArtifactStore
from tidegate.pipelines import validate_qa
from tidegate.pipelines.qa_staging import load_loaded, load_validated, stage_loaded, stage_validated
from tidegate.qa import checks
from tidegate.qa.expectations import Rule
from tidegate.registry.datasets import verify_dataset
from tidegate.registry.file_store import FileStore
from tidegate.registry.runs import Run


@pytest.fixture
def pages(folder: Path, store: FileStore) -> Path:
    """Ten pages, indexed, and ten rows about them, not yet validated."""
    write_pages(folder)
    index(folder, store)
    save(folder, ten_rows())
    return folder


class RivalStore(FaultStore):
    """A store in which somebody else commits just before the head moves."""

    rival: Callable[[], object] | None = None

    def _mutate(self, key: str, apply: Callable[[], None], *, conditional: bool = True) -> None:
        if key == keys.dataset_head("test") and self.rival is not None:
            rival, self.rival = self.rival, None
            rival()
        super()._mutate(key, apply, conditional=conditional)


@pytest.mark.parametrize("before", [0, 1])
def test_of_two_runs_on_one_base_one_wins_and_the_other_is_told(
    before: int, folder: Path, any_store: Callable[[], ArtifactStore]
) -> None:
    (folder / "anchor.md").write_text(page("anchor", 11))
    index(folder, any_store())
    for number in range(before):
        save(folder, [row("anchor", 11, author=f"base {number}")])
        run(basins(folder, any_store()))
    base, tries = head(any_store()), []
    for author in ("Ada", "Grace"):
        save(folder, [row("anchor", 11, author=author)])
        tries.append(judge(basins(folder, any_store())))
    late = RivalStore(any_store())
    late.rival = lambda: validate_qa.commit(basins(folder, any_store()), *tries[0])
    with pytest.raises(CommitLostError, match="another run moved the head first"):
        validate_qa.commit(basins(folder, late), *tries[1])
    assert late.rival is None
    with pytest.raises(CommitLostError, match="another run moved the head first"):
        validate_qa.commit(basins(folder, any_store()), *tries[1])
    won = head(any_store())
    assert won == validate_qa.commit(basins(folder, any_store()), *tries[0])
    assert verify_dataset(any_store(), "test", won).parent == base


@pytest.mark.parametrize("fault", ["before", "after", "conflict"])
def test_a_lost_answer_at_any_write_is_survived(
    fault: str, pages: Path, store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "_FIRST_WAIT_SECONDS", 0.0)
    made = judge(basins(pages, store))
    counting = FaultStore(FileStore(shutil.copytree(store.root, tmp_path / "counting")))
    digest = validate_qa.commit(basins(pages, counting), *made)
    assert counting.mutations[-2:] == [keys.dataset_manifest("test", digest), keys.dataset_head("test")]
    assert len(counting.mutations) == 9
    for number in range(1, 10):
        copy = FileStore(shutil.copytree(store.root, tmp_path / str(number)))
        assert validate_qa.commit(basins(pages, FaultStore(copy, {number: fault})), *made) == digest
        assert head(copy) == digest
        verify_dataset(copy, "test", digest)


class LossyStore(FaultStore):
    """A store that acknowledges the rows of the train split and keeps something else, or nothing."""

    kept: bytes | None = None

    def create(self, key: str, data: bytes | Path) -> None:
        if not key.endswith("/train.jsonl"):
            super().create(key, data)
        elif self.kept is not None:
            super().create(key, self.kept)


@pytest.mark.parametrize(("kept", "failure"), [(None, ObjectMissingError), (b"{}", ObjectCorruptError)])
def test_the_head_does_not_move_to_a_dataset_that_does_not_read_back_whole(
    kept: bytes | None, failure: type[TidegateError], pages: Path, store: FileStore
) -> None:
    made, lossy = judge(basins(pages, store)), LossyStore(store)
    lossy.kept = kept
    with pytest.raises(failure, match=r"train\.jsonl"):
        validate_qa.commit(basins(pages, lossy), *made)
    assert head(store) is None


def test_what_is_staged_comes_back_as_it_was(pages: Path, store: FileStore) -> None:
    run(basins(pages, store))
    (pages / "anchor.md").write_text(page("anchor", 11, " in summer"))
    (pages / "buoy.md").unlink()
    index(pages, store)
    rows = [*ten_rows(unanswerable=2), row("canal", 13, id="copy"), row("canal", 99, id="wrong", tags=["generated"])]
    save(pages, [*rows, row("fender", 99, id="\u2028 \\ud", question="Où?")])
    task, workspace = Run(store, "test", "run"), basins(pages, store, max_failed_share=0.3)
    loaded, validated = judge(workspace)
    assert {item.status for item in validated.dataset.rows} == {"valid", "failed", "stale", "dangling", "draft"}
    again = load_loaded(task, stage_loaded(task, loaded))
    judged = load_validated(task, stage_validated(task, validated))
    assert (again, judged) == (loaded, validated)
    assert stage_loaded(task, again) == stage_loaded(task, loaded)
    digest = validate_qa.commit(workspace, again, judged)
    assert digest == head(store) == validate_qa.commit(workspace, loaded, validated)


@pytest.mark.parametrize("rules", ["row_rules", "set_rules"])
def test_a_rule_that_cannot_fail_stops_the_run_and_nothing_is_stored(
    rules: str, pages: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(checks, rules)
    column = {"row_rules": "answer_tokens", "set_rules": "rows"}[rules]
    tame = Rule("tame", column, "between")
    monkeypatch.setattr(checks, rules, lambda settings: [*real(settings), tame])
    before = stored(store)
    with pytest.raises(ValidationIncompleteError, match="'tame' has no bound and cannot fail"):
        run(basins(pages, store))
    assert stored(store) == before
