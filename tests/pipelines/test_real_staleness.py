"""A year of real edits: which rows of a Q&A set are stale, dangling or cleared, against a count from the raw files."""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHARED, make_workspace, refresh, settle
from tidegate.pipelines import validate_qa
from tidegate.pipelines.validate_qa import Loaded
from tidegate.pipelines.workspace import Workspace
from tidegate.qa.dataset import Row
from tidegate.qa.importing import QaSource
from tidegate.registry.file_store import FileStore

pytestmark = [
    pytest.mark.shared,
    pytest.mark.xdist_group("tldr"),  # the rows are carried once
]

BEFORE, AFTER = "2025-08-22", "2026-08-22"


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def plain(text: str) -> str:
    """Return a text without white space and back quotes, which do not count."""
    return "".join(text.replace("`", "").split())


def expected(tldr: Path) -> list[str]:
    """Return what each row of the earlier set must become, from the files alone."""
    answers = defaultdict(set)
    for values in read_rows(tldr / AFTER / "qa.jsonl"):
        answers[values["question"]].add(values["answer"])
    found = []
    for values in read_rows(tldr / BEFORE / "qa.jsonl"):
        question, answer = values["question"], values["answer"]
        page = tldr / AFTER / values["evidence"][0]["document"]
        lines = page.read_text().split("\n") if page.is_file() else []
        if not lines:
            found.append("page gone")
        elif question in answers and answer not in answers[question]:
            found.append("changed pair")
        elif f"`{answer}`" not in lines:
            found.append("line gone")
        else:
            wording = plain(f"- {question.partition(': ')[2]}:")
            found.append("line stands" if wording in map(plain, lines) else "line stands, wording gone")
    return found


def index(workspace: Workspace, pages: Path) -> None:
    """Make the folder of documents equal to the pages of one year, and refresh."""
    folder = workspace.base / "pages"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(pages, folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    settle()
    refresh(workspace)


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Row]]:
    """Each row of the earlier set: what must become of it, and what it is once the pages are the later ones."""
    if not SHARED.is_dir():
        pytest.skip("the real documents (../shared/data) are not here")
    tldr, root = SHARED / "tldr", tmp_path_factory.mktemp("tldr")
    (root / "documents").mkdir()
    settings = {"max_tag_share": 1, "max_failed_share": 1}
    workspace = make_workspace(root / "documents", FileStore(root / "store"), qa=settings)
    source = QaSource(tldr / BEFORE / "qa.jsonl", {}, "")
    index(workspace, tldr / BEFORE / "pages")
    loaded = validate_qa.load(workspace, source)
    assert isinstance(loaded, Loaded)
    validate_qa.commit(workspace, loaded, validate_qa.validate(workspace, loaded))
    index(workspace, tldr / AFTER / "pages")
    again = validate_qa.load(workspace, source)
    assert isinstance(again, Loaded)
    return list(zip(expected(tldr), again.rows, strict=True))


def outcomes(year: list[tuple[str, Row]]) -> Counter[tuple[str, str]]:
    return Counter((wanted, row.status) for wanted, row in year)


@pytest.mark.parametrize(
    ("status", "reasons", "count"), [("stale", {"changed pair", "line gone"}, 361), ("dangling", {"page gone"}, 40)]
)
def test_rows_that_went_bad_are_found_with_precision_and_recall_of_99_percent(
    year: list[tuple[str, Row]], status: str, reasons: set[str], count: int
) -> None:
    wanted = [reason in reasons for reason, _ in year]
    told = [row.status == status for _, row in year]
    right = sum(one and other for one, other in zip(wanted, told, strict=True))
    assert sum(wanted) == count
    assert right / sum(told) >= 0.99
    assert right / sum(wanted) >= 0.99


def test_every_row_of_a_year_becomes_what_its_page_says(year: list[tuple[str, Row]]) -> None:
    assert outcomes(year) == {
        ("changed pair", "stale"): 199,
        ("line gone", "stale"): 162,
        ("page gone", "dangling"): 40,
        ("line stands", "valid"): 1337,
        ("line stands, wording gone", "valid"): 55,
    }


def test_a_row_is_flagged_reworded_where_its_answer_stands_under_other_words(year: list[tuple[str, Row]]) -> None:
    reworded = [reason for reason, row in year if "reworded" in row.flags]
    assert Counter(reworded) == {"line stands, wording gone": 55}


def test_a_cleared_row_is_tied_to_the_page_as_it_is_now_and_a_stale_one_shows_both_passages(
    year: list[tuple[str, Row]],
) -> None:
    pages = SHARED / "tldr" / AFTER
    for _, row in year:
        (anchor,) = row.anchors
        assert anchor is not None
        page = pages / anchor.path
        if row.status == "valid":
            assert anchor.fingerprint == sha256(page.read_bytes()).hexdigest()
        elif row.status == "stale":
            assert anchor.fingerprint == sha256((SHARED / "tldr" / BEFORE / anchor.path).read_bytes()).hexdigest()
            assert anchor.passage == f"`{row.example.answer}`"
            assert row.now[0] in page.read_text()


def test_the_new_passage_of_a_changed_pair_is_its_new_answer(year: list[tuple[str, Row]]) -> None:
    later = {values["question"]: values["answer"] for values in read_rows(SHARED / "tldr" / AFTER / "qa.jsonl")}
    changed = [row for reason, row in year if reason == "changed pair"]
    assert sum(row.now == (f"`{later[row.example.question]}`",) for row in changed) == 199
