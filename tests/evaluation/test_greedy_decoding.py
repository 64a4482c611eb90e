"""Greedy decoding: the tokens that transformers writes one prompt at a time, without computing anything twice."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from tidegate.evaluation import greedy_decoding
from tidegate.evaluation.greedy_decoding import decode

WORDS, LIMIT = 61, 9
"""Tokens of the vocabulary, and the most that are written."""
LENGTHS = (3, 17, 8, 1, 30, 8, 12)
NEVER = frozenset({WORDS})


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """What is computed here is too small to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    """A random Llama whose answers vary; in double precision, so that how rows are batched rounds nothing away."""
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
    ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "initializer_range": 0.5}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return LlamaForCausalLM(LlamaConfig(vocab_size=WORDS, **shape, **heads, **ends)).double().eval()


@pytest.fixture(scope="module")
def adapted() -> Any:
    """A random Llama under two PEFT adapters, each of which changes what it writes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "eos_token_id": None, "pad_token_id": 0}
        shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "initializer_range": 0.5}
        base = LlamaForCausalLM(LlamaConfig(vocab_size=WORDS, **shape, **heads))
        lora = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", init_lora_weights=False)
        found = get_peft_model(base, lora, adapter_name="one")
        found.add_adapter("two", lora)
        return found.double().eval()


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of a few rows, read in by one or two."""
    monkeypatch.setattr(greedy_decoding, "_BATCH_TOKENS", 60)
    monkeypatch.setattr(greedy_decoding, "_GROUP_TOKENS", 20)


def prompts_of(lengths: Sequence[int], shared: int = 0, seed: int = 0) -> list[list[int]]:
    """Return random prompts, all of which begin with the same ``shared`` tokens."""
    draw = random.Random(seed)
    front = [draw.randrange(WORDS) for _ in range(shared)]
    return [front + [draw.randrange(WORDS) for _ in range(length)] for length in lengths]


def alone(model: Any, prompt: Sequence[int], ends: Collection[int] = NEVER, limit: int = LIMIT) -> list[int]:
    """Return what transformers writes after one prompt."""
    stop = {"eos_token_id": sorted(ends)} if ends != NEVER else {}
    tokens = torch.tensor([list(prompt)])
    found = model.generate(
        input_ids=tokens,
        attention_mask=torch.ones_like(tokens),
        do_sample=False,
        max_new_tokens=limit,
        pad_token_id=0,
        **stop,
    )
    return found[0, len(prompt) :].tolist()


def written(
    model: Any, prompts: Sequence[Sequence[int]], ends: Collection[int] = NEVER, limit: int = LIMIT
) -> tuple[list[list[int]], list[int]]:
    """Return (tokens by prompt, numbers that ``done`` was called with)."""
    told: list[int] = []
    return decode(model, prompts, ends, limit, told.append), told


