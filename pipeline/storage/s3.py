"""Requests to an S3 server: each ends in bounded time, and its result is checked against what the server said.

s3fs finds the server and signs requests; nothing below `storage.retry` retries. An object is written by one PUT, whose
condition is honoured by every server that passes `check_output`. Fewer servers support a condition on completing a
multipart upload, which also leaves parts behind if it is never completed.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fsspec.asyn import AsyncFileSystem, sync

from pipeline.errors import StorageError
from pipeline.storage.client import connect, in_time, retrying_on
from pipeline.storage.clouds.bodies import Watched, in_range, read_twice, while_moving
from pipeline.storage.retry import SLOWEST_BYTES_PER_S, BadBody, answer_s, causes, error_code

MOST_BYTES = 5 * 2**30
"""Limit of S3 for one PUT."""
_WATCHED_BYTES = 1_000_000
"""Size from which a body is sent piece by piece, with the timeout counted from the last piece."""
_SAME_SUMS = 4
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')

_no_md5: set[str] = set()
"""Buckets whose etags this process has found not to be MD5 sums."""


# --- reading -----------------------------------------------------------------------------------------------------


def read(fs: AsyncFileSystem, path: str, url: str, *, size: int | None = None, version: str | None = None) -> bytes:
    """Return the whole object, of this size and version where given. Raises StorageError where it has changed."""
    sums = Counter[str]()

    def attempt() -> bytes:
        data, answer = _get(fs, path, url, version=version)
        length = answer.get("ContentLength", len(data)) if size is None else size
        if len(data) != length:
            raise BadBody(f"read {len(data)} bytes of {length}")
        _check_sum(path.split("/")[0], data, answer, sums)
        return data

    return retrying_on(fs, attempt, url)


def read_range(
    fs: AsyncFileSystem, path: str, url: str, start: int, stop: int, version: str, *, twice: bool = False
) -> bytes:
    """Return bytes `start` to `stop` of an object of this version; with `twice`, read them twice and compare.

    Raises StorageError where the object has changed.
    """

    def once() -> bytes:
        data, answer = _get(fs, path, url, version=version, span=(start, stop))
        return in_range(data, answer.get("ContentRange"), start, stop)

    attempt = read_twice(once, f"bytes {start} to {stop - 1}") if twice else once
    return retrying_on(fs, attempt, url)


def _get(
    fs: AsyncFileSystem, path: str, url: str, *, version: str | None = None, span: tuple[int, int] | None = None
) -> tuple[bytes, Mapping[str, Any]]:
    asked = _named(fs, path)
    if span:
        asked["Range"] = f"bytes={span[0]}-{span[1] - 1}"
    if version:
        asked["IfMatch"] = f'"{version}"'
    patience = answer_s(url)

    async def get() -> tuple[bytes, Mapping[str, Any]]:
        async with asyncio.timeout(patience):
            answer = await fs._call_s3("get_object", **asked)
        try:
            async with asyncio.timeout(patience + answer.get("ContentLength", 0) / SLOWEST_BYTES_PER_S):
                return await answer["Body"].read(), answer
        finally:
            answer["Body"].close()

    connect(fs)
    try:
        return sync(fs.loop, get)
    except OSError as error:
        if version and is_refused_condition(error):
            raise StorageError(f"{url}: changed while it was read") from error
        raise


def _check_sum(bucket: str, data: bytes, answer: Mapping[str, Any], seen: Counter[str]) -> None:
    """Raise BadBody where a body does not match its etag. `seen` counts the sums of earlier attempts.

    If the same other sum comes back repeatedly, it is what the server has: its etags are not MD5 sums.
    """
    etag = _MD5.fullmatch(answer.get("ETag", ""))
    if etag is None or bucket in _no_md5 or "kms" in answer.get("ServerSideEncryption", ""):
        return
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found == etag[1]:
        return
    seen[found] += 1
    if seen[found] >= _SAME_SUMS:
        _no_md5.add(bucket)
        return
    raise BadBody(f"the MD5 sum of what was read is {found}, not the etag {etag[1]}")


# --- writing -----------------------------------------------------------------------------------------------------


def put(fs: AsyncFileSystem, path: str, url: str, data: bytes, *, exclusive: bool) -> None:
    """Write the object with one request. Raises FileExistsError where it must be new but exists."""
    if len(data) > MOST_BYTES:
        raise StorageError(f"{url}: {len(data)} bytes, and an object is at most {MOST_BYTES}; write smaller shards")
    asked = _named(fs, path) | ({"IfNoneMatch": "*"} if exclusive else {})
    patience = answer_s(url)

    async def send() -> None:
        body = Watched(data) if len(data) >= _WATCHED_BYTES else data  # a new one each time: a sent body is closed
        async with asyncio.timeout(patience + len(data) / SLOWEST_BYTES_PER_S):
            await while_moving(fs._call_s3("put_object", Body=body, **asked), body, patience)

    def attempt() -> None:
        connect(fs)
        try:
            sync(fs.loop, send)
        except OSError as error:
            if is_refused_condition(error):
                raise FileExistsError(path) from error
            raise

    retrying_on(fs, attempt, url)


def is_refused_condition(error: BaseException) -> bool:
    """Return True where a server says that the object does not meet a request's condition."""
    return any(error_code(cause) in ("PreconditionFailed", "412") for cause in causes(error))


