"""``tidegate status``, ``releases`` and ``verify``: what serves, how it came to serve, and whether it is whole."""

import re
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Call, Served, write
from tests.conftest import settle


@pytest.fixture
def two_releases(folder: Path, cli: Call) -> list[str]:
    """The default store holds the corpus ``documents`` with two releases; return them, oldest first."""
    write(folder, {"one.md": "# one\n\nfirst\n", "zero.md": b""})
    first = cli("refresh", folder, "--json").json["release"]
    write(folder, {"two.md": "# two\n\nsecond\n"})
    settle()
    return [first, cli("refresh", folder, "--json").json["release"]]


def test_the_json_of_status(two_releases: list[str], cli: Call) -> None:
    found = cli("status", "--json").json
    last = found.pop("last_run")
    snapshot = found.pop("snapshot")
    assert found == {
        "corpus": "documents",
        "release": two_releases[1],
        "version": 2,
        "up_to_date": True,
        "documents": 2,
        "chunks": 2,
        "segments": 2,
        "quarantine": [{"document": "zero.md", "reason": "empty"}],
        "adapter": None,
        "dataset": None,
        "qa": None,
    }
    assert (last["refresh"]["outcome"], last["refresh"]["snapshot"], last["refresh"]["release"]) == (
        "done",
        snapshot,
        two_releases[1],
    )


def test_a_person_reads_what_serves_and_what_needs_attention(two_releases: list[str], cli: Call) -> None:
    heading, row, *rest = cli("status").out.splitlines()
    assert re.split(r"  +", heading) == [
        "corpus", "version", "release", "documents", "chunks", "segments", "quarantined", "last run", "current",
    ]  # fmt: skip
    assert row.split() == ["documents", "2", two_releases[1][:12], "2", "2", "2", "1", "done", "yes"]
    assert rest == ["  documents: zero.md is in quarantine: empty"]


def test_status_says_when_the_newest_snapshot_does_not_serve(home: Path, folder: Path, cli: Call) -> None:
    write(folder, {"one.md": "# one\n\nfirst\n"})
    (home / "include" / "corpora" / "held.yaml").write_text(
        f"source: {{path: {folder}}}\npromotion: {{policy: never}}\n"
    )
    refreshed = cli("refresh", "held")
    assert re.search(
        r"corpus held serves release - \(release [0-9a-f]{12} is ready but not promoted: "
        r"release [0-9a-f]{12} is ready; promotion.policy is never\)",
        refreshed.out,
    )
    assert cli("refresh", "held", "--json").json["release"] is None
    assert cli("status").out.splitlines()[1].split() == ["held", "0", "-", "1", "1", "1", "0", "done", "no"]
    assert cli("releases").out == "corpus held has no release yet\n"
    assert cli("releases", "--json").out == ""
    assert cli("verify").code == 0


def test_status_shows_the_newest_run_however_fast_they_follow(home: Path, folder: Path, cli: Call) -> None:
    write(folder, {"one.md": "# one\n\nfirst\n"})
    text = f"source: {{path: {folder}}}\nquarantine: {{max_new: 0, max_share: 0}}\n"
    (home / "include" / "corpora" / "strict.yaml").write_text(text)
    for number in range(6):
        (folder / "zero.md").unlink(missing_ok=True)
        assert cli("refresh", "strict").code == 0
        assert cli("status").out.splitlines()[1].split()[-2] == "done", number
        write(folder, {"zero.md": b""})
        assert cli("refresh", "strict").code == 1
        assert cli("status").out.splitlines()[1].split()[-2] == "failed", number


def test_status_shows_every_corpus_or_the_one_asked_for(two_releases: list[str], cli: Call, tmp_path: Path) -> None:
    cli("refresh", write(tmp_path / "another", {"a.md": "# a\n\nb\n"}))
    assert [row["corpus"] for row in cli("status", "--json").rows] == ["another", "documents"]
    assert cli("status", "--corpus", "another", "--json").json["documents"] == 1


def test_status_of_an_empty_store_says_how_to_begin(cli: Call, tmp_path: Path) -> None:
    found = cli("status", "--store", tmp_path / "none")
    assert (found.code, found.out) == (
        0,
        f"file://{tmp_path}/none holds no corpus yet; run 'tidegate refresh <folder>'\n",
    )
    assert cli("status", "--store", tmp_path / "none", "--json").out == ""
    assert not (tmp_path / "none").exists()


