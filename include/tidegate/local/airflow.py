"""Airflow's processes on 127.0.0.1, with a home inside the checkout. What is started here is stopped here."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tidegate.core.errors import LocalAirflowError
from tidegate.core.processes import descendants, die_with_parent, signal_group, stop_processes
from tidegate.local.api import AirflowApi

USERS = {"admin": "admin", "ml_lead": "op", "data_engineer": "op"}
"""Local users and their roles; each password is the user's name, and the server listens on 127.0.0.1 only."""

_COMPONENTS = ("api-server", "scheduler", "dag-processor")
_AUTH_MANAGER = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
_STOP_SECONDS = 15


@dataclass
class LocalAirflow:
    """The three processes that a laptop needs: API server, scheduler (with its executor) and DAG processor."""

    home: Path
    """The project."""
    state: Path
    """``AIRFLOW_HOME``."""
    port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment of every process."""
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where the UI is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def logs(self) -> Path:
        """Task logs."""
        return self.state / "logs"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Prepare the home and the database, and start the processes."""
        self._claim()
        self._write_passwords()
        self._migrate()
        for component in _COMPONENTS:
            with (self.state / f"{component}.log").open("wb") as log:
                self._processes[component] = subprocess.Popen(
                    [*_airflow(), component],
                    env=self._environment(),
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                    preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call, no threads are running yet
                )

    def api(self) -> AirflowApi:
        """Return the API as ``admin``."""
        return AirflowApi(self.url, "admin", "admin")

    def wait_until_healthy(self, seconds: float, waiting: Callable[[float], None]) -> None:
        """Wait until all parts report, calling ``waiting`` with the seconds so far; raise if one dies."""
        started = time.monotonic()
        api = self.api()
        while not api.healthy():
            self.require_running()
            if time.monotonic() - started > seconds:
                raise LocalAirflowError(f"Airflow is not healthy after {seconds:.0f} s; its logs are in {self.state}")
            waiting(time.monotonic() - started)
            time.sleep(0.25)

    def require_running(self) -> None:
        """Raise ``LocalAirflowError`` with the end of its log if a process has ended."""
        for component, process in self._processes.items():
            if process.poll() is not None:
                log = self.state / f"{component}.log"
                tail = log.read_text(errors="replace").splitlines()[-12:]
                raise LocalAirflowError(
                    "\n".join([f"airflow {component} ended with {process.returncode}; {log} ends:", *tail])
                )

    def stop(self) -> None:
        """Stop all that was started: each by its own process group, and tasks, which lead groups of their own."""
        started = [pid for process in self._processes.values() for pid in descendants(process.pid)]
        for process in self._processes.values():
            signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            signal_group(process, signal.SIGKILL)
            process.wait()
        stop_processes(started, signal.SIGKILL)
        if self._processes:
            (self.state / "running.pid").unlink(missing_ok=True)
        self._processes.clear()

    def _claim(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        claim = self.state / "running.pid"
        holder = claim.read_text() if claim.is_file() else ""
        if holder.isdecimal() and _is_alive(int(holder)):
            raise LocalAirflowError(
                f"Airflow of this checkout runs already (process {holder})",
                next_action="stop it with Ctrl-C in its terminal, or use its UI",
            )
        claim.write_text(str(os.getpid()))

    def _write_passwords(self) -> None:
        path = self.state / "passwords.json"
        path.write_text(json.dumps({user: user for user in USERS}))
        path.chmod(0o600)

    def _migrate(self) -> None:
        done = self.state / f"migrated-{importlib.metadata.version('apache-airflow-core')}"
        if done.exists():
            return
        finished = subprocess.run(
            [*_airflow(), "db", "migrate"], env=self._environment(), capture_output=True, check=False
        )
        if finished.returncode:
            raise LocalAirflowError(f"airflow db migrate failed: {finished.stderr.decode(errors='replace')[-2000:]}")
        done.touch()

    def _environment(self) -> dict[str, str]:
        users = ",".join(f"{user}:{role}" for user, role in USERS.items())
        own = {
            "AIRFLOW_HOME": str(self.state),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": self._secret("api"),
            "AIRFLOW__API_AUTH__JWT_SECRET": self._secret("jwt"),
            "AIRFLOW__CORE__AUTH_MANAGER": _AUTH_MANAGER,
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.home / "dags"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.home / "plugins"),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.state / "passwords.json"),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": users,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.state / 'airflow.db'}",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.logs),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_HOST": "127.0.0.1",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "TIDEGATE_HOME": str(self.home),
        }
        if not os.environ.get("TIDEGATE_APPROVAL_KEY") and not os.environ.get("TIDEGATE_APPROVAL_KEY_FILE"):
            self._secret("approval")
            own["TIDEGATE_APPROVAL_KEY_FILE"] = str(self.state / "approval.secret")
        return {**os.environ, **own, **self.environment}

    def _secret(self, name: str) -> str:
        path = self.state / f"{name}.secret"
        if not path.exists():
            path.write_text(secrets.token_urlsafe(64))
            path.chmod(0o600)
        return path.read_text()


def free_port(preferred: int = 0) -> int:
    """Return ``preferred`` if nothing listens there, else a free port of 127.0.0.1."""
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise LocalAirflowError("no free port on 127.0.0.1")


def _airflow() -> list[str]:
    return [str(Path(sys.executable).parent / "airflow")]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0
