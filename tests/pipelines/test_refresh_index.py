"""Cost follows change: what is opened, embedded and written, exactly."""

import errno
import os
from pathlib import Path

import pytest

from tests.conftest import make_workspace, refresh, settle
from tests.fakes import HashEmbedder
from tidegate.core.documents import QUARANTINE_REASONS, QuarantineError
from tidegate.core.errors import (
    CommitLostError,
    ConfigInvalidError,
    QuarantineExceededError,
    SourceEmptyError,
    SourceIncompleteError,
    StoreFullError,
)
from tidegate.core.protocols import ArtifactStore
from tidegate.indexing import builder
from tidegate.indexing.snapshot import Snapshot
from tidegate.parsing.parser import Parser
from tidegate.pipelines import refresh_index
from tidegate.pipelines.search_index import open_champion
from tidegate.pipelines.workspace import Workspace


def page(number: int, word: str = "steady") -> str:
    sections = "".join(
        f"## Part {part}\n\nPage {number} part {part} is {word}{part}.\n\n{'filler ' * 60}{number}\n\n"
        for part in range(4)
    )
    return f"# Page {number}\n\n{sections}"


@pytest.fixture
def pages(folder: Path) -> Path:
    for number in range(20):
        (folder / f"{number:02}.md").write_text(page(number))
    settle()
    return folder


def keys(store: ArtifactStore) -> set[str]:
    return {stored.key for stored in store.list_keys("")}


def counts(report: refresh_index.RefreshReport) -> dict[str, int]:
    return {name: count for name, count in report.documents.items() if count and name != "total"}


def test_the_first_refresh_indexes_everything(pages: Path, workspace: Workspace) -> None:
    report = refresh(workspace)
    assert report.documents == {
        "total": 20, "added": 20, "modified": 0, "moved": 0, "deleted": 0, "quarantined": 0, "unchanged": 0,
    }  # fmt: skip
    assert report.chunks == {"live": 80, "embedded": 80, "reused": 0, "removed": 0}
    assert report.files_opened == 20


def test_with_nothing_new_nothing_is_opened_embedded_or_written(
    pages: Path, workspace: Workspace, embedder: HashEmbedder, store: ArtifactStore
) -> None:
    refresh(workspace)
    before, written = keys(store), store.bytes_written
    embedder.embedded.clear()
    report = refresh(make_workspace(pages, store, embedder))
    assert counts(report) == {"unchanged": 20}
    assert report.files_opened == 0
    assert report.chunks == {"live": 80, "embedded": 0, "reused": 80, "removed": 0}
    assert embedder.embedded == []
    assert keys(store) == before
    assert store.bytes_written == written


def test_one_edited_line_embeds_one_chunk_and_writes_little(
    pages: Path, workspace: Workspace, embedder: HashEmbedder, store: ArtifactStore
) -> None:
    refresh(workspace)
    built = store.bytes_written
    embedder.embedded.clear()
    (pages / "07.md").write_text(page(7).replace("part 2 is steady2", "part 2 is moody2"))
    report = refresh(workspace)
    assert counts(report) == {"modified": 1, "unchanged": 19}
    assert report.files_opened == 1
    assert report.chunks == {"live": 80, "embedded": 1, "reused": 79, "removed": 1}
    assert len(embedder.embedded) == 1
    assert "moody2" in embedder.embedded[0]
    assert store.bytes_written - built < 0.5 * built


def test_touched_files_are_hashed_and_nothing_else(pages: Path, workspace: Workspace, embedder: HashEmbedder) -> None:
    refresh(workspace)
    embedder.embedded.clear()
    for path in pages.iterdir():
        os.utime(path)
    settle()
    report = refresh(workspace)
    assert (counts(report), report.files_opened, embedder.embedded) == ({"unchanged": 20}, 20, [])
    assert refresh(workspace).files_opened == 0


def test_lost_hints_cost_one_pass_of_hashing(pages: Path, workspace: Workspace, store: ArtifactStore) -> None:
    refresh(workspace)
    (store.root / "test/scans/folder/hints.json.z").unlink()
    assert refresh(workspace).files_opened == 20
    assert refresh(workspace).files_opened == 0


