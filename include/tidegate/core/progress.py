"""Progress of long work as log lines: count, rate and time left, at most one every few seconds."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger("tidegate.progress")

_INTERVAL_SECONDS = 2.0
_FAST = 10.0
"""From so many a second on, fractions say nothing."""


class ProgressLog:
    """A :data:`tidegate.core.protocols.Progress` that writes log lines."""

    def __init__(self, stage: str, unit: str) -> None:
        self._stage = stage
        self._unit = unit
        self._started = time.monotonic()
        self._next = self._started + _INTERVAL_SECONDS

    def __call__(self, done: int, total: int) -> None:
        """Log ``done`` of ``total`` unless the last line is too recent; the end is always logged."""
        now = time.monotonic()
        if now < self._next and done < total:
            return
        self._next = now + _INTERVAL_SECONDS
        elapsed = max(now - self._started, 1e-9)
        rate = done / elapsed
        left = (total - done) / rate if rate else 0.0
        ending = f"{left:.0f} s left" if done < total else f"{elapsed:.1f} s"
        shown = f"{rate:.0f}" if rate >= _FAST else f"{rate:.1f}"
        logger.info("%s %d/%d %s, %s/s, %s", self._stage, done, total, self._unit, shown, ending)
