"""Evaluate a composition once: its key is the digest of all that decides it, and who comes second reads the first."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tidegate.core import keys
from tidegate.core.canonical import canonical_json, digest_of, sha256_hex
from tidegate.core.errors import ApprovalInvalidError, ConfigInvalidError, ObjectMissingError
from tidegate.core.evaluation_records import EvaluationReport
from tidegate.core.failpoints import reach
from tidegate.core.records import Bundle, Evaluation, EvaluationInputs
from tidegate.evaluation.answer_cache import CachedGenerator
from tidegate.evaluation.generation import Generator
from tidegate.pipelines.asking import StageProgress
from tidegate.pipelines.compose_release import Composition
from tidegate.pipelines.evaluation_arms import Side, adapter_name
from tidegate.pipelines.measure_release import Measurement, ReleaseMeter
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.adapters import place_adapter, read_adapter
from tidegate.registry.evaluations import read_evaluation, read_report, write_evaluation, write_report
from tidegate.training.base_model import find_base_model
from tidegate.training.machine import fitting_precision, processors

ENDPOINT_KEY = "TIDEGATE_ENDPOINT_KEY"
"""Environment variable with the API key of ``evaluation.endpoint``."""
JUDGE_KEY = "TIDEGATE_JUDGE_KEY"
"""That of ``evaluation.judge``."""
_CODE = (
    "evaluation/answer_metrics.py",
    "evaluation/costs.py",
    "evaluation/gate.py",
    "evaluation/general.jsonl",
    "evaluation/retrieval_metrics.py",
    "evaluation/serving_mode.py",
    "evaluation/significance.py",
    "pipelines/asking.py",
    "pipelines/evaluation_arms.py",
    "pipelines/freshness.py",
    "pipelines/measure_release.py",
)
"""What decides figures from the same answers."""
_HOUR = 3600.0


@dataclass(frozen=True)
class Evaluated:
    """An evaluation with its report, and what it took this time."""

    evaluation: Evaluation
    report: EvaluationReport
    asked: int = 0
    generated: int = 0
    """Prompts that the engine had to answer; the others were answered before."""
    seconds: float = 0.0


def inputs_of(workspace: Workspace, composition: Composition) -> EvaluationInputs:
    """Return what an evaluation of this composition is keyed by."""
    if composition.dataset is None:
        raise ValueError("a composition without a dataset is not evaluated")
    config, serving = workspace.config, composition.serving
    settings = {
        "evaluation": config.evaluation.model_dump(mode="json"),
        "gate": config.gate.model_dump(mode="json"),
        "costs": config.costs.model_dump(mode="json"),
        "champion_mode": serving.serving_mode if serving else None,
        "champion_dataset": serving.dataset if serving else None,
        "audience": config.training.audience if config.training else None,
        "code": _code_digest(),
    }
    return EvaluationInputs(
        bundle=composition.bundle.digest,
        champion_bundle=serving.bundle.digest if serving else None,
        dataset=composition.dataset,
        settings=digest_of(settings),
        seed=config.evaluation.seed,
    )


def evaluate(
    workspace: Workspace, composition: Composition, progress: StageProgress, generator: Generator | None = None
) -> Evaluated:
    """Return the evaluation of a composition, measured now unless it was before.

    ``generator`` is used instead of the configured engine. Raises ``GenerationFailedError`` if the engine fails.
    """
    inputs = inputs_of(workspace, composition)
    key = digest_of(inputs.model_dump(mode="json"))
    known = read_evaluated(workspace, key)
    if known is not None:
        return known
    started = time.monotonic()
    bundles = [composition.bundle, *([composition.serving.bundle] if composition.serving else [])]
    _require_one_base_model(workspace, bundles)
    with engine_of(workspace, bundles, generator) as engine:
        cached = CachedGenerator(engine, workspace.store, workspace.corpus)
        meter = _meter(workspace, composition, cached, engine, progress=progress, key=key)
        measured = meter.run()
    report = measured.report
    evaluation = Evaluation(
        inputs=inputs,
        arms={arm.arm: {name: figure.value for name, figure in arm.slices["all"].items()} for arm in report.arms},
        verdict=report.comparison.verdict if report.comparison else None,
        rules=report.rules,
    )
    stored = write_evaluation(workspace.store, workspace.corpus, evaluation, _predictions(measured))
    winner = read_evaluated(workspace, key) if stored != evaluation else None
    if winner is not None:
        return winner  # another writer was first: its results count, and its report says the same
    write_report(workspace.store, workspace.corpus, key, "report.json", report.to_bytes())
    reach("K9")
    return Evaluated(stored, report, cached.asked, cached.generated, time.monotonic() - started)


def require_evaluated(workspace: Workspace, composition: Composition, key: str | None) -> Evaluated | None:
    """Return the stored evaluation of a composition, None if it has no dataset.

    Raises ``ObjectMissingError`` if ``key`` names none, ``ApprovalInvalidError`` if it is that of something else.
    """
    if composition.dataset is None:
        return None
    found = read_evaluated(workspace, key or "")
    if found is None:
        raise ObjectMissingError(f"evaluation {(key or 'none')[:12]} is not in {workspace.store.uri}")
    if found.evaluation.inputs != inputs_of(workspace, composition):
        raise ApprovalInvalidError(
            f"evaluation {found.evaluation.key[:12]} measured something else than this run composed, or with other"
            " settings or code",
            next_action="trigger promote_release again: a new run evaluates what is newest",
        )
    return found


def read_evaluated(workspace: Workspace, key: str) -> Evaluated | None:
    """Return an evaluation with its report, None unless both are stored."""
    evaluation = read_evaluation(workspace.store, workspace.corpus, key)
    data = read_report(workspace.store, workspace.corpus, key, "report.json") if evaluation else None
    if evaluation is None or data is None:
        return None
    return Evaluated(
        evaluation, EvaluationReport.from_bytes(data, key=f"{keys.evaluation(workspace.corpus, key)}/report.json")
    )


def _meter(
    workspace: Workspace,
    composition: Composition,
    cached: CachedGenerator,
    engine: Generator,
    *,
    progress: StageProgress,
    key: str,
) -> ReleaseMeter:
    model = find_base_model(workspace.config.base_model.model).folder
    dataset, serving = composition.dataset or "", composition.serving
    bundle = composition.bundle
    return ReleaseMeter(
        composition=composition,
        candidate=Side(workspace, bundle, dataset, model),
        champion=Side(workspace, serving.bundle, dataset, model) if serving else None,
        generator=cached,
        engine=engine,
        progress=progress,
        evaluation=key,
        training_hours=_training_hours(workspace, bundle.adapter.key) if bundle.adapter else None,
        judge_key=os.environ.get(JUDGE_KEY),
    )


def _require_one_base_model(workspace: Workspace, bundles: Sequence[Bundle]) -> None:
    """Raise ``ConfigInvalidError`` if a bundle answers with another base model than the settings name."""
    now = find_base_model(workspace.config.base_model.model).identity
    for bundle in bundles:
        if bundle.adapter and bundle.base_model and bundle.base_model != now:
            raise ConfigInvalidError(
                f"the adapter {bundle.adapter.key[:12]} that serves belongs to base model {bundle.base_model.id}, which"
                " base_model.model does not name any more: it cannot be measured as it serves",
                next_action="let a release without an adapter serve first (tidegate rollback), then promote again",
            )


@contextmanager
def engine_of(
    workspace: Workspace, bundles: Sequence[Bundle], generator: Generator | None = None
) -> Iterator[Generator]:
    """Yield ``generator``, or the configured engine, which knows the adapters of some bundles."""
    config = workspace.config
    endpoint = config.evaluation.endpoint
    if generator is not None:
        yield generator
        return
    if endpoint is not None:
        from tidegate.evaluation.openai_generator import OpenAiGenerator

        secret = os.environ.get(ENDPOINT_KEY)
        yield OpenAiGenerator(endpoint.url, endpoint.model, dtype=endpoint.dtype, api_key=secret)
        return
    from tidegate.evaluation.transformers_generator import TransformersGenerator

    base = find_base_model(config.base_model.model)
    chosen = sorted({bundle.adapter.key for bundle in bundles if bundle.adapter})
    threads = config.training.threads if config.training else 0
    with tempfile.TemporaryDirectory(prefix="tidegate-") as scratch:
        adapters = {}
        for key in chosen:
            name = adapter_name(workspace.corpus, key)
            adapters[name] = place_adapter(workspace.store, workspace.corpus, key, Path(scratch) / name)
        yield TransformersGenerator(
            base.folder,
            base.identity,
            adapters,
            precision=fitting_precision(config.evaluation.precision),
            threads=threads or processors(),
        )


def _predictions(measured: Measurement) -> bytes:
    """Return every answer, an arm and a row a line."""
    return b"".join(
        canonical_json(
            {
                "arm": arm,
                "row": row,
                "answer": answer.text,
                "correct": answer.judged.correct,
                "refused": answer.judged.refused,
                "documents": [passage.document for passage in answer.asked.passages],
            }
        )
        + b"\n"
        for arm, answers in measured.answers.items()
        for row, answer in sorted(answers.answers.items())
    )


def _training_hours(workspace: Workspace, key: str) -> float | None:
    """Return the hours that an adapter's tokens take at the pool's last throughput; None if that is not known."""
    training = workspace.config.training
    if training is None:
        return None
    stored = workspace.store.read(keys.throughput(workspace.corpus, training.pool))
    try:
        speed = float(json.loads(stored.data)["tokens_per_second"]) if stored else 0.0
    except (ValueError, KeyError, TypeError):
        return None
    tokens = read_adapter(workspace.store, workspace.corpus, key).counts.tokens * training.epochs
    return tokens / speed / _HOUR if speed else None


@cache
def _code_digest() -> str:
    """Return the digest of the modules that decide figures from the same answers."""
    root = Path(__file__).parents[1]
    return digest_of({name: sha256_hex((root / name).read_bytes()) for name in _CODE})
