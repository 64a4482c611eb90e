"""Which corpus a person means by a name or a folder, also after the folder moved, and what is said where none fits."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import refresh, settle
from tests.fakes import HashEmbedder
from tidegate.core.config import CORPUS_NAME
from tidegate.core.errors import ConfigInvalidError, CorpusUnknownError, SourceMissingError
from tidegate.core.protocols import ArtifactStore
from tidegate.pipelines.corpora import (
    Target,
    choose_stored,
    configured,
    find_target,
    remember_folder,
    stored_corpora,
    stored_workspace,
)
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.file_store import FileStore


@pytest.fixture
def corpora(tmp_path: Path) -> tuple[Path, ...]:
    """A folder with the corpus files ``handbook`` and ``wiki``."""
    folder = tmp_path / "corpora"
    folder.mkdir()
    for name in ("handbook", "wiki"):
        (folder / f"{name}.yaml").write_text(f"source: {{path: docs/{name}}}\nretrieval: {{top_k: 3}}\n")
    return (folder,)


def make_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "a.md").write_text(f"# A\n\nWords of {path.name}.\n")
    return path


def index(store: ArtifactStore, target: str | Path, corpora: tuple[Path, ...] = ()) -> Target:
    """Refresh a target as the command line does."""
    found = find_target(str(target), None, store, corpora)
    refresh(Workspace(found.config, store, Path("/"), HashEmbedder()))
    remember_folder(store, found.config)
    return found


def test_a_configured_name_means_its_file(store: FileStore, corpora: tuple[Path, ...]) -> None:
    for name in (None, "wiki"):
        found = find_target("wiki", name, store, corpora)
        assert (found.has_file, found.continues) == (True, None)
        assert (found.config.corpus, found.config.source.path, found.config.retrieval.top_k) == ("wiki", "docs/wiki", 3)
    assert configured("wiki", corpora) == found.config
    assert configured("other", corpora) is None
    with pytest.raises(
        ConfigInvalidError, match="--corpus 'handbook' contradicts the configured corpus 'wiki'; leave it out"
    ):
        find_target("wiki", "handbook", store, corpora)


def test_a_configured_name_wins_over_a_folder_of_that_name(
    store: FileStore, corpora: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path / "wiki")
    monkeypatch.chdir(tmp_path)
    assert find_target("wiki", None, store, corpora).has_file
    assert not find_target("./wiki", None, store, corpora).has_file


def test_a_folder_becomes_a_corpus_with_the_defaults(store: FileStore, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "docs")
    found = find_target(str(folder), None, store, ())
    assert (found.has_file, found.continues, found.config.corpus) == (False, None, "docs")
    assert (found.config.source.path, found.config.source.allow_empty) == (str(folder), True)
    assert find_target(str(folder), "mine", store, ()).config.corpus == "mine"


@pytest.mark.parametrize(
    ("name", "corpus"),
    [
        ("Team Docs (v2)", "team-docs-v2"),
        ("Größe & Maß", "gr-e-ma"),
        ("日本語", "corpus"),
        ("🌊", "corpus"),
        ("---", "corpus"),
        ("_private_", "private"),
        ("snake_case-9", "snake_case-9"),
        ("new\nline", "new-line"),
        ("..hidden", "hidden"),
        ("x" * 100, "x" * 48),
    ],
)
def test_any_folder_name_gives_a_usable_corpus_name(store: FileStore, tmp_path: Path, name: str, corpus: str) -> None:
    found = find_target(str(make_folder(tmp_path / name)), None, store, ())
    assert found.config.corpus == corpus
    assert CORPUS_NAME.match(corpus)
    assert found.config.source.path == str(tmp_path / name)


def test_folders_of_one_name_are_corpora_of_their_own(store: FileStore, tmp_path: Path) -> None:
    first, second, third = (make_folder(tmp_path / parent / "docs") for parent in ("a", "b", "c"))
    names = [index(store, folder).config.corpus for folder in (first, second, third)]
    assert names[0] == "docs"
    assert all(name.startswith("docs-") and len(name) == len("docs-") + 6 for name in names[1:])
    assert stored_corpora(store) == sorted(set(names))
    assert len(names) == len(set(names))
    again = [find_target(str(folder), None, store, ()) for folder in (first, second, third)]
    assert [(found.config.corpus, found.continues) for found in again] == [(name, None) for name in names]


def test_a_folder_named_like_a_configured_corpus_does_not_take_its_name(
    store: FileStore, corpora: tuple[Path, ...], tmp_path: Path
) -> None:
    """The configured corpus may not have been refreshed yet; the two must never share one index."""
    folder = make_folder(tmp_path / "elsewhere" / "handbook")
    found = find_target(str(folder), None, store, corpora)
    assert found.config.corpus.startswith("handbook-")


@pytest.mark.parametrize(
    "spelling", ["docs", "docs/", "./docs", "other/../docs", "{root}/docs", "{root}/other/../docs/."]
)
def test_a_folder_is_one_corpus_however_its_path_is_written(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    make_folder(tmp_path / "other")
    index(store, make_folder(tmp_path / "docs"))
    monkeypatch.chdir(tmp_path)
    found = find_target(spelling.format(root=tmp_path), None, store, ())
    assert (found.config.corpus, found.config.source.path) == ("docs", str(tmp_path / "docs"))


def test_a_folder_below_the_home_may_be_written_with_a_tilde(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = make_folder(tmp_path / "docs")
    assert find_target("~/docs", None, store, ()).config.source.path == str(folder)


def test_a_moved_folder_goes_on_as_its_corpus_and_embeds_nothing(store: FileStore, tmp_path: Path) -> None:
    former = make_folder(tmp_path / "docs")
    index(store, former)
    moved = former.rename(tmp_path / "renamed")
    found = find_target(str(moved), None, store, ())
    assert (found.config.corpus, found.continues) == ("docs", str(former))
    embedder = HashEmbedder()
    report = refresh(Workspace(found.config, store, Path("/"), embedder))
    assert (report.documents["unchanged"], embedder.embedded) == (1, [])
    remember_folder(store, found.config)
    assert find_target(str(moved), None, store, ()).continues is None
    assert stored_corpora(store) == ["docs"]


def test_a_new_folder_continues_none_while_the_old_one_stands_or_two_are_gone(store: FileStore, tmp_path: Path) -> None:
    first, second = make_folder(tmp_path / "first"), make_folder(tmp_path / "second")
    index(store, first)
    index(store, second)
    new = make_folder(tmp_path / "new")
    assert (find_target(str(new), None, store, ()).config.corpus) == "new"
    first.rename(tmp_path / "first-moved")
    second.rename(tmp_path / "second-moved")
    found = find_target(str(tmp_path / "second-moved"), None, store, ())
    assert (found.config.corpus, found.continues) == ("second-moved", None)


def test_a_lost_note_starts_no_second_corpus(store: FileStore, tmp_path: Path) -> None:
    """The note lies with the disposable hints; a refresh that failed after its commit has not written it either."""
    folder = make_folder(tmp_path / "docs")
    index(store, folder)
    for path in (store.root / "docs" / "scans").rglob("*.json"):
        path.unlink()
    assert find_target(str(folder), None, store, ()).config.corpus == "docs"


def test_a_folder_is_noted_once(store: FileStore, tmp_path: Path) -> None:
    found = index(store, make_folder(tmp_path / "docs"))
    written = store.bytes_written
    remember_folder(store, found.config)
    assert store.bytes_written == written


def test_a_target_that_is_nothing_is_refused_with_what_there_is(
    store: FileStore, corpora: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.md").write_text("text")
    wanted = r"'hanbook' is neither a folder nor a corpus; did you mean 'handbook'[?] valid: handbook, wiki"
    with pytest.raises(CorpusUnknownError, match=wanted):
        find_target("hanbook", None, store, corpora)
    with pytest.raises(CorpusUnknownError, match="'x' is neither a folder nor a corpus; valid: none yet"):
        find_target("x", None, store, ())
    with pytest.raises(SourceMissingError, match=f"the source folder {tmp_path}/no/such does not exist"):
        find_target("no/such", None, store, corpora)
    with pytest.raises(SourceMissingError, match=f"the source folder {tmp_path}/missing does not exist"):
        find_target("missing", "mine", store, corpora)
    with pytest.raises(SourceMissingError, match=rf"the source folder {tmp_path}/file\.md is not a folder"):
        find_target("file.md", None, store, corpora)


@pytest.mark.parametrize("name", ["Mine", "a b", "a/b", "-a", "ä", "x" * 64])
def test_a_name_that_no_key_can_hold_is_refused(store: FileStore, tmp_path: Path, name: str) -> None:
    folder = make_folder(tmp_path / "docs")
    with pytest.raises(ConfigInvalidError, match=f"--corpus {name}: .*corpus '{name}' is not usable as a name"):
        find_target(str(folder), name, store, ())


def test_the_only_stored_corpus_is_meant_where_none_is_named(store: FileStore, tmp_path: Path) -> None:
    with pytest.raises(CorpusUnknownError, match="holds no corpus yet") as caught:
        choose_stored(store, None)
    assert "tidegate refresh <folder>" in caught.value.next_action
    with pytest.raises(CorpusUnknownError, match="holds no corpus 'docs'; valid: none yet"):
        choose_stored(store, "docs")
    index(store, make_folder(tmp_path / "docs"))
    assert choose_stored(store, None) == choose_stored(store, "docs") == "docs"
    index(store, make_folder(tmp_path / "wiki"))
    with pytest.raises(CorpusUnknownError, match=r"holds several corpora \(docs, wiki\); say which with --corpus"):
        choose_stored(store, None)
    assert choose_stored(store, "wiki") == "wiki"
    with pytest.raises(CorpusUnknownError, match=r"holds no corpus 'wikki'; did you mean 'wiki'[?] valid: docs, wiki"):
        choose_stored(store, "wikki")


def test_what_only_looks_like_a_corpus_is_not_counted(store: FileStore, tmp_path: Path) -> None:
    store.put("notes/readme.txt", b"not ours")
    store.put("killed/segments/x/chunks.arrow", b"a first refresh that never committed")
    index(store, make_folder(tmp_path / "docs"))
    assert stored_corpora(store) == ["docs"]


def test_a_stored_corpus_is_read_with_its_file_or_the_defaults(
    store: FileStore, corpora: tuple[Path, ...], tmp_path: Path
) -> None:
    with_file = stored_workspace(store, "wiki", corpora, tmp_path)
    assert (with_file.corpus, with_file.retrieval.top_k, with_file.base) == ("wiki", 3, tmp_path)
    without = stored_workspace(store, "other", corpora, tmp_path)
    assert (without.corpus, without.retrieval.top_k, without.store) == ("other", 10, store)


def test_a_vanished_folder_is_not_continued_by_one_that_holds_other_documents(store: FileStore, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "docs")
    index(store, folder)
    (folder / "a.md").rename(folder / "b.md")
    other = folder.rename(tmp_path / "other")
    found = find_target(str(other), None, store, ())
    assert (found.config.corpus, found.continues) == ("other", None)
    (other / "deep").mkdir()
    (other / "b.md").rename(other / "deep" / "a.md")
    assert find_target(str(other), None, store, ()).continues == str(folder)


def test_a_folder_that_a_corpus_file_names_is_that_corpus_in_any_store(store: FileStore, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "docs")
    (tmp_path / "corpora").mkdir()
    (tmp_path / "corpora" / "docs.yaml").write_text(f"source: {{path: {folder}}}\nretrieval: {{top_k: 3}}\n")
    found = find_target(str(folder), None, store, (tmp_path / "corpora",))
    assert (found.config.corpus, found.has_file, found.config.retrieval.top_k) == ("docs", True, 3)
    assert find_target(str(folder), "other", store, (tmp_path / "corpora",)).config.corpus == "other"


def test_a_folder_of_equal_names_and_other_content_is_another_corpus(store: FileStore, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "first")
    settle()
    index(store, folder)
    shutil.rmtree(folder)
    other = make_folder(tmp_path / "another place")
    assert find_target(str(other), None, store, ()).config.corpus == "another-place"


def test_a_folder_that_was_emptied_into_another_is_continued_there(store: FileStore, tmp_path: Path) -> None:
    folder, target = make_folder(tmp_path / "first"), tmp_path / "second"
    settle()
    index(store, folder)
    target.mkdir()
    (folder / "a.md").rename(target / "a.md")
    found = find_target(str(target), None, store, ())
    assert (found.config.corpus, found.continues) == ("first", str(folder))
