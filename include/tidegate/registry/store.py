"""Open a store by its URI. boto3 is imported only for S3."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from tidegate.core.errors import StoreDeniedError, StoreUriError
from tidegate.core.protocols import ArtifactStore

_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")


def open_store(uri: str, *, base: Path, session: dict[str, Any] | None = None) -> ArtifactStore:
    """Return the store at ``uri``; a plain path is a folder relative to ``base``. Nothing is created before a write.

    :param session: boto3 client arguments for S3 (credentials, region, endpoint).
    """
    if not uri:
        raise StoreUriError("the store's URI is empty")
    try:
        parsed = urlparse(uri)
    except ValueError as error:
        raise StoreUriError(f"store {uri!r} is not a URI: {error}") from error
    if parsed.scheme == "s3":
        _require_bucket(uri, parsed.netloc)
        from tidegate.registry.s3_store import S3Store

        cache = os.environ.get("TIDEGATE_CACHE")
        return S3Store(parsed.netloc, parsed.path.strip("/"), cache=Path(cache) if cache else None, session=session)
    if parsed.scheme == "file":
        if parsed.netloc not in ("", "localhost") or not parsed.path.startswith("/"):
            raise StoreUriError(f"store {uri!r} is not an absolute file URI")
        return _folder_store(uri, Path(unquote(parsed.path)))
    if len(parsed.scheme) > 1:
        raise StoreUriError(f"store {uri!r} has the unknown scheme {parsed.scheme!r}")
    return _folder_store(uri, base / Path(uri).expanduser())


def _require_bucket(uri: str, bucket: str) -> None:
    if "@" in bucket:
        raise StoreUriError(
            "the store's URI holds credentials",
            next_action="leave them out: use the usual AWS chain, or the connection tidegate_s3",
        )
    if not bucket:
        raise StoreUriError(f"store {uri!r} names no bucket")
    if not _BUCKET.fullmatch(bucket):
        raise StoreUriError(f"store {uri!r}: {bucket!r} cannot be the name of a bucket")


def _folder_store(uri: str, folder: Path) -> ArtifactStore:
    from tidegate.registry.file_store import FileStore

    try:
        is_folder = stat.S_ISDIR(folder.stat().st_mode)
    except FileNotFoundError:
        is_folder = not folder.is_symlink()  # it is made by the first write
    except PermissionError as error:
        raise StoreDeniedError(f"permission denied for the store {folder}") from error
    except OSError as error:
        raise StoreUriError(f"store {uri!r}: {error.strerror}") from error
    if not is_folder:
        raise StoreUriError(f"store {uri!r} is a file, not a folder")
    return FileStore(folder)
