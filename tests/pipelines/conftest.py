"""Fixtures: desks of releases, built once and copied for each test."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.pipelines.release_desk import ReleaseDesk, make_release_desk, reads


@pytest.fixture(scope="session")
def _indexed(tmp_path_factory: pytest.TempPathFactory, tiny_base_model: Path) -> ReleaseDesk:
    with pytest.MonkeyPatch.context() as patch:
        return make_release_desk(tmp_path_factory.mktemp("indexed"), tiny_base_model, patch)


@pytest.fixture(scope="session")
def _adapted(_indexed: ReleaseDesk, tmp_path_factory: pytest.TempPathFactory, tiny_base_model: Path) -> ReleaseDesk:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIDEGATE_MODELS", str(tiny_base_model.parent / "prepared"))
        made = _indexed.copy(tmp_path_factory.mktemp("adapted"))
        made.adapter(reads("berths", "crane"))
        made.serve()
    time.sleep(1)  # events carry whole seconds: those of a test come after these
    return made


@pytest.fixture
def index_serves(
    _indexed: ReleaseDesk, tiny_base_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ReleaseDesk:
    """An index serves, without an adapter; the base model alone reads the berths."""
    monkeypatch.setenv("TIDEGATE_MODELS", str(tiny_base_model.parent / "prepared"))
    return _indexed.copy(tmp_path)


@pytest.fixture
def adapter_serves(
    _adapted: ReleaseDesk, tiny_base_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ReleaseDesk:
    """An adapter that reads berths and cranes serves, with its index."""
    monkeypatch.setenv("TIDEGATE_MODELS", str(tiny_base_model.parent / "prepared"))
    return _adapted.copy(tmp_path)
