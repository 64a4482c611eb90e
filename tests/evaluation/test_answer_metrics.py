"""Answer metrics against values worked out by hand, and Wilson's interval against scipy."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.prompts import Passage
from tidegate.evaluation.answer_metrics import JudgedAnswer, Mean, Rate, Summary, judge, summarise

REFUSAL = "The documents do not say."
PASSAGES = (
    Passage("a.md", "Printer", "It listens on port 9100."),
    Passage("b.md", "Port 9100", "It sends its files by mail."),
    Passage("c.md", "Ports", "| printer | 9100 |"),
)


def judged(answer: str, gold: str | None, *tags: str) -> JudgedAnswer:
    return judge(answer, gold, refusal=REFUSAL, passages=PASSAGES, tags=tags)


@pytest.mark.parametrize(
    ("answer", "gold", "exact", "contained", "f1", "rouge"),
    [
        ("port 9100", "port 9100", True, True, 1, 1),
        ("The PORT: `9100`!", "port 9100", True, True, 1, 4 / 5),  # ROUGE keeps articles
        ("it is 9100", "9100", False, True, 1 / 2, 1 / 2),
        ("it is port 9100", "9100", False, False, 2 / 5, 2 / 5),  # four words against one
        ("it now is on port 9100", "port 9100", False, True, 1 / 2, 1 / 2),  # six words against two
        ("it now is there on port 9100", "port 9100", False, False, 4 / 9, 4 / 9),
        ("it is on a port, the 9100", "port 9100", False, True, 4 / 7, 4 / 9),  # articles are no words
        ("9100 port", "port 9100", False, False, 1, 1 / 2),
        ("port number 9100", "port 9100", False, False, 4 / 5, 4 / 5),
        ("9100 9100 9100", "9100", False, True, 1 / 2, 1 / 2),
        ("21 21 21", "21 21", False, True, 4 / 5, 4 / 5),  # a word counts as often as both have it
        ("91000", "9100", False, False, 0, 0),
        ("port", "port 9100", False, False, 2 / 3, 2 / 3),
        ("", "9100", False, False, 0, 0),
        ("Zürich", "zürich", True, True, 1, 1),
        ("rich", "Zürich", False, False, 0, 0),  # rouge-score's own tokenizer gives 2/3
        ("Москва", "москва", True, True, 1, 1),
        ("* / *", "*", False, False, 0, 0),
        ("", "*", False, False, 0, 0),
    ],
)
def test_an_answer_is_compared_with_its_gold_word_by_word(
    answer: str, gold: str, exact: bool, contained: bool, f1: float, rouge: float
) -> None:
    found = judged(answer, gold)
    assert (found.exact_match, found.contained_match) == (exact, contained)
    assert (found.token_f1, found.rouge_l) == (pytest.approx(f1), pytest.approx(rouge))
    assert (found.correct, found.refused, found.answerable) == (contained, False, True)


@given(st.text("ab C0.,-\n", max_size=30), st.text("ab C0.,-\n", max_size=30))
def test_rouge_of_plain_english_text_is_that_of_its_own_tokenizer(answer: str, gold: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    expected = RougeScorer(["rougeL"]).score(gold, answer)["rougeL"].fmeasure
    assert judge(answer, gold, refusal=REFUSAL).rouge_l == expected


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        (REFUSAL, True),
        ("the documents do not say", True),
        ("The documents do not say. [2]", True),
        ("I am sorry, the documents do not say.", True),
        ("The documents do not say which port it is.", True),  # four words around four
        ("The documents do not say which port it was on.", False),
        ("Documents do say.", False),
        ("The documents do not really say.", False),
        ("9100", False),
        ("", False),
    ],
)
def test_a_refusal_is_the_refusal_sentence_with_at_most_as_many_words_around_it(answer: str, refused: bool) -> None:
    unanswerable, answerable = judged(answer, None), judged(answer, "9100")
    assert unanswerable == JudgedAnswer(False, refused, refused, answer.endswith("[2]"))
    assert (answerable.refused, answerable.correct) == (refused, answer == "9100")


def test_a_refusal_answers_nothing_even_where_the_gold_stands_in_it() -> None:
    found = judged("The documents do not say: port 9100. [1]", "port 9100")
    assert found == JudgedAnswer(True, False, True, True, False, False, False, 0.0, 0.0)
    assert judged("do not say", "do not say") == JudgedAnswer(True, True, False, False, True, True, False, 1.0, 1.0)


def test_a_refusal_sentence_without_words_is_never_found() -> None:
    assert not judge("—", None, refusal="—").refused


@pytest.mark.parametrize(
    ("answer", "exact", "cited", "hit"),
    [
        ("9100 [1]", True, True, True),
        ("9100. [1].\n", True, True, True),
        ("[1]", False, True, True),
        ("wrong [1]", False, True, True),
        ("9100 [2]", True, True, False),  # only its heading holds 9100
        ("9100 [3]", True, True, True),
        ("9100 [4]", True, True, False),
        ("9100 [0]", True, True, False),
        ("[1] 9100", False, False, False),
        ("9100 [1] it is", False, False, False),
        ("9100[1]", False, False, False),  # an index, not a citation
        ("9100 [x]", False, False, False),
        ("9100", True, False, False),
    ],
)
def test_a_citation_ends_the_answer_and_hits_where_its_passage_holds_the_gold(
    answer: str, exact: bool, cited: bool, hit: bool
) -> None:
    found = judged(answer, "9100")
    assert (found.exact_match, found.cited, found.citation_hit) == (exact, cited, hit)


def test_an_endless_citation_is_none() -> None:
    assert not judged(f"9100 [{'1' * 5000}]", "9100").cited


@given(st.integers(1, 3000), st.data())
def test_the_interval_is_wilsons(n: int, data: st.DataObject) -> None:
    from scipy.stats import binomtest

    hits = data.draw(st.integers(0, n))
    expected = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    low, high = Rate(hits, n).interval
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= Rate(hits, n).value <= high <= 1


def test_the_interval_of_a_textbook_case() -> None:
    # z² = 3.8415: (0.2 + 0.19207 ± 1.95996 √(0.016 + 0.0096036)) / 1.38415
    assert Rate(2, 10).interval == pytest.approx((0.0566822, 0.5098375), abs=1e-7)
    assert Rate(0, 10).interval == (0.0, pytest.approx(3.8414588 / 13.8414588, abs=1e-7))
    assert Rate(10, 10).interval == (pytest.approx(10 / 13.8414588, abs=1e-7), 1.0)
    assert Rate(3, 4).value == 0.75


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (2, 1), (-1, 3)])
def test_a_rate_over_nothing_or_out_of_range_is_a_mistake(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{hits} of {n} is no rate"):
        Rate(hits, n)


ROWS = (
    judged("9100 [1]", "9100", "table"),
    judged("it is 9100 [2]", "9100", "list", "table"),
    judged("mail", "9100", "list"),
    judged(REFUSAL, "9100"),
    judged(REFUSAL, None, "near-miss"),
    judged("mail", None, "near-miss", "list"),
    judged(REFUSAL, None),
)


def test_every_slice_has_its_rates_with_their_counts() -> None:
    found = summarise(ROWS, {"wrong": ROWS[2:4]})
    assert list(found) == ["all", "answerable", "unanswerable", "tag:list", "tag:near-miss", "tag:table", "wrong"]
    of_golds = {
        "exact_match": Rate(1, 4),
        "contained_match": Rate(2, 4),
        "cited": Rate(2, 4),
        "citation_hit": Rate(1, 4),
        "wrong_refusal": Rate(1, 4),
    }
    means = {"token_f1": Mean(1.5 / 4, 4), "rouge_l": Mean(1.5 / 4, 4)}
    refusals = {"refusal_recall": Rate(2, 3), "refusal_precision": Rate(2, 3)}
    assert found["all"] == Summary(7, {"correct": Rate(4, 7), **of_golds, **refusals}, means)
    assert found["answerable"] == Summary(4, {"correct": Rate(2, 4), **of_golds}, means)
    assert found["unanswerable"] == Summary(3, {"correct": Rate(2, 3), "refusal_recall": Rate(2, 3)}, {})
    assert found["tag:near-miss"] == Summary(2, {"correct": Rate(1, 2), "refusal_recall": Rate(1, 2)}, {})
    assert found["tag:table"].rates["contained_match"] == Rate(2, 2)
    assert found["wrong"].rates["correct"] == Rate(0, 2)


def test_a_metric_that_no_row_has_is_absent() -> None:
    assert summarise([], {"none": []}) == {}
    assert list(summarise(ROWS[:1])) == ["all", "answerable", "tag:table"]
    mixed = summarise(ROWS)["tag:list"]  # both kinds of rows, no refusal
    assert (mixed.n, mixed.rates["wrong_refusal"], mixed.rates["refusal_recall"]) == (3, Rate(0, 2), Rate(0, 1))
    assert "refusal_precision" not in mixed.rates


def test_precision_counts_the_refusals_that_were_due() -> None:
    due, undue = ROWS[4], ROWS[3]
    assert summarise([due, due, due, undue])["all"].rates["refusal_precision"] == Rate(3, 4)
    assert "refusal_precision" not in summarise([due, due])["all"].rates  # 1 whatever the adapter does


def test_a_tag_named_like_a_slice_and_a_slice_named_twice_do_not_mix() -> None:
    rows = [replace(ROWS[0], tags=("all", "all")), ROWS[4]]
    assert {name: slice_.n for name, slice_ in summarise(rows).items()} == {
        "all": 2, "answerable": 1, "unanswerable": 1, "tag:all": 1, "tag:near-miss": 1,
    }  # fmt: skip
    with pytest.raises(ValueError, match="a slice named 'tag:all' exists already"):
        summarise(rows, {"tag:all": rows})
