"""The tasks of ``dags/promote_release.py``, the only DAG that writes the champion channel."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tidegate.orchestration.steps import Step, run_step


def compose(corpus: str) -> dict[str, Any] | None:
    """Compose a release of the newest snapshot; None if it serves already or must not be promoted by policy."""

    def body(step: Step) -> tuple[dict[str, Any] | None, str]:
        from tidegate.pipelines.promote_release import compose as compose_release
        from tidegate.registry.heads import read_head

        if read_head(step.workspace.store, corpus).snapshot is None:
            return None, "release: none, there is no snapshot yet"
        candidate = compose_release(step.workspace)
        if candidate.is_champion:
            return None, f"release {candidate.release[:12]} serves already"
        if candidate.held:
            return None, f"release {candidate.release[:12]} was rolled back before; only a person may promote it again"
        if step.workspace.config.promotion.policy == "never":
            return None, f"release {candidate.release[:12]} is ready; promotion.policy is never"
        return asdict(
            candidate
        ), f"release {candidate.release[:12]} is ready, {(candidate.champion or 'nothing')[:12]} serves"

    return run_step(corpus, "compose", body)


def publish(corpus: str, candidate: dict[str, Any]) -> dict[str, Any]:
    """Make the candidate the champion, once, whoever else tries; return its id."""

    def body(step: Step) -> tuple[dict[str, Any], str]:
        from tidegate.pipelines.promote_release import Candidate
        from tidegate.pipelines.promote_release import publish as publish_release

        done = publish_release(step.workspace, Candidate(**candidate))
        release = str(candidate["release"])
        step.run.record("promote", {"outcome": "done", "release": release})
        return {"release": release}, f"release {release[:12]} {'serves now' if done else 'had been promoted before'}"

    return run_step(corpus, "publish", body)
