"""The champion channel under crashes, lost answers, races, zombies and replays (K13 to K16, K21 to K24)."""

import multiprocessing
from collections.abc import Callable

import pytest

from tests.conftest import roll_back
from tests.fakes import FaultStore
from tidegate.core import publishing
from tidegate.core.errors import (
    CommitLostError,
    CommitUnknownError,
    ObjectCorruptError,
    ObjectMissingError,
    ReleaseHeldError,
)
from tidegate.core.protocols import ArtifactStore
from tidegate.registry.channel import Channel, Promotion

MakeStore = Callable[[], ArtifactStore]

R1, R2, R3, POLICY = ("1" * 64, "2" * 64, "3" * 64, "f" * 64)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_FIRST_WAIT_SECONDS", 0.0)


def promote(channel: Channel, release: str, base: str | None) -> bool:
    return channel.apply(Promotion("promote", release, base, policy=POLICY))


def served(channel: Channel) -> list[tuple[int, str, str]]:
    return [(entry.seq, entry.op, entry.release[0]) for _, entry in channel.history()]


def test_promotions_make_a_linear_history(any_store: MakeStore) -> None:
    channel = Channel(any_store(), "c")
    assert channel.read().release is None
    assert promote(channel, R1, None)
    assert promote(channel, R2, channel.read().entry)
    roll_back(channel, R1, "worse")
    assert served(channel) == [(3, "rollback", "1"), (2, "promote", "2"), (1, "promote", "1")]
    assert channel.read().release == R1


def test_heads_never_repeat_their_bytes(any_store: MakeStore) -> None:
    store = any_store()
    channel = Channel(store, "c")
    seen = set()
    promote(channel, R1, None)
    for release in (R2, R1, R2):
        seen.add(store.read("c/channels/champion/HEAD.json").data)
        roll_back(channel, release, "to and fro")
    assert len(seen | {store.read("c/channels/champion/HEAD.json").data}) == 4


def test_k23_a_zombie_and_a_retry_do_it_once(any_store: MakeStore) -> None:
    channel = Channel(any_store(), "c")
    assert promote(channel, R1, None)
    assert not promote(channel, R1, None)
    assert promote(channel, R2, channel.read().entry)
    assert not promote(channel, R1, None)
    assert served(channel) == [(2, "promote", "2"), (1, "promote", "1")]


def test_k24_a_cleared_run_does_not_undo_a_rollback(any_store: MakeStore) -> None:
    channel = Channel(any_store(), "c")
    promote(channel, R1, None)
    base = channel.read().entry
    promote(channel, R2, base)
    roll_back(channel, R1, "worse")
    assert not promote(channel, R2, base)
    assert channel.read().release == R1
    with pytest.raises(ReleaseHeldError, match="rolled back"):
        promote(channel, R2, channel.read().entry)
    assert channel.is_held(R2)
    assert not channel.is_held(R3)
    assert promote(channel, R3, channel.read().entry)


def test_only_what_a_rollback_left_is_held(any_store: MakeStore) -> None:
    channel = Channel(any_store(), "c")
    for release in (R1, R2, R3):
        promote(channel, release, channel.read().entry)
    roll_back(channel, R2)
    assert [channel.is_held(release) for release in (R1, R2, R3)] == [False, False, True]
    channel.apply(Promotion("promote", R3, channel.read().entry, approval="e" * 64))
    assert not channel.is_held(R3)


def test_a_person_may_promote_what_was_rolled_back(any_store: MakeStore) -> None:
    channel = Channel(any_store(), "c")
    promote(channel, R1, None)
    promote(channel, R2, channel.read().entry)
    roll_back(channel, R1, "worse")
    assert channel.apply(Promotion("promote", R2, channel.read().entry, approval="e" * 64))
    assert channel.read().release == R2


