"""The corpora at parse time: every readable file, and the reason for each that is not. Reads YAML and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.core.config import CorpusConfig, corpus_files, load_corpus
from tidegate.core.errors import ConfigInvalidError
from tidegate.core.home import corpora_folders, project_home


@dataclass(frozen=True, slots=True)
class BrokenCorpus:
    """A corpus file that cannot be used; its DAG says why, so that one typo does not take the others down."""

    corpus: str
    reason: str


def load_corpora() -> tuple[list[CorpusConfig], list[BrokenCorpus]]:
    """Return (usable, broken) corpora, each sorted by name."""
    usable, broken = [], []
    for name, path in sorted(corpus_files(corpora_folders(project_home())).items()):
        try:
            usable.append(load_corpus(path))
        except ConfigInvalidError as error:
            broken.append(BrokenCorpus(name, error.what))
    return usable, broken
