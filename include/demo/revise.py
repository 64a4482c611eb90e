"""The working copy of the demo handbook: made from ``handbook/``, and edited as a team would edit it.

``python include/demo/revise.py reset`` makes .tidegate/demo/handbook anew (``make`` does it once, at set-up);
``python include/demo/revise.py edit`` applies ``edits.yaml``: changed values, new, moved and deleted pages.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).parent
WORKING_COPY = HERE.parents[1] / ".tidegate" / "demo" / "handbook"


def reset(target: Path) -> str:
    """Make the working copy equal to the handbook."""
    fresh = target.with_name(f"{target.name}.new")
    for folder in (fresh, target):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE / "handbook", fresh)
    fresh.rename(target)
    return f"{target} holds the handbook as written"


def edit(target: Path) -> str:
    """Apply every edit once; raise ``SystemExit`` if the working copy is not as written."""
    counts = dict.fromkeys(("replace", "add", "move", "delete"), 0)
    for entry in yaml.safe_load((HERE / "edits.yaml").read_text(encoding="utf-8")):
        ((operation, what),) = entry.items()
        page = target / what["document"]
        if operation == "replace":
            text = page.read_text(encoding="utf-8") if page.is_file() else ""
            if text.count(what["old"]) == 1:
                scratch = page.with_name(f".{page.name}")
                scratch.write_text(text.replace(what["old"], what["new"]), encoding="utf-8")
                scratch.replace(page)
            elif what["new"] not in text:
                raise SystemExit(f"{page} does not hold {what['old']!r} once: 'make demo-reset' starts over")
        elif operation == "add":
            page.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(HERE / "revision_2" / what["document"], page)
        elif operation == "move":
            (target / what["to"]).parent.mkdir(parents=True, exist_ok=True)
            if page.is_file() or not (target / what["to"]).is_file():
                page.rename(target / what["to"])
        else:
            page.unlink(missing_ok=True)
        counts[operation] += 1
    done = ", ".join(f"{count} {operation}" for operation, count in counts.items())
    return f"{target} edited: {done}; 'make run' shows what the index makes of it"


def main() -> None:
    """Run one operation on the working copy; ``reset --once`` leaves an existing one alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("operation", choices=("reset", "edit"))
    parser.add_argument("--once", action="store_true", help="with reset: do nothing if there is a working copy")
    parser.add_argument("--target", type=Path, default=WORKING_COPY)
    options = parser.parse_args()
    if options.once and options.target.is_dir():
        return
    sys.stdout.write((reset if options.operation == "reset" else edit)(options.target) + "\n")


if __name__ == "__main__":
    main()
