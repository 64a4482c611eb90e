"""Answers written in this process: text, counts and adapters as transformers and PEFT give them one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from tidegate.core.errors import GenerationFailedError
from tidegate.core.records import BaseModelIdentity, DecodingSettings
from tidegate.evaluation.generation import Completion, Prompt
from tidegate.evaluation.transformers_generator import TransformersGenerator

GREEDY = DecodingSettings(temperature=0.0, top_p=1.0, max_new_tokens=6, seed=0)
IDENTITY = BaseModelIdentity(id="tiny", digest="1" * 64, tokenizer="2" * 64, chat_template="3" * 64)
TEXTS = ("The tide comes in.", "How high", "The tide comes in, and the boats leave the quay.", "A", "How high is it?")
NAMES = (None, "test-one", "test-two")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The generator sets the threads of the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def adapters(tiny_base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of two adapters by name, each of which changes what the model writes."""
    folder = tmp_path_factory.mktemp("adapters")
    lora = LoraConfig(r=4, lora_alpha=64, target_modules="all-linear", init_lora_weights=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        for name in NAMES[1:]:
            model = LlamaForCausalLM.from_pretrained(tiny_base_model, dtype=torch.float32)
            get_peft_model(model, lora).save_pretrained(folder / name)
    return {name: folder / name for name in NAMES[1:]}


@pytest.fixture(scope="module")
def tokenizer(tiny_base_model: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tiny_base_model / "tokenizer.json"))


@pytest.fixture(scope="module")
def generator(tiny_base_model: Path, adapters: dict[str, Path]) -> TransformersGenerator:
    return TransformersGenerator(tiny_base_model, IDENTITY, adapters, precision="float32", threads=1)


def alone(base: Path, prompt: Prompt, adapters: dict[str, Path]) -> list[int]:
    """Return the tokens that transformers writes after one prompt with one adapter, or none."""
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    if prompt.adapter:
        model = PeftModel.from_pretrained(model, str(adapters[prompt.adapter]))
    tokens = torch.tensor([prompt.tokens])
    found = model.eval().generate(
        input_ids=tokens, attention_mask=torch.ones_like(tokens), do_sample=False, max_new_tokens=6
    )
    return found[0, len(prompt.tokens) :].tolist()


def test_prompts_for_base_model_and_adapters_are_answered_in_the_order_given(
    generator: TransformersGenerator, tiny_base_model: Path, adapters: dict[str, Path], tokenizer: Tokenizer
) -> None:
    prompts = [
        Prompt(tuple(tokenizer.encode(text).ids), NAMES[(at + turn) % 3])
        for turn in range(2)
        for at, text in enumerate(TEXTS)
    ]
    told: list[tuple[int, int]] = []
    found = generator.generate(prompts, GREEDY, lambda done, total: told.append((done, total)))
    expected = [alone(tiny_base_model, prompt, adapters) for prompt in prompts]
    assert [item.text for item in found] == [tokenizer.decode(tokens).strip() for tokens in expected]
    assert [item.tokens for item in found] == [len(tokens) for tokens in expected]
    heard = list(zip(prompts, found, strict=True))
    by_adapter = [{item.text for prompt, item in heard if prompt.adapter == name} for name in NAMES]
    assert not by_adapter[0] & by_adapter[1]
    assert not by_adapter[1] & by_adapter[2]
    assert [total for _, total in told] == [10] * len(told)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (10, 10)


def test_the_end_of_turn_ends_an_answer_is_counted_and_not_shown(
    tiny_base_model: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    prompt = Prompt(tuple(tokenizer.encode(TEXTS[0]).ids))
    model = LlamaForCausalLM.from_pretrained(tiny_base_model, dtype=torch.float32)
    first, *_ = alone(tiny_base_model, prompt, {})
    for ends, expected in (
        ([2, first], Completion("", 1, finished=True)),
        (2, Completion(tokenizer.decode([first] * 6).strip(), 6, finished=False)),
    ):
        model.generation_config.eos_token_id = ends
        folder = tmp_path / str(ends)
        model.save_pretrained(folder)
        (folder / "tokenizer.json").write_bytes((tiny_base_model / "tokenizer.json").read_bytes())
        made = TransformersGenerator(folder, IDENTITY, precision="float32", threads=1)
        assert made.generate([prompt], GREEDY) == [expected]


def test_the_engine_names_what_rounds_an_answer(generator: TransformersGenerator, tiny_base_model: Path) -> None:
    engine = generator.engine
    assert (engine.name, engine.dtype, engine.base_model) == ("transformers", "float32", IDENTITY.digest)
    other = TransformersGenerator(tiny_base_model, IDENTITY, precision="bfloat16", threads=1)
    assert other.engine == replace(engine, dtype="bfloat16")


def test_nothing_asked_is_nothing_answered_and_loads_nothing(tmp_path: Path) -> None:
    made = TransformersGenerator(tmp_path / "missing", IDENTITY, precision="float32", threads=1)
    assert made.generate([], GREEDY) == []


@pytest.mark.parametrize(
    ("prompt", "decoding", "told"),
    [
        (Prompt((1,)), GREEDY.model_copy(update={"temperature": 0.7}), "temperature 0.7 is not offered here; valid: 0"),
        (Prompt((1,), "test-on"), GREEDY, "adapter 'test-on' is not loaded; valid: test-one, test-two"),
        (Prompt(()), GREEDY, "a prompt has no tokens"),
    ],
    ids=["sampling", "unknown adapter", "empty prompt"],
)
def test_what_cannot_be_answered_is_refused(
    prompt: Prompt, decoding: DecodingSettings, told: str, generator: TransformersGenerator
) -> None:
    with pytest.raises(GenerationFailedError, match=told.replace("(", r"\(")):
        generator.generate([Prompt((1,)), prompt], decoding)
