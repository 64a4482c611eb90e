"""The calls of Airflow's API, against a server that answers by script."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tidegate.local.api import AirflowApi, ApiError
from tidegate.local.settings import AirflowSettings, ConnectionSetting, PoolSetting, VariableSetting


@dataclass
class Script:
    """What the server has been asked, and what it answers: ``METHOD path`` to (status, body), 200 and {} otherwise."""

    url: str = ""
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)


@pytest.fixture
def script() -> Iterator[Script]:
    played = Script()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = f"{self.command} {self.path}"
            played.asked.append((asked, json.loads(data) if data else None))
            played.tokens.append(self.headers.get("Authorization"))
            status, body = played.answers.get(asked, (200, {}))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        do_GET = do_POST = do_PATCH = answer  # noqa: N815 - the names are http.server's

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    played.url = f"http://127.0.0.1:{server.server_port}"
    yield played
    server.shutdown()
    server.server_close()


@pytest.fixture
def api(script: Script) -> AirflowApi:
    return AirflowApi(script.url, "admin", "secret")


HEALTHY = {"status": "healthy"}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"scheduler": HEALTHY, "dag_processor": HEALTHY, "triggerer": {"status": None}}, True),
        (200, {"scheduler": HEALTHY, "dag_processor": {"status": "unhealthy"}}, False),
        (200, {"scheduler": HEALTHY, "dag_processor": None}, False),
        (200, {}, False),
        (503, {}, False),
        (200, b"<html>", False),
    ],
)
def test_healthy_means_scheduler_and_dag_processor(
    status: int, body: Any, expected: bool, script: Script, api: AirflowApi
) -> None:
    script.answers["GET /api/v2/monitor/health"] = (status, body)
    assert api.healthy() is expected


def test_a_server_that_is_not_there_is_not_healthy_and_its_error_names_the_call() -> None:
    api = AirflowApi("http://127.0.0.1:1", "admin", "secret")
    assert not api.healthy()
    with pytest.raises(ApiError, match=r"^POST /auth/token: .*refused") as caught:
        api.log_in()
    assert caught.value.status == 0


def test_calls_after_the_login_carry_its_token(script: Script, api: AirflowApi) -> None:
    script.answers["POST /auth/token"] = (201, {"access_token": "abc"})
    api.log_in()
    api.unpause("refresh_index.docs")
    assert script.asked == [
        ("POST /auth/token", {"username": "admin", "password": "secret"}),
        ("PATCH /api/v2/dags/refresh_index.docs", {"is_paused": False}),
    ]
    assert script.tokens == [None, "Bearer abc"]


def test_settings_are_created_and_what_exists_is_updated(script: Script, api: AirflowApi) -> None:
    script.answers["POST /api/v2/pools"] = (409, {"detail": "exists"})
    settings = AirflowSettings(
        pools=(PoolSetting(pool_name="embed", pool_slot=2),),
        variables=(VariableSetting(variable_name="store", variable_value="s3://b/p"),),
        connections=(ConnectionSetting(conn_id="s3", conn_type="aws", conn_extra={"region_name": "x"}),),
    )
    api.apply(settings)
    pool = {"name": "embed", "slots": 2, "description": "", "include_deferred": False}
    connection = dict.fromkeys(("host", "login", "password", "schema", "port"))
    assert script.asked == [
        ("POST /api/v2/pools", pool),
        ("PATCH /api/v2/pools/embed", pool),
        ("POST /api/v2/variables", {"key": "store", "value": "s3://b/p"}),
        (
            "POST /api/v2/connections",
            {"connection_id": "s3", "conn_type": "aws", "extra": '{"region_name": "x"}', **connection},
        ),
    ]


def test_a_setting_that_is_refused_is_an_error_with_the_answer(script: Script, api: AirflowApi) -> None:
    script.answers["POST /api/v2/variables"] = (422, {"detail": "no such thing"})
    settings = AirflowSettings(variables=(VariableSetting(variable_name="a", variable_value="b"),))
    with pytest.raises(ApiError, match=r"POST /api/v2/variables: 422 .*no such thing") as caught:
        api.apply(settings)
    assert caught.value.status == 422


def test_a_dag_that_never_appears_is_an_error_with_the_import_errors(script: Script, api: AirflowApi) -> None:
    script.answers["GET /api/v2/dags/gone"] = (404, {})
    script.answers["GET /api/v2/importErrors"] = (200, {"import_errors": [{"stack_trace": "SyntaxError: broken"}]})
    with pytest.raises(ApiError, match=r"does not know the DAG gone; import errors: .*SyntaxError: broken"):
        api.wait_for_dag("gone", 0.1)
    script.answers["GET /api/v2/dags/gone"] = (500, {})
    with pytest.raises(ApiError, match="500"):
        api.wait_for_dag("gone", 30)
    script.answers["GET /api/v2/dags/gone"] = (200, {})
    api.wait_for_dag("gone", 30)


def test_a_run_is_started_and_found_by_its_quoted_id(script: Script, api: AirflowApi) -> None:
    run, quoted = "manual__10:00+00:00", "manual__10%3A00%2B00%3A00"
    script.answers["POST /api/v2/dags/d/dagRuns"] = (200, {"dag_run_id": run})
    script.answers[f"GET /api/v2/dags/d/dagRuns/{quoted}"] = (200, {"state": "running"})
    tasks = f"GET /api/v2/dags/d/dagRuns/{quoted}/taskInstances?limit=200"
    script.answers[tasks] = (200, {"task_instances": [{"task_id": "t"}]})
    assert api.trigger("d") == run
    assert script.asked[0][1] == {"logical_date": None}
    assert api.run("d", run) == {"state": "running"}
    assert api.task_instances("d", run) == [{"task_id": "t"}]


def test_a_locked_database_is_asked_again_and_another_error_is_not(
    api: AirflowApi, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def unlock(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            script.answers.clear()

    monkeypatch.setattr("tidegate.local.api.time.sleep", unlock)
    script.answers["PATCH /api/v2/dags/a"] = (500, {"detail": {"reason": "Database error"}})
    api.unpause("a")
    assert [asked for asked, _ in script.asked] == ["PATCH /api/v2/dags/a"] * 3
    script.answers["PATCH /api/v2/dags/a"] = (500, {"detail": "a defect"})
    with pytest.raises(ApiError, match="a defect"):
        api.unpause("a")
    assert len(script.asked) == 4
