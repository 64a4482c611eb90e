"""``make run``: start Airflow, refresh a corpus through its scheduler, show it answering, stay up until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from tidegate.core.config import CorpusConfig, corpus_files, find_corpus
from tidegate.core.errors import CorpusUnknownError, SourceMissingError, TidegateError, one_line, suggest
from tidegate.core.home import STATE, corpora_folders, project_home
from tidegate.local.airflow import LocalAirflow, free_port
from tidegate.local.api import AirflowApi, ApiError
from tidegate.local.progress import TaskLogs, stages_of
from tidegate.local.screen import Screen, Stage
from tidegate.local.settings import AirflowSettings, load_settings
from tidegate.pipelines.corpora import find_target, remember_folder
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.store import open_store

REFRESH = ("detect", "embed", "commit")
PROMOTE = ("compose", "evaluate", "gate", "approve", "publish")
VALIDATE = ("load", "validate", "commit")
TRAIN = ("decide", "prepare", "train", "commit")
_PREFERRED_PORT = 8080
_START_SECONDS = 120
_POLL_SECONDS, _SLOWEST_POLL_SECONDS, _SLOWER = 0.4, 3.0, 1.1
"""A task that takes long is asked for ever less often: the answers take processor time from it."""
_EVENT_SECONDS = 45
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Walk:
    """One run of the story for one corpus."""

    def __init__(self, home: Path, corpus: CorpusConfig, screen: Screen) -> None:
        self._screen = screen
        self._airflow = LocalAirflow(home, home / STATE / "airflow", free_port(_PREFERRED_PORT))
        self._logs = TaskLogs(self._airflow.logs)
        self._settings = _settings(home)
        self._workspace = Workspace(corpus, open_store(self._settings.variable("tidegate_store"), base=home), home)
        self._refresh = f"refresh_index.{corpus.corpus}"
        self._promote = f"promote_release.{corpus.corpus}"
        self._validate = f"validate_qa.{corpus.corpus}" if corpus.qa.path else ""
        self._train = f"refresh_adapter.{corpus.corpus}" if corpus.qa.path and corpus.training else ""

    def go(self, *, once: bool) -> int:
        """Walk the story; return 0 if the corpus now serves what its documents say."""
        with self._airflow:
            api = self._start()
            done = self._walk(api)
            if done and not self._decide(api, once=once):
                done = None
            if done is not None:
                from tidegate.local.answers import show_next_steps, show_release

                show_release(self._screen, self._workspace)
                show_next_steps(self._screen, self._workspace, self._airflow.url, stays_up=not once)
            if not once:
                self._screen.say("\nAirflow stays up; Ctrl-C stops everything.")
                while True:
                    self._airflow.require_running()
                    time.sleep(1)
            return 0 if done else 1

    def _decide(self, api: AirflowApi, *, once: bool) -> bool:
        """Show a form that waits, and wait for its answer or give it; return whether the run behind it went well."""
        from tidegate.local.approval import APPROVER, approve, find_form, show_verdict

        form = find_form(api, self._promote)
        if form is None:
            return True
        show_verdict(self._screen, self._workspace)
        self._screen.say(f"\napprove   {form.url(self._airflow.url)}")
        self._screen.say(f"          log in as {APPROVER} / {APPROVER}; data_engineer / data_engineer may look")
        if once:
            self._screen.say(f"          ONCE=1: answered now through Airflow's API as {APPROVER}\n")
            approve(self._airflow.url, form)
        else:
            self._screen.say("          waiting for the answer\n")
        return self._follow(api, self._promote, form.run_id, PROMOTE, asked=True) is not None

    def _start(self) -> AirflowApi:
        started = time.monotonic()
        self._screen.show([Stage("airflow", "running", "starting", 0.0)])
        self._airflow.start()
        self._airflow.wait_until_healthy(
            _START_SECONDS,
            lambda _: self._screen.show([Stage("airflow", "running", "starting", time.monotonic() - started)]),
        )
        api = self._airflow.api()
        api.log_in()
        api.apply(self._settings)
        dags = [dag_id for dag_id in (self._train, self._validate, self._promote, self._refresh) if dag_id]
        for dag_id in dags:
            api.wait_for_dag(dag_id, _START_SECONDS)
        for dag_id in dags:
            api.unpause(dag_id)
        self._screen.show([Stage("airflow", "done", self._airflow.url, time.monotonic() - started)])
        self._screen.keep()
        return api

    def _walk(self, api: AirflowApi) -> bool | None:
        """Run the DAGs; return whether all is well, None if the newest snapshot does not serve."""
        from tidegate.pipelines.status import corpus_status

        woken = [dag_id for dag_id in (self._promote, self._validate, self._train) if dag_id]
        before = {dag_id: {run["dag_run_id"] for run in api.runs(dag_id)} for dag_id in woken}
        refreshed = self._follow(api, self._refresh, api.trigger(self._refresh), REFRESH)
        if refreshed is None:
            return None
        committed = _committed(refreshed)
        if not committed and corpus_status(self._workspace.store, self._workspace.corpus)["up_to_date"]:
            self._screen.say("\nnothing changed: no document was opened, nothing was embedded\n")
        else:
            promotion = self._woken(api, self._promote, before) if committed else api.trigger(self._promote)
            if self._follow(api, self._promote, promotion, PROMOTE) is None:
                return None
        if not self._validate:
            self._screen.say("\nno Q&A set: with qa.path in a corpus file, releases are measured and adapters trained")
            return True
        validation = self._woken(api, self._validate, before) if committed else api.trigger(self._validate)
        validated = self._follow(api, self._validate, validation, VALIDATE)
        if validated is None:
            return False
        moved = _committed(validated)
        if self._train:
            training = self._woken(api, self._train, before) if moved else api.trigger(self._train)
            trained = self._follow(api, self._train, training, TRAIN)
            if trained is None:
                return False
            moved = moved or _committed(trained)
        return self._promoted(api, moved=moved)

    def _promoted(self, api: AirflowApi, *, moved: bool) -> bool:
        """Follow the run that measures the newest candidate; a run of its own looks where nothing has moved."""
        from tidegate.local.approval import find_form

        deadline = time.monotonic() + (_EVENT_SECONDS / 2 if moved else 0)
        while True:
            if find_form(api, self._promote):
                return True
            running = [run["dag_run_id"] for run in api.runs(self._promote) if run["state"] in ("running", "queued")]
            if not running and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                continue
            if (
                self._follow(api, self._promote, running[-1] if running else api.trigger(self._promote), PROMOTE)
                is None
            ):
                return False
            if not running:
                return True
            deadline = 0.0

    def _follow(
        self, api: AirflowApi, dag_id: str, run_id: str, names: Sequence[str], *, asked: bool = False
    ) -> list[dict[str, Any]] | None:
        """Show a run until it ends, or asks unless it was ``asked`` before; return its tasks, None if it failed."""
        pause, before = _POLL_SECONDS, None
        while True:
            self._airflow.require_running()
            state = api.run(dag_id, run_id)["state"]
            tasks = api.task_instances(dag_id, run_id)
            states = [task["state"] for task in tasks]
            pause = _POLL_SECONDS if states != before else min(pause * _SLOWER, _SLOWEST_POLL_SECONDS)
            before = states
            self._screen.show(stages_of(dag_id, run_id, tasks, names, self._logs))
            if state in ("success", "failed") or (not asked and "awaiting_input" in states):
                break
            time.sleep(pause)
        self._screen.keep()
        if state != "failed":
            return tasks
        for task in tasks:
            if task["state"] == "failed":
                self._screen.say(f"\n{dag_id} {task['task_id']} failed; its log ends:")
                self._screen.say("\n".join(_last_block(self._logs.events(dag_id, run_id, task))))
        return None

    def _woken(self, api: AirflowApi, dag_id: str, before: dict[str, set[str]]) -> str:
        """Return the run that the asset's event has started; start one if the event is long in coming."""
        deadline = time.monotonic() + _EVENT_SECONDS
        while time.monotonic() < deadline:
            new = [run["dag_run_id"] for run in api.runs(dag_id) if run["dag_run_id"] not in before[dag_id]]
            if new:
                return str(new[0])
            time.sleep(_POLL_SECONDS)
        return api.trigger(dag_id)


