"""A finished adapter is loaded from its files and asked beside its base; one that changes nothing is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.jobs import LAYERS, make_spec, write_rows
from tidegate.core.errors import AdapterInvalidError
from tidegate.training.model import load_base_model, lora_config, save_adapter
from tidegate.training.preflight import check_adapter, linear_modules
from tidegate.training.probe import probe


def write_adapter(base: Path, folder: Path, spread: float) -> Path:
    """Write an adapter whose B is random with a standard deviation of ``spread``."""
    from peft import get_peft_model

    spec = make_spec(base, folder)
    model = get_peft_model(load_base_model(spec, "cpu"), lora_config(spec.recipe.lora, LAYERS))
    made = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=made) * spread)
    folder.mkdir()
    save_adapter(model, "tiny-llama", folder)
    return folder


def asked(base: Path, folder: Path, tmp_path: Path) -> list[dict[str, Any]]:
    dev = write_rows(tmp_path / "dev.jsonl", 6, seed=1)
    return probe(load_base_model(make_spec(base, folder), "cpu"), folder, dev, base / "tokenizer.json")


def test_an_adapter_is_asked_a_few_dev_questions_beside_its_base(tiny_base_model: Path, tmp_path: Path) -> None:
    folder = write_adapter(tiny_base_model, tmp_path / "adapter", spread=1.0)
    check_adapter(folder, linear_modules(tiny_base_model), "tiny-llama", 4)
    found = asked(tiny_base_model, folder, tmp_path)
    assert len(found) == 4
    assert [item["row"] for item in found] == ["r0"] * 4
    assert any(item["adapter"] != item["base"] for item in found)
    assert all(len(item["prompt"]) > 20 for item in found)


def test_an_adapter_that_changes_nothing_is_refused(tiny_base_model: Path, tmp_path: Path) -> None:
    folder = write_adapter(tiny_base_model, tmp_path / "adapter", spread=0.0)
    with pytest.raises(AdapterInvalidError, match="answers 4 probes exactly as its base model does"):
        asked(tiny_base_model, folder, tmp_path)
