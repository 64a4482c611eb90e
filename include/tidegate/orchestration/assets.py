"""The assets that DAGs hand to each other, per corpus. Names are the seams of the whole system: change them with care."""

from __future__ import annotations

from airflow.sdk import Asset


def index_snapshot(corpus: str) -> Asset:
    """A verified snapshot was committed; ``extra`` holds its digest and the counts of the refresh."""
    return Asset(name=f"index_snapshot.{corpus}", uri=f"x-tidegate://{corpus}/index_snapshot", group="tidegate")


def release(corpus: str) -> Asset:
    """A release became the champion; ``extra`` holds its id."""
    return Asset(name=f"release.{corpus}", uri=f"x-tidegate://{corpus}/release", group="tidegate")
