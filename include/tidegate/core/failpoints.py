"""Named places where a test may stop, fail or lose an answer; nothing happens unless the environment asks for it.

``TIDEGATE_FAILPOINT="K5=kill"`` sends SIGKILL to this process at the first arrival at K5, ``"#7=kill"`` at the seventh
arrival at any point, ``"K5=error"`` raises ``OSError``. ``TIDEGATE_FAILPOINT_TRACE=FILE`` appends each name that is
passed, so that a test can first count the points and then stop at each of them. The names K1 to K27 are the crash
points of docs/guarantees.md.
"""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

_passed = 0


def reach(name: str) -> None:
    """Pass the failpoint ``name``; act if the environment names it or its number."""
    wanted = os.environ.get("TIDEGATE_FAILPOINT")
    trace = os.environ.get("TIDEGATE_FAILPOINT_TRACE")
    if not wanted and not trace:
        return
    global _passed  # noqa: PLW0603 - a process-wide count is the point
    _passed += 1
    if trace:
        with Path(trace).open("a", encoding="utf-8") as out:
            out.write(f"{name}\n")
    place, _, action = (wanted or "").partition("=")
    if place not in (name, f"#{_passed}"):
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "error":
        raise OSError(errno.EIO, f"failpoint {name}")