def test_a_promotion_on_an_old_base_is_lost(any_store: MakeStore) -> None:
    channel = Channel(any_store(), "c")
    promote(channel, R1, None)
    with pytest.raises(CommitLostError):
        promote(channel, R2, None)
    assert served(channel) == [(1, "promote", "1")]


# The mutations of one promotion: 1 writes the entry, 2 moves the head.
@pytest.mark.parametrize(
    ("name", "faults"),
    [
        ("K13 entry written, answer lost", {1: "after"}),
        ("K13 entry not written", {1: "before"}),
        ("K14 head applied, answer lost", {2: "after"}),
        ("K15 head not applied, answer lost", {2: "before"}),
        ("K15 twice", {2: "before", 3: "before"}),
        ("409 from a concurrent write", {2: "conflict"}),
        ("everything at once", {1: "after", 3: "before", 4: "after"}),
    ],
)
@pytest.mark.parametrize("op", ["promote", "rollback"])
def test_k14_k15_k21_a_lost_answer_ends_in_the_right_state(
    any_store: MakeStore, name: str, faults: dict[int, str], op: str
) -> None:
    store = FaultStore(any_store())
    channel = Channel(store, "c")
    promote(channel, R1, None)
    promote(channel, R2, channel.read().entry)
    store.mutations.clear()
    store.faults = faults
    if op == "promote":
        assert promote(channel, R3, channel.read().entry)
        expected = (3, "promote", "3")
    else:
        roll_back(channel, R1, "worse")
        expected = (3, "rollback", "1")
    assert served(channel) == [expected, (2, "promote", "2"), (1, "promote", "1")]


def test_k16_a_head_moved_by_another_is_lost_and_leaves_the_other_live(any_store: MakeStore) -> None:
    store = any_store()
    promote(Channel(store, "c"), R1, None)

    class Racing(FaultStore):
        def swap(self, key: str, data: bytes, version: str) -> None:
            if not self.mutations[1:]:
                self.mutations.append("raced")
                promote(Channel(self.inner, "c"), R2, Channel(self.inner, "c").read().entry)
            super().swap(key, data, version)

    with pytest.raises(CommitLostError):
        promote(Channel(Racing(store), "c"), R3, Channel(store, "c").read().entry)
    assert served(Channel(store, "c")) == [(2, "promote", "2"), (1, "promote", "1")]


def test_an_unknown_outcome_is_finished_by_the_next_try(any_store: MakeStore) -> None:
    store = FaultStore(any_store(), dict.fromkeys(range(2, 6), "before"))
    with pytest.raises(CommitUnknownError):
        promote(Channel(store, "c"), R1, None)
    store.faults = {}
    assert promote(Channel(store, "c"), R1, None)
    assert served(Channel(store, "c")) == [(1, "promote", "1")]


def _compete(make: MakeStore, number: int, results: object) -> None:
    channel = Channel(make(), "c")
    done = 0
    while done < 5:
        release = f"{number}{done}".ljust(64, "0")
        try:
            promote(channel, release, channel.read().entry)
        except CommitLostError:
            continue
        done += 1
    results.put(done)


def test_concurrent_promotions_lose_none_and_fork_nowhere(any_store: MakeStore) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=_compete, args=(any_store, number, results)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    history = served(Channel(any_store(), "c"))
    assert [seq for seq, _, _ in history] == list(range(20, 0, -1))
    assert len({entry.release for _, entry in Channel(any_store(), "c").history()}) == 20


def test_a_damaged_or_missing_entry_is_named(store: ArtifactStore) -> None:
    channel = Channel(store, "c")
    promote(channel, R1, None)
    path = next((store.root / "c/channels/champion/entries").iterdir())
    path.write_bytes(path.read_bytes().replace(b"promote", b"promota"))
    with pytest.raises(ObjectCorruptError, match="does not have the digest"):
        list(channel.history())
    path.unlink()
    with pytest.raises(ObjectMissingError, match=path.name):
        list(channel.history())
