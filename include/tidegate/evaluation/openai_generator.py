"""Answers from any OpenAI-compatible endpoint: vLLM, SGLang, llama.cpp, a gateway in front of them.

Prompts go to ``/v1/completions`` as token ids, so that every engine reads the same prompt: no server's own chat
template or tokenizer takes part. An adapter is a model name, as vLLM serves it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import httpx2

from tidegate.core.errors import suggest
from tidegate.core.protocols import Progress
from tidegate.core.records import DecodingSettings
from tidegate.evaluation.generation import Completion, Engine, Prompt
from tidegate.evaluation.openai_connection import MODEL_MISSING, Connection

_VLLM_SAMPLING = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Switches off what vLLM takes from the model's generation_config.json. Not in the OpenAI protocol."""


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
        self._connection = Connection(url, api_key, in_flight=in_flight, timeout_seconds=timeout_seconds)
        self._model = model
        self._in_flight = in_flight
        self.engine = self._ask_for_engine(dtype)

    def generate(
        self, prompts: Sequence[Prompt], decoding: DecodingSettings, progress: Progress | None = None
    ) -> list[Completion]:
        """Return one completion per prompt, in the order given; the first failure ends the rest."""
        stop = threading.Event()
        with self._connection.client() as client, ThreadPoolExecutor(self._in_flight) as pool:
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
        answer = self._connection.send(client, "POST", "/v1/completions", body, stop=stop, which=which)
        try:
            (choice,), usage = answer["choices"], answer["usage"]
            written, reason = int(usage["completion_tokens"]), choice["finish_reason"]
            return Completion(choice["text"].strip(), written, reason == "stop")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._connection.failure(
                "/v1/completions", which, f"answered no completion: {json.dumps(answer)}"
            ) from error

    def _ask_for_engine(self, dtype: str) -> Engine:
        with self._connection.client() as client:
            listed = self._connection.send(client, "GET", "/v1/models")
            try:
                owners = {str(model["id"]): str(model.get("owned_by") or "unknown") for model in listed["data"]}
            except (AttributeError, KeyError, TypeError) as error:
                said = f"answered no list of models: {json.dumps(listed)}"
                raise self._connection.failure("/v1/models", "", said) from error
            if self._model not in owners:
                guess = suggest(self._model, owners)
                said = f"does not serve the model {self._model!r}{guess}"
                raise self._connection.failure("/v1/models", "", said, next_action=MODEL_MISSING)
            return Engine(owners[self._model], self._version(client), dtype, self._model)

    def _version(self, client: httpx2.Client) -> str:
        """Return what ``/version`` says; not every server has it."""
        try:
            answer = client.get("/version")
            return str(answer.json()["version"]) if answer.is_success else "unknown"
        except (httpx2.RequestError, KeyError, TypeError, ValueError):
            return "unknown"
