"""How far a DAG run is: task states from Airflow, counts from the tasks' own progress lines in their logs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tidegate.local.screen import Stage

_STATES = {
    "success": "done",
    "running": "running",
    "failed": "failed",
    "upstream_failed": "skipped",
    "skipped": "skipped",
    "up_for_retry": "failed",
    "removed": "skipped",
    "awaiting_input": "asked",
}
_PROGRESS = re.compile(r"^(?:read|embed|train|[a-z+A-Z, ]+) (\d+)/(\d+) (\w+), (.*)$")
_SUMMARIES = (
    "documents:", "release", "shard", "nothing", "rows:", "splits:", "dataset", "train:", "stop:", "adapter",
    "evaluation", "approved:", "rejected:",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TaskLogs:
    """The task logs of a local Airflow."""

    folder: Path

    def events(self, dag_id: str, run_id: str, task: dict[str, Any]) -> list[str]:
        """Return the messages of the newest try of a task, [] while there are none."""
        path = self.folder / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task['task_id']}"
        if task.get("map_index", -1) >= 0:
            path /= f"map_index={task['map_index']}"
        tries = sorted(path.glob("attempt=*.log"), key=lambda log: int(re.sub(r"\D", "", log.stem) or 0))
        if not tries:
            return []
        return [str(event) for line in tries[-1].read_text(errors="replace").splitlines() if (event := _event(line))]


def stages_of(
    dag_id: str, run_id: str, tasks: Sequence[dict[str, Any]], names: Sequence[str], logs: TaskLogs
) -> list[Stage]:
    """Return one stage per task name, mapped instances summed up."""
    stages = []
    for name in names:
        instances = [task for task in tasks if task["task_id"] == name]
        states = [_STATES.get(task["state"] or "", "waiting") for task in instances]
        started = any(state != "waiting" for state in states)
        state = _combined(states) if started else "waiting"
        detail = _detail([logs.events(dag_id, run_id, task) for task in instances], state) if started else ""
        stages.append(Stage(name, state, detail, _seconds(instances) if started and state != "skipped" else None))
    return stages


def _combined(states: Sequence[str]) -> str:
    for state in ("failed", "asked", "running"):
        if state in states:
            return state
    if all(state == "skipped" for state in states):
        return "skipped"
    return "running" if "waiting" in states else "done"


def _detail(events: Sequence[Sequence[str]], state: str) -> str:
    """Return the newest counts while running, the summary or the failure's code once done."""
    if state == "asked":
        return "waits for a person"
    if state == "failed":
        return next((line for lines in events for line in reversed(lines) if line.startswith("FAILED")), "see its log")
    if state == "done" and len(events) == 1:
        return next((line for line in reversed(events[0]) if line.startswith(_SUMMARIES)), "")
    found = [match for lines in events if (match := _newest_progress(lines))]
    if not found:
        return ""
    done, total = sum(int(match[1]) for match in found), sum(int(match[2]) for match in found)
    more = f"{len(events)} shards" if len(events) > 1 else found[0][4]
    return f"{done}/{total} {found[0][3]}, {more}"


def _newest_progress(lines: Sequence[str]) -> re.Match[str] | None:
    return next((match for line in reversed(lines) if (match := _PROGRESS.match(line))), None)


def _seconds(instances: Sequence[dict[str, Any]]) -> float | None:
    starts = [datetime.fromisoformat(task["start_date"]) for task in instances if task.get("start_date")]
    ends = [datetime.fromisoformat(task["end_date"]) for task in instances if task.get("end_date")]
    if not starts:
        return None
    end = max(ends) if len(ends) == len(instances) else datetime.now(UTC)
    return max(0.0, (end - min(starts)).total_seconds())


def _event(line: str) -> object:
    try:
        return json.loads(line).get("event")
    except (ValueError, AttributeError):
        return None
