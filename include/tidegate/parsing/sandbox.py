"""Parse untrusted formats in a killable child: one forked process per document, with limits on memory, time and output.

A helper process imports the parsers once and forks for each document, so a limit costs milliseconds and a bomb costs
only its own process. The child gets an empty environment and no token, and talks over a pipe in JSON.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tidegate.core.documents import Block, ParsedDocument, QuarantineError

_LENGTH = struct.Struct(">Q")
_TRIES = 2


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What one document may cost."""

    memory_bytes: int = 1 << 30
    cpu_seconds: int = 30
    """The limit that decides: it does not depend on how busy the machine is."""
    wall_seconds: int = 600
    """For a parser that hangs without computing."""
    output_bytes: int = 20_000_000


class Sandbox:
    """Parses one document at a time; usable as a context manager."""

    def __init__(self, limits: SandboxLimits | None = None) -> None:
        self._limits = limits or SandboxLimits()
        self._helper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the helper; the next :meth:`parse` starts another."""
        if self._helper is not None:
            self._helper.kill()
            self._helper.wait()
            for pipe in (self._helper.stdin, self._helper.stdout):
                if pipe is not None:
                    pipe.close()
            self._helper = None

    def parse(self, kind: str, data: bytes) -> ParsedDocument:
        """Parse ``data`` as ``kind`` (html or pdf); raise ``QuarantineError`` if it fails or goes over a limit."""
        helper = self._running_helper()
        if helper.stdin is None or helper.stdout is None:
            raise RuntimeError("the sandbox helper has no pipes")
        try:
            _send(helper.stdin, json.dumps({"kind": kind, "limits": asdict(self._limits)}).encode())
            _send(helper.stdin, data)
            reply = json.loads(
                _receive(helper.stdout, deadline=time.monotonic() + _TRIES * self._limits.wall_seconds + 10)
            )
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            self.close()
            raise QuarantineError("too_complex", f"the parser process died: {error}") from error
        if "reason" in reply:
            raise QuarantineError(reply["reason"], reply["detail"])
        return ParsedDocument(reply["title"], tuple(Block(**block) for block in reply["blocks"]), reply["metadata"])

    def _running_helper(self) -> subprocess.Popen[bytes]:
        if self._helper is None or self._helper.poll() is not None:
            root = str(Path(__file__).parents[2])
            self._helper = subprocess.Popen(
                [sys.executable, "-c", "from tidegate.parsing.sandbox import serve; serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={"PYTHONPATH": root, "LANG": "C.UTF-8", "PATH": os.defpath},
                close_fds=True,
                start_new_session=True,
            )
        return self._helper


def serve() -> None:
    """Run the helper: read documents from stdin, fork for each, write the replies to stdout."""
    from tidegate.parsing import html, pdf  # noqa: F401 - imported once, so that each fork has them

    while True:
        try:
            request = json.loads(_receive(sys.stdin.buffer))
            data = _receive(sys.stdin.buffer)
        except EOFError:
            return
        _send(sys.stdout.buffer, _in_child(request["kind"], data, SandboxLimits(**request["limits"])))


def _in_child(kind: str, data: bytes, limits: SandboxLimits) -> bytes:
    """Return the child's reply; one that was killed from outside (by the kernel, for memory) gets a second try."""
    for _ in range(_TRIES):
        output, ended_by = _run_child(kind, data, limits)
        if ended_by == 0 and output:
            return output
        if ended_by in (signal.SIGXCPU, None):
            break
    return _refusal(
        "too_complex",
        f"over {limits.cpu_seconds} s, {limits.memory_bytes >> 20} MiB or {limits.output_bytes} bytes of text",
    )


def _run_child(kind: str, data: bytes, limits: SandboxLimits) -> tuple[bytes, int | None]:
    """Return (output, signal that ended the child: 0 if it left by itself, None if it was over a limit of ours)."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _parse_and_exit(kind, data, limits, write_end)
    os.close(write_end)
    deadline = time.monotonic() + limits.wall_seconds
    output, complete = bytearray(), False
    with os.fdopen(read_end, "rb", buffering=0) as pipe:
        while not complete and time.monotonic() < deadline and len(output) <= limits.output_bytes:
            if select.select([pipe], [], [], 0.5)[0]:
                part = pipe.read(1 << 16)
                complete = not part
                output += part
    if not complete:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return bytes(output), os.WTERMSIG(status) if complete else None


def _parse_and_exit(kind: str, data: bytes, limits: SandboxLimits, write_end: int) -> None:
    """Body of the forked child: set limits, parse, write, and leave without running any other code."""
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
        resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(_outcome(kind, data))
    finally:
        os._exit(0)


def _outcome(kind: str, data: bytes) -> bytes:
    try:
        return _parsed(kind, data)
    except QuarantineError as refused:
        return _refusal(refused.reason, refused.detail)
    except (MemoryError, RecursionError) as error:
        return _refusal("too_complex", f"{type(error).__name__} while parsing")
    except Exception as error:  # noqa: BLE001 - whatever a third-party parser trips over is a fault of the document
        return _refusal("corrupt", f"{type(error).__name__}: {error}"[:200])


def _parsed(kind: str, data: bytes) -> bytes:
    from tidegate.parsing.html import parse_html
    from tidegate.parsing.pdf import parse_pdf

    document = {"html": parse_html, "pdf": parse_pdf}[kind](data)
    return json.dumps(
        {
            "title": document.title,
            "blocks": [asdict(block) for block in document.blocks],
            "metadata": dict(document.metadata),
        }
    ).encode()


def _refusal(reason: str, detail: str) -> bytes:
    return json.dumps({"reason": reason, "detail": detail}).encode()


def _send(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def _receive(pipe: IO[bytes], deadline: float | None = None) -> bytes:
    header = _read_exactly(pipe, _LENGTH.size, deadline)
    return _read_exactly(pipe, _LENGTH.unpack(header)[0], deadline)


def _read_exactly(pipe: IO[bytes], size: int, deadline: float | None) -> bytes:
    data = bytearray()
    while len(data) < size:
        if deadline is not None and not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError("no answer in time")
        part = os.read(pipe.fileno(), min(1 << 20, size - len(data)))
        if not part:
            raise EOFError("pipe closed")
        data += part
    return bytes(data)
