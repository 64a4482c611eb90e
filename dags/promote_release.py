"""Let the newest verified snapshot and adapter serve, once they are measured, gated and approved.

Woken by the assets `index_snapshot`, `qa_dataset` and `adapter`, and by its own clock in case an event was lost: it
reads committed state, so a merged, doubled or missing event changes nothing. **compose** binds snapshot, adapter and
settings into a bundle and stops if that serves already. **evaluate** measures it against the champion on the holdout;
answers that were generated before are not generated again. **gate** holds the figures against the rules of the corpus
file and stops, with the rules that failed named. **approve** asks a person where the policy says so (*Required
actions*): the answer is signed. **publish** checks evaluation, gate and approval anew and moves the champion channel by
compare-and-swap, once, whoever else tries. This is the only DAG that promotes; `rollback_release` goes back.

A newer candidate supersedes an older one whose form is still open. docs/releases.md describes all of it.
"""

from typing import Any

from airflow.sdk import DAG, Asset, Param, chain, dag, task

from tidegate.core.config import CorpusConfig
from tidegate.orchestration.approval import approval_tasks
from tidegate.orchestration.assets import adapter, index_snapshot, qa_dataset, release
from tidegate.orchestration.corpora import load_corpora
from tidegate.orchestration.task_defaults import dag_arguments, on_assets_or_time, promoting_arguments

FORM = {
    "reconsider": Param(
        default=False,
        type="boolean",
        title="Reconsider",
        description="Propose the newest adapter although the gate or a person refused it before.",
    )
}
RUNS = 4
"""At once: a form that nobody has answered yet must not hold up the candidate that supersedes it."""


def awaited(corpus: CorpusConfig) -> list[Asset]:
    questions = [qa_dataset(corpus.corpus)] if corpus.qa.path is not None else []
    adapters = [adapter(corpus.corpus)] if questions and corpus.training is not None else []
    return [index_snapshot(corpus.corpus), *questions, *adapters]


def promote_release(corpus: CorpusConfig) -> DAG:
    @dag(
        dag_id=f"promote_release.{corpus.corpus}",
        schedule=on_assets_or_time(awaited(corpus), corpus.promotion.check, corpus.refresh.timezone),
        description=f"Measure, gate and promote the newest release of {corpus.corpus}.",
        doc_md=__doc__,
        params=FORM,
        is_paused_upon_creation=False,  # it acts on snapshots alone: whoever unpauses the refresh means it to serve
        **{**dag_arguments(corpus), "max_active_runs": RUNS},
    )
    def wiring() -> None:
        @task.short_circuit
        def compose() -> bool:
            from tidegate.orchestration import promote_release as tasks

            return tasks.compose(corpus.corpus)

        @task
        def evaluate() -> str | None:
            from tidegate.orchestration import promote_release as tasks

            return tasks.evaluate(corpus.corpus)

        @task.short_circuit
        def gate(evaluation: Any) -> dict[str, Any] | None:
            from tidegate.orchestration import promote_release as tasks

            return tasks.gate(corpus.corpus, evaluation)

        @task(outlets=[release(corpus.corpus)])
        def publish(candidate: Any, answers: Any, *, outlet_events: Any = None) -> dict[str, Any]:
            from tidegate.orchestration import promote_release as tasks

            published = tasks.publish(corpus.corpus, candidate, answers)
            outlet_events[release(corpus.corpus)].extra = published
            return published

        evaluation = evaluate()
        candidate = gate(evaluation)
        forms = approval_tasks(corpus)
        promoting = publish.override(**promoting_arguments(corpus.promotion))
        chain(compose(), evaluation, candidate, *forms, promoting(candidate, [form.output for form in forms]))

    return wiring()


for settings in load_corpora()[0]:
    promote_release(settings)
