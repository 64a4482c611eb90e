"""Start the training job in its own interpreter, hand on what it says, and stop it when this process is stopped."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from tidegate.core.errors import (
    AdapterInvalidError,
    ConfigInvalidError,
    ObjectCorruptError,
    TidegateError,
    TrainingDivergedError,
    TrainingOutOfMemoryError,
    TrainingSpecInvalidError,
    TrainingStoppedError,
    UnexpectedError,
)
from tidegate.core.processes import die_with_parent, stop_group
from tidegate.training.spec import TrainResult, TrainSpec

EVENT, RESULT, FAILED = "EVENT ", "result.json", 3
_MODULE = "tidegate.recipes.train_adapter"
_STOP_SECONDS = 20
_MEMORY_EVENTS = Path("/sys/fs/cgroup/memory.events")
_TAIL_LINES = 20
_SECRETS = ("TIDEGATE_APPROVAL_KEY", "TIDEGATE_ENDPOINT_KEY", "TIDEGATE_JUDGE_KEY")
"""Beginnings of variables that a trainer has no use for."""
_FAILURES: dict[str, type[TidegateError]] = {
    kind.code: kind
    for kind in (
        AdapterInvalidError,
        ObjectCorruptError,
        TrainingDivergedError,
        TrainingOutOfMemoryError,
        TrainingSpecInvalidError,
    )
}
OnEvent = Callable[[dict[str, Any]], None]

logger = logging.getLogger("tidegate")


def run_training(spec: TrainSpec, python: str | None, folder: Path, on_event: OnEvent) -> TrainResult:
    """Run a job to its end and return its result; ``on_event`` receives every event of the job.

    The job ends when this process ends, however it ends. Raises ``TrainingStoppedError`` with the job's last lines if
    it stopped without a result, ``TrainingOutOfMemoryError`` if the kernel killed it for want of memory, or the typed
    failure that it reported.
    """
    path = folder / "spec.json"
    path.write_text(spec.model_dump_json(), encoding="utf-8")
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    failure: TidegateError | None = None
    killed_before = _killed_for_memory()
    process = _started(python or sys.executable, path)
    try:
        for line in _lines(process.stdout):
            event = _event(line)
            if event is None:
                tail.append(line)
                logger.debug("%s", line)
            elif event["event"] == "failed":
                failure = _FAILURES.get(event["code"], UnexpectedError)(event["what"])
            else:
                on_event(event)
        code = process.wait()
    finally:
        stop_group(process, _STOP_SECONDS)
    if failure:
        raise failure
    if code == -signal.SIGKILL and _killed_for_memory() > killed_before:
        tokens = spec.recipe.batch_tokens
        raise TrainingOutOfMemoryError(f"the kernel killed the trainer for want of memory, with batch_tokens {tokens}")
    if code or not (spec.output / RESULT).is_file():
        said = "\n".join(tail) or "it said nothing"
        raise TrainingStoppedError(
            f"the trainer ended with {_ending(code)} before it was done; its last lines:\n{said}"
        )
    return TrainResult.model_validate_json((spec.output / RESULT).read_bytes())


def _started(interpreter: str, spec: Path) -> subprocess.Popen[bytes]:
    if not Path(interpreter).is_file():
        raise ConfigInvalidError(f"training.python {interpreter!r} is not an interpreter on this worker")
    return subprocess.Popen(
        [interpreter, "-m", _MODULE, str(spec)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environment(),
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call
    )


class TrainingLog:
    """Writes a job's events as log lines for people: what is done, loss, throughput, time left."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def __call__(self, event: dict[str, Any]) -> None:
        """Write one event."""
        logger.info("%s", self._said(event))

    def _said(self, event: dict[str, Any]) -> str:
        kind = event["event"]
        if kind == "loading":
            begun = f", going on after step {event['done']}" if event["done"] else ""
            return f"loading the base model on {event['device']}; {event['steps']} steps{begun}"
        if kind == "step":
            left = event["eta_seconds"]
            ending = f"{left} s left" if left else f"{time.monotonic() - self._started:.0f} s in all"
            speed = event["tokens_per_second"]
            return f"train {event['step']}/{event['of']} steps, loss {event['loss']:.3f}, {speed:.0f} tok/s, {ending}"
        if kind == "evaluated":
            return f"step {event['step']}: loss on dev {event['dev_loss']:.3f}"
        if kind == "checkpoint":
            return f"step {event['step']}: checkpoint"
        return json.dumps(event)


def _environment() -> dict[str, str]:
    """Return this process's environment without its secrets; the package is found where this one is."""
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    known = {name: value for name, value in os.environ.items() if not name.startswith(_SECRETS)}
    return {**known, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}


def _lines(stream: IO[bytes] | None) -> Iterator[str]:
    for line in stream or ():
        yield line.decode("utf-8", errors="replace").rstrip()


def _event(line: str) -> dict[str, Any] | None:
    if not line.startswith(EVENT):
        return None
    event = json.loads(line.removeprefix(EVENT))
    return dict(event)


def _killed_for_memory() -> int:
    """Return how many processes of this machine's or container's group the kernel has killed for want of memory."""
    try:
        events = _MEMORY_EVENTS.read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in events.splitlines() if line.startswith("oom_kill ")), 0)


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
