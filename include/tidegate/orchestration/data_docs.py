"""Data Docs in the Airflow UI: a link on the task that made them; ``pages`` serves what is behind it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

from airflow.configuration import conf
from airflow.sdk import BaseOperatorLink

PREFIX = "/tidegate"
"""Where the plugin's pages are, below ``[api] base_url``."""


class DataDocsLink(BaseOperatorLink):
    """A button on a task that opens the Data Docs of its run."""

    name = "Data Docs"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the first page's path on the API server."""
        del operator
        root = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
        return f"{root}{PREFIX}/data-docs/{quote(ti_key.dag_id)}/{quote(ti_key.run_id, safe='')}/index.html"
