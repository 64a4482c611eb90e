"""A checkpoint: the adapter, the optimizer and the place in the plan, as safetensors and JSON; nothing is unpickled.

A folder counts as a checkpoint only with ``COMPLETE.json``, written last, which names every other file's size and
digest; :func:`read_checkpoint` compares them before it opens a file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.core.canonical import canonical_json
from tidegate.core.errors import ObjectCorruptError
from tidegate.core.failpoints import reach

if TYPE_CHECKING:
    import torch

COMPLETE, STATE = "COMPLETE.json", "state.json"
_ADAPTER, _BEST, _OPTIMIZER, _RANDOM = "adapter", "best", "optimizer", "random"


@dataclass(frozen=True)
class Position:
    """Where a training job is."""

    step: int = 0
    """Optimizer steps that are done."""
    losses: tuple[tuple[int, float], ...] = ()
    dev_losses: tuple[tuple[int, float], ...] = ()
    best_step: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """All that a job needs to go on as if it had never stopped."""

    job: str
    """Digest of recipe and training files: a checkpoint of another job is refused."""
    position: Position
    adapter: Mapping[str, torch.Tensor]
    best: Mapping[str, torch.Tensor]
    """The adapter at its best loss on dev; empty without early stopping."""
    optimizer: Mapping[str, Any]
    """``state_dict`` of the optimizer."""
    random: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """State of the random numbers by device."""


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint below ``folder`` and return its own folder, ``step-<number>``."""
    from safetensors.torch import save_file

    target = folder / f"step-{checkpoint.position.step:08d}"
    target.mkdir(parents=True, exist_ok=True)
    (target / COMPLETE).unlink(missing_ok=True)
    state, groups = checkpoint.optimizer["state"], checkpoint.optimizer["param_groups"]
    tensors = {f"{at}.{name}": value for at, values in state.items() for name, value in values.items()}
    parts = {_ADAPTER: checkpoint.adapter, _BEST: checkpoint.best, _OPTIMIZER: tensors, _RANDOM: checkpoint.random}
    for name, values in parts.items():
        save_file({key: value.contiguous() for key, value in values.items()}, target / f"{name}.safetensors")
        reach("checkpoint-file")
    described = {"job": checkpoint.job, "position": asdict(checkpoint.position), "groups": groups}
    (target / STATE).write_bytes(canonical_json(described))
    files = {path.name: _described(path) for path in sorted(target.iterdir())}
    scratch = target / f".{COMPLETE}"
    scratch.write_bytes(canonical_json(files))
    with scratch.open("rb") as written:
        os.fsync(written.fileno())
    reach("checkpoint-written")
    scratch.replace(target / COMPLETE)
    return target


def read_checkpoint(folder: Path, job: str) -> Checkpoint:
    """Read a checkpoint; raise ``ObjectCorruptError`` if a file is damaged, missing, or it belongs to another job."""
    from safetensors.torch import load_file

    if not (folder / COMPLETE).is_file():
        raise ObjectCorruptError(f"checkpoint {folder.name} has no {COMPLETE}: it was never finished")
    for name, wanted in json.loads((folder / COMPLETE).read_bytes()).items():
        if not (folder / name).is_file() or _described(folder / name) != wanted:
            raise ObjectCorruptError(f"checkpoint {folder.name}: {name} is not the file that {COMPLETE} names")
    described = json.loads((folder / STATE).read_bytes())
    if described["job"] != job:
        raise ObjectCorruptError(f"checkpoint {folder.name} belongs to job {described['job'][:12]}, not {job[:12]}")
    parts = {name: load_file(folder / f"{name}.safetensors") for name in (_ADAPTER, _BEST, _OPTIMIZER, _RANDOM)}
    state: dict[int, dict[str, Any]] = {}
    for key, value in parts[_OPTIMIZER].items():
        at, _, name = key.partition(".")
        state.setdefault(int(at), {})[name] = value
    position = described["position"]
    return Checkpoint(
        job=job,
        position=Position(
            position["step"],
            tuple((step, loss) for step, loss in position["losses"]),
            tuple((step, loss) for step, loss in position["dev_losses"]),
            position["best_step"],
        ),
        adapter=parts[_ADAPTER],
        best=parts[_BEST],
        optimizer={"state": state, "param_groups": described["groups"]},
        random=parts[_RANDOM],
    )


def _described(path: Path) -> dict[str, Any]:
    with path.open("rb") as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}