def test_a_moved_tree_embeds_nothing_and_answers_the_same(
    pages: Path, workspace: Workspace, embedder: HashEmbedder, store: ArtifactStore
) -> None:
    refresh(workspace)
    answers = open_champion(workspace).search(["Page 3 part 1 is steady1"], mode="sparse")[0]
    embedder.embedded.clear()
    (pages / "moved").mkdir()
    for path in sorted(pages.glob("*.md")):
        path.rename(pages / "moved" / path.name)
    report = refresh(workspace)
    assert counts(report) == {"moved": 20}
    assert report.chunks == {"live": 80, "embedded": 0, "reused": 80, "removed": 0}
    assert embedder.embedded == []
    after = open_champion(workspace).search(["Page 3 part 1 is steady1"], mode="sparse")[0]
    assert [hit.document for hit in after] == [f"moved/{hit.document}" for hit in answers]
    assert [hit.score for hit in after] == [hit.score for hit in answers]


def test_of_two_documents_with_the_same_text_either_may_go(
    folder: Path, workspace: Workspace, embedder: HashEmbedder
) -> None:
    for name in ("a.md", "b.md"):
        (folder / name).write_text("# Twin\n\nThe very same words.\n")
    report = refresh(workspace)
    assert report.chunks["embedded"] == 1
    (hit,) = open_champion(workspace).search(["very same words"])[0]
    assert (hit.document, hit.also_in) == ("a.md", ("b.md",))
    (folder / "a.md").unlink()
    report = refresh(workspace)
    assert report.chunks == {"live": 1, "embedded": 0, "reused": 1, "removed": 0}
    (hit,) = open_champion(workspace).search(["very same words"])[0]
    assert (hit.document, hit.also_in) == ("b.md", ())


def test_a_document_that_comes_back_is_not_embedded_again(
    pages: Path, workspace: Workspace, embedder: HashEmbedder
) -> None:
    refresh(workspace)
    text = (pages / "03.md").read_text()
    (pages / "03.md").unlink()
    assert refresh(workspace).chunks == {"live": 76, "embedded": 0, "reused": 76, "removed": 4}
    assert open_champion(workspace).search(["Page 3 part 1"], mode="sparse", filters={"document": ["03.md"]})[0] == []
    (pages / "03.md").write_text(text)
    report = refresh(workspace)
    assert counts(report) == {"added": 1, "unchanged": 19}
    assert report.chunks == {"live": 80, "embedded": 0, "reused": 80, "removed": 0}


def test_the_empty_corpus_is_defined(folder: Path, workspace: Workspace) -> None:
    report = refresh(workspace)
    assert report.documents["total"] == 0
    assert open_champion(workspace).search(["anything"]) == [[]]
    (folder / "a.md").write_text("# A\n\nwords")
    assert refresh(workspace).documents["total"] == 1
    (folder / "a.md").unlink()
    assert counts(refresh(workspace)) == {"deleted": 1}
    assert open_champion(workspace).search(["words"]) == [[]]


def test_a_broken_document_keeps_its_last_good_version_and_recovers(
    folder: Path, workspace: Workspace, embedder: HashEmbedder
) -> None:
    good = "# Tides\n\nHigh water at noon.\n"
    (folder / "a.md").write_text(good)
    (folder / "b.md").write_text("# Other\n\nNothing here.\n")
    refresh(workspace)
    (folder / "a.md").write_bytes(b"\x00 binary")
    settle()
    report = refresh(workspace)
    assert report.quarantine == [{"document": "a.md", "reason": "not_text"}]
    assert counts(report) == {"quarantined": 1, "unchanged": 1}
    assert open_champion(workspace).search(["high water"])[0][0].text == "High water at noon."
    assert refresh(workspace).files_opened == 0
    embedder.embedded.clear()
    (folder / "a.md").write_text(good)
    report = refresh(workspace)
    assert (counts(report), report.quarantine, embedder.embedded) == ({"modified": 1, "unchanged": 1}, [], [])


