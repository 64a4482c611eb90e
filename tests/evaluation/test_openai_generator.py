"""Completions over HTTP: order, number in flight, what is asked again, what is not, and what no message shows."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from tests.evaluation.openai_endpoint import Endpoint, Reply, completion, error, serving
from tidegate.core.errors import ConfigInvalidError, GenerationFailedError
from tidegate.core.records import DecodingSettings
from tidegate.evaluation import openai_connection
from tidegate.evaluation.generation import Completion, Engine, Prompt
from tidegate.evaluation.openai_generator import OpenAiGenerator

GREEDY = DecodingSettings(temperature=0.0, top_p=1.0, max_new_tokens=24, seed=7)
KEY = "sk-0123456789abcdef"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """A running endpoint that serves ``base``; nothing waits before it asks again."""
    monkeypatch.setattr(openai_connection, "_FIRST_DELAY_SECONDS", 0.0)
    with serving(Endpoint()) as running:
        yield running


def prompts(count: int) -> list[Prompt]:
    return [Prompt((number,)) for number in range(count)]


def first(*replies: Reply) -> Any:
    """Return a behaviour that gives these replies one after another, then completions."""
    left = list(replies)
    return lambda body: left.pop(0) if left else completion("done")


def times_asked(endpoint: Endpoint, number: int) -> int:
    return [body["prompt"] for body in endpoint.bodies].count([number])


def failure(endpoint: Endpoint, **options: Any) -> GenerationFailedError:
    """Ask for two answers, one after the other, and return why that failed."""
    generator = OpenAiGenerator(endpoint.url, "base", in_flight=1, **options)
    with pytest.raises(GenerationFailedError) as caught:
        generator.generate(prompts(2), GREEDY)
    return caught.value


def test_a_prompt_is_asked_for_by_its_tokens_and_its_adapter_by_name(endpoint: Endpoint) -> None:
    endpoint.complete = first(completion(" a lock \n", 5), completion("cut", 24, "length"))
    generator = OpenAiGenerator(f"{endpoint.url}/v1/", "base", in_flight=1)
    answers = generator.generate([Prompt((1, 5, 2)), Prompt((1, 6), adapter="handbook-0f1e")], GREEDY)
    assert answers == [Completion("a lock", 5, finished=True), Completion("cut", 24, finished=False)]
    decoding = {"max_tokens": 24, "temperature": 0.0, "top_p": 1.0, "seed": 7}
    vllm = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    assert endpoint.bodies == [
        {"model": "base", "prompt": [1, 5, 2], **decoding, **vllm},
        {"model": "handbook-0f1e", "prompt": [1, 6], **decoding, **vllm},
    ]
    assert generator.generate([], GREEDY) == []


def test_answers_stand_in_the_order_of_the_prompts_not_of_their_arrival(endpoint: Endpoint) -> None:
    later_one_answered = threading.Event()
    seen: list[tuple[int, int]] = []

    def complete(body: dict[str, Any]) -> Reply:
        if body["prompt"] == [0]:
            assert later_one_answered.wait(30)
        return completion(str(body["prompt"]))

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        later_one_answered.set()

    endpoint.complete = complete
    answers = OpenAiGenerator(endpoint.url, "base", in_flight=2).generate(prompts(2), GREEDY, progress)
    assert [answer.text for answer in answers] == ["[0]", "[1]"]
    assert seen == [(1, 2), (2, 2)]


def test_as_many_requests_as_allowed_are_in_flight_and_no_more(endpoint: Endpoint) -> None:
    three_at_once = threading.Barrier(3, timeout=30)

    def complete(body: dict[str, Any]) -> Reply:
        three_at_once.wait()
        time.sleep(0.05)  # a fourth would arrive now
        return completion("done")

    endpoint.complete = complete
    assert len(OpenAiGenerator(endpoint.url, "base", in_flight=3).generate(prompts(9), GREEDY)) == 9
    assert endpoint.most_at_once == 3


@pytest.mark.parametrize(
    "reply", [error(500, "crashed"), error(503, "loading"), error(429, "slow down"), Reply(0)], ids=lambda r: r.status
)
def test_what_may_pass_is_asked_for_again(endpoint: Endpoint, reply: Reply) -> None:
    endpoint.complete = first(reply, reply)
    assert OpenAiGenerator(endpoint.url, "base").generate(prompts(1), GREEDY) == [Completion("done", 3, finished=True)]
    assert times_asked(endpoint, 0) == 3


def test_what_does_not_pass_is_given_up_after_five_tries(endpoint: Endpoint) -> None:
    endpoint.complete = lambda body: Reply(502, "<html>Bad Gateway</html>\n<p>nginx")
    where = f"{endpoint.url}/v1/completions, prompt 1 of 2"
    assert failure(endpoint).what == f"{where}: 502 <html>Bad Gateway</html> (tried 5 times)"
    assert times_asked(endpoint, 0) == 5


@pytest.mark.parametrize(
    ("reply", "said", "advice"),
    [
        (error(400, "longer than 2048"), "400 longer than 2048", "the engine refused the request"),
        (error(404, "The model `x` does not exist."), "404 The model `x` does not exist.", "load the model or adapter"),
        (Reply(307, "", {"Location": "/elsewhere"}), "307 (empty body)", "check the endpoint"),
        (Reply(200, "<html>hello"), "200 with a body that is not JSON: <html>hello", "check the endpoint"),
        (
            Reply(200, "not compressed at all", {"Content-Encoding": "gzip"}),
            "DecodingError: Error -3 while decompressing data: incorrect header check",
            "check the endpoint",
        ),
        (Reply(200, '{"choices": []}'), 'answered no completion: {"choices": []}', "check the endpoint"),
    ],
    ids=["prompt refused", "adapter unknown", "redirected", "no JSON", "no gzip", "no completion"],
)
def test_what_would_fail_again_is_asked_for_once(endpoint: Endpoint, reply: Reply, said: str, advice: str) -> None:
    endpoint.complete = first(completion("fine"), reply)
    failed = failure(endpoint)
    assert failed.what == f"{endpoint.url}/v1/completions, prompt 2 of 2: {said}"
    assert failed.next_action.startswith(advice)
    assert times_asked(endpoint, 1) == 1


def test_a_slow_answer_is_not_asked_for_twice(endpoint: Endpoint) -> None:
    answered = threading.Event()

    def complete(body: dict[str, Any]) -> Reply:
        answered.wait(30)
        return completion("late")

    endpoint.complete = complete
    failed = failure(endpoint, timeout_seconds=0.2)
    answered.set()
    assert failed.what == f"{endpoint.url}/v1/completions, prompt 1 of 2: no answer within 0.2 s"
    assert times_asked(endpoint, 0) == 1


def test_the_first_failure_ends_the_rest(endpoint: Endpoint) -> None:
    failed = threading.Event()

    def complete(body: dict[str, Any]) -> Reply:
        if body["prompt"] == [0]:
            return error(400, "no")
        failed.wait(0.5)  # by then the failure has been seen
        return completion("done")

    endpoint.complete = complete
    with pytest.raises(GenerationFailedError, match="prompt 1 of 50: 400 no"):
        OpenAiGenerator(endpoint.url, "base", in_flight=2).generate(prompts(50), GREEDY)
    assert len(endpoint.bodies) <= 3


def test_waiting_grows_with_the_tries_is_spread_and_heeds_the_server() -> None:
    delays = [[openai_connection._delay(tried, 0) for _ in range(200)] for tried in (1, 2, 3, 4)]
    assert [max(of_one_try) <= limit for of_one_try, limit in zip(delays, (1, 2, 4, 8), strict=True)] == [True] * 4
    assert [max(of_one_try) > limit / 2 for of_one_try, limit in zip(delays, (1, 2, 4, 8), strict=True)] == [True] * 4
    assert all(len(set(of_one_try)) > 100 for of_one_try in delays)
    assert [openai_connection._delay(1, asked) for asked in (12, 3600)] == [12, 30]


def test_a_server_says_how_long_to_wait(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(openai_connection, "_delay", lambda tried, seconds: asked.append(seconds) or 0)
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    endpoint.complete = first(error(429, "", **{"Retry-After": "17"}), error(503, "", **{"Retry-After": date}))
    OpenAiGenerator(endpoint.url, "base").generate(prompts(1), GREEDY)
    assert asked == [17.0, 0.0]


def test_the_key_is_sent_and_shown_nowhere(endpoint: Endpoint) -> None:
    endpoint.complete = lambda body: error(401, f"Incorrect API key provided: {KEY}.")
    failed = failure(endpoint, api_key=f"{KEY}\n")
    assert set(endpoint.keys) == {f"Bearer {KEY}"}
    assert failed.what.endswith("prompt 1 of 2: 401 Incorrect API key provided: ***.")
    assert failed.next_action.startswith("give this worker a valid API key")
    assert KEY not in "".join(traceback.format_exception(failed)) + failed.block() + str(failed.as_record())


@pytest.mark.parametrize(
    ("url", "key", "what"),
    [
        ("http://host:8000", f"{KEY}\n{KEY}", "the endpoint's API key has characters that no HTTP header may carry"),
        ("http://host:8000", f"{KEY}ß", "the endpoint's API key has characters that no HTTP header may carry"),
        (f"http://user:{KEY}@host", None, "the endpoint's address carries credentials or a query"),
        (f"http://host?key={KEY}", None, "the endpoint's address carries credentials or a query"),
        ("host:8000", None, "the endpoint 'host:8000' is not a URL of a server"),
        ("http://host:port", None, "the endpoint 'http://host:port' is not a URL: Invalid port: 'port'"),
    ],
)
def test_an_address_or_key_that_cannot_be_used_is_refused_without_showing_a_secret(
    url: str, key: str | None, what: str
) -> None:
    with pytest.raises(ConfigInvalidError) as caught:
        OpenAiGenerator(url, "base", api_key=key)
    assert caught.value.what == what
    assert KEY not in caught.value.block()


def test_the_engine_is_what_the_endpoint_says_of_itself(endpoint: Endpoint) -> None:
    found = OpenAiGenerator(endpoint.url, "base", dtype="bfloat16").engine
    assert found == Engine("vllm", "0.32.0", "bfloat16", "base")
    endpoint.models, endpoint.version = {"base": "llamacpp", "adapter": "llamacpp"}, None
    other = OpenAiGenerator(endpoint.url, "base")
    assert other.engine == Engine("llamacpp", "unknown", "unknown", "base")
    other.generate(prompts(1), GREEDY)
    assert endpoint.bodies[0].keys() == {"model", "prompt", "max_tokens", "temperature", "top_p", "seed"}


def test_a_model_that_is_not_served_is_refused_with_the_names_that_are(endpoint: Endpoint) -> None:
    endpoint.models = {"smollm2": "vllm", "handbook-0f1e": "vllm"}
    with pytest.raises(GenerationFailedError) as caught:
        OpenAiGenerator(endpoint.url, "smolm2")
    assert caught.value.what == (
        f"{endpoint.url}/v1/models: does not serve the model 'smolm2';"
        " did you mean 'smollm2'? valid: handbook-0f1e, smollm2"
    )


def test_an_endpoint_that_is_not_there_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_connection, "_FIRST_DELAY_SECONDS", 0.0)
    with serving(Endpoint()) as gone:
        pass
    with pytest.raises(GenerationFailedError) as caught:
        OpenAiGenerator(gone.url, "base")
    assert caught.value.what.startswith(f"{gone.url}/v1/models: ConnectError: ")
    assert caught.value.what.endswith("(tried 5 times)")
