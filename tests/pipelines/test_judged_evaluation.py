"""An evaluation with an LLM judge: what it is shown, and that nothing depends on what it says."""

from __future__ import annotations

import pytest

from tests.evaluation.openai_endpoint import Endpoint, error, message, serving
from tests.pipelines.release_desk import ReleaseDesk, Scripted, reads
from tidegate.pipelines.evaluate_release import Evaluated


def asked_with(desk: ReleaseDesk, endpoint: Endpoint) -> tuple[Evaluated, Scripted]:
    """Measure what is newest with a judge behind an endpoint."""
    judge = {"url": endpoint.url, "model": "judge-1"}
    return desk.under(evaluation={"latency_requests": 0, "judge": judge}).evaluate()


def test_a_judge_is_shown_the_examples_and_decides_nothing(
    adapter_serves: ReleaseDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter_serves.adapter(reads("crane", "fee", "pilot"), seed=1)
    monkeypatch.setenv("TIDEGATE_JUDGE_KEY", "sk-judge")
    without, _ = adapter_serves.evaluate()
    with serving(Endpoint(complete=lambda body: message("A"))) as endpoint:
        judged, generator = asked_with(adapter_serves, endpoint)
        assert (set(endpoint.keys), len(endpoint.bodies)) == ({"Bearer sk-judge"}, 2 * len(judged.report.examples))
        again, _ = asked_with(adapter_serves, endpoint)
        assert (len(endpoint.bodies), again.report) == (2 * len(judged.report.examples), judged.report)
    assert (judged.report.judge["undecided"], judged.report.judge["preference"]) == ("20", "tie")
    unmoved = {"judge": {}, "evaluation": without.report.evaluation}
    assert judged.report.model_copy(update=unmoved) == without.report
    assert generator.heard == []


def test_a_judge_that_fails_is_noted_and_the_evaluation_goes_on(
    adapter_serves: ReleaseDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter_serves.adapter(reads("crane", "fee", "pilot"), seed=1)
    monkeypatch.delenv("TIDEGATE_JUDGE_KEY", raising=False)
    with serving(Endpoint(complete=lambda body: error(404, "no model `judge-1`"))) as endpoint:
        found, _ = asked_with(adapter_serves, endpoint)
        assert set(endpoint.keys) == {None}
    assert found.report.judge["failed"].endswith("404 no model `judge-1`")
    assert len(found.report.examples) == 20
    assert found.evaluation.rules == found.report.rules != ()
