"""Azure Blob Storage: adlfs finds the account and its credentials, and its client signs requests, which are made here.

That client would try each request four times, and send a large blob in blocks, whose list only is written under a
condition. Here a blob is one request. Written by the protocol, and never tried on the service itself.
"""

from __future__ import annotations

import asyncio
import base64
import email.utils
import hashlib
import os
import re
import weakref
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree

import fsspec
from fsspec.asyn import AsyncFileSystem, sync

from pipeline.storage.clouds.base import (
    CONNECT_S,
    SLOWEST_BYTES_PER_S,
    Answer,
    BadBody,
    Body,
    ChangedError,
    Found,
    Page,
    RefusedError,
    missing,
    shared,
    split,
)
from pipeline.storage.clouds.bodies import Pieces, while_moving

CONDITION = "If-None-Match"
MOST_BYTES = 5000 * 2**20
"""Limit of Azure for one Put Blob."""

_AT_ONCE = "1000"
_ACCOUNT = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_CONNECTION_STRING")
_SCHEMES = ("abfs", "az", "abfss")
_SCOPE = "https://storage.azure.com/.default"
_CREDENTIALS_S = 30.0
"""Seconds that it may take to find credentials, once; longer than any request."""
_FOLDER_MARKS = ("hdi_isfolder", "is_directory")
"""Metadata of blobs that stand for folders."""

_found: weakref.WeakSet[Any] = weakref.WeakSet()
"""Filesystems whose credentials have been found."""


def filesystem(url: str) -> AsyncFileSystem:
    """Return the filesystem of a URL's account that all threads of this process share.

    Raises ImportError without adlfs, and ValueError where neither the URL nor the environment says the account.
    """
    host = urlsplit(url).hostname or ""
    account = re.fullmatch(r"(.+)\.(?:dfs|blob)\.core\.windows\.net", host)
    name = account[1] if account else None
    set_elsewhere = any({"account_name", "connection_string"} & {*fsspec.config.conf.get(s, {})} for s in _SCHEMES)
    if not (name or set_elsewhere or any(os.environ.get(variable) for variable in _ACCOUNT)):
        raise ValueError(f"no storage account; set {' or '.join(_ACCOUNT)} in the environment")

    def make() -> AsyncFileSystem:
        from adlfs import AzureBlobFileSystem

        return AzureBlobFileSystem(account_name=name, skip_instance_cache=True, use_listings_cache=False)

    return shared(make, f"az {name}", "AZURE_", "IDENTITY_", "MSI_")


def get(fs: Any, path: str, patience_s: float, *, version: str = "", span: tuple[int, int] | None = None) -> Body:
    """See `Cloud.get`; a whole blob is checked against its MD5 sum, where it has one."""
    headers = {"x-ms-range": f"bytes={span[0]}-{span[1] - 1}"} if span else {}
    if version:
        headers["If-Match"] = f'"{version}"'
    answer = _ask(fs, "GET", path, patience_s, headers=headers)
    if version and _code(answer) in ("ConditionNotMet", "412"):
        raise ChangedError(path)
    _require(answer)
    md5 = answer.headers.get("Content-MD5")
    if md5 and answer.status == 200 and _md5(answer.data) != md5:
        raise BadBody(f"the MD5 sum of what was read is {_md5(answer.data)}, not {md5}")
    length = answer.headers.get("Content-Length")
    return Body(answer.data, int(length) if length else None, answer.headers.get("Content-Range"))


def put(fs: Any, path: str, data: bytes, patience_s: float, *, exclusive: bool) -> None:
    """See `Cloud.put`; the service compares what it got with the MD5 sum that is sent along."""
    headers = {"x-ms-blob-type": "BlockBlob", "Content-MD5": _md5(data), "Content-Type": "application/octet-stream"}
    if exclusive:
        headers["If-None-Match"] = "*"
    answer = _ask(fs, "PUT", path, patience_s, headers=headers, body=Pieces(data))
    if exclusive and _code(answer) in ("BlobAlreadyExists", "ConditionNotMet", "412"):
        raise FileExistsError(path)
    _require(answer, 201)


def page(fs: Any, path: str, patience_s: float, following: str) -> Page:
    """See `Cloud.page`; blobs that stand for folders are left out."""
    container, key = split(path)
    asked = {"restype": "container", "comp": "list", "maxresults": _AT_ONCE, "include": "metadata"}
    if key := key.rstrip("/"):
        asked["prefix"] = f"{key}/"
    if following:
        asked["marker"] = following
    answer = _ask(fs, "GET", container, patience_s, asked)
    _require(answer)
    try:
        said = ElementTree.fromstring(answer.data.decode("utf-8-sig"))
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise BadBody(f"a listing that is no XML: {error}") from error
    blobs = [_listed(container, blob) for blob in said.iterfind("Blobs/Blob") if not _is_folder(blob)]
    return Page(blobs, said.findtext("NextMarker") or "")


