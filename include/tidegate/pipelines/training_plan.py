"""What is to be trained: rows, settings and their checks, staged for the task that trains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from tidegate.core.adapter_records import AdapterCounts
from tidegate.core.canonical import digest_of, sha256_hex
from tidegate.core.errors import DatasetMissingError
from tidegate.core.records import BaseModelIdentity, TrainedOn
from tidegate.pipelines.decide_training import Estimate, estimate, require_budget, settings_digest, training_of
from tidegate.pipelines.training_rows import RowSource, TrainingFiles, lengths_of, make_files
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.adapters import read_adapter_head
from tidegate.registry.datasets import read_dataset_head
from tidegate.registry.heads import read_head
from tidegate.registry.runs import Run
from tidegate.training.base_model import find_base_model
from tidegate.training.machine import fitting_precision, processors
from tidegate.training.preflight import check_recipe, layers_of, linear_modules, resolved_targets
from tidegate.training.spec import LoraShape, Recipe

PLAN, TRAIN, DEV = "training-plan.json", "train.jsonl", "dev.jsonl"
_SAME_NAMES = frozenset(Recipe.model_fields) - {"lora", "precision", "threads"}
"""Parts of a recipe that are settings as they stand."""


@dataclass(frozen=True)
class TrainingPlan:
    """A job that is ready to be trained."""

    op_id: str
    parent: str | None
    """Digest of the newest adapter when the plan was made; another one by the time of the commit wins."""
    audience: tuple[str, ...]
    dataset: str
    snapshot: str
    base_model: BaseModelIdentity
    recipe: Recipe
    settings: str
    renderer: str
    refusal: str
    code: str
    counts: AdapterCounts
    trained_on: TrainedOn


def prepare(workspace: Workspace, run: Run) -> tuple[TrainingPlan, Estimate, TrainingFiles]:
    """Make the training files, check them and the settings, and stage both for the task that trains.

    Raises ``TrainingSpecInvalidError`` for what cannot be trained or served, ``BudgetExceededError`` for what costs too
    much; nothing is spent before.
    """
    config = workspace.config
    base = find_base_model(config.base_model.model)
    recipe = recipe_of(workspace, base.folder)
    source = RowSource(workspace, training_of(config), *require_dataset(workspace), base.folder)
    files = make_files(source)
    check_recipe(recipe, lengths_of(files.train), base.config, config.serving.max_lora_rank)
    expected = estimate(workspace, files.counts.tokens)
    require_budget(workspace, expected)
    plan = _plan(source, files, recipe, base.identity)
    run.stage(TRAIN, files.train)
    run.stage(DEV, files.dev)
    run.stage(PLAN, TypeAdapter(TrainingPlan).dump_json(plan))
    return plan, expected, files


def load_plan(run: Run) -> TrainingPlan:
    """Return the staged plan; raise ``StageMissingError`` if an earlier task left none."""
    return TypeAdapter(TrainingPlan).validate_json(run.staged(PLAN))


def require_dataset(workspace: Workspace) -> tuple[str, str]:
    """Return the newest dataset and snapshot; raise ``DatasetMissingError`` if one is missing."""
    dataset = read_dataset_head(workspace.store, workspace.corpus).dataset
    snapshot = read_head(workspace.store, workspace.corpus).snapshot
    if dataset is None or snapshot is None:
        raise DatasetMissingError(f"corpus {workspace.corpus} in {workspace.store.uri} has no dataset yet")
    return dataset, snapshot


def recipe_of(workspace: Workspace, base_model: Path) -> Recipe:
    """Return the recipe that the settings ask for on this machine."""
    training = training_of(workspace.config)
    modules, lora = linear_modules(base_model), training.lora
    skipped = int(lora.skipped_share * layers_of(modules))
    shape = lora.model_dump(exclude={"targets", "skipped_share"})
    return Recipe(
        lora=LoraShape(**shape, targets=resolved_targets(lora.targets, modules), skip_layers=skipped),
        precision=fitting_precision(training.precision),
        threads=training.threads or processors(),
        **training.model_dump(include=set(_SAME_NAMES)),
    )


def code_digest() -> str:
    """Return the digest of the modules that make rows and adapters, and of the instructions that are replayed."""
    root = Path(__file__).parents[1]
    folders = [root / name for name in ("prompting", "training", "recipes")]
    sources = sorted(path for folder in folders for kind in ("*.py", "*.jsonl") for path in folder.glob(kind))
    return digest_of({path.relative_to(root).as_posix(): sha256_hex(path.read_bytes()) for path in sources})


def _plan(source: RowSource, files: TrainingFiles, recipe: Recipe, base_model: BaseModelIdentity) -> TrainingPlan:
    """Return the plan; the job's id follows from all that decides the adapter."""
    config, code = source.workspace.config, code_digest()
    prompt, head = config.prompt, read_adapter_head(source.workspace.store, config.corpus).head
    renderer = source.renderer.digest(window_tokens=prompt.window_tokens, passages=prompt.passages)
    decided = {
        "base_model": base_model.model_dump(mode="json"),
        "dataset": source.dataset_digest,
        "snapshot": source.snapshot_digest,
        "recipe": recipe.digest,
        "renderer": renderer,
        "files": [sha256_hex(files.train), sha256_hex(files.dev)],
        "code": code,
        "audience": source.training.audience,
    }
    return TrainingPlan(
        op_id=digest_of(decided),
        parent=head.adapter if head else None,
        audience=source.training.audience,
        dataset=source.dataset_digest,
        snapshot=source.snapshot_digest,
        base_model=base_model,
        recipe=recipe,
        settings=settings_digest(config),
        renderer=renderer,
        refusal=source.renderer.refusal,
        code=code,
        counts=files.counts,
        trained_on=files.trained_on,
    )
