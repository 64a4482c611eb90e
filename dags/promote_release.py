"""Let the newest verified snapshot serve.

Woken by the asset `index_snapshot`, and by its own clock in case an event was lost: it reads committed state, so a
merged, doubled or missing event changes nothing. **compose** binds snapshot, embedder and retrieval settings into a
release and stops if that release serves already; **publish** moves the champion channel by compare-and-swap, once,
whoever else tries. This is the only DAG that writes the channel.
"""

from typing import Any

from airflow.sdk import DAG, dag, task

from tidegate.core.config import CorpusConfig
from tidegate.orchestration.assets import index_snapshot, release
from tidegate.orchestration.corpora import load_corpora
from tidegate.orchestration.task_defaults import dag_arguments, on_asset_or_time


def promote_release(corpus: CorpusConfig) -> DAG:
    @dag(
        dag_id=f"promote_release.{corpus.corpus}",
        schedule=on_asset_or_time(index_snapshot(corpus.corpus), corpus.promotion.check, corpus.refresh.timezone),
        description=f"Promote the newest snapshot of {corpus.corpus} by its policy ({corpus.promotion.policy}).",
        doc_md=__doc__,
        is_paused_upon_creation=False,  # it acts on snapshots alone: whoever unpauses the refresh means it to serve
        **dag_arguments(corpus),
    )
    def wiring() -> None:
        @task.short_circuit
        def compose() -> dict[str, Any] | None:
            from tidegate.orchestration import promote_release as tasks

            return tasks.compose(corpus.corpus)

        @task(outlets=[release(corpus.corpus)])
        def publish(candidate: Any, *, outlet_events: Any = None) -> dict[str, Any]:
            from tidegate.orchestration import promote_release as tasks

            published = tasks.publish(corpus.corpus, candidate)
            outlet_events[release(corpus.corpus)].extra = published
            return published

        publish(compose())

    return wiring()


for settings in load_corpora()[0]:
    promote_release(settings)
