"""A project whose corpus ``harbour`` has a release and a dataset, and what the newest dataset says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Answer, Call
from tests.conftest import settle
from tests.pipelines.basins import page, save, ten_rows, write_pages
from tidegate.cli.main import main

CORPUS = """
source: {path: harbour}
qa: {path: qa.jsonl, min_rows: 1, max_failed_share: 0.2, dev_share: 0, holdout_share: 0}
"""


def prepare(base: Path) -> Path:
    """Make a project of ten pages and ten rows in a folder, refreshed and validated."""
    (base / "include" / "corpora").mkdir(parents=True)
    (base / "include" / "corpora" / "harbour.yaml").write_text(CORPUS)
    (base / "harbour").mkdir()
    write_pages(base / "harbour")
    save(base / "harbour", ten_rows())
    settle()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIDEGATE_HOME", str(base))
        assert main(["refresh", "harbour"]) == 0
        assert main(["qa", "validate"]) == 0
    return base


def copy_to(home: Path, prepared: Path) -> Path:
    """Copy a prepared project to the home of a test; return its folder of pages."""
    shutil.copytree(prepared, home, dirs_exist_ok=True)
    return home / "harbour"


def edit(pages: Path, cli: Call) -> None:
    """Let two pages say more than before, one something else, and one go; index and validate."""
    (pages / "anchor.md").write_text(page("anchor", 11, " in summer"))
    (pages / "buoy.md").write_text(page("buoy", 12, " and a crane"))
    (pages / "canal.md").write_text(page("canal", 77))
    (pages / "dinghy.md").unlink()
    update(pages, cli)


def update(pages: Path, cli: Call) -> None:
    """Index what changed and validate the set."""
    settle()
    done(cli("refresh", pages.name))
    done(cli("qa", "validate"))


def done(answer: Answer) -> Answer:
    assert answer.code == 0, answer.err
    return answer


def store_of(pages: Path) -> Path:
    return pages.parent / ".tidegate" / "store" / pages.name


def head(pages: Path) -> str:
    return str(json.loads((store_of(pages) / "heads" / "dataset.json").read_text())["dataset"])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def links(pages: Path) -> dict[str, dict[str, Any]]:
    """Return what became of each row of the newest dataset, by its id."""
    return {item["row"]: item for item in lines(store_of(pages) / "datasets" / head(pages) / "links.jsonl")}


def statuses(pages: Path) -> dict[str, str]:
    """Return the status of each row that is not valid."""
    return {name: item["status"] for name, item in links(pages).items() if item["status"] != "valid"}


def used(pages: Path, name: str) -> dict[str, Any]:
    """Return a row as the newest dataset uses it."""
    rows = lines(store_of(pages) / "datasets" / head(pages) / "train.jsonl")
    (found,) = [item for item in rows if item["id"] == name]
    return found


def decide(path: Path, **decisions: dict[str, Any]) -> Path:
    """Fill in a review file: what each row is to say."""
    rows = [{**item, **decisions.get(item["id"], {})} for item in lines(path)]
    path.write_text("".join(f"{json.dumps(item)}\n" for item in rows))
    return path
