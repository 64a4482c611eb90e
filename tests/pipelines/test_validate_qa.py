"""A Q&A set from its file to a committed dataset: what is found, refused and written, and when nothing is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, make_workspace, refresh
from tests.pipelines.basins import (
    BASINS,
    basins,
    found,
    head,
    index,
    judge,
    page,
    row,
    run,
    save,
    stored,
    ten_rows,
    write_pages,
)  # fmt: skip
from tests.pipelines.planted_defects import ADDED, CARD, CHANGED, E_MAIL, SECRET, corrupted, expected
from tidegate.core import keys
from tidegate.core.config import load_corpus
from tidegate.core.errors import (
    ConfigInvalidError,
    DatasetInvalidError,
    QuestionsInvalidError,
    ReleaseMissingError,
)
from tidegate.core.examples import ROW_RULES
from tidegate.pipelines import validate_qa
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.datasets import read_dataset, verify_dataset
from tidegate.registry.file_store import FileStore

Row = dict[str, Any]
DEMO = ROOT / "include" / "demo"


@pytest.fixture
def pages(folder: Path, store: FileStore) -> Path:
    """Ten pages, indexed, and ten rows about them, not yet validated."""
    write_pages(folder)
    index(folder, store)
    save(folder, ten_rows())
    return folder


@pytest.fixture(scope="module")
def handbook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the demo handbook, indexed once."""
    path = tmp_path_factory.mktemp("handbook") / "store"
    refresh(make_workspace(DEMO / "handbook", FileStore(path)))
    return path


def demo(store: Path, qa: Path, **changes: Any) -> Workspace:
    """A workspace over the handbook with the settings of its corpus file."""
    settings = load_corpus(ROOT / "include" / "corpora" / "handbook.yaml").qa.model_dump()
    return make_workspace(DEMO / "handbook", FileStore(store), qa=settings | {"path": str(qa)} | changes)


def test_the_demo_set_validates_and_no_row_is_left_out(handbook: Path, tmp_path: Path) -> None:
    store = shutil.copytree(handbook, tmp_path / "store")
    workspace = demo(store, DEMO / "qa.jsonl")
    loaded, validated = judge(workspace)
    rows = (DEMO / "qa.jsonl").read_text().splitlines()
    assert len(rows) >= 950
    assert (validated.report["failures"], validated.broken) == ([], "")
    splits = validated.report["splits"]
    assert sum(split["rows"] for split in splits.values()) == len(loaded.rows) == len(rows)
    assert splits["holdout"]["documents"] >= 32
    assert splits["holdout"]["rows"] >= 160
    assert splits["holdout"]["unanswerable"] >= 40
    digest = validate_qa.commit(workspace, loaded, validated)
    counts = verify_dataset(workspace.store, "test", digest).counts
    assert {name: counts.model_dump()[name] for name in splits} == {name: splits[name]["rows"] for name in splits}


