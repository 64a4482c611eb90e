"""The corpora at parse time: every usable file, and the reason for each that is not. Reads YAML and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.core import config
from tidegate.core.home import corpora_folders, project_home


@dataclass(frozen=True, slots=True)
class BrokenCorpus:
    """A corpus file that cannot be used; its DAG says why, so that one typo does not take the others down."""

    corpus: str
    reason: str


def load_corpora() -> tuple[list[config.CorpusConfig], list[BrokenCorpus]]:
    """Return (usable, broken) corpora, each sorted by name."""
    usable, broken = config.load_corpora(corpora_folders(project_home()))
    return usable, [BrokenCorpus(name, reason) for name, reason in broken.items()]
