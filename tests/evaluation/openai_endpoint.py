"""An endpoint that speaks as much of the OpenAI protocol as completions and a judge need, and does what a test says."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """One answer; status 0 hangs up instead."""

    status: int
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def completion(text: str, tokens: int = 3, finish_reason: str = "stop") -> Reply:
    choice = {"index": 0, "text": text, "finish_reason": finish_reason}
    return Reply(200, json.dumps({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": tokens}}))


def message(text: str | None) -> Reply:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return Reply(200, json.dumps({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}))


def error(status: int, message: str, **headers: str) -> Reply:
    return Reply(status, json.dumps({"error": {"message": message, "code": status}}), headers)


@dataclass
class Endpoint:
    """What it answers, and what it was asked."""

    complete: Callable[[dict[str, Any]], Reply] = lambda body: completion(f" {body['prompt'][0]} ")
    models: dict[str, str] = field(default_factory=lambda: {"base": "vllm"})
    """Served names and their owners."""
    version: str | None = "0.32.0"
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    """The Authorization header of every request."""
    most_at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, body: dict[str, Any] | None) -> Reply:
        if path == "/v1/models":
            return Reply(200, json.dumps({"data": [{"id": name, "owned_by": by} for name, by in self.models.items()]}))
        if path == "/version" and self.version:
            return Reply(200, json.dumps({"version": self.version}))
        if path != ("/v1/chat/completions" if body and "messages" in body else "/v1/completions") or body is None:
            return error(404, "Not Found")
        with self._lock:
            self.bodies.append(body)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            return self.complete(body)
        finally:
            with self._lock:
                self._now -= 1


@contextmanager
def serving(endpoint: Endpoint) -> Iterator[Endpoint]:
    """Serve an endpoint on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            endpoint.keys.append(self.headers.get("Authorization"))
            reply = endpoint.answer(self.path, json.loads(self.rfile.read(length)) if length else None)
            if not reply.status:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in {**reply.headers, "Content-Length": str(len(reply.body.encode()))}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):  # who asked has given up
                self.wfile.write(reply.body.encode())

        do_POST = do_GET  # noqa: N815 - the name that http.server looks up

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_port}"
    yield endpoint
    server.shutdown()
    server.server_close()
    thread.join()
