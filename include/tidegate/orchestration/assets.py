"""The assets that DAGs hand to each other, per corpus: the seams of the whole system."""

from __future__ import annotations

from airflow.sdk import Asset


def index_snapshot(corpus: str) -> Asset:
    """Return the asset of a committed snapshot; an event's ``extra`` holds its digest and the refresh's counts."""
    return Asset(name=f"index_snapshot.{corpus}", uri=f"x-tidegate://{corpus}/index_snapshot", group="tidegate")


def qa_dataset(corpus: str) -> Asset:
    """Return the asset of a committed dataset; an event's ``extra`` holds its digest, its snapshot and the counts."""
    return Asset(name=f"qa_dataset.{corpus}", uri=f"x-tidegate://{corpus}/qa_dataset", group="tidegate")


def adapter(corpus: str) -> Asset:
    """Return the asset of a committed adapter; an event's ``extra`` holds its key, its dataset and its snapshot."""
    return Asset(name=f"adapter.{corpus}", uri=f"x-tidegate://{corpus}/adapter", group="tidegate")


def release(corpus: str) -> Asset:
    """Return the asset of the champion release; an event's ``extra`` holds its id."""
    return Asset(name=f"release.{corpus}", uri=f"x-tidegate://{corpus}/release", group="tidegate")
