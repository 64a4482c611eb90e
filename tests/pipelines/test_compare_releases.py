"""What one release has otherwise than another, figure by figure."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import settle
from tests.evaluation.reports import a_report
from tests.pipelines.basins import basins, index, page, row, run, save, ten_rows, write_pages
from tidegate.core.errors import ReleaseMissingError, ReleaseUnknownError
from tidegate.core.evaluation_records import ArmReport, Changes, Figure
from tidegate.core.records import Release
from tidegate.pipelines import refresh_index
from tidegate.pipelines.compare_releases import changes_between, compare_releases
from tidegate.pipelines.release_names import find_release
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.channel import Channel, Promotion
from tidegate.registry.evaluations import write_report
from tidegate.registry.file_store import FileStore
from tidegate.registry.releases import read_release, write_release

OLD, NEW = "0" * 64, "1" * 64
"""Keys of evaluations."""


def release_with(workspace: Workspace, **changes: Any) -> str:
    """Store a release like the one that served first, with some fields otherwise."""
    first = list(Channel(workspace.store, "test").history())[-1][1].release
    release = read_release(workspace.store, "test", first)
    return write_release(workspace.store, Release.model_validate(release.model_dump() | changes))


def bundle_with(workspace: Workspace, **changes: Any) -> dict[str, Any]:
    first = list(Channel(workspace.store, "test").history())[-1][1].release
    return read_release(workspace.store, "test", first).bundle.model_dump() | changes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str, str]:
    """Two releases of ten pages and ten rows: two pages changed, one is new, one is gone.

    Rows whose page changed or went are stale or dangling, and in no split.
    """
    base = tmp_path_factory.mktemp("made")
    folder, store = base / "documents", FileStore(base / "store")
    folder.mkdir()
    write_pages(folder)
    index(folder, store)
    rows = ten_rows()
    save(folder, rows)
    workspace = basins(folder, store)
    first = release_with(workspace, dataset=run(workspace))
    (folder / "anchor.md").write_text(page("anchor", 11, " in summer"))
    (folder / "buoy.md").write_text(page("buoy", 99))
    (folder / "kiosk.md").write_text(page("kiosk", 5))
    (folder / "jetty.md").unlink()
    (folder / "empty.md").touch()  # in quarantine, not indexed
    settle()
    plan = refresh_index.detect(workspace)
    snapshot = refresh_index.commit(workspace, plan, refresh_index.embed(workspace, plan.capture.texts)).snapshot
    save(folder, [*rows[:2], row("canal", 13, tags=["room"]), *rows[3:], row("kiosk", 5)])
    return (
        workspace,
        first,
        release_with(workspace, dataset=run(workspace), bundle=bundle_with(workspace, snapshot=snapshot)),
    )


def test_documents_and_rows_are_compared_by_what_they_say(made: tuple[Workspace, str, str]) -> None:
    workspace, first, second = made
    found = compare_releases(workspace, first, second)
    documents, rows = found.documents, found.rows
    assert (documents.added, documents.changed, documents.removed) == (
        ("kiosk.md",),
        ("anchor.md", "buoy.md"),
        ("jetty.md",),
    )
    assert documents.total == 10
    assert (rows.added, rows.changed, rows.removed) == (("kiosk",), ("canal",), ("anchor", "buoy", "jetty"))
    assert (found.metrics, found.settings, found.same_questions) == ({}, {}, False)
    back = compare_releases(workspace, second, first)
    assert (back.documents.added, back.documents.removed) == (documents.removed, documents.added)


def test_the_same_release_differs_in_nothing(made: tuple[Workspace, str, str]) -> None:
    workspace, first, _ = made
    found = compare_releases(workspace, first, first)
    for difference in (found.documents, found.rows):
        assert (difference.added, difference.changed, difference.removed, difference.total) == ((), (), (), 10)
    assert found.same_questions


def test_the_changes_of_a_candidate_are_counted_and_named(made: tuple[Workspace, str, str]) -> None:
    workspace, *releases = made
    old, new = (read_release(workspace.store, "test", release) for release in releases)
    assert changes_between(
        workspace, new.bundle.snapshot, new.dataset, old.bundle.snapshot, old.dataset
    ) == Changes(
        added=1, modified=2, removed=1, documents=10,
        names=("~ anchor.md", "~ buoy.md", "+ kiosk.md", "- jetty.md"),
        rows_added=1, rows_changed=1, rows_removed=3,
    )  # fmt: skip


def test_without_a_champion_everything_is_added(made: tuple[Workspace, str, str]) -> None:
    workspace, _, second = made
    release = read_release(workspace.store, "test", second)
    found = changes_between(workspace, release.bundle.snapshot, release.dataset, None, None)
    assert (found.added, found.modified, found.removed, found.documents) == (10, 0, 0, 10)
    assert (found.rows_added, found.rows_changed, found.rows_removed) == (8, 0, 0)
    without = changes_between(workspace, release.bundle.snapshot, None, release.bundle.snapshot, None)
    assert (without.added, without.names, without.rows_added) == (0, (), 0)


def an_arm(name: str, **values: float) -> ArmReport:
    figures = {metric: Figure(value=value, n=40) for metric, value in values.items()}
    slices = {"all": figures, "answerable": {"correct": Figure(value=0.99, n=30)}}
    return ArmReport(arm=name, snapshot=OLD, adapter=None, slices=slices, prompt_tokens=1, answer_tokens=1)


def evaluated(workspace: Workspace, key: str, dataset: str, arms: list[ArmReport], recall: float) -> str:
    """Store a release with a report."""
    report = a_report().model_copy(update={"arms": tuple(arms), "retrieval": {"candidate": {"recall@5": recall}}})
    write_report(workspace.store, "test", key, "report.json", report.to_bytes())
    return release_with(workspace, evaluation=key, dataset=dataset)


def test_metrics_are_those_that_both_evaluations_have(made: tuple[Workspace, str, str]) -> None:
    workspace, first, second = made
    dataset = str(read_release(workspace.store, "test", first).dataset)
    champion = an_arm("champion", correct=0.1)
    old = evaluated(
        workspace, OLD, dataset, [an_arm("base+RAG", correct=0.5, f1=0.6), an_arm("base", correct=0.2), champion], 0.7
    )
    new = evaluated(
        workspace, NEW, dataset, [an_arm("base+RAG", correct=0.75), an_arm("adapter", correct=0.3), champion], 0.8
    )
    found = compare_releases(workspace, old, new)
    assert found.metrics == {"base+RAG": {"correct": (0.5, 0.75)}, "retrieval": {"recall@5": (0.7, 0.8)}}
    assert found.same_questions
    assert compare_releases(workspace, old, second).metrics == {}
    lost = release_with(workspace, evaluation="2" * 64, dataset=dataset)
    assert compare_releases(workspace, old, lost).metrics == {}


def test_settings_that_differ_stand_beside_each_other(made: tuple[Workspace, str, str]) -> None:
    workspace, first, _ = made
    bundle = bundle_with(workspace, adapter={"digest": "a" * 64, "key": f"{'a' * 64}.12345678"})
    bundle["retrieval"]["top_k"] = 5
    other = release_with(workspace, bundle=bundle, serving_mode="hybrid")
    assert compare_releases(workspace, first, other).settings == {
        "adapter.digest": (None, "a" * 64),
        "adapter.key": (None, f"{'a' * 64}.12345678"),
        "retrieval.top_k": (10, 5),
        "serving_mode": ("rag", "hybrid"),
    }


def test_a_release_is_found_by_id_version_or_role(made: tuple[Workspace, str, str]) -> None:
    workspace, first, second = made
    store, (served,) = workspace.store, [entry.release for _, entry in Channel(workspace.store, "test").history()]
    assert find_release(store, "test", first) == find_release(store, "test", first[:10]) == first
    assert {find_release(store, "test", wanted) for wanted in ("v1", "champion")} == {served}
    settle()
    newest = release_with(workspace, dataset="d" * 64)
    assert find_release(store, "test", "candidate") == newest  # where nothing was evaluated
    Channel(store, "test", "candidate").apply(Promotion("promote", second, None, policy="f" * 64))
    assert find_release(store, "test", "candidate") == second
    for unknown in ("v3", "nothing", ""):
        with pytest.raises(ReleaseUnknownError, match="not served"):
            find_release(store, "test", unknown)


def test_before_the_first_release_there_is_neither_champion_nor_candidate(store: FileStore) -> None:
    with pytest.raises(ReleaseMissingError, match=r"corpus test in .* has no release yet"):
        find_release(store, "test", "champion")
    with pytest.raises(ReleaseUnknownError, match="has no candidate"):
        find_release(store, "test", "candidate")
    with pytest.raises(ReleaseUnknownError, match="choices: none"):
        find_release(store, "test", "v1")
