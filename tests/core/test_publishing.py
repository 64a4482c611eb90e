"""The write protocol: a lost answer is not a lost race, and nothing is ever deleted or written twice."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes import FaultStore
from tidegate.core import publishing
from tidegate.core.errors import CommitLostError, CommitUnknownError, ObjectCorruptError, StoreUnavailableError
from tidegate.core.protocols import ArtifactStore
from tidegate.core.publishing import ATTEMPTS, Outcome, advance, create_once, require_applied

MakeStore = Callable[[], ArtifactStore]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_FIRST_WAIT_SECONDS", 0.0)


@pytest.mark.parametrize("fault", ["before", "after", "conflict"])
def test_an_immutable_object_is_written_through_a_fault(any_store: MakeStore, fault: str) -> None:
    store = FaultStore(any_store(), {1: fault})
    create_once(store, "a/b", b"bytes")
    assert store.read("a/b").data == b"bytes"


def test_writing_the_same_bytes_again_is_no_change_and_other_bytes_are_refused(
    any_store: MakeStore, tmp_path: Path
) -> None:
    store = any_store()
    create_once(store, "a/b", b"bytes")
    create_once(store, "a/b", b"bytes")
    file = tmp_path / "file"
    file.write_bytes(b"bytes")
    create_once(store, "a/b", file)
    with pytest.raises(ObjectCorruptError, match=r"a/b in .* exists with other bytes"):
        create_once(store, "a/b", b"other")
    file.write_bytes(b"other")
    with pytest.raises(ObjectCorruptError):
        create_once(store, "a/b", file)
    assert store.read("a/b").data == b"bytes"


def test_a_store_that_never_answers_is_reported_as_unavailable(any_store: MakeStore) -> None:
    store = FaultStore(any_store(), dict.fromkeys(range(1, 20), "before"))
    with pytest.raises(StoreUnavailableError, match="no answer while writing a/b"):
        create_once(store, "a/b", b"bytes")
    assert len(store.mutations) == ATTEMPTS


def mine(data: bytes) -> bool:
    return data == b"mine"


@pytest.mark.parametrize("fault", ["before", "after", "conflict"])
@pytest.mark.parametrize("first", [True, False])
def test_a_head_moves_through_a_fault_exactly_once(any_store: MakeStore, fault: str, first: bool) -> None:
    store = FaultStore(any_store(), {})
    if not first:
        store.create("head", b"old")
        store.mutations.clear()
    store.faults = {1: fault}
    expected = None if first else store.read("head")
    assert advance(store, "head", expected, b"mine", mine) is Outcome.APPLIED
    assert store.read("head").data == b"mine"
    assert len(store.mutations) == (1 if fault == "after" else 2)


def test_a_head_that_someone_else_moved_is_lost(any_store: MakeStore) -> None:
    store = any_store()
    store.create("head", b"old")
    expected = store.read("head")
    store.swap("head", b"theirs", expected.version)
    assert advance(store, "head", expected, b"mine", mine) is Outcome.LOST
    assert advance(store, "head", None, b"mine", mine) is Outcome.LOST
    assert store.read("head").data == b"theirs"


def test_a_head_that_stands_on_this_operation_counts_as_applied(any_store: MakeStore) -> None:
    store = any_store()
    store.create("head", b"old")
    expected = store.read("head")
    store.swap("head", b"later", expected.version)
    assert advance(store, "head", expected, b"mine", lambda data: data == b"later") is Outcome.APPLIED


def test_a_store_that_never_tells_leaves_the_outcome_unknown(any_store: MakeStore) -> None:
    store = FaultStore(any_store(), dict.fromkeys(range(1, 20), "before"))
    assert advance(store, "head", None, b"mine", mine) is Outcome.UNKNOWN


def test_the_outcomes_become_failures_that_say_what_to_do() -> None:
    require_applied(Outcome.APPLIED, "x")
    with pytest.raises(CommitLostError, match="x was not committed"):
        require_applied(Outcome.LOST, "x")
    with pytest.raises(CommitUnknownError) as caught:
        require_applied(Outcome.UNKNOWN, "x")
    assert caught.value.retryable
