"""One training job's judgement: its plan, its losses, when it looks at dev, and when training is lost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.training.jobs import make_spec, write_rows
from tidegate.core.errors import TrainingDivergedError, TrainingOutOfMemoryError
from tidegate.training.model import out_of_memory
from tidegate.training.trl_backend import Job


def make_job(folder: Path, **changes: Any) -> Job:
    write_rows(folder / "train.jsonl", 40, seed=1)
    write_rows(folder / "dev.jsonl", 6, seed=2)
    spec = make_spec(folder, folder, **changes)
    return Job(spec, report=lambda _: None)


def train(job: Job, losses: list[float]) -> Job:
    """Note one step per loss."""
    for loss in losses:
        job.stepped(loss, [job.rows[at] for at in job.plan[job.position.step]])
    return job


def test_a_job_is_named_by_recipe_base_model_and_files_and_not_by_its_folders(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    job, other = make_job(tmp_path / "one"), make_job(tmp_path / "other")
    assert job.digest == other.digest
    assert make_job(tmp_path / "other", seed=1).digest != job.digest
    write_rows(tmp_path / "other" / "train.jsonl", 40, seed=9)
    spec = make_spec(tmp_path / "other", tmp_path / "other")
    assert Job(spec, print).digest != job.digest
    assert Job(spec.model_copy(update={"base_model_id": "x"}), print).digest != Job(spec, print).digest


def test_a_loss_is_logged_as_the_mean_since_the_last(tmp_path: Path) -> None:
    job = train(make_job(tmp_path), [1.0, 2.0, 3.0, 4.0, 5.0, 0.5, 0.5, 0.5, 0.5, 1.0])
    assert job.position.losses == ((5, 3.0), (10, 0.6))
    assert job.position.step == 10


def test_tokens_and_slots_count_what_was_trained(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    steps = [[len(job.rows[at].tokens) for at in step] for step in job.plan[:3]]
    train(job, [1.0, 1.0, 1.0])
    assert job.tokens == sum(map(sum, steps))
    assert job.slots == sum(len(step) * max(step) for step in steps)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_at_its_step(tmp_path: Path, loss: float) -> None:
    job = train(make_job(tmp_path), [1.0, 1.0])
    with pytest.raises(TrainingDivergedError, match=f"the loss of step 3 is {loss}"):
        train(job, [loss])
    assert job.position.step == 2


def test_a_loss_far_above_its_start_stops(tmp_path: Path) -> None:
    job = train(make_job(tmp_path, epochs=3), [2.0] * 5 + [5.9] * 5)
    with pytest.raises(TrainingDivergedError, match=r"rose from 2.00 to 6.10 at step 15"):
        train(job, [6.1] * 5)


def test_a_small_loss_may_rise_up_to_what_is_no_divergence(tmp_path: Path) -> None:
    train(make_job(tmp_path, epochs=3), [0.01] * 5 + [2.9] * 5)


def test_a_loss_of_nothing_for_25_steps_stops(tmp_path: Path) -> None:
    job = train(make_job(tmp_path, epochs=9), [1.0] * 5 + [0.0] * 24)
    with pytest.raises(TrainingDivergedError, match="the loss is 0 since step 5: nothing is learnt"):
        train(job, [0.0])


@pytest.mark.parametrize("evaluations", [1, 2, 3])
def test_dev_is_looked_at_as_often_as_asked_and_at_the_end(tmp_path: Path, evaluations: int) -> None:
    job = make_job(tmp_path, epochs=6, evaluations=evaluations)
    due = []
    for step in range(1, len(job.plan) + 1):
        train(job, [1.0])
        if job.evaluation_is_due():
            due.append(step)
    assert due[-1] == len(job.plan)
    assert len(due) == evaluations
    assert all(step % 5 == 0 for step in due[:-1])


def test_early_stopping_waits_for_as_many_evaluations_as_asked(tmp_path: Path) -> None:
    job = make_job(tmp_path, early_stopping=2, epochs=9)
    said = [train(job, [1.0] * 5).evaluated(loss, {}) for loss in (2.0, 1.5, 1.6, 1.4, 1.4, 1.5)]
    assert said == [False, False, False, False, False, True]
    assert job.position.best_step == 20


def test_without_early_stopping_nothing_stops_a_job(tmp_path: Path) -> None:
    job = make_job(tmp_path, epochs=9)
    assert not any(train(job, [1.0] * 5).evaluated(float(loss), {}) for loss in range(5))
    assert job.position.best_step == 0


@pytest.mark.parametrize(
    "said",
    [
        "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        "CUDA error: out of memory",
    ],
)
def test_a_lack_of_memory_is_told_with_what_decides_it(tmp_path: Path, said: str) -> None:
    failure = out_of_memory(RuntimeError(said), make_spec(tmp_path, tmp_path))
    assert isinstance(failure, TrainingOutOfMemoryError)
    assert "batch_tokens 256, rank 4" in failure.what
    assert not failure.retryable


def test_another_error_is_not_taken_for_a_lack_of_memory(tmp_path: Path) -> None:
    assert out_of_memory(RuntimeError("shapes do not fit"), make_spec(tmp_path, tmp_path)) is None
