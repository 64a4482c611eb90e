"""Train an adapter: ``python -m tidegate.recipes.train_adapter SPEC``.

SPEC is a JSON file (``training/spec.py``). Events go to standard output, one JSON object a line, behind ``EVENT ``;
the result to ``result.json`` in the output folder, last. Exit code 0: done; 3: a typed failure, said in the last
event; anything else: the process was stopped, and the same call goes on from a checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from tidegate.core.canonical import canonical_json
from tidegate.core.errors import TidegateError
from tidegate.training.launcher import EVENT, FAILED, RESULT
from tidegate.training.spec import TrainSpec


def main() -> int:
    """Run one job."""
    parser = argparse.ArgumentParser(prog="train_adapter")
    parser.add_argument("spec", type=Path)
    spec = TrainSpec.model_validate_json(parser.parse_args().spec.read_bytes())
    os.environ["OMP_NUM_THREADS"] = str(spec.recipe.threads)  # before torch is loaded
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    spec.output.mkdir(parents=True, exist_ok=True)
    try:
        result = _train(spec)
    except TidegateError as failure:
        _say({"event": "failed", "code": failure.code, "what": failure.what})
        return FAILED
    (spec.output / RESULT).write_bytes(canonical_json(result.model_dump(mode="json")))
    _say({"event": "done", "steps": result.steps})
    return 0


def _train(spec: TrainSpec) -> Any:
    if spec.recipe.backend == "unsloth":
        from tidegate.training import unsloth_backend

        return unsloth_backend.train(spec, _say)
    from tidegate.training import trl_backend

    return trl_backend.train(spec, _say)


def _say(event: dict[str, Any]) -> None:
    sys.stdout.write(f"{EVENT}{json.dumps(event)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
