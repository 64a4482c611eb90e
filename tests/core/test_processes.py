"""Processes that were started are found and stopped, also those that lead groups of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tidegate.core.processes import descendants, stop_group, stop_processes

GRANDCHILD = "import time; time.sleep(60)"
CHILD = f"""
import subprocess, sys
inner = subprocess.Popen([sys.executable, "-c", {GRANDCHILD!r}], start_new_session=True)
print(inner.pid, flush=True)
inner.wait()
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(pid)


def test_a_grandchild_in_a_group_of_its_own_is_found_and_stopped() -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None
    grandchild = int(child.stdout.readline())
    found = descendants(os.getpid())
    assert {child.pid, grandchild} <= set(found)
    assert descendants(child.pid) == [grandchild]
    stop_group(child, 0)
    assert is_running(grandchild), "the group of the child is not the grandchild's"
    stop_processes([grandchild], signal.SIGKILL)
    assert gone(grandchild)
    stop_processes([grandchild], signal.SIGKILL)
