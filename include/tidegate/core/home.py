"""Where a project's files are: home, corpus files, default store. Each can be set by an environment variable."""

from __future__ import annotations

import os
from pathlib import Path

STATE = ".tidegate"
"""Folder in the home for all that a local run makes: store, Airflow's home, demo copy. Never committed."""


def project_home() -> Path:
    """Return ``$TIDEGATE_HOME``, else the checkout that this package lies in, else the working directory."""
    override = os.environ.get("TIDEGATE_HOME")
    if override:
        return Path(override).absolute()
    checkout = Path(__file__).resolve().parents[3]
    return checkout if (checkout / "include" / "corpora").is_dir() else Path.cwd()


def corpora_folders(home: Path) -> tuple[Path, ...]:
    """Return the folders with corpus files; those of a local run (``make run CORPUS=``) come last and win."""
    extra = [Path(folder) for folder in os.environ.get("TIDEGATE_CORPORA", "").split(os.pathsep) if folder]
    return (home / "include" / "corpora", *extra, home / STATE / "corpora")


def default_store_uri(home: Path) -> str:
    """Return ``$TIDEGATE_STORE``, else the local store of the project."""
    return os.environ.get("TIDEGATE_STORE") or (home / STATE / "store").as_uri()
