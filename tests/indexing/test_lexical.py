import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.indexing.oracles import bm25_scores, document_frequencies
from tidegate.indexing.lexical import LexicalIndex, LexicalPart, Postings, build_postings, tokenize


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Retry PAY-4012 now", ["retry", "pay", "4012", "pay-4012", "now"]),
        ("halyard.batch.max_items", ["halyard", "batch", "max", "items", "halyard.batch.max_items"]),
        ("snake_case", ["snake", "case", "snake_case"]),
        ("GET /v2/refunds?id=7", ["get", "v2", "refunds", "v2/refunds", "id", "7"]),
        ("Größe, naïve!", ["größe", "naïve"]),
        ("end. Next", ["end", "next"]),
        ("__ -- ..", []),
    ],
)
def test_words_and_whole_compounds_are_tokens(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


def index(parts: list[tuple[list[str], list[bool]]]) -> LexicalIndex:
    made = []
    for texts, live in parts:
        postings, lengths = build_postings(texts)
        made.append(LexicalPart(Postings(postings), lengths, np.array(live, dtype=bool)))
    return LexicalIndex(made)


WORD = st.sampled_from(["ebb", "flow", "tide", "gate", "pay-4012", "ebb.flow", "a", "b"])
TEXT = st.lists(WORD, max_size=12).map(" ".join)
PART = st.lists(st.tuples(TEXT, st.booleans()), max_size=8)


@settings(max_examples=300, deadline=None)
@given(st.lists(PART, max_size=4), TEXT)
def test_scores_equal_the_oracle_on_the_live_rows(parts: list[list[tuple[str, bool]]], question: str) -> None:
    """Whatever the segments and tombstones, scores are those of rank_bm25 over the live texts alone."""
    live = [text for part in parts for text, alive in part if alive]
    lexical = index([([text for text, _ in part], [alive for _, alive in part]) for part in parts])
    (scores,) = lexical.scores([question])
    alive = np.array([alive for part in parts for _, alive in part], dtype=bool)
    expected = bm25_scores(live, question) if any(tokenize(text) for text in live) else [0.0] * len(live)
    assert scores[alive] == pytest.approx(expected, abs=1e-6)
    assert (scores[~alive] == 0).all()
    frequencies = document_frequencies(live)
    assert lexical.document_frequency(["ebb", "pay-4012", "zzz"]) == {
        term: frequencies.get(term, 0) for term in ("ebb", "pay-4012", "zzz")
    }


def test_a_batch_scores_like_one_question_after_another() -> None:
    lexical = index([(["ebb flow", "tide gate ebb"], [True, True]), (["gate"], [True])])
    questions = ["ebb", "gate gate tide", "unknown", ""]
    batch = lexical.scores(questions)
    for question, scores in zip(questions, batch, strict=True):
        assert scores == pytest.approx(lexical.scores([question])[0])


def test_an_empty_corpus_is_defined() -> None:
    assert index([]).scores(["anything"])[0].shape == (0,)
    assert index([(["ebb"], [False])]).scores(["ebb"])[0].tolist() == [0.0]
    assert index([([""], [True])]).scores(["ebb"])[0].tolist() == [0.0]


def test_a_term_in_every_row_still_counts_for_something() -> None:
    (scores,) = index([(["ebb", "ebb flow"], [True, True])]).scores(["ebb"])
    assert (scores > 0).all()
