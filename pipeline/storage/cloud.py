"""Operations on an object store besides S3, each retried by the one policy and checked against what the store said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pipeline.errors import StorageError
from pipeline.storage.clouds.base import BadBody, ChangedError, Cloud, Found
from pipeline.storage.clouds.bodies import in_range, read_twice
from pipeline.storage.retry import answer_s, retrying

T = TypeVar("T")


def read(cloud: Cloud, fs: Any, path: str, url: str, *, size: int | None = None, version: str | None = None) -> bytes:
    """Return the whole object, of this size and version where given. Raises StorageError where it has changed."""

    def attempt() -> bytes:
        body = cloud.get(fs, path, answer_s(url), version=version or "")
        length = body.length if size is None else size
        if length is not None and len(body.data) != length:
            raise BadBody(f"read {len(body.data)} bytes of {length}")
        return body.data

    return _retrying(cloud, fs, attempt, url)


def read_range(
    cloud: Cloud, fs: Any, path: str, url: str, start: int, stop: int, version: str, *, twice: bool = False
) -> bytes:
    """Return bytes `start` to `stop` of an object of this version; with `twice`, read them twice and compare.

    Raises StorageError where the object has changed.
    """

    def once() -> bytes:
        body = cloud.get(fs, path, answer_s(url), version=version, span=(start, stop))
        return in_range(body.data, body.said, start, stop)

    return _retrying(cloud, fs, read_twice(once, f"bytes {start} to {stop - 1}") if twice else once, url)


def put(cloud: Cloud, fs: Any, path: str, url: str, data: bytes, *, exclusive: bool) -> None:
    """Write the object with one request. Raises FileExistsError where it must be new but exists."""
    if not cloud.MOST_BYTES:
        raise StorageError(f"{url}: this store is only read; give an output on a disk, S3, Google Cloud or Azure")
    if len(data) > cloud.MOST_BYTES:
        raise StorageError(
            f"{url}: {len(data)} bytes, and an object is at most {cloud.MOST_BYTES}; write smaller shards"
        )
    _retrying(cloud, fs, lambda: cloud.put(fs, path, data, answer_s(url), exclusive=exclusive), url)


def find(cloud: Cloud, fs: Any, path: str, url: str) -> Iterator[Found]:
    """Yield every object below a path; each page of the listing is retried by itself."""
    following = ""
    while True:
        page = _retrying(cloud, fs, lambda following=following: cloud.page(fs, path, answer_s(url), following), url)  # type: ignore[misc]
        yield from page.found
        if not (following := page.following):
            return


def look_up(cloud: Cloud, fs: Any, path: str, url: str) -> Found:
    """Return what is known about an object. Raises FileNotFoundError where there is none."""
    return _retrying(cloud, fs, lambda: cloud.look_up(fs, path, answer_s(url)), url)


def delete(cloud: Cloud, fs: Any, path: str, url: str) -> None:
    """Remove an object. Raises FileNotFoundError where there is none."""
    _retrying(cloud, fs, lambda: cloud.delete(fs, path, answer_s(url)), url)


def _retrying(cloud: Cloud, fs: Any, action: Callable[[], T], url: str) -> T:
    def attempt() -> T:
        try:
            return action()
        except ChangedError as error:
            raise StorageError(f"{url}: changed while it was read") from error

    return retrying(attempt, url, lambda: cloud.renew(fs))
