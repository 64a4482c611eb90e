"""Which corpus a person means: a configured one, one that a store holds, or a folder given on the command line."""

from __future__ import annotations

import contextlib
import json
import os
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidegate.core import keys
from tidegate.core.canonical import canonical_json, sha256_hex
from tidegate.core.config import CorpusConfig, corpus_files, find_corpus, load_corpora, load_corpus, parse_corpus
from tidegate.core.errors import ConfigInvalidError, CorpusUnknownError, SourceMissingError, suggest
from tidegate.core.protocols import ArtifactStore
from tidegate.pipelines.workspace import Workspace
from tidegate.sources.folder import hinted_size
from tidegate.sources.hints import load_hints


@dataclass(frozen=True, slots=True)
class Target:
    """What ``tidegate refresh`` is to work on."""

    config: CorpusConfig
    has_file: bool
    """Whether the corpus has a file of its own; otherwise it was made from a folder."""
    continues: str | None = None
    """The folder that a folder's corpus was read from before it moved."""


def stored_corpora(store: ArtifactStore) -> list[str]:
    """Return the names of the corpora that a store holds."""
    return [name for name in store.children("") if store.read(keys.snapshot_head(name)) is not None]


def begun_corpora(store: ArtifactStore) -> list[str]:
    """Return the corpora of which a store holds a snapshot or a channel, whole or not: what can be verified."""
    return [name for name in store.children("") if {"snapshots", "channels", "heads"} & set(store.children(f"{name}/"))]


def configured(name: str, folders: tuple[Path, ...]) -> CorpusConfig | None:
    """Return the configured corpus of that name, None if there is none."""
    path = corpus_files(folders).get(name)
    return load_corpus(path) if path else None


def choose_stored(store: ArtifactStore, name: str | None, held: Sequence[str] | None = None) -> str:
    """Return ``name`` if the store holds it, or the only corpus it holds; raise ``CorpusUnknownError`` otherwise."""
    held = stored_corpora(store) if held is None else held
    if name is None and len(held) == 1:
        return held[0]
    if name is None:
        what, then = "no corpus yet", "run 'tidegate refresh <folder>' first"
        if held:
            what, then = f"several corpora ({', '.join(held)}); say which with --corpus", f"e.g. --corpus {held[0]}"
        raise CorpusUnknownError(f"the store {store.uri} holds {what}", next_action=then)
    if name not in held:
        raise CorpusUnknownError(f"the store {store.uri} holds no corpus {name!r}{suggest(name, held)}")
    return name


def stored_workspace(store: ArtifactStore, name: str, folders: tuple[Path, ...], base: Path) -> Workspace:
    """Return a workspace to read a stored corpus with: its file's settings if it has one, else the defaults."""
    config = configured(name, folders) or parse_corpus({"corpus": name, "source": {"path": "."}}, where=name)
    return Workspace(config, store, base)


def find_target(target: str, name: str | None, store: ArtifactStore, folders: tuple[Path, ...]) -> Target:
    """Return the settings that ``tidegate refresh <target>`` means: a configured corpus, or a folder."""
    if not target:
        raise ConfigInvalidError("FOLDER|CORPUS is empty", next_action="give a folder, or a corpus of include/corpora")
    if target in corpus_files(folders):
        if name and name != target:
            raise ConfigInvalidError(f"--corpus {name!r} contradicts the configured corpus {target!r}; leave it out")
        return Target(find_corpus(target, folders), has_file=True)
    folder = Path(os.path.normpath(Path(target).expanduser().absolute()))
    exists = os.path.exists(folder)  # noqa: PTH110 - unlike Path.exists, false for names that no folder can have
    if not exists and "/" not in target and not name:
        known = corpus_files(folders)
        raise CorpusUnknownError(f"{target!r} is neither a folder nor a corpus{suggest(target, known)}")
    if not exists or not folder.is_dir():
        raise SourceMissingError(f"the source folder {folder} {'is not a folder' if exists else 'does not exist'}")
    for config in load_corpora(folders)[0]:
        if config.source.path == str(folder) and name in (None, config.corpus):
            return Target(config, has_file=True)
    chosen, continues = (name, None) if name else _name_for(folder, store, corpus_files(folders))
    values = {"corpus": chosen, "source": {"path": str(folder), "allow_empty": True}}
    config = parse_corpus(values, where=f"--corpus {chosen}" if name else str(folder))
    return Target(config, has_file=False, continues=continues)


def remember_folder(store: ArtifactStore, config: CorpusConfig) -> None:
    """Note where a folder corpus was read from, so that it is found again; written only when it changes."""
    key, note = _note_key(config.corpus), canonical_json({"folder": config.source.path})
    stored = store.read(key)
    if stored is None or stored.data != note:
        store.put(key, note)


def _name_for(folder: Path, store: ArtifactStore, configured: Collection[str]) -> tuple[str, str | None]:
    """Return (corpus, former folder): the corpus of this folder, of the folder that moved here, or a new one."""
    noted = {corpus: _noted_folder(store, corpus) for corpus in store.children("")}
    for corpus, place in noted.items():
        if place and (place == str(folder) or (Path(place).exists() and folder.samefile(place))):
            return corpus, None
    moved = [
        corpus
        for corpus, place in noted.items()
        if (_is_empty(place) if place else corpus not in configured) and _holds(folder, store, corpus)
    ]
    if len(moved) == 1:
        return moved[0], noted[moved[0]]
    slug = re.sub(r"[^a-z0-9_-]+", "-", folder.name.lower()).strip("-_")[:48] or "corpus"
    taken = slug in noted or slug in configured
    return (f"{slug}-{sha256_hex(str(folder).encode())[:6]}" if taken else slug), None


def _noted_folder(store: ArtifactStore, corpus: str) -> str | None:
    stored = store.read(_note_key(corpus))
    try:
        return None if stored is None else str(json.loads(stored.data)["folder"])
    except (ValueError, KeyError, TypeError):
        return None  # damaged: as good as lost


def _holds(folder: Path, store: ArtifactStore, corpus: str) -> bool:
    """Tell whether more than half of a corpus's documents are in a folder, by file name and size."""
    hints = load_hints(store, keys.hints(corpus, "folder")).documents
    found = _files(folder)
    known = {(document.rpartition("/")[2], hinted_size(hint)) for document, hint in hints.items() if hint}
    if not known:
        names = {document.rpartition("/")[2] for document in hints}  # too fresh for hints: names must do
        return len(names & {name for name, _ in found}) * 2 > len(names)
    return len(known & found) * 2 > len(known)


def _is_empty(place: str) -> bool:
    """Tell whether a folder is gone or holds no file; looks no further than the first."""
    return not any(names for _, _, names in os.walk(place))


def _files(folder: Path) -> set[tuple[str, int | None]]:
    """Return (name, size) of every file below a folder."""
    found: set[tuple[str, int | None]] = set()
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found.add((unicodedata.normalize("NFC", name), (Path(parent) / name).lstat().st_size))
    return found


def _note_key(corpus: str) -> str:
    return keys.source_note(corpus, "folder")
