"""Run one step of a pipeline inside a task: open the corpus, translate failures, leave a record of the run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from airflow.sdk import Connection, Variable, get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowRuntimeError

from tidegate.core.config import find_corpus
from tidegate.core.errors import ResourceExhaustedError, TidegateError
from tidegate.core.home import corpora_folders, default_store_uri, project_home
from tidegate.core.protocols import ArtifactStore
from tidegate.orchestration.task_log import summarise
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.runs import Run, run_name
from tidegate.registry.store import open_store

ResultT = TypeVar("ResultT")

STORE_VARIABLE = "tidegate_store"
S3_CONNECTION = "tidegate_s3"

logger = logging.getLogger("tidegate")


@dataclass(frozen=True)
class Step:
    """What a task body receives."""

    workspace: Workspace
    run: Run


def run_step(corpus: str, name: str, body: Callable[[Step], tuple[ResultT, str]]) -> ResultT:
    """Open a corpus, run ``body`` and return its result; its second value is the summary that ends the log.

    A typed failure is recorded for ``tidegate status``; one that a retry would meet again fails the task at once.
    """
    started = time.monotonic()
    run: Run | None = None
    try:
        store = open_task_store()
        run = Run(store, corpus, _run_name())
        workspace = Workspace(find_corpus(corpus, corpora_folders(project_home())), store, project_home())
        result, summary = body(Step(workspace, run))
        if get_current_context()["ti"].try_number > 1:
            run.record(name, {"outcome": "done"})  # in place of the failure of an earlier try
    except (TidegateError, MemoryError) as error:
        failure = error if isinstance(error, TidegateError) else ResourceExhaustedError(f"out of memory in {name}")
        _record(failure, run, name)
        logger.info("::group::Traceback")  # Airflow logs it next; the failure block follows below the fold
        if failure.retryable:
            raise
        raise AirflowFailException(failure.what) from failure
    summarise(f"{summary}\n{name} took {time.monotonic() - started:.1f} s")
    return result


def open_task_store() -> ArtifactStore:
    """Open the store that the Airflow variable names; credentials of S3 come from the connection, if it exists."""
    home = project_home()
    uri = Variable.get(STORE_VARIABLE, default=None) or default_store_uri(home)
    return open_store(uri, base=home, session=_s3_session() if uri.startswith("s3://") else None)


def _s3_session() -> dict[str, Any]:
    try:
        connection = Connection.get(S3_CONNECTION)
    except AirflowRuntimeError:
        return {}
    extra = connection.extra_dejson
    session = {
        "aws_access_key_id": connection.login,
        "aws_secret_access_key": connection.password,
        "aws_session_token": extra.get("aws_session_token"),
        "region_name": extra.get("region_name"),
        "endpoint_url": extra.get("endpoint_url"),
    }
    return {key: value for key, value in session.items() if value}


def _run_name() -> str:
    dag_run = get_current_context()["dag_run"]
    return run_name(dag_run.run_after, f"{dag_run.dag_id}/{dag_run.run_id}")


def _record(failure: TidegateError, run: Run | None, name: str) -> None:
    if run is None:
        return
    try:
        run.record(name, {"outcome": "failed", "failure": failure.as_record()})
    except TidegateError as unrecorded:
        logger.warning("the failure could not be recorded in the store: %s", unrecorded.what)
