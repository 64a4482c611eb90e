"""Checkpoints: read back as written, refused if a byte of them is another, and whole or nothing under kill -9."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tidegate.core.errors import ObjectCorruptError
from tidegate.training.checkpoints import COMPLETE, Checkpoint, Position, read_checkpoint, write_checkpoint

JOB, OTHER_JOB = "a" * 64, "b" * 64
FILES = {"adapter.safetensors", "best.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"}
KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.training.test_checkpoints import made
from tidegate.training.checkpoints import write_checkpoint
folder, point = Path(sys.argv[1]), 0
while True:
    point += 1
    child = os.fork()
    if not child:
        os.environ["TIDEGATE_FAILPOINT"] = f"#{point}=kill"
        write_checkpoint(folder / str(point), made(20))
        os._exit(0)
    if os.waitpid(child, 0)[1] != signal.SIGKILL:
        break
    print(point)
"""


def optimizer_of(parameter: torch.nn.Parameter) -> torch.optim.Optimizer:
    return torch.optim.AdamW([parameter], lr=0.1, weight_decay=0.01)


def stepped(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, steps: int) -> None:
    for step in range(steps):
        parameter.grad = torch.full_like(parameter, 0.5 + step)
        optimizer.step()


def made(step: int, job: str = JOB) -> Checkpoint:
    """Return a checkpoint with a real optimizer's state."""
    parameter = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    optimizer = optimizer_of(parameter)
    stepped(optimizer, parameter, step)
    return Checkpoint(
        job=job,
        position=Position(step, ((5, 1.5), (10, 0.1 + 0.2)), ((10, 2.25),), 10),
        adapter={"lora_A": parameter.detach().clone(), "lora_B": torch.ones(3, 2).T},
        best={"lora_A": torch.full((2, 3), 7.0, dtype=torch.bfloat16)},
        optimizer=optimizer.state_dict(),
        random={"cpu": torch.Generator().manual_seed(5).get_state()},
    )


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    assert (one.job, one.position) == (other.job, other.position)
    for part in ("adapter", "best", "random"):
        left, right = getattr(one, part), getattr(other, part)
        assert left.keys() == right.keys()
        for name in left:
            assert left[name].dtype == right[name].dtype
            assert torch.equal(left[name], right[name])


def test_a_checkpoint_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, made(12))
    assert folder == tmp_path / "step-00000012"
    assert {path.name for path in folder.iterdir()} == {*FILES, COMPLETE}
    assert_same(read_checkpoint(folder, JOB), made(12))


def test_an_optimizer_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    read = read_checkpoint(write_checkpoint(tmp_path, made(3)), JOB)
    resumed, whole = torch.nn.Parameter(read.adapter["lora_A"]), torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    restored, unbroken = optimizer_of(resumed), optimizer_of(whole)
    restored.load_state_dict(dict(read.optimizer))
    stepped(unbroken, whole, 3)
    for optimizer, parameter in ((restored, resumed), (unbroken, whole)):
        stepped(optimizer, parameter, 2)
    assert torch.equal(resumed, whole)


def test_names_of_checkpoints_sort_as_their_steps(tmp_path: Path) -> None:
    names = [write_checkpoint(tmp_path, made(step)).name for step in (2, 10, 100)]
    assert sorted(names) == names


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
@pytest.mark.parametrize("name", sorted(FILES))
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    folder = write_checkpoint(tmp_path, made(1))
    damage(folder / name)
    with pytest.raises(ObjectCorruptError, match=f"step-00000001: {name} is not the file that {COMPLETE} names"):
        read_checkpoint(folder, JOB)


def test_a_checkpoint_that_was_never_finished_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, made(1))
    (folder / COMPLETE).unlink()
    with pytest.raises(ObjectCorruptError, match=f"has no {COMPLETE}"):
        read_checkpoint(folder, JOB)


def test_a_checkpoint_of_another_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ObjectCorruptError, match=f"belongs to job {'b' * 12}, not {'a' * 12}"):
        read_checkpoint(write_checkpoint(tmp_path, made(1, OTHER_JOB)), JOB)


def test_a_checkpoint_written_again_over_a_half_written_one_is_whole(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, made(1, OTHER_JOB))
    truncate(folder / "adapter.safetensors")
    write_checkpoint(tmp_path, made(1))
    assert_same(read_checkpoint(folder, JOB), made(1))


def test_complete_names_size_and_digest_of_every_other_file(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, made(1))
    named = json.loads((folder / COMPLETE).read_bytes())
    assert {name: described["size"] for name, described in named.items()} == {
        name: (folder / name).stat().st_size for name in FILES
    }


def test_a_kill_at_any_point_leaves_the_older_checkpoint_and_no_newer_one(tmp_path: Path) -> None:
    """Every process dies by its own SIGKILL; the last one passes all points."""
    found = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(ROOT)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    points = [int(line) for line in found.stdout.split()]
    assert points == list(range(1, len(points) + 1))
    assert len(points) == 5  # four files of tensors, and COMPLETE
    for point in points:
        folder = tmp_path / str(point)
        older = write_checkpoint(folder, made(10))
        with pytest.raises(ObjectCorruptError, match="never finished"):
            read_checkpoint(folder / "step-00000020", JOB)
        assert_same(read_checkpoint(older, JOB), made(10))
    assert_same(read_checkpoint(tmp_path / str(len(points) + 1) / "step-00000020", JOB), made(20))
