"""Search over one snapshot: fusion, modes, ties, filters, and what is never returned; compared with plain numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, product
from typing import Any

import numpy as np
import pytest

from tests.fakes import DIMENSION, HashEmbedder
from tests.indexing.oracles import bm25_scores, hybrid_ranking
from tidegate.core.canonical import sha256_hex
from tidegate.core.documents import LedgerRow, Passage
from tidegate.core.errors import ConfigInvalidError
from tidegate.core.records import RetrievalSettings
from tidegate.indexing.builder import build_snapshot
from tidegate.indexing.search import Hit, SearchIndex
from tidegate.indexing.segment import ChunkRow
from tidegate.indexing.snapshot import Snapshot
from tidegate.indexing.survivors import SnapshotChange
from tidegate.registry.file_store import FileStore

EMBEDDER = HashEmbedder()
SETTINGS = RetrievalSettings(mode="hybrid", fusion="relative", dense_weight=0.5, candidates=100, top_k=10)
MODES = ("hybrid", "dense", "sparse")
WORDS = ["ebb", "flow", "tide", "gate", "pay-4012", "halyard.batch", "harbour", "noon", "ledger", "ferry"]
TEXTS = [
    " ".join(WORDS[(number * step) % 10] for step in range(1, 2 + number % 7)) + f" n{number}" for number in range(40)
]

Pages = Mapping[str, Sequence[str]]

FILTERED: Pages = {"a/1.md": ["ebb one"], "a/2.md": ["ebb two"], "b/1.md": ["ebb three"], "b/2.md": ["ebb four"]}
LINES = {
    "a/1.md": {"line": "day", "place": "north, south"},
    "a/2.md": {"line": "night", "place": "south"},
    "b/1.md": {"line": "day", "title": "own"},
}


def chunk_id(text: str) -> bytes:
    return Passage("", text, "").chunk_id


def pages_of(texts: Sequence[str]) -> dict[str, list[str]]:
    """One page per text, named so that neither names nor texts are in the order of the chunk ids."""
    return {f"{sha256_hex(text.encode())[:8]}.md": [text] for text in texts}


def indexed(
    store: FileStore,
    pages: Pages,
    *,
    parent: Snapshot | None = None,
    removed: Sequence[str] = (),
    vectors: Mapping[str, np.ndarray] | None = None,
    metadata: Mapping[str, Mapping[str, str]] | None = None,
) -> Snapshot:
    """Build the snapshot of some pages, each a list of passages, over a parent."""
    rows = [
        LedgerRow(
            document=name,
            kind="markdown",
            seen=sha256_hex(repr(texts).encode()),
            sha256=sha256_hex(repr(texts).encode()),
            recipe="r",
            title=name,
            metadata=(metadata or {}).get(name, {}),
            chunks=tuple(chunk_id(text) for text in texts),
            headings=tuple(f"{name} > {number}" for number in range(len(texts))),
        )
        for name, texts in pages.items()
    ]
    stored = set(parent.stored_chunk_ids().to_pylist()) if parent else set()
    new = [text for text in dict.fromkeys(chain.from_iterable(pages.values())) if chunk_id(text) not in stored]
    made = dict(zip(new, EMBEDDER.embed(new), strict=True)) | (vectors or {})
    chunks = tuple(ChunkRow(chunk_id(text), "", text, made[text]) for text in new)
    change = SnapshotChange(tuple(rows), tuple(removed), chunks, EMBEDDER.identity, ())
    return Snapshot(store, "test", build_snapshot(store, "test", parent, change).digest)


def ask(
    snapshot: Snapshot,
    *questions: str,
    filters: Mapping[str, Sequence[str]] | None = None,
    vector: np.ndarray | None = None,
    **settings: Any,
) -> list[list[Hit]]:
    vectors = EMBEDDER.embed(questions) if vector is None else vector[None, :]
    return SearchIndex(snapshot).search(questions, vectors, SETTINGS.model_copy(update=settings), filters)


def pairs(hits: Sequence[Hit]) -> list[tuple[float, str]]:
    return [(pytest.approx(hit.score, abs=1e-6), hit.chunk) for hit in hits]


def expected(
    mode: str, question: str, texts: Sequence[str], *, weight: float = 0.5, allowed: Sequence[str] | None = None
) -> list[tuple[float, str]]:
    """Rank the allowed texts by brute force; BM25 counts all of them."""
    allowed = texts if allowed is None else allowed
    dense = EMBEDDER.embed(allowed).astype(np.float64) @ EMBEDDER.embed([question])[0].astype(np.float64)
    scores = dict(zip(texts, bm25_scores(texts, question), strict=True))
    sparse = np.array([scores[text] for text in allowed])
    ids = [chunk_id(text) for text in allowed]
    if mode == "hybrid":
        ranking = hybrid_ranking(ids, dense, sparse, weight)
    else:
        found = zip(map(float, dense if mode == "dense" else sparse), ids, strict=True)
        ranking = sorted(found, key=lambda pair: (-pair[0], pair[1]))
    return [(score, chunk.hex()) for score, chunk in ranking if mode != "sparse" or score > 0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """All of ``TEXTS``, in two segments."""
    store = FileStore(tmp_path_factory.mktemp("whole"))
    return indexed(store, pages_of(TEXTS[30:]), parent=indexed(store, pages_of(TEXTS[:30])))


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """``FILTERED`` with its metadata."""
    return indexed(FileStore(tmp_path_factory.mktemp("lines")), FILTERED, metadata=LINES)


def at_cosine(cosine: float) -> np.ndarray:
    """A unit vector at this cosine to the first axis."""
    vector = np.zeros(DIMENSION, dtype=np.float32)
    vector[:2] = cosine, np.sqrt(1 - cosine**2)
    return vector


def test_fusion_is_the_weighted_sum_of_scores_relative_to_the_best_of_each_arm(store: FileStore) -> None:
    vectors = {"harbour": at_cosine(0.8), "ferry ebb": at_cosine(0.4), "tide": at_cosine(0.2)}
    (hits,) = ask(
        indexed(store, pages_of(list(vectors)), vectors=vectors), "ebb", vector=at_cosine(1), dense_weight=0.7
    )
    assert [(hit.text, pytest.approx(hit.score)) for hit in hits] == [
        ("harbour", 0.7 * 1),
        ("ferry ebb", 0.7 * 0.5 + 0.3 * 1),
        ("tide", 0.7 * 0.25),
    ]


def test_where_nothing_is_near_cosines_are_not_stretched_to_one(store: FileStore) -> None:
    vectors = {"harbour": at_cosine(0.1), "ferry": at_cosine(0.05)}
    (hits,) = ask(indexed(store, pages_of(list(vectors)), vectors=vectors), "unknown", vector=at_cosine(1))
    assert [(hit.text, pytest.approx(hit.score)) for hit in hits] == [("harbour", 0.2), ("ferry", 0.1)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_every_mode_ranks_like_brute_force(whole: Snapshot, mode: str, weight: float) -> None:
    for question in ("ebb at noon", "pay-4012", "halyard.batch ledger ledger n7", TEXTS[3]):
        (hits,) = ask(whole, question, mode=mode, dense_weight=weight, top_k=1000)
        assert pairs(hits) == expected(mode, question, TEXTS, weight=weight)
        (best,) = ask(whole, question, mode=mode, dense_weight=weight, top_k=3)
        assert best == hits[:3]


def test_each_candidate_has_its_exact_score_in_both_arms(whole: Snapshot) -> None:
    question = "ebb pay-4012 n3"
    (hits,) = ask(whole, question, candidates=2, top_k=2)
    chosen = {chunk for mode in ("dense", "sparse") for _, chunk in expected(mode, question, TEXTS)[:2]}
    assert len(chosen) == 4
    assert pairs(hits) == [pair for pair in expected("hybrid", question, TEXTS) if pair[1] in chosen][:2]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("top_k", [2, 5, 50])
def test_ties_go_to_the_smaller_chunk_id_wherever_the_cut_falls(store: FileStore, mode: str, top_k: int) -> None:
    texts = sorted((f"tide {number}" for number in range(9)), key=chunk_id)
    vectors = dict.fromkeys(texts, EMBEDDER.embed(["tide"])[0])
    snapshot = None
    for part in (texts[4:], texts[3:4], texts[:3]):  # the smallest ids in the last segment
        snapshot = indexed(store, pages_of(part), parent=snapshot, vectors=vectors)
    (hits,) = ask(snapshot, "tide and time", mode=mode, candidates=1, top_k=top_k)
    assert [hit.text for hit in hits] == texts[:top_k]


def test_many_texts_may_share_one_vector(store: FileStore) -> None:
    """An uncased model gives texts that differ in case one vector, and all texts of unknown signs."""
    vectors = dict.fromkeys(TEXTS, at_cosine(0.6))
    (hits,) = ask(indexed(store, pages_of(TEXTS), vectors=vectors), "x", vector=at_cosine(1), mode="dense", top_k=99)
    assert [hit.chunk for hit in hits] == sorted(chunk_id(text).hex() for text in TEXTS)


@pytest.mark.parametrize("mode", MODES)
def test_more_than_the_index_holds_may_be_asked_for(store: FileStore, mode: str) -> None:
    (hits,) = ask(indexed(store, pages_of(["ebb one", "ebb two", "ebb"])), "ebb", mode=mode, candidates=1, top_k=1000)
    assert sorted(hit.text for hit in hits) == ["ebb", "ebb one", "ebb two"]


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_index_answers_every_question_with_nothing(store: FileStore, mode: str) -> None:
    empty = indexed(store, {})
    assert ask(empty, "ebb", "", mode=mode) == [[], []]
    assert ask(empty, "ebb", mode=mode, filters={"document": ["*"]}) == [[]]
    with pytest.raises(
        ConfigInvalidError, match="no document has the metadata key 'line'; valid: document, kind, title"
    ):
        ask(empty, "ebb", mode=mode, filters={"line": ["x"]})
    emptied = indexed(store, {}, parent=indexed(store, {"a.md": ["ebb"]}), removed=["a.md"])
    assert ask(emptied, "ebb", mode=mode) == [[]]
    assert ask(emptied, "ebb", mode=mode, filters={"kind": ["markdown"]}) == [[]]
    assert ask(indexed(store, {"a.md": []}), "ebb", mode=mode, filters={"document": ["a.md"]}) == [[]]


@pytest.mark.parametrize("question", ["", " \n\t ", "unknown", "?! …"])
def test_a_question_without_known_words_is_answered_by_meaning_alone(whole: Snapshot, question: str) -> None:
    assert ask(whole, question, mode="sparse") == [[]]
    (dense,), (hybrid,) = (ask(whole, question, mode=mode) for mode in ("dense", "hybrid"))
    assert [hit.text for hit in hybrid] == [hit.text for hit in dense]
    assert hybrid[0].score == pytest.approx(0.5)


def test_a_batch_is_answered_like_one_question_after_another(whole: Snapshot) -> None:
    """FAISS computes batches of 20 and more in another way."""
    questions = [*TEXTS[::2], "", "unknown", "ebb", *TEXTS[1::2]]
    for mode in MODES:
        batch = ask(whole, *questions, mode=mode, candidates=5, top_k=5)
        assert batch == [ask(whole, question, mode=mode, candidates=5, top_k=5)[0] for question in questions]
    assert ask(whole) == []


@pytest.mark.parametrize(
    ("filters", "documents"),
    [
        ({"line": ["day"]}, ["a/1.md", "b/1.md"]),
        ({"line": ["day", "night"]}, ["a/1.md", "a/2.md", "b/1.md"]),
        ({"line": ["day"], "place": ["south"]}, ["a/1.md"]),
        ({"place": ["south"]}, ["a/1.md", "a/2.md"]),
        ({"place": ["sout"]}, []),
        ({"line": ["Day"]}, []),
        ({"line": ["day", "unknown"]}, ["a/1.md", "b/1.md"]),
        ({"line": []}, []),
        ({"document": ["b/*"]}, ["b/1.md", "b/2.md"]),
        ({"document": ["a/1.md", "*2.md"]}, ["a/1.md", "a/2.md", "b/2.md"]),
        ({"kind": ["markdown"], "title": ["b/1.md"]}, ["b/1.md"]),
        ({"title": ["own"]}, []),
        ({}, ["a/1.md", "a/2.md", "b/1.md", "b/2.md"]),
    ],
)
def test_every_key_must_match_and_any_of_its_values_may(
    lines: Snapshot, filters: dict[str, list[str]], documents: list[str]
) -> None:
    for mode in MODES:
        (hits,) = ask(lines, "ebb", mode=mode, filters=filters)
        assert sorted(hit.document for hit in hits) == documents


def test_an_unknown_key_is_refused_with_the_keys_that_exist(lines: Snapshot) -> None:
    wanted = (
        "no document has the metadata key 'lines'; did you mean 'line'[?] valid: document, kind, line, place, title"
    )
    with pytest.raises(ConfigInvalidError, match=wanted):
        ask(lines, "ebb", filters={"line": ["day"], "lines": ["day"]})


@pytest.mark.parametrize("mode", MODES)
def test_a_filter_acts_before_ranking(store: FileStore, mode: str) -> None:
    """However deep the allowed texts rank, they are found; BM25 keeps the statistics of the whole corpus."""
    pages = pages_of(TEXTS)
    question = "ebb flow n3"
    worst = {chunk for _, chunk in expected(mode, question, TEXTS)[-4:]}
    allowed = [text for text in TEXTS if chunk_id(text).hex() in worst]
    metadata = {name: {"line": "night"} for name, (text,) in pages.items() if text in allowed}
    snapshot = indexed(store, pages, metadata=metadata)
    (hits,) = ask(snapshot, question, mode=mode, filters={"line": ["night"]}, candidates=4, top_k=4)
    assert pairs(hits) == expected(mode, question, TEXTS, allowed=allowed)


def test_a_filtered_dense_search_is_a_search_of_those_documents_alone(store: FileStore, whole: Snapshot) -> None:
    part = indexed(store, pages_of(TEXTS[:9]))
    filters = {"document": list(pages_of(TEXTS[:9]))}
    for question in ("ebb at noon", TEXTS[20]):
        assert ask(whole, question, mode="dense", filters=filters, top_k=5) == ask(
            part, question, mode="dense", top_k=5
        )


def test_a_text_in_several_documents_is_one_hit_in_those_that_pass_the_filter(store: FileStore) -> None:
    pages = {"a.md": ["ebb", "flow", "ebb"], "b.md": ["tide", "ebb"], "c.md": ["ebb"]}
    metadata = {"a.md": {"line": "day"}, "b.md": {"line": "night"}, "c.md": {"line": "night"}}
    snapshot = indexed(store, pages, metadata=metadata)

    def found(current: Snapshot, **filters: list[str]) -> list[tuple[str, str, tuple[str, ...]]]:
        (hits,) = ask(current, "ebb", mode="sparse", filters=filters)
        return [(hit.document, hit.heading, hit.also_in) for hit in hits]

    assert found(snapshot) == [("a.md", "a.md > 0", ("b.md", "c.md"))]
    assert found(snapshot, line=["night"]) == [("b.md", "b.md > 1", ("c.md",))]
    assert found(snapshot, document=["c.md"]) == [("c.md", "c.md > 0", ())]
    after = indexed(store, {"b.md": ["tide"]}, parent=snapshot, removed=["a.md"], metadata=metadata)
    assert found(after) == [("c.md", "c.md > 0", ())]
    assert found(after, document=["a.md", "b.md"]) == []


def test_texts_of_deleted_and_edited_documents_are_never_returned(store: FileStore) -> None:
    others = pages_of([f"ebb {number}" for number in range(6)])
    first = indexed(store, {"edited.md": ["ebb old", "ebb kept"], "deleted.md": ["ebb gone"], **others})
    second = indexed(store, {"edited.md": ["ebb kept", "ebb new"]}, parent=first, removed=["deleted.md"])
    back = indexed(store, {"edited.md": ["ebb old"]}, parent=second)
    for snapshot, own in ((second, ["ebb kept", "ebb new"]), (back, ["ebb old"])):
        assert not all(live.all() for live in snapshot.live_chunks)  # dead chunks are masked, not yet merged away
        live = sorted([*own, *(text for (text,) in others.values())])
        for mode, question in product(MODES, ("ebb old", "ebb gone", "ebb kept")):
            (hits,) = ask(snapshot, question, mode=mode, top_k=1000)
            assert sorted(hit.text for hit in hits) == live
            assert ask(snapshot, question, mode=mode, filters={"document": ["deleted.md"]}) == [[]]


def test_an_id_that_ends_in_zero_bytes_is_given_whole(store: FileStore) -> None:
    text = next(text for text in (f"ebb {number}" for number in range(10_000)) if chunk_id(text).endswith(b"\0"))
    (hits,) = ask(indexed(store, {"a.md": [text]}), text)
    assert [hit.chunk for hit in hits] == [chunk_id(text).hex()]


@pytest.mark.parametrize("mode", ["hybrid", "dense"])
def test_a_dense_arm_without_vectors_is_a_mistake_of_the_caller(store: FileStore, mode: str) -> None:
    index = SearchIndex(indexed(store, {"a.md": ["ebb"]}))
    with pytest.raises(ValueError, match=f"mode {mode} needs the questions' vectors"):
        index.search(["ebb"], None, SETTINGS.model_copy(update={"mode": mode}))
