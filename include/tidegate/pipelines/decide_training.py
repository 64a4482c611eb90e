"""Whether training an adapter is worth it now, and what it would take."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tidegate.core import keys
from tidegate.core.adapter_records import AdapterManifest
from tidegate.core.canonical import digest_of
from tidegate.core.config import CorpusConfig
from tidegate.core.errors import BudgetExceededError, ConfigInvalidError, DatasetMissingError
from tidegate.core.protocols import ArtifactStore
from tidegate.core.records import TrainedOn
from tidegate.core.training_config import TrainingConfig
from tidegate.indexing.snapshot import Snapshot
from tidegate.pipelines.training_rows import unreadable
from tidegate.pipelines.validate_qa import read_whole_dataset
from tidegate.pipelines.workspace import Workspace
from tidegate.prompting.renderer import ADAPTER_PROMPT, CITING_PROMPT
from tidegate.qa.dataset import Dataset
from tidegate.registry.adapters import read_adapter, read_adapter_file, read_adapter_head
from tidegate.registry.datasets import read_dataset_head
from tidegate.registry.heads import read_head
from tidegate.training.base_model import find_base_model

_DAY = 86_400.0
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to train, and why: the figures beside their limits."""

    train: bool
    reason: str
    figures: dict[str, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a training run will take."""

    tokens: int
    tokens_per_second: float
    measured: bool
    """Whether that is what this pool did the last time; else it is the configured assumption."""

    @property
    def hours(self) -> float:
        """Hours of the pool."""
        return self.tokens / self.tokens_per_second / _HOUR

    def cost(self, price_per_hour: float) -> float:
        """Money, in the currency of the price."""
        return self.hours * price_per_hour

    def said(self, config: TrainingConfig) -> str:
        """Return the estimate in one line."""
        money = f", {self.cost(config.budget.price_per_hour):.2f} in money" if config.budget.price_per_hour else ""
        source = "measured last time" if self.measured else "assumed"
        speed = f"{self.tokens_per_second:.0f} tok/s ({source})"
        return f"{self.tokens} tokens at {speed}: {self.hours * 60:.1f} minutes{money}"


def training_of(config: CorpusConfig) -> TrainingConfig:
    """Return the corpus's training settings; raise ``ConfigInvalidError`` if it has none."""
    if config.training is None:
        raise ConfigInvalidError(f"corpus {config.corpus} trains no adapter: its file has no section training")
    return config.training


def decide(workspace: Workspace) -> Decision:
    """Compare dataset, settings and newest adapter; raise ``DatasetMissingError`` before the first dataset."""
    training, store, corpus = training_of(workspace.config), workspace.store, workspace.corpus
    digest, indexed = read_dataset_head(store, corpus).dataset, read_head(store, corpus).snapshot
    if digest is None or indexed is None:
        raise DatasetMissingError(f"corpus {corpus} in {store.uri} has no dataset to train on")
    dataset = read_whole_dataset(workspace, digest)
    newest = read_adapter_head(store, corpus).head
    if newest is None:
        rows = sum(split == "train" for split in dataset.splits.values())
        return Decision(train=True, reason="no adapter was trained yet", figures={"training rows": rows})
    manifest = read_adapter(store, corpus, newest.key)
    if manifest.settings != settings_digest(workspace.config):
        return Decision(train=True, reason="base model, prompt or training settings are others than then", figures={})
    trained = _trained_on(workspace, manifest, newest.key)
    unread = unreadable(workspace.config, training.audience, Snapshot(store, corpus, indexed))
    closed = sorted(trained.documents.keys() & unread)
    if closed:
        pages = "1 learnt page" if len(closed) == 1 else f"{len(closed)} learnt pages"
        reason = f"{pages} may not be read by {', '.join(training.audience)} any more, such as {closed[0]}"
        return Decision(train=True, reason=reason, figures={"closed pages": len(closed)})
    return _by_figures(workspace, dataset, manifest, newest.key, trained)


def settings_digest(config: CorpusConfig) -> str:
    """Return the digest of all settings that decide an adapter from the same dataset and snapshot."""
    training = training_of(config)
    decided = training.model_dump(
        mode="json",
        exclude={"schedule", "pool", "queue", "executor", "decide", "budget", "checkpoint_minutes", "python"},
    )
    prompt = (CITING_PROMPT if training.rows.cite else ADAPTER_PROMPT).digest(
        window_tokens=config.prompt.window_tokens, passages=config.prompt.passages
    )
    base = find_base_model(config.base_model.model).identity.model_dump(mode="json")
    parts = {"access": config.access, "retrieval": config.retrieval}
    named = {name: part.model_dump(mode="json") for name, part in parts.items()}
    return digest_of({"training": decided, "prompt": prompt, "base_model": base, **named})


def estimate(workspace: Workspace, tokens: int) -> Estimate:
    """Return what training on so many tokens takes, by what the pool did the last time."""
    training = training_of(workspace.config)
    note = _note(workspace.store, keys.throughput(workspace.corpus, training.pool))
    alike = note.get("settings") == _speed_settings(workspace.config)
    speed = float(note["tokens_per_second"]) if alike else training.budget.tokens_per_second
    return Estimate(tokens * training.epochs, speed, measured=alike)


def require_budget(workspace: Workspace, expected: Estimate) -> None:
    """Raise ``BudgetExceededError`` with the figures if an estimate is over the budget."""
    training = training_of(workspace.config)
    budget, hours = training.budget, expected.hours
    cost = expected.cost(budget.price_per_hour)
    if hours > budget.max_hours:
        raise BudgetExceededError(
            f"training would take {hours:.2f} hours ({expected.said(training)}), training.budget.max_hours is"
            f" {budget.max_hours:g}"
        )
    if budget.max_cost and cost > budget.max_cost:
        raise BudgetExceededError(
            f"training would cost {cost:.2f} ({expected.said(training)}), training.budget.max_cost is"
            f" {budget.max_cost:g}"
        )


def note_throughput(workspace: Workspace, tokens_per_second: float) -> None:
    """Keep what this pool did, for the next estimate."""
    pool = training_of(workspace.config).pool
    note = {"tokens_per_second": round(tokens_per_second, 1), "settings": _speed_settings(workspace.config)}
    workspace.store.put(keys.throughput(workspace.corpus, pool), json.dumps(note).encode())


def _by_figures(
    workspace: Workspace, dataset: Dataset, manifest: AdapterManifest, key: str, trained: TrainedOn
) -> Decision:
    now, then = _stated(dataset), _stated(read_whole_dataset(workspace, manifest.dataset))
    changed = sum(then.get(row) != stated for row, stated in now.items()) + len(then.keys() - now.keys())
    failures = _fresh_failures(workspace, trained, dataset, key)
    age = _age_days(workspace, key)
    limits = training_of(workspace.config).decide
    figures = {"changed rows": changed, "fresh failures": failures, "age in days": round(age, 2)}
    if changed >= limits.min_changed_rows:
        return Decision(True, f"{_rows(changed, 'training ')} changed, enough is {limits.min_changed_rows}", figures)
    if failures >= limits.min_failures:
        return Decision(True, f"{failures} fresh questions fail, enough is {limits.min_failures}", figures)
    if changed and age >= limits.max_age_days:
        return Decision(True, f"{_rows(changed)} changed and it is {age:.0f} days old", figures)
    reason = (
        f"nothing to gain: {changed} of {len(now)} training rows changed (enough is {limits.min_changed_rows}),"
        f" {failures} fresh questions fail (enough is {limits.min_failures}), the adapter is {age:.1f} days old"
        f" (at {limits.max_age_days:g} one changed row is enough)"
    )
    return Decision(False, reason, figures)


def _rows(count: int, kind: str = "") -> str:
    return f"{count} {kind}{'row' if count == 1 else 'rows'}"


def _stated(dataset: Dataset) -> dict[str, str]:
    """Return what the rows of the training split say, by row."""
    return {row.id: row.example.stated for row in dataset.rows if dataset.splits.get(row.id) == "train"}


def _trained_on(workspace: Workspace, manifest: AdapterManifest, key: str) -> TrainedOn:
    data = read_adapter_file(workspace.store, workspace.corpus, key, manifest, "trained_on.json")
    return TrainedOn.from_bytes(data, key=keys.trained_on(workspace.corpus, key))


def _fresh_failures(workspace: Workspace, trained: TrainedOn, dataset: Dataset, key: str) -> int:
    """Count rows that the adapter has not seen and answered wrongly when it was evaluated last."""
    note = _note(workspace.store, keys.failures(workspace.corpus))
    if note.get("adapter") != key:
        return 0
    standing = {row.id for row in dataset.rows if row.status == "valid" and dataset.splits.get(row.id) != "holdout"}
    return len(set(note.get("rows", [])) & standing - trained.rows.keys())


def _age_days(workspace: Workspace, key: str) -> float:
    """Return the adapter's age by the store's own clock."""
    place = keys.adapter_manifest(workspace.corpus, key)
    written = next(found.modified for found in workspace.store.list_keys(place))
    return max(0.0, (workspace.store.now() - written) / _DAY)


def _speed_settings(config: CorpusConfig) -> dict[str, Any]:
    training = training_of(config)
    lora = training.lora
    return {
        "base_model": config.base_model.model,
        "backend": training.backend,
        "precision": training.precision,
        "batch_tokens": training.batch_tokens,
        "lora": [lora.r, lora.skipped_share, *lora.targets, lora.quantization],
        "threads": training.threads,
        "packing": training.packing,
        "gradient_checkpointing": training.gradient_checkpointing,
    }


def _note(store: ArtifactStore, key: str) -> dict[str, Any]:
    """Return a disposable note; {} if there is none or it is damaged."""
    stored = store.read(key)
    try:
        note = json.loads(stored.data) if stored else {}
    except ValueError:
        return {}
    return note if isinstance(note, dict) else {}
