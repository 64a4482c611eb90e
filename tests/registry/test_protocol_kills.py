"""Kill -9 at every failpoint of a promotion, an answer and an adapter's commit, for real; the next try ends it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import make_workspace, refresh
from tests.registry.test_adapters import files_of, key_of, made
from tidegate.core import failpoints, keys
from tidegate.core.adapter_records import AdapterManifest
from tidegate.core.errors import CommitLostError
from tidegate.core.protocols import ArtifactStore
from tidegate.pipelines.approve_release import Answer, record_answer
from tidegate.pipelines.compose_release import bind_to_form
from tidegate.pipelines.promote_release import CANDIDATE, Approved, Candidate, compose, propose, publish
from tidegate.pipelines.verify_store import verify_corpus
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.adapters import commit_adapter, newest_adapter, read_adapter_head, verify_adapter
from tidegate.registry.approvals import load_key
from tidegate.registry.channel import Channel, Promotion
from tidegate.registry.events import read_events
from tidegate.registry.runs import Run

MakeStore = Callable[[], ArtifactStore]
R1, R2, R3, POLICY = ("1" * 64, "2" * 64, "3" * 64, "f" * 64)
WRITE = ["K2", "written"]
on_both = pytest.mark.parametrize("any_store", ["file", pytest.param("s3", marks=pytest.mark.slow)], indirect=True)
ANSWERED = float(int(time.time()))
KEY = {"TIDEGATE_APPROVAL_KEY": "a key that is long enough for a test of it"}


def in_a_process(act: Callable[[], object], **environment: str) -> int | None:
    """Run something in a process of its own; return its exit status."""

    def body() -> None:
        os.environ.update(environment)
        failpoints._passed = 0  # a fork inherits what its parent has passed
        act()

    child = multiprocessing.get_context("fork").Process(target=body)
    child.start()
    child.join(120)
    return child.exitcode


def passed(act: Callable[[], object], trace: Path) -> list[str]:
    """Return the failpoints that an undisturbed run passes."""
    assert in_a_process(act, TIDEGATE_FAILPOINT_TRACE=str(trace)) == 0
    return trace.read_text().split()


def kill(act: Callable[[], object], number: int) -> None:
    assert in_a_process(act, TIDEGATE_FAILPOINT=f"#{number}=kill") == -signal.SIGKILL


def with_two_promotions(store: ArtifactStore, corpus: str) -> Promotion:
    """Prepare a channel at which R2 serves; return the promotion of R3 on it."""
    channel = Channel(store, corpus)
    channel.apply(Promotion("promote", R1, None, policy=POLICY))
    channel.apply(Promotion("promote", R2, channel.read().entry, policy=POLICY))
    return Promotion("promote", R3, channel.read().entry, policy=POLICY)


@on_both
@pytest.mark.parametrize("meanwhile", ["nothing", "a rollback"])
def test_k13_k14_a_promotion_killed_anywhere_is_finished_once_or_lost(
    any_store: MakeStore, tmp_path: Path, meanwhile: str
) -> None:
    promotion = with_two_promotions(any_store(), "traced")
    points = passed(lambda: Channel(any_store(), "traced").apply(promotion), tmp_path / "trace")
    assert points == [*WRITE, "K13", *WRITE, "K14"]
    for number in range(1, len(points) + 1):
        store, corpus = any_store(), f"killed-{number}"
        channel, promotion = Channel(store, corpus), with_two_promotions(store, corpus)
        kill(lambda: Channel(any_store(), corpus).apply(promotion), number)  # noqa: B023
        moved = number >= 5
        assert channel.read().release == (R3 if moved else R2)
        folder = keys.channel_entry(corpus, "champion", "").removesuffix(".json")
        assert len(list(store.list_keys(folder))) == (3 if number >= 2 else 2)
        if meanwhile == "a rollback":
            channel.apply(Promotion("rollback", R1, channel.read().entry, reason="worse"))
        if meanwhile == "a rollback" and not moved:
            with pytest.raises(CommitLostError):
                channel.apply(promotion)
        else:
            assert channel.apply(promotion) is not moved
        served = [entry.release for _, entry in channel.history()][::-1]
        assert served == [
            R1,
            R2,
            *([R3] if moved or meanwhile == "nothing" else []),
            *([R1] * (meanwhile != "nothing")),
        ]
        assert [entry.seq for _, entry in channel.history()] == list(range(len(served), 0, -1))
        assert len(list(store.list_keys(folder))) == len(served) + (meanwhile != "nothing" and 2 <= number < 5)


@on_both
def test_a_next_try_that_is_killed_too_while_it_compares_is_finished_by_the_third(any_store: MakeStore) -> None:
    promotion, channel = with_two_promotions(any_store(), "c"), Channel(any_store(), "c")

    def act() -> bool:
        return Channel(any_store(), "c").apply(promotion)

    assert in_a_process(act, TIDEGATE_FAILPOINT="K13=kill") == -signal.SIGKILL
    assert in_a_process(act, TIDEGATE_FAILPOINT="read-back=kill") == -signal.SIGKILL
    assert channel.read().release == R2
    assert act()
    assert [entry.release for _, entry in channel.history()] == [R3, R2, R1]


@pytest.fixture
def candidate(any_store: MakeStore, folder: Path) -> Candidate:
    """A release that waits for an approval, over one that serves."""
    (folder / "a.md").write_text("# A\n\nThe first version.\n")
    refresh(make_workspace(folder, any_store()))
    workspace = waiting(any_store, folder)
    return propose(workspace, compose(workspace), None)


def waiting(make: MakeStore, folder: Path) -> Workspace:
    return make_workspace(folder, make(), retrieval={"top_k": 7}, promotion={"policy": "approve"})


def show_form(make: MakeStore, candidate: Candidate, run: str) -> None:
    """Bind a run to its candidate, as showing its form does."""
    bind_to_form(Run(make(), "test", run), candidate.release)


def answer(make: MakeStore, folder: Path, candidate: Candidate, run: str) -> str:
    """Approve the candidate in a run; return the approval's digest."""
    workspace = waiting(make, folder)
    answered = Answer(True, ("7", "ml_lead"), "better", ANSWERED, candidate.base_entry, holds_seconds=3600)
    return record_answer(workspace, Run(workspace.store, "test", run), candidate.release, answered, KEY)


