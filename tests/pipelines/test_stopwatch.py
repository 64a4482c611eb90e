"""Latency: so many questions at a time, once for each engine, arm and setting, and no percentile beyond its sample."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.pipelines.release_desk import ALL, ReleaseDesk, Scripted, reads
from tidegate.core.protocols import Progress
from tidegate.core.records import DecodingSettings
from tidegate.evaluation.generation import Completion, Prompt
from tidegate.pipelines.asking import quiet
from tidegate.pipelines.evaluate_release import Evaluated, evaluate
from tidegate.pipelines.stopwatch import percentile

ENDPOINT = {"url": "http://127.0.0.1:9", "model": "base"}
SERVED = ("base+RAG", "adapter", "adapter+RAG")
SECONDS = 20.0


@dataclass
class Met(Scripted):
    """Answers a single question when enough others are being asked; the first of an arm comes alone."""

    at_once: int = 1
    arms: list[str | None] = field(default_factory=list)
    _seen: set[tuple[Any, bool]] = field(default_factory=set)
    _barrier: threading.Barrier | None = None

    def generate(
        self, prompts: Sequence[Prompt], decoding: DecodingSettings, progress: Progress | None = None
    ) -> list[Completion]:
        found = super().generate(prompts, decoding, progress)
        if len(prompts) == 1:
            heard = self._heard(prompts[0])
            arm = heard.adapter, bool(heard.passages)
            if arm in self._seen:
                self._barrier = self._barrier or threading.Barrier(self.at_once)
                self._barrier.wait(SECONDS)
            self._seen.add(arm)
            self.arms.append(heard.adapter)
        return found


def timed(desk: ReleaseDesk, at_once: int = 1) -> tuple[Evaluated, Met]:
    made = desk.scripted()
    generator = Met(made.tokenizer, made.voices, at_once=at_once)
    return evaluate(desk.workspace, desk.compose(), quiet, generator), generator


def test_as_many_questions_are_asked_at_a_time_as_the_settings_say(index_serves: ReleaseDesk) -> None:
    index_serves.adapter(reads(*ALL))
    settings = {"endpoint": ENDPOINT, "latency_requests": 6, "latency_concurrency": 3}
    found, generator = timed(index_serves.under(evaluation=settings), at_once=3)
    assert tuple(found.report.latency) == SERVED
    for latency in found.report.latency.values():
        assert (latency.requests, latency.concurrency, latency.p99) == (6, 3, None)
        assert 0 < latency.p50 <= latency.p95
        assert latency.tokens_per_second > 0
    assert len(generator.arms) == len(SERVED) * (1 + 6)
    assert generator.arms.count(None) == 1 + 6


def test_what_was_timed_is_not_timed_again_unless_its_note_is_damaged(index_serves: ReleaseDesk) -> None:
    index_serves.adapter(reads(*ALL))
    desk = index_serves.under(evaluation={"latency_requests": 2})
    first, _ = timed(desk)
    other = desk.under(gate={"min_correct": 0.01})
    again, generator = timed(other)
    assert again.evaluation.key != first.evaluation.key
    assert (generator.arms, again.report.latency) == ([], first.report.latency)
    (note, *_) = desk.held("scans/evaluation/latency/")
    desk.store.put(note, b"{")
    _, generator = timed(desk.under(gate={"min_correct": 0.02}))
    assert len(generator.arms) == 1 + 2


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 5), (0.95, 10), (0.9, 9), (0.91, 10), (0.0, 1), (1.0, 10)], ids=str
)
def test_a_percentile_is_the_smallest_value_that_the_share_does_not_exceed(share: float, expected: int) -> None:
    assert percentile([10, 2, 9, 4, 5, 6, 7, 8, 3, 1], share) == expected
