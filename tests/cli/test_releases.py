"""``tidegate releases``, ``releases diff`` and ``rollback``: what served, what changed, and the way back."""

from __future__ import annotations

import getpass
import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Call, assert_mistake, write
from tests.conftest import settle
from tidegate.registry.events import read_events
from tidegate.registry.file_store import FileStore


@pytest.fixture
def releases(folder: Path, cli: Call) -> list[str]:
    """The default store holds the corpus ``documents`` with three releases; return them, oldest first."""
    found = []
    for text in ("first", "second", "third"):
        write(folder, {"one.md": f"# one\n\nthe {text} version\n", f"{text}.md": f"# {text}\n\nall about {text}\n"})
        if text == "third":
            (folder / "first.md").unlink()
        settle()
        found.append(cli("refresh", folder, "--json").json["release"])
    return found


def test_the_json_of_releases_is_the_chain_newest_first(releases: list[str], cli: Call) -> None:
    rows = cli("releases", "--json").rows
    keys = "corpus version op release snapshot adapter serving_mode documents chunks entry approval reason written"
    assert [set(row) for row in rows] == [set(keys.split())] * 3
    assert {row["corpus"] for row in rows} == {"documents"}
    assert [(row["version"], row["op"], row["release"], row["documents"]) for row in rows] == [
        (3, "promote", releases[2], 3),
        (2, "promote", releases[1], 3),
        (1, "promote", releases[0], 2),
    ]
    assert {(row["adapter"], row["serving_mode"]) for row in rows} == {(None, "rag")}
    assert cli("releases", "--limit", 1, "--json").rows == rows[:1]


def test_a_person_reads_the_history_of_releases(releases: list[str], cli: Call) -> None:
    cli("rollback", "--reason", "worse answers")
    heading, newest, *_, oldest = cli("releases").out.splitlines()
    assert re.split(r"  +", heading) == [
        "version", "op", "release", "mode", "snapshot", "adapter", "documents", "chunks", "by", "written (UTC)",
    ]  # fmt: skip
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(
        rf"v4 +rollback  {releases[1][:12]}  rag   [0-9a-f]{{12}}  - +3 +3  worse answers  {time}", newest
    )
    assert re.fullmatch(
        rf"v1 +promote   {releases[0][:12]}  rag   [0-9a-f]{{12}}  - +2 +2  policy         {time}", oldest
    )


def test_a_rollback_says_what_served_and_what_serves(releases: list[str], cli: Call) -> None:
    said = cli("rollback", "--reason", "worse answers")
    assert (said.code, said.err) == (0, "")
    assert said.out == (
        f"corpus documents served release {releases[2][:12]}\n"
        f"corpus documents serves release {releases[1][:12]} now (v4)\n"
    )
    assert cli("search", "second", "--json").json["release"] == releases[1]
    assert cli("verify").code == 0
    again = cli("rollback", "--reason", "worse answers")
    assert again.out == f"corpus documents serves release {releases[1][:12]} already (v4): nothing was done\n"
    assert len(cli("releases", "--json").rows) == 4


def test_the_json_of_a_rollback_and_its_event(releases: list[str], cli: Call, home: Path) -> None:
    assert cli("rollback", "--to", releases[0][:8], "--reason", "a leak", "--json").json == {
        "corpus": "documents",
        "outcome": "rolled_back",
        "release": releases[0],
        "before": releases[2],
        "serves": releases[0],
        "version": "v4",
    }
    assert cli("rollback", "--to", "v4", "--reason", "once more", "--json").json["outcome"] == "serves_already"
    events = read_events(FileStore(home / ".tidegate" / "store"), "documents", 9).events
    (event,) = [event for event in events if event.kind == "rolled_back"]
    assert (event.who.name, event.why, event.run) == (getpass.getuser(), "a leak", "tidegate rollback")


def test_a_refresh_does_not_promote_again_what_was_rolled_back(releases: list[str], folder: Path, cli: Call) -> None:
    cli("rollback", "--reason", "worse answers")
    assert f"serves release {releases[1][:12]}" in cli("refresh", folder).out
    assert cli("refresh", folder, "--json").json["release"] == releases[1]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--reason", "no"], ["the reason 'no' is shorter than 3 characters"]),
        (["--reason", ""], ["the reason '' is shorter than 3 characters"]),
        (["--to", "v9", "--reason", "worse"], ["no release of corpus documents is 'v9'; choices: v3 ", "v2 ", "v1 "]),
        (["--to", "", "--reason", "worse"], ["3 releases of corpus documents begin with ''"]),
        (["--to", "candidate", "--reason", "worse"], ["no release of corpus documents is 'candidate'"]),
        (["--corpus", "others", "--reason", "worse"], ["no corpus 'others'"]),
        ([], ["the following arguments are required: --reason"]),
    ],
)
def test_a_rollback_that_is_not_meant_is_a_mistake(
    arguments: list[str], named: list[str], releases: list[str], cli: Call
) -> None:
    assert_mistake(cli("rollback", *arguments), *named)
    assert cli("releases", "--limit", 1, "--json").json["release"] == releases[2]


