"""Kill -9 of an evaluation: the next try goes on with the answers that were kept, and ends with the same result."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

from tests.pipelines.release_desk import ALL, ReleaseDesk, reads
from tidegate.pipelines.verify_store import verify_corpus


def evaluate_in_a_process(desk: ReleaseDesk, **environment: str) -> int | None:
    """Evaluate in a process of its own; return its exit status."""

    def body() -> None:
        os.environ.update(environment)
        desk.evaluate()

    child = multiprocessing.get_context("fork").Process(target=body)
    child.start()
    child.join(120)
    return child.exitcode


def test_k9_an_evaluation_killed_on_its_way_is_ended_by_the_next_try_with_the_same_result(
    adapter_serves: ReleaseDesk, tmp_path: Path
) -> None:
    adapter_serves.adapter(reads(*ALL), seed=1)
    undisturbed, trace = adapter_serves.copy(tmp_path / "undisturbed"), tmp_path / "trace"
    assert evaluate_in_a_process(undisturbed, TIDEGATE_FAILPOINT_TRACE=str(trace)) == 0
    points = trace.read_text().split()
    answers, written = ["K2", "written"] * 3, ["K2", "written"] * 3
    assert points == ["K2", "read-back", *answers, *written, "K9"]
    expected, _ = undisturbed.evaluate()
    assert (expected.asked, expected.generated) == (0, 0)
    own = f"evaluations/{expected.evaluation.key}/"
    places = {
        "some answers": (6, 42, 0),
        "all answers": (9, 0, 0),
        "predictions": (10, 0, 1),
        "results": (12, 0, 2),
        "report": (14, 0, 3),
        "K9": (15, 0, 3),
    }
    for place, (number, left, files) in places.items():
        desk = adapter_serves.copy(tmp_path / place)
        assert evaluate_in_a_process(desk, TIDEGATE_FAILPOINT=f"#{number}=kill") == -signal.SIGKILL
        assert len(desk.held(own)) == files, place
        found, generator = desk.evaluate()
        assert (found.evaluation, found.report) == (expected.evaluation, expected.report)
        assert (len(generator.heard), found.asked == 0) == (left, files == 3), place
        assert desk.held(own) == undisturbed.held(own)
        verify_corpus(desk.store, desk.corpus)
