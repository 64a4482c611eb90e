"""Child processes that never outlive who started them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to end this process if the one that started it is killed (Linux; elsewhere nothing)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to a process that leads its own group, and to all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that these have, as Linux knows them now."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            after_name = stat.read_text().rpartition(")")[2].split()
            children.setdefault(int(after_name[1]), []).append(int(stat.parent.name))
    found = children.get(pid, [])
    return [*found, *(deeper for child in found for deeper in descendants(child))]


def stop_processes(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each process that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def stop_group(process: subprocess.Popen[bytes], seconds: float) -> None:
    """End a process group: ask first, and kill what is left after ``seconds``."""
    signal_group(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    signal_group(process, signal.SIGKILL)
    process.wait()
