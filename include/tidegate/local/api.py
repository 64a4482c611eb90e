"""The few calls of Airflow's REST API that a local run needs, by the standard library."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from tidegate.local.settings import AirflowSettings

_TIMEOUT_SECONDS = 15
_TRIES = 6
_LOCKED_SECONDS = 1.0


class ApiError(Exception):
    """Airflow answered with an error; ``status`` is the HTTP status, 0 if there was no answer."""

    def __init__(self, what: str, status: int) -> None:
        super().__init__(what)
        self.status = status


class AirflowApi:
    """Calls as one user of the simple auth manager."""

    def __init__(self, url: str, username: str, password: str) -> None:
        self._url = url
        self._credentials = {"username": username, "password": password}
        self._token = ""

    def healthy(self) -> bool:
        """Tell whether scheduler and DAG processor have reported themselves."""
        try:
            health = self._call("GET", "/api/v2/monitor/health", signed=False)
        except ApiError:
            return False
        return all((health.get(part) or {}).get("status") == "healthy" for part in ("scheduler", "dag_processor"))

    def log_in(self) -> None:
        """Fetch a token."""
        self._token = self._call("POST", "/auth/token", self._credentials, signed=False)["access_token"]

    def apply(self, settings: AirflowSettings) -> None:
        """Create or update pools, variables and connections."""
        for pool in settings.pools:
            body = {
                "name": pool.pool_name,
                "slots": pool.pool_slot,
                "description": pool.pool_description,
                "include_deferred": False,
            }
            self._upsert("/api/v2/pools", pool.pool_name, body)
        for variable in settings.variables:
            self._upsert(
                "/api/v2/variables",
                variable.variable_name,
                {"key": variable.variable_name, "value": variable.variable_value},
            )
        for connection in settings.connections:
            extra = json.dumps(connection.conn_extra) if connection.conn_extra else None
            body = {
                "connection_id": connection.conn_id,
                "conn_type": connection.conn_type,
                "host": connection.conn_host,
                "login": connection.conn_login,
                "password": connection.conn_password,
                "schema": connection.conn_schema,
                "port": connection.conn_port,
                "extra": extra,
            }
            self._upsert("/api/v2/connections", connection.conn_id, body)

    def wait_for_dag(self, dag_id: str, seconds: float) -> None:
        """Wait until a DAG is known; raise ``ApiError`` with the import errors if it never is."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                self._call("GET", f"/api/v2/dags/{dag_id}")
            except ApiError as error:
                if error.status != 404:
                    raise
            else:
                return
            time.sleep(0.3)
        errors = self._call("GET", "/api/v2/importErrors")["import_errors"]
        raise ApiError(
            f"Airflow does not know the DAG {dag_id}; import errors: {[item['stack_trace'] for item in errors]}", 404
        )

    def unpause(self, dag_id: str) -> None:
        """Let a DAG run."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})

    def trigger(self, dag_id: str) -> str:
        """Start a run and return its id."""
        return str(self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None})["dag_run_id"])

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the newest runs of a DAG, newest first."""
        return list(self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns?order_by=-run_after&limit=10")["dag_runs"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return one run."""
        return dict(self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id)}"))

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id)}/taskInstances?limit=200"
        return list(self._call("GET", path)["task_instances"])

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str, comment: str) -> None:
        """Answer the form of a task as this user."""
        run = urllib.parse.quote(run_id)
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run}/taskInstances/{task_id}/-1/hitlDetails"
        self._call("PATCH", path, {"chosen_options": [option], "params_input": {"comment": comment}})

    def _upsert(self, collection: str, name: str, body: dict[str, Any]) -> None:
        try:
            self._call("POST", collection, body)
        except ApiError as error:
            if error.status != 409:
                raise
            self._call("PATCH", f"{collection}/{urllib.parse.quote(name)}", body)

    def _call(self, method: str, path: str, body: object = None, *, signed: bool = True) -> Any:
        """Call once, and again while a local SQLite is locked: Airflow has rolled that request back."""
        for _ in range(_TRIES - 1):
            try:
                return self._call_once(method, path, body, signed=signed)
            except ApiError as error:
                if error.status != 500 or "Database error" not in str(error):
                    raise
            time.sleep(_LOCKED_SECONDS)
        return self._call_once(method, path, body, signed=signed)

    def _call_once(self, method: str, path: str, body: object, *, signed: bool) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {self._token}"} if signed else {})}
        request = urllib.request.Request(self._url + path, data=data, headers=headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - our own server
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise ApiError(
                f"{method} {path}: {error.code} {error.read().decode(errors='replace')[:500]}", error.code
            ) from error
        except (OSError, ValueError) as error:
            raise ApiError(f"{method} {path}: {error}", 0) from error
