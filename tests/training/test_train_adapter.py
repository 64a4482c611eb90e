"""Real training of a tiny model in its own interpreter: what comes out, going on after a stop, and failures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.training.jobs import LINEAR, make_spec, write_rows
from tidegate.core.errors import TidegateError, TrainingDivergedError, TrainingOutOfMemoryError
from tidegate.training import launcher
from tidegate.training.batches import plan_steps, read_rows
from tidegate.training.checkpoints import COMPLETE
from tidegate.training.launcher import run_training
from tidegate.training.preflight import CONFIG, WEIGHTS, check_adapter, linear_modules
from tidegate.training.spec import TrainResult, TrainSpec

LASTING = {"epochs": 2, "evaluations": 2, "lora": {"dropout": 0.1}}
OVERFITTING = {"epochs": 20, "evaluations": 50, "early_stopping": 2}


class Trained:
    """A job that ran to its end."""

    def __init__(self, spec: TrainSpec) -> None:
        self.spec, self.events = spec, list[dict[str, Any]]()
        spec.output.mkdir(parents=True)
        self.result: TrainResult = run_training(spec, None, spec.output, self.events.append)

    @property
    def weights(self) -> bytes:
        return (self.spec.output / WEIGHTS).read_bytes()

    def checkpoint(self, step: int) -> Path:
        return self.spec.output / "checkpoints" / f"step-{step:08d}"

    def resumed(self, step: int) -> Trained:
        """Run the same job in another folder, from a checkpoint of this one."""
        changes = {"resume": self.checkpoint(step), "output": self.spec.output.parent / f"from-{step}"}
        return Trained(self.spec.model_copy(update=changes))


def train(base: Path, folder: Path, **changes: Any) -> Trained:
    write_rows(folder / "train.jsonl", 40, seed=1)
    write_rows(folder / "dev.jsonl", 6, seed=2)
    return Trained(make_spec(base, folder, **changes))


@pytest.fixture(scope="module")
def trained(tiny_base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A job that was never stopped and kept a checkpoint every five steps."""
    return train(tiny_base_model, tmp_path_factory.mktemp("job"), **LASTING)


def test_the_result_counts_every_step_and_token_and_the_loss_falls(trained: Trained) -> None:
    rows = [len(row.tokens) for row in read_rows(trained.spec.train)]
    plan = plan_steps(rows, batch_tokens=256, epochs=2, seed=0)
    result = trained.result
    assert (result.steps, result.first_step, result.best_step) == (len(plan), 0, len(plan))
    assert result.tokens == 2 * sum(rows)
    assert result.slots == sum(len(step) * max(rows[at] for at in step) for step in plan)
    assert [step for step, _ in result.losses] == [*range(5, len(plan), 5), len(plan)]
    assert min(loss for _, loss in result.losses) < result.losses[0][1] - 0.02
    assert result.dev_losses[-1][0] == len(plan)
    assert len(result.dev_losses) == 2
    assert result.versions.keys() == {"torch", "transformers", "peft", "trl", "python"}


def test_the_events_tell_the_whole_job_in_order(trained: Trained) -> None:
    kinds = [event["event"] for event in trained.events]
    assert (kinds[0], kinds[-1]) == ("loading", "done")
    steps = [event for event in trained.events if event["event"] == "step"]
    assert [(event["step"], event["loss"]) for event in steps] == [
        (step, round(loss, 4)) for step, loss in trained.result.losses
    ]
    kept = [Path(event["folder"]) for event in trained.events if event["event"] == "checkpoint"]
    assert kept == sorted((trained.spec.output / "checkpoints").iterdir())
    assert all((folder / COMPLETE).is_file() for folder in kept)


def test_the_adapter_is_two_canonical_files_that_a_server_loads(trained: Trained, tmp_path: Path) -> None:
    text = (trained.spec.output / CONFIG).read_text()
    config = json.loads(text)
    assert config["base_model_name_or_path"] == "tiny-llama"
    assert config["target_modules"] == list(LINEAR)
    assert text == json.dumps(config, indent=2, sort_keys=True) + "\n"
    for name in (CONFIG, WEIGHTS):
        (tmp_path / name).write_bytes((trained.spec.output / name).read_bytes())
    facts = check_adapter(tmp_path, linear_modules(trained.spec.base_model), "tiny-llama", 4)
    assert facts.rank == 4
    assert 0 < facts.update < 10


def test_the_probes_show_what_the_adapter_changed(trained: Trained) -> None:
    probes = json.loads((trained.spec.output / "probes.json").read_bytes())
    assert len(probes) == 4
    assert any(item["adapter"] != item["base"] for item in probes)