@pytest.fixture
def planted(handbook: Path, tmp_path: Path) -> Callable[..., Workspace]:
    """A maker of workspaces over a copy of the demo set with 25 defects."""
    rows = [json.loads(line) for line in (DEMO / "qa.jsonl").read_text().splitlines()]
    (tmp_path / "qa.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in corrupted(rows)))
    shutil.copytree(handbook, tmp_path / "store")
    return lambda **changes: demo(tmp_path / "store", tmp_path / "qa.jsonl", **changes)


def test_each_of_25_planted_defects_is_found_and_nothing_else(planted: Callable[..., Workspace]) -> None:
    assert len(CHANGED) + len(ADDED) == 25
    assert {rule for _, rule in expected()} == ROW_RULES.keys()
    workspace = planted()
    _, validated = judge(workspace)
    assert found(validated) == expected()
    (twice,) = [item for item in validated.report["failures"] if item["rule"] == "duplicate_id"]
    total = validated.report["rows"]["total"]
    assert twice["where"] == f"qa.jsonl line {total - len(ADDED) + 1}"
    share = f"failed_share is {27 / total:.4g}, allowed is at most 0.01 (qa.max_failed_share)"
    assert validated.broken == share
    with pytest.raises(DatasetInvalidError) as refused:
        validate_qa.require_valid(workspace, validated)
    first = ", ".join(f"{row} {rule}" for row, rule in expected()[:5])
    assert refused.value.what.endswith(f"refused: {share}; failing rows: {first}, and 22 more")


def test_failing_rows_are_kept_with_their_reasons_and_no_finding_holds_what_is_secret(
    planted: Callable[..., Workspace], tmp_path: Path
) -> None:
    workspace = planted(max_failed_share=0.1)
    loaded = validate_qa.load(workspace, validate_qa.qa_source(workspace))
    validated = validate_qa.validate(workspace, loaded, tmp_path / "pages")
    digest = validate_qa.commit(workspace, loaded, validated)
    folder = tmp_path / "store" / keys.dataset("test", digest)
    excluded = [json.loads(line) for line in (folder / "excluded.jsonl").read_text().splitlines()]
    assert {item["status"] for item in excluded} == {"failed"}
    assert sorted((item["id"], reason["rule"]) for item in excluded for reason in item["reasons"]) == expected()
    used = "".join((folder / f"{split}.jsonl").read_text() for split in ("train", "dev", "holdout"))
    told = (folder / "report.json").read_text()
    told += "".join(path.read_text() for path in (tmp_path / "pages").rglob("*.html"))
    assert "near_duplicate_question" in told
    assert [value for value in (SECRET, E_MAIL, CARD) if value in used + told] == []


@pytest.mark.shared
@pytest.mark.xfail(strict=True, reason="the explicit id of a heading is no anchor yet")
def test_every_row_of_a_real_set_over_its_own_pages_holds(shared: Path, store: FileStore) -> None:
    real = shared / "anthropic_docs"
    source, qa = {"include": ["pages/**"]}, {"path": str(real / "qa.jsonl")}
    workspace = make_workspace(real, store, source=source, qa=qa)
    refresh(workspace)
    assert found(judge(workspace)[1]) == []


SET_RULES = {
    "too few rows": ({"min_rows": 11}, ten_rows(), "rows is 10, allowed is at least 11 (qa.min_rows)"),
    "too many fail": (
        {"max_failed_share": 0.09},
        [*ten_rows()[1:], row("anchor", 99)],
        "failed_share is 0.1, allowed is at most 0.09 (qa.max_failed_share)",
    ),
    "too few unanswerable": (
        {"min_unanswerable_share": 0.21},
        ten_rows(unanswerable=2),
        "unanswerable_share is 0.2, allowed is 0.21 to 0.6 (qa.min_unanswerable_share and qa.max_unanswerable_share)",
    ),
    "too many unanswerable": (
        {"max_unanswerable_share": 0.19},
        ten_rows(unanswerable=2),
        "unanswerable_share is 0.2, allowed is 0 to 0.19 (qa.min_unanswerable_share and qa.max_unanswerable_share)",
    ),
    "one tag everywhere": (
        {"max_tag_share": 0.9},
        ten_rows(tagged=10),
        "tag_share is 1, allowed is at most 0.9 (qa.max_tag_share)",
    ),
}


@pytest.mark.parametrize("case", SET_RULES)
def test_each_rule_over_the_set_refuses_it_and_is_named_with_value_and_threshold(
    case: str, pages: Path, store: FileStore
) -> None:
    settings, rows, said = SET_RULES[case]
    save(pages, rows)
    before = stored(store)
    workspace = basins(pages, store, **settings)
    loaded, validated = judge(workspace)
    assert validated.broken == said
    assert validated.report["broken"] == [said.partition(" ")[0]]
    with pytest.raises(DatasetInvalidError) as refused:
        validate_qa.commit(workspace, loaded, validated)
    failing = "; failing rows: anchor quote_missing" if case == "too many fail" else ""
    assert refused.value.what == f"the Q&A set of corpus test is refused: {said}{failing}"
    assert stored(store) == before


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"min_rows": 10}, ten_rows()),
        ({"max_failed_share": 0.1}, [*ten_rows()[1:], row("anchor", 99)]),
        ({"min_unanswerable_share": 0.2, "max_unanswerable_share": 0.2}, ten_rows(unanswerable=2)),
        ({"max_tag_share": 0.9}, ten_rows(tagged=9)),
    ],
)
def test_a_set_that_just_meets_a_threshold_is_committed(
    settings: Row, rows: list[Row], pages: Path, store: FileStore
) -> None:
    save(pages, rows)
    digest = run(basins(pages, store, **settings))
    assert head(store) == digest
    verify_dataset(store, "test", digest)


def test_an_empty_file_is_refused(pages: Path, store: FileStore) -> None:
    save(pages, [])
    workspace = basins(pages, store)
    with pytest.raises(DatasetInvalidError, match=r"refused: rows is 0, allowed is at least 1 \(qa.min_rows\)$"):
        run(workspace)
    assert head(store) is None


