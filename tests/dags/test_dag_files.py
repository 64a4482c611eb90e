"""The DAG files as the DAG processor reads them: ids, tasks, edges, schedules, assets, alerts, and no heavy import.

All cases are parsed in one process of its own: importing Airflow takes seconds, and must not load anything in ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

HEAVY = {
    *("boto3", "faiss", "great_expectations", "numpy", "onnxruntime", "pandas"),
    *("pyarrow", "sentence_transformers", "torch", "transformers"),
}

PROBE = """
import json, os, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

CALLBACKS = ("on_success_callback", "on_skipped_callback", "on_retry_callback", "on_failure_callback")


def schedule(timetable):
    assets = [asset.name for asset in getattr(getattr(timetable, "asset_condition", None), "objects", [])]
    clock = getattr(timetable, "timetable", timetable)
    cron = [clock.expression, str(clock.timezone)] if hasattr(clock, "expression") else []
    return {"assets": assets, "cron": cron}


def form(operator):
    users = [user["id"] for user in operator.assigned_users]
    minutes = operator.response_timeout.total_seconds() / 60
    return {"options": operator.options, "defaults": operator.defaults, "users": users, "minutes": minutes}


def task(operator):
    return {
        "form": form(operator) if hasattr(operator, "response_timeout") else None,
        "trigger_rule": operator.trigger_rule,
        "after": sorted(operator.upstream_task_ids),
        "mapped": operator.is_mapped,
        "pool": operator.pool,
        "owner": operator.owner,
        "retries": [operator.retries, operator.retry_delay.total_seconds()],
        "outlets": [[asset.name, asset.uri] for asset in operator.outlets],
        **{name: [call.__name__ for call in getattr(operator, name) or []] for name in CALLBACKS},
    }


def deadline(alert):
    minutes = alert.interval.total_seconds() / 60
    return {"minutes": minutes, "name": alert.name, "calls": alert.callback.path, **alert.callback.kwargs}


def param(given):
    shape = {key: value for key, value in given.schema.items() if key not in ("title", "description")}
    return {"value": given.value if given.has_value else None, "schema": shape}


def described(dag):
    DagSerialization.to_dict(dag)
    return {
        "tags": sorted(dag.tags),
        "doc": dag.doc_md,
        "description": dag.description,
        "max_active_runs": dag.max_active_runs,
        "catchup": dag.catchup,
        "schedule": schedule(dag.timetable),
        "deadline": [deadline(alert) for alert in dag.deadline or []],
        "params": {name: param(dag.params.get_param(name)) for name in dag.params},
        "tasks": {operator.task_id: task(operator) for operator in dag.tasks},
    }


def parsed(dags, corpora):
    os.environ["TIDEGATE_CORPORA"] = corpora
    bag = DagBag(dag_folder=dags)
    loaded = sorted({name.partition(".")[0] for name in sys.modules})
    dags = {name: described(dag) for name, dag in sorted(bag.dags.items())}
    return {"errors": bag.import_errors, "loaded": loaded, "dags": dags}


cases = {case.name: parsed(sys.argv[1], case.path) for case in os.scandir(sys.argv[2])}
with open(sys.argv[3], "w") as out:
    json.dump(cases, out)
"""

SOUND = "source: {path: docs}"
BROKEN = {
    "unknown_key": ("source: {path: docs, pth: x}", "unknown key 'source.pth'; did you mean 'path'?"),
    "wrong_type": ("source: {path: docs}\nrefresh: {retries: many}", "refresh.retries: "),
    "not_yaml": ("source: [", "not valid YAML: "),
    "not_a_mapping": ("- source", "expected keys and values"),
    "empty": ("", "expected keys and values"),
    "other_name": ("corpus: other\nsource: {path: docs}", "the file is named 'broken'"),
    "no_cron": ("source: {path: docs}\nrefresh: {schedule: every monday}", "got 'every monday'"),
    "no_timezone": ("source: {path: docs}\nrefresh: {timezone: Mars/Olympus}", "got 'Mars/Olympus'"),
    "no_check": ("source: {path: docs}\npromotion: {check: daily at 5}", "got 'daily at 5'"),
}
"""Corpus files that cannot be used, and what their DAG must say."""

SETTINGS = {
    "loud.yaml": """
