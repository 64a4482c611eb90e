"""Rollbacks: what can be restored, by which name, what is written, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ROOT, make_workspace
from tests.pipelines.basins import stored
from tests.pipelines.rollback_site import LEAD, Site, copy_of, make_site, rollbacks
from tidegate.core import keys
from tidegate.core.adapter_records import AdapterManifest
from tidegate.core.errors import (
    ConfigInvalidError,
    ObjectCorruptError,
    ObjectMissingError,
    ReleaseMissingError,
    ReleaseUnknownError,
)
from tidegate.core.event_records import format_time
from tidegate.core.records import AdapterReference
from tidegate.pipelines.rollback_release import Rollback, checked_reason, find_previous, previous_releases, rollback
from tidegate.pipelines.verify_store import verify_corpus
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.adapters import commit_adapter, read_adapter_head
from tidegate.registry.channel import Channel, Promotion
from tidegate.registry.datasets import stored_file
from tidegate.registry.file_store import FileStore
from tidegate.registry.releases import read_release, write_release

POLICY = "f" * 64


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    base = tmp_path_factory.mktemp("made")
    (base / "documents").mkdir()
    return make_site(base / "documents", FileStore(base / "store"))


@pytest.fixture
def site(made: Site, folder: Path, tmp_path: Path) -> Site:
    """A copy of the corpus; its store is a test's own."""
    return copy_of(made, folder, tmp_path / "store")


def test_a_rollback_writes_one_entry_the_head_and_one_event_and_embeds_nothing(site: Site) -> None:
    store, embedder = site.workspace.store, site.workspace.embedder
    before = stored(store)
    embedder.embedded.clear()
    old, new = site.releases[0], site.releases[2]
    assert site.rollback(1) == Rollback("rolled_back", old, before=new, serves=old, version="v4")
    after = stored(store)
    written = sorted(key.removeprefix("test/") for key in after if after[key] != before.get(key))
    head, entry, event = written
    assert head == "channels/champion/HEAD.json"
    assert entry == f"channels/champion/entries/{site.channel.read().entry}.json"
    assert event.startswith("events/")
    assert before.keys() < after.keys()
    assert embedder.embedded == []
    assert site.served() == ["rollback 1", "promote 3", "promote 2", "promote 1"]
    verify_corpus(store, "test")


def test_the_event_says_who_what_why_when_and_instead_of_what(site: Site) -> None:
    site.rollback(1)
    (digest, entry), (base, _), *_ = site.channel.history()
    (event,) = rollbacks(site.workspace.store)
    (past,) = [item for item in previous_releases(site.workspace) if item.version == "v3"]
    assert (event.who, event.kind, event.why, event.run) == (LEAD, "rolled_back", "worse", "r")
    assert (event.what.release, event.what.entry) == (entry.release, digest)
    assert event.evidence == {"base_entry": base, "replaced": past.id}
    (written,) = site.workspace.store.list_keys(f"test/channels/champion/entries/{digest}.json")
    assert event.when == format_time(written.modified)


def test_the_previous_releases_are_listed_once_each_and_newest_first(site: Site) -> None:
    site.rollback(1)
    found = previous_releases(site.workspace)
    assert [(item.version, item.id, item.documents, item.serving_mode, item.adapter) for item in found] == [
        ("v3", site.releases[2], 3, "rag", None),
        ("v2", site.releases[1], 2, "rag", None),
    ]
    assert found[0].written >= found[1].written > 1.7e9
    assert previous_releases(site.workspace, 1) == found[:1]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], 2),
        (["rollback 2"], 1),
        (["rollback 1", "promote 2"], 1),
        (["rollback 1", "rollback 3"], 1),
        (["promote 1"], 3),
        (["promote 1", "rollback 3"], 2),
    ],
)
def test_the_release_before_is_none_that_was_rolled_back(site: Site, steps: list[str], expected: int) -> None:
    for step in steps:
        op, number = step.split()
        site.promote(int(number)) if op == "promote" else site.rollback(int(number))
    assert find_previous(site.workspace, None) == site.releases[expected - 1]


def test_a_release_that_is_not_whole_does_not_take_the_others_out_of_the_form(site: Site) -> None:
    every = [item.id for item in previous_releases(site.workspace)]
    snapshot = read_release(site.workspace.store, site.workspace.corpus, every[0]).bundle.snapshot
    store = site.workspace.store
    assert isinstance(store, FileStore)
    (store.root / keys.snapshot_manifest(site.workspace.corpus, snapshot)).unlink()
    assert [item.id for item in previous_releases(site.workspace)] == every[1:] != []


def test_without_an_earlier_release_there_is_nothing_to_go_back_to(site: Site) -> None:
    site.rollback(1)
    with pytest.raises(ReleaseUnknownError, match="nothing served in corpus test before release"):
        rollback(site.workspace, None, "other reason", LEAD)
    empty = make_workspace(site.workspace.base, FileStore(site.workspace.base.with_name("empty")))
    with pytest.raises(ReleaseMissingError, match="has no release yet"):
        rollback(empty, None, "worse", LEAD)


def test_a_release_is_named_by_version_or_the_beginning_of_its_id(site: Site) -> None:
    first = site.releases[0]
    assert {find_previous(site.workspace, wanted) for wanted in (first, first[:9], "v1", " v1 ")} == {first}
    site.rollback(1)
    assert find_previous(site.workspace, "v4") == first


