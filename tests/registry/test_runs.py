from datetime import UTC, datetime, timedelta, timezone

import pytest

from tidegate.core.errors import StageMissingError
from tidegate.registry.file_store import FileStore
from tidegate.registry.runs import Run, newest_run, run_name


def test_a_run_is_named_by_its_time_and_the_same_over_retries() -> None:
    started = datetime(2026, 11, 21, 12, 0, tzinfo=timezone(timedelta(hours=2)))
    assert run_name(started, "dag/run").startswith("20261121T100000.000000Z-")
    assert run_name(started, "dag/run") == run_name(started, "dag/run")
    assert run_name(started, "dag/other") != run_name(started, "dag/run")


def test_the_newest_run_is_found_with_all_its_steps(store: FileStore) -> None:
    assert newest_run(store, "c") == {}
    Run(store, "c", run_name(datetime(2026, 1, 1, tzinfo=UTC), "a")).record("refresh", {"outcome": "failed"})
    newest = Run(store, "c", run_name(datetime(2026, 1, 2, tzinfo=UTC), "b"))
    newest.record("detect", {"outcome": "failed"})
    newest.record("refresh", {"outcome": "done"})
    newest.stage("plan/plan.json", b"{}")
    assert newest_run(store, "c") == {"detect": {"outcome": "failed"}, "refresh": {"outcome": "done"}}


def test_staged_bytes_come_back_or_say_what_is_missing(store: FileStore) -> None:
    run = Run(store, "c", "r")
    assert not run.has_staged("x")
    run.stage("x", b"1")
    assert run.has_staged("x")
    assert run.staged("x") == b"1"
    with pytest.raises(StageMissingError, match="c/runs/r/staged/y is not in"):
        run.staged("y")