source: {path: docs}
refresh: {retries: 5, retry_seconds: 7}
alerts: {notifier: mail.Notifier, arguments: {to: on-call@brackwater.example}, deadline_minutes: 90}
""",
    "notified.yaml": "source: {path: docs}\nalerts: {notifier: mail.Notifier}",
    "timed.yaml": "source: {path: docs}\nalerts: {deadline_minutes: 0.5}",
    "by_hand.yaml": "source: {path: docs}\nrefresh: {schedule: null}\npromotion: {check: null}",
    "approved.yaml": "source: {path: docs}\npromotion: {approvers: [ana, bo]}",
    "abroad.yaml": "source: {path: docs}\nrefresh: {schedule: 0 4 * * *, timezone: Europe/Lisbon}",
}


def write_cases(folder: Path) -> None:
    cases = {"plain": {}, "settings": SETTINGS, "odd_name": {"my docs.yaml": SOUND, "my-docs.yaml": SOUND}}
    cases |= {case: {"broken.yaml": text, "sound.yaml": SOUND} for case, (text, _) in BROKEN.items()}
    cases |= {case: {"sound.yaml": SOUND} for case in ("not_utf8", "no_file", "lock_file")}
    for case, files in cases.items():
        (folder / case).mkdir(parents=True)
        for file, text in files.items():
            (folder / case / file).write_text(text)
    (folder / "not_utf8" / "broken.yaml").write_bytes(b"description: caf\xe9")
    (folder / "no_file" / "broken.yaml").symlink_to("nowhere")
    (folder / "lock_file" / ".#sound.yaml").symlink_to("someone@their-machine")  # as Emacs leaves beside an open file


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the DAG processor makes of the DAG files, with the corpus files of each case beside the demo's."""
    folder = tmp_path_factory.mktemp("dags")
    corpora = folder / "project" / "include" / "corpora"
    corpora.mkdir(parents=True)
    (corpora / "handbook.yaml").write_bytes((ROOT / "include/corpora/handbook.yaml").read_bytes())
    write_cases(folder / "cases")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "TIDEGATE"))}
    environment = {
        **inherited,
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}",
        "TIDEGATE_HOME": str(folder / "project"),
    }
    command = [sys.executable, "-c", PROBE, str(ROOT / "dags"), str(folder / "cases"), str(folder / "parsed.json")]
    finished = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return dict(json.loads((folder / "parsed.json").read_text()))


def dags_of(case: dict[str, Any]) -> dict[str, Any]:
    """Return the DAGs of a case; none of the files may have failed to parse."""
    assert case["errors"] == {}
    return dict(case["dags"])


def callbacks(task: dict[str, Any]) -> dict[str, list[str]]:
    return {name.removesuffix("_callback"): calls for name, calls in task.items() if name.endswith("_callback")}


def test_the_demo_corpus_has_five_dags_and_parsing_them_loads_nothing_heavy(parsed: dict[str, Any]) -> None:
    pipelines = ("refresh_index", "promote_release", "rollback_release", "validate_qa", "refresh_adapter")
    assert dags_of(parsed["plain"]).keys() == {f"{pipeline}.handbook" for pipeline in pipelines}
    assert [HEAVY & set(case["loaded"]) for case in parsed.values()] == [set()] * len(parsed)
    assert all("airflow" in case["loaded"] for case in parsed.values())


def test_every_dag_explains_itself_and_has_tags_and_an_owner(parsed: dict[str, Any]) -> None:
    for name, dag in ((name, dag) for case in parsed.values() for name, dag in dags_of(case).items()):
        assert {"tidegate", name.split(".")[1]} <= {tag.replace(" ", "-") for tag in dag["tags"]}, name
        assert dag["description"], name
        assert {task["owner"] for task in dag["tasks"].values()} == {"tidegate"}, name
        assert not dag["catchup"], name
        if "broken" not in dag["tags"]:
            assert dag["max_active_runs"] == (4 if name.startswith(("promote", "rollback")) else 1), name
            assert all(f"**{task}**" in dag["doc"] for task in dag["tasks"]), name


