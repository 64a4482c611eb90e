"""One real Airflow for all tests of this folder: scheduler, API server, DAG processor, LocalExecutor, our DAGs."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
import yaml

from tests.conftest import ROOT
from tidegate.core.config import find_corpus
from tidegate.local.airflow import LocalAirflow, free_port
from tidegate.local.api import AirflowApi, ApiError
from tidegate.local.progress import TaskLogs
from tidegate.local.settings import AirflowSettings, ConnectionSetting, VariableSetting, load_settings
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.store import open_store

RUN_SECONDS = 120
EXECUTED = {"success", "failed", "up_for_retry"}


@dataclass(frozen=True)
class FinishedRun:
    """A DAG run that has ended, its task instances and their logs."""

    dag_id: str
    run_id: str
    state: str
    tasks: list[dict[str, Any]]
    logs: TaskLogs

    @property
    def states(self) -> dict[str, str]:
        """Task id to state, mapped instances summed up in a set-like string."""
        return {task["task_id"]: str(task["state"]) for task in self.tasks}

    @property
    def tries(self) -> dict[str, int]:
        """Task id to the number of its tries."""
        return {task["task_id"]: int(task["try_number"]) for task in self.tasks}

    def log(self, task_id: str) -> list[str]:
        """The messages of the newest try of a task, without the marks that fold lines in the UI."""
        task = next(task for task in self.tasks if task["task_id"] == task_id)
        return [line for line in self.logs.events(self.dag_id, self.run_id, task) if not line.startswith("::")]

    def failure(self, task_id: str) -> dict[str, str]:
        """The failure block that ends a task's log, as a table."""
        *_, before, first, what, document, rerun, action, runbook, after = self.log(task_id)
        assert before == after == "─" * 78
        rows = [first, what, document, rerun, action, runbook]
        return {row[:14].strip(): row[15:] for row in rows[1:]} | {"code": first.removeprefix("FAILED  ")}


