"""A base model's tokenizer with its chat template, without loading transformers: a tenth of a second instead of four.

The template is rendered by Jinja in the sandbox and with the settings that transformers uses
(``transformers.utils.chat_template_utils``); a test holds the tokens equal to those of transformers and of vLLM.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from tidegate.core.errors import BaseModelMissingError
from tidegate.core.prompts import Turn

TOKENIZER, TEMPLATE, CONFIG = "tokenizer.json", "chat_template.jinja", "tokenizer_config.json"


class FileChatTokenizer:
    """The tokenizer of a model folder in the form of transformers."""

    def __init__(self, folder: Path) -> None:
        for name in (TOKENIZER, TEMPLATE, CONFIG):
            if not (folder / name).is_file():
                raise BaseModelMissingError(f"{folder} holds no {name}: a base model needs a tokenizer and a template")
        self._folder = folder
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._config: dict[str, Any] = json.loads((folder / CONFIG).read_text())

    @cached_property
    def end_of_turn(self) -> int:
        """The token that ends what a model writes; raise ``BaseModelMissingError`` if the model names none."""
        named = self._config.get("eos_token")
        content = named.get("content") if isinstance(named, dict) else named
        found = self._tokenizer.token_to_id(content) if content else None
        if found is None:
            raise BaseModelMissingError(f"{self._folder / CONFIG} names no end-of-turn token (eos_token)")
        return int(found)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text."""
        return [len(found.ids) for found in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def encode_prompt(self, turns: Sequence[Turn]) -> list[int]:
        """Return the tokens up to where the model begins to write."""
        return list(self._tokenizer.encode(self.render(turns), add_special_tokens=False).ids)

    def encode_completion(self, text: str) -> list[int]:
        """Return the tokens of what the model is to write, its end-of-turn token last."""
        return [*self._tokenizer.encode(text, add_special_tokens=False).ids, self.end_of_turn]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, special ones left out."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def render(self, turns: Sequence[Turn]) -> str:
        """Return the conversation as the chat template writes it, up to where the model begins."""
        return str(
            self._template.render(
                messages=[turn.as_json() for turn in turns],
                add_generation_prompt=True,
                **{name: self._special(name) for name in ("bos_token", "eos_token", "pad_token", "unk_token")},
            )
        )

    def _special(self, name: str) -> str:
        value = self._config.get(name)
        return str(value.get("content") if isinstance(value, dict) else value or "")

    @cached_property
    def _template(self) -> Any:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )

        def raise_exception(message: str) -> None:
            raise TemplateError(message)

        environment.globals["raise_exception"] = raise_exception
        return environment.from_string((self._folder / TEMPLATE).read_text())
