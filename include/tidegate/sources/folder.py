"""A folder of files: listed by stat alone, read without ever leaving the folder.

A file's hint is ``mtime:ctime:inode:size``. As in git's index, a file whose change time is not older than the scan gets
no hint ("racily clean"): a second write within the clock's granularity could leave the stamp as it was, so the file is
read again next time.
"""

from __future__ import annotations

import errno
import os
import stat
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.core.documents import ListedDocument, Listing, QuarantineError
from tidegate.core.errors import SourceMissingError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__"})
_FINE_GRANULARITY_NS = 50_000_000
"""Kernel time stamps move in ticks of up to 10 ms."""
_COARSE_GRANULARITY_NS = 2_000_000_000
"""File systems that keep whole seconds (or FAT's two)."""


class FolderSource:
    """Documents are the files below a root whose suffix a parser knows; dot files and dot folders are skipped."""

    def __init__(
        self,
        root: Path,
        *,
        accepts: Callable[[str], bool],
        max_bytes: int,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> None:
        self.opened = 0
        self._root = root
        self._accepts = accepts
        self._max_bytes = max_bytes
        self._include = _patterns(include)
        self._exclude = _patterns(exclude)
        self._paths: dict[str, str] = {}

    def list_documents(self) -> Listing:
        """List all documents by stat; raise ``SourceMissingError`` if the root is not a folder that can be listed."""
        if not self._root.is_dir():
            state = "is not a folder" if self._root.exists() else "does not exist"
            raise SourceMissingError(f"the source folder {self._root} {state}")
        self._paths = {}
        unlisted: list[str] = []
        started_ns = time.time_ns()
        documents = tuple(self._scan("", started_ns, unlisted))
        if "" in unlisted:
            raise SourceMissingError(f"the source folder {self._root} cannot be listed: permission denied")
        return Listing(documents, tuple(unlisted))

    def read(self, document: str) -> bytes:
        """Return a document's bytes; raise ``QuarantineError`` unless it is a settled file inside the root."""
        path = self._paths.get(document, document)
        for _ in range(2):
            data, settled = self._read_once(path)
            if settled:
                return data
        raise QuarantineError("changing")

    def _scan(self, folder: str, started_ns: int, unlisted: list[str]) -> Iterator[ListedDocument]:
        try:
            with os.scandir(self._root / folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except FileNotFoundError:
            return  # removed since its parent was listed: gone, not hidden
        except OSError:
            unlisted.append(folder and _identity(folder) + "/")
            return
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith(".") or entry.name in _SKIPPED_FOLDERS:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._scan(path, started_ns, unlisted)
            else:
                listed = self._list_file(entry, path, started_ns)
                if listed:
                    yield listed

    def _list_file(self, entry: os.DirEntry[str], path: str, started_ns: int) -> ListedDocument | None:
        document = _identity(path)
        is_link = entry.is_symlink()
        problem = self._link_problem(path) if is_link else ""
        leads_to_folder = is_link and Path(entry.path).is_dir()
        if leads_to_folder and not problem:
            return None  # its documents are listed where they are
        if not leads_to_folder and not (self._accepts(document) and self._wanted(document)):
            return None
        try:
            status = Path(entry.path).stat() if is_link and not problem else entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not problem and not stat.S_ISREG(status.st_mode):
            problem = "not_regular"
        if not problem and status.st_size > self._max_bytes:
            problem = "too_large"
        if document in self._paths:
            document, problem = f"{document} (2)", "name_conflict"
        self._paths[document] = path
        return ListedDocument(document, status.st_size, _hint(status, started_ns), problem)

    def _wanted(self, document: str) -> bool:
        if self._include is not None and not self._include.match_file(document):
            return False
        return self._exclude is None or not self._exclude.match_file(document)

    def _link_problem(self, path: str) -> str:
        target = os.path.realpath(self._root / path)
        if not Path(target).exists():
            return "broken_link"
        inside = os.path.commonpath([target, os.path.realpath(self._root)]) == os.path.realpath(self._root)
        return "" if inside else "outside_root"

    def _read_once(self, path: str) -> tuple[bytes, bool]:
        """Return the bytes and whether the file stayed the same while they were read."""
        try:
            descriptor = self._open_inside(path)
        except OSError as error:
            reason = "outside_root" if error.errno in (errno.ELOOP, errno.ENOTDIR) else "unreadable"
            raise QuarantineError(reason, error.strerror or "") from error
        self.opened += 1
        try:
            with os.fdopen(descriptor, "rb") as file:
                before = os.fstat(descriptor)
                if not stat.S_ISREG(before.st_mode):
                    raise QuarantineError("not_regular")
                data = file.read(self._max_bytes + 1)
                after = os.fstat(descriptor)
        except OSError as error:
            raise QuarantineError("unreadable", error.strerror or "") from error
        if len(data) > self._max_bytes:
            raise QuarantineError("too_large", f"over {self._max_bytes} bytes")
        return data, (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size) and len(
            data
        ) == after.st_size

    def _open_inside(self, path: str) -> int:
        """Open a file step by step from the root without following links, so that a swapped folder cannot lead out."""
        parts = Path(path).parts
        if (self._root / path).is_symlink() and not self._link_problem(path):
            parts = Path(os.path.realpath(self._root / path)).relative_to(os.path.realpath(self._root)).parts
        folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in parts[:-1]:
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                os.close(folder)
                folder = inner
            return os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        finally:
            os.close(folder)


def _patterns(lines: Sequence[str]) -> GitIgnoreSpec | None:
    if not lines:
        return None
    import pathspec

    return pathspec.GitIgnoreSpec.from_lines(lines)


def _identity(path: str) -> str:
    """Return the document id of a path: NFC text; bytes that are not UTF-8 are shown escaped."""
    return unicodedata.normalize("NFC", os.fsencode(path).decode("utf-8", "backslashreplace"))


def hinted_size(hint: str) -> int | None:
    """Return the size in bytes that a hint of a folder names, None if it is not one."""
    size = hint.rpartition(":")[2]
    return int(size) if size.isdecimal() else None


def _hint(status: os.stat_result, started_ns: int) -> str | None:
    # The change time, not the modification time, decides: every write sets it, and nobody can set it back.
    granularity = _FINE_GRANULARITY_NS if status.st_ctime_ns % 1_000_000_000 else _COARSE_GRANULARITY_NS
    if status.st_ctime_ns >= started_ns - granularity:
        return None
    return f"{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}:{status.st_size}"
