"""Answers from any OpenAI-compatible endpoint: vLLM, SGLang, llama.cpp, a gateway in front of them.

Prompts go to ``/v1/completions`` as token ids, so that every engine reads the same prompt: no server's own chat
template or tokenizer takes part. An adapter is a model name, as vLLM serves it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

import httpx2

from tidegate.core.errors import ConfigInvalidError, GenerationFailedError, one_line, suggest
from tidegate.core.protocols import Progress
from tidegate.core.records import DecodingSettings
from tidegate.evaluation.generation import Completion, Engine, Prompt

_TRIES = 5
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 0.5, 30.0
_CONNECT_SECONDS = 10.0
_SHOWN_CHARACTERS = 300

_LOST_CONNECTION = (httpx2.NetworkError, httpx2.ConnectTimeout, httpx2.RemoteProtocolError)
"""The request may be sent again: completions change nothing on the server."""

_NEXT_ACTIONS = {
    400: "the engine refused the request: correct the prompt's length or the decoding settings, then run again",
    401: "give this worker a valid API key for the endpoint, then run again",
    403: "give this worker's API key access to the model, then run again",
    404: "load the model or adapter on this endpoint, or correct its name, then run again",
}

_VLLM_SAMPLING = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Switches off what vLLM takes from the model's generation_config.json. Not in the OpenAI protocol."""

logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs a line per request


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why a request brought no answer."""

    said: str
    status: int = 0
    """HTTP status; 0 if there was none."""
    passing: bool = False
    """Whether the same request may succeed a little later."""
    wait_seconds: float = 0.0
    """What the server asked for."""


class OpenAiGenerator:
    """A :class:`tidegate.evaluation.generation.Generator` over HTTP.

    :param url: the endpoint without ``/v1``, for example ``http://127.0.0.1:8000``.
    :param model: name under which the endpoint serves the base model.
    :param dtype: what the endpoint computes in; it does not tell.
    :param api_key: sent as a bearer token; never logged, shown or part of an error.
    :param in_flight: largest number of requests at a time.
    :param timeout_seconds: longest wait for one answer; a slow answer is not asked for again.
    """

    engine: Engine

    def __init__(
        self,
        url: str,
        model: str,
        *,
        dtype: str = "unknown",
        api_key: str | None = None,
        in_flight: int = 8,
        timeout_seconds: float = 300.0,
    ) -> None:
        self._url = _endpoint(url)
        self._model = model
        self._key = _sendable(api_key)
        self._in_flight = in_flight
        self._timeout = httpx2.Timeout(timeout_seconds, connect=_CONNECT_SECONDS, pool=None)
        self.engine = self._ask_for_engine(dtype)

    def generate(
        self, prompts: Sequence[Prompt], decoding: DecodingSettings, progress: Progress | None = None
    ) -> list[Completion]:
        """Return one completion per prompt, in the order given; the first failure ends the rest."""
        stop = threading.Event()
        with self._client() as client, ThreadPoolExecutor(self._in_flight) as pool:
            asked = [
                pool.submit(self._complete, client, stop, prompt, decoding, f"prompt {number} of {len(prompts)}")
                for number, prompt in enumerate(prompts, 1)
            ]
            try:
                for done, future in enumerate(as_completed(asked), 1):
                    future.result()
                    if progress:
                        progress(done, len(asked))
            finally:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
        return [future.result() for future in asked]

    def _complete(
        self, client: httpx2.Client, stop: threading.Event, prompt: Prompt, decoding: DecodingSettings, which: str
    ) -> Completion:
        body = {
            "model": prompt.adapter or self._model,
            "prompt": list(prompt.tokens),
            "max_tokens": decoding.max_new_tokens,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "seed": decoding.seed,
            **(_VLLM_SAMPLING if self.engine.name == "vllm" else {}),
        }
        answer = self._send(client, "POST", "/v1/completions", body, stop=stop, which=which)
        try:
            (choice,), usage = answer["choices"], answer["usage"]
            written, reason = int(usage["completion_tokens"]), choice["finish_reason"]
            return Completion(choice["text"].strip(), written, reason == "stop")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._failure("/v1/completions", which, f"answered no completion: {json.dumps(answer)}") from error

    def _ask_for_engine(self, dtype: str) -> Engine:
        with self._client() as client:
            listed = self._send(client, "GET", "/v1/models")
            try:
                owners = {str(model["id"]): str(model.get("owned_by") or "unknown") for model in listed["data"]}
            except (AttributeError, KeyError, TypeError) as error:
                said = f"answered no list of models: {json.dumps(listed)}"
                raise self._failure("/v1/models", "", said) from error
            if self._model not in owners:
                guess = suggest(self._model, owners)
                said = f"does not serve the model {self._model!r}{guess}"
                raise self._failure("/v1/models", "", said, next_action=_NEXT_ACTIONS[404])
            return Engine(owners[self._model], self._version(client), dtype, self._model)

    def _version(self, client: httpx2.Client) -> str:
        """Return what ``/version`` says; not every server has it."""
        try:
            answer = client.get("/version")
            return str(answer.json()["version"]) if answer.is_success else "unknown"
        except (httpx2.RequestError, KeyError, TypeError, ValueError):
            return "unknown"

    def _send(
        self,
        client: httpx2.Client,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        stop: threading.Event | None = None,
        which: str = "",
    ) -> Any:
        """Return the answer's JSON; send again after a lost connection, 429 or 5xx, unless ``stop`` is set."""
        stop, tried = stop or threading.Event(), 0
        while True:
            found, tried = _send_once(client, method, path, body), tried + 1
            if isinstance(found, httpx2.Response):
                return self._parsed(found, path, which)
            if not found.passing or tried == _TRIES or stop.wait(_delay(tried, found.wait_seconds)):
                times = f" (tried {tried} times)" if tried > 1 else ""
                raise self._failure(path, which, found.said + times, next_action=_NEXT_ACTIONS.get(found.status))

    def _parsed(self, answer: httpx2.Response, path: str, which: str) -> Any:
        try:
            return answer.json()
        except ValueError as error:
            said = f"{answer.status_code} with a body that is not JSON: {_first_line(answer.text)}"
            raise self._failure(path, which, said) from error

    def _failure(self, path: str, which: str, said: str, *, next_action: str | None = None) -> GenerationFailedError:
        shown = said.replace(self._key, "***") if self._key else said
        if len(shown) > _SHOWN_CHARACTERS:
            shown = f"{shown[:_SHOWN_CHARACTERS]} …"
        where = f"{self._url}{path}" + (f", {which}" if which else "")
        return GenerationFailedError(one_line(f"{where}: {shown}"), next_action=next_action)

    def _client(self) -> httpx2.Client:
        return httpx2.Client(
            base_url=self._url,
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=self._timeout,
            limits=httpx2.Limits(max_connections=self._in_flight, max_keepalive_connections=self._in_flight),
            trust_env=httpx2.URL(self._url).host not in {"127.0.0.1", "::1", "localhost"},  # no proxy to oneself
        )