@on_both
def test_k10_an_answer_killed_anywhere_is_signed_once_by_the_next_try(
    any_store: MakeStore, folder: Path, candidate: Candidate, tmp_path: Path
) -> None:
    show_form(any_store, candidate, "traced")
    points = passed(lambda: answer(any_store, folder, candidate, "traced"), tmp_path / "trace")
    assert points == ["K10", *WRITE, *WRITE]
    for number in range(1, len(points) + 1):
        run, store = f"killed-{number}", any_store()
        show_form(any_store, candidate, run)
        before = {found.key for found in store.list_keys("test/approvals/")}
        kill(lambda: answer(any_store, folder, candidate, run), number)  # noqa: B023
        left = {found.key for found in store.list_keys("test/approvals/")} - before
        digest = answer(any_store, folder, candidate, run)
        assert answer(any_store, folder, candidate, run) == digest
        made_now = {found.key for found in store.list_keys("test/approvals/")} - before
        assert made_now == {keys.approval("test", digest)}
        assert left == (made_now if number >= 3 else set())
        told = [event.kind for event in read_events(store, "test", 1000).events if event.run == run]
        assert told == ["approved"]


@on_both
def test_an_approved_promotion_killed_anywhere_is_finished_once_with_its_event(
    any_store: MakeStore, folder: Path, candidate: Candidate, tmp_path: Path
) -> None:
    store, number = any_store(), 1
    while True:
        run = f"run-{number}"
        workspace = make_workspace(folder, store, retrieval={"top_k": 10 + number}, promotion={"policy": "approve"})
        proposed = propose(workspace, compose(workspace), None)
        head = Channel(store, "test", CANDIDATE)
        head.apply(Promotion("promote", proposed.release, head.read().entry, policy=POLICY))
        show_form(any_store, proposed, run)
        approved = Approved([answer(any_store, folder, proposed, run)], load_key(KEY))

        def act() -> bool:
            again = make_workspace(folder, any_store(), promotion={"policy": "approve"})
            return publish(again, proposed, approved, run)  # noqa: B023

        status = in_a_process(act, TIDEGATE_FAILPOINT=f"#{number}=kill")
        assert status in (0, -signal.SIGKILL)
        act()
        assert Channel(store, "test").read().release == proposed.release
        told = [event.kind for event in read_events(store, "test", 1000).events if event.run == run]
        assert sorted(told) == ["approved", "promoted"], f"after a kill at point {number}"
        verify_corpus(store, "test")
        if status == 0:
            break
        number += 1
    assert number == len([*WRITE, "K13", *WRITE, "K14", *WRITE]) + 1
    assert [entry.seq for _, entry in Channel(store, "test").history()] == list(range(number + 1, 0, -1))


@on_both
def test_an_adapter_killed_anywhere_on_its_way_is_committed_once_by_the_next_try(
    any_store: MakeStore, tmp_path: Path
) -> None:
    def two_of(corpus: str) -> tuple[AdapterManifest, AdapterManifest]:
        first = made(0).model_copy(update={"corpus": corpus})
        return first, made(1, first).model_copy(update={"corpus": corpus})

    def prepared(corpus: str) -> tuple[Callable[[], str], list[str]]:
        """Commit the first adapter of a corpus; return how the second is committed, and the keys of both."""
        first, second = two_of(corpus)
        commit_adapter(any_store(), read_adapter_head(any_store(), corpus), first, files_of(0))
        base = read_adapter_head(any_store(), corpus)
        return lambda: commit_adapter(any_store(), base, second, files_of(1)), [key_of(first), key_of(second)]

    points = passed(prepared("traced")[0], tmp_path / "trace")
    assert points == [*(WRITE * 4), "adapter-written", *WRITE, "adapter-committed"]
    for number in range(1, len(points) + 1):
        corpus, store = f"killed-{number}", any_store()
        again, (first, second) = prepared(corpus)
        kill(again, number)
        newest = newest_adapter(store, corpus).key
        assert newest == (second if number >= len(points) - 1 else first)
        verify_adapter(store, corpus, newest)
        assert again() == again() == newest_adapter(store, corpus).key == second
        assert newest_adapter(store, corpus).seq == 2
        verify_adapter(store, corpus, second)
