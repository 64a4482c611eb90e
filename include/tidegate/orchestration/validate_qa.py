"""The tasks of ``dags/validate_qa.py``: each runs one step and hands on a name, never data."""

from __future__ import annotations

import logging
from typing import Any

from tidegate.orchestration.steps import Step, run_step

logger = logging.getLogger("tidegate")


def load(corpus: str) -> str | None:
    """Read the rows and tie them to the newest snapshot; return what was staged, None if nothing changed."""

    def body(step: Step) -> tuple[str | None, str]:
        from tidegate.pipelines.qa_staging import stage_loaded
        from tidegate.pipelines.validate_qa import load as load_rows
        from tidegate.pipelines.validate_qa import qa_source

        found = load_rows(step.workspace, qa_source(step.workspace))
        if isinstance(found, str):
            step.run.record("validate_qa", {"outcome": "done", "dataset": found})
            return None, f"nothing changed: dataset {found[:12]}"
        return stage_loaded(step.run, found), found.summary()

    return run_step(corpus, "load", body)


def validate(corpus: str, loaded_name: str) -> str:
    """Judge rows and set with Great Expectations; return the name of what was staged."""

    def body(step: Step) -> tuple[str, str]:
        import tempfile
        from pathlib import Path

        from tidegate.pipelines.data_docs import keep_pages
        from tidegate.pipelines.qa_staging import load_loaded, stage_validated
        from tidegate.pipelines.validate_qa import require_valid
        from tidegate.pipelines.validate_qa import validate as validate_rows
        from tidegate.qa.report import failure_table, summary

        loaded = load_loaded(step.run, loaded_name)
        with tempfile.TemporaryDirectory(prefix="tidegate-") as folder:
            validated = validate_rows(step.workspace, loaded, Path(folder))
            pages = keep_pages(step.run, Path(folder))
        step.run.record("rows", {"outcome": "judged", "rows": validated.report["rows"], "data_docs": pages})
        told = f"{failure_table(validated.report)}\n{summary(validated.report)}\nData Docs: {pages}"
        if validated.broken:
            logger.info("%s", told)  # above the failure block; a summary is written only where a task succeeds
        require_valid(step.workspace, validated)
        return stage_validated(step.run, validated), told

    return run_step(corpus, "validate", body)


def commit(corpus: str, loaded_name: str, validated_name: str) -> dict[str, Any]:
    """Store the dataset and move the head to it; return its digest and counts."""

    def body(step: Step) -> tuple[dict[str, Any], str]:
        from tidegate.pipelines.data_docs import first_page
        from tidegate.pipelines.qa_staging import load_loaded, load_validated
        from tidegate.pipelines.validate_qa import commit as commit_dataset
        from tidegate.qa.report import summary

        loaded, validated = load_loaded(step.run, loaded_name), load_validated(step.run, validated_name)
        dataset = commit_dataset(step.workspace, loaded, validated, step.run)
        pages = first_page(step.run, dataset)
        rows = validated.report["rows"]
        done = {"dataset": dataset, "snapshot": loaded.snapshot, "rows": rows}
        step.run.record("validate_qa", {"outcome": "done", **done, "data_docs": pages})
        return done, f"{summary(validated.report)}\nData Docs: {pages}\ndataset {dataset[:12]}"

    return run_step(corpus, "commit", body)
