"""Hand rows from one task of ``validate_qa`` to the next through the store, so that no task assumes a shared disk."""

from __future__ import annotations

import zlib
from typing import TypeVar

from pydantic import TypeAdapter

from tidegate.core.canonical import sha256_hex
from tidegate.pipelines.validate_qa import Loaded, Validated
from tidegate.registry.runs import Run

_ValueT = TypeVar("_ValueT")


def stage_loaded(run: Run, loaded: Loaded) -> str:
    """Stage loaded rows; return their name."""
    return _stage(run, "loaded", loaded)


def load_loaded(run: Run, name: str) -> Loaded:
    """Return staged rows; raise ``StageMissingError`` if an earlier task left none."""
    return _load(run, name, Loaded)


def stage_validated(run: Run, validated: Validated) -> str:
    """Stage a validated set; return its name."""
    return _stage(run, "validated", validated)


def load_validated(run: Run, name: str) -> Validated:
    """Return a staged set; raise ``StageMissingError`` if an earlier task left none."""
    return _load(run, name, Validated)


def _stage(run: Run, kind: str, value: object) -> str:
    data = zlib.compress(TypeAdapter(type(value)).dump_json(value), level=3)
    name = f"{kind}-{sha256_hex(data)[:12]}.json.z"
    run.stage(name, data)
    return name


def _load(run: Run, name: str, kind: type[_ValueT]) -> _ValueT:
    return TypeAdapter(kind).validate_json(zlib.decompress(run.staged(name)))
