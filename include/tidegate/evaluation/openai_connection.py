"""An OpenAI-compatible endpoint: requests that are sent again where that may help, failures that show no key."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import threading
from dataclasses import dataclass
from typing import Any

import httpx2

from tidegate.core.errors import ConfigInvalidError, GenerationFailedError, one_line

MODEL_MISSING = "load the model or adapter on this endpoint, or correct its name, then run again"
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
    404: MODEL_MISSING,
}

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


class Connection:
    """Requests to one endpoint.

    :param url: the endpoint without ``/v1``, for example ``http://127.0.0.1:8000``.
    :param api_key: sent as a bearer token; never logged, shown or part of an error.
    :param in_flight: largest number of requests at a time.
    :param timeout_seconds: longest wait for one answer; a slow answer is not asked for again.

    Raises ``ConfigInvalidError`` for an address or a key that cannot be used.
    """

    def __init__(self, url: str, api_key: str | None, *, in_flight: int, timeout_seconds: float) -> None:
        self.url = _endpoint(url)
        self._key = _sendable(api_key)
        self._in_flight = in_flight
        self._timeout = httpx2.Timeout(timeout_seconds, connect=_CONNECT_SECONDS, pool=None)

    def send(
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
                raise self.failure(path, which, found.said + times, next_action=_NEXT_ACTIONS.get(found.status))

    def _parsed(self, answer: httpx2.Response, path: str, which: str) -> Any:
        try:
            return answer.json()
        except ValueError as error:
            said = f"{answer.status_code} with a body that is not JSON: {_first_line(answer.text)}"
            raise self.failure(path, which, said) from error

    def failure(self, path: str, which: str, said: str, *, next_action: str | None = None) -> GenerationFailedError:
        """Return the error of a request that failed, as it may be shown."""
        shown = said.replace(self._key, "***") if self._key else said
        if len(shown) > _SHOWN_CHARACTERS:
            shown = f"{shown[:_SHOWN_CHARACTERS]} …"
        where = f"{self.url}{path}" + (f", {which}" if which else "")
        return GenerationFailedError(one_line(f"{where}: {shown}"), next_action=next_action)

    def client(self) -> httpx2.Client:
        """Return a client for one batch of requests."""
        return httpx2.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=self._timeout,
            limits=httpx2.Limits(max_connections=self._in_flight, max_keepalive_connections=self._in_flight),
            trust_env=httpx2.URL(self.url).host not in {"127.0.0.1", "::1", "localhost"},  # no proxy to oneself
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