def test_verify_counts_what_it_read_back(two_releases: list[str], cli: Call) -> None:
    found = cli("verify")
    assert (found.code, found.err) == (0, "")
    assert (
        found.out
        == "documents: all right: 2 snapshots, 2 segments, 2 releases, 2 entries, 0 datasets, 0 adapters read back\n"
    )
    assert cli("verify", "--json").json == {
        "corpus": "documents", "snapshots": 2, "segments": 2, "releases": 2, "entries": 2, "datasets": 0,
        "adapters": 0, "ok": True,
    }  # fmt: skip


IMMUTABLE = [
    "channels/champion/entries/*.json",
    "releases/*.json",
    "snapshots/*/manifest.json",
    "snapshots/*/tombstones",
    "segments/*/segment.json",
    "segments/*/vectors.faiss",
    "segments/*/[!sv]*",
]


def damage(store: Path, pattern: str, how: str) -> str:
    """Damage the first object that matches; return its key."""
    victim = sorted(store.glob(pattern))[0]
    data = victim.read_bytes()
    if how == "missing":
        victim.unlink()
    elif how == "short":
        victim.write_bytes(data[:-1])
    else:
        middle = len(data) // 2
        victim.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    return victim.relative_to(store).as_posix()


@pytest.mark.parametrize("how", ["flipped", "short", "missing"])
@pytest.mark.parametrize("pattern", IMMUTABLE)
def test_verify_ends_with_1_and_the_reason_if_anything_is_off(
    pattern: str, how: str, served: Served, cli: Call, tmp_path: Path
) -> None:
    store = shutil.copytree(served.store, tmp_path / "copy")
    key = damage(store, f"handbook/{pattern}", how)
    found = cli("verify", "--store", store, "--json")
    assert found.code == 1
    assert key in found.err
    assert f"FAILED  {'object_missing' if how == 'missing' else 'object_corrupt'}" in found.err.splitlines()
    assert '"ok": true' not in found.out


@pytest.mark.parametrize("how", ["flipped", "short", "missing"])
@pytest.mark.parametrize("head", ["heads/snapshot.json", "channels/champion/HEAD.json"])
def test_verify_ends_with_1_if_a_head_is_off(
    head: str, how: str, two_releases: list[str], cli: Call, home: Path
) -> None:
    damage(home / ".tidegate" / "store", f"documents/{head}", how)
    found = cli("verify", "--json")
    assert found.code == 1
    assert (found.json["corpus"], found.json["ok"]) == ("documents", False)
    assert found.json["code"] in ("object_missing", "object_corrupt", "snapshot_invalid")
    assert f"FAILED  {found.json['code']}" in found.err.splitlines()


def test_verify_checks_every_corpus_of_a_store(two_releases: list[str], served: Served, cli: Call, home: Path) -> None:
    store = home / ".tidegate" / "store"
    shutil.copytree(served.store / "handbook", store / "handbook")
    assert [row["corpus"] for row in cli("verify", "--json").rows] == ["documents", "handbook"]
    key = damage(store, "handbook/releases/*.json", "missing")
    assert (cli("verify", "--corpus", "documents").code, cli("verify").code) == (0, 1)
    assert key in cli("verify").err


@pytest.mark.parametrize("key", ["runs/*/refresh.json", "scans/folder/place.json", "scans/folder/hints.json.z"])
@pytest.mark.parametrize("data", [b"[]", b"\xff garbage"])
def test_damaged_notes_cost_no_command(
    key: str, data: bytes, two_releases: list[str], folder: Path, home: Path, cli: Call
) -> None:
    for path in (home / ".tidegate" / "store" / "documents").glob(key):
        path.write_bytes(data)
    assert cli("verify").code == 0
    assert cli("status").out.splitlines()[1].split()[2] == two_releases[1][:12]
    assert cli("status", "--json").json["release"] == two_releases[1]
    assert cli("refresh", folder).code == 0
    assert cli("refresh", folder, "--corpus", "documents", "--json").json["release"] == two_releases[1]
