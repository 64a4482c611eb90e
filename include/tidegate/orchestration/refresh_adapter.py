"""The tasks of ``dags/refresh_adapter.py``: each runs one step and hands on a name, never data."""

from __future__ import annotations

from typing import Any

from tidegate.orchestration.steps import Step, run_step


def decide(corpus: str) -> bool:
    """Tell whether training is worth it; a run where it is not ends here, with the figures in the log."""

    def body(step: Step) -> tuple[bool, str]:
        from tidegate.pipelines.decide_training import decide as weigh

        found = weigh(step.workspace)
        outcome = "training" if found.train else "done"
        step.run.record("refresh_adapter", {"outcome": outcome, "reason": found.reason, "figures": found.figures})
        return found.train, f"{'train' if found.train else 'stop'}: {found.reason}"

    return run_step(corpus, "decide", body)


def prepare(corpus: str) -> str:
    """Make the training rows, check settings and budget; return the job's id."""

    def body(step: Step) -> tuple[str, str]:
        from tidegate.pipelines.decide_training import training_of
        from tidegate.pipelines.training_plan import prepare as prepare_rows

        plan, expected, files = prepare_rows(step.workspace, step.run)
        counts = plan.counts.model_dump()
        skipped = "".join(f"\n{count} rows left out: {reason}" for reason, count in files.skipped.items() if count)
        kinds = ", ".join(
            f"{counts[name]} {name}" for name in ("answered", "swapped", "withheld", "unanswerable", "practice")
        )
        told = (
            f"rows: {counts['contexts']} contexts, {kinds}, {counts['replayed']} replayed;"
            f" {counts['tokens']} tokens, the longest {counts['longest']}{skipped}\n"
            f"estimate: {expected.said(training_of(step.workspace.config))}"
        )
        return plan.op_id, told

    return run_step(corpus, "prepare", body)


def train(corpus: str) -> dict[str, Any]:
    """Train on the pool's worker, from the newest checkpoint if there is one; return what it took."""

    def body(step: Step) -> tuple[dict[str, Any], str]:
        from tidegate.pipelines.refresh_adapter import train as train_adapter

        result = train_adapter(step.workspace, step.run)
        done = {
            "steps": result.steps,
            "resumed_after": result.first_step,
            "tokens_per_second": round(result.tokens_per_second, 1),
            "filled": round(result.tokens / result.slots, 4) if result.slots else None,
        }
        losses = ", ".join(
            f"{name} {points[-1][1]:.3f}"
            for name, points in (("loss", result.losses), ("loss on dev", result.dev_losses))
            if points
        )
        told = f"train: {result.steps} steps on {result.device}, {result.tokens_per_second:.0f} tok/s; {losses}"
        return done, told

    return run_step(corpus, "train", body)


def commit(corpus: str) -> dict[str, Any]:
    """Store the adapter and move the head to it; return its key and what it was trained on."""

    def body(step: Step) -> tuple[dict[str, Any], str]:
        from tidegate.pipelines.refresh_adapter import commit as commit_adapter
        from tidegate.pipelines.training_plan import load_plan

        key, plan = commit_adapter(step.workspace, step.run), load_plan(step.run)
        done = {"adapter": key, "dataset": plan.dataset, "snapshot": plan.snapshot}
        step.run.record("refresh_adapter", {"outcome": "done", **done})
        return done, f"adapter {key[:12]} of dataset {plan.dataset[:12]} is ready"

    return run_step(corpus, "commit", body)
