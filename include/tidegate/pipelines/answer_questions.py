"""Answer questions as a release would: its index, its prompts, its adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.core.prompts import Passage
from tidegate.core.records import Release
from tidegate.evaluation.answer_cache import CachedGenerator
from tidegate.evaluation.generation import Generator, Prompt
from tidegate.pipelines.evaluate_release import engine_of
from tidegate.pipelines.evaluation_arms import ArmSpec, Side
from tidegate.pipelines.workspace import Workspace
from tidegate.training.base_model import find_base_model


@dataclass(frozen=True)
class GivenAnswer:
    """What a release says to a question, and the passages that it read."""

    question: str
    text: str
    passages: tuple[Passage, ...]


def answer_questions(
    workspace: Workspace, release: Release, questions: Sequence[str], generator: Generator | None = None
) -> list[GivenAnswer]:
    """Return the answers of a release that serves with a model; those known from its evaluation are not generated.

    Raises ``ValueError`` for a release of an index alone.
    """
    bundle = release.bundle
    if bundle.decoding is None or release.dataset is None:
        raise ValueError(f"release {release.digest[:12]} serves passages: no model answers")
    side = Side(workspace, bundle, release.dataset, find_base_model(workspace.config.base_model.model).folder)
    adapter = side.adapter if release.serving_mode != "rag" else None
    spec = ArmSpec("champion", side, adapter, retrieves=release.serving_mode != "adapter")
    found = spec.passages(questions)
    encode = side.source.tokenizer.encode_prompt
    prompts = [
        Prompt(tuple(encode(spec.renderer.turns(question, passages))), spec.generator_name)
        for question, passages in zip(questions, found, strict=True)
    ]
    with engine_of(workspace, [bundle], generator) as engine:
        written = CachedGenerator(engine, workspace.store, workspace.corpus).generate(prompts, bundle.decoding)
    return [
        GivenAnswer(question, completion.text, tuple(passages))
        for question, completion, passages in zip(questions, written, found, strict=True)
    ]
