"""The processes of a local Airflow: claimed, configured, watched and stopped, with a stand-in for the program."""

import json
import os
import socket
import stat
from pathlib import Path

import pytest

from tests.local.conftest import COMPONENTS, alive, processes, wait_for
from tidegate.core.errors import LocalAirflowError
from tidegate.local.airflow import USERS, LocalAirflow, free_port


@pytest.fixture
def local(home: Path, fake: None) -> LocalAirflow:
    return LocalAirflow(home, home / ".tidegate" / "airflow", free_port())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_three_components_start_and_all_of_them_stop_with_their_children(local: LocalAirflow) -> None:
    with local:
        local.start()
        pids = processes(local.state)
        assert alive(pids) == pids
        assert len(pids) == 2 * len(COMPONENTS)
        local.require_running()
    wait_for(lambda: alive(pids) == [])  # what was killed may take a moment to die
    assert not (local.state / "running.pid").exists()


def test_a_component_that_ignores_the_request_to_stop_is_killed(
    local: LocalAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STUBBORN", "scheduler")
    with local:
        local.start()
        pids = processes(local.state)
    wait_for(lambda: alive(pids) == [])  # what was killed may take a moment to die


def test_a_component_that_ends_is_reported_with_the_end_of_its_log(
    local: LocalAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DIES", "scheduler")
    with local:
        local.start()
        pids = processes(local.state, ("api-server", "dag-processor"))
        with pytest.raises(LocalAirflowError) as caught:
            local.wait_until_healthy(60, lambda _: None)
    log = local.state / "scheduler.log"
    assert caught.value.what == f"airflow scheduler ended with 3; {log} ends:\nfirst words\nlast words"
    wait_for(lambda: alive(pids) == [])  # what was killed may take a moment to die


def test_an_airflow_that_never_reports_itself_is_given_up(local: LocalAirflow) -> None:
    waited: list[float] = []
    with local:
        local.start()
        with pytest.raises(LocalAirflowError, match="is not healthy after 0 s; its logs are in"):
            local.wait_until_healthy(0.4, waited.append)
    assert waited == sorted(waited)
    assert waited


def test_a_failed_migration_says_why_and_starts_nothing(local: LocalAirflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_MIGRATION_FAILS", "1")
    with pytest.raises(LocalAirflowError, match="airflow db migrate failed: no such table"), local:
        local.start()
    assert not list(local.state.glob("*.log"))


def test_the_database_is_migrated_once(local: LocalAirflow) -> None:
    for _ in range(2):
        with local:
            local.start()
    assert (local.state / "migrations").read_text() == "one\n"


def test_one_checkout_runs_one_airflow(local: LocalAirflow) -> None:
    with local:
        local.start()
        pids = processes(local.state)
        second = LocalAirflow(local.home, local.state, free_port())
        with pytest.raises(LocalAirflowError, match=rf"runs already \(process {os.getpid()}\)"), second:
            second.start()
        assert alive(pids) == pids
        assert (local.state / "running.pid").read_text() == str(os.getpid())


@pytest.mark.parametrize("claim", ["999999999", "", "0", "-1", "garbage", "\0\0\0"])
def test_the_claim_of_a_process_that_is_gone_is_taken_over(claim: str, local: LocalAirflow) -> None:
    local.state.mkdir(parents=True)
    (local.state / "running.pid").write_text(claim)
    with local:
        local.start()
        assert (local.state / "running.pid").read_text() == str(os.getpid())


def test_the_environment_keeps_everything_on_this_machine_and_in_the_checkout(
    local: LocalAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDED_ON", "yes")
    monkeypatch.setenv("AIRFLOW_HOME", "/somewhere/else")
    local.environment = {"AIRFLOW__CORE__PARALLELISM": "9"}
    local.state.mkdir(parents=True)
    found = local._environment()
    own = {name: value for name, value in found.items() if name.startswith(("AIRFLOW_", "TIDEGATE_"))}
    assert own["AIRFLOW_HOME"] == str(local.state)
    assert own["AIRFLOW__CORE__DAGS_FOLDER"] == str(local.home / "dags")
    assert own["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"sqlite:///{local.state}/airflow.db"
    assert own["AIRFLOW__LOGGING__BASE_LOG_FOLDER"] == str(local.logs)
    assert own["TIDEGATE_HOME"] == str(local.home)
    assert (own["AIRFLOW__CORE__LOAD_EXAMPLES"], own["AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"]) == ("False", "False")
    assert {value for name, value in own.items() if name.endswith("__HOST")} == {"127.0.0.1"}
    assert own["AIRFLOW__API__BASE_URL"] == local.url == f"http://127.0.0.1:{local.port}"
    assert (found["HANDED_ON"], found["AIRFLOW__CORE__PARALLELISM"]) == ("yes", "9")


def test_passwords_and_secrets_are_for_the_owner_only_and_stay_the_same(local: LocalAirflow) -> None:
    with local:
        local.start()
        first = local._environment()
    files = {
        path.name: path for path in local.state.iterdir() if path.suffix == ".secret" or path.name == "passwords.json"
    }
    assert sorted(files) == ["api.secret", "approval.secret", "jwt.secret", "passwords.json"]
    assert {name: oct(mode(path)) for name, path in files.items()} == dict.fromkeys(files, "0o600")
    assert json.loads(files["passwords.json"].read_text()) == {user: user for user in USERS}
    again = LocalAirflow(local.home, local.state, local.port)._environment()
    for name in ("AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET"):
        assert first[name] == again[name]
        assert len(first[name]) >= 32
    assert first["AIRFLOW__API__SECRET_KEY"] != first["AIRFLOW__API_AUTH__JWT_SECRET"]


def test_a_port_that_is_taken_is_not_preferred() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) not in (port, 0)
    assert free_port(port) == port
