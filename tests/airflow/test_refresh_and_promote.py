"""The walking path on a real Airflow: refresh, be woken by the asset, promote, find nothing to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.airflow.conftest import EXECUTED, RunningAirflow
from tidegate.pipelines.search_index import open_champion
from tidegate.pipelines.status import corpus_status
from tidegate.pipelines.verify_store import verify_corpus
from tidegate.registry.store import open_store

pytestmark = pytest.mark.airflow

PAGES = {
    "tides.md": "# Tides\n\nThe gate opens at high water and closes at low water.\n",
    "locks.md": "# Locks\n\nA lock keeper fills the chamber before the upper gate moves.\n",
}


def test_a_refresh_wakes_the_promotion_and_a_second_one_finds_nothing_to_do(airflow: RunningAirflow) -> None:
    documents = airflow.make_corpus("happy", PAGES)
    after_compose = dict.fromkeys(("evaluate", "gate", "approve", "publish"), "skipped")
    assert airflow.run("promote_release.happy").states == {"compose": "success", **after_compose}
    first = airflow.run("refresh_index.happy")
    assert first.states == {"detect": "success", "embed": "success", "commit": "success"}
    assert first.log("commit")[-4:-2] == [
        "documents: 2 total, 2 added; 2 opened",
        "chunks: 2 live, 2 embedded, 0 reused, 0 removed",
    ]
    _, promotion = airflow.wait_for_runs("promote_release.happy", 2)
    assert promotion.states == dict.fromkeys(("compose", *after_compose), "success")

    workspace = airflow.workspace("happy")
    status = corpus_status(workspace.store, "happy")
    assert status["up_to_date"]
    assert first.log("commit")[-2] == f"snapshot {status['snapshot'][:12]}"
    (snapshot,) = airflow.asset_events("index_snapshot.happy")
    assert snapshot["snapshot"] == status["snapshot"]
    assert snapshot["documents"]["added"] == 2
    assert snapshot["chunks"]["embedded"] == 2
    assert airflow.asset_events("release.happy") == [{"release": status["release"]}]
    assert max({**airflow.xcoms(first), **airflow.xcoms(promotion)}.values()) < 2_000

    again = airflow.run("refresh_index.happy")
    assert [task["task_id"] for task in again.tasks if task["state"] in EXECUTED] == ["detect"]
    assert "documents: 2 total, 2 unchanged; 0 opened" in again.log("detect")

    (documents / "tides.md").write_text(PAGES["tides.md"].replace("opens", "swings open"))
    airflow.run("refresh_index.happy")
    airflow.wait_for_runs("promote_release.happy", 3)
    (hits,) = open_champion(workspace).search(["when does the gate open"], top_k=1)
    assert "swings open" in hits[0].text


def test_refresh_and_promotion_work_over_s3_with_the_connections_credentials(
    airflow: RunningAirflow, s3_uri: str, s3_url: str
) -> None:
    airflow.use_store(s3_uri)
    airflow.use_s3(s3_url)
    airflow.make_corpus("bucket", PAGES)
    assert airflow.run("refresh_index.bucket").state == "success"
    airflow.wait_for_runs("promote_release.bucket", 1)
    airflow.use_store(airflow.store)
    verified = verify_corpus(open_store(s3_uri, base=Path()), "bucket")
    assert (verified.snapshots, verified.segments, verified.releases, verified.entries) == (1, 1, 1, 1)
