"""Incremental equals rebuild: after any history of edits the index answers exactly like one built from nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import make_workspace, refresh
from tests.fakes import HashEmbedder
from tests.indexing.oracles import bm25_scores, document_frequencies, hybrid_ranking
from tidegate.chunking.splitter import split
from tidegate.core.documents import Passage, embedded_text
from tidegate.indexing import merging
from tidegate.indexing.lexical import tokenize
from tidegate.indexing.search import Hit, SearchIndex
from tidegate.indexing.snapshot import Snapshot
from tidegate.parsing.markdown import parse_markdown
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.file_store import FileStore
from tidegate.registry.heads import read_head

PARAGRAPHS = [
    "The ebb tide turns at noon.",
    "The flood tide turns at midnight, see PAY-4012.",
    "Set `gate.max_items` to 40.",
    "| code | meaning |\n|---|---|\n| PAY-4012 | too many |",
    "```\nmake run\n```",
    " ".join(f"word{number}" for number in range(60)),
]
QUESTIONS = ["tide at noon", "PAY-4012", "gate.max_items", "word7 word8 unknown", "nothing of the sort"]
BROKEN = b"\xc3\x28 is not UTF-8"
CHUNKING = {"max_tokens": 40, "min_tokens": 4}

NAME = st.sampled_from(["a.md", "b.md", "sub/c.md", "sub/d.md", "e.md"])
TEXT = st.lists(st.sampled_from(PARAGRAPHS), min_size=1, max_size=4).map(
    lambda parts: "# Title\n\n" + "".join(f"## Part {at}\n\n{part}\n\n" for at, part in enumerate(parts))
)
EDIT = st.one_of(
    st.tuples(st.just("write"), NAME, TEXT),
    st.tuples(st.sampled_from(["delete", "break", "recover", "touch", "revert", "lose hints"]), NAME, st.none()),
    st.tuples(st.sampled_from(["move", "copy"]), NAME, NAME),
)
STEP = st.lists(EDIT, min_size=1, max_size=3)


class History:
    """A folder under edit, its index, and what the index should hold."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "documents"
        self.folder.mkdir()
        self.embedder = HashEmbedder()
        self.workspace = self.make(self.folder, "store", self.embedder)
        self.indexed: dict[str, str] = {}
        self.former: dict[str, bytes] = {}

    def make(self, folder: Path, store: str, embedder: HashEmbedder) -> Workspace:
        quarantine = {"max_new": 100}
        return make_workspace(folder, FileStore(self.root / store), embedder, chunking=CHUNKING, quarantine=quarantine)

    def edit(self, operation: str, name: str, argument: str | None) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        if operation == "write":
            path.write_text(argument)
        elif operation == "revert" and name in self.former:
            path.write_bytes(self.former[name])
        elif operation == "lose hints":
            shutil.rmtree(self.root / "store" / "test" / "scans", ignore_errors=True)
        elif path.exists():
            self.former[name] = path.read_bytes()
            self.edit_existing(operation, path, name, argument)

    def edit_existing(self, operation: str, path: Path, name: str, argument: str | None) -> None:
        if operation == "delete":
            path.unlink()
        elif operation == "break":
            path.write_bytes(BROKEN)
        elif operation == "recover" and path.read_bytes() == BROKEN and name in self.indexed:
            path.write_text(self.indexed[name])
        elif operation == "touch":
            os.utime(path)
        elif operation in ("move", "copy") and argument != name:
            target = self.folder / argument
            target.parent.mkdir(exist_ok=True)
            path.rename(target) if operation == "move" else shutil.copy(path, target)

    def refresh_and_compare(self) -> None:
        self.embedder.embedded.clear()
        report = refresh(self.workspace)
        on_disk = {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in self.folder.rglob("*.md")}
        self.indexed = {
            name: data.decode() if data != BROKEN else self.indexed[name]
            for name, data in on_disk.items()
            if data != BROKEN or name in self.indexed
        }
        assert report.documents["total"] == len(on_disk)
        assert {item["document"] for item in report.quarantine} == {n for n, data in on_disk.items() if data == BROKEN}
        assert len(self.embedder.embedded) == len(set(self.embedder.embedded)) == report.chunks["embedded"]
        self.compare(Snapshot(self.workspace.store, "test", report.snapshot))

    def compare(self, snapshot: Snapshot) -> None:
        tokenizer, limits = self.embedder.tokenizer, self.workspace.limits
        passages = {name: split(parse_markdown(text), tokenizer, limits) for name, text in self.indexed.items()}
        rows = {row["document"]: row for row in snapshot.ledger.to_pylist() if row["sha256"]}
        assert {name: row["chunks"] for name, row in rows.items()} == {
            name: [passage.chunk_id for passage in found] for name, found in passages.items()
        }
        live = {passage.chunk_id: passage for found in passages.values() for passage in found}
        assert snapshot.manifest.counts.chunks == len(live)
        assert_same_answers(SearchIndex(snapshot), live, self.workspace)
        rebuilt = self.rebuilt()
        assert snapshot.manifest.content_root == rebuilt.manifest.content_root
        assert_same_answers(SearchIndex(rebuilt), live, self.workspace)

    def rebuilt(self) -> Snapshot:
        """Index what the documents hold now (or held last, if broken) from nothing, in another store."""
        folder = Path(tempfile.mkdtemp(dir=self.root))
        for name, text in self.indexed.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        workspace = self.make(folder, folder.name + "-store", HashEmbedder())
        refresh(workspace)
        return Snapshot(workspace.store, "test", read_head(workspace.store, "test").snapshot)


