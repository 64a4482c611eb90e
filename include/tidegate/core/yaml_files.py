"""Read a YAML file that a person wrote, and say in one line what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from tidegate.core.errors import ConfigInvalidError, suggest

_SHOWN = 80


class _Loader(yaml.SafeLoader):
    """The safe loader, which refuses a key that stands twice: YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping of distinct keys."""
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                problem = f"the key {key.value!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the file's keys and values; raise ``ConfigInvalidError`` naming the file and the place."""
    try:
        loaded = yaml.load(path.read_bytes().decode(), Loader=_Loader)  # noqa: S506 - a safe loader
    except OSError as error:
        raise ConfigInvalidError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigInvalidError(
            f"{path}: not valid UTF-8: byte {error.start} is {error.object[error.start]:#04x}"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigInvalidError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise ConfigInvalidError(f"{path}: expected keys and values, got {_kind(loaded)}")
    return loaded


def explain(error: ValidationError, root: type[BaseModel]) -> str:
    """Return every mistake in one line: the key, what is expected, what was received, and the keys that exist."""
    parts = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            parts.append(f"unknown key {key!r}{suggest(str(item['loc'][-1]), _keys_at(root, item['loc'][:-1]))}")
        elif item["type"] == "missing":
            parts.append(f"key {key!r} is missing")
        else:
            parts.append(_mistake(key, item))
    return "; ".join(parts)


def _keys_at(root: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys allowed at a place of the file, following ``location`` through the models."""
    model = root
    for part in location:
        if isinstance(part, str):
            annotation = model.model_fields[part].annotation
            candidates = get_args(annotation) or (annotation,)
            model = next(item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel))
    return list(model.model_fields)


def _mistake(key: str, item: Any) -> str:
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error" and isinstance(item["input"], dict):
        return f"{key}: {message}" if key else str(message)  # about several keys, which the message names
    if item["type"] in ("model_type", "model_attributes_type", "dict_type"):
        message = "expected keys and values"
    return f"{key or 'value'}: {message.replace('valid tuple', 'valid list')}, got {_shown(item['input'])}"


def _shown(value: object) -> str:
    if value is None or isinstance(value, dict):
        return _kind(value)
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _kind(value: object) -> str:
    kinds = {dict: "keys and values", list: "a list", str: f"the text {value!r:.40}", type(None): "nothing"}
    return kinds.get(type(value), type(value).__name__)