def test_a_document_that_never_parsed_is_listed_and_not_tried_again(folder: Path, workspace: Workspace) -> None:
    (folder / "a.md").write_bytes(b"")
    (folder / "b.md").write_text("text")
    settle()
    assert refresh(workspace).quarantine == [{"document": "a.md", "reason": "empty"}]
    again = refresh(workspace)
    assert (again.files_opened, again.quarantine) == (0, [{"document": "a.md", "reason": "empty"}])
    (folder / "a.md").unlink()
    assert refresh(workspace).quarantine == []


def test_too_many_newly_failing_documents_stop_the_refresh(pages: Path, store: ArtifactStore) -> None:
    workspace = make_workspace(pages, store, quarantine={"max_new": 2, "max_share": 0.1})
    refresh(workspace)
    before = keys(store)
    for number in range(3):
        (pages / f"{number:02}.md").write_bytes(b"\xc3\x28")
    with pytest.raises(QuarantineExceededError) as caught:
        refresh(workspace)
    assert "3 of 20 documents failed, more than quarantine.max_new 2 and quarantine.max_share 0.1" in caught.value.what
    assert "00.md: bad_encoding; 01.md: bad_encoding; 02.md: bad_encoding" in caught.value.what
    assert keys(store) == before
    refresh(make_workspace(pages, store, quarantine={"max_new": 2, "max_share": 0.2}))


def test_an_empty_listing_deletes_only_where_that_is_allowed(pages: Path, store: ArtifactStore) -> None:
    refresh(make_workspace(pages, store))
    for path in pages.iterdir():
        path.unlink()
    guarded = make_workspace(pages, store, source={"allow_empty": False})
    with pytest.raises(SourceEmptyError, match="lists no document, but the index holds 20"):
        refresh(guarded)
    assert counts(refresh(make_workspace(pages, store))) == {"deleted": 20}


def test_what_could_not_be_listed_is_kept_and_the_rest_is_published(
    pages: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, store: ArtifactStore
) -> None:
    (pages / "locked").mkdir()
    (pages / "locked" / "a.md").write_text("# Locked\n\nKept words.\n")
    refresh(workspace)
    (pages / "new.md").write_text("# New\n\nFresh words.\n")
    (pages / "00.md").unlink()
    real = os.scandir

    def scandir(path: object) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(SourceIncompleteError, match="1 folders of corpus test could not be listed: locked/"):
        refresh(workspace)
    from tidegate.registry.heads import read_head

    names = Snapshot(store, "test", read_head(store, "test").snapshot).ledger.column("document").to_pylist()
    assert "locked/a.md" in names
    assert "new.md" in names
    assert "00.md" not in names
    with pytest.raises(SourceIncompleteError):
        refresh(workspace)
    monkeypatch.undo()
    assert refresh(workspace).documents["total"] == 21


def test_another_embedder_embeds_everything_again(pages: Path, workspace: Workspace, store: ArtifactStore) -> None:
    refresh(workspace)
    other = HashEmbedder(revision="b" * 64)
    report = refresh(make_workspace(pages, store, other))
    assert report.chunks == {"live": 80, "embedded": 80, "reused": 0, "removed": 80}
    assert counts(report) == {"modified": 20}
    assert len(Snapshot(store, "test", report.snapshot).segments) == 1


def test_another_chunk_size_redoes_the_chunks_and_reuses_equal_texts(
    folder: Path, store: ArtifactStore, embedder: HashEmbedder
) -> None:
    (folder / "long.md").write_text(page(1))
    (folder / "short.md").write_text("# Short\n\nA few words.\n")
    refresh(make_workspace(folder, store, embedder))
    embedder.embedded.clear()
    report = refresh(make_workspace(folder, store, embedder, chunking={"max_tokens": 40, "min_tokens": 4}))
    assert counts(report) == {"modified": 2}
    assert not any("A few words" in text for text in embedder.embedded)
    assert report.chunks["embedded"] == len(embedder.embedded) > 4


