"""Live progress of a few stages: redrawn in place on a terminal, one line per change elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

_MARKS = {"done": "✓", "running": "▸", "failed": "✗", "skipped": "–", "waiting": "·", "asked": "?"}
_QUIET_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Stage:
    """One line of the view."""

    name: str
    state: str
    """done, running, failed, skipped, waiting, or asked: it waits for a person."""
    detail: str = ""
    seconds: float | None = None


class Screen:
    """Shows the current stages; call :meth:`show` as often as you like."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._live = out.isatty()
        self._drawn = 0
        self._last: dict[str, tuple[str, str, float]] = {}

    def say(self, text: str = "") -> None:
        """Print lines that stay."""
        self.keep()
        self._out.write(text + "\n")
        self._out.flush()

    def keep(self) -> None:
        """Leave what is drawn where it is and go on below it."""
        self._drawn = 0
        self._last.clear()

    def show(self, stages: Sequence[Stage]) -> None:
        """Show the stages as they are now."""
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            up = f"\x1b[{self._drawn}A" if self._drawn else ""
            self._out.write(up + "".join(f"\x1b[2K{self._line(stage)[:width]}\n" for stage in stages))
            self._drawn = len(stages)
        else:
            for stage in stages:
                if self._is_news(stage):
                    self._out.write(self._line(stage) + "\n")
        self._out.flush()

    def _is_news(self, stage: Stage) -> bool:
        """Without a terminal, print a stage when its state changes, and its progress now and then."""
        state, detail, at = self._last.get(stage.name, ("waiting", "", 0.0))
        now = time.monotonic()
        progressed = stage.state == "running" and stage.detail != detail and now - at > _QUIET_SECONDS
        if stage.state == state and not progressed:
            return False
        self._last[stage.name] = (stage.state, stage.detail, now)
        return stage.state != "waiting"

    @staticmethod
    def _line(stage: Stage) -> str:
        seconds = "" if stage.seconds is None else f"{stage.seconds:6.1f} s"
        return f"  {_MARKS[stage.state]} {stage.name:<9}{seconds:>9}  {stage.detail}"
