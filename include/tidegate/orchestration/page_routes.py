"""What the plugin serves on Airflow's API server: the page of each corpus, evaluation reports and Data Docs.

Every route asks Airflow who is there. Whoever may read the DAG that promotes a corpus may read its page and reports;
whoever may read a run's DAG may read the run's Data Docs. Reports and Data Docs hold text of documents, questions and
answers, so they are served in a sandbox of their own: nothing in them can act with the reader's session.
"""

import mimetypes
import re
from importlib.resources import files

from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag, requires_authenticated
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from tidegate.core.errors import TidegateError
from tidegate.core.protocols import ArtifactStore
from tidegate.orchestration.corpora import load_corpora
from tidegate.orchestration.steps import open_task_store
from tidegate.pipelines.corpora import begun_corpora
from tidegate.pipelines.corpus_page import collect
from tidegate.pipelines.data_docs import read_run_page
from tidegate.registry.evaluations import read_report
from tidegate.ui.corpus_html import Theme, corpus_fragment, in_theme, list_fragment
from tidegate.ui.page_data import promotion_dag

_PRIVATE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_FRAGMENT = {**_PRIVATE, "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'"}
_REPORT = {
    **_PRIVATE,
    "Content-Security-Policy": (
        "sandbox allow-popups; default-src 'none'; img-src data:; font-src data:; style-src 'unsafe-inline'"
    ),
}
_DATA_DOCS = {**_PRIVATE, "Content-Security-Policy": "sandbox allow-scripts allow-popups"}
_DIGEST = re.compile(r"[0-9a-f]{64}")

_routes = APIRouter()
_READS_DAG = [Depends(requires_access_dag("GET"))]
"""By the ``dag_id`` of the path."""


def make_app() -> FastAPI:
    """Return the app; a typed failure of the store is answered with 503 and its next action."""
    app = FastAPI(title="Tidegate", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(TidegateError, _unavailable)
    app.include_router(_routes)
    return app


@_routes.get("/page.js", dependencies=[Depends(requires_authenticated())])
def _module() -> Response:
    """Return the module that runs in Airflow's UI."""
    script = (files("tidegate.ui") / "page.js").read_bytes()
    return Response(script, media_type="text/javascript", headers={**_PRIVATE, "Cache-Control": "no-cache"})


@_routes.get("/corpora")
def _corpora(request: Request, user: GetUserDep, theme: Theme | None = None) -> Response:
    """Return the list of the corpora that the user may read; if it is one alone, its page."""
    store = open_task_store()
    names = [corpus for corpus in sorted(_known_corpora(store)) if _may_read(corpus, request, user)]
    if len(names) == 1:
        return _html(corpus_fragment(collect(store, names[0]), alone=True, theme=theme))
    return _html(list_fragment([collect(store, name, versions=1) for name in names]))


@_routes.get("/corpora/{dag_id}", dependencies=_READS_DAG)
def _corpus_page(dag_id: str, theme: Theme | None = None) -> Response:
    """Return the page of one corpus."""
    store = open_task_store()
    return _html(corpus_fragment(collect(store, _corpus_of(dag_id, store)), theme=theme))


@_routes.get("/corpora/{dag_id}/evaluations/{evaluation}/report.html", dependencies=_READS_DAG)
def _report(dag_id: str, evaluation: str, theme: Theme | None = None) -> Response:
    """Return the HTML report of an evaluation."""
    store = open_task_store()
    corpus = _corpus_of(dag_id, store)
    page = read_report(store, corpus, evaluation, "report.html") if _DIGEST.fullmatch(evaluation) else None
    if page is None:
        raise HTTPException(404, f"corpus {corpus} has no report of an evaluation {evaluation!r}")
    return Response(in_theme(page, theme), media_type="text/html", headers=_REPORT)


@_routes.get("/data-docs/{dag_id}/{run_id}/{page:path}", dependencies=_READS_DAG)
def _data_docs(dag_id: str, run_id: str, page: str) -> Response:
    """Return a page of a run's Data Docs."""
    corpus = dag_id.partition(".")[2]
    data = read_run_page(open_task_store(), corpus, f"{dag_id}/{run_id}", page)
    if data is None:
        raise HTTPException(404, f"run {run_id} of {dag_id} has no Data Docs page {page!r}")
    kind = mimetypes.guess_type(page)[0] or "application/octet-stream"
    return Response(data, media_type=kind, headers=_DATA_DOCS)


def _may_read(corpus: str, request: Request, user: GetUserDep) -> bool:
    """Tell whether a user may read the DAG that promotes a corpus, by the same check as the routes of one corpus."""
    try:
        requires_access_dag("GET", param_dag_id=promotion_dag(corpus))(request, user)
    except HTTPException:
        return False
    return True


def _known_corpora(store: ArtifactStore) -> set[str]:
    """Return the corpora that have a file, and those that the store holds."""
    return {config.corpus for config in load_corpora()[0]} | set(begun_corpora(store))


def _corpus_of(dag_id: str, store: ArtifactStore) -> str:
    """Return the corpus whose releases a DAG promotes; answer 404 if there is none: other DAGs grant nothing."""
    for corpus in _known_corpora(store):
        if dag_id == promotion_dag(corpus):
            return corpus
    raise HTTPException(404, f"{dag_id} promotes the releases of no corpus")


def _unavailable(request: Request, error: Exception) -> Response:
    del request
    told = f"{error.what}. Next: {error.next_action}" if isinstance(error, TidegateError) else str(error)
    return JSONResponse({"detail": told}, 503, headers=_PRIVATE)


def _html(fragment: str) -> Response:
    return Response(fragment, media_type="text/html", headers=_FRAGMENT)