def test_a_full_scratch_folder_is_a_typed_failure(
    folder: Path, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.md").write_text("text")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(builder, "write_segment", full)
    with pytest.raises(StoreFullError, match="no space left for scratch files in"):
        refresh(make_workspace(folder, store))


def test_a_chunk_larger_than_the_embedder_takes_is_refused_before_any_work(folder: Path, store: ArtifactStore) -> None:
    (folder / "a.md").write_text("text")
    with pytest.raises(ConfigInvalidError, match=r"chunking\.max_tokens is 400, but hash takes at most 254"):
        refresh(make_workspace(folder, store, chunking={"max_tokens": 400}))


def test_path_rules_give_metadata_and_a_change_of_rules_touches_no_document(folder: Path, store: ArtifactStore) -> None:
    (folder / "runbooks").mkdir()
    (folder / "runbooks" / "a.md").write_text("# A\n\nfirst words\n")
    (folder / "b.md").write_text("---\ndoc_type: own\n---\n# B\n\nfirst words again\n")
    settle()
    rules = [{"match": "runbooks/**", "set": {"doc_type": "runbook"}}, {"match": "*.md", "set": {"team": "x"}}]
    refresh(make_workspace(folder, store))
    workspace = make_workspace(folder, store, metadata=rules)
    report = refresh(workspace)
    assert (report.files_opened, counts(report)) == (0, {"unchanged": 2})
    search = open_champion(workspace).search
    assert [hit.document for hit in search(["first words"], filters={"doc_type": ["runbook"]})[0]] == ["runbooks/a.md"]
    assert [hit.document for hit in search(["first words"], filters={"doc_type": ["own"]})[0]] == ["b.md"]
    assert len(search(["first words"], filters={"team": ["x"]})[0]) == 2
    assert search(["first words"], filters={"team": ["x"], "doc_type": ["zzz"]})[0] == []
    with pytest.raises(
        ConfigInvalidError, match="no document has the metadata key 'docs_type'; did you mean 'doc_type'"
    ):
        search(["x"], filters={"docs_type": ["a"]})


def test_a_run_that_lost_the_race_publishes_nothing_and_the_next_succeeds(pages: Path, store: ArtifactStore) -> None:
    slow = make_workspace(pages, store)
    plan = refresh_index.detect(slow)
    (pages / "new.md").write_text("# New\n\nwords\n")
    quick = refresh(make_workspace(pages, store))
    with pytest.raises(CommitLostError):
        refresh_index.commit(slow, plan, refresh_index.embed(slow, plan.capture.texts))
    assert open_champion(slow).release.bundle.snapshot == quick.snapshot
    assert counts(refresh(slow)) == {"unchanged": 21}


def test_committing_twice_is_committing_once(pages: Path, workspace: Workspace) -> None:
    plan = refresh_index.detect(workspace)
    vectors = refresh_index.embed(workspace, plan.capture.texts)
    first = refresh_index.commit(workspace, plan, vectors)
    assert refresh_index.commit(workspace, plan, vectors) == first


def test_every_quarantine_reason_is_a_word_with_a_meaning() -> None:
    assert all(reason.replace("_", "").isalpha() and meaning for reason, meaning in QUARANTINE_REASONS.items())


def test_many_small_refreshes_leave_few_segments(folder: Path, store: ArtifactStore) -> None:
    workspace = make_workspace(folder, store)
    for number in range(30):
        (folder / f"{number}.md").write_text(page(number))
        report = refresh(workspace)
    snapshot = Snapshot(store, "test", report.snapshot)
    assert snapshot.manifest.counts.chunks == 120
    assert len(snapshot.segments) <= 16


def test_a_document_whose_cause_of_quarantine_was_elsewhere_recovers_when_touched(
    workspace: Workspace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.md").write_text("# A\n\nThe words of A.\n")
    settle()
    with monkeypatch.context() as broken:
        broken.setattr(Parser, "parse", lambda *_: (_ for _ in ()).throw(QuarantineError("too_complex")))
        assert refresh(workspace).documents["quarantined"] == 1
    assert refresh(workspace).files_opened == 0
    os.utime(folder / "a.md")
    settle()
    report = refresh(workspace)
    assert (report.documents["modified"], report.documents["quarantined"], report.chunks["embedded"]) == (1, 0, 1)
    os.utime(folder / "a.md")
    settle()
    assert (refresh(workspace).documents["unchanged"], refresh(workspace).files_opened) == (1, 0)
