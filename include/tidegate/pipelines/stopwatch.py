"""Time one answer of an arm: retrieval, prompt and generation, at a fixed number of questions at a time."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import cycle, islice

from pydantic import ValidationError

from tidegate.core import keys
from tidegate.core.canonical import digest_of
from tidegate.core.evaluation_config import EvaluationConfig
from tidegate.core.evaluation_records import LatencyReport
from tidegate.evaluation.generation import Generator
from tidegate.pipelines.asking import Asker, as_asked
from tidegate.pipelines.evaluation_arms import ArmSpec
from tidegate.pipelines.workspace import Workspace
from tidegate.qa.dataset import Row

_ENOUGH_FOR_P99 = 500


@dataclass(frozen=True)
class Stopwatch:
    """Measures arms with one engine. What was measured before with the same engine, arm and settings is not repeated.

    Times depend on the machine and on what else runs there; they are in no digest.
    """

    workspace: Workspace
    engine: Generator
    """Without a cache."""
    asker: Asker
    config: EvaluationConfig

    def measure(self, spec: ArmSpec, rows: Sequence[Row]) -> LatencyReport:
        """Return the latency of an arm over ``latency_requests`` questions, after one that warms up."""
        key = keys.latency(self.workspace.corpus, self._scope(spec))
        known = _read(self.workspace, key)
        if known is not None:
            return known
        found = self._measured(spec, list(islice(cycle(rows), self.config.latency_requests)))
        self.workspace.store.put(key, found.model_dump_json().encode())
        return found

    def _measured(self, spec: ArmSpec, rows: Sequence[Row]) -> LatencyReport:
        self._answer(spec, rows[0])
        progress = self.asker.progress(f"latency, {spec.name}")
        seconds: list[float] = []
        tokens = 0
        started = time.perf_counter()
        with ThreadPoolExecutor(self.config.latency_concurrency) as pool:
            for took, used in pool.map(lambda row: self._answer(spec, row), rows):
                seconds.append(took)
                tokens += used
                progress(len(seconds), len(rows))
        elapsed = time.perf_counter() - started
        return LatencyReport(
            requests=len(rows),
            concurrency=self.config.latency_concurrency,
            p50=percentile(seconds, 0.50),
            p95=percentile(seconds, 0.95),
            p99=percentile(seconds, 0.99) if len(seconds) >= _ENOUGH_FOR_P99 else None,
            tokens_per_second=tokens / elapsed,
        )

    def _answer(self, spec: ArmSpec, row: Row) -> tuple[float, int]:
        """Return (seconds, tokens read and written) of one answer."""
        started = time.perf_counter()
        (passages,) = spec.passages([row.example.question])
        prompt = self.asker.prompt(as_asked(row, passages), spec.renderer, spec.generator_name)
        (written,) = self.engine.generate([prompt], self.asker.decoding)
        return time.perf_counter() - started, len(prompt.tokens) + written.tokens

    def _scope(self, spec: ArmSpec) -> str:
        return digest_of(
            {
                "engine": asdict(self.engine.engine),
                "endpoint": self.config.endpoint.url if self.config.endpoint else None,
                "machine": [platform.machine(), platform.processor(), os.cpu_count()],
                "adapter": spec.adapter,
                "retrieves": spec.retrieves,
                "prompts": spec.side.prompts.digest,
                "decoding": self.asker.decoding.model_dump(),
                "requests": self.config.latency_requests,
                "concurrency": self.config.latency_concurrency,
            }
        )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of the values do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _read(workspace: Workspace, key: str) -> LatencyReport | None:
    stored = workspace.store.read(key)
    try:
        return LatencyReport.model_validate_json(stored.data) if stored else None
    except ValidationError:
        return None  # a damaged note costs measuring again