def test_a_set_that_is_all_stale_is_refused_and_the_last_dataset_stays(pages: Path, store: FileStore) -> None:
    first = run(basins(pages, store))
    for basin in BASINS:
        (pages / f"{basin}.md").write_text(page(basin, 99))
    index(pages, store)
    loaded, validated = judge(basins(pages, store))
    assert [item["row"] for item in validated.report["stale"]] == sorted(BASINS)
    assert validated.report["failures"] == []
    with pytest.raises(DatasetInvalidError, match="rows is 0, allowed is at least 1"):
        validate_qa.commit(basins(pages, store), loaded, validated)
    assert head(store) == first


def test_a_failing_set_leaves_the_last_dataset_byte_for_byte_and_succeeds_after_the_fix(
    pages: Path, store: FileStore
) -> None:
    workspace = basins(pages, store)
    first = run(workspace)
    before = stored(store)
    save(pages, [row("anchor", 99), *ten_rows()[1:]])
    with pytest.raises(DatasetInvalidError) as refused:
        run(workspace)
    share = "failed_share is 0.1, allowed is at most 0.05 (qa.max_failed_share)"
    assert refused.value.what == (f"the Q&A set of corpus test is refused: {share}; failing rows: anchor quote_missing")
    assert refused.value.document == "qa.jsonl line 1"
    assert stored(store) == before
    save(pages, [row("anchor", 11, author="Ada"), *ten_rows()[1:]])
    fixed = run(workspace)
    manifest = verify_dataset(store, "test", fixed)
    assert (head(store), manifest.parent, manifest.seq) == (fixed, first, 2)
    assert {key: data for key, data in stored(store).items() if key.startswith(keys.dataset("test", first))} == {
        key: data for key, data in before.items() if key.startswith(keys.dataset("test", first))
    }


def test_where_nothing_changed_nothing_is_written(pages: Path, store: FileStore) -> None:
    digest = run(basins(pages, store))
    before = stored(store)
    unrelated = basins(pages, store, check=None)
    assert validate_qa.load(unrelated, validate_qa.qa_source(unrelated)) == digest
    assert stored(store) == before


@pytest.mark.parametrize(
    "settings",
    [{"max_failed_share": 0.06}, {"min_rows": 2}, {"extractive": False}, {"holdout_share": 0.3}, {"split_key": "x"}],
)
def test_a_changed_setting_makes_a_new_dataset(settings: Row, pages: Path, store: FileStore) -> None:
    first = run(basins(pages, store))
    second = run(basins(pages, store, **settings))
    assert read_dataset(store, "test", second).parent == first
    assert head(store) == second


def test_a_new_snapshot_makes_a_new_dataset_tied_to_it(pages: Path, store: FileStore) -> None:
    first = run(basins(pages, store))
    (pages / "kiosk.md").write_text("# The kiosk\n\nIt sells ice.\n")
    snapshot = index(pages, store)
    second = read_dataset(store, "test", run(basins(pages, store)))
    assert (second.parent, second.snapshot) == (first, snapshot)
    assert read_dataset(store, "test", first).snapshot != snapshot


def test_what_is_missing_is_said(pages: Path, store: FileStore, tmp_path: Path) -> None:
    without = make_workspace(pages, store)
    with pytest.raises(ConfigInvalidError, match="corpus test has no Q&A set"):
        validate_qa.qa_source(without)
    nowhere = validate_qa.qa_source(without, tmp_path / "nowhere.jsonl")
    with pytest.raises(QuestionsInvalidError, match=r"nowhere\.jsonl: expected a file"):
        validate_qa.load(without, nowhere)
    fresh = basins(pages, FileStore(tmp_path / "fresh"))
    with pytest.raises(ReleaseMissingError, match="has no snapshot to check against"):
        validate_qa.load(fresh, validate_qa.qa_source(fresh))


def test_of_two_copies_the_newcomer_fails_wherever_it_stands_and_however_often(pages: Path, store: FileStore) -> None:
    run(basins(pages, store, max_failed_share=1))
    copy = row("anchor", 11, id="copy")
    for author in ("Ada", "Grace"):
        save(pages, [copy, *ten_rows()[:9], row("jetty", 20, author=author)])
        _, validated = judge(basins(pages, store, max_failed_share=1))
        assert found(validated) == [("copy", "duplicate_question")], author
        run(basins(pages, store, max_failed_share=1))