def test_without_a_release_before_there_is_no_way_back(folder: Path, cli: Call) -> None:
    write(folder, {"one.md": "# one\n\nfirst\n"})
    release = cli("refresh", folder, "--json").json["release"]
    assert_mistake(
        cli("rollback", "--reason", "worse"), f"nothing served in corpus documents before release {release[:12]}"
    )
    assert_mistake(cli("rollback", "--reason", "worse", "--store", folder / "none"), "holds no corpus yet")


def test_a_rollback_to_a_release_that_is_not_whole_fails_with_the_file(
    releases: list[str], cli: Call, home: Path
) -> None:
    snapshot = cli("releases", "--json").rows[2]["snapshot"]
    (home / ".tidegate/store/documents/snapshots" / snapshot / "tombstones").unlink()
    failed = cli("rollback", "--to", "v1", "--reason", "worse")
    assert (failed.code, failed.out) == (1, "")
    assert "FAILED  object_missing" in failed.err.splitlines()
    assert f"snapshots/{snapshot}/tombstones of release {releases[0][:12]} is not in" in failed.err
    assert cli("releases", "--limit", 1, "--json").json["release"] == releases[2]


def test_a_person_reads_what_changed_between_two_releases(releases: list[str], cli: Call) -> None:
    said = cli("releases", "diff", "v1", "champion")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [
        f"release {releases[0][:12]} -> {releases[2][:12]}",
        "",
        f"documents: 2 added, 1 changed, 1 removed; 3 in {releases[2][:12]}",
        "  ~ one.md",
        "  + second.md",
        "  + third.md",
        "  - first.md",
        "",
        f"rows: 0 added, 0 changed, 0 removed; 0 in {releases[2][:12]}",
    ]


def test_the_json_of_a_difference_holds_every_name(releases: list[str], cli: Call) -> None:
    found = cli("releases", "diff", "v2", releases[2][:10], "--json").json
    assert (found["corpus"], found["first"], found["second"]) == ("documents", *releases[1:])
    assert found["documents"] == {"added": ["third.md"], "changed": ["one.md"], "removed": ["first.md"], "total": 3}
    assert found["settings"] == found["metrics"] == {}


def test_a_candidate_is_compared_with_what_serves(releases: list[str], folder: Path, home: Path, cli: Call) -> None:
    settings = f"source: {{path: {folder}}}\nretrieval: {{top_k: 5}}\npromotion: {{policy: never}}\n"
    (home / "include" / "corpora" / "documents.yaml").write_text(settings)
    settle()
    assert cli("refresh", "documents", "--json").json["release"] == releases[2]
    lines = cli("releases", "diff", "champion", "candidate").out.splitlines()
    assert lines[-2].split() == ["retrieval.top_k", "10", "5"]
    assert lines[-1].split()[0] == "gate_policy"
    assert "documents: 0 added, 0 changed, 0 removed; 3 in" in lines[2]


@pytest.mark.parametrize("place", ["before", "after"])
def test_options_of_a_difference_may_stand_before_or_after_it(
    releases: list[str], cli: Call, home: Path, tmp_path: Path, place: str
) -> None:
    (home / ".tidegate" / "store").rename(tmp_path / "elsewhere")
    options = ["--store", tmp_path / "elsewhere", "--json"]
    words = [*options, "diff", "v1", "v2"] if place == "before" else ["diff", "v1", "v2", *options]
    assert json.loads(cli("releases", *words).out)["second"] == releases[1]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["diff", "v1", "v9"], "no release of corpus documents is 'v9'"),
        (["diff", "v1"], "the following arguments are required: B"),
        (["diff", "v1", "candidate"], "corpus documents has no candidate"),
        (["difference", "v1", "v2"], "invalid choice: 'difference'"),
    ],
)
def test_a_difference_that_is_not_meant_is_a_mistake(
    arguments: list[str], named: str, releases: list[str], cli: Call
) -> None:
    assert_mistake(cli("releases", *arguments), named)
