"""Train the planned adapter from the base model, check it as a server will, and commit it.

Every step starts from the store alone and may run twice: the job's id follows from all that decides the adapter, its
checkpoints lie under that id, and what is committed is recognised.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tidegate import __version__
from tidegate.core.adapter_records import AdapterManifest
from tidegate.core.canonical import canonical_json, sha256_hex
from tidegate.core.errors import CommitLostError, StageMissingError, TrainingSpecInvalidError
from tidegate.core.records import BaseModelIdentity, StoredFile
from tidegate.pipelines.decide_training import note_throughput, training_of
from tidegate.pipelines.training_plan import DEV, TRAIN, TrainingPlan, load_plan
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.adapters import commit_adapter, find_committed, read_adapter_head
from tidegate.registry.checkpoints import COMPLETE, keep_checkpoint, newest_checkpoint
from tidegate.registry.runs import Run
from tidegate.training.base_model import BaseModelFiles, find_base_model
from tidegate.training.launcher import RESULT, TrainingLog, run_training
from tidegate.training.loss_curve import draw_losses
from tidegate.training.model_card import write_card
from tidegate.training.preflight import CONFIG, WEIGHTS, check_adapter, linear_modules
from tidegate.training.probe import PROBES
from tidegate.training.spec import TrainResult, TrainSpec

_FINISHED = (WEIGHTS, CONFIG, PROBES, RESULT)
"""What the training task leaves for the committing one, below the job's checkpoints."""

OnEvent = Callable[[dict[str, Any]], None]


def train(workspace: Workspace, run: Run, on_event: OnEvent | None = None) -> TrainResult:
    """Train what is planned, from the newest checkpoint if there is one; leave adapter and result in the store."""
    plan = load_plan(run)
    with tempfile.TemporaryDirectory(prefix="tidegate-training-") as scratch:
        folder = Path(scratch)
        done = _finished(workspace, plan, folder / "done")
        if done:
            return TrainResult.model_validate_json((done / RESULT).read_bytes())
        base = _same_base_model(workspace, plan)
        for name in (TRAIN, DEV):
            (folder / name).write_bytes(run.staged(name))
        spec = _spec(workspace, plan, base, folder)
        python = training_of(workspace.config).python
        result = run_training(spec, python, folder, _keeping(workspace, plan, on_event))
        _check(spec.output, folder / "checked", base.folder, plan, workspace.config.serving.max_lora_rank)
        _keep_finished(workspace, plan, spec.output)
    if result.tokens:
        note_throughput(workspace, result.tokens_per_second)
    return result


def commit(workspace: Workspace, run: Run) -> str:
    """Check the trained adapter once more, store it with all that made it, and move the head; return its key."""
    plan, store, corpus = load_plan(run), workspace.store, workspace.corpus
    head = read_adapter_head(store, corpus)
    earlier = find_committed(store, corpus, head, plan.op_id, plan.parent)
    if earlier:
        return earlier  # an earlier try got this far
    if (head.head.adapter if head.head else None) != plan.parent:
        raise CommitLostError(
            f"the adapter of job {plan.op_id[:12]} was not committed: another run moved the head first"
        )
    with tempfile.TemporaryDirectory(prefix="tidegate-adapter-") as scratch:
        folder = _finished(workspace, plan, Path(scratch) / "done")
        if folder is None:
            raise StageMissingError(f"the adapter of job {plan.op_id[:12]} is not in {store.uri}")
        base = _same_base_model(workspace, plan)
        rank = _check(folder, Path(scratch) / "checked", base.folder, plan, workspace.config.serving.max_lora_rank)
        result = TrainResult.model_validate_json((folder / RESULT).read_bytes())
        files = {name: (folder / name).read_bytes() for name in (WEIGHTS, CONFIG, PROBES)}
    files |= {
        TRAIN: run.staged(TRAIN),
        DEV: run.staged(DEV),
        "trained_on.json": plan.trained_on.to_bytes(),
        "losses.json": canonical_json({"train": result.losses, "dev": result.dev_losses}),
        "loss.png": draw_losses(result.losses, result.dev_losses, f"Adapter of {corpus}"),
    }
    seq, parent = (head.head.seq + 1, head.head.adapter) if head.head else (1, None)
    manifest = _manifest(workspace, plan, result, rank).model_copy(update={"seq": seq, "parent": parent})
    files["README.md"] = write_card(manifest, workspace.config.description).encode()
    described = {name: StoredFile(size=len(data), sha256=sha256_hex(data)) for name, data in files.items()}
    return commit_adapter(store, head, manifest.model_copy(update={"files": described}), files)


