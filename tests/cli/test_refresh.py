"""``tidegate refresh``: its JSON through every kind of change, what a person reads, and which corpus a folder is."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Call, write
from tests.conftest import settle

PAGES = {
    name: f"# {name}\n\nThe page about {name} explains the word {name}.\n"
    for name in ("amber", "basalt", "cobalt", "dolomite")
}
DOCUMENTS = {f"{name}.md": text for name, text in PAGES.items()}
COUNTS = ["total", "added", "modified", "moved", "deleted", "quarantined", "unchanged"]


def counts(**changed: int) -> dict[str, int]:
    return {name: changed.get(name, 0) for name in COUNTS}


@pytest.fixture
def pages(folder: Path) -> Path:
    write(folder, DOCUMENTS | {"zero.md": b""})
    settle()
    return folder


def objects(store: Path) -> dict[str, tuple[int, int]]:
    """Key to (size, mtime) of every object of a store folder."""
    found = {path.relative_to(store).as_posix(): path.stat() for path in store.rglob("*") if path.is_file()}
    return {key: (status.st_size, status.st_mtime_ns) for key, status in found.items() if not key.startswith(".")}


def test_the_json_of_every_kind_of_change(pages: Path, cli: Call) -> None:
    (pages / "zero.md").rename(pages / "broken.pdf")
    write(pages, {"broken.pdf": b"%PDF-1.4 nothing follows"})
    settle()
    first = cli("refresh", pages, "--json").json
    assert set(first) == {
        "snapshot", "release", "documents", "chunks", "files_opened", "bytes_written", "seconds", "quarantine",
    }  # fmt: skip
    assert first["documents"] == counts(total=5, added=4, quarantined=1)
    assert first["chunks"] == {"live": 4, "embedded": 4, "reused": 0, "removed": 0}
    assert first["files_opened"] == 5
    assert first["quarantine"] == [{"document": "broken.pdf", "reason": "corrupt"}]

    write(
        pages,
        {
            "amber.md": DOCUMENTS["amber.md"] + "It was edited.\n",
            "new/emerald.md": "# emerald\n\nA new page.\n",
            "zero.md": b"",
        },
    )
    (pages / "basalt.md").rename(pages / "new" / "basalt.md")
    (pages / "cobalt.md").unlink()
    settle()
    second = cli("refresh", pages, "--json").json
    assert second["documents"] == counts(total=6, added=1, modified=1, moved=1, deleted=1, quarantined=2, unchanged=1)
    assert second["chunks"] == {"live": 4, "embedded": 2, "reused": 2, "removed": 2}
    assert second["files_opened"] == 4
    assert second["quarantine"] == [
        {"document": "broken.pdf", "reason": "corrupt"},
        {"document": "zero.md", "reason": "empty"},
    ]
    assert len({first["snapshot"], first["release"], second["snapshot"], second["release"]}) == 4

    third = cli("refresh", pages, "--json").json
    assert third["documents"] == counts(total=6, quarantined=2, unchanged=4)
    assert third["chunks"] == {"live": 4, "embedded": 0, "reused": 4, "removed": 0}
    assert (third["files_opened"], third["bytes_written"]) == (0, 0)
    assert (third["snapshot"], third["release"]) == (second["snapshot"], second["release"])
    assert third["quarantine"] == second["quarantine"]


def test_a_document_that_breaks_keeps_its_last_good_version_and_comes_back(pages: Path, cli: Call) -> None:
    (pages / "zero.md").unlink()
    cli("refresh", pages)
    write(pages, {"dolomite.md": b"\xff\xfe broken \x80"})
    settle()
    broken = cli("refresh", pages, "--json").json
    assert broken["documents"] == counts(total=4, quarantined=1, unchanged=3)
    assert broken["chunks"] == {"live": 4, "embedded": 0, "reused": 4, "removed": 0}
    assert [item["document"] for item in broken["quarantine"]] == ["dolomite.md"]
    found = cli("search", "dolomite", "--mode", "sparse", "--json").json
    assert [hit["document"] for hit in found["passages"]] == ["dolomite.md"]
    write(pages, {"dolomite.md": DOCUMENTS["dolomite.md"]})
    settle()
    mended = cli("refresh", pages, "--json").json
    assert (mended["documents"]["quarantined"], mended["quarantine"], mended["chunks"]["embedded"]) == (0, [], 0)


def test_bytes_written_is_what_the_store_gained_but_for_the_run_record(pages: Path, cli: Call, tmp_path: Path) -> None:
    written = cli("refresh", pages, "--store", tmp_path / "store", "--json").json["bytes_written"]
    sizes = {key: size for key, (size, _) in objects(tmp_path / "store").items()}
    assert written == sum(size for key, size in sizes.items() if "/runs/" not in key)


def test_with_nothing_changed_only_the_run_record_is_written(
    pages: Path, cli: Call, process: Call, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    cli("refresh", pages, "--store", store)
    before = objects(store)
    result = process("refresh", pages, "--store", store, "--json")
    after = objects(store)
    (added,) = set(after) - set(before)
    assert added.startswith("documents/runs/")
    assert added.endswith("/refresh.json")
    assert {key: after[key] for key in before} == before
    assert (result.json["files_opened"], result.json["bytes_written"], result.err) == (0, 0, "")
    record = json.loads((store / added).read_text())
    assert {name: record[name] for name in result.json} == result.json
    assert record["outcome"] == "done"


def test_a_person_reads_counts_quarantine_and_what_serves(pages: Path, cli: Call) -> None:
    release = cli("refresh", pages, "--json").json["release"]
    lines = cli("refresh", pages).out.splitlines()
    assert [line.split() for line in lines if line] == [
        ["documents", *COUNTS], ["5", "0", "0", "0", "0", "1", "4"],
        ["chunks", "live", "embedded", "reused", "removed"], ["4", "0", "4", "0"],
        ["quarantined", "reason"], ["zero.md", "empty"],
        lines[-1].split(),
    ]  # fmt: skip
    assert lines[-1].startswith(
        f"corpus documents serves release {release[:12]}: 0 documents opened, 0 bytes written, "
    )


def test_the_name_of_a_document_cannot_break_a_line_or_colour_it(folder: Path, cli: Call) -> None:
    write(folder, {"two\nlines\x1b[31m.md": b"", "ok.md": "# ok\n\nfine\n"})
    found = cli("refresh", folder)
    assert found.out.split("\n").count("two\\nlines\\x1b[31m.md  empty") == 1
    assert cli("refresh", folder, "--json").json["quarantine"] == [
        {"document": "two\nlines\x1b[31m.md", "reason": "empty"}
    ]


def test_a_folder_that_moved_goes_on_as_its_corpus_and_says_so(pages: Path, cli: Call, tmp_path: Path) -> None:
    cli("refresh", pages)
    shutil.move(pages, tmp_path / "elsewhere")
    found = cli("refresh", tmp_path / "elsewhere", "--json")
    assert found.json["documents"] == counts(total=5, quarantined=1, unchanged=4)
    assert found.json["chunks"]["embedded"] == 0
    assert found.err == f"{pages} is gone; its corpus documents goes on from {tmp_path / 'elsewhere'}\n"


@pytest.mark.parametrize("way", ["../documents", ".", "../documents/../documents/", "{link}"])
def test_one_folder_is_one_corpus_however_it_is_written(
    way: str, pages: Path, cli: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("refresh", pages)
    (tmp_path / "link").symlink_to(pages)
    monkeypatch.chdir(pages)
    again = cli("refresh", way.format(link=tmp_path / "link"), "--json").json
    assert (again["documents"], again["files_opened"]) == (counts(total=5, quarantined=1, unchanged=4), 0)
    assert [row["corpus"] for row in cli("status", "--json").rows] == ["documents"]


def test_two_folders_of_one_name_are_two_corpora(pages: Path, cli: Call, tmp_path: Path) -> None:
    other = write(tmp_path / "other" / "documents", {"one.md": "# one\n\nalone\n"})
    cli("refresh", pages)
    assert cli("refresh", other, "--json").json["documents"] == counts(total=1, added=1)
    assert cli("refresh", other, "--json").json["documents"] == counts(total=1, unchanged=1)
    assert cli("refresh", pages, "--json").json["documents"] == counts(total=5, quarantined=1, unchanged=4)
    names = [row["corpus"] for row in cli("status", "--json").rows]
    assert names[0] == "documents"
    assert names[1].startswith("documents-")


def test_a_folder_does_not_take_the_name_of_a_configured_corpus(
    pages: Path, cli: Call, home: Path, tmp_path: Path
) -> None:
    other = write(tmp_path / "other", {"one.md": "# one\n\nalone\n"})
    (home / "include" / "corpora" / "documents.yaml").write_text(f"source: {{path: {other}}}\n")
    cli("refresh", pages)
    assert cli("refresh", "documents", "--json").json["documents"] == counts(total=1, added=1)


def test_a_corpus_file_names_its_folder_from_the_home(
    pages: Path, cli: Call, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages.rename(home / "pages")
    (home / "include" / "corpora" / "guide.yaml").write_text("source: {path: pages}\nquarantine: {max_new: 0}\n")
    monkeypatch.chdir("/")
    assert cli("refresh", "guide", "--json").json["documents"] == counts(total=5, added=4, quarantined=1)


def test_corpus_names_the_corpus_of_a_folder(pages: Path, cli: Call) -> None:
    cli("refresh", pages, "--corpus", "stones")
    assert [row["corpus"] for row in cli("status", "--json").rows] == ["stones"]
    assert cli("refresh", pages, "--json").json["documents"] == counts(total=5, quarantined=1, unchanged=4)


def test_a_store_on_the_command_line_wins_over_the_environment(
    pages: Path, cli: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_STORE", str(tmp_path / "environment"))
    cli("refresh", pages)
    assert (tmp_path / "environment" / "documents" / "heads").is_dir()
    cli("refresh", pages, "--store", (tmp_path / "given").as_uri())
    assert (tmp_path / "given" / "documents" / "heads").is_dir()


def test_the_store_may_be_a_bucket(pages: Path, cli: Call, s3_uri: str) -> None:
    first = cli("refresh", pages, "--store", s3_uri, "--json").json
    again = cli("refresh", pages, "--store", s3_uri, "--json").json
    assert (again["release"], again["files_opened"], again["bytes_written"]) == (first["release"], 0, 0)
    (hit,) = cli("search", "cobalt", "--mode", "sparse", "--store", s3_uri, "--json").json["passages"]
    assert hit["document"] == "cobalt.md"
    assert cli("verify", "--store", s3_uri).code == 0


def test_a_refresh_that_fails_leaves_its_reason_for_status(home: Path, pages: Path, cli: Call) -> None:
    (home / "include" / "corpora" / "strict.yaml").write_text(
        f"source: {{path: {pages}}}\nquarantine: {{max_new: 0, max_share: 0}}\n"
    )
    failed = cli("refresh", "strict", "--json")
    assert (failed.code, failed.out) == (1, "")
    assert "FAILED  quarantine_exceeded" in failed.err.splitlines()
    (pages / "zero.md").unlink()
    cli("refresh", "strict")
    write(pages, {"worse.md": b""})
    cli("refresh", "strict")
    shown = cli("status").out
    assert "strict: refresh failed with quarantine_exceeded: 1 of 5 documents failed" in shown
    assert "worse.md: empty" in shown
    assert "strict: next: repair the documents listed above or raise quarantine.max_new" in shown
