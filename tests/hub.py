"""Stand-in of the Hugging Face hub on loopback: one model and one dataset, both with the files of a folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

REPOSITORY = "someone/model"
DATASET = "datasets/someone/images"
REVISIONS = ("main", "refs/convert/parquet")
LARGE = 1000
"""Size from which a file is kept elsewhere, by Git LFS."""
PAGE = 3

_COMMIT = "c" * 40
_TREE = re.compile(rf"/api/(?:models/{REPOSITORY}|{DATASET})/tree/([^/]+)(?:/(.*))?")
_FILE = re.compile(rf"/(?:{REPOSITORY}|{DATASET})/resolve/([^/]+)/(.+)")


@contextlib.contextmanager
def serving(folder: Path, fails: Callable[[str, str], int] = lambda method, path: 0) -> Iterator[tuple[str, list[str]]]:
    """Serve `folder` as `hf://someone/model` and as `hf://datasets/someone/images`.

    Yield the endpoint and the names of files as they are read. `fails(method, path)` may return a status to answer
    with instead, or -1 for no answer.
    """
    read = list[str]()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if status := fails(self.command, url.path):
                self.close_connection = True
                return None if status < 0 else self.answer(b"", status)
            if (found := _TREE.fullmatch(url.path)) and unquote(found[1]) in REVISIONS:
                return self.tree(unquote(found[2] or ""), parse_qs(url.query))
            if (found := _FILE.fullmatch(url.path)) and unquote(found[1]) in REVISIONS:
                return self.file(folder / unquote(found[2]))
            if url.path.startswith("/elsewhere/") and "authorization" not in self.headers:
                return self.answer((folder / unquote(url.path.removeprefix("/elsewhere/"))).read_bytes())
            code = "RepoNotFound" if "/resolve/" in url.path or "/tree/" in url.path else "EntryNotFound"
            return self.answer(b"", 401 if code == "RepoNotFound" else 404, {"X-Error-Code": code})

        def tree(self, below: str, asked: dict[str, list[str]]) -> None:
            if not (folder / below).is_dir():
                return self.answer(b"", 404, {"X-Error-Code": "EntryNotFound"})
            start = int(asked.get("cursor", ["0"])[0])
            found = sorted(path for path in (folder / below).rglob("*"))
            following = f"http://{self.headers['host']}{urlsplit(self.path).path}?recursive=true&cursor={start + PAGE}"
            headers = {"Link": f'<{following}>; rel="next"'} if len(found) > start + PAGE else {}
            items = [_about(path, str(path.relative_to(folder))) for path in found[start : start + PAGE]]
            return self.answer(json.dumps(items).encode(), 200, headers)

        def file(self, path: Path) -> None:
            if not path.is_file():
                return self.answer(b"", 404, {"X-Error-Code": "EntryNotFound"})
            if self.command == "GET":
                read.append(path.name)
            data = path.read_bytes()
            if len(data) < LARGE:
                return self.answer(data, 200, {"ETag": f'"{git_oid(data)}"'})
            linked = {"X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Linked-Size": str(len(data))}
            # Another host: a token must not go there.
            host = self.headers["host"].replace("127.0.0.1", "localhost")
            return self.answer(b"", 302, {**linked, "Location": f"http://{host}/elsewhere/{path.relative_to(folder)}"})

        def answer(self, data: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
            start, stop = 0, len(data)
            if status == 200 and (asked := self.headers.get("range")):
                first, last = asked.removeprefix("bytes=").split("-")
                start, stop, status = int(first), min(int(last or stop - 1) + 1, stop), 206
            self.send_response(status)
            self.send_header("Content-Length", str(stop - start))
            self.send_header("X-Repo-Commit", _COMMIT)
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[start:stop])

        def log_message(self, *_: object) -> None:
            """Say nothing of each request."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", read
        server.shutdown()


def _about(path: Path, name: str) -> dict[str, Any]:
    if path.is_dir():
        return {"type": "directory", "path": name, "size": 0, "oid": "d" * 40}
    return about_file(name, path.read_bytes())


def about_file(name: str, data: bytes) -> dict[str, Any]:
    """Return what the hub says of a file: one that is LARGE stands in git as a pointer."""
    if len(data) < LARGE:
        return {"type": "file", "path": name, "size": len(data), "oid": git_oid(data)}
    oid = hashlib.sha256(data).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n".encode()
    lfs = {"oid": oid, "size": len(data), "pointerSize": len(pointer)}
    return {"type": "file", "path": name, "size": len(data), "oid": git_oid(pointer), "lfs": lfs}


def git_oid(data: bytes) -> str:
    """Return the name that git has for a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
