"""A store in an S3 bucket: conditional writes with ``If-None-Match`` and ``If-Match``, no client-side retries of them.

boto3's own retries would report 412 for a write that this client made itself, so mutations are sent once and
``core.publishing`` reads back. Reads are retried by boto3.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from tidegate.core.errors import StoreDeniedError, StoreUnavailableError, StoreUriError
from tidegate.core.failpoints import reach
from tidegate.core.protocols import ConflictError, PreconditionFailedError, Stored, StoredKey

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_ABSENT = {"NoSuchKey", "404", "NotFound"}
_DENIED = {"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_SINGLE_PUT_BYTES = 5_000_000_000


class S3Store:
    """Objects under ``s3://bucket/prefix``; a version is an ETag. ``cache`` keeps immutable objects locally."""

    def __init__(
        self, bucket: str, prefix: str, *, cache: Path | None = None, session: dict[str, Any] | None = None
    ) -> None:
        """``session`` holds client arguments (credentials, region_name, endpoint_url); the AWS chain fills the rest."""
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        self.bytes_written = 0
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._cache = (
            cache
            or Path(tempfile.gettempdir())
            / f"tidegate-{os.getuid()}"
            / hashlib.sha256(self.uri.encode()).hexdigest()[:12]
        )
        self._reads = _client(session, attempts=4)
        self._writes = _client(session, attempts=1)

    def read(self, key: str) -> Stored | None:
        """Return the object, or None if there is none."""
        try:
            answer = self._reads.get_object(Bucket=self._bucket, Key=self._prefix + key)
            return Stored(answer["Body"].read(), answer["ETag"])
        except (ClientError, BotoCoreError) as error:
            if _code(error) in _ABSENT:
                return None
            self._raise(error, key)

    def fetch(self, key: str, *, fresh: bool = False) -> Path | None:
        """Return a local copy, downloaded once unless a ``fresh`` one is asked for."""
        path = self._cache / key
        if path.is_file() and not fresh:
            return path
        stored = self.read(key)
        if stored is None:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as scratch:
            scratch.write(stored.data)
        Path(scratch.name).replace(path)
        return path

    def create(self, key: str, data: bytes | Path) -> None:
        """Write a new object; raise ``PreconditionFailedError`` if the key exists."""
        self._put(key, data, IfNoneMatch="*")

    def swap(self, key: str, data: bytes, version: str) -> None:
        """Replace an object whose ETag is ``version``; raise ``PreconditionFailedError`` if it is not."""
        self._put(key, data, IfMatch=version)

    def put(self, key: str, data: bytes) -> None:
        """Write or overwrite an object that nothing else relies on."""
        self._put(key, data)

    def list_keys(self, prefix: str) -> Iterator[StoredKey]:
        """Yield the objects below ``prefix`` in key order, 1,000 to a request."""
        try:
            for page in self._reads.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            ):
                for found in page.get("Contents", []):
                    yield StoredKey(
                        found["Key"].removeprefix(self._prefix), found["Size"], found["LastModified"].timestamp()
                    )
        except (ClientError, BotoCoreError) as error:
            self._raise(error, prefix)

    def children(self, prefix: str) -> list[str]:
        """Return the names of the folders directly below ``prefix``."""
        try:
            pages = self._reads.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix, Delimiter="/"
            )
            return [
                found["Prefix"].rstrip("/").rpartition("/")[2]
                for page in pages
                for found in page.get("CommonPrefixes", [])
            ]
        except (ClientError, BotoCoreError) as error:
            self._raise(error, prefix)

    def now(self) -> float:
        """Return the time of the store's answer, so that ages do not depend on this machine's clock."""
        try:
            answer = self._reads.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        except (ClientError, BotoCoreError) as error:
            self._raise(error, "")
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()

    def _put(self, key: str, data: bytes | Path, **condition: str) -> None:
        reach("K2")
        body = data if isinstance(data, bytes) else data.read_bytes()
        if len(body) > _SINGLE_PUT_BYTES:
            raise ValueError(f"{key} has {len(body)} bytes; one request takes at most {_SINGLE_PUT_BYTES}")
        put: Any = self._writes.put_object
        try:
            put(Bucket=self._bucket, Key=self._prefix + key, Body=body, ChecksumAlgorithm="SHA256", **condition)
        except (ClientError, BotoCoreError) as error:
            self._raise(error, key, conditional=bool(condition))
        self.bytes_written += len(body)
        reach("written")

    def _raise(self, error: ClientError | BotoCoreError, key: str, *, conditional: bool = False) -> NoReturn:
        code = _code(error)
        status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0) if isinstance(error, ClientError) else 0
        if conditional and (status == 412 or code in _ABSENT):
            raise PreconditionFailedError(key) from error
        if conditional and status == 409:
            raise ConflictError(key) from error
        if isinstance(error, NoCredentialsError | PartialCredentialsError) or code in _DENIED:
            raise StoreDeniedError(f"{self.uri}: {_one_line(error)} ({key or 'listing'})") from error
        if code == "NoSuchBucket":
            raise StoreUriError(
                f"store {self.uri!r}: the bucket {self._bucket!r} does not exist",
                next_action="create the bucket or correct the URI, then run again",
            ) from error
        raise StoreUnavailableError(f"{self.uri}: {_one_line(error)} ({key or 'listing'})") from error


def _client(session: dict[str, Any] | None, *, attempts: int) -> S3Client:
    config = Config(retries={"total_max_attempts": attempts, "mode": "standard"}, connect_timeout=10, read_timeout=60)
    try:
        # A session of its own: boto3's default one would keep the credentials that it saw first.
        return boto3.session.Session().client("s3", config=config, **(session or {}))
    except BotoCoreError as error:
        raise StoreDeniedError(f"the credentials of S3 cannot be used: {_one_line(error)}") from error
    except ValueError as error:
        raise StoreUnavailableError(f"the endpoint of S3 cannot be used: {_one_line(error)}") from error


def _code(error: ClientError | BotoCoreError) -> str:
    return str(error.response["Error"].get("Code", "")) if isinstance(error, ClientError) else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
