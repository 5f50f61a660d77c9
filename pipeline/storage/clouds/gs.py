"""Google Cloud Storage: gcsfs finds the service and signs requests, which are made here one by one.

gcsfs itself tries each request six times, and uploads from 50 MB on in parts, after which it gives them up by another
request. Here an object is one upload, whose condition the service checks when it has all of it.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
import json
import logging
import os
import re
import uuid
from typing import Any
from urllib.parse import quote

import fsspec
from fsspec.asyn import AsyncFileSystem, sync

from pipeline.storage.clouds import session
from pipeline.storage.clouds.base import Answer, BadBody, Body, ChangedError, Found, Page, missing, shared, split
from pipeline.storage.clouds.bodies import Pieces

log = logging.getLogger("transdomain")

CONDITION = "ifGenerationMatch=0"
MOST_BYTES = 5 * 2**40

_FIELDS = "name,size,generation,updated"
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_AT_ONCE = "1000"
"""Most objects of a page."""


def filesystem(url: str) -> AsyncFileSystem:
    """Return the filesystem that all threads of this process share. Raises ImportError without gcsfs."""
    return shared(_open, "gs", "GOOGLE_", "GCSFS_", "GCE_", "CLOUDSDK_", "STORAGE_EMULATOR_HOST", "NO_GCE_CHECK")


def _open() -> AsyncFileSystem:
    from gcsfs.core import GCSFileSystem

    theirs: dict[str, Any] = {}
    for scheme in ("gcs", "gs"):
        theirs |= fsspec.config.conf.get(scheme, {})
    ours: dict[str, Any] = {"session_kwargs": session.options(theirs.get("session_kwargs"))}
    if "token" not in theirs:
        # Its own search goes on for a quarter of a minute where there are none.
        credentials, project = (None, None) if os.environ.get("STORAGE_EMULATOR_HOST") else _credentials()
        ours |= {"token": credentials or "anon"} | ({"project": project} if project and "project" not in theirs else {})
    return GCSFileSystem(skip_instance_cache=True, use_listings_cache=False, **ours)


def _credentials() -> tuple[Any, str | None]:
    """Return the application default credentials and their project, or None where there are none."""
    import google.auth

    try:
        found: tuple[Any, str | None] = google.auth.default(scopes=[_SCOPE])
    except google.auth.exceptions.DefaultCredentialsError as error:
        log.info("gs:// is asked without credentials, as for public buckets: %s", " ".join(str(error).split()))
        return None, None
    return found


def renew(fs: Any) -> None:
    """See `Cloud.renew`: look for credentials again where none were found; those that are there renew themselves."""
    if (
        fs.credentials.credentials is None
        and not os.environ.get("STORAGE_EMULATOR_HOST")
        and (found := _credentials()[0])
    ):
        fs.credentials.credentials = found


def get(fs: Any, path: str, patience_s: float, *, version: str = "", span: tuple[int, int] | None = None) -> Body:
    """See `Cloud.get`; a whole object is checked against its MD5 sum, where it has one."""
    bucket, key = split(path)
    asked = {"alt": "media"} | ({"ifGenerationMatch": version} if version else {})
    headers = {"Accept-Encoding": "gzip"}  # as it is stored: else the service would unpack what is stored compressed
    if span:
        headers["Range"] = f"bytes={span[0]}-{span[1] - 1}"
    answer = _ask(fs, "GET", f"/download/storage/v1/b/{quote(bucket)}/o/{_quoted(key)}", patience_s, asked, headers)
    found = answer.headers.get("X-Goog-Generation")
    if answer.status == 412 or (version and found and found != version):
        raise ChangedError(path)
    _require(answer)
    md5 = re.search(r"md5=([\w+/]+=*)", answer.headers.get("X-Goog-Hash", ""))
    if md5 and answer.status == 200 and _md5(answer.data) != md5[1]:
        raise BadBody(f"the MD5 sum of what was read is {_md5(answer.data)}, not {md5[1]}")
    length = answer.headers.get("X-Goog-Stored-Content-Length") or answer.headers.get("Content-Length")
    return Body(answer.data, int(length) if length else None, answer.headers.get("Content-Range"))


def put(fs: Any, path: str, data: bytes, patience_s: float, *, exclusive: bool) -> None:
    """See `Cloud.put`; the service compares what it got with the MD5 sum that is sent along."""
    bucket, key = split(path)
    asked = {"uploadType": "multipart"} | ({"ifGenerationMatch": "0"} if exclusive else {})
    border = uuid.uuid4().hex  # in no image, unlike a fixed one
    about = json.dumps({"name": key, "md5Hash": _md5(data)})
    head = (
        f"--{border}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{about}\r\n"
        f"--{border}\r\nContent-Type: application/octet-stream\r\n\r\n"
    )
    body = Pieces(head.encode(), data, f"\r\n--{border}--\r\n".encode())
    headers = {"Content-Type": f'multipart/related; boundary="{border}"'}
    answer = _ask(fs, "POST", f"/upload/storage/v1/b/{quote(bucket)}/o", patience_s, asked, headers, body)
    if answer.status == 412:
        raise FileExistsError(path)
    if (size := _said(answer, "bucket").get("size")) != str(len(data)):  # a proxy's own answer, perhaps
        raise BadBody(f"wrote {len(data)} bytes, and the answer speaks of {size}")


def page(fs: Any, path: str, patience_s: float, following: str) -> Page:
    """See `Cloud.page`."""
    bucket, key = split(path)
    asked = {"maxResults": _AT_ONCE, "fields": f"items({_FIELDS}),nextPageToken"}
    if key := key.rstrip("/"):
        asked["prefix"] = f"{key}/"
    if following:
        asked["pageToken"] = following
    answer = _ask(fs, "GET", f"/storage/v1/b/{quote(bucket)}/o", patience_s, asked)
    said = _said(answer, "bucket")
    return Page([_found(bucket, item) for item in said.get("items", ())], said.get("nextPageToken", ""))


def look_up(fs: Any, path: str, patience_s: float) -> Found:
    """See `Cloud.look_up`."""
    bucket, key = split(path)
    if not key:
        raise missing("object")
    url = f"/storage/v1/b/{quote(bucket)}/o/{_quoted(key)}"
    return _found(bucket, _said(_ask(fs, "GET", url, patience_s, {"fields": _FIELDS})))


def delete(fs: Any, path: str, patience_s: float) -> None:
    """See `Cloud.delete`."""
    bucket, key = split(path)
    _require(_ask(fs, "DELETE", f"/storage/v1/b/{quote(bucket)}/o/{_quoted(key)}", patience_s, {}))


def _ask(
    fs: Any,
    method: str,
    where: str,
    patience_s: float,
    asked: dict[str, str],
    headers: dict[str, str] | None = None,
    body: Pieces | None = None,
) -> Answer:
    async def ask() -> Answer:
        signed = {"Accept-Encoding": "identity", **(headers or {})}
        # Credentials may have run out, and their server may be slow; it is asked in a thread, since that blocks.
        async with asyncio.timeout(patience_s):
            await asyncio.to_thread(fs.credentials.apply, signed)
            http = await fs._set_session()
        params = fs._get_params(asked)
        return await session.send(
            http, method, f"{fs._location}{where}", patience_s, headers=signed, params=params, body=body
        )

    answer: Answer = sync(fs.loop, ask)
    return answer


def _require(answer: Answer, what: str = "object") -> None:
    if answer.status == 404:
        raise missing(what)
    if not 200 <= answer.status < 300:
        raise session.refusal(answer)


def _said(answer: Answer, what: str = "object") -> dict[str, Any]:
    _require(answer, what)
    try:
        said: dict[str, Any] = json.loads(answer.data)
    except ValueError as error:
        raise BadBody(f"an answer that is no JSON: {error}") from error
    return said


def _found(bucket: str, item: dict[str, Any]) -> Found:
    changed = datetime.datetime.fromisoformat(item["updated"]).timestamp() if "updated" in item else None
    return Found(f"{bucket}/{item['name']}", int(item["size"]), str(item["generation"]), changed)


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _quoted(key: str) -> str:
    return quote(key, safe="")
