"""A training job's checkpoints in the store: its files first, then ``COMPLETE.json``; only a complete one counts.

They lie below ``checkpoints/<op_id>/``, which only this job writes and reads, so a worker that dies leaves them to the
next, whatever machine that is on.
"""

from __future__ import annotations

import json
from pathlib import Path

from tidegate.core import keys
from tidegate.core.canonical import sha256_hex
from tidegate.core.failpoints import reach
from tidegate.core.protocols import ArtifactStore

COMPLETE = "COMPLETE.json"


def keep_checkpoint(store: ArtifactStore, corpus: str, op_id: str, folder: Path) -> None:
    """Copy a complete checkpoint into the store, its ``COMPLETE.json`` last."""
    prefix = f"{keys.checkpoints(corpus, op_id)}{folder.name}"
    complete = (folder / COMPLETE).read_bytes()
    for name in json.loads(complete):
        store.put(f"{prefix}/{name}", (folder / name).read_bytes())
        reach("checkpoint-copied")
    store.put(f"{prefix}/{COMPLETE}", complete)
    reach("checkpoint-kept")


def newest_checkpoint(store: ArtifactStore, corpus: str, op_id: str, folder: Path) -> Path | None:
    """Copy the newest complete checkpoint of a job into ``folder``; None if it has none.

    One whose files are missing or have other digests than its ``COMPLETE.json`` says is passed over.
    """
    prefix = keys.checkpoints(corpus, op_id)
    for name in sorted(store.children(prefix), reverse=True):
        if _copied(store, f"{prefix}{name}", folder / name):
            return folder / name
    return None


def _copied(store: ArtifactStore, prefix: str, folder: Path) -> bool:
    complete = store.read(f"{prefix}/{COMPLETE}")
    if complete is None:
        return False
    try:
        files = json.loads(complete.data)
    except ValueError:
        return False
    if any(Path(name).name != name for name in files):
        return False  # not written by keep_checkpoint: nothing is put outside the folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, described in files.items():
        stored = store.read(f"{prefix}/{name}")
        if stored is None or sha256_hex(stored.data) != described["sha256"]:
            return False
        (folder / name).write_bytes(stored.data)
    (folder / COMPLETE).write_bytes(complete.data)
    return True
