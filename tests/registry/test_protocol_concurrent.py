"""Twenty promotions and rollbacks at once, unscheduled: one linear history, every acknowledged one in it, all kept."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_workspace, refresh
from tidegate.core.errors import CommitLostError
from tidegate.core.event_records import Actor
from tidegate.core.protocols import ArtifactStore
from tidegate.pipelines import promote_release, rollback_release
from tidegate.pipelines.verify_store import verify_corpus
from tidegate.registry.channel import Channel, Promotion
from tidegate.registry.events import read_events
from tidegate.registry.heads import read_head

MakeStore = Callable[[], ArtifactStore]
AT_ONCE = 20
on_both = pytest.mark.parametrize("any_store", ["file", pytest.param("s3", marks=pytest.mark.slow)], indirect=True)
FIRST, POLICY = "0" * 64, "f" * 64


@on_both
def test_twenty_processes_on_one_channel_lose_nothing(any_store: MakeStore) -> None:
    store, context = any_store(), multiprocessing.get_context("fork")
    Channel(store, "c").apply(Promotion("promote", FIRST, None, policy=POLICY))
    ready, results = context.Barrier(AT_ONCE), context.Queue()

    def publisher(number: int) -> None:
        """Decide on the head and publish; decide anew as long as another is first. Every fourth rolls back."""
        channel, lost = Channel(any_store(), "c"), 0
        ready.wait(60)
        while True:
            base = channel.read().entry
            promotion = (
                Promotion("rollback", FIRST, base, reason=f"{number}")
                if number % 4 == 0
                else Promotion("promote", f"{number:064x}", base, policy=POLICY)
            )
            with suppress(CommitLostError):
                results.put((number, channel.apply(promotion), channel.operation(promotion), lost))
                return
            lost += 1

    children = [context.Process(target=publisher, args=(number,)) for number in range(1, AT_ONCE + 1)]
    for child in children:
        child.start()
    told = [results.get(timeout=240) for _ in children]
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * AT_ONCE
    history = list(Channel(store, "c").history())[::-1]
    assert [entry.seq for _, entry in history] == list(range(1, AT_ONCE + 2))
    assert [entry.prev for _, entry in history] == [None, *(digest for digest, _ in history)][:-1]
    assert sorted(number for number, _, _, _ in told) == list(range(1, AT_ONCE + 1))
    assert all(applied for _, applied, _, _ in told)
    assert {entry.op_id for _, entry in history[1:]} == {operation for _, _, operation, _ in told}
    assert sum(entry.op == "rollback" for _, entry in history) == AT_ONCE // 4
    assert sum(lost for _, _, _, lost in told) >= 1, "nobody met anybody"
    entries = {found.key.rpartition("/")[2].removesuffix(".json") for found in store.list_keys("c/channels/champion/e")}
    assert entries >= {digest for digest, _ in history}


class Kept:
    """A client that remembers what it wrote create-only, so that the end can be held against it."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self.created: dict[str, bytes] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def create(self, key: str, data: bytes | Path) -> None:
        self._store.create(key, data)
        self.created[key] = data if isinstance(data, bytes) else data.read_bytes()


@pytest.fixture
def released(any_store: MakeStore, folder: Path) -> list[str]:
    """Three real releases over two indexes, of which the last serves."""
    for words, top_k in (("first", 5), ("second", 5), ("second", 6)):
        (folder / "a.md").write_text(f"# A\n\nThe {words} version.\n")
        refresh(make_workspace(folder, any_store(), retrieval={"top_k": top_k}))
    return [entry.release for _, entry in Channel(any_store(), "test").history()][::-1]


@on_both
def assert_kept(store: ArtifactStore, written: list[dict[str, bytes]]) -> None:
    """Everything that was ever written is there, heads aside."""
    after = {found.key: store.read(found.key).data for found in store.list_keys("")}
    for kept in written:
        lasting = {key: data for key, data in kept.items() if not key.endswith("HEAD.json")}
        assert {key: after.get(key) for key in lasting} == lasting


def test_twenty_pipelines_on_real_releases_leave_a_store_that_verifies(
    any_store: MakeStore, folder: Path, released: list[str]
) -> None:
    store = any_store()
    before = {found.key: store.read(found.key).data for found in store.list_keys("")}
    snapshot, ready = read_head(store, "test").snapshot, threading.Barrier(AT_ONCE)
    clients = [Kept(any_store()) for _ in range(AT_ONCE)]

    def promote(number: int) -> str:
        retrieval = {"top_k": 10 + number, "candidates": 200}
        workspace = make_workspace(folder, clients[number], retrieval=retrieval)
        while True:
            with suppress(CommitLostError):
                return promote_release.promote(workspace, verified=snapshot).champion

    def roll_back(number: int) -> str:
        workspace, who = make_workspace(folder, clients[number]), Actor(id="ada", name="Ada")
        while True:
            with suppress(CommitLostError):
                return rollback_release.rollback(workspace, released[number % 2], f"reason {number}", who).outcome

    def publisher(number: int) -> str:
        ready.wait(60)
        return roll_back(number) if number % 4 == 0 else promote(number)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        told = list(pool.map(publisher, range(AT_ONCE)))

    history = list(Channel(store, "test").history())[::-1]
    assert [entry.seq for _, entry in history] == list(range(1, len(history) + 1))
    assert [entry.prev for _, entry in history] == [None, *(digest for digest, _ in history)][:-1]
    promoted = [entry.release for _, entry in history if entry.op == "promote"]
    assert sorted(promoted) == sorted([*released, *(told[number] for number in range(AT_ONCE) if number % 4)])
    reasons = [entry.reason for _, entry in history if entry.op == "rollback"]
    assert sorted(reasons) == sorted(
        f"reason {number}" for number in range(0, AT_ONCE, 4) if told[number] == "rolled_back"
    )
    assert {told[number] for number in range(0, AT_ONCE, 4)} <= {"rolled_back", "serves_already"}
    assert_kept(store, [before, *(client.created for client in clients)])
    events = {(event.kind, event.what.entry) for event in read_events(store, "test", 1000).events}
    assert {("promoted" if entry.op == "promote" else "rolled_back", digest) for digest, entry in history} <= events
    verified = verify_corpus(store, "test")
    assert (verified.entries, verified.snapshots) == (len(history), 2)
