"""Kill -9 at every write of a validation: the head names the old or the new dataset, whole, and a re-run ends alike.

Great Expectations takes seconds to import, so one process imports it and every run is a fork of it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.pipelines.basins import index, page, row, save, ten_rows, write_pages
from tidegate.core import keys
from tidegate.core.protocols import ArtifactStore
from tidegate.registry.datasets import read_dataset_head, verify_dataset
from tidegate.registry.file_store import FileStore
from tidegate.registry.store import open_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

RUNS = """
import json, os, sys, traceback
import great_expectations.render.renderer.site_builder, pandas
from tidegate.cli.main import main
from tidegate.pipelines import validate_qa
statuses = []
for store, environment in json.loads(sys.stdin.read()):
    child = os.fork()
    if child == 0:
        os.environ.update(environment)
        os.dup2(2, 1)
        os._exit(main(["qa", "validate", "--store", store]))
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(statuses))
"""
CORPUS = """
source: {path: documents}
qa: {path: qa.jsonl, min_rows: 1, max_failed_share: 0.2}
"""


@dataclass(frozen=True)
class Project:
    """A project whose set is due for validation, and the store as it was before."""

    home: Path
    store: Path

    def run(self, jobs: list[tuple[str, dict[str, str]]]) -> list[int]:
        """Run `tidegate qa validate` once per (store, environment); return how each ended."""
        done = subprocess.run(
            [sys.executable, "-c", RUNS],
            input=json.dumps(jobs),
            env=os.environ | {"TIDEGATE_HOME": str(self.home), "PYTHONPATH": str(ROOT / "include")},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return list(json.loads(done.stdout))


@pytest.fixture(params=["first", "next"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    """A set that was never validated, or one whose rows and pages changed since."""
    (tmp_path / "include" / "corpora").mkdir(parents=True)
    (tmp_path / "include" / "corpora" / "test.yaml").write_text(CORPUS)
    folder, project = tmp_path / "documents", Project(tmp_path, tmp_path / "store")
    folder.mkdir()
    write_pages(folder)
    save(folder, ten_rows())
    index(folder, FileStore(project.store))
    if request.param == "next":
        assert project.run([(str(project.store), {})]) == [0]
        (folder / "anchor.md").write_text(page("anchor", 11, " in summer"))
        index(folder, FileStore(project.store))
        save(
            folder, [*ten_rows(), row("jetty", 20, id="new", question="Is the jetty green?"), row("buoy", 99, id="bad")]
        )
    return project


def head(store: ArtifactStore) -> str | None:
    return read_dataset_head(store, "test").dataset


def check_whole(store: ArtifactStore, dataset: str) -> None:
    """Read a dataset back, and see that its Data Docs are there."""
    verify_dataset(store, "test", dataset)
    assert store.read(f"{keys.dataset_pages('test', dataset)}/index.html") is not None


def passed(project: Project) -> tuple[list[str], str | None]:
    """Return the failpoints that an undisturbed run passes, and the dataset that it makes."""
    undisturbed = shutil.copytree(project.store, project.home / "undisturbed")
    trace = project.home / "trace"
    assert project.run([(str(undisturbed), {"TIDEGATE_FAILPOINT_TRACE": str(trace)})]) == [0]
    return trace.read_text().split(), head(FileStore(undisturbed))


def check_kills(project: Project, at: Callable[[int], str], kills: int, made: str | None) -> list[str | None]:
    """Kill a run at each point, each in a store of its own, and run again; return the heads in between."""
    stores = {point: at(point) for point in range(1, kills + 1)}
    before = head(FileStore(project.store))
    jobs = [(store, {"TIDEGATE_FAILPOINT": f"#{point}=kill"}) for point, store in stores.items()]
    assert project.run(jobs) == [-signal.SIGKILL] * kills
    opened = [open_store(store, base=project.home) for store in stores.values()]
    heads = [head(store) for store in opened]
    assert set(heads) == {before, made}
    for store, dataset in zip(opened, heads, strict=True):
        if dataset is not None:
            check_whole(store, dataset)
    assert project.run([(store, {}) for store in stores.values()]) == [0] * kills
    for store in opened:
        assert head(store) == made
        check_whole(store, made)
    return heads


def test_a_validation_killed_anywhere_leaves_the_old_or_the_new_dataset_and_a_re_run_makes_the_same(
    project: Project,
) -> None:
    points, made = passed(project)
    assert points.index("dataset-written") < points.index("dataset-committed")
    assert len(points) > 20

    def copied(point: int) -> str:
        return str(shutil.copytree(project.store, project.home / f"killed-{point}"))

    heads = check_kills(project, copied, len(points), made)
    moved = heads.index(made)
    assert set(heads[moved:]) == {made}
    assert points.index("dataset-written") < moved <= points.index("dataset-committed")


@pytest.mark.parametrize("project", ["next"], indirect=True)
def test_a_validation_on_s3_killed_anywhere_leaves_the_old_or_the_new_dataset(project: Project, s3_uri: str) -> None:
    before = {item.key: item for item in FileStore(project.store).list_keys("")}
    _, made = passed(project)

    def uploaded(point: int) -> str:
        uri = f"{s3_uri}/{point}"
        store = open_store(uri, base=project.home)
        for key in before:
            store.put(key, FileStore(project.store).read(key).data)
        return uri

    trace = project.home / "trace-s3"
    assert project.run([(uploaded(0), {"TIDEGATE_FAILPOINT_TRACE": str(trace)})]) == [0]
    check_kills(project, uploaded, len(trace.read_text().split()), made)
