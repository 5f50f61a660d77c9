"""Proxy in front of an object store, over real sockets, that does what networks, gateways and failing servers do.

A fault is a function from a request and the server to an answer, or to None to cut the connection without one. It
meets the requests for which `Proxy.when` registered it, as often as registered.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import botocore.session
import pytest

from tests import seaweed

CHECKSUMS = ("x-amz-checksum-", "content-md5", "x-goog-hash")


class Request(NamedTuple):
    method: str
    path: str
    """Path of the request, including the query."""
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        """Key of an object; empty for a request about the bucket, such as a listing."""
        return "/".join(self.path.partition("?")[0].split("/")[2:])


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


Server = Callable[[Request], Answer]
Fault = Callable[[Request, Server], Answer | None]


@dataclass
class Rule:
    matches: Callable[[Request], bool]
    fault: Fault
    times: float
    until: float

    def takes(self, request: Request) -> bool:
        return self.times > 0 and time.monotonic() < self.until and self.matches(request)


@dataclass
class Proxy:
    """Running proxy: its address, the requests it has seen, and the faults it inflicts."""

    endpoint: str = ""
    store: str = "s3"
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    rules: list[Rule] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    released: threading.Event = field(default_factory=threading.Event)

    def when(self, method: str, key: str, fault: Fault, *, times: float = 1, for_s: float = 1e9) -> None:
        """Inflict `fault` on the next requests of this method whose key contains `key`."""
        matches = lambda r: r.method in method.split() and key in r.key  # noqa: E731
        self.rules.append(Rule(matches, fault, times, time.monotonic() + for_s))

    def forget(self) -> None:
        """Behave well from now on, and release hanging requests."""
        self.rules.clear()
        self.requests.clear()
        self.released.set()
        self.released = threading.Event()

    def seen(self, method: str, key: str = "") -> list[Request]:
        return [r for r in self.requests if r.method == method and key in r.key]

    def take(self, request: Request) -> Fault:
        with self.lock:
            self.requests.append(request)
            for rule in self.rules:
                if rule.takes(request):
                    rule.times -= 1
                    return rule.fault
        return lambda request, server: server(request)


# --- faults ------------------------------------------------------------------------------------------------------


def drop_answer(request: Request, server: Server) -> Answer | None:
    """Let the server do what is asked, and drop its answer."""
    server(request)
    return None


def refuse(status: int, code: str) -> Fault:
    """Answer with an error as S3 does, without asking the server."""
    text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>said the proxy</Message></Error>'
    return lambda request, server: Answer(status, {"Content-Type": "application/xml"}, text.encode())


def cut(to: float) -> Fault:
    """Send the first part of the body; the announced length stays."""

    def fault(request: Request, server: Server) -> Answer:
        answer = server(request)
        return answer._replace(body=answer.body[: int(len(answer.body) * to)])

    return fault


def shorten(to: float) -> Fault:
    """Send the first part of the body as if that were all, without the checksums."""

    def fault(request: Request, server: Server) -> Answer:
        answer = _without_checksums(server(request))
        body = answer.body[: int(len(answer.body) * to)]
        return answer._replace(body=body, headers=answer.headers | {"Content-Length": str(len(body))})

    return fault


def flip(at: float, *, strip: bool = True) -> Fault:
    """Flip one bit of the body; strip the checksums in the header, or leave them."""

    def fault(request: Request, server: Server) -> Answer:
        answer = server(request)
        body = bytearray(answer.body)
        body[min(len(body) - 1, int(len(body) * at))] ^= 1
        return (_without_checksums(answer) if strip else answer)._replace(body=bytes(body))

    return fault


def ignore_range(request: Request, server: Server) -> Answer:
    """Answer 200 with the whole object."""
    whole = _client().get_object(Bucket=seaweed.BUCKET, Key=request.key)
    return Answer(200, {"ETag": whole["ETag"]}, whole["Body"].read())


def ignore_condition(request: Request, server: Server) -> Answer:
    """Behave like a server that does not know If-None-Match."""
    etag = _client().put_object(Bucket=seaweed.BUCKET, Key=request.key, Body=request.body)["ETag"]
    return Answer(200, {"ETag": etag}, b"")


def _client() -> Any:
    return botocore.session.Session().create_client(
        "s3", endpoint_url=_server[0], aws_access_key_id=seaweed.KEY, region_name="us-east-1",
        aws_secret_access_key=seaweed.SECRET,
    )  # fmt: skip


def _without_checksums(answer: Answer) -> Answer:
    kept = {name: value for name, value in answer.headers.items() if not name.lower().startswith(CHECKSUMS)}
    return answer._replace(headers=kept)


# --- the proxy ---------------------------------------------------------------------------------------------------

_server = [""]


@contextlib.contextmanager
def serve(server: str) -> Iterator[Proxy]:
    """Run a proxy in front of the server at this endpoint."""
    proxy, target = Proxy(), urlsplit(server)
    _server[0] = server

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            proxy.connections += 1

        def log_message(self, *_: object) -> None:
            pass

        def handle_expect_100(self) -> bool:
            request = Request(self.command, self.path, dict(self.headers), b"")
            if any(rule.fault is hang and rule.takes(request) for rule in proxy.rules):
                return True  # `do` waits for a body that the client sends only when told to
            return super().handle_expect_100()

        def do(self) -> None:
            request = Request(self.command, self.path, dict(self.headers), b"")
            fault = proxy.take(request)
            if fault is hang:
                proxy.released.wait()
                self.close_connection = True
                return
            request = request._replace(body=self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            answer = fault(request, ask)
            if answer is None:
                self.close_connection = True
                return
            self.send_response_only(answer.status)
            headers = {name: v for name, v in answer.headers.items() if name.lower() not in ("connection", "date")}
            if "content-length" not in map(str.lower, headers):
                headers["Content-Length"] = str(len(answer.body))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if request.method != "HEAD":
                self.wfile.write(answer.body)
                announced = int(next(v for n, v in headers.items() if n.lower() == "content-length"))
                self.close_connection = self.close_connection or announced != len(answer.body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do  # noqa: N815

    def ask(request: Request) -> Answer:
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=30)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "expect"}
        try:
            connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(request.body or None)
            answer = connection.getresponse()
            kept = {n: v for n, v in answer.getheaders() if n.lower() not in ("transfer-encoding", "connection")}
            return Answer(answer.status, kept, answer.read())
        finally:
            connection.close()

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    proxy.endpoint = f"http://127.0.0.1:{listening.server_address[1]}"
    thread = threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.released.set()
        listening.shutdown()
        listening.server_close()


def hang(request: Request, server: Server) -> Answer | None:
    """Answer nothing, not even 100 Continue, until the proxy ends."""
    raise AssertionError("the proxy does this itself")


@contextlib.contextmanager
def between(server: str, patch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Send this process's storage through a proxy."""
    with serve(server) as proxy:
        patch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


@contextlib.contextmanager
def between_gs(server: str, patch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Send this process's requests to Google's storage through a proxy."""
    with serve(server) as proxy:
        patch.setenv("STORAGE_EMULATOR_HOST", proxy.endpoint)
        yield proxy
