"""Data Docs in the Airflow UI: a link on the task that made them, and the pages behind it, read from the store.

Whoever may read the DAG may read its pages. They hold text of documents and questions, so they are served in a sandbox
of their own: nothing in them can act with the reader's session.
"""

from __future__ import annotations

import mimetypes
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.configuration import conf
from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send

PREFIX = "/tidegate"
_HEADERS = {"Content-Security-Policy": "sandbox allow-scripts allow-popups", "X-Content-Type-Options": "nosniff"}


class DataDocsLink(BaseOperatorLink):
    """A button on a task that opens the Data Docs of its run."""

    name = "Data Docs"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the first page's path on the API server."""
        del operator
        root = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
        return f"{root}{PREFIX}/data-docs/{quote(ti_key.dag_id)}/{quote(ti_key.run_id, safe='')}/index.html"


class PagesApp:
    """The app behind the links, made at its first request: Airflow loads plugins in every process, also in workers."""

    def __init__(self) -> None:
        self._app: FastAPI | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        self._app = self._app or _make_app()
        await self._app(scope, receive, send)


def _make_app() -> FastAPI:
    """Return the app that serves Data Docs to users who may read the DAG."""
    from airflow.api_fastapi.core_api.security import requires_access_dag
    from fastapi import Depends, FastAPI, HTTPException, Response

    from tidegate.orchestration.steps import open_task_store
    from tidegate.pipelines.data_docs import read_run_page

    app = FastAPI(title="Tidegate", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/data-docs/{dag_id}/{run_id}/{page:path}", dependencies=[Depends(requires_access_dag("GET"))])
    def data_docs(dag_id: str, run_id: str, page: str) -> Response:
        corpus = dag_id.partition(".")[2]
        data = read_run_page(open_task_store(), corpus, f"{dag_id}/{run_id}", page)
        if data is None:
            raise HTTPException(404, f"run {run_id} of {dag_id} has no Data Docs page {page!r}")
        kind = mimetypes.guess_type(page)[0] or "application/octet-stream"
        return Response(data, media_type=kind, headers=_HEADERS)

    return app
