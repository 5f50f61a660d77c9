"""Hugging Face hub, which is only read: hf://[datasets/|spaces/]OWNER/NAME[@REVISION]/PATH.

huggingface_hub knows the endpoint and the token. It would retry by itself, so requests are made here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import aiohttp
from fsspec.asyn import AsyncFileSystem, sync

from pipeline.storage.clouds import session
from pipeline.storage.clouds.base import Answer, BadBody, Body, ChangedError, Found, Page, RefusedError, missing, shared

CONDITION = ""
MOST_BYTES = 0

_URL = re.compile(
    r"(?:(?P<kind>datasets|spaces|models)/)?(?P<repository>[^/@]+/[^/@]+)"
    r"(?:@(?P<revision>refs/(?:convert|pr)/[^/]+|[^/]+))?(?:/(?P<name>.*))?"
)
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REDIRECTIONS = (301, 302, 303, 307, 308)


class HubFileSystem(AsyncFileSystem):
    """Place to keep the connections of this process; requests are made by the functions of this module."""

    protocol = "hf"
    cachable = False  # `shared` keeps it

    def __init__(self) -> None:
        """Read endpoint and token as huggingface_hub does."""
        super().__init__()
        from huggingface_hub import constants

        self.endpoint: str = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        self.session: aiohttp.ClientSession | None = None
        self.headers = dict[str, str]()
        renew(self)


class _Place(NamedTuple):
    kind: str
    """`models`, `datasets` or `spaces`."""
    repository: str
    revision: str
    name: str
    """Path in the repository, without a slash at its end."""
    root: str
    """Path of the repository, as URLs have it."""

    @property
    def page(self) -> str:
        """Path of the repository on the server."""
        return self.repository if self.kind == "models" else f"{self.kind}/{self.repository}"


def filesystem(url: str) -> AsyncFileSystem:
    """Return the filesystem that all threads of this process share.

    Raises ImportError without huggingface_hub, and ValueError for a URL that names no repository.
    """
    _place(url.removeprefix("hf://"))
    return shared(HubFileSystem, "hf", "HF_", "HUGGING")


def get(fs: Any, path: str, patience_s: float, *, version: str = "", span: tuple[int, int] | None = None) -> Body:
    """See `Cloud.get`; a whole file is checked against its hash, which is its name on the hub."""
    headers = {"Range": f"bytes={span[0]}-{span[1] - 1}"} if span else {}
    answer = _ask(fs, "GET", _resolved(path), patience_s, headers, follows=True)
    _require(answer)
    etag = _etag(answer)
    size = int(answer.headers.get("X-Linked-Size") or 0)
    if answer.status == 200:
        size = len(answer.data)
        if _HASH.fullmatch(etag) and etag != _hash(answer.data, etag):
            raise BadBody(f"the hash of what was read is {_hash(answer.data, etag)}, not {etag}")
    elif not size and (said := re.search(r"/(\d+)$", answer.headers.get("Content-Range", ""))):
        size = int(said[1])
    if version and etag and version not in (etag, _blob_id(etag, size)):
        raise ChangedError(path)
    length = answer.headers.get("Content-Length")
    return Body(answer.data, int(length) if length else None, answer.headers.get("Content-Range"))


def put(fs: Any, path: str, data: bytes, patience_s: float, *, exclusive: bool) -> None:
    """Refuse, since a commit to the hub is no conditional create."""
    raise RefusedError(405, "ReadOnly", "the hub is only read; write to another store and upload that")


def page(fs: Any, path: str, patience_s: float, following: str) -> Page:
    """See `Cloud.page`."""
    place = _place(path)
    tree = f"/api/{place.kind}/{place.repository}/tree/{quote(place.revision, safe='')}"
    where = following or f"{tree}{f'/{quote(place.name)}' if place.name else ''}?recursive=true&limit=1000"
    answer = _ask(fs, "GET", where, patience_s)
    if answer.status == 404 and answer.headers.get("X-Error-Code") == "EntryNotFound":
        return Page([], "")
    _require(answer)
    try:
        items = [item for item in json.loads(answer.data) if item["type"] == "file"]
        found = [Found(f"{place.root}/{item['path']}", item["size"], item["oid"]) for item in items]
    except (ValueError, KeyError, TypeError) as error:
        raise BadBody(f"a listing that cannot be read: {type(error).__name__} {error}") from error
    link = re.search(r'<([^>]+)>;\s*rel="next"', answer.headers.get("Link", ""))
    return Page(found, link[1].removeprefix(fs.endpoint) if link else "")


def look_up(fs: Any, path: str, patience_s: float) -> Found:
    """See `Cloud.look_up`."""
    if not _place(path).name:
        raise missing("file")
    where = _resolved(path)
    for _ in range(3):  # a repository that was renamed leads to its new name
        answer = _ask(fs, "HEAD", where, patience_s)
        leads = answer.headers.get("Location", "") if answer.status in _REDIRECTIONS else ""
        if not leads.startswith("/"):
            break
        where = leads
    if answer.status not in _REDIRECTIONS:
        _require(answer)
    etag = _etag(answer)
    size = int(answer.headers.get("X-Linked-Size") or answer.headers.get("Content-Length") or 0)
    return Found(path, size, _blob_id(etag, size) if etag else f"{size}-None")


def delete(fs: Any, path: str, patience_s: float) -> None:
    """Refuse, as `put` does."""
    put(fs, path, b"", patience_s, exclusive=False)


def renew(fs: HubFileSystem) -> None:
    """See `Cloud.renew`: read the token again."""
    from huggingface_hub.utils import build_hf_headers

    fs.headers = build_hf_headers(library_name="transdomain")


def _place(path: str) -> _Place:
    found = _URL.fullmatch(path.strip("/"))
    if found is None or found["repository"].startswith(("datasets/", "spaces/", "buckets/")):
        raise ValueError("it names no repository: hf://datasets/OWNER/NAME/PATH, or hf://OWNER/NAME for a model")
    name = (found["name"] or "").strip("/")
    root = path.strip("/")[: len(path.strip("/")) - len(name)].rstrip("/") if name else path.strip("/")
    return _Place(found["kind"] or "models", found["repository"], unquote(found["revision"] or "main"), name, root)


def _resolved(path: str) -> str:
    place = _place(path)
    return f"/{place.page}/resolve/{quote(place.revision, safe='')}/{quote(place.name)}"


def _ask(
    fs: HubFileSystem,
    method: str,
    where: str,
    patience_s: float,
    headers: dict[str, str] | None = None,
    *,
    follows: bool = False,
) -> Answer:
    async def ask() -> Answer:
        if fs.session is None:
            # The address that a redirection gives is signed as it stands.
            fs.session = aiohttp.ClientSession(**session.options(None), requote_redirect_url=False)
        asked = {"Accept-Encoding": "identity", **fs.headers, **(headers or {})}
        return await session.send(
            fs.session, method, f"{fs.endpoint}{where}", patience_s, headers=asked, follows=follows
        )

    answer: Answer = sync(fs.loop, ask)
    return answer


def _require(answer: Answer) -> None:
    code, text = answer.headers.get("X-Error-Code"), answer.headers.get("X-Error-Message")
    if answer.status == 404:
        raise missing("repository or revision" if code in ("RepoNotFound", "RevisionNotFound") else "file")
    if answer.status == 401 and code == "RepoNotFound":
        raise RefusedError(404, code, "no such repository, or a private one; set HF_TOKEN in the environment")
    if not 200 <= answer.status < 300:
        raise RefusedError(answer.status, code, text or "") if code else session.refusal(answer)


def _etag(answer: Answer) -> str:
    etag = answer.headers.get("X-Linked-Etag") or answer.headers.get("ETag") or ""
    return str(etag).removeprefix("W/").strip('"')


def _hash(data: bytes, etag: str) -> str:
    """Return the hash of a file as the hub names it: sha256 for a large one, that of git for another."""
    return hashlib.sha256(data).hexdigest() if len(etag) == 64 else _git(data)


def _blob_id(etag: str, size: int) -> str:
    """Return the id of a file in git: for a large one, that of the pointer that git has in its place."""
    if len(etag) != 64:
        return etag
    return _git(f"version https://git-lfs.github.com/spec/v1\noid sha256:{etag}\nsize {size}\n".encode())


def _git(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
