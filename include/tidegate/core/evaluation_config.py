"""The sections of a corpus file that decide how a candidate is measured, what it must reach, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tidegate.core.errors import suggest
from tidegate.core.sections import Section
from tidegate.core.yaml_files import read_mapping

COST_PRESETS = Path(__file__).with_name("cost_presets.yaml")
"""Price lists by name, each in the form of the section ``costs``."""
_MOST = 1_000_000_000
"""Largest price and volume: more is a slip of the keyboard, in any currency."""


def _no_slip(amount: float) -> float:
    if amount > _MOST:
        raise ValueError(f"should be at most {_MOST:,}")
    return amount


Amount = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_no_slip)]


class EndpointConfig(Section):
    """An OpenAI-compatible endpoint."""

    url: str = Field(min_length=1)
    """Without ``/v1``."""
    model: str = Field(min_length=1)
    """Name under which it serves the model."""
    dtype: str = "unknown"
    """What it computes in; it does not tell."""


class EvaluationConfig(Section):
    """How candidate and champion are measured."""

    base_prompt: str = "few-shot"
    """Prompt of the arms without an adapter; `tidegate evaluate adapter` shows which does best on dev."""
    max_rows: int = Field(default=1000, ge=1)
    """Rows of the holdout that are asked at most; drawn by their ids, the same at every evaluation."""
    seed: int = Field(default=0, ge=0)
    """Seed of the permutation test and of the bootstrap."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the base model computes in, in this process; ``auto``: bfloat16 where the processor multiplies in it."""
    endpoint: EndpointConfig | None = None
    """Where answers are generated; null: in the task's own process."""
    general: str | None = None
    """JSONL file of general questions ({"question", "answer"}) that guard against forgetting; null: those built in."""
    latency_requests: int = Field(default=16, ge=0)
    """Questions whose answer is timed, per arm that could serve; 0 leaves latency out."""
    latency_concurrency: int = Field(default=1, ge=1, le=256)
    """How many of them at a time; more than one needs an endpoint."""
    max_latency_seconds: float | None = Field(default=None, gt=0)
    """A way of serving whose median latency is above is not recommended."""
    max_cost_per_1000: float | None = Field(default=None, gt=0)
    """A way of serving that costs more per 1,000 queries is not recommended."""
    judge: EndpointConfig | None = None
    """An LLM that compares answers; it is recorded and warns, it never decides."""

    @model_validator(mode="after")
    def _one_at_a_time_without_an_endpoint(self) -> Self:
        if self.endpoint is None and self.latency_concurrency > 1:
            raise ValueError(
                f"latency_concurrency {self.latency_concurrency} needs an endpoint:"
                " in the task's own process one question is answered at a time; valid: 1"
            )
        return self


class GateConfig(Section):
    """What a candidate must reach before anybody is asked. Shares are 0 to 1."""

    min_correct: float = Field(default=0.0, ge=0, le=1)
    """Floor of the primary metric: the answer is right, or refuses where nothing answers."""
    min_refusals: float = Field(default=0.5, ge=0, le=1)
    """Floor of the share of unanswerable questions that are refused."""
    max_wrong_refusals: float = Field(default=0.2, ge=0, le=1)
    """Ceiling of the share of answerable questions that are refused."""
    min_recall: float = Field(default=0.5, ge=0, le=1)
    """Floor of recall@10 of retrieval, by document."""
    margin: float = Field(default=0.03, ge=0, le=1)
    """What a candidate may lose where it need not win: unchanged rows, retrieval, refusals."""
    tag_margin: float = Field(default=0.1, ge=0, le=1)
    """What a tag may lose against the champion; tags of fewer rows than `min_tag_rows` are shown, not judged."""
    min_tag_rows: int = Field(default=20, ge=1)
    forgetting_margin: float = Field(default=0.1, ge=0, le=1)
    """What the adapter may lose against the base model on general questions."""
    max_churn: float = Field(default=0.4, ge=0, le=1)
    """Share of the documents that may have changed since the champion."""
    max_held_share: float = Field(default=0.02, ge=0, le=1)
    max_held_days: float = Field(default=14.0, ge=0)
    """Limits of documents in quarantine or with withheld deletions."""
    max_latency_seconds: float | None = Field(default=None, gt=0)
    """Ceiling of the median latency of the arm that would serve."""


class CostsConfig(Section):
    """Prices of what answers, what is kept ready and what is paid per refresh; each is added, 0 costs nothing."""

    preset: str | None = None
    """A name of core/cost_presets.yaml; keys of the file win over it."""
    source: str = ""
    """Where the prices were found."""
    currency: str = Field(default="USD", min_length=1)
    gpu_hour: Amount = 0.0
    """Price of an hour in which the machine answers."""
    inference_per_month: Amount = 0.0
    """What keeping that machine ready costs before the first query."""
    input_per_million_tokens: Amount = 0.0
    output_per_million_tokens: Amount = 0.0
    """Prices of an LLM API's prompt and answer tokens; 0 where the base model runs on your own machine."""
    embedding_per_million_tokens: Amount = 0.0
    vector_store_per_month: Amount = 0.0
    data_preparation: Amount = 0.0
    """Price of the questions that an adapter is trained on, paid once."""
    training_run: Amount = 0.0
    training_hour: Amount = 0.0
    """Price of one training run, and of each hour that it took."""
    labour_hour: Amount = 0.0
    labour_hours_per_month: Amount = 0.0
    api_per_query: Amount = 0.0
    """What one query costs through a managed API that you compare with."""
    api_per_month: Amount = 0.0
    """What that API costs beside its queries."""
    adapter_refreshes_per_month: Amount = 2.0
    index_refreshes_per_month: Amount = 4.0
    amortised_months: int = Field(default=12, ge=1)
    """Months over which what is paid once is spread."""
    queries_per_month: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    """Volumes of the table and the chart."""

    @model_validator(mode="before")
    @classmethod
    def _preset_fills_in(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("preset") is None:
            return values
        presets = {name: prices for name, prices in read_mapping(COST_PRESETS).items() if isinstance(prices, Mapping)}
        name = str(values["preset"])
        if name not in presets:
            raise ValueError(f"preset {name!r} is no price list{suggest(name, presets)}")
        return {**presets[name], **values}

    @model_validator(mode="after")
    def _volumes_are_volumes(self) -> Self:
        if not self.queries_per_month or not all(1 <= volume <= _MOST for volume in self.queries_per_month):
            volumes = list(self.queries_per_month)
            raise ValueError(f"queries_per_month must hold volumes of 1 to {_MOST:,}, got {volumes}")
        return self
