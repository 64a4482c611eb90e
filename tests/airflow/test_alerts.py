"""Notices on a real Airflow: they arrive, and one that cannot be sent changes neither the outcome nor the log's end."""

from __future__ import annotations

import time

import pytest

from tests.airflow.conftest import RUN_SECONDS, RunningAirflow

pytestmark = pytest.mark.airflow


def test_a_failed_task_and_a_late_run_are_noticed(airflow: RunningAirflow) -> None:
    told = airflow.folder / "told.txt"
    alerts = {"notifier": "tests.airflow.notices.FileNotifier", "arguments": {"path": str(told)}}
    documents = airflow.make_corpus("late", {"a.md": "# A\n\nText.\n"}, alerts={**alerts, "deadline_minutes": 0.001})
    documents.rename(documents.with_name("gone"))
    failed = airflow.run("refresh_index.late")
    assert failed.failure("detect")["code"] == "source_missing"
    deadline = time.monotonic() + RUN_SECONDS
    while sorted(told.read_text().splitlines()) != ["failed detect", "late"]:
        assert time.monotonic() < deadline, told.read_text()
        time.sleep(0.5)


def test_a_notice_that_cannot_be_sent_changes_nothing(airflow: RunningAirflow) -> None:
    alerts = {"notifier": "tests.airflow.notices.DeadNotifier", "arguments": {"path": "unused"}}
    documents = airflow.make_corpus("unheard", {"a.md": "# A\n\nText.\n"}, alerts=alerts)
    documents.rename(documents.with_name("unheard-gone"))
    failed = airflow.run("refresh_index.unheard")
    assert failed.failure("detect")["code"] == "source_missing"
    assert "the notice by tests.airflow.notices.DeadNotifier could not be sent" in failed.log("detect")
