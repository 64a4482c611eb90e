"""A store in a folder. Writes go to a scratch name, are flushed, and are renamed under one lock: whole or not there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from tidegate.core.errors import StoreDeniedError, StoreFullError, StoreUnavailableError
from tidegate.core.failpoints import reach
from tidegate.core.protocols import PreconditionFailedError, Stored, StoredKey

SCRATCH = ".scratch"
"""Half-written files live here under names that no key can have; a kill leaves them for maintenance to sweep."""


class FileStore:
    """Objects are files below ``root``; an object's version is the SHA-256 of its bytes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = root.absolute().as_uri()
        self.bytes_written = 0

    def read(self, key: str) -> Stored | None:
        """Return the object, or None if there is none."""
        with _answers(self.uri, key), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            data = self._path(key).read_bytes()
            return Stored(data, hashlib.sha256(data).hexdigest())
        return None

    def fetch(self, key: str, *, fresh: bool = False) -> Path | None:
        """Return the object's own file: it is local already, and always fresh."""
        del fresh
        path = self._path(key)
        return path if path.is_file() else None

    def create(self, key: str, data: bytes | Path) -> None:
        """Write a new object; raise ``PreconditionFailedError`` if the key exists."""
        with _answers(self.uri, key), self._written(data) as scratch, self._lock():
            path = self._path(key)
            if path.exists():
                raise PreconditionFailedError(key)
            self._rename(scratch, path)

    def swap(self, key: str, data: bytes, version: str) -> None:
        """Replace an object whose version is ``version``; raise ``PreconditionFailedError`` if it is not."""
        with _answers(self.uri, key), self._written(data) as scratch, self._lock():
            current = self.read(key)
            if current is None or current.version != version:
                raise PreconditionFailedError(key)
            self._rename(scratch, self._path(key))

    def put(self, key: str, data: bytes) -> None:
        """Write or overwrite an object that nothing else relies on."""
        with _answers(self.uri, key), self._written(data) as scratch:
            self._rename(scratch, self._path(key))

    def list_keys(self, prefix: str) -> Iterator[StoredKey]:
        """Yield the objects below ``prefix`` in key order."""
        folder = self._path(prefix.rpartition("/")[0]) if "/" in prefix else self.root
        found = []
        for path in folder.rglob("*") if folder.is_dir() else ():
            key = path.relative_to(self.root).as_posix()
            if key.startswith(prefix) and not key.startswith("."):
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    if path.is_file():
                        found.append(StoredKey(key, status.st_size, status.st_mtime))
        yield from sorted(found, key=lambda stored: stored.key)

    def children(self, prefix: str) -> list[str]:
        """Return the names of the folders directly below ``prefix``."""
        folder = self.root / prefix
        if not folder.is_dir():
            return []
        with _answers(self.uri, prefix):
            return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))

    def now(self) -> float:
        """Return this machine's time: the store has no other clock."""
        return time.time()

    def _path(self, key: str) -> Path:
        if key.startswith(("/", ".")) or ".." in key.split("/"):
            raise ValueError(f"not a key: {key!r}")
        return self.root / key

    @contextlib.contextmanager
    def _written(self, data: bytes | Path) -> Iterator[Path]:
        """Write ``data`` flushed under a scratch name, which is removed if it was not renamed."""
        folder = self.root / SCRATCH
        folder.mkdir(parents=True, exist_ok=True)
        scratch = folder / uuid.uuid4().hex
        try:
            with scratch.open("wb") as file:
                if isinstance(data, bytes):
                    file.write(data)
                else:
                    with data.open("rb") as source:
                        shutil.copyfileobj(source, file, 1 << 20)
                reach("K2")
                file.flush()
                os.fsync(file.fileno())
            yield scratch
        finally:
            scratch.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.root / SCRATCH / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _rename(self, scratch: Path, path: Path) -> None:
        size = scratch.stat().st_size
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.replace(path)
        self.bytes_written += size
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        reach("written")


@contextlib.contextmanager
def _answers(uri: str, key: str) -> Iterator[None]:
    """Translate the operating system's errors into the store's."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFullError(f"no space left while writing {key} to {uri}") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StoreDeniedError(
                f"permission denied for {key or 'the listing'} in {uri}: {error.strerror}"
            ) from error
        raise StoreUnavailableError(f"{uri}: {error.strerror or error} ({key})") from error
