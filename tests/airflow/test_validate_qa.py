"""A Q&A set on a real Airflow: woken by a snapshot, refused where it is wrong, mended, left alone otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.airflow.conftest import EXECUTED, FinishedRun, RunningAirflow
from tidegate.pipelines.validate_qa import read_whole_dataset
from tidegate.registry.datasets import read_dataset_head

pytestmark = pytest.mark.airflow

GATES = ("north", "south", "east", "west")
PAGES = {
    f"{gate}.md": f"# The {gate} gate\n\nThe {gate} gate opens {number} minutes before high water.\n"
    for number, gate in enumerate(GATES, 11)
}
ROWS = [
    {
        "id": gate,
        "question": f"When does the {gate} gate open?",
        "answer": f"{number} minutes before high water",
        "evidence": [{"document": f"{gate}.md", "quote": f"The {gate} gate opens {number} minutes before high water."}],
        "answerable": True,
        "tags": [gate],
    }
    for number, gate in enumerate(GATES, 11)
]
SETTINGS = {"min_rows": 2, "max_failed_share": 0.2, "min_unanswerable_share": 0.0}


def write_rows(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def assert_pages_behind_the_link(airflow: RunningAirflow, run: FinishedRun) -> None:
    (link,) = airflow.links(run, "validate").values()
    status, page = airflow.page(link)
    assert (status, b"Data Docs" in page) == (200, True)
    assert airflow.page(link, signed=False)[0] == 401
    assert airflow.page(link.replace("index.html", "..%2Frows.json"))[0] == 404


def assert_an_edit_and_a_deletion_take_rows_out(airflow: RunningAirflow, documents: Path) -> None:
    (documents / "north.md").write_text(PAGES["north.md"].replace("11 minutes", "twenty minutes"))
    (documents / "south.md").unlink()
    airflow.run("refresh_index.gates")
    mended = airflow.wait_for_runs("validate_qa.gates", 4)[-1]
    assert mended.state == "success"
    workspace = airflow.workspace("gates")
    rows = read_whole_dataset(workspace, read_dataset_head(workspace.store, "gates").dataset).rows
    assert {row.id: row.status for row in rows} == {
        "north": "stale",
        "south": "dangling",
        "east": "valid",
        "west": "valid",
    }


def test_a_snapshot_wakes_the_validation_and_a_wrong_set_leaves_the_last_dataset(airflow: RunningAirflow) -> None:
    questions = airflow.folder / "qa-gates.jsonl"
    write_rows(questions, ROWS)
    documents = airflow.make_corpus("gates", PAGES, qa={"path": str(questions), **SETTINGS})
    airflow.api.wait_for_dag("validate_qa.gates", 60)
    airflow.run("refresh_index.gates")
    (first,) = airflow.wait_for_runs("validate_qa.gates", 1)
    assert first.states == {"load": "success", "validate": "success", "commit": "success"}
    workspace = airflow.workspace("gates")
    dataset = read_dataset_head(workspace.store, "gates").dataset
    (event,) = airflow.asset_events("qa_dataset.gates")
    assert (event["dataset"], event["rows"]["total"], event["rows"]["failed"]) == (dataset, 4, 0)
    assert first.log("commit")[-2] == f"dataset {dataset[:12]}"
    assert "no row fails a rule" in first.log("validate")
    assert max(airflow.xcoms(first).values()) < 2_000
    pages = next(line for line in first.log("commit") if line.startswith("Data Docs: file://"))
    assert Path(pages.removeprefix("Data Docs: file://")).is_file()

    again = airflow.run("validate_qa.gates")
    assert [task["task_id"] for task in again.tasks if task["state"] in EXECUTED] == ["load"]
    assert f"nothing changed: dataset {dataset[:12]}" in again.log("load")

    wrong = [{**row, "answer": "at noon"} if row["id"] != "west" else row for row in ROWS]
    write_rows(questions, wrong)
    refused = airflow.run("validate_qa.gates")
    assert refused.states == {"load": "success", "validate": "failed", "commit": "upstream_failed"}
    block = refused.failure("validate")
    assert (block["code"], block["document"]) == ("dataset_invalid", "qa-gates.jsonl line 3")
    assert "failed_share is 0.75, allowed is at most 0.2 (qa.max_failed_share)" in block["what"]
    assert "east answer_not_in_quote, north answer_not_in_quote, south answer_not_in_quote" in block["what"]
    assert refused.tries["validate"] == 1
    for run in (first, refused):
        assert_pages_behind_the_link(airflow, run)
    assert read_dataset_head(workspace.store, "gates").dataset == dataset

    write_rows(questions, ROWS)
    assert_an_edit_and_a_deletion_take_rows_out(airflow, documents)