@pytest.mark.parametrize("wanted", ["v9", "v0", "zz", "", "champion", "0" * 64])
def test_an_unknown_release_is_refused_with_the_choices(site: Site, wanted: str) -> None:
    with pytest.raises(ReleaseUnknownError) as caught:
        rollback(site.workspace, wanted, "worse", LEAD)
    assert repr(wanted) in caught.value.what
    assert f"v3 {site.releases[2][:12]}, v2 {site.releases[1][:12]}, v1 {site.releases[0][:12]}" in caught.value.what
    assert site.served()[0] == "promote 3"


def test_an_ambiguous_beginning_is_refused_with_the_choices(store: FileStore, workspace: Workspace) -> None:
    channel = Channel(store, "test")
    for release in ("a1", "a2", "b3"):
        channel.apply(Promotion("promote", release.ljust(64, "0"), channel.read().entry, policy=POLICY))
    with pytest.raises(ReleaseUnknownError, match="2 releases of corpus test begin with 'a'; choices: v3 b3000"):
        rollback(workspace, "a", "worse", LEAD)
    assert find_previous(workspace, "a1") == "a1".ljust(64, "0")


def test_a_release_that_never_served_cannot_be_restored(site: Site) -> None:
    served = read_release(site.workspace.store, "test", site.releases[0])
    waiting = write_release(site.workspace.store, served.model_copy(update={"dataset": "d" * 64}))
    with pytest.raises(ReleaseUnknownError, match=f"no release of corpus test is '{waiting}'"):
        rollback(site.workspace, waiting, "worse", LEAD)


@pytest.mark.parametrize("reason", ["", "  ", "no", " no "])
def test_a_rollback_needs_a_reason(site: Site, reason: str) -> None:
    with pytest.raises(ConfigInvalidError, match="is shorter than 3 characters"):
        rollback(site.workspace, None, reason, LEAD)
    assert site.served()[0] == "promote 3"
    assert checked_reason(" bad ") == "bad"


def test_restoring_what_serves_writes_nothing(site: Site) -> None:
    before = stored(site.workspace.store)
    newest = site.releases[2]
    assert site.rollback(3) == Rollback("serves_already", newest, newest, newest, "v3")
    assert stored(site.workspace.store) == before


FILES = ["tombstones", "vectors.faiss", "postings.arrow", "documents.arrow", "chunks.arrow", "segment.json"]


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_release_with_a_missing_file_is_refused_before_anything_is_written(site: Site, name: str) -> None:
    root = site.workspace.store.root / "test"
    snapshot = previous_releases(site.workspace)[0].snapshot
    folder = root / "snapshots" / snapshot
    path = folder / name if (folder / name).exists() else sorted(root.glob(f"segments/*/{name}"))[0]
    for victim in [path] if path.parent == folder else sorted(root.glob(f"segments/*/{name}")):
        victim.unlink()
    before = stored(site.workspace.store)
    with pytest.raises(ObjectMissingError, match=name):
        site.rollback(2)
    assert stored(site.workspace.store) == before


def test_a_release_with_a_file_cut_short_is_refused(site: Site) -> None:
    for path in site.workspace.store.root.glob("test/segments/*/vectors.faiss"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ObjectCorruptError, match=r"vectors.faiss of release .* its manifest says"):
        site.rollback(2)
    assert site.served()[0] == "promote 3"


def release_an_adapter(site: Site) -> str:
    """Promote a release of the second snapshot with an adapter; return the adapter's key."""
    store, files = site.workspace.store, {"adapter_model.safetensors": b"weights", "adapter_config.json": b"{}"}
    golden = AdapterManifest.from_bytes((ROOT / "tests/core/golden/adapter.json").read_bytes(), key="golden")
    changed = {"corpus": "test", "parent": None, "seq": 1, "files": {name: stored_file(files[name]) for name in files}}
    manifest = AdapterManifest.model_validate(golden.model_dump() | changed)
    key = commit_adapter(store, read_adapter_head(store, "test"), manifest, files)
    release = read_release(store, "test", site.releases[1])
    adapter = AdapterReference(digest=manifest.digest, key=key)
    paired = release.model_copy(
        update={"serving_mode": "hybrid", "bundle": release.bundle.model_copy(update={"adapter": adapter})}
    )
    site.releases.append(write_release(store, paired))
    site.promote(4)
    return key


def test_index_and_adapter_come_back_as_the_pair_that_they_were(site: Site) -> None:
    key = release_an_adapter(site)
    site.promote(3)
    (past, *_) = previous_releases(site.workspace)
    assert (past.id, past.version, past.adapter, past.serving_mode) == (site.releases[3], "v4", key, "hybrid")
    assert site.rollback(4).serves == site.releases[3] == site.channel.read().release
    (event,) = rollbacks(site.workspace.store)
    assert (event.what.adapter, event.what.snapshot) == (key, past.snapshot)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "manifest.json"])
def test_a_release_whose_adapter_is_not_whole_is_refused(site: Site, name: str) -> None:
    key = release_an_adapter(site)
    site.promote(3)
    (site.workspace.store.root / "test" / "adapters" / key / name).unlink()
    with pytest.raises(ObjectMissingError, match=f"{key}/{name}"):
        site.rollback(4)
    assert site.served()[0] == "promote 3"
