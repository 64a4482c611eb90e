"""The launcher: events in order, failures as their class, and no trainer that outlives who started it."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.training.jobs import make_spec
from tests.training.test_spec import made_result
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
from tidegate.training import launcher
from tidegate.training.launcher import TrainingLog, run_training
from tidegate.training.spec import TrainResult, TrainSpec

HEADER = """
import json, os, signal, sys, time
from pathlib import Path
spec = json.loads(Path(sys.argv[1]).read_text())
def say(**event):
    print("EVENT " + json.dumps(event), flush=True)
"""
FINISH = f"""
Path(spec["output"]).mkdir(exist_ok=True)
(Path(spec["output"]) / "result.json").write_text('''{made_result(2.0).model_dump_json()}''')
"""
FOREVER = """
say(event="step", pid=os.getpid())
time.sleep(600)
"""
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
PARENT = """
import json, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.training.jobs import make_spec
from tidegate.training import launcher
launcher._MODULE, launcher._STOP_SECONDS = "fake_trainer", 1
if sys.argv[3] == "as a task":  # what a task's supervisor makes of SIGTERM
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
folder = Path(sys.argv[1])
launcher.run_training(make_spec(folder, folder), None, folder, lambda event: print(json.dumps(event), flush=True))
"""


class Trainer:
    """A stand-in for the recipe: ``says`` is the program that is run in its place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec: TrainSpec = make_spec(folder, folder)
        self.events: list[dict[str, Any]] = []

    def write(self, says: str) -> None:
        (self.folder / "fake_trainer.py").write_text(HEADER + says)

    def run(self, says: str) -> TrainResult:
        self.write(says)
        return run_training(self.spec, None, self.folder, self.events.append)


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """A trainer whose program a test writes."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(launcher, "_MODULE", "fake_trainer")
    return Trainer(tmp_path)


def test_events_are_handed_on_in_order_and_the_result_is_returned(trainer: Trainer) -> None:
    says = (
        "print('noise')\nfor step in range(300): say(event='step', step=step)\nprint('EVENTUALLY')\nsay(event='done')"
    )
    assert trainer.run(says + FINISH) == made_result(2.0)
    assert trainer.events == [*({"event": "step", "step": step} for step in range(300)), {"event": "done"}]


def test_the_trainer_is_given_the_whole_spec(trainer: Trainer) -> None:
    trainer.run("say(event='spec', spec=spec)" + FINISH)
    assert TrainSpec.model_validate(trainer.events[0]["spec"]) == trainer.spec


def test_the_trainer_finds_the_package_and_asks_no_hub(trainer: Trainer, tmp_path: Path) -> None:
    says = "import tidegate\nsay(event='found', at=tidegate.__path__[0], offline=os.environ['HF_HUB_OFFLINE'])"
    trainer.run(says + FINISH)
    assert trainer.events == [{"event": "found", "at": str(ROOT / "include" / "tidegate"), "offline": "1"}]


def test_the_trainer_is_given_no_key(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("APPROVAL_KEY", "APPROVAL_KEY_FILE", "ENDPOINT_KEY", "JUDGE_KEY"):
        monkeypatch.setenv(f"TIDEGATE_{name}", "secret")
    trainer.run("say(event='keys', names=[name for name in os.environ if 'KEY' in name])" + FINISH)
    assert trainer.events == [{"event": "keys", "names": []}]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("training_diverged", TrainingDivergedError),
        ("training_out_of_memory", TrainingOutOfMemoryError),
        ("training_invalid", TrainingSpecInvalidError),
        ("adapter_invalid", AdapterInvalidError),
        ("object_corrupt", ObjectCorruptError),
        ("of_another_version", UnexpectedError),
    ],
)
def test_a_failure_comes_back_as_its_class(trainer: Trainer, code: str, kind: type[TidegateError]) -> None:
    with pytest.raises(kind, match="step 7 is nan") as raised:
        trainer.run(f"say(event='failed', code={code!r}, what='step 7 is nan')\nsys.exit(3)")
    assert type(raised.value) is kind
    assert trainer.events == []


@pytest.mark.parametrize(
    ("ends", "ending"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "signal 9"),
        ("sys.exit(1)", "exit code 1"),
        ("raise ValueError('line 40')", "exit code 1"),
        ("", "exit code 0"),
    ],
)
def test_a_trainer_that_stops_without_a_result_is_told_of_with_its_last_lines(
    trainer: Trainer, ends: str, ending: str
) -> None:
    says = "for at in range(30): print(f'line {at}.', file=sys.stderr if at % 2 else sys.stdout, flush=True)\n"
    with pytest.raises(TrainingStoppedError, match=f"ended with {ending} before it was done") as raised:
        trainer.run(says + ends)
    lines = str(raised.value).splitlines()
    assert "line 29." in lines
    assert len([line for line in lines if line.startswith("line ")]) <= 20
    assert "line 9." not in lines


def test_a_trainer_that_says_nothing_is_told_of_too(trainer: Trainer) -> None:
    with pytest.raises(TrainingStoppedError, match="it said nothing"):
        trainer.run("sys.exit(1)")


@pytest.mark.parametrize(("kills", "kind"), [(4, TrainingStoppedError), (5, TrainingOutOfMemoryError)])
def test_a_kill_for_want_of_memory_is_told_from_any_other(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, kills: int, kind: type[TidegateError]
) -> None:
    counts = trainer.folder / "memory.events"
    counts.write_text("oom 9\noom_kill 4\n")
    monkeypatch.setattr(launcher, "_MEMORY_EVENTS", counts)
    with pytest.raises(kind):
        trainer.run(f"Path({str(counts)!r}).write_text('oom 9\\noom_kill {kills}\\n')\nos.kill(os.getpid(), 9)")


def test_an_interpreter_that_is_not_there_is_named(trainer: Trainer) -> None:
    with pytest.raises(ConfigInvalidError, match=r"training\.python '/no/python' is not an interpreter on this worker"):
        run_training(trainer.spec, "/no/python", trainer.folder, trainer.events.append)


def alive(pid: int) -> bool:
    """Tell whether a process runs: one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def assert_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = alive(pid)
    if left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def test_a_listener_that_fails_stops_the_trainer(trainer: Trainer) -> None:
    trainer.write(FOREVER)
    seen = []

    def listen(event: dict[str, Any]) -> None:
        seen.append(event["pid"])
        raise ValueError("the store is full")

    with pytest.raises(ValueError, match="the store is full"):
        run_training(trainer.spec, None, trainer.folder, listen)
    assert_gone(seen[0])