@dataclass
class RunningAirflow:
    """Airflow, its API, and the corpora that the tests make."""

    api: AirflowApi
    logs: TaskLogs
    folder: Path

    def make_corpus(self, name: str, pages: dict[str, str], **settings: Any) -> Path:
        """Write documents and a corpus file; return the folder of the documents once its DAGs are known."""
        documents = self.folder / "documents" / name
        documents.mkdir(parents=True)
        for page, text in pages.items():
            (documents / page).write_text(text)
        self.write_corpus(name, source={"path": str(documents)}, **settings)
        for dag_id in (f"refresh_index.{name}", f"promote_release.{name}"):
            self.api.wait_for_dag(dag_id, RUN_SECONDS)
            self.api.unpause(dag_id)
        return documents

    def write_corpus(self, name: str, **settings: Any) -> None:
        """Write the corpus file; no schedule and no retries unless a test wants them."""
        settings = {
            **settings,
            "refresh": {"schedule": None, "retries": 0, **settings.get("refresh", {})},
            "promotion": {"check": None, **settings.get("promotion", {})},
        }
        for section, clock in (("qa", "check"), ("training", "schedule")):
            if section in settings:  # a clock that struck within the last hours would start a run of its own
                settings[section] = {clock: None, **settings[section]}
        (self.folder / "corpora" / f"{name}.yaml").write_text(yaml.safe_dump(settings))

    def use_store(self, uri: str) -> None:
        """Set the variable that says where artifacts live."""
        self.api.apply(
            AirflowSettings(variables=(VariableSetting(variable_name="tidegate_store", variable_value=uri),))
        )

    def use_s3(self, url: str) -> None:
        """Point the project's S3 connection at a server."""
        connection = ConnectionSetting(
            conn_id="tidegate_s3",
            conn_type="aws",
            conn_login="test",
            conn_password="test",
            conn_extra={"region_name": "us-east-1", "endpoint_url": url},
        )
        self.api.apply(AirflowSettings(connections=(connection,)))

    def workspace(self, name: str, store: str | None = None) -> Workspace:
        """The corpus as the command line sees it."""
        config = find_corpus(name, (self.folder / "corpora",))
        return Workspace(config, open_store(store or self.store, base=self.folder), self.folder)

    @property
    def store(self) -> str:
        """The store's URI unless a test uses another."""
        return (self.folder / "store").as_uri()

    def run(self, dag_id: str) -> FinishedRun:
        """Trigger a DAG and wait for its end."""
        return self.wait(dag_id, self.api.trigger(dag_id))

    def wait(self, dag_id: str, run_id: str) -> FinishedRun:
        """Wait for the end of a run."""
        deadline = time.monotonic() + RUN_SECONDS
        while (state := self.api.run(dag_id, run_id)["state"]) not in ("success", "failed"):
            assert time.monotonic() < deadline, f"{dag_id} {run_id} is {state} after {RUN_SECONDS} s"
            time.sleep(0.3)
        return FinishedRun(dag_id, run_id, state, self.api.task_instances(dag_id, run_id), self.logs)

    def wait_for_runs(self, dag_id: str, count: int) -> list[FinishedRun]:
        """Wait until a DAG has had ``count`` runs (woken by an asset), oldest first."""
        deadline = time.monotonic() + RUN_SECONDS
        while len(runs := self.api.runs(dag_id)) < count:
            assert time.monotonic() < deadline, f"{dag_id} has {len(runs)} of {count} runs after {RUN_SECONDS} s"
            time.sleep(0.3)
        return [self.wait(dag_id, run["dag_run_id"]) for run in reversed(runs)]

    def wait_for_task(self, dag_id: str, task_id: str) -> None:
        """Wait until Airflow has parsed a version of the DAG that has this task."""
        deadline = time.monotonic() + RUN_SECONDS
        while task_id not in {
            task["task_id"] for task in self.api._call("GET", f"/api/v2/dags/{dag_id}/tasks")["tasks"]
        }:
            assert time.monotonic() < deadline, f"{dag_id} has no task {task_id} after {RUN_SECONDS} s"
            time.sleep(0.3)

    def links(self, run: FinishedRun, task_id: str) -> dict[str, str]:
        """The extra links of a task in the UI."""
        path = f"/api/v2/dags/{run.dag_id}/dagRuns/{quote(run.run_id)}/taskInstances/{task_id}/links"
        return dict(self.api._call("GET", path)["extra_links"])

    def page(self, path: str, *, signed: bool = True) -> tuple[int, bytes]:
        """Status and body of a page of the API server, as a user who is logged in or not."""
        headers = {"Authorization": f"Bearer {self.api._token}"} if signed else {}
        try:
            with urlopen(Request(self.api._url + path, headers=headers), timeout=15) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            return error.code, error.read()

    def _tasks_of(self, dag_id: str) -> set[str]:
        return {task["task_id"] for task in self.api._call("GET", f"/api/v2/dags/{dag_id}/tasks")["tasks"]}

    def process_of(self, dag_id: str, run_id: str, task_id: str) -> int:
        """Wait until a task runs; return the id of its process (Airflow puts the task instance's id in its title)."""
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            for task in self.api.task_instances(dag_id, run_id):
                title = f"airflow worker -- {task['id']}".encode()
                if task["task_id"] == task_id and (found := _processes_titled(title)):
                    return found[0]
            time.sleep(0.2)
        raise AssertionError(f"{task_id} of {dag_id} has not run within {RUN_SECONDS} s")

    def run_again(self, finished: FinishedRun, tasks: Sequence[str] | None = None) -> FinishedRun:
        """Clear the failed tasks of a run, or the named ones, with all below them: what on-call does in the UI."""
        body = {
            "dry_run": False,
            "dag_run_id": finished.run_id,
            "only_failed": tasks is None,
            "include_downstream": True,
            "reset_dag_runs": True,
            **({"task_ids": list(tasks)} if tasks else {}),
        }
        self.api._call("POST", f"/api/v2/dags/{finished.dag_id}/clearTaskInstances", body)
        return self.wait(finished.dag_id, finished.run_id)

    def xcoms(self, finished: FinishedRun) -> dict[str, int]:
        """Bytes of each XCom of a run, by task and key."""
        path = f"/api/v2/dags/{finished.dag_id}/dagRuns/{finished.run_id}/taskInstances/~/xcomEntries"
        sizes = {}
        for entry in self.api._call("GET", f"{path}?limit=200")["xcom_entries"]:
            value = self.api._call(
                "GET", f"{path.replace('~', entry['task_id'])}/{entry['key']}?map_index={entry['map_index']}"
            )["value"]
            sizes[f"{entry['task_id']}[{entry['map_index']}].{entry['key']}"] = len(json.dumps(value))
        return sizes

    def asset_events(self, name: str) -> list[dict[str, Any]]:
        """The ``extra`` of an asset's events, oldest first."""
        deadline = time.monotonic() + RUN_SECONDS
        while True:
            try:
                found = self.api._call("GET", "/api/v2/assets/events?limit=100&order_by=timestamp")["asset_events"]
            except ApiError as error:  # Airflow 3.3 answers 500 while a run that an event has woken is still queued
                if error.status != 500 or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return [event["extra"] for event in found if event["name"] == name]


def _processes_titled(title: bytes) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if path.read_bytes().startswith(title):
                found.append(int(path.parent.name))
    return found


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAirflow]:
    """A started Airflow with the project's pools and connections, over a store and corpora of its own."""
    folder = tmp_path_factory.mktemp("airflow")
    (folder / "corpora").mkdir()
    environment = {
        "TIDEGATE_CORPORA": str(folder / "corpora"),
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "1",
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
        "PYTHONPATH": str(ROOT),
    }
    with LocalAirflow(ROOT, folder / "home", free_port(), environment) as local:
        local.start()
        local.wait_until_healthy(180, lambda _: None)
        api = local.api()
        api.log_in()
        api.apply(load_settings(ROOT / "airflow_settings.yaml"))
        running = RunningAirflow(api, TaskLogs(local.logs), folder)
        running.use_store(running.store)
        yield running
