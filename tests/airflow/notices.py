"""A notifier that a corpus file names: it appends a line to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import BaseNotifier


class FileNotifier(BaseNotifier):
    """Appends what it was told."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def notify(self, context: Any) -> None:
        task = context.get("task_instance") or context.get("ti")
        with Path(self.path).open("a") as out:
            out.write(f"failed {task.task_id}\n" if task else "late\n")


class DeadNotifier(FileNotifier):
    """A mail server that is down."""

    def notify(self, context: Any) -> None:
        raise ConnectionError("no route to host")
