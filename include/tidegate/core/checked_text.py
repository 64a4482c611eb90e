"""Texts in another tool's language, checked by that tool when they are read: cron, time zones, gitignore patterns.

The tools are imported when such a text is met, which a corpus of defaults never does.
"""

from __future__ import annotations

from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator

from tidegate.core.errors import suggest


def _cron(value: str) -> str:
    from croniter import croniter  # what Airflow reads it with

    if not croniter.is_valid(value):
        raise ValueError("not a cron expression; e.g. '0 3 * * 1' is Mondays at 03:00")
    return value


def _timezone(value: str) -> str:
    if value not in (names := available_timezones()):
        raise ValueError(f"not a time zone of the IANA database{suggest(value, names, shown=8)}")
    return value


def _pattern(value: str) -> str:
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([value])
    except ValueError as error:
        raise ValueError("not a gitignore-style pattern; e.g. 'drafts/' or '*.md'") from error
    return value


Cron = Annotated[str, AfterValidator(_cron)]
Timezone = Annotated[str, AfterValidator(_timezone)]
Pattern = Annotated[str, AfterValidator(_pattern)]
