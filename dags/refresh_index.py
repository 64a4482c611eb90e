"""Refresh the index of a corpus from its documents.

**detect** lists the source and reads only what may have changed; **embed** computes vectors for chunk texts that no
snapshot holds yet, in as many mapped shards as there is work; **commit** writes a verified snapshot and moves its head,
last. With nothing new, detect ends the run: no document is opened, nothing is embedded, nothing is uploaded.

Every task can be killed and run again. A failed task ends its log with one block: code, document, next action
(`docs/runbook.md`). A committed snapshot wakes `promote_release`.
"""

from typing import Any

from airflow.sdk import DAG, dag, task

from tidegate.core.config import CorpusConfig
from tidegate.orchestration.assets import index_snapshot
from tidegate.orchestration.broken import broken_corpus_dag
from tidegate.orchestration.corpora import load_corpora
from tidegate.orchestration.task_defaults import EMBED_POOL, cron, dag_arguments


def refresh_index(corpus: CorpusConfig) -> DAG:
    @dag(
        dag_id=f"refresh_index.{corpus.corpus}",
        schedule=cron(corpus.refresh.schedule, corpus.refresh.timezone),
        description=f"Refresh the index of {corpus.corpus}. {corpus.description}".strip(),
        doc_md=__doc__,
        **dag_arguments(corpus),
    )
    def wiring() -> None:
        @task.short_circuit
        def detect() -> list[str]:
            from tidegate.orchestration import refresh_index as tasks

            return tasks.detect(corpus.corpus)

        @task(pool=EMBED_POOL)
        def embed(shard: str) -> int:
            from tidegate.orchestration import refresh_index as tasks

            return tasks.embed(corpus.corpus, shard)

        @task(outlets=[index_snapshot(corpus.corpus)])
        def commit(shards: Any, *, outlet_events: Any = None) -> dict[str, Any]:
            from tidegate.orchestration import refresh_index as tasks

            committed = tasks.commit(corpus.corpus, shards)
            outlet_events[index_snapshot(corpus.corpus)].extra = committed
            return committed

        shards = detect()
        embed.expand(shard=shards) >> commit(shards)

    return wiring()


usable, broken = load_corpora()
for settings in usable:
    refresh_index(settings)
for unusable in broken:
    broken_corpus_dag(unusable)