@contextlib.contextmanager
def watched(model: Any) -> Iterator[list[tuple[int, int]]]:
    """Yield the (rows, tokens) of each pass through the model's layers."""
    passes: list[tuple[int, int]] = []
    hook = model.get_decoder().register_forward_pre_hook(
        lambda _, __, given: passes.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    try:
        yield passes
    finally:
        hook.remove()


@pytest.mark.parametrize("batches", ["one", "many"])
@pytest.mark.parametrize("shared", [0, 1, 13])
def test_a_batch_writes_what_each_prompt_writes_alone(
    shared: int, batches: str, model: LlamaForCausalLM, request: pytest.FixtureRequest
) -> None:
    if batches == "many":
        request.getfixturevalue("small_batches")
    prompts = prompts_of(LENGTHS, shared)
    found, told = written(model, prompts)
    assert found == [alone(model, prompt) for prompt in prompts]
    assert {len(tokens) for tokens in found} == {LIMIT}
    assert len({tuple(tokens) for tokens in found}) == len(prompts)
    assert sum(told) == len(prompts)
    assert (len(told) > 1) is (batches == "many")


@pytest.mark.parametrize("batches", ["one", "many"])
@pytest.mark.parametrize("shared", [0, 13])
def test_rows_end_with_their_first_end_token_and_the_others_write_on(
    shared: int, batches: str, model: LlamaForCausalLM, request: pytest.FixtureRequest
) -> None:
    if batches == "many":
        request.getfixturevalue("small_batches")
    prompts = prompts_of(LENGTHS, shared)
    endless = [alone(model, prompt) for prompt in prompts]
    ends = {endless[0][0], endless[1][2], endless[4][4]}
    expected = [alone(model, prompt, ends) for prompt in prompts]
    assert [expected[at][-1] in ends for at in (0, 1, 4)] == [True] * 3
    assert any(tokens[-1] not in ends for tokens in expected)
    assert written(model, prompts, ends)[0] == expected


def test_rows_that_have_ended_leave_the_batch_and_the_last_one_ends_it(model: LlamaForCausalLM) -> None:
    prompts = prompts_of([5] * 8, seed=3)
    endless = [alone(model, prompt) for prompt in prompts]
    ends = {tokens[0] for tokens in endless[:6]} | {endless[7][3]}
    expected = [alone(model, prompt, ends) for prompt in prompts]
    assert max(map(len, expected)) < LIMIT
    with watched(model) as passes:
        assert written(model, prompts, ends)[0] == expected
    (first, *steps) = passes
    assert first == (8, 5)
    still_writing = [sum(len(tokens) > step for tokens in expected) for step in range(1, max(map(len, expected)))]
    assert len(steps) == len(still_writing)
    assert all(0.75 * rows <= wanted <= rows for (rows, _), wanted in zip(steps, still_writing, strict=True))
    assert steps[0][0] < 8


@pytest.mark.parametrize("shared", [0, 4])
def test_a_limit_of_one_reads_each_prompt_and_writes_one_token(shared: int, model: LlamaForCausalLM) -> None:
    prompts = prompts_of([4, 9, 2], shared)
    with watched(model) as passes:
        found, _ = written(model, prompts, limit=1)
    assert found == [alone(model, prompt, limit=1) for prompt in prompts]
    assert [len(tokens) for tokens in found] == [1, 1, 1]
    assert passes == ([(1, shared)] if shared else []) + [(3, 9)]


@pytest.mark.parametrize("length", [1, 2, 20])
def test_one_prompt_is_written_as_by_itself(length: int, model: LlamaForCausalLM) -> None:
    (prompt,) = prompts_of([length])
    assert written(model, [prompt]) == ([alone(model, prompt)], [1])


def test_equal_prompts_are_read_as_one_and_get_the_same_answer(model: LlamaForCausalLM) -> None:
    (prompt,) = prompts_of([20])
    with watched(model) as passes:
        found, _ = written(model, [prompt] * 3)
    assert found == [alone(model, prompt)] * 3
    assert passes[:2] == [(1, 19), (3, 1)]


def test_a_prompt_that_another_one_begins_with_keeps_its_last_token(model: LlamaForCausalLM) -> None:
    (long,) = prompts_of([20])
    prompts = [long, long[:7], long[:12]]
    with watched(model) as passes:
        found, _ = written(model, prompts)
    assert found == [alone(model, prompt) for prompt in prompts]
    assert passes[0] == (1, 6)


def test_what_all_prompts_begin_with_is_read_once_for_all_batches(small_batches: None, model: LlamaForCausalLM) -> None:
    prompts = prompts_of([6] * 9, shared=20)
    with watched(model) as passes:
        found, told = written(model, prompts, limit=4)
    assert found == [alone(model, prompt, limit=4) for prompt in prompts]
    assert told == [2, 2, 2, 2, 1]
    assert passes[0] == (1, 20)
    assert all(tokens <= 6 for _, tokens in passes[1:])


def test_a_prompt_larger_than_a_batch_is_a_batch_by_itself(
    monkeypatch: pytest.MonkeyPatch, model: LlamaForCausalLM
) -> None:
    monkeypatch.setattr(greedy_decoding, "_BATCH_TOKENS", 10)
    monkeypatch.setattr(greedy_decoding, "_GROUP_TOKENS", 1)
    prompts = prompts_of([30, 4, 12])
    found, told = written(model, prompts)
    assert found == [alone(model, prompt) for prompt in prompts]
    assert told == [1, 1, 1]


@pytest.mark.parametrize("shared", [0, 13])
def test_an_adapter_that_is_set_or_switched_off_writes_as_it_does_alone(
    shared: int, small_batches: None, adapted: Any
) -> None:
    prompts = prompts_of(LENGTHS, shared)
    by_voice = {}
    for name in ("one", "two", "one"):
        adapted.set_adapter(name)
        by_voice[name] = written(adapted, prompts)[0]
        assert by_voice[name] == [alone(adapted, prompt) for prompt in prompts]
    with adapted.disable_adapter():
        by_voice["off"] = written(adapted, prompts)[0]
        assert by_voice["off"] == [alone(adapted, prompt) for prompt in prompts]
    assert by_voice["one"] != by_voice["two"] != by_voice["off"] != by_voice["one"]
