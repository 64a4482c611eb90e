"""A DAG in place of one whose corpus file cannot be used: it fails on the usual clock and its log says why."""

from __future__ import annotations

import re

from airflow.sdk import DAG, dag, task

from tidegate.core.canonical import sha256_hex
from tidegate.core.errors import ConfigInvalidError
from tidegate.orchestration.corpora import BrokenCorpus
from tidegate.orchestration.task_defaults import cron
from tidegate.orchestration.task_log import log_failure

_DEFAULT_SCHEDULE = "0 3 * * 1"
_NOT_IN_A_DAG_ID = re.compile(r"[^A-Za-z0-9_.-]")


def broken_corpus_dag(broken: BrokenCorpus) -> DAG:
    """Return the DAG ``refresh_index.<corpus>`` of a corpus whose file is invalid."""

    @dag(
        dag_id=f"refresh_index.{_dag_name(broken.corpus)}",
        schedule=cron(_DEFAULT_SCHEDULE, "UTC"),
        doc_md=f"The corpus file cannot be used: {broken.reason}",
        description="The corpus file cannot be used: see the documentation of this DAG.",
        tags=["tidegate", broken.corpus, "broken"],
        catchup=False,
        default_args={"owner": "tidegate", "retries": 0, "on_failure_callback": [log_failure]},
    )
    def wiring() -> None:
        @task
        def read_corpus_file() -> None:
            from airflow.sdk.exceptions import AirflowFailException

            from tidegate.core.config import find_corpus
            from tidegate.core.home import corpora_folders, project_home

            try:
                find_corpus(broken.corpus, corpora_folders(project_home()))
            except ConfigInvalidError as failure:
                raise AirflowFailException(failure.what) from failure

        read_corpus_file()

    return wiring()


def _dag_name(corpus: str) -> str:
    """Return a name that a DAG can have and no other corpus has."""
    name = _NOT_IN_A_DAG_ID.sub("-", corpus)
    return name if name == corpus else f"{name}.{sha256_hex(corpus.encode())[:6]}"