def test_of_two_rows_with_one_id_the_newcomer_fails_wherever_it_stands(pages: Path, store: FileStore) -> None:
    run(basins(pages, store))
    save(pages, [other_row("anchor"), *ten_rows()])
    _, validated = judge(basins(pages, store, max_failed_share=1))
    (failure,) = validated.report["failures"]
    assert (failure["where"], failure["rule"]) == ("qa.jsonl line 1", "duplicate_id")


def test_drafts_stale_and_dangling_rows_are_not_judged(pages: Path, store: FileStore) -> None:
    defects = {"answer": "", "answerable": True}
    save(pages, [row("anchor", 11, **defects), row("buoy", 12, **defects), *ten_rows()[2:]])
    workspace = basins(pages, store, max_failed_share=0.2)
    assert found(judge(workspace)[1]) == [("anchor", "answer_missing"), ("buoy", "answer_missing")]
    run(workspace)
    (pages / "anchor.md").write_text(page("anchor", 11, " in summer"))
    (pages / "buoy.md").unlink()
    index(pages, store)
    draft = row("canal", 13, id="draft", tags=["generated"], **defects)
    save(pages, [row("anchor", 11, **defects), row("buoy", 12, **defects), draft, *ten_rows()[2:]])
    report = judge(basins(pages, store, max_failed_share=0))[1].report
    assert (report["failures"], report["set"]["failed_share"], report["broken"]) == ([], 0, [])
    assert [item["row"] for item in report["stale"] + report["dangling"]] == ["anchor", "buoy"]
    assert report["drafts"] == ["draft"]


def other_row(basin: str) -> Row:
    """Another row under the id of a basin's row."""
    evidence = [{"document": f"{basin}.md", "quote": "Green.", "section": "Paint"}]
    return {"id": basin, "question": f"Which colour has the {basin}?", "answer": "Green", "evidence": evidence}


def test_a_second_row_with_its_id_hides_no_stale_row_and_does_not_take_its_place(pages: Path, store: FileStore) -> None:
    save(pages, [*ten_rows(), *map(other_row, BASINS)])
    workspace = basins(pages, store, max_failed_share=1)
    twice = [(basin, "duplicate_id") for basin in BASINS]
    assert found(judge(workspace)[1]) == twice
    run(workspace)
    for boats, basin in enumerate(BASINS, 11):
        (pages / f"{basin}.md").write_text(page(basin, boats, " in summer"))
    index(pages, store)
    _, validated = judge(workspace)
    assert [item["row"] for item in validated.report["stale"]] == sorted(BASINS)
    assert found(validated) == twice


@pytest.mark.parametrize("changes", [{"question": 42}, {"answer": ["11 boats"]}, {"evidence": [5]}])
def test_a_field_of_the_wrong_type_is_named_once(changes: Row, pages: Path, store: FileStore) -> None:
    save(pages, [row("anchor", 11, answerable=True, **changes), *ten_rows()[1:]])
    assert found(judge(basins(pages, store))[1]) == [("anchor", "schema")]


def test_the_detail_of_a_near_duplicate_holds_no_personal_data(pages: Path, store: FileStore) -> None:
    asked = f"{E_MAIL} asks: how many boats fit into the anchor?"
    same = row("anchor", 11, id="same", question=f"Please, {asked}")
    save(pages, [row("anchor", 11, question=asked), same, *ten_rows()[1:]])
    report = judge(basins(pages, store))[1].report
    assert ("same", "near_duplicate_question") in [(item["row"], item["rule"]) for item in report["failures"]]
    assert E_MAIL not in json.dumps(report["failures"])


def test_a_large_threshold_is_written_out(pages: Path, store: FileStore) -> None:
    assert judge(basins(pages, store, min_rows=1234567))[1].broken == (
        "rows is 10, allowed is at least 1234567 (qa.min_rows)"
    )


LIGHT = """
import importlib, os, pkgutil, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(dag_folder=os.path.join(sys.argv[1], "dags"))
assert bag.import_errors == {}, bag.import_errors
assert "validate_qa.handbook" in bag.dags
for package in ("tidegate.qa", "tidegate.pipelines", "tidegate.orchestration", "tidegate.cli"):
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__, package + "."):
        importlib.import_module(found.name)
print(sorted({"great_expectations", "pandas"} & {name.partition(".")[0] for name in sys.modules}))
"""


def test_neither_importing_any_module_nor_parsing_the_dags_loads_great_expectations(tmp_path: Path) -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path / 'airflow.db'}",
        "TIDEGATE_HOME": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, str(ROOT)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["[]"]), done.stderr
