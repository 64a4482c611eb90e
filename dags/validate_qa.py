"""Validate the Q&A set of a corpus against its newest snapshot.

Woken by the asset `index_snapshot`, and by its own clock in case the Q&A source changed or an event was lost; a run
with nothing new ends in its first task. **load** reads the rows and ties each to the documents that prove it: rows
whose evidence changed are stale, rows whose document is gone are dangling, and both are left out. **validate** judges
rows and set with Great Expectations; a set past its thresholds fails here, and the last dataset stays. **commit**
stores rows, splits (train, dev, holdout) and report as a dataset and moves its head, last.

`tidegate qa stale` lists what needs a person. docs/qa.md describes rules, staleness and splits.
"""

from typing import Any

from airflow.sdk import DAG, dag, task

from tidegate.core.config import CorpusConfig
from tidegate.orchestration.assets import index_snapshot, qa_dataset
from tidegate.orchestration.corpora import load_corpora
from tidegate.orchestration.data_docs import DataDocsLink
from tidegate.orchestration.task_defaults import dag_arguments, on_asset_or_time


def validate_qa(corpus: CorpusConfig) -> DAG:
    @dag(
        dag_id=f"validate_qa.{corpus.corpus}",
        schedule=on_asset_or_time(index_snapshot(corpus.corpus), corpus.qa.check, corpus.refresh.timezone),
        description=f"Check the Q&A set of {corpus.corpus} against its documents, and split it.",
        doc_md=__doc__,
        is_paused_upon_creation=False,  # it acts on snapshots alone: whoever unpauses the refresh means it to follow
        **dag_arguments(corpus),
    )
    def wiring() -> None:
        @task.short_circuit
        def load() -> str | None:
            from tidegate.orchestration import validate_qa as tasks

            return tasks.load(corpus.corpus)

        @task
        def validate(loaded: Any) -> str:
            from tidegate.orchestration import validate_qa as tasks

            return tasks.validate(corpus.corpus, loaded)

        @task(outlets=[qa_dataset(corpus.corpus)])
        def commit(loaded: Any, validated: Any, *, outlet_events: Any = None) -> dict[str, Any]:
            from tidegate.orchestration import validate_qa as tasks

            committed = tasks.commit(corpus.corpus, loaded, validated)
            outlet_events[qa_dataset(corpus.corpus)].extra = committed
            return committed

        loaded = load()
        validated: Any = validate(loaded)
        validated.operator.operator_extra_links = (DataDocsLink(),)
        commit(loaded, validated)

    return wiring()


for settings in load_corpora()[0]:
    if settings.qa.path is not None:
        validate_qa(settings)
