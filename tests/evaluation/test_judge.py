"""The LLM judge: it sees each pair in both orders, counts what both say, and never ends an evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.evaluation.openai_endpoint import Endpoint, Reply, error, message, serving
from tidegate.core.evaluation_config import EndpointConfig
from tidegate.core.evaluation_records import Example
from tidegate.evaluation import openai_connection
from tidegate.evaluation.judge import PROMPT, ask_judge

KEY = "sk-0123456789abcdef"
Judge = Callable[[dict[str, Any]], str | None]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """A running endpoint; nothing waits before it asks again."""
    monkeypatch.setattr(openai_connection, "_FIRST_DELAY_SECONDS", 0.0)
    with serving(Endpoint()) as running:
        yield running


def pairs(wins: int, losses: int = 0) -> list[Example]:
    """Questions to which the candidate alone, or the champion alone, gives the reference."""
    return [
        Example(
            row=f"q-{number}",
            question=f"Which berth is number {number}?",
            gold=f"berth {number}",
            candidate=f"berth {number}" if number < wins else "nobody knows",
            champion="nobody knows" if number < wins else f"berth {number}",
            won=number < wins,
            passages=(),
        )
        for number in range(wins + losses)
    ]


def shown(body: dict[str, Any]) -> dict[str, Any]:
    """What a request shows the judge."""
    return json.loads(body["messages"][1]["content"])


def asked(endpoint: Endpoint, judge: Judge, examples: list[Example], **options: Any) -> dict[str, str]:
    """Ask a judge that looks at what it is shown."""
    endpoint.complete = lambda body: message(judge(shown(body)))
    return ask_judge(EndpointConfig(url=endpoint.url, model="judge-1"), examples, **options)


def votes(candidate: int, champion: int, undecided: int, preference: str) -> dict[str, str]:
    return {
        "model": "judge-1",
        "prompt": PROMPT,
        "asked": str(candidate + champion + undecided),
        "for_candidate": str(candidate),
        "for_champion": str(champion),
        "undecided": str(undecided),
        "preference": preference,
    }


def honest(pair: dict[str, Any]) -> str:
    return "A" if pair["A"] == pair["reference"] else "B"


@pytest.mark.parametrize(
    ("wins", "losses", "preference"), [(3, 1, "candidate"), (1, 3, "champion"), (2, 2, "tie"), (0, 0, "tie")]
)
def test_the_answer_that_both_orders_name_has_the_vote(
    endpoint: Endpoint, wins: int, losses: int, preference: str
) -> None:
    assert asked(endpoint, honest, pairs(wins, losses)) == votes(wins, losses, 0, preference)
    assert len(endpoint.bodies) == 2 * (wins + losses)


@pytest.mark.parametrize("favourite", ["A", "B"])
def test_a_judge_that_looks_at_the_place_alone_decides_nothing(endpoint: Endpoint, favourite: str) -> None:
    assert asked(endpoint, lambda pair: favourite, pairs(5)) == votes(0, 0, 5, "tie")


def test_votes_of_one_order_alone_do_not_count(endpoint: Endpoint) -> None:
    def wavering(pair: dict[str, Any]) -> str:
        return "A" if pair["reference"] in ("berth 0", "berth 1") else honest(pair)

    assert asked(endpoint, wavering, pairs(2, 1)) == votes(0, 1, 2, "champion")


@pytest.mark.parametrize(
    ("reply", "counts"),
    [
        ("{}", True),
        (" **{}**.\n", True),
        ("<think>A or B?\nHard.</think>\n\n{}", True),
        ("{} is the better answer", False),
        ("a lower {} is none", False),
        ("", False),
        (None, False),
        ("T", False),
        ("AB", False),
    ],
)
def test_a_reply_counts_if_it_is_one_letter(endpoint: Endpoint, reply: str | None, counts: bool) -> None:
    found = asked(endpoint, lambda pair: reply if reply is None else reply.format(honest(pair)), pairs(1))
    assert found == (votes(1, 0, 0, "candidate") if counts else votes(0, 0, 1, "tie"))


def test_a_pair_is_shown_with_its_reference_in_both_orders_and_without_chance(endpoint: Endpoint) -> None:
    pair = pairs(1)[0].model_copy(update={"gold": None, "champion": 'berth 7", "reference": "berth 7'})
    asked(endpoint, honest, [pair])
    texts = {"question": pair.question, "reference": None}
    assert [shown(body) for body in endpoint.bodies] == [
        {**texts, "A": pair.candidate, "B": pair.champion},
        {**texts, "A": pair.champion, "B": pair.candidate},
    ]
    for body in endpoint.bodies:
        assert body.keys() == {"model", "messages", "temperature", "max_tokens"}
        assert (body["model"], body["temperature"]) == ("judge-1", 0)
        assert [turn["role"] for turn in body["messages"]] == ["system", "user"]


def test_at_most_forty_pairs_are_shown_the_first_of_the_report(endpoint: Endpoint) -> None:
    examples = pairs(39, 5)
    assert asked(endpoint, honest, examples) == votes(39, 1, 0, "candidate")
    assert {shown(body)["question"] for body in endpoint.bodies} == {item.question for item in examples[:40]}
    assert endpoint.most_at_once <= 4


def test_what_may_pass_is_asked_again(endpoint: Endpoint) -> None:
    replies = [error(503, "loading"), Reply(0), error(429, "slow down")]
    endpoint.complete = lambda body: replies.pop() if replies else message(honest(shown(body)))
    judge = EndpointConfig(url=endpoint.url, model="judge-1")
    assert ask_judge(judge, pairs(1)) == votes(1, 0, 0, "candidate")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (error(404, "no model `judge-1`"), "404 no model `judge-1`"),
        (error(500, "crashed"), "500 crashed (tried 5 times)"),
        (Reply(200, "<html>hello"), "200 with a body that is not JSON: <html>hello"),
        (Reply(200, '{"choices": []}'), 'answered no message: {"choices": []}'),
        (Reply(200, "[]"), "answered no message: []"),
        (message(["A"]), 'answered no message: {"choices": [{"index": 0,'),
    ],
    ids=["unknown model", "crashed", "no JSON", "no choice", "a list", "no text"],
)
def test_an_endpoint_that_fails_is_noted(
    endpoint: Endpoint, reply: Reply, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.complete = lambda body: reply
    found = ask_judge(EndpointConfig(url=endpoint.url, model="judge-1"), pairs(1))
    assert found.keys() == {"model", "prompt", "failed"}
    assert found["failed"].startswith(f"{endpoint.url}/v1/chat/completions, pair 1 of 1: {said}")
    assert f"the judge was not heard: {found['failed']}" in caplog.text


def test_a_failure_after_some_votes_leaves_no_preference(endpoint: Endpoint) -> None:
    def complete(body: dict[str, Any]) -> Reply:
        return error(400, "too long") if shown(body)["reference"] == "berth 9" else message("A")

    endpoint.complete = complete
    found = ask_judge(EndpointConfig(url=endpoint.url, model="judge-1"), pairs(30))
    assert found["failed"].endswith("pair 10 of 30: 400 too long")
    assert "preference" not in found


def test_a_judge_that_is_not_there_or_has_no_address_is_noted(endpoint: Endpoint) -> None:
    def ask(url: str) -> str:
        return ask_judge(EndpointConfig(url=url, model="judge-1"), pairs(1))["failed"]

    with serving(Endpoint()) as gone:
        pass
    assert ask(gone.url).endswith("(tried 5 times)")
    assert ask("judge:8000") == "the endpoint 'judge:8000' is not a URL of a server"


def test_the_key_is_sent_and_shown_nowhere(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    endpoint.complete = lambda body: error(401, f"Incorrect API key provided: {KEY}.")
    found = ask_judge(EndpointConfig(url=endpoint.url, model="judge-1"), pairs(1), f"{KEY}\n")
    assert set(endpoint.keys) == {f"Bearer {KEY}"}
    assert found["failed"].endswith("401 Incorrect API key provided: ***.")
    assert KEY not in caplog.text
