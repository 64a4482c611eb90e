"""Let an earlier release serve again: index and adapter as the pair that they were.

Trigger it with a reason. **choose** shows the releases that served before as a form (*Required actions*) and waits an
hour; without an answer nothing changes. A run that names a `release` (`v12`, or the beginning of its id) is not asked
anything. **restore** checks that every file of the release is in the store and writes one entry of the champion
channel. It computes and copies nothing.

A rollback stands over a promotion that races with it. It is refused if something else was promoted between the form
and the answer. A release that was rolled back is not promoted again by policy. Where `promotion.approvers` is set,
only they may answer the form or name a release.
"""

from typing import Any

from airflow.sdk import DAG, Param, dag, task

from tidegate.core.config import CorpusConfig
from tidegate.orchestration.assets import release
from tidegate.orchestration.corpora import load_corpora
from tidegate.orchestration.rollback_release import ChooseRelease
from tidegate.orchestration.task_defaults import dag_arguments

FORM = {
    "reason": Param(type="string", minLength=3, title="Reason", description="Why? It stays in the channel's history."),
    "release": Param(
        None,
        type=["null", "string"],
        title="Release",
        description="v12, or the beginning of an id. Leave it empty to choose from a form.",
    ),
}
RUNS = 4
"""At once: a form that nobody answers must not hold up a rollback that names its release."""


def rollback_release(corpus: CorpusConfig) -> DAG:
    @dag(
        dag_id=f"rollback_release.{corpus.corpus}",
        schedule=None,
        description=f"Let an earlier release of {corpus.corpus} serve again.",
        doc_md=__doc__,
        params=FORM,
        is_paused_upon_creation=False,  # it runs by hand only, and then at once
        **{**dag_arguments(corpus), "max_active_runs": RUNS},
    )
    def wiring() -> None:
        choose = ChooseRelease(task_id="choose", corpus=corpus.corpus, approvers=corpus.promotion.approvers)

        @task(outlets=[release(corpus.corpus)])
        def restore(choice: Any, *, outlet_events: Any = None) -> dict[str, Any]:
            from tidegate.orchestration import rollback_release as tasks

            restored = tasks.restore(corpus.corpus, choice)
            outlet_events[release(corpus.corpus)].extra = restored
            return restored

        restore(choose.output)

    return wiring()


for settings in load_corpora()[0]:
    rollback_release(settings)
