"""Best-effort notices: a dead mail server must never fail, or hide the failure of, a task."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

from tidegate.core.config import AlertsConfig

logger = logging.getLogger("tidegate.alerts")


def notifier_for(alerts: AlertsConfig) -> Callable[[Mapping[str, Any]], None] | None:
    """Return a task callback that calls the configured notifier, None if there is none."""
    if alerts.notifier is None:
        return None

    def notify(context: Mapping[str, Any]) -> None:
        _send(alerts, context)

    return notify


def deadline_missed(alerts: dict[str, Any], context: Mapping[str, Any] | None = None) -> None:
    """Say that a DAG run is late (deadline callback)."""
    late = dict(context or {})
    logger.warning("the run %s is late: over %s minutes", late.get("dag_run", {}), alerts["deadline_minutes"])
    configured = AlertsConfig.model_validate(alerts)
    if configured.notifier is not None:
        _send(configured, late)


def _send(alerts: AlertsConfig, context: Mapping[str, Any]) -> None:
    module, _, name = (alerts.notifier or "").rpartition(".")
    try:
        notifier = getattr(importlib.import_module(module), name)(**alerts.arguments)
        notifier(context)
    except Exception:  # a notice is a courtesy: whatever goes wrong in it is logged, and that is all
        logger.exception("the notice by %s could not be sent", alerts.notifier)
