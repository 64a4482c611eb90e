"""Log lines of long work: count, rate and time left."""

from __future__ import annotations

import logging

import pytest

from tidegate.core import progress
from tidegate.core.progress import ProgressLog


@pytest.mark.parametrize(
    ("done", "seconds", "line"),
    [
        (3, 2.0, "dev 3/9 answers, 1.5/s, 4 s left"),
        (9, 6.0, "dev 9/9 answers, 1.5/s, 6.0 s"),
        (5, 0.25, None),
        (9, 0.25, "dev 9/9 answers, 36/s, 0.2 s"),
        (0, 4.0, "dev 0/9 answers, 0.0/s, 0 s left"),
    ],
)
def test_a_line_says_how_far_and_how_fast_and_is_not_said_too_often(
    done: int, seconds: float, line: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    log = ProgressLog("dev", "answers")
    now[0] += seconds
    with caplog.at_level(logging.INFO, logger="tidegate.progress"):
        log(done, 9)
    assert caplog.messages == ([line] if line else [])