def _manifest(workspace: Workspace, plan: TrainingPlan, result: TrainResult, rank: int) -> AdapterManifest:
    """Return the manifest of an adapter before it has a place and files."""
    ends = {name: points[-1][1] for name, points in (("train", result.losses), ("dev", result.dev_losses)) if points}
    return AdapterManifest(
        corpus=workspace.corpus,
        seq=1,
        parent=None,
        op_id=plan.op_id,
        base_model=plan.base_model,
        dataset=plan.dataset,
        snapshot=plan.snapshot,
        settings=plan.settings,
        renderer=plan.renderer,
        refusal=plan.refusal,
        audience=plan.audience,
        recipe=plan.recipe.model_dump(mode="json"),
        versions={**result.versions, "tidegate": __version__, "code": plan.code},
        rank=rank,
        counts=plan.counts,
        losses=ends,
        files={},
    )


def _same_base_model(workspace: Workspace, plan: TrainingPlan) -> BaseModelFiles:
    """Return this worker's base model; raise ``TrainingSpecInvalidError`` if it is not the plan's."""
    base = find_base_model(workspace.config.base_model.model)
    if base.identity != plan.base_model:
        raise TrainingSpecInvalidError(
            f"the rows were made for base model {_named(plan.base_model)}, this worker has {_named(base.identity)}",
            next_action="install the same base model on every worker, run 'tidegate setup', and clear from prepare",
        )
    return base


def _spec(workspace: Workspace, plan: TrainingPlan, base: BaseModelFiles, folder: Path) -> TrainSpec:
    return TrainSpec(
        recipe=plan.recipe,
        base_model=base.folder,
        base_model_id=plan.base_model.id,
        train=folder / TRAIN,
        dev=folder / DEV,
        output=folder / "out",
        resume=newest_checkpoint(workspace.store, workspace.corpus, plan.op_id, folder / "resume"),
        checkpoint_seconds=training_of(workspace.config).checkpoint_minutes * 60,
    )


def _keeping(workspace: Workspace, plan: TrainingPlan, on_event: OnEvent | None) -> OnEvent:
    """Return what is done with an event: keep a checkpoint in the store, write a log line, hand it on."""
    log = TrainingLog()

    def happened(event: dict[str, Any]) -> None:
        if event["event"] == "checkpoint":
            keep_checkpoint(workspace.store, workspace.corpus, plan.op_id, Path(event["folder"]))
            shutil.rmtree(event["folder"])
        log(event)
        if on_event:
            on_event(event)

    return happened


def _check(output: Path, folder: Path, base_model: Path, plan: TrainingPlan, max_rank: int) -> int:
    """Check the two files that a server loads, alone in a folder; return the adapter's rank."""
    folder.mkdir(exist_ok=True)
    for name in (WEIGHTS, CONFIG):
        (folder / name).write_bytes((output / name).read_bytes())
    return check_adapter(folder, linear_modules(base_model), plan.base_model.id, max_rank).rank


def _keep_finished(workspace: Workspace, plan: TrainingPlan, output: Path) -> None:
    """Keep adapter, probes and result in the store in the form of a checkpoint, which counts when it is complete."""
    folder = output / "finished"
    folder.mkdir()
    for name in _FINISHED:
        (folder / name).write_bytes((output / name).read_bytes())
    described = {
        path.name: {"size": path.stat().st_size, "sha256": sha256_hex(path.read_bytes())} for path in folder.iterdir()
    }
    (folder / COMPLETE).write_bytes(json.dumps(described).encode())
    keep_checkpoint(workspace.store, workspace.corpus, _finished_job(plan), folder)


def _finished(workspace: Workspace, plan: TrainingPlan, folder: Path) -> Path | None:
    return newest_checkpoint(workspace.store, workspace.corpus, _finished_job(plan), folder)


def _finished_job(plan: TrainingPlan) -> str:
    return f"{plan.op_id}.finished"


def _named(identity: BaseModelIdentity) -> str:
    return f"{identity.id} ({identity.digest[:12]}, tokenizer {identity.tokenizer[:12]})"
