"""One suite for every backend: what the protocol promises, on a folder and on an S3 server."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tidegate.core.errors import StoreDeniedError, StoreUnavailableError, StoreUriError
from tidegate.core.protocols import ArtifactStore, PreconditionFailedError
from tidegate.registry.file_store import SCRATCH, FileStore
from tidegate.registry.store import open_store

MakeStore = Callable[[], ArtifactStore]


def test_an_object_is_created_once(any_store: MakeStore) -> None:
    store = any_store()
    assert store.read("c/a") is None
    assert store.fetch("c/a") is None
    store.create("c/a", b"one")
    with pytest.raises(PreconditionFailedError):
        store.create("c/a", b"two")
    assert any_store().read("c/a").data == b"one"
    assert store.fetch("c/a").read_bytes() == b"one"


def test_a_file_is_created_from_a_path(any_store: MakeStore, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(300_000))
    store = any_store()
    store.create("c/large", path)
    assert store.read("c/large").data == path.read_bytes()
    assert store.bytes_written == 300_000


def test_a_head_is_swapped_only_from_the_version_that_was_read(any_store: MakeStore) -> None:
    store = any_store()
    with pytest.raises(PreconditionFailedError):
        store.swap("head", b"x", '"0"')
    store.create("head", b"one")
    first = store.read("head")
    store.swap("head", b"two", first.version)
    with pytest.raises(PreconditionFailedError):
        store.swap("head", b"three", first.version)
    assert store.read("head").data == b"two"
    assert store.read("head").version != first.version


def test_a_failed_condition_writes_nothing(any_store: MakeStore) -> None:
    store = any_store()
    store.create("a", b"12345")
    with pytest.raises(PreconditionFailedError):
        store.create("a", b"67")
    assert store.bytes_written == 5


def test_hints_may_be_overwritten(any_store: MakeStore) -> None:
    store = any_store()
    store.put("h", b"one")
    store.put("h", b"two")
    assert store.read("h").data == b"two"


def test_listing_is_by_prefix_in_key_order_with_sizes_and_times(any_store: MakeStore) -> None:
    store = any_store()
    for key in ("a/2", "a/1/x", "b/1", "a/10"):
        store.create(key, key.encode())
    found = list(store.list_keys("a/"))
    assert [item.key for item in found] == ["a/1/x", "a/10", "a/2"]
    assert [item.size for item in found] == [5, 4, 3]
    assert all(abs(item.modified - store.now()) < 60 for item in found)
    assert [item.key for item in store.list_keys("a/1")] == ["a/1/x", "a/10"]
    assert [item.key for item in store.list_keys("")] == ["a/1/x", "a/10", "a/2", "b/1"]
    assert list(store.list_keys("nothing/")) == []


def test_children_are_the_folders_directly_below(any_store: MakeStore) -> None:
    store = any_store()
    assert store.children("") == []
    for key in ("x/heads/h", "x/runs/1/r", "x/runs/2/r", "y/heads/h", "top"):
        store.create(key, b"")
    assert store.children("") == ["x", "y"]
    assert store.children("x/runs/") == ["1", "2"]
    assert store.children("z/") == []


def _race(make: Callable[[], ArtifactStore], number: int, barrier: object, results: object) -> None:
    store = make()
    barrier.wait()
    won = 0
    for round_number in range(20):
        try:
            store.create(f"race/{round_number}", str(number).encode())
            won += 1
        except PreconditionFailedError:
            pass
    results.put(won)


def test_of_many_processes_exactly_one_creates_each_key(any_store: MakeStore) -> None:
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(4), context.Queue()
    racers = [context.Process(target=_race, args=(any_store, number, barrier, results)) for number in range(4)]
    for racer in racers:
        racer.start()
    wins = [results.get(timeout=60) for _ in racers]
    for racer in racers:
        racer.join()
    assert sum(wins) == 20


def _increment(make: Callable[[], ArtifactStore], times: int) -> None:
    store = make()
    for _ in range(times):
        while True:
            stored = store.read("counter")
            try:
                store.swap("counter", str(int(stored.data) + 1).encode(), stored.version)
                break
            except PreconditionFailedError:
                continue


def test_no_increment_of_a_shared_counter_is_lost(any_store: MakeStore) -> None:
    any_store().create("counter", b"0")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_increment, args=(any_store, 10)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert any_store().read("counter").data == b"40"


def test_a_folder_store_leaves_no_scratch_and_refuses_keys_that_leave_it(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "s")
    store.create("a", b"x")
    with pytest.raises(PreconditionFailedError):
        store.create("a", b"y")
    assert [path.name for path in (tmp_path / "s" / SCRATCH).iterdir()] == ["lock"]
    for key in ("../out", "/etc/x", "a/../../b", ".scratch/lock"):
        with pytest.raises(ValueError, match="not a key"):
            store.create(key, b"")


def test_a_server_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    store = open_store("s3://bucket/prefix", base=tmp_path)
    with pytest.raises(StoreUnavailableError, match="s3://bucket/prefix"):
        store.put("a", b"x")


def test_a_bucket_that_does_not_exist_says_so(s3_environment: dict[str, str], tmp_path: Path) -> None:
    store = open_store("s3://no-such-bucket", base=tmp_path)
    with pytest.raises(StoreUriError, match="the bucket 'no-such-bucket' does not exist"):
        store.create("a", b"x")
    with pytest.raises(StoreUriError, match="does not exist"):
        store.read("a")


def test_no_credentials_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, s3_url: str) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_url)
    with pytest.raises(StoreDeniedError, match="credentials"):
        open_store("s3://bucket", base=tmp_path).read("a")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("ftp://host/x", "unknown scheme 'ftp'"),
        ("s3://", "names no bucket"),
        ("file://host/x", "not an absolute file URI"),
        ("", "is empty"),
    ],
)
def test_a_wrong_uri_names_the_valid_ones(uri: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(StoreUriError) as caught:
        open_store(uri, base=tmp_path)
    assert expected in caught.value.what
    assert "s3://bucket/prefix" in caught.value.next_action


def test_a_plain_path_is_a_folder_below_the_base(tmp_path: Path) -> None:
    open_store("some/store", base=tmp_path).create("a", b"x")
    assert (tmp_path / "some" / "store" / "a").read_bytes() == b"x"
    with pytest.raises(StoreUriError, match="is a file, not a folder"):
        open_store("some/store/a", base=tmp_path)
