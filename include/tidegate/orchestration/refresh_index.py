"""The tasks of ``dags/refresh_index.py``: each runs one step and hands on a name, never data."""

from __future__ import annotations

from typing import Any

from tidegate.orchestration.steps import Step, run_step


def detect(corpus: str) -> list[str]:
    """Find what changed; return the shards to embed, or [] if nothing changed."""

    def body(step: Step) -> tuple[list[str], str]:
        from tidegate.pipelines.refresh_index import RefreshReport
        from tidegate.pipelines.refresh_index import detect as detect_changes

        found = detect_changes(step.workspace)
        if isinstance(found, RefreshReport):
            step.run.record("refresh", {"outcome": "done", **found.as_json()})
            return [], f"nothing changed\n{found.summary()}"
        from tidegate.pipelines.staging import stage_plan

        shards = stage_plan(step.run, found, step.workspace.config.refresh.shard_bytes)
        return [shard.name for shard in shards], f"{found.summary()}, shards: {len(shards)}"

    return run_step(corpus, "detect", body)


def embed(corpus: str, shard_name: str) -> int:
    """Embed one shard of the plan; return the number of texts. A shard that was staged before is not embedded again."""

    def body(step: Step) -> tuple[int, str]:
        from tidegate.pipelines.refresh_index import embed as embed_texts
        from tidegate.pipelines.staging import Shard, has_vectors, load_texts, shard_texts, stage_vectors

        shard = Shard.parse(shard_name)
        texts = shard_texts(load_texts(step.run, shard.plan), shard)
        if has_vectors(step.run, shard):
            return len(
                texts
            ), f"shard {shard.number + 1} of {shard.of}: {len(texts)} chunks were embedded by an earlier try"
        stage_vectors(step.run, shard, embed_texts(step.workspace, texts))
        return len(texts), f"shard {shard.number + 1} of {shard.of}: {len(texts)} chunks embedded"

    return run_step(corpus, "embed", body)


def commit(corpus: str, shard_names: list[str]) -> dict[str, Any]:
    """Build, verify and commit the snapshot; return its digest and the counts."""

    def body(step: Step) -> tuple[dict[str, Any], str]:
        from tidegate.pipelines.refresh_index import commit as commit_plan
        from tidegate.pipelines.staging import Shard, load_plan, load_vectors

        shards = [Shard.parse(name) for name in shard_names]
        plan = load_plan(step.run, shards[0].plan)
        dimension = step.workspace.embedder_identity.dimension
        report = commit_plan(step.workspace, plan, load_vectors(step.run, shards, len(plan.capture.texts), dimension))
        step.run.record(
            "refresh", {"outcome": "done", **report.as_json(), "bytes_written": step.workspace.store.bytes_written}
        )
        return {"snapshot": report.snapshot, "documents": report.documents, "chunks": report.chunks}, report.summary()

    return run_step(corpus, "commit", body)
