"""The records of an adapter: its manifest, with all that decided its bytes, and the head that names the newest."""

from __future__ import annotations

from typing import Any

from tidegate.core.records import BaseModelIdentity, Digest, Part, Record, StoredFile


class AdapterCounts(Part):
    """What an adapter was trained on."""

    contexts: int
    answered: int
    swapped: int
    withheld: int
    unanswerable: int
    practice: int
    replayed: int
    """Branches by kind."""
    tokens: int
    longest: int
    """Tokens of all contexts, and of the longest."""


class AdapterManifest(Record):
    """``adapters/<digest>.<build8>/manifest.json``: one adapter, and all that decided its bytes."""

    corpus: str
    seq: int
    parent: Digest | None
    """Digest of the adapter that was the newest before; this one was trained from the base model all the same."""
    op_id: Digest
    """Digest of base model, dataset, snapshot, recipe, renderer, rows and code."""
    base_model: BaseModelIdentity
    dataset: Digest
    snapshot: Digest
    settings: Digest
    """Digest of base model, prompt and training settings: with others, the same rows give another adapter."""
    renderer: Digest
    """Digest of the prompt that it was trained with."""
    refusal: str
    audience: tuple[str, ...]
    """Groups that may read every document in its rows."""
    recipe: dict[str, Any]
    versions: dict[str, str]
    """Libraries that computed it, and ``code``: digest of the modules that made rows and adapter."""
    rank: int
    counts: AdapterCounts
    losses: dict[str, float]
    """``train`` and ``dev`` at the end."""
    files: dict[str, StoredFile]


class AdapterHead(Record):
    """``heads/adapter.json``: the latest verified adapter."""

    seq: int
    adapter: Digest
    key: str
    """``<digest>.<build8>``."""
    op_id: Digest