def test_a_job_that_goes_on_from_a_checkpoint_ends_with_the_same_bytes(trained: Trained) -> None:
    again = trained.resumed(10)
    assert again.weights == trained.weights
    assert (again.spec.output / CONFIG).read_bytes() == (trained.spec.output / CONFIG).read_bytes()
    assert again.result.losses == trained.result.losses
    assert again.result.dev_losses == trained.result.dev_losses
    assert again.result.first_step == 10
    assert again.events[0]["done"] == 10
    assert min(event["step"] for event in again.events if event["event"] == "step") == 15


BREAKS = """
from tidegate.training import trl_trainer
from tidegate.recipes.train_adapter import main

whole, calls = trl_trainer.answer_loss, []


def broken(model, batch):
    calls.append(batch)
    if len(calls) == 8:
        {failure}
    return whole(model, batch)


trl_trainer.answer_loss = broken
raise SystemExit(main())
"""


@pytest.mark.parametrize(
    ("failure", "kind", "message"),
    [
        ("return whole(model, batch) * float('nan')", TrainingDivergedError, "the loss of step 8 is nan"),
        pytest.param(
            "raise RuntimeError('DefaultCPUAllocator: can\\'t allocate memory')",
            TrainingOutOfMemoryError,
            "out of memory while training with batch_tokens 256, rank 4",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["not a number", "out of memory"],
)
def test_a_failure_stops_with_its_reason_and_publishes_nothing(
    tiny_base_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: str,
    kind: type[TidegateError],
    message: str,
) -> None:
    (tmp_path / "breaks.py").write_text(BREAKS.format(failure=failure))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(launcher, "_MODULE", "breaks")
    with pytest.raises(kind, match=message):
        train(tiny_base_model, tmp_path)
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert not left & {CONFIG, WEIGHTS, "result.json", "probes.json"}
    assert [path.name for path in (tmp_path / "out" / "checkpoints").iterdir()] == ["step-00000005"]


@pytest.fixture(scope="module")
def overfitted(tiny_base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A job that early stopping ended."""
    return train(tiny_base_model, tmp_path_factory.mktemp("overfitted"), **OVERFITTING)


@pytest.mark.slow
def test_early_stopping_keeps_the_adapter_of_the_best_loss_on_dev(overfitted: Trained) -> None:
    result, losses = overfitted.result, dict(overfitted.result.dev_losses)
    assert result.stopped_early
    assert losses[result.best_step] == min(losses.values())
    assert len([step for step in losses if step > result.best_step]) == 2
    best = load_file(overfitted.checkpoint(result.best_step) / "adapter.safetensors")
    kept = load_file(overfitted.spec.output / WEIGHTS)
    assert kept.keys() == best.keys()
    assert all(np.array_equal(kept[name], best[name]) for name in best)


@pytest.mark.slow
def test_a_job_killed_after_early_stopping_does_not_train_on(overfitted: Trained) -> None:
    again = overfitted.resumed(overfitted.result.steps)
    assert again.weights == overfitted.weights
    assert (again.result.steps, again.result.stopped_early) == (overfitted.result.steps, True)


@pytest.mark.slow
def test_packed_and_padded_jobs_have_the_same_losses(tiny_base_model: Path, tmp_path: Path) -> None:
    losses = []
    for packing in (False, True):
        folder = tmp_path / str(packing)
        folder.mkdir()
        losses.append(train_single(tiny_base_model, folder, packing=packing).result.losses)
    padded, packed = losses
    assert [step for step, _ in packed] == [step for step, _ in padded]
    assert [loss for _, loss in packed] == pytest.approx([loss for _, loss in padded], rel=1e-3)


def train_single(base: Path, folder: Path, **changes: Any) -> Trained:
    """Train rows of one question each."""
    for name, count, seed in (("train", 40, 1), ("dev", 6, 2)):
        path = write_rows(folder / f"{name}.jsonl", count, seed)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line | {"branches": line["branches"][:1]}) + "\n" for line in lines))
    return Trained(make_spec(base, folder, **changes))


@pytest.mark.slow
def test_a_job_in_bfloat16_gives_an_adapter_that_a_server_loads(tiny_base_model: Path, tmp_path: Path) -> None:
    done = train(tiny_base_model, tmp_path, precision="bfloat16", gradient_checkpointing=True)
    assert min(loss for _, loss in done.result.losses) < done.result.losses[0][1]
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in (CONFIG, WEIGHTS):
        (adapter / name).write_bytes((done.spec.output / name).read_bytes())
    check_adapter(adapter, linear_modules(tiny_base_model), "tiny-llama", 4)
