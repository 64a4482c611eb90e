"""Retries, pools and callbacks of every task, each with its reason, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, AssetAny, AssetOrTimeSchedule, CronTriggerTimetable
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from tidegate.core.config import AlertsConfig, CorpusConfig, PromotionConfig
from tidegate.core.training_config import TrainingConfig
from tidegate.orchestration.alerts import deadline_missed, notifier_for
from tidegate.orchestration.task_log import log_failure, log_summary

_OVERTIME = 2.0
"""Times the budget after which a training task is stopped."""
EMBED_POOL = "embed"
"""Bounds how many tasks compute embeddings at once; created from airflow_settings.yaml."""


def dag_arguments(corpus: CorpusConfig) -> dict[str, Any]:
    """Return the arguments that all DAGs of a corpus share."""
    return {
        "tags": ["tidegate", corpus.corpus],
        "catchup": False,  # a refresh reads the source as it is now: an old date has nothing else to show
        "max_active_runs": 1,  # thrift, not safety: the compare-and-swap keeps two runs apart
        "default_args": {"owner": "tidegate", **task_arguments(corpus)},
        "deadline": _deadline(corpus.alerts),
    }


def task_arguments(corpus: CorpusConfig) -> dict[str, Any]:
    """Return the arguments of every task.

    Retries: a store or a source that does not answer often answers a minute later, and every step may run twice.
    A failure that would meet the same data again is raised as ``AirflowFailException`` and is not retried.
    """
    notify = notifier_for(corpus.alerts)
    return {
        "retries": corpus.refresh.retries,
        "retry_delay": timedelta(seconds=corpus.refresh.retry_seconds),
        "retry_exponential_backoff": 2.0,  # an outage of the store should not be hammered
        "max_retry_delay": timedelta(minutes=15),
        "on_success_callback": [log_summary],
        "on_skipped_callback": [log_summary],
        "on_retry_callback": [log_failure],
        "on_failure_callback": [*([notify] if notify else []), log_failure],  # the failure block stays last in the log
    }


def training_arguments(training: TrainingConfig) -> dict[str, Any]:
    """Return where and how long the task that trains may run.

    A retry goes on from the last checkpoint; an executor that is not configured would make the whole DAG an error.
    """
    chosen = {"queue": training.queue, "executor": training.executor}
    return {
        "pool": training.pool,
        "execution_timeout": timedelta(hours=_OVERTIME * training.budget.max_hours),
        **{name: value for name, value in chosen.items() if value},
    }


def promoting_arguments(promotion: PromotionConfig) -> dict[str, Any]:
    """Return where the tasks run that sign and publish."""
    return {"queue": promotion.queue} if promotion.queue else {}


def cron(expression: str | None, timezone: str) -> CronTriggerTimetable | None:
    """Return the timetable of a cron expression, None for by hand only."""
    return CronTriggerTimetable(expression, timezone=timezone) if expression else None


def on_asset_or_time(asset: Asset, expression: str | None, timezone: str) -> AssetOrTimeSchedule | AssetAny:
    """Return a schedule for an asset's events, backed by a clock: an event can be lost, the clock cannot."""
    return on_assets_or_time([asset], expression, timezone)


def on_assets_or_time(assets: Sequence[Asset], expression: str | None, timezone: str) -> AssetOrTimeSchedule | AssetAny:
    """Return a schedule for an event of any of some assets, backed by a clock."""
    timetable = cron(expression, timezone)
    woken = AssetAny(*assets)
    return AssetOrTimeSchedule(timetable=timetable, assets=woken) if timetable else woken


def _deadline(alerts: AlertsConfig) -> DeadlineAlert | None:
    if alerts.deadline_minutes is None:
        return None
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(minutes=alerts.deadline_minutes),
        callback=SyncCallback(deadline_missed, kwargs={"alerts": alerts.model_dump()}),
        name=f"runs longer than {alerts.deadline_minutes:g} minutes",
    )