def _committed(tasks: Sequence[dict[str, Any]]) -> bool:
    return any(task["task_id"] == "commit" and task["state"] == "success" for task in tasks)


def _settings(home: Path) -> AirflowSettings:
    """Return the project's settings; ``$TIDEGATE_STORE`` wins over the store written there."""
    settings = load_settings(home / "airflow_settings.yaml")
    store = os.environ.get("TIDEGATE_STORE")
    variables = tuple(
        item.model_copy(update={"variable_value": store}) if store and item.variable_name == "tidegate_store" else item
        for item in settings.variables
    )
    return settings.model_copy(update={"variables": variables})


def _last_block(events: Sequence[str]) -> list[str]:
    first = max((at for at, line in enumerate(events) if line.startswith("FAILED")), default=len(events))
    return list(events[max(0, first - 1) :]) or list(events[-10:])


def choose_corpus(home: Path, wanted: str) -> CorpusConfig:
    """Return the configured corpus of a name, or write and return one for a folder."""
    folders = corpora_folders(home)
    if not wanted:
        raise CorpusUnknownError(f"CORPUS is empty{suggest('', corpus_files(folders))}, or a folder")
    if wanted in corpus_files(folders) or ("/" not in wanted and not Path(wanted).is_dir()):
        return find_corpus(wanted, folders)
    if not Path(wanted).expanduser().is_dir():
        raise SourceMissingError(
            f"CORPUS={wanted} is not a folder", next_action="give an existing folder, or the name of a corpus"
        )
    store = open_store(_settings(home).variable("tidegate_store"), base=home)
    target = find_target(str(Path(wanted).expanduser().absolute()), None, store, folders)
    if target.has_file:
        return target.config
    remember_folder(store, target.config)
    path = home / STATE / "corpora" / f"{target.config.corpus}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    written = {
        "description": f"Made by make run CORPUS={wanted}",
        "source": {"path": target.config.source.path},
        "refresh": {"schedule": None},
    }
    path.write_text(yaml.safe_dump(written, sort_keys=False), encoding="utf-8")
    return find_corpus(target.config.corpus, folders)


def main() -> int:
    """Run the story; the exit code is its outcome."""
    parser = argparse.ArgumentParser(prog="make run")
    parser.add_argument("--corpus", default="handbook", help="a configured corpus, or a folder")
    parser.add_argument("--once", action="store_true", help="stop after the last line")
    options = parser.parse_args()

    def stop(*_: object) -> NoReturn:
        for number in _STOPS:
            signal.signal(number, signal.SIG_IGN)  # once is enough: a second one must not cut the stopping short
        raise KeyboardInterrupt

    for number in _STOPS:
        signal.signal(number, stop)
    home = project_home()
    try:
        return Walk(home, choose_corpus(home, options.corpus), Screen()).go(once=options.once)
    except KeyboardInterrupt:
        sys.stdout.write("\nstopped\n")
        return 130 if options.once else 0
    except TidegateError as failure:
        said = one_line(f"make run: {failure.what}; {failure.next_action}") if failure.usage else failure.block()
        sys.stderr.write(f"{said}\n")
        return 2 if failure.usage else 1
    except ApiError as error:
        sys.stderr.write(f"make run: Airflow's API: {error}\n")
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
