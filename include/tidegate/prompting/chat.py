"""A base model's tokenizer with its chat template, without loading transformers: a tenth of a second instead of four.

The template is rendered by Jinja in the sandbox and with the settings that transformers uses
(``transformers.utils.chat_template_utils``); a test holds the tokens equal to those of transformers and of vLLM.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from tidegate.core.errors import BaseModelMissingError
from tidegate.core.prompts import Turn

_START, _END = "\U000f0000", "\U000f0001"
"""Private characters around a control token that is written in a text; taken out of texts."""
_MARKS = re.compile(f"[{_START}{_END}]")
_MARKED = re.compile(f"{_START}(.*?){_END}", re.DOTALL)
TOKENIZER, TEMPLATE, CONFIG = "tokenizer.json", "chat_template.jinja", "tokenizer_config.json"


class _Generation(Extension):
    """``{% generation %}`` marks what an assistant writes; here it says nothing."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


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
        """Return the number of tokens of each text, control tokens that are written in it taken as plain text."""
        return [len(self._plain(text)) for text in texts]

    def encode_prompt(self, turns: Sequence[Turn]) -> list[int]:
        """Return the tokens up to where the model begins to write.

        A control token that is written in a turn is plain text: only the template's own ones have their meaning.
        """
        marked = [Turn(turn.role, self._marked(turn.content)) for turn in turns]
        tokens: list[int] = []
        for at, piece in enumerate(_MARKED.split(self.render(marked))):
            tokens += self._literal(piece) if at % 2 else self._encoded(piece)
        return tokens

    def encode_completion(self, text: str) -> list[int]:
        """Return the tokens of what the model is to write, its end-of-turn token last."""
        return [*self._plain(text), self.end_of_turn]

    def _marked(self, text: str) -> str:
        return self._controls.sub(rf"{_START}\g<0>{_END}", _MARKS.sub("", text))

    def _plain(self, text: str) -> list[int]:
        """Return the tokens of a text in which nothing is a control token."""
        return [
            token
            for at, piece in enumerate(_MARKED.split(self._marked(text)))
            for token in (self._literal(piece) if at % 2 else self._encoded(piece))
        ]

    def _encoded(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _literal(self, text: str) -> list[int]:
        self._tokenizer.encode_special_tokens = True
        try:
            return self._encoded(text)
        finally:
            self._tokenizer.encode_special_tokens = False

    @cached_property
    def _controls(self) -> re.Pattern[str]:
        """What would be read as a control token, longest first."""
        names = [token.content for token in self._tokenizer.get_added_tokens_decoder().values() if token.special]
        return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)")

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, special ones left out."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def render(self, turns: Sequence[Turn]) -> str:
        """Return the conversation as the chat template writes it, up to where the model begins."""
        return str(
            self._template.render(
                messages=[turn.as_json() for turn in turns],
                add_generation_prompt=True,
                tools=None,
                documents=None,
                **{name: self._special(name) for name in ("bos_token", "eos_token", "pad_token", "unk_token")},
            )
        )

    def _special(self, name: str) -> str:
        value = self._config.get(name)
        return str(value.get("content") if isinstance(value, dict) else value or "")

    @cached_property
    def _template(self) -> Any:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
        )

        def raise_exception(message: str) -> None:
            raise TemplateError(message)

        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = raise_exception
        return environment.from_string((self._folder / TEMPLATE).read_text())


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON as templates expect it: nothing is escaped for HTML, and keys keep their order."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
