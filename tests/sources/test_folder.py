import os
import unicodedata
from pathlib import Path

import pytest

from tests.conftest import settle
from tidegate.core.documents import QuarantineError
from tidegate.core.errors import SourceMissingError
from tidegate.parsing.parser import kind_of
from tidegate.sources.folder import FolderSource


def source(folder: Path, **options: object) -> FolderSource:
    return FolderSource(folder, **{"accepts": lambda name: kind_of(name) is not None, "max_bytes": 1000, **options})


def names(found: FolderSource) -> list[str]:
    return [item.document for item in found.list_documents().documents]


def problems(found: FolderSource) -> dict[str, str]:
    return {item.document: item.problem for item in found.list_documents().documents if item.problem}


def test_documents_are_listed_by_relative_path_without_opening_one(folder: Path) -> None:
    (folder / "sub" / "deep").mkdir(parents=True)
    for name in ("b.md", "a.MD", "sub/c.html", "sub/deep/d.pdf", "e.txt"):
        (folder / name).write_text("text")
    for name in ("picture.png", "code.py", ".hidden.md", "noextension"):
        (folder / name).write_text("text")
    (folder / ".git").mkdir()
    (folder / ".git" / "x.md").write_text("x")
    (folder / "node_modules").mkdir()
    (folder / "node_modules" / "readme.md").write_text("x")
    found = source(folder)
    assert names(found) == ["a.MD", "b.md", "e.txt", "sub/c.html", "sub/deep/d.pdf"]
    assert found.opened == 0


def test_patterns_include_and_exclude(folder: Path) -> None:
    (folder / "drafts").mkdir()
    for name in ("a.md", "b.txt", "drafts/c.md"):
        (folder / name).write_text("text")
    assert names(source(folder, include=["*.md"])) == ["a.md", "drafts/c.md"]
    assert names(source(folder, exclude=["drafts/"])) == ["a.md", "b.txt"]


def test_a_hint_stands_for_equal_content_and_a_write_changes_it(folder: Path) -> None:
    page = folder / "a.md"
    page.write_text("one")
    settle()
    first = source(folder).list_documents().documents[0].hint
    assert first is not None
    assert source(folder).list_documents().documents[0].hint == first
    page.write_text("two")
    settle()
    second = source(folder).list_documents().documents[0].hint
    assert second not in (None, first)


def test_a_write_that_restores_size_and_modification_time_is_seen(folder: Path) -> None:
    page = folder / "a.md"
    page.write_text("one")
    before = page.stat()
    settle()
    first = source(folder).list_documents().documents[0].hint
    page.write_text("two")
    os.utime(page, ns=(before.st_atime_ns, before.st_mtime_ns))
    settle()
    assert page.stat().st_mtime_ns == before.st_mtime_ns
    assert source(folder).list_documents().documents[0].hint != first


def test_a_file_written_within_the_clocks_granularity_gets_no_hint(folder: Path) -> None:
    (folder / "a.md").write_text("one")
    assert source(folder).list_documents().documents[0].hint is None


def test_links_are_followed_only_to_files_inside(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.md").write_text("secret")
    (folder / "real.md").write_text("inside")
    (folder / "inner").mkdir()
    (folder / "inner" / "x.md").write_text("x")
    (folder / "alias.md").symlink_to("real.md")
    (folder / "alias-folder").symlink_to("inner")
    (folder / "loop").symlink_to(".")
    (folder / "file-out.md").symlink_to(outside / "secret.md")
    (folder / "folder-out").symlink_to(outside)
    (folder / "etc").symlink_to("/etc")
    (folder / "dangling.md").symlink_to("nowhere.md")
    found = source(folder)
    assert names(found) == [
        "alias.md", "dangling.md", "etc", "file-out.md", "folder-out", "inner/x.md", "real.md",
    ]  # fmt: skip
    assert problems(found) == {
        "dangling.md": "broken_link",
        "etc": "outside_root",
        "file-out.md": "outside_root",
        "folder-out": "outside_root",
    }
    assert found.read("alias.md") == b"inside"
    for name in ("file-out.md", "folder-out/secret.md"):
        with pytest.raises(QuarantineError) as caught:
            found.read(name)
        assert caught.value.reason == "outside_root"


def test_a_folder_swapped_for_a_link_after_the_listing_leads_nowhere(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.md").write_text("secret")
    (folder / "sub").mkdir()
    (folder / "sub" / "a.md").write_text("inside")
    found = source(folder)
    assert names(found) == ["sub/a.md"]
    (folder / "sub" / "a.md").unlink()
    (folder / "sub").rmdir()
    (folder / "sub").symlink_to(outside)
    with pytest.raises(QuarantineError) as caught:
        found.read("sub/a.md")
    assert caught.value.reason == "outside_root"


def test_what_is_no_regular_readable_file_of_usable_size_has_a_reason(folder: Path) -> None:
    os.mkfifo(folder / "pipe.md")
    (folder / "large.txt").write_bytes(b"x" * 1001)
    (folder / "gone.md").write_text("x")
    found = source(folder)
    assert problems(found) == {"pipe.md": "not_regular", "large.txt": "too_large"}
    assert found.opened == 0
    (folder / "gone.md").unlink()
    with pytest.raises(QuarantineError) as caught:
        found.read("gone.md")
    assert caught.value.reason == "unreadable"


def test_a_file_that_grows_past_the_limit_while_it_is_read_is_refused(folder: Path) -> None:
    (folder / "a.md").write_bytes(b"x" * 1001)
    with pytest.raises(QuarantineError) as caught:
        source(folder).read("a.md")
    assert caught.value.reason == "too_large"


def test_strange_names_are_identities_and_can_be_read(folder: Path) -> None:
    odd = "we\nird \U0001f600.md"
    (folder / odd).write_text("odd")
    (folder / unicodedata.normalize("NFD", "café.md")).write_text("accent")
    (folder / os.fsdecode(b"bytes-\xff.md")).write_text("bytes")
    found = source(folder)
    assert names(found) == ["bytes-\\xff.md", "café.md", odd]
    assert [found.read(name) for name in names(found)] == [b"bytes", b"accent", b"odd"]


def test_two_names_that_are_one_after_normalisation_do_not_share_an_identity(folder: Path) -> None:
    (folder / unicodedata.normalize("NFC", "é.md")).write_text("1")
    (folder / unicodedata.normalize("NFD", "é.md")).write_text("2")
    assert list(problems(source(folder)).values()) == ["name_conflict"]


def test_a_folder_that_cannot_be_listed_hides_nothing_as_deleted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "open").mkdir()
    (folder / "open" / "a.md").write_text("a")
    (folder / "locked").mkdir()
    (folder / "locked" / "b.md").write_text("b")
    real = os.scandir

    def scandir(path: object) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    listing = source(folder).list_documents()
    assert [item.document for item in listing.documents] == ["open/a.md"]
    assert listing.unlisted == ("locked/",)
    assert not listing.covers("locked/b.md")
    assert listing.covers("open/x.md")


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_root_that_is_no_folder_is_named(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root"
    if kind == "file":
        root.write_text("x")
    with pytest.raises(SourceMissingError, match="does not exist" if kind == "missing" else "is not a folder"):
        source(root).list_documents()
