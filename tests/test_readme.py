"""The README's tree is the project's: every line names something, and everything has a line."""

from __future__ import annotations

import re
import subprocess
from pathlib import PurePosixPath

from tests.conftest import ROOT

WHOLE = {
    "docs/examples",
    "tests",
    "benchmarks",
    "plugins",
    "docs/adr",
    "docs/images",
    "include/corpora",
    "include/demo",
    ".astro",
    ".ci",
}
"""Folders that one line speaks for; every other folder's files and folders have lines of their own."""


def tree() -> dict[str, str]:
    """Path to purpose, from the indented block under 'The tree'."""
    block = re.search(r"## The tree\n\n```text\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    parents: list[str] = []
    found = {}
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name, purpose = re.fullmatch(r"\s*(\S+)(?:\s{2,}(.*))?", line).groups()
        parents[depth:] = [name.rstrip("/")]
        found["/".join(parents)] = purpose or ""
    return found


def tracked() -> list[PurePosixPath]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [PurePosixPath(line) for line in listed.stdout.splitlines()]


def test_every_line_of_the_tree_names_something_and_says_what_it_is_for() -> None:
    lines = tree()
    assert [path for path in lines if not (ROOT / path).exists()] == []
    assert [path for path, purpose in lines.items() if not purpose and path != "include" and path != "docs"] == []


def test_everything_in_the_project_has_a_line() -> None:
    lines = tree()
    spoken_for = WHOLE | {path for path in lines if path.startswith("include/tidegate/")}
    missing = set()
    for path in tracked():
        above = {str(parent) for parent in path.parents}
        if str(path) not in lines and not (above & spoken_for & set(lines)):
            missing.add(str(path))
    assert sorted(missing) == ["dags/.airflowignore", "include/tidegate/__init__.py"]
