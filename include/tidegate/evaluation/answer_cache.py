"""Answers that were generated before: the same engine, adapter, prompt tokens and decoding are not asked again.

A cache only saves time: losing it, or an entry of it, costs generating once more, so it lies among the store's
disposable notes, is in no digest, and two writers at once lose nothing but time.
"""

from __future__ import annotations

import json
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tidegate.core import keys
from tidegate.core.canonical import canonical_json, digest_of, sha256_hex
from tidegate.core.protocols import ArtifactStore, Progress
from tidegate.core.records import DecodingSettings
from tidegate.evaluation.generation import Completion, Generator, Prompt

_SLICE = 256
"""Prompts whose answers are kept together: what a killed task loses at most."""

_Book = dict[str, Completion]


class CachedGenerator:
    """A :class:`tidegate.evaluation.generation.Generator` that asks another one only for what is new.

    Adapters must be named by what they are (a digest), never by their place or role.
    """

    def __init__(self, generator: Generator, store: ArtifactStore, corpus: str) -> None:
        self.engine = generator.engine
        self.asked = 0
        """Prompts so far."""
        self.generated = 0
        """Those of them that the engine had to answer."""
        self._generator, self._store, self._corpus = generator, store, corpus
        self._books: dict[str, _Book] = {}

    def generate(
        self, prompts: Sequence[Prompt], decoding: DecodingSettings, progress: Progress | None = None
    ) -> list[Completion]:
        """Return one completion per prompt, in the order given."""
        self.asked += len(prompts)
        places = [(self._scope(prompt.adapter, decoding), _digest(prompt.tokens)) for prompt in prompts]
        for scope, _ in places:
            self._open(scope)
        missing = {
            place: prompt
            for place, prompt in zip(places, prompts, strict=True)
            if place[1] not in self._books[place[0]]
        }
        self._fill(missing, decoding, len(prompts), progress)
        return [self._books[scope][prompt] for scope, prompt in places]

    def _fill(
        self,
        missing: dict[tuple[str, str], Prompt],
        decoding: DecodingSettings,
        total: int,
        progress: Progress | None,
    ) -> None:
        # One adapter and like lengths together: that is how engines batch.
        order = sorted(missing, key=lambda place: (place[0], -len(missing[place].tokens), place[1]))
        known = total - len(order)
        for start in range(0, len(order), _SLICE):
            part = order[start : start + _SLICE]

            def shifted(done: int, _: int, before: int = known + start) -> None:
                if progress:
                    progress(before + done, total)

            written = self._generator.generate([missing[place] for place in part], decoding, shifted)
            self.generated += len(part)
            for (scope, prompt), completion in zip(part, written, strict=True):
                self._books[scope][prompt] = completion
            for scope in sorted({scope for scope, _ in part}):
                self._keep(scope)

    def _scope(self, adapter: str | None, decoding: DecodingSettings) -> str:
        return digest_of({"engine": asdict(self.engine), "adapter": adapter, "decoding": decoding.model_dump()})

    def _open(self, scope: str) -> None:
        if scope not in self._books:
            stored = self._store.read(keys.answers(self._corpus, scope))
            self._books[scope] = _read(stored.data) if stored else {}

    def _keep(self, scope: str) -> None:
        rows = {prompt: [item.text, item.tokens, item.finished] for prompt, item in self._books[scope].items()}
        self._store.put(keys.answers(self._corpus, scope), zlib.compress(canonical_json(rows)))


def _digest(tokens: Sequence[int]) -> str:
    return sha256_hex(array("q", tokens).tobytes())


def _read(data: bytes) -> _Book:
    """Return the completions of a note; {} if it is damaged."""
    try:
        rows: dict[str, Any] = json.loads(zlib.decompress(data))
        return {
            prompt: Completion(str(text), int(tokens), bool(ended)) for prompt, (text, tokens, ended) in rows.items()
        }
    except (zlib.error, ValueError, TypeError, AttributeError):
        return {}
