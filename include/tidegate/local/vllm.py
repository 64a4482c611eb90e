"""vLLM on this machine's processors, on 127.0.0.1, from its own environment. What is started here is stopped here."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2

from tidegate.core.errors import LocalVllmError
from tidegate.core.processes import die_with_parent, stop_group
from tidegate.evaluation.openai_generator import OpenAiGenerator

_STOP_SECONDS = 20
_REQUEST_SECONDS = 60.0
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",  # else half of two cores does not compute
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_NO_USAGE_STATS": "1",
}


@dataclass
class LocalVllm:
    """One vLLM server; it starts where the ``with`` block begins and stops where it ends."""

    python: Path
    """Interpreter of the environment that ``make setup-serving`` makes."""
    model: Path
    """Base model, a folder in the form of transformers; it is served under the folder's name."""
    port: int
    log: Path
    max_lora_rank: int = 64
    dtype: str = "float32"
    """What it computes in; ``bfloat16`` rounds a close call one way or the other with the batch."""
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        """Where the endpoint is, without ``/v1``."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._require_installed()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(),
                env={name: value for name, value in os.environ.items() if name != "VLLM_API_KEY"} | _ENVIRONMENT,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call, no threads are running yet
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            stop_group(self._process, _STOP_SECONDS)

    def wait_until_healthy(self, seconds: float, waiting: Callable[[float], None]) -> None:
        """Wait until it answers, calling ``waiting`` with the seconds so far; raise if it dies or takes too long."""
        started = time.monotonic()
        with self._client() as client:
            while not _is_healthy(client):
                self.require_running()
                passed = time.monotonic() - started
                if passed > seconds:
                    raise LocalVllmError(f"vLLM is not healthy after {seconds:.0f} s; its log is {self.log}")
                waiting(passed)
                time.sleep(0.25)

    def require_running(self) -> None:
        """Raise ``LocalVllmError`` with the end of its log if the server has ended."""
        if self._process and self._process.poll() is not None:
            tail = self.log.read_text(errors="replace").splitlines()[-12:]
            ended = f"vLLM ended with {self._process.returncode}; {self.log} ends:"
            raise LocalVllmError("\n".join([ended, *tail]))

    def generator(self) -> OpenAiGenerator:
        """Return a generator over this server."""
        return OpenAiGenerator(self.url, self.model.name, dtype=self.dtype)

    def load_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter in the form of PEFT; raise ``LocalVllmError`` if it is refused or the name is taken."""
        self._post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder.resolve())})

    def unload_adapter(self, name: str) -> None:
        """Unload an adapter; raise ``LocalVllmError`` if none of that name is loaded."""
        self._post("/v1/unload_lora_adapter", {"lora_name": name})

    def _command(self) -> list[str]:
        options = {
            "--host": "127.0.0.1",
            "--port": self.port,
            "--model": self.model,
            "--served-model-name": self.model.name,
            "--dtype": self.dtype,
            "--max-model-len": "auto",  # what fits beside the weights
            "--max-lora-rank": self.max_lora_rank,
            "--max-loras": 2,  # the champion's and a candidate's, in one batch
        }
        words = [str(word) for option in options.items() for word in option]
        return [str(self.python), "-m", "vllm.entrypoints.openai.api_server", "--enable-lora", *words]

    def _require_installed(self) -> None:
        if not self.python.is_file():
            raise LocalVllmError(
                f"vLLM is not installed: {self.python} does not exist", next_action="run 'make setup-serving'"
            )

    def _post(self, path: str, body: dict[str, str]) -> None:
        self.require_running()
        try:
            with self._client() as client:
                answer = client.post(path, json=body)
        except httpx2.TransportError as error:
            self.require_running()
            raise LocalVllmError(f"{path}: {type(error).__name__}: {error}; the log is {self.log}") from error
        if not answer.is_success:
            raise LocalVllmError(f"{path} of {body['lora_name']}: {answer.status_code} {answer.text[:500]}")

    def _client(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=_REQUEST_SECONDS, trust_env=False)  # no proxy to oneself


def _is_healthy(client: httpx2.Client) -> bool:
    try:
        return client.get("/health").is_success
    except httpx2.TransportError:
        return False