# --- listing -----------------------------------------------------------------------------------------------------


def find(fs: AsyncFileSystem, path: str, url: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every object below a path with its path, as `fs.find` describes them; each page is retried by itself."""
    asked, bucket = _below(fs, path)
    for page in _pages(fs, url, "list_objects_v2", asked, {"ContinuationToken": "NextContinuationToken"}):
        for item in page.get("Contents", ()):
            yield f"{bucket}/{item['Key']}", item | {"type": "file", "size": item["Size"]}


def _pages(
    fs: AsyncFileSystem, url: str, method: str, asked: dict[str, str], following: Mapping[str, str]
) -> Iterator[Mapping[str, Any]]:
    """Yield pages of a listing; `following` maps the arguments for the next page to where the last page names them."""

    def attempt() -> Mapping[str, Any]:
        return fs.call_s3(method, **asked, **in_time(fs, url))

    while True:
        page = retrying_on(fs, attempt, url)
        yield page
        if not page.get("IsTruncated"):
            return
        asked.update({name: page[said] for name, said in following.items() if said in page})


class Upload(NamedTuple):
    """Multipart upload that nobody completed: its parts are stored, and paid for, but in no listing."""

    name: str
    """Path relative to the listed prefix."""
    url: str
    started: float
    """Start time, in seconds of time.time()."""
    id: str


def list_uploads(fs: AsyncFileSystem, path: str, url: str) -> list[Upload]:
    """Return the unfinished multipart uploads below a path, sorted by name."""
    asked, _ = _below(fs, path)
    following = {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"}
    uploads = []
    for page in _pages(fs, url, "list_multipart_uploads", asked, following):
        for item in page.get("Uploads", ()):
            if item["Key"].startswith(asked["Prefix"]):
                name = item["Key"][len(asked["Prefix"]) :]
                started = item["Initiated"].timestamp()
                uploads.append(Upload(name, f"{url.rstrip('/')}/{name}", started, item["UploadId"]))
    return sorted(uploads)


def abort(fs: AsyncFileSystem, path: str, upload: Upload) -> None:
    """Abort an unfinished upload and free its parts. Raises FileNotFoundError where there is none."""
    asked = _named(fs, path) | {"UploadId": upload.id}
    retrying_on(fs, lambda: fs.call_s3("abort_multipart_upload", **asked, **in_time(fs, upload.url)), upload.url)


def _below(fs: AsyncFileSystem, path: str) -> tuple[dict[str, str], str]:
    """Return the arguments for a listing below a path, and the bucket."""
    bucket, key, _ = fs.split_path(path)
    prefix = key.rstrip("/")
    return {"Bucket": bucket, "Prefix": f"{prefix}/" if prefix else ""}, bucket


def _named(fs: AsyncFileSystem, path: str) -> dict[str, str]:
    bucket, key, _ = fs.split_path(path)
    return {"Bucket": bucket, "Key": key}