def assert_same_answers(index: SearchIndex, live: dict[bytes, Passage], workspace: Workspace) -> None:
    """Compare every mode with brute force over the live texts, and the document frequencies with a count."""
    ids = sorted(live)
    texts = [embedded_text(live[chunk].context, live[chunk].text) for chunk in ids]
    vectors, questions = HashEmbedder().embed(texts), HashEmbedder().embed(QUESTIONS)
    dense = [vectors @ vector if texts else np.zeros(0) for vector in questions]
    sparse = [np.array(bm25_scores(texts, question)) for question in QUESTIONS]
    expected = {
        "dense": [ranked(ids, scores) for scores in dense],
        "sparse": [[pair for pair in ranked(ids, scores) if pair[0] > 0] for scores in sparse],
        "hybrid": [hybrid_ranking(ids, *scores, 0.5) for scores in zip(dense, sparse, strict=True)],
    }
    for mode, rankings in expected.items():
        wanted = workspace.retrieval.model_copy(update={"mode": mode, "top_k": 10})
        for hits, ranking in zip(index.search(QUESTIONS, questions, wanted), rankings, strict=True):
            assert_same_hits(hits, ranking[:10], ranking, live)
    terms = sorted({token for text in texts for token in tokenize(text)})
    assert index.document_frequency(terms) == document_frequencies(texts)


def ranked(ids: list[bytes], scores: np.ndarray) -> list[tuple[float, bytes]]:
    return sorted(zip(map(float, scores), ids, strict=True), key=lambda pair: (-pair[0], pair[1]))


def assert_same_hits(
    hits: list[Hit], top: list[tuple[float, bytes]], ranking: list[tuple[float, bytes]], live: dict[bytes, Passage]
) -> None:
    assert [hit.score for hit in hits] == pytest.approx([score for score, _ in top], abs=1e-6)
    for hit, (score, _) in zip(hits, top, strict=True):
        assert bytes.fromhex(hit.chunk) in {chunk for other, chunk in ranking if abs(other - score) < 2e-6}
        assert hit.text == live[bytes.fromhex(hit.chunk)].text


def play(steps: list[list[tuple[str, str, str | None]]]) -> None:
    with tempfile.TemporaryDirectory(prefix="tidegate-history-") as root:
        history = History(Path(root))
        for edits in steps:
            for edit in edits:
                history.edit(*edit)
            history.refresh_and_compare()


RELAXED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]}


@settings(max_examples=15, **RELAXED)
@given(steps=st.lists(STEP, min_size=8, max_size=14))
def test_any_history_gives_the_index_of_a_rebuild(monkeypatch: pytest.MonkeyPatch, steps: list) -> None:
    monkeypatch.setattr(merging, "FAN_IN", 3)
    play(steps)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=100, **RELAXED)
@given(steps=st.lists(STEP, min_size=15, max_size=40))
def test_many_long_histories_give_the_index_of_a_rebuild(monkeypatch: pytest.MonkeyPatch, steps: list) -> None:
    monkeypatch.setattr(merging, "FAN_IN", 3)
    play(steps)
