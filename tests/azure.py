"""Stand-in of Azure Blob Storage on loopback, which answers as Azure documents its REST API, signatures included.

It is no server of Azure's: nothing here shows that the service itself behaves like this.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import hmac
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

ACCOUNT, CONTAINER = "devstoreaccount1", "images"
KEY = base64.b64encode(b"a key of the tests, of no account").decode()
_SIGNED = (
    "content-encoding", "content-language", "content-length", "content-md5", "content-type", "date",
    "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range",
)  # fmt: skip
_PAGE = 3

Fault = Callable[["Handler"], bool]
"""Function that answers a request itself, or not at all, and returns True; or returns False to have it answered."""


@dataclass
class Blob:
    data: bytes
    etag: str
    changed: float = field(default_factory=time.time)
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass
class Azure:
    """Running stand-in."""

    endpoint: str = ""
    blobs: dict[str, Blob] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of each request."""
    connections: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    """Faults to come, each with the method that it meets."""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def environment(self) -> dict[str, str]:
        account = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY}"
        return {"AZURE_STORAGE_CONNECTION_STRING": f"{account};BlobEndpoint={self.endpoint}/{ACCOUNT};"}

    def write(self, name: str, data: bytes, **metadata: str) -> None:
        self.blobs[name] = Blob(data, f'"0x{next(self.numbers):016X}"', metadata=metadata)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    azure: Azure

    def setup(self) -> None:
        super().setup()
        self.azure.connections += 1

    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""

    def do(self) -> None:
        url = urlsplit(self.path)
        with self.azure.lock:
            self.azure.requests.append((self.command, url.path))
            met = next((each for each in self.azure.faults if each[0] == self.command), None)
            if met:
                self.azure.faults.remove(met)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if met and met[1](self):
            return
        self.act()

    do_GET = do_PUT = do_HEAD = do_DELETE = do  # noqa: N815

    def act(self) -> None:
        """Do what is asked, and answer."""
        url = urlsplit(self.path)
        if not hmac.compare_digest(self.signature(), self.headers.get("Authorization", "").rpartition(":")[2]):
            return self.fail(403, "AuthenticationFailed", "Server failed to authenticate the request.")
        _, _, container, *parts = unquote(url.path).split("/")
        name, asked = "/".join(parts), dict(parse_qsl(url.query))
        if container != CONTAINER:
            return self.fail(404, "ContainerNotFound", "The specified container does not exist.")
        with self.azure.lock:
            if asked.get("comp") == "list":
                return self.list_blobs(asked)
            return {"GET": self.get, "HEAD": self.get, "PUT": self.put, "DELETE": self.delete}[self.command](name)

    def get(self, name: str) -> None:
        blob = self.azure.blobs.get(name)
        if blob is None:
            return self.fail(404, "BlobNotFound", "The specified blob does not exist.")
        if (wanted := self.headers.get("If-Match")) and wanted != blob.etag:
            return self.fail(
                412, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met."
            )
        data, status, headers = blob.data, 200, {"Content-MD5": _md5(blob.data)}
        if span := self.headers.get("x-ms-range"):
            first, last = map(int, span.removeprefix("bytes=").split("-"))
            data, status = data[first : last + 1], 206
            headers = {"Content-Range": f"bytes {first}-{first + len(data) - 1}/{len(blob.data)}"}
        headers |= {"ETag": blob.etag, "Last-Modified": email.utils.formatdate(blob.changed, usegmt=True)}
        return self.answer(status, data, headers | {f"x-ms-meta-{key}": v for key, v in blob.metadata.items()})

    def put(self, name: str) -> None:
        assert self.headers["x-ms-blob-type"] == "BlockBlob"
        if self.headers.get("If-None-Match") == "*" and name in self.azure.blobs:
            return self.fail(409, "BlobAlreadyExists", "The specified blob already exists.")
        if self.headers.get("Content-MD5") not in (None, _md5(self.body)):
            return self.fail(400, "Md5Mismatch", "The MD5 value specified in the request did not match.")
        self.azure.write(name, self.body)
        return self.answer(201, b"", {"ETag": self.azure.blobs[name].etag})

    def delete(self, name: str) -> None:
        if self.azure.blobs.pop(name, None) is None:
            return self.fail(404, "BlobNotFound", "The specified blob does not exist.")
        return self.answer(202, b"", {})

    def list_blobs(self, asked: dict[str, str]) -> None:
        names = sorted(name for name in self.azure.blobs if name.startswith(asked.get("prefix", "")))
        names = [name for name in names if name >= asked.get("marker", "")]
        items = "".join(self._about(name) for name in names[:_PAGE])
        following = names[_PAGE] if len(names) > _PAGE else ""
        text = (
            f'\ufeff<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="{CONTAINER}">'
            f"<Blobs>{items}</Blobs><NextMarker>{escape(following)}</NextMarker></EnumerationResults>"
        )
        return self.answer(200, text.encode(), {"Content-Type": "application/xml"})

    def _about(self, name: str) -> str:
        blob = self.azure.blobs[name]
        metadata = "".join(f"<{key}>{value}</{key}>" for key, value in blob.metadata.items())
        changed, etag = email.utils.formatdate(blob.changed, usegmt=True), blob.etag.strip('"')
        return (
            f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{changed}</Last-Modified><Etag>{etag}</Etag>"
            f"<Content-Length>{len(blob.data)}</Content-Length></Properties><Metadata>{metadata}</Metadata></Blob>"
        )

    def fail(self, status: int, code: str, text: str) -> None:
        body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{text}\nRequestId:0\nTime:0</Message></Error>'
        self.answer(status, body.encode(), {"x-ms-error-code": code, "Content-Type": "application/xml"})

    def answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def signature(self) -> str:
        """Sign the request as Azure documents it for a shared key."""
        headers = {name.lower(): value.strip() for name, value in self.headers.items()}
        if headers.get("content-length") == "0":
            headers["content-length"] = ""
        url = urlsplit(self.path)
        ours = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers) if name.startswith("x-ms-"))
        query = "".join(f"\n{name.lower()}:{value}" for name, value in sorted(parse_qsl(url.query)))
        text = "\n".join([self.command, *(headers.get(name, "") for name in _SIGNED), ""])
        text += f"{ours}/{ACCOUNT}{url.path}{query}"
        return base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()


@contextlib.contextmanager
def serving() -> Iterator[Azure]:
    """Run the stand-in with one container."""
    azure = Azure()
    handler = type("Handling", (Handler,), {"azure": azure})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        azure.endpoint = f"http://127.0.0.1:{server.server_port}"
        yield azure
        server.shutdown()


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


# --- faults ------------------------------------------------------------------------------------------------------


def drop_answer(handler: Handler) -> bool:
    """Do what is asked, and close the connection without an answer."""
    handler.wfile = _Nowhere()  # type: ignore[assignment]
    handler.act()
    handler.close_connection = True
    return True


def refuse(status: int, code: str) -> Fault:
    """Answer with an error."""

    def fault(handler: Handler) -> bool:
        handler.fail(status, code, "said the stand-in")
        return True

    return fault


def hang(handler: Handler) -> bool:
    """Answer nothing for a while, and close the connection."""
    time.sleep(2)
    handler.close_connection = True
    return True


class _Nowhere:
    closed = False

    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None:
        """Hold nothing."""

    def close(self) -> None:
        """Hold nothing."""
