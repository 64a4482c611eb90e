"""The last lines of every task log: a summary of what was done, or one block that says why not and what to do next.

Airflow logs its own lines after a task's body, so both are written by task callbacks, which run last. The body leaves
its summary here; the failure travels on the exception.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from tidegate.core.errors import TidegateError, UnexpectedError

logger = logging.getLogger("tidegate")

_summary: list[str] = []


def summarise(text: str) -> None:
    """Keep the lines that :func:`log_summary` writes at the end of this task."""
    _summary[:] = text.splitlines()


def log_summary(context: Mapping[str, Any]) -> None:
    """Write the task's summary as its last log lines (task callback)."""
    del context
    logger.info("::endgroup::")
    for line in _summary:
        logger.info(line)
    _summary.clear()


def log_failure(context: Mapping[str, Any]) -> None:
    """Write the failure block as the last log lines (task callback)."""
    logger.info("::endgroup::")
    for line in failure_of(context.get("exception")).block().splitlines():
        logger.error(line)


def failure_of(error: BaseException | str | None) -> TidegateError:
    """Return the typed failure behind an exception; anything else is a defect, or a task stopped from outside."""
    seen = error
    while isinstance(seen, BaseException):
        if isinstance(seen, TidegateError):
            return seen
        seen = seen.__cause__
    if isinstance(error, BaseException):
        return UnexpectedError(f"{type(error).__name__}: {error}"[:500])
    return UnexpectedError(
        "the task was stopped from outside", next_action="see who stopped it in the audit log, then clear it"
    )
