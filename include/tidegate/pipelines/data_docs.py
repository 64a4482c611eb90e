"""Data Docs in the store: beside the run that made them, and beside the dataset that it committed.

They lie outside every digest, because they hold the time of their making.
"""

from __future__ import annotations

from pathlib import Path

from tidegate.core import keys
from tidegate.core.protocols import ArtifactStore
from tidegate.registry.runs import Run, find_run

FIRST_PAGE = "index.html"


def keep_pages(run: Run, folder: Path) -> str:
    """Copy a folder of pages to a run; return where the first page is, '' if there is none."""
    prefix = keys.run_pages(run.corpus, run.name)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            run.store.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return f"{run.store.uri}/{prefix}/{FIRST_PAGE}" if (folder / FIRST_PAGE).is_file() else ""


def publish_pages(run: Run, dataset: str) -> None:
    """Copy a run's pages to its dataset."""
    source, target = keys.run_pages(run.corpus, run.name), keys.dataset_pages(run.corpus, dataset)
    for found in run.store.list_keys(f"{source}/"):
        stored = run.store.read(found.key)
        if stored is not None:
            run.store.put(f"{target}/{found.key.removeprefix(f'{source}/')}", stored.data)


def first_page(run: Run, dataset: str) -> str:
    """Return where the first page of a dataset is."""
    return f"{run.store.uri}/{keys.dataset_pages(run.corpus, dataset)}/{FIRST_PAGE}"


def read_run_page(store: ArtifactStore, corpus: str, identity: str, page: str) -> bytes | None:
    """Return one page of a run (``<dag id>/<run id>``), None if there is none."""
    name = find_run(store, corpus, identity)
    stored = store.read(f"{keys.run_pages(corpus, name)}/{page}") if name and ".." not in page.split("/") else None
    return stored.data if stored else None
