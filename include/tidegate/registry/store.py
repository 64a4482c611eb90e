"""Open a store by its URI. boto3 is imported only for S3."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from tidegate.core.errors import StoreUriError
from tidegate.core.protocols import ArtifactStore


def open_store(
    uri: str, *, base: Path, session: dict[str, Any] | None = None, cache: Path | None = None
) -> ArtifactStore:
    """Return the store at ``uri``; a plain path is a folder relative to ``base``. Nothing is created before a write.

    :param session: boto3 client arguments for S3 (credentials, region, endpoint).
    :param cache: folder for copies of immutable objects of S3 (default: ``$TIDEGATE_CACHE``, else the user's cache).
    """
    parsed = urlparse(uri)
    if parsed.scheme == "s3":
        if not parsed.netloc or "@" in parsed.netloc:
            raise StoreUriError(f"store {uri!r} names no bucket")
        from tidegate.registry.s3_store import S3Store

        named = os.environ.get("TIDEGATE_CACHE")
        cache = cache or (Path(named) if named else None)
        return S3Store(parsed.netloc, parsed.path.strip("/"), cache=cache, session=session)
    if parsed.scheme == "file":
        if parsed.netloc not in ("", "localhost") or not parsed.path.startswith("/"):
            raise StoreUriError(f"store {uri!r} is not an absolute file URI")
        folder = Path(unquote(parsed.path))
    elif parsed.scheme and "://" in uri:
        raise StoreUriError(f"store {uri!r} has the unknown scheme {parsed.scheme!r}")
    elif not uri:
        raise StoreUriError("the store's URI is empty")
    else:
        folder = base / Path(uri).expanduser()
    if folder.exists() and not folder.is_dir():
        raise StoreUriError(f"store {uri!r} is a file, not a folder")
    from tidegate.registry.file_store import FileStore

    return FileStore(folder)