def test_refresh_index_detects_then_embeds_in_the_pool_then_commits(parsed: dict[str, Any]) -> None:
    dag = dags_of(parsed["plain"])["refresh_index.handbook"]
    assert dag["schedule"] == {"assets": [], "cron": ["0 3 * * 1", "UTC"]}
    assert dag["deadline"] == []
    tasks = dag["tasks"]
    assert {name: task["after"] for name, task in tasks.items()} == {
        "detect": [],
        "embed": ["detect"],
        "commit": ["detect", "embed"],
    }
    assert {name for name, task in tasks.items() if task["mapped"]} == {"embed"}
    assert {name: task["pool"] for name, task in tasks.items() if task["pool"] != "default_pool"} == {"embed": "embed"}
    assert {name: task["outlets"] for name, task in tasks.items() if task["outlets"]} == {
        "commit": [["index_snapshot.handbook", "x-tidegate://handbook/index_snapshot"]]
    }


def test_promote_release_is_woken_by_the_snapshot_and_by_its_own_clock(parsed: dict[str, Any]) -> None:
    dag = dags_of(parsed["plain"])["promote_release.handbook"]
    woken_by = ["adapter.handbook", "index_snapshot.handbook", "qa_dataset.handbook"]
    assert {**dag["schedule"], "assets": sorted(dag["schedule"]["assets"])} == {
        "assets": woken_by,
        "cron": ["30 5 * * *", "UTC"],
    }
    assert dag["deadline"] == []
    tasks = dag["tasks"]
    assert {name: task["after"] for name, task in tasks.items()} == {
        "compose": [],
        "evaluate": ["compose"],
        "gate": ["evaluate"],
        "approve": ["gate"],
        "publish": ["approve", "gate"],
    }
    assert {task["trigger_rule"] for task in tasks.values()} == {"all_success"}
    assert {task["pool"] for task in tasks.values()} == {"default_pool"}
    assert {name: task["outlets"] for name, task in tasks.items() if task["outlets"]} == {
        "publish": [["release.handbook", "x-tidegate://handbook/release"]]
    }


def test_rollback_release_runs_by_hand_and_asks_for_a_reason(parsed: dict[str, Any]) -> None:
    dag = dags_of(parsed["plain"])["rollback_release.handbook"]
    assert dag["schedule"] == {"assets": [], "cron": []}
    assert dag["params"]["reason"] == {"value": None, "schema": {"type": "string", "minLength": 3}}
    assert dag["params"]["release"] == {"value": None, "schema": {"type": ["null", "string"]}}
    tasks = dag["tasks"]
    assert {name: task["after"] for name, task in tasks.items()} == {"choose": [], "restore": ["choose"]}
    assert {task["trigger_rule"] for task in tasks.values()} == {"all_success"}
    assert {name: task["outlets"] for name, task in tasks.items() if task["outlets"]} == {
        "restore": [["release.handbook", "x-tidegate://handbook/release"]]
    }


def test_only_the_approvers_of_a_corpus_may_answer_the_form(parsed: dict[str, Any]) -> None:
    choose = dags_of(parsed["settings"])["rollback_release.approved"]["tasks"]["choose"]
    form = {"options": ["Keep what serves"], "defaults": ["Keep what serves"], "minutes": 60.0}
    assert choose["form"] == {**form, "users": ["ana", "bo"]}
    handbook = dags_of(parsed["plain"])["rollback_release.handbook"]["tasks"]["choose"]["form"]
    assert handbook == {**form, "users": ["ml_lead"]}
    assert dags_of(parsed["settings"])["rollback_release.by_hand"]["tasks"]["choose"]["form"] == {**form, "users": []}


def test_validate_qa_is_woken_by_the_snapshot_and_by_its_own_clock(parsed: dict[str, Any]) -> None:
    dag = dags_of(parsed["plain"])["validate_qa.handbook"]
    assert dag["schedule"] == {"assets": ["index_snapshot.handbook"], "cron": ["30 4 * * *", "UTC"]}
    tasks = dag["tasks"]
    assert {name: task["after"] for name, task in tasks.items()} == {
        "load": [],
        "validate": ["load"],
        "commit": ["load", "validate"],
    }
    assert {name: task["outlets"] for name, task in tasks.items() if task["outlets"]} == {
        "commit": [["qa_dataset.handbook", "x-tidegate://handbook/qa_dataset"]]
    }
    assert "validate_qa.by_hand" not in dags_of(parsed["settings"])  # it has no Q&A set


