"""An adapter on a real Airflow: trained when a dataset wakes it, left alone without a reason, refused over budget."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.airflow.conftest import EXECUTED, FinishedRun, RunningAirflow
from tests.pipelines.training_corpus import HARBOURS, SETTINGS, TRAINING, forty_rows, page
from tidegate.registry.adapters import newest_adapter, read_adapter, verify_adapter
from tidegate.registry.datasets import read_dataset_head
from tidegate.registry.heads import read_head
from tidegate.training.base_model import find_base_model, prepare_base_model

pytestmark = pytest.mark.airflow

DAG = "refresh_adapter.harbours"


@pytest.fixture
def model(tiny_base_model: Path) -> Iterator[str]:
    """The tiny base model, prepared where Airflow's tasks look for models."""
    files = find_base_model(f"path:{tiny_base_model}")
    prepare_base_model(files)
    yield f"path:{tiny_base_model}"
    shutil.rmtree(files.prepared)


def assert_trained(airflow: RunningAirflow, run: FinishedRun) -> str:
    """Assert that a run has trained and committed an adapter and told of it; return its key."""
    assert run.states == dict.fromkeys(("decide", "prepare", "train", "commit"), "success")
    workspace = airflow.workspace("harbours")
    store, corpus = workspace.store, workspace.corpus
    key = newest_adapter(store, corpus).key
    dataset, snapshot = read_dataset_head(store, corpus).dataset, read_head(store, corpus).snapshot
    assert airflow.asset_events("adapter.harbours") == [{"adapter": key, "dataset": dataset, "snapshot": snapshot}]
    manifest = verify_adapter(store, corpus, key)
    assert (manifest.dataset, manifest.snapshot) == (dataset, snapshot)
    assert run.log("decide")[-2] == "train: no adapter was trained yet"
    assert f"rows: {manifest.counts.contexts} contexts, " in "\n".join(run.log("prepare"))
    assert run.log("prepare")[-2].startswith(f"estimate: {manifest.counts.tokens} tokens at 1000 tok/s (assumed): ")
    told = run.log("train")
    steps = [line for line in told if line.startswith("train ") and " steps, loss " in line]
    assert steps
    assert all(" tok/s, " in line for line in steps)
    assert told[-2].startswith("train: ")
    assert f"loss on dev {manifest.losses['dev']:.3f}" in told[-2]
    assert run.log("commit")[-2] == f"adapter {key[:12]} of dataset {dataset[:12]} is ready"
    assert max(airflow.xcoms(run).values()) < 2_000
    return key


def test_a_dataset_wakes_the_training_and_only_a_reason_repeats_it(airflow: RunningAirflow, model: str) -> None:
    questions = airflow.folder / "qa-harbours.jsonl"
    questions.write_text("".join(f"{json.dumps(row)}\n" for row in forty_rows().values()))
    sections = {
        **SETTINGS,
        "qa": {"path": str(questions), "min_rows": 1, "check": None},
        "base_model": {"model": model},
        "training": {**TRAINING, "schedule": None},
    }
    documents = airflow.make_corpus("harbours", {f"{name}.md": page(name) for name in HARBOURS}, **sections)
    for dag_id in ("validate_qa.harbours", DAG):
        airflow.api.wait_for_dag(dag_id, 60)
    airflow.run("refresh_index.harbours")
    (first,) = airflow.wait_for_runs(DAG, 1)
    key = assert_trained(airflow, first)

    again = airflow.run(DAG)
    assert again.state == "success"
    assert [task["task_id"] for task in again.tasks if task["state"] in EXECUTED] == ["decide"]
    assert again.log("decide")[-2].startswith("stop: nothing to gain: 0 of ")
    assert "training rows changed (enough is 20), 0 fresh questions fail (enough is 10)" in again.log("decide")[-2]
    assert again.states == {"decide": "success", **dict.fromkeys(("prepare", "train", "commit"), "skipped")}

    poor = {**sections["training"], "epochs": 100, "budget": {"max_hours": 0.001}}
    airflow.write_corpus("harbours", source={"path": str(documents)}, **{**sections, "training": poor})
    refused = airflow.run(DAG)
    assert refused.states == {
        "decide": "success",
        "prepare": "failed",
        "train": "upstream_failed",
        "commit": "upstream_failed",
    }
    assert refused.log("decide")[-2] == "train: base model, prompt or training settings are others than then"
    workspace = airflow.workspace("harbours")
    tokens = 100 * read_adapter(workspace.store, "harbours", key).counts.tokens
    block = refused.failure("prepare")
    assert (block["code"], block["safe to rerun"]) == ("over_budget", "yes")
    assert f"training would take {tokens / measured_speed(block) / 3600:.2f} hours ({tokens} tokens" in block["what"]
    assert block["what"].endswith("training.budget.max_hours is 0.001")
    assert refused.tries["prepare"] == 1
    assert newest_adapter(workspace.store, "harbours").key == key


def measured_speed(block: dict[str, str]) -> float:
    return float(block["what"].partition(" tokens at ")[2].partition(" tok/s")[0])
