"""Things that go wrong on a real Airflow: the log ends with the right block, and the same run succeeds once mended."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.airflow.conftest import RunningAirflow
from tests.conftest import refresh
from tidegate.local.airflow import free_port
from tidegate.pipelines.status import corpus_status
from tidegate.pipelines.verify_store import verify_corpus

pytestmark = pytest.mark.airflow

NAMES = ("ebb.md", "flood.md", "slack.md")
PAGES = {name: f"# {name}\n\nWhat is known about {name}, in a few words.\n" for name in NAMES}


@dataclass
class Site:
    """An indexed corpus of three pages, one of them edited since."""

    airflow: RunningAirflow
    name: str
    documents: Path

    @property
    def stored(self) -> Path:
        """The corpus's folder in the store."""
        return self.airflow.folder / "store" / self.name

    def configure(self, **settings: Any) -> None:
        """Write the corpus file anew with more settings."""
        source = {"path": str(self.documents), **settings.pop("source", {})}
        self.airflow.write_corpus(self.name, source=source, **settings)

    def only(self, pattern: str) -> Path:
        """The one stored object that matches."""
        (path,) = self.stored.glob(pattern)
        return path


@dataclass(frozen=True)
class Injection:
    """A failure: how it is caused, what the block says, how it is mended."""

    code: str
    task: str
    what: str
    """A part of the line 'what'."""
    cause: Callable[[Site], object]
    mend: Callable[[Site], object]


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".aside")


def _hide(path: Path) -> None:
    path.rename(_aside(path))


def _show(path: Path) -> None:
    _aside(path).rename(path)


def _corrupt(path: Path) -> None:
    shutil.copy2(path, _aside(path))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _repair(path: Path) -> None:
    shutil.move(_aside(path), path)


def _bad_pages(site: Site) -> None:
    for number in range(30):
        (site.documents / f"scan{number:02}.pdf").write_bytes(b"%PDF-1.7 cut short")


def _remove_bad_pages(site: Site) -> None:
    for path in site.documents.glob("scan*.pdf"):
        path.unlink()


INJECTIONS = {
    "the folder is gone": Injection(
        "source_missing", "detect", "does not exist", lambda s: _hide(s.documents), lambda s: _show(s.documents)
    ),
    "the mount is empty": Injection(
        "source_empty",
        "detect",
        "lists no document, but the index holds 3",
        lambda s: (_hide(s.documents), s.documents.mkdir()),
        lambda s: (s.documents.rmdir(), _show(s.documents)),
    ),
    "too many documents are broken": Injection(
        "quarantine_exceeded", "detect", "30 of 33 documents failed", _bad_pages, _remove_bad_pages
    ),
    "chunks are longer than the model reads": Injection(
        "config_invalid",
        "detect",
        "chunking.max_tokens is 9999, but",
        lambda s: s.configure(chunking={"max_tokens": 9999}),
        lambda s: s.configure(),
    ),
    "the model is not on this machine": Injection(
        "embedder_missing",
        "detect",
        "models/elsewhere",
        lambda s: s.configure(embedder={"model": "path:models/elsewhere"}),
        lambda s: s.configure(),
    ),
    "the store's scheme is unknown": Injection(
        "store_uri_invalid",
        "detect",
        "ftp://somewhere",
        lambda s: s.airflow.use_store("ftp://somewhere"),
        lambda s: s.airflow.use_store(s.airflow.store),
    ),
    "the snapshot's manifest is gone": Injection(
        "object_missing",
        "detect",
        "manifest.json is not in",
        lambda s: _hide(s.only("snapshots/*/manifest.json")),
        lambda s: _show(s.only("snapshots/*/manifest.json.aside").with_suffix("")),
    ),
    "the ledger has a flipped bit": Injection(
        "object_corrupt",
        "detect",
        "documents.arrow",
        lambda s: _corrupt(s.only("segments/*/documents.arrow")),
        lambda s: _repair(s.only("segments/*/documents.arrow")),
    ),
    "the vectors have a flipped bit": Injection(
        "object_corrupt",
        "commit",
        "vectors",
        lambda s: _corrupt(s.only("segments/*/vectors.faiss")),
        lambda s: _repair(s.only("segments/*/vectors.faiss.aside").with_suffix("")),
    ),
}


@pytest.fixture
def site(airflow: RunningAirflow, request: pytest.FixtureRequest) -> Iterator[Site]:
    name = f"site{len(list((airflow.folder / 'corpora').iterdir()))}"
    refresh_settings = getattr(request, "param", {})
    documents = airflow.make_corpus(name, PAGES, refresh=refresh_settings)
    refresh(airflow.workspace(name))
    (documents / "ebb.md").write_text("# ebb.md\n\nWhat is newly known about the ebb.\n")
    yield Site(airflow, name, documents)
    airflow.use_store(airflow.store)


