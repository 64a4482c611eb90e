"""Evaluation of retrieval: which questions count, which documents are meant, and exact values of a small corpus."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_workspace, refresh
from tidegate.core.errors import ReleaseMissingError
from tidegate.indexing.search import Hit
from tidegate.pipelines.evaluate_retrieval import DEPTH, evaluate_retrieval, ranked_documents, resolve_document
from tidegate.pipelines.search_index import OpenRelease, open_champion
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.file_store import FileStore

PAGES = {
    "guides/ebb.md": "# Ebb\n\nThe ebb turns at noon.\n",
    "guides/flow.md": "# Flow\n\nThe flow turns at midnight.\n",
    "api/ebb.md": "# Codes\n\nPAY-4012 means too many items.\n",
    "notes.md": "# Notes\n\nNothing of the sort.\n",
}
EBB, FLOW, CODES = (
    "Ebb\nThe ebb turns at noon.",
    "Flow\nThe flow turns at midnight.",
    "Codes\nPAY-4012 means too many items.",
)
"""What is embedded of three pages: as a question, each is nearest to its own page in every mode."""
NAMES = sorted(PAGES)
ALL = dict.fromkeys(("hit@1", "hit@5", "hit@10", "recall@1", "recall@5", "recall@10", "mrr", "ndcg@10"), 1.0)


@pytest.fixture
def release(workspace: Workspace, folder: Path) -> OpenRelease:
    for name, text in PAGES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    refresh(workspace)
    return open_champion(workspace)


def row(question: str, *documents: str, **more: Any) -> dict[str, Any]:
    return {"question": question, "evidence": [{"document": document} for document in documents], **more}


def test_a_question_that_finds_its_page_first_scores_all_in_every_mode(release: OpenRelease) -> None:
    result = evaluate_retrieval(release, [row(EBB, "guides/ebb.md"), row(CODES, "api/ebb.md")])
    assert result.modes == {"hybrid": ALL, "dense": ALL, "sparse": ALL}
    assert (result.scored, result.unanswerable, result.unresolved) == (2, 0, ())


def test_metrics_are_means_over_questions(release: OpenRelease) -> None:
    """By words alone: the first finds its page first, the second another page and then its own, the third nothing."""
    rows = [row("PAY-4012", "api/ebb.md"), row("midnight midnight noon", "guides/ebb.md"), row("zzz", "notes.md")]
    sparse = evaluate_retrieval(release, rows).modes["sparse"]
    third, half = 1 / 3, (1 + 1 / math.log2(3)) / 3
    assert sparse == pytest.approx(
        dict.fromkeys(ALL, 2 * third) | {"hit@1": third, "recall@1": third, "mrr": 1.5 * third, "ndcg@10": half}
    )


def test_of_two_golds_recall_counts_the_share_and_hit_any(release: OpenRelease) -> None:
    found = evaluate_retrieval(release, [row("noon", "guides/ebb.md", "notes.md")]).modes["sparse"]
    ideal = 1 + 1 / math.log2(3)
    halves = {"recall@1": 0.5, "recall@5": 0.5, "recall@10": 0.5, "ndcg@10": 1 / ideal}
    assert found == pytest.approx(ALL | halves)
    dense = evaluate_retrieval(release, [row(EBB, "guides/ebb.md", "notes.md")]).modes["dense"]
    assert (dense["hit@1"], dense["recall@1"], dense["recall@5"]) == (1.0, 0.5, 1.0)


def test_golds_are_distinct_documents_whatever_their_quotes(release: OpenRelease) -> None:
    evidence = [{"document": "guides/ebb.md", "quote": "ebb"}, {"document": "ebb.md"}, {"document": "guides/ebb.md"}]
    result = evaluate_retrieval(release, [{"question": EBB, "evidence": evidence}])
    assert (result.modes["sparse"], result.unresolved) == (ALL, ("ebb.md",))


def test_unanswerable_rows_are_counted_and_not_scored(release: OpenRelease) -> None:
    rows = [
        row(EBB, "guides/ebb.md", answerable=True),
        row("who is the harbour master?", answerable=False),
        row(FLOW, "guides/flow.md", answerable=False),
        {"question": "no evidence given"},
        {"question": "none either", "evidence": []},
    ]
    result = evaluate_retrieval(release, rows)
    assert (result.scored, result.unanswerable, result.unresolved) == (1, 4, ())
    assert result.modes["hybrid"] == ALL


def test_evidence_that_names_no_page_or_several_is_reported_once(release: OpenRelease) -> None:
    rows = [
        row(EBB, "ebb.md"),
        row(EBB, "gone.md", "ebb.md"),
        row(FLOW, "flow.md", "gone.md"),
        row(CODES, "somewhere/api/ebb.md"),
    ]
    result = evaluate_retrieval(release, rows)
    assert (result.scored, result.unanswerable, result.unresolved) == (2, 0, ("ebb.md", "gone.md"))
    assert result.modes == {"hybrid": ALL, "dense": ALL, "sparse": ALL}


def test_where_nothing_can_be_scored_the_modes_are_empty(release: OpenRelease) -> None:
    for rows in ([], [row(EBB, "gone.md")], [row("x", answerable=False)]):
        result = evaluate_retrieval(release, rows)
        assert (result.modes, result.scored) == ({"hybrid": {}, "dense": {}, "sparse": {}}, 0)


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("guides/ebb.md", "guides/ebb.md"),
        ("flow.md", "guides/flow.md"),
        ("docs/handbook/guides/flow.md", "guides/flow.md"),
        ("/abs/path/notes.md", "notes.md"),
        ("ebb.md", None),
        ("low.md", None),
        ("guides/flow", None),
        ("guides", None),
        ("Guides/Flow.md", None),
        ("", None),
        ("x/ebb.md", None),
    ],
)
def test_evidence_means_a_document_or_its_only_suffix(name: str, document: str | None) -> None:
    assert resolve_document(name, NAMES) == document


def test_a_whole_path_wins_over_suffixes_and_two_suffixes_are_ambiguous() -> None:
    assert resolve_document("a.md", ["a.md", "x/a.md", "y/a.md"]) == "a.md"
    assert resolve_document("root/x/a.md", ["x/a.md", "a.md"]) is None


def test_a_document_ranks_by_its_best_passage_and_copies_rank_beside_it() -> None:
    hits = [
        Hit("b.md", "", "1", 0.9, "00", ()),
        Hit("a.md", "", "2", 0.8, "01", ("c.md", "b.md")),
        Hit("b.md", "", "3", 0.7, "02", ("d.md",)),
    ]
    assert ranked_documents(hits) == ["b.md", "a.md", "c.md", "d.md"]
    assert ranked_documents([]) == []


def test_a_page_of_many_passages_takes_one_place(folder: Path, store: FileStore) -> None:
    sections = "".join(f"## Part {number}\n\ntide tide tide {number}\n\n" for number in range(12))
    (folder / "long.md").write_text(f"# Long\n\n{sections}")
    (folder / "short.md").write_text("# Short\n\nOnce a tide, among many other words of no weight.\n")
    workspace = make_workspace(folder, store, chunking={"max_tokens": 16, "min_tokens": 0}, retrieval={"top_k": 1})
    assert refresh(workspace).chunks["live"] >= 13
    assert DEPTH > 13
    found = evaluate_retrieval(open_champion(workspace), [row("tide", "short.md")]).modes["sparse"]
    assert (found["hit@1"], found["hit@5"], found["mrr"]) == (0.0, 1.0, 0.5)


def test_without_a_release_there_is_nothing_to_evaluate(workspace: Workspace) -> None:
    with pytest.raises(ReleaseMissingError, match="has no release yet"):
        evaluate_retrieval(open_champion(workspace), [row(EBB, "guides/ebb.md")])