def test_every_task_retries_twice_and_ends_its_log_with_a_summary_or_a_failure(parsed: dict[str, Any]) -> None:
    for dag in dags_of(parsed["plain"]).values():
        for task in dag["tasks"].values():
            asks_a_person = task is dag["tasks"].get("approve")
            assert task["retries"] == [0 if asks_a_person else 2, 60]  # a retry would ask the person again
            assert callbacks(task) == {
                "on_success": ["log_summary"],
                "on_skipped": ["log_summary"],
                "on_retry": ["log_failure"],
                "on_failure": ["log_failure"],
            }


def test_a_corpus_file_sets_schedules_and_retries(parsed: dict[str, Any]) -> None:
    dags = dags_of(parsed["settings"])
    assert dags["refresh_index.by_hand"]["schedule"] == {"assets": [], "cron": []}
    assert dags["promote_release.by_hand"]["schedule"] == {"assets": ["index_snapshot.by_hand"], "cron": []}
    assert dags["refresh_index.abroad"]["schedule"]["cron"] == ["0 4 * * *", "Europe/Lisbon"]
    assert dags["promote_release.abroad"]["schedule"]["cron"] == ["30 5 * * *", "Europe/Lisbon"]
    for name in ("refresh_index.loud", "promote_release.loud"):
        retried = [task["retries"] for key, task in dags[name]["tasks"].items() if key != "approve"]
        assert all(retries == [5, 7] for retries in retried)


@pytest.mark.parametrize("pipeline", ["refresh_index", "promote_release"])
def test_alerts_add_a_notice_before_the_failure_block_and_a_deadline(parsed: dict[str, Any], pipeline: str) -> None:
    dags = dags_of(parsed["settings"])
    expected = {"loud": (True, 90), "notified": (True, None), "timed": (False, 0.5), "by_hand": (False, None)}
    for corpus, (notified, minutes) in expected.items():
        dag = dags[f"{pipeline}.{corpus}"]
        for task in dag["tasks"].values():
            assert callbacks(task)["on_failure"] == (["notify"] if notified else []) + ["log_failure"]
            assert callbacks(task)["on_retry"] == ["log_failure"]
        assert [alert["minutes"] for alert in dag["deadline"]] == ([] if minutes is None else [minutes])
    (alert,) = dags[f"{pipeline}.loud"]["deadline"]
    assert alert == {
        "minutes": 90,
        "name": "runs longer than 90 minutes",
        "calls": "tidegate.orchestration.alerts.deadline_missed",
        "alerts": {
            "notifier": "mail.Notifier",
            "arguments": {"to": "on-call@brackwater.example"},
            "deadline_minutes": 90,
        },
    }


@pytest.mark.parametrize("case", [*BROKEN, "not_utf8", "no_file"])
def test_a_corpus_file_that_cannot_be_used_has_a_dag_that_says_so_and_spares_the_others(
    parsed: dict[str, Any], case: str
) -> None:
    dags = dags_of(parsed[case])
    pipelines = ("refresh_index", "promote_release", "rollback_release")
    sound = {f"{pipeline}.{corpus}" for pipeline in pipelines for corpus in ("handbook", "sound")}
    assert dags.keys() == sound | {"validate_qa.handbook", "refresh_adapter.handbook", "refresh_index.broken"}
    dag = dags["refresh_index.broken"]
    assert "broken.yaml: " in dag["doc"]
    assert BROKEN.get(case, ("", ""))[1] in dag["doc"]
    assert dag["tags"] == ["broken", "tidegate"]
    (task,) = dag["tasks"].values()
    assert task["retries"][0] == 0
    assert callbacks(task)["on_failure"] == ["log_failure"]


def test_a_file_name_that_no_dag_can_have_spares_the_corpus_with_a_similar_name(parsed: dict[str, Any]) -> None:
    dags = dags_of(parsed["odd_name"])
    assert "broken" not in dags["refresh_index.my-docs"]["tags"]
    (said,) = (dag["doc"] for dag in dags.values() if "broken" in dag["tags"])
    assert "my docs.yaml: " in said
    assert "corpus 'my docs' is not usable as a name" in said


def test_the_lock_file_of_an_editor_is_no_corpus_file(parsed: dict[str, Any]) -> None:
    assert {name.split(".", 1)[1] for name in dags_of(parsed["lock_file"])} == {"handbook", "sound"}
