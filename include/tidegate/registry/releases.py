"""Releases: immutable records of what may serve, under the SHA-256 of their own bytes."""

from __future__ import annotations

from tidegate.core import keys
from tidegate.core.protocols import ArtifactStore
from tidegate.core.publishing import create_once
from tidegate.core.records import Release
from tidegate.core.stored_records import read_record


def write_release(store: ArtifactStore, release: Release) -> str:
    """Store a release and return its id; writing it again is no change."""
    create_once(store, keys.release(release.bundle.corpus, release.digest), release.to_bytes())
    return release.digest


def read_release(store: ArtifactStore, corpus: str, release: str) -> Release:
    """Return a release by its id."""
    return read_record(store, keys.release(corpus, release), Release, release)