def _send_once(
    client: httpx2.Client, method: str, path: str, body: dict[str, Any] | None
) -> httpx2.Response | _Trouble:
    try:
        answer = client.request(method, path, json=body)
    except httpx2.ReadTimeout:
        return _Trouble(f"no answer within {client.timeout.read:g} s")
    except httpx2.RequestError as error:
        return _Trouble(f"{type(error).__name__}: {error}", passing=isinstance(error, _LOST_CONNECTION))
    if answer.is_success:
        return answer
    status = answer.status_code
    said = f"{status} {_first_line(answer.text)}"
    return _Trouble(said, status, passing=status == 429 or status >= 500, wait_seconds=_retry_after(answer))


def _endpoint(url: str) -> str:
    """Return the endpoint as it may be shown; raise ``ConfigInvalidError`` if it is none or may carry a secret."""
    advice = "use http://host:port; a key is the generator's api_key"
    if "@" in url or "?" in url:
        raise ConfigInvalidError("the endpoint's address carries credentials or a query", next_action=advice)
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ConfigInvalidError(f"the endpoint {url!r} is not a URL: {error}", next_action=advice) from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ConfigInvalidError(f"the endpoint {url!r} is not a URL of a server", next_action=advice)
    return url.rstrip("/").removesuffix("/v1")


def _sendable(key: str | None) -> str:
    """Return the key without surrounding white space; an HTTP library would show one that it cannot send."""
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigInvalidError("the endpoint's API key has characters that no HTTP header may carry")
    return key


def _first_line(body: str) -> str:
    """Return the message of an OpenAI error, else the body's first line."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        body = json.loads(body)["error"]["message"]
    return next(iter(str(body).strip().splitlines()), "(empty body)")


def _retry_after(answer: httpx2.Response) -> float:
    """Return the seconds that a server asks to wait; 0 if it names none, or a date."""
    named = answer.headers.get("Retry-After", "")
    return float(named) if named.isdecimal() else 0.0


def _delay(tried: int, asked_to_wait: float) -> float:
    """Return seconds until the next try: exponential with full jitter, at least what the server asked for."""
    longest = _FIRST_DELAY_SECONDS * 2.0**tried
    jitter = random.uniform(0, longest)  # noqa: S311 - spreads requests, guards nothing
    return min(max(jitter, asked_to_wait), _LONGEST_DELAY_SECONDS)