@pytest.mark.parametrize("injection", INJECTIONS.values(), ids=INJECTIONS.keys())
def test_a_failed_refresh_ends_its_log_with_its_block_and_works_once_mended(site: Site, injection: Injection) -> None:
    serving = corpus_status(site.airflow.workspace(site.name).store, site.name)["release"]
    injection.cause(site)
    failed = site.airflow.run(f"refresh_index.{site.name}")
    assert failed.state == "failed"
    block = failed.failure(injection.task)
    assert block["code"] == injection.code
    assert injection.what in block["what"]
    assert block["next action"]
    assert block["runbook"] == f"docs/runbook.md#{injection.code}"
    injection.mend(site)
    assert corpus_status(site.airflow.workspace(site.name).store, site.name)["release"] == serving
    assert site.airflow.run_again(failed).state == "success"
    status = corpus_status(site.airflow.workspace(site.name).store, site.name)
    assert {record["outcome"] for record in status["last_run"].values()} == {"done"}
    verify_corpus(site.airflow.workspace(site.name).store, site.name)


def test_a_broken_corpus_file_fails_on_its_own_dag_and_works_once_mended(site: Site) -> None:
    site.configure(refersh={"schedule": None})
    dag_id = f"refresh_index.{site.name}"
    site.airflow.wait_for_task(dag_id, "read_corpus_file")
    failed = site.airflow.run(dag_id)
    assert failed.failure("read_corpus_file")["code"] == "config_invalid"
    assert "unknown key 'refersh'; did you mean 'refresh'?" in failed.failure("read_corpus_file")["what"]
    site.configure()
    site.airflow.wait_for_task(dag_id, "commit")
    assert site.airflow.run(dag_id).states == {"detect": "success", "embed": "success", "commit": "success"}


@pytest.mark.parametrize("site", [{"retries": 1, "retry_seconds": 1}], indirect=True, ids=["retries"])
def test_a_store_that_does_not_answer_is_retried_and_one_that_refuses_is_not(
    site: Site, s3_environment: dict[str, str]
) -> None:
    site.airflow.use_store("s3://tides-of-tomorrow/prefix")
    site.airflow.use_s3(f"http://127.0.0.1:{free_port()}")
    silent = site.airflow.run(f"refresh_index.{site.name}")
    assert silent.failure("detect")["code"] == "store_unavailable"
    assert silent.tries["detect"] == 2
    site.airflow.use_s3(s3_environment["AWS_ENDPOINT_URL_S3"])
    refused = site.airflow.run_again(silent)
    assert refused.failure("detect")["code"] == "store_uri_invalid"
    assert "the bucket 'tides-of-tomorrow' does not exist" in refused.failure("detect")["what"]
    assert refused.tries["detect"] == 3
    boto3.client("s3").create_bucket(Bucket="tides-of-tomorrow")
    assert site.airflow.run_again(refused).state == "success"


def test_a_shard_that_is_gone_fails_the_commit_and_is_made_again_from_the_first_task(site: Site) -> None:
    (site.documents / "neap.md").write_text("# neap\n\nThe smallest tide of the month.\n")
    finished = site.airflow.run(f"refresh_index.{site.name}")
    for shard in site.stored.glob("runs/*/staged/*/vectors-*"):
        shard.unlink()
    failed = site.airflow.run_again(finished, ["commit"])
    assert failed.failure("commit")["code"] == "stage_missing"
    assert site.airflow.run_again(failed, ["detect"]).state == "success"
    verify_corpus(site.airflow.workspace(site.name).store, site.name)


def test_a_damaged_release_is_not_promoted(site: Site) -> None:
    serving = corpus_status(site.airflow.workspace(site.name).store, site.name)["release"]
    head = site.stored / "channels" / "champion" / "HEAD.json"
    shutil.copy2(head, _aside(head))
    head.write_text("{}")
    assert site.airflow.run(f"refresh_index.{site.name}").state == "success"
    (failed,) = site.airflow.wait_for_runs(f"promote_release.{site.name}", 1)
    assert failed.failure("compose")["code"] == "object_corrupt"
    assert failed.states["publish"] == "upstream_failed"
    _repair(head)
    assert site.airflow.run_again(failed).state == "success"
    status = corpus_status(site.airflow.workspace(site.name).store, site.name)
    assert status["up_to_date"]
    assert status["release"] != serving


@pytest.mark.parametrize("site", [{"retries": 1, "retry_seconds": 0}], indirect=True, ids=["retries"])
def test_a_killed_task_is_tried_again_and_the_run_succeeds(site: Site) -> None:
    pages = random.Random(5)
    for number in range(12):
        text = " ".join(f"word{pages.randrange(5000)}" for _ in range(600))
        (site.documents / f"long{number}.md").write_text(f"# long {number}\n\n{text}\n")
    dag_id = f"refresh_index.{site.name}"
    run_id = site.airflow.api.trigger(dag_id)
    os.kill(site.airflow.process_of(dag_id, run_id, "embed"), signal.SIGKILL)
    finished = site.airflow.wait(dag_id, run_id)
    assert finished.state == "success"
    assert finished.tries == {"detect": 1, "embed": 2, "commit": 1}
    verify_corpus(site.airflow.workspace(site.name).store, site.name)