def look_up(fs: Any, path: str, patience_s: float) -> Found:
    """See `Cloud.look_up`."""
    if not split(path)[1]:
        raise missing("blob")
    answer = _ask(fs, "HEAD", path, patience_s)
    _require(answer)
    headers = answer.headers
    if any(headers.get(f"x-ms-meta-{mark}", "").lower() == "true" for mark in _FOLDER_MARKS):
        raise missing("blob")
    changed = _time(headers.get("Last-Modified"))
    return Found(path, int(headers.get("Content-Length", "0")), headers.get("ETag", "").strip('"'), changed)


def delete(fs: Any, path: str, patience_s: float) -> None:
    """See `Cloud.delete`."""
    _require(_ask(fs, "DELETE", path, patience_s))


def renew(fs: Any) -> None:
    """See `Cloud.renew`: a key stays as it is, and other credentials renew themselves."""


def _ask(
    fs: Any,
    method: str,
    path: str,
    patience_s: float,
    asked: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    body: Pieces | None = None,
) -> Answer:
    from azure.core.rest import HttpRequest

    client = fs.service_client
    container, key = split(path)
    where = f"{quote(container)}/{quote(key, safe='~/')}" if key else quote(container)
    url = f"{client.scheme}://{client.primary_hostname}/{where}{client._query_str}"
    sized = {"x-ms-version": client.api_version, **(headers or {})}
    if body is not None:
        sized["Content-Length"] = str(len(body))
    options = {"connection_timeout": CONNECT_S, "read_timeout": None, "retry_total": 0, "stream": True}

    async def exchange() -> Answer:
        loop = asyncio.get_running_loop()
        sending_s = (len(body) if body is not None else 0) / SLOWEST_BYTES_PER_S
        # An empty body is no piece to send, and a signature tells it from none.
        content: dict[str, Any] = {} if body is None else {"content": aiter(body) if len(body) else b""}
        request = HttpRequest(method, url, params=dict(asked or {}), headers=sized, **content)
        async with asyncio.timeout(patience_s + sending_s) as limit:
            answer = (await client._pipeline.run(request, **options)).http_response
            try:
                said = answer.headers.get("Content-Length", "0")
                coming_s = int(said) / SLOWEST_BYTES_PER_S if said.isdigit() and method != "HEAD" else 0
                limit.reschedule(loop.time() + patience_s + coming_s)
                data = b"".join([piece async for piece in answer.iter_raw()]) if method != "HEAD" else b""
            finally:
                await answer.close()
        return Answer(answer.status_code, answer.headers, data)

    async def ask() -> Answer:
        if fs not in _found:
            transport = client._config.transport
            await transport.open()
            transport.session._retry_connection = False  # aiohttp would send a request again by itself
            if fs.credential is not None:
                await _find_credentials(fs.credential)
            _found.add(fs)
        return await while_moving(exchange(), body, patience_s) if body is not None else await exchange()

    answer: Answer = sync(fs.loop, ask)
    return answer


async def _find_credentials(credential: Any) -> None:
    """Ask for the first token by itself, since its search may take longer than a request."""
    from azure.core.exceptions import ClientAuthenticationError

    try:
        async with asyncio.timeout(_CREDENTIALS_S):
            await credential.get_token(_SCOPE)
    except ClientAuthenticationError as error:
        raise RefusedError(
            401, "NoCredentials", f"none found; set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or "
            f"AZURE_STORAGE_ANON=true for a public container, or log in with Azure's tools ({str(error).split('.')[0]})"
        ) from error  # fmt: skip


def _code(answer: Answer) -> str:
    """Return Azure's word for an error, the status where it says none, or nothing for a success."""
    return str(answer.headers.get("x-ms-error-code") or answer.status) if answer.status >= 400 else ""


def _require(answer: Answer, *wanted: int) -> None:
    """Raise the error that an answer is, unless it is a success, and one of the `wanted` ones where there are any."""
    if answer.status == 404:
        raise missing("container" if _code(answer) == "ContainerNotFound" else "blob")
    if not 200 <= answer.status < 300 or (wanted and answer.status not in wanted):
        text = re.search(r"<Message>(.*?)(?:\n|</Message>)", answer.data.decode(errors="replace"), re.DOTALL)
        raise RefusedError(
            answer.status, _code(answer) or str(answer.status), text[1].strip() if text else "no reason given"
        )


def _listed(container: str, blob: ElementTree.Element) -> Found:
    named = blob.find("Name")
    name = (named.text or "") if named is not None else ""
    if named is not None and named.get("Encoded") == "true":  # it has characters that XML cannot hold
        name = unquote(name)
    size, etag = blob.findtext("Properties/Content-Length") or "0", blob.findtext("Properties/Etag") or ""
    return Found(f"{container}/{name}", int(size), etag.strip('"'), _time(blob.findtext("Properties/Last-Modified")))


def _is_folder(blob: ElementTree.Element) -> bool:
    marks = (blob.findtext(f"Metadata/{mark}") or "" for mark in _FOLDER_MARKS)
    return blob.findtext("Properties/ResourceType") == "directory" or any(mark.lower() == "true" for mark in marks)


def _time(said: str | None) -> float | None:
    return email.utils.parsedate_to_datetime(said).timestamp() if said else None


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
