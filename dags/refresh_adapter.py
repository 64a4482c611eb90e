"""Retrain the adapter of a corpus when that pays.

Woken by the asset `qa_dataset` and by its own cadence. **decide** compares the training rows, the settings and the
newest adapter: a run where nothing is to be gained ends there and says why, with the figures. **prepare** makes the
training rows from dataset and snapshot, checks settings against base model and serving pool, and the estimate against
the budget. **train** runs on the pool `gpu` in the configured interpreter; checkpoints go to the store, so a task that
was killed, evicted or moved to another worker goes on where it was. **commit** checks the adapter as the server will
and moves its head, last.

docs/adapters.md describes rows, presets, checkpoints and pools.
"""

from typing import Any

from airflow.sdk import DAG, dag, task

from tidegate.core.config import CorpusConfig
from tidegate.orchestration.assets import adapter, qa_dataset
from tidegate.orchestration.corpora import load_corpora
from tidegate.orchestration.task_defaults import dag_arguments, on_asset_or_time, training_arguments


def refresh_adapter(corpus: CorpusConfig) -> DAG:
    training = corpus.training
    if training is None:
        raise ValueError(f"corpus {corpus.corpus} trains no adapter")

    @dag(
        dag_id=f"refresh_adapter.{corpus.corpus}",
        schedule=on_asset_or_time(qa_dataset(corpus.corpus), training.schedule, corpus.refresh.timezone),
        description=f"Retrain the adapter of {corpus.corpus} when its questions changed enough.",
        doc_md=__doc__,
        is_paused_upon_creation=False,  # it acts on datasets alone: whoever unpauses the refresh means it to follow
        **dag_arguments(corpus),
    )
    def wiring() -> None:
        @task.short_circuit
        def decide() -> bool:
            from tidegate.orchestration import refresh_adapter as tasks

            return tasks.decide(corpus.corpus)

        @task
        def prepare() -> str:
            from tidegate.orchestration import refresh_adapter as tasks

            return tasks.prepare(corpus.corpus)

        @task
        def train() -> dict[str, Any]:
            from tidegate.orchestration import refresh_adapter as tasks

            return tasks.train(corpus.corpus)

        @task(outlets=[adapter(corpus.corpus)])
        def commit(*, outlet_events: Any = None) -> dict[str, Any]:
            from tidegate.orchestration import refresh_adapter as tasks

            committed = tasks.commit(corpus.corpus)
            outlet_events[adapter(corpus.corpus)].extra = committed
            return committed

        decide() >> prepare() >> train.override(**training_arguments(training))() >> commit()

    return wiring()


for settings in load_corpora()[0]:
    if settings.qa.path is not None and settings.training is not None:
        refresh_adapter(settings)
