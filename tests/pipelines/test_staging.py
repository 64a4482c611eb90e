"""Staging: what one task leaves for the next comes back exactly, in shards that hold each text once, or is refused."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import make_workspace
from tests.fakes import HashEmbedder
from tidegate.core.changes import ChangeSet
from tidegate.core.documents import LedgerRow
from tidegate.core.errors import StageMissingError, TidegateError
from tidegate.core.protocols import Stored
from tidegate.core.records import SnapshotHead
from tidegate.pipelines import refresh_index
from tidegate.pipelines.capture import Capture
from tidegate.pipelines.refresh_index import Plan
from tidegate.pipelines.staging import (
    MAX_SHARDS,
    Shard,
    has_vectors,
    load_plan,
    load_texts,
    load_vectors,
    shard_texts,
    stage_plan,
    stage_vectors,
)
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.file_store import FileStore
from tidegate.registry.heads import ReadHead
from tidegate.registry.runs import Run

TEXT = st.text(max_size=20)
NAMES = st.lists(TEXT, max_size=4).map(tuple)
DIGEST = st.binary(min_size=32, max_size=32).map(bytes.hex)
CHUNK = st.binary(min_size=16, max_size=16)
ROW = st.builds(
    LedgerRow,
    document=TEXT,
    kind=st.sampled_from(["markdown", "html", "pdf", "text"]),
    seen=st.one_of(DIGEST, st.just("!unreadable")),
    sha256=st.one_of(DIGEST, st.just("")),
    recipe=TEXT,
    title=TEXT,
    metadata=st.dictionaries(TEXT, TEXT, max_size=3),
    chunks=st.lists(CHUNK, max_size=3).map(tuple),
    headings=NAMES,
    problem=TEXT,
    detail=TEXT,
)
CHANGES = st.builds(
    ChangeSet,
    added=NAMES,
    modified=NAMES,
    moved=st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
    deleted=NAMES,
    unchanged=st.integers(0, 10**9),
)
TEXTS = st.lists(st.tuples(CHUNK, TEXT, TEXT), max_size=6).map(tuple)
CAPTURE = st.builds(Capture, changes=CHANGES, rows=st.lists(ROW, max_size=3).map(tuple), removed=NAMES, texts=TEXTS)
HEAD = st.builds(SnapshotHead, seq=st.integers(1, 10**6), snapshot=DIGEST, op_id=DIGEST)
BASE = st.one_of(
    st.just(ReadHead(None, None)),
    st.builds(lambda head, version: ReadHead(head, Stored(head.to_bytes(), version)), HEAD, TEXT),
)
PLAN = st.builds(
    Plan,
    base=BASE,
    capture=CAPTURE,
    hints=st.dictionaries(TEXT, st.one_of(st.none(), TEXT), max_size=3),
    unlisted=NAMES,
    files_opened=st.integers(0, 10**6),
)


def plan_of(texts: list[tuple[bytes, str, str]]) -> Plan:
    return Plan(ReadHead(None, None), Capture(ChangeSet(), (), (), tuple(texts)), {}, (), 0)


def texts_of(sizes: list[int]) -> list[tuple[bytes, str, str]]:
    """Texts of these lengths, each with its own id."""
    return [(number.to_bytes(16, "big"), "", "x" * size) for number, size in enumerate(sizes)]


@pytest.fixture
def run(store: FileStore) -> Run:
    return Run(store, "test", "run")


@pytest.fixture
def plan(folder: Path, workspace: Workspace) -> Plan:
    """What a real refresh of five pages stages."""
    for number in range(5):
        (folder / f"{number}.md").write_text(f"# Page {number}\n\nWords of page {number}.\n")
    return refresh_index.detect(workspace)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=PLAN)
def test_a_plan_comes_back_as_it_was(plan: Plan) -> None:
    with tempfile.TemporaryDirectory(prefix="tidegate-staging-") as root:
        run = Run(FileStore(Path(root)), "test", "run")
        name = stage_plan(run, plan, 1000)[0].plan
        assert load_plan(run, name) == plan
        assert load_texts(run, name) == list(plan.capture.texts)


def test_a_refresh_in_steps_over_the_store_is_the_refresh_in_one_process(
    plan: Plan, run: Run, folder: Path, workspace: Workspace, embedder: HashEmbedder, tmp_path: Path
) -> None:
    shards = stage_plan(run, plan, 40)
    assert len(shards) > 1
    for shard in reversed(shards):
        stage_vectors(run, shard, refresh_index.embed(workspace, shard_texts(load_texts(run, shard.plan), shard)))
    loaded = load_plan(run, shards[0].plan)
    vectors = load_vectors(run, shards, len(loaded.capture.texts), embedder.identity.dimension)
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, refresh_index.embed(workspace, plan.capture.texts))
    report = refresh_index.commit(workspace, loaded, vectors)
    alone = make_workspace(folder, FileStore(tmp_path / "alone"))
    direct = refresh_index.detect(alone)
    assert refresh_index.commit(alone, direct, refresh_index.embed(alone, direct.capture.texts)) == report


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 50), max_size=150), shard_bytes=st.integers(1, 300))
def test_the_shards_hold_each_text_once_in_order(run: Run, sizes: list[int], shard_bytes: int) -> None:
    texts = texts_of(sizes)
    shards = stage_plan(run, plan_of(texts), shard_bytes)
    assert 1 <= len(shards) <= MAX_SHARDS
    assert [(shard.number, shard.of) for shard in shards] == [(number, len(shards)) for number in range(len(shards))]
    assert [text for shard in shards for text in shard_texts(load_texts(run, shard.plan), shard)] == texts
    assert [Shard.parse(shard.name) for shard in shards] == shards


@pytest.mark.parametrize(
    ("sizes", "shard_bytes", "shards"),
    [
        ([], 1, 1),
        ([100], 100, 1),
        ([100] * 4, 100, 4),
        ([100] * 4, 101, 4),
        ([100] * 4, 200, 2),
        ([100] * 4, 1000, 1),
        ([100] * MAX_SHARDS, 100, MAX_SHARDS),
        ([100] * 1000, 100, MAX_SHARDS),
    ],
)
def test_the_number_of_shards_follows_the_size(run: Run, sizes: list[int], shard_bytes: int, shards: int) -> None:
    assert len(stage_plan(run, plan_of(texts_of(sizes)), shard_bytes)) == shards


def test_no_shard_of_a_plan_with_texts_is_empty(run: Run) -> None:
    texts = texts_of([1000, 1000, 1000])
    assert all(shard_texts(texts, shard) for shard in stage_plan(run, plan_of(texts), 10))


def test_staging_again_changes_nothing_and_another_plan_lies_apart(run: Run, plan: Plan, store: FileStore) -> None:
    shards = stage_plan(run, plan, 40)
    staged = {key.key: store.read(key.key).data for key in store.list_keys("test/runs/run/staged/")}
    assert stage_plan(run, plan, 40) == shards
    assert {key.key: store.read(key.key).data for key in store.list_keys("test/runs/run/staged/")} == staged
    others = [plan_of(texts_of([1])), plan_of(texts_of([2])), replace(plan, files_opened=0)]
    others.append(replace(plan, capture=replace(plan.capture, rows=plan.capture.rows[1:])))
    names = {stage_plan(run, other, 40)[0].plan for other in others}
    assert len(names | {shards[0].plan}) == 5
    assert load_plan(run, shards[0].plan) == plan


def test_an_earlier_try_is_found_by_the_shard_it_staged(run: Run, plan: Plan, workspace: Workspace) -> None:
    first, second, *_ = stage_plan(run, plan, 40)
    stage_vectors(run, first, refresh_index.embed(workspace, shard_texts(list(plan.capture.texts), first)))
    assert (has_vectors(run, first), has_vectors(run, second)) == (True, False)
    assert not has_vectors(run, Shard(first.plan, first.number, first.of + 1))


def test_no_text_needs_no_vector(run: Run, workspace: Workspace) -> None:
    (shard,) = stage_plan(run, plan_of([]), 1)
    stage_vectors(run, shard, refresh_index.embed(workspace, []))
    assert load_vectors(run, [shard], 0, 32).shape == (0, 32)


def test_a_missing_plan_and_a_missing_or_short_shard_say_so(run: Run) -> None:
    with pytest.raises(StageMissingError, match=r"test/runs/run/staged/nothing/plan\.json is not in"):
        load_plan(run, "nothing")
    with pytest.raises(StageMissingError, match=r"nothing/texts\.arrow is not in"):
        load_texts(run, "nothing")
    shards = stage_plan(run, plan_of(texts_of([10] * 4)), 10)
    for shard in shards[:3]:
        stage_vectors(run, shard, np.zeros((1, 8), dtype=np.float32))
    with pytest.raises(StageMissingError, match=r"vectors-3-4\.npy is not in"):
        load_vectors(run, shards, 4, 8)
    stage_vectors(run, shards[3], np.zeros((0, 8), dtype=np.float32))
    with pytest.raises(StageMissingError, match=f"plan {shards[0].plan} has 4 texts, but its shards hold 3 vectors"):
        load_vectors(run, shards, 4, 8)


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
@pytest.mark.parametrize("part", ["plan.json", "rows.arrow", "texts.arrow", "vectors-0-1.npy"])
def test_a_damaged_part_is_refused_by_the_name_of_its_plan(
    run: Run, plan: Plan, workspace: Workspace, store: FileStore, part: str, damage: str
) -> None:
    (shard,) = stage_plan(run, plan, 10_000)
    stage_vectors(run, shard, refresh_index.embed(workspace, plan.capture.texts))
    path = store.root / "test/runs/run/staged" / shard.plan / part
    sound = path.read_bytes()
    places = range(0, len(sound), max(1, len(sound) // 12)) if damage == "flip" else [0]
    for place in places:
        flipped = sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :]
        path.write_bytes({"flip": flipped, "truncate": sound[: len(sound) // 2], "empty": b""}[damage])
        with pytest.raises(TidegateError, match=shard.plan):
            load_vectors(run, [shard], len(load_plan(run, shard.plan).capture.texts), 32)
    if part == "texts.arrow":
        with pytest.raises(TidegateError, match=shard.plan):
            load_texts(run, shard.plan)