@pytest.mark.parametrize(
    ("number", "parent", "says"),
    [
        (signal.SIGKILL, "alone", FOREVER),
        (signal.SIGTERM, "alone", FOREVER),
        (signal.SIGTERM, "as a task", FOREVER),
        (signal.SIGTERM, "as a task", DEAF + FOREVER),
    ],
    ids=["killed", "terminated", "stopped as a task", "stopped as a task and deaf"],
)
def test_the_trainer_ends_with_who_started_it(trainer: Trainer, number: signal.Signals, parent: str, says: str) -> None:
    trainer.write(says)
    arguments = [sys.executable, "-c", PARENT, str(trainer.folder), str(ROOT), parent]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        pid = json.loads(process.stdout.readline())["pid"]
        assert alive(pid)
        process.send_signal(number)
        assert_gone(pid)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({"event": "loading", "device": "cpu", "steps": 90, "done": 0}, "loading the base model on cpu; 90 steps"),
        (
            {"event": "loading", "device": "cpu", "steps": 90, "done": 20},
            "loading the base model on cpu; 90 steps, going on after step 20",
        ),
        (
            {"event": "step", "step": 5, "of": 90, "loss": 1.25, "tokens_per_second": 380.4, "eta_seconds": 61},
            "train 5/90 steps, loss 1.250, 380 tok/s, 61 s left",
        ),
        ({"event": "evaluated", "step": 45, "dev_loss": 0.5}, "step 45: loss on dev 0.500"),
        ({"event": "checkpoint", "step": 45, "folder": "/x"}, "step 45: checkpoint"),
    ],
)
def test_people_read_what_is_done_and_what_is_left(
    caplog: pytest.LogCaptureFixture, event: dict[str, Any], said: str
) -> None:
    with caplog.at_level(logging.INFO, logger="tidegate"):
        TrainingLog()(event)
    assert caplog.messages == [said]
