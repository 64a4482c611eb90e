"""The cache of answers: one question to the engine per distinct prompt, adapter, engine and decoding, ever."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from tidegate.core.errors import GenerationFailedError
from tidegate.core.protocols import ArtifactStore, Progress
from tidegate.core.records import DecodingSettings
from tidegate.evaluation import answer_cache
from tidegate.evaluation.answer_cache import CachedGenerator
from tidegate.evaluation.generation import Completion, Engine, Prompt
from tidegate.registry.file_store import FileStore

GREEDY = DecodingSettings(temperature=0.0, top_p=1.0, max_new_tokens=8, seed=0)
ENGINE = Engine("counting", "1", "float32", "base")
ONE, TWO, THREE = (Prompt((1,)), Prompt((1, 2)), Prompt((1, 2, 3)))


@dataclass
class Counting:
    """An engine that answers with its prompt, and keeps what it was asked; it may break at a call."""

    engine: Engine = ENGINE
    breaks_at: int = 0
    calls: list[list[Prompt]] = field(default_factory=list)

    def generate(
        self, prompts: Sequence[Prompt], decoding: DecodingSettings, progress: Progress | None = None
    ) -> list[Completion]:
        self.calls.append(list(prompts))
        if len(self.calls) == self.breaks_at:
            raise GenerationFailedError("the engine went away")
        if progress:
            progress(len(prompts), len(prompts))
        return [answer(prompt, decoding, self.engine) for prompt in prompts]


def answer(prompt: Prompt, decoding: DecodingSettings = GREEDY, engine: Engine = ENGINE) -> Completion:
    text = f"{engine.dtype} {prompt.adapter} {prompt.tokens} {decoding.max_new_tokens}"
    return Completion(text, len(prompt.tokens), finished=len(prompt.tokens) % 2 == 1)


def cached(store: ArtifactStore, **settings: object) -> tuple[CachedGenerator, Counting]:
    """Return a cache over a store as a new process opens it, and the engine behind it."""
    engine = Counting(**settings)
    return CachedGenerator(engine, store, "test"), engine


def notes(store: ArtifactStore) -> list[str]:
    return [found.key for found in store.list_keys("test/")]


def test_an_answer_is_asked_for_once_and_known_ever_after(any_store: Callable[[], ArtifactStore]) -> None:
    first, engine = cached(any_store())
    assert first.engine == ENGINE
    for _ in range(2):
        assert first.generate([ONE, TWO], GREEDY) == [answer(ONE), answer(TWO)]
    assert (first.asked, first.generated, engine.calls) == (4, 2, [[TWO, ONE]])

    again, engine = cached(any_store())
    assert again.generate([TWO, THREE, ONE], GREEDY) == [answer(TWO), answer(THREE), answer(ONE)]
    assert (again.asked, again.generated, engine.calls) == (3, 1, [[THREE]])

    last, engine = cached(any_store())
    written = last.generate([THREE, TWO, ONE], GREEDY)
    assert written == [answer(THREE), answer(TWO), answer(ONE)]
    assert (last.asked, last.generated, engine.calls) == (3, 0, [])


def test_nothing_new_writes_nothing(store: FileStore) -> None:
    cached(store)[0].generate([ONE, TWO], GREEDY)
    written, found = store.bytes_written, notes(store)
    assert len(found) == 1
    assert found[0].startswith("test/scans/evaluation/answers/")
    again, engine = cached(store)
    again.generate([TWO, ONE], GREEDY)
    assert again.generate([], GREEDY) == []
    assert (store.bytes_written, notes(store), engine.calls) == (written, found, [])


@pytest.mark.parametrize(
    "other",
    [
        replace(ENGINE, name="vllm"),
        replace(ENGINE, version="2"),
        replace(ENGINE, dtype="bfloat16"),
        replace(ENGINE, base_model="other"),
    ],
    ids=["name", "version", "dtype", "base model"],
)
def test_another_engine_is_asked_anew_and_the_first_ones_answers_stay(store: FileStore, other: Engine) -> None:
    cached(store)[0].generate([ONE], GREEDY)
    second, engine = cached(store, engine=other)
    assert second.generate([ONE], GREEDY) == [answer(ONE, engine=other)]
    assert (second.generated, engine.calls) == (1, [[ONE]])
    for known, made_by in ((ENGINE, ENGINE), (other, other)):
        reader, engine = cached(store, engine=known)
        assert reader.generate([ONE], GREEDY) == [answer(ONE, engine=made_by)]
        assert engine.calls == []


@pytest.mark.parametrize("changed", [{"max_new_tokens": 9}, {"temperature": 0.5}, {"top_p": 0.9}, {"seed": 1}], ids=str)
def test_another_decoding_is_asked_anew(store: FileStore, changed: dict[str, float]) -> None:
    decoding = GREEDY.model_copy(update=changed)
    cached(store)[0].generate([ONE], GREEDY)
    second, engine = cached(store)
    assert second.generate([ONE], decoding) == [answer(ONE, decoding)]
    assert (second.generated, engine.calls) == (1, [[ONE]])


def test_adapters_and_tokens_are_told_apart(store: FileStore) -> None:
    prompts = [
        Prompt((1, 23)),
        Prompt((12, 3)),
        Prompt((1, 23), "test-a"),
        Prompt((1, 23), "test-b"),
        Prompt((1, 2**31)),
        Prompt((2**31, 1)),
    ]
    first, engine = cached(store)
    assert first.generate(prompts, GREEDY) == [answer(prompt) for prompt in prompts]
    assert sorted(map(str, engine.calls[0])) == sorted(map(str, prompts))
    again, engine = cached(store)
    assert again.generate(prompts[::-1], GREEDY) == [answer(prompt) for prompt in prompts[::-1]]
    assert engine.calls == []


def test_a_prompt_that_stands_twice_in_a_call_is_answered_once_and_returned_twice(store: FileStore) -> None:
    found, engine = cached(store)
    asked = [ONE, THREE, ONE, Prompt((1,), "a"), THREE]
    assert found.generate(asked, GREEDY) == [answer(prompt) for prompt in asked]
    assert (found.asked, found.generated) == (5, 3)
    assert len(engine.calls[0]) == 3


def test_new_prompts_reach_the_engine_by_adapter_and_longest_first(store: FileStore) -> None:
    found, engine = cached(store)
    prompts = [Prompt((7,) * length, adapter) for length in (2, 9, 4) for adapter in ("b", None, "a")]
    assert found.generate(prompts, GREEDY) == [answer(prompt) for prompt in prompts]
    (asked,) = engine.calls
    for at in (0, 3, 6):
        assert len({prompt.adapter for prompt in asked[at : at + 3]}) == 1
        assert [len(prompt.tokens) for prompt in asked[at : at + 3]] == [9, 4, 2]


def test_what_was_answered_before_the_engine_broke_is_kept(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_cache, "_SLICE", 2)
    prompts = [Prompt((1,) * length) for length in range(1, 8)]
    broken, engine = cached(store, breaks_at=3)
    with pytest.raises(GenerationFailedError, match="the engine went away"):
        broken.generate(prompts, GREEDY)
    assert [[len(prompt.tokens) for prompt in call] for call in engine.calls] == [[7, 6], [5, 4], [3, 2]]
    assert (broken.asked, broken.generated) == (7, 4)

    again, engine = cached(store)
    assert again.generate(prompts, GREEDY) == [answer(prompt) for prompt in prompts]
    assert (again.generated, [len(call) for call in engine.calls]) == (3, [2, 1])


def test_a_slice_of_two_adapters_keeps_the_answers_of_both(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_cache, "_SLICE", 2)
    prompts = [Prompt((1,)), Prompt((1,), "a"), Prompt((1,), "b")]
    with pytest.raises(GenerationFailedError):
        cached(store, breaks_at=2)[0].generate(prompts, GREEDY)
    again, engine = cached(store)
    assert again.generate(prompts, GREEDY) == [answer(prompt) for prompt in prompts]
    assert [len(call) for call in engine.calls] == [1]


def test_progress_counts_what_was_known_and_ends_with_the_number_of_prompts(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_cache, "_SLICE", 2)
    told: list[tuple[int, int]] = []
    cached(store)[0].generate([ONE, TWO], GREEDY)
    prompts = [Prompt((5,) * length) for length in range(1, 6)]
    cached(store)[0].generate([ONE, *prompts, TWO], GREEDY, lambda done, total: told.append((done, total)))
    assert told == [(4, 7), (6, 7), (7, 7)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-4],
        lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
        lambda data: zlib.compress(b"[1, 2]"),
        lambda data: zlib.compress(b'{"a": 1}'),
        lambda data: zlib.compress(b'{"a": ["text", "many", true]}'),
        lambda data: zlib.compress(b"\xff\xfe"),
    ],
    ids=["empty", "cut", "flipped", "a list", "no row", "no number", "no text"],
)
def test_a_damaged_note_is_as_none_and_is_written_anew(store: FileStore, damage: Callable[[bytes], bytes]) -> None:
    cached(store)[0].generate([ONE, TWO], GREEDY)
    (note,) = notes(store)
    store.put(note, damage(store.read(note).data))
    second, engine = cached(store)
    assert second.generate([ONE, TWO], GREEDY) == [answer(ONE), answer(TWO)]
    assert (second.generated, notes(store)) == (2, [note])
    third, engine = cached(store)
    third.generate([TWO, ONE], GREEDY)
    assert engine.calls == []


def test_a_lost_note_costs_asking_once_more(store: FileStore) -> None:
    cached(store)[0].generate([ONE], GREEDY)
    (note,) = notes(store)
    (store.root / note).unlink()
    again, engine = cached(store)
    assert again.generate([ONE], GREEDY) == [answer(ONE)]
    assert (again.generated, engine.calls, notes(store)) == (1, [[ONE]], [note])
