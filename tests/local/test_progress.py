"""From task instances and their logs to the stages that a person sees."""

import json
from pathlib import Path
from typing import Any

import pytest

from tidegate.local.progress import TaskLogs, stages_of
from tidegate.local.screen import Stage

DAG, RUN = "refresh_index.docs", "manual__2026-11-21T10:00:00+00:00"


def task(
    name: str, state: str | None, index: int = -1, start: int | None = None, end: int | None = None
) -> dict[str, Any]:
    times = {
        key: None if at is None else f"2026-11-21T10:00:{at:02}+00:00"
        for key, at in (("start_date", start), ("end_date", end))
    }
    return {"task_id": name, "state": state, "map_index": index, **times}


@pytest.fixture
def logs(tmp_path: Path) -> TaskLogs:
    return TaskLogs(tmp_path)


def log(logs: TaskLogs, name: str, *events: str, index: int = -1, attempt: int = 1) -> None:
    folder = logs.folder / f"dag_id={DAG}" / f"run_id={RUN}" / f"task_id={name}"
    folder = folder / f"map_index={index}" if index >= 0 else folder
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"timestamp": "t", "level": "info", "event": event}) for event in events]
    (folder / f"attempt={attempt}.log").write_text("\n".join(lines) + "\n")


def stages(logs: TaskLogs, *tasks: dict[str, Any], names: tuple[str, ...] = ("detect",)) -> list[Stage]:
    return stages_of(DAG, RUN, tasks, names, logs)


def test_a_finished_task_shows_its_summary_and_its_time(logs: TaskLogs) -> None:
    log(
        logs,
        "detect",
        "read 2/2 documents, 9/s, 0.2 s",
        "documents: 2 added, 2 opened; chunks: 5 to embed",
        "1 shard to embed",
    )
    found = stages(logs, task("detect", "success", start=1, end=4), names=("detect", "embed"))
    assert found == [
        Stage("detect", "done", "documents: 2 added, 2 opened; chunks: 5 to embed", 3.0),
        Stage("embed", "waiting", "", None),
    ]


def test_a_running_task_shows_its_newest_count(logs: TaskLogs) -> None:
    log(logs, "detect", "read 10/40 documents, 9/s, 5 s left", "something else", "read 30/40 documents, 9/s, 1 s left")
    (found,) = stages(logs, task("detect", "running", start=1))
    assert (found.state, found.detail) == ("running", "30/40 documents, 9/s, 1 s left")
    assert found.seconds is not None
    assert found.seconds > 0


def test_mapped_shards_are_summed_up(logs: TaskLogs) -> None:
    log(logs, "embed", "embed 5/10 chunks, 2/s, 3 s left", index=0)
    log(logs, "embed", "embed 20/20 chunks, 2/s, 9.0 s", "shard 2 of 3: 20 chunks embedded", index=1)
    tasks = [task("embed", "running", 0, 1), task("embed", "success", 1, 2, 9), task("embed", "queued", 2)]
    (found,) = stages(logs, *tasks, names=("embed",))
    assert (found.state, found.detail) == ("running", "25/30 chunks, 3 shards")
    log(logs, "embed", "embed 10/10 chunks, 2/s, 4.0 s", index=0)
    tasks = [task("embed", "success", 0, 1, 6), task("embed", "success", 1, 2, 9)]
    assert stages(logs, *tasks, names=("embed",)) == [Stage("embed", "done", "30/30 chunks, 2 shards", 8.0)]


def test_a_failed_task_shows_the_code_of_its_failure(logs: TaskLogs) -> None:
    log(logs, "detect", "─" * 78, "FAILED  source_missing", "what           gone", "─" * 78)
    assert stages(logs, task("detect", "failed", start=1, end=2)) == [
        Stage("detect", "failed", "FAILED  source_missing", 1.0)
    ]
    log(logs, "detect", "killed")
    assert stages(logs, task("detect", "failed", start=1, end=2))[0].detail == "see its log"


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], "waiting"),
        ([None], "waiting"),
        (["queued"], "waiting"),
        (["scheduled", None], "waiting"),
        (["running", "success"], "running"),
        (["success", None], "running"),
        (["success", "success"], "done"),
        (["success", "skipped"], "done"),
        (["skipped", "skipped"], "skipped"),
        (["upstream_failed"], "skipped"),
        (["removed"], "skipped"),
        (["up_for_retry", "running"], "failed"),
        (["failed", "success"], "failed"),
    ],
)
def test_the_states_of_instances_make_one_state(states: list[str | None], expected: str, logs: TaskLogs) -> None:
    (found,) = stages(logs, *(task("detect", state, index) for index, state in enumerate(states)))
    assert found.state == expected


def test_a_skipped_task_has_no_time(logs: TaskLogs) -> None:
    assert stages(logs, task("detect", "skipped", start=1, end=2)) == [Stage("detect", "skipped", "", None)]


def test_the_newest_try_is_read_by_number_and_other_lines_are_passed_over(logs: TaskLogs) -> None:
    log(logs, "detect", "the ninth", attempt=9)
    log(logs, "detect", "the tenth", attempt=10)
    path = next(logs.folder.rglob("attempt=10.log"))
    path.write_bytes(
        path.read_bytes()
        + b'not JSON\n[1]\n7\n{"level": "info"}\n{"event": null}\n{"event": "cut \xff off"}\n{"event": "half'
    )
    assert logs.events(DAG, RUN, task("detect", "running")) == ["the tenth", "cut \ufffd off"]
    assert logs.events(DAG, RUN, task("unknown", "running")) == []
