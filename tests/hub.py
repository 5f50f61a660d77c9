"""Stand-in of the Hugging Face hub on loopback: one model repository with the files of a folder, for its own client."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REPOSITORY = "someone/model"
_COMMIT = "c" * 40


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve `folder` as `hf://someone/model`; yield the endpoint and the names of files as they are read."""
    read = list[str]()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path.startswith(f"/api/models/{REPOSITORY}/tree/"):
                self.answer(json.dumps([_about(file) for file in sorted(folder.iterdir())]).encode())
            elif path.startswith(f"/api/models/{REPOSITORY}"):
                self.answer(json.dumps({"id": REPOSITORY, "sha": _COMMIT, "siblings": []}).encode())
            elif (file := folder / path.rpartition("/")[2]).is_file():
                read.append(file.name)
                self.answer(file.read_bytes())
            else:
                self.answer(b"", 404)

        def answer(self, data: bytes, status: int = 200) -> None:
            start, stop = 0, len(data)
            if asked := self.headers.get("range"):
                first, last = asked.removeprefix("bytes=").split("-")
                start, stop, status = int(first), min(int(last or stop - 1) + 1, stop), 206
            self.send_response(status)
            self.send_header("Content-Length", str(stop - start))
            self.send_header("X-Repo-Commit", _COMMIT)
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
            self.end_headers()
            self.wfile.write(data[start:stop])

        def log_message(self, *_: object) -> None:
            """Say nothing of each request."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", read
        server.shutdown()


def _about(file: Path) -> dict[str, object]:
    data = file.read_bytes()
    return {"type": "file", "path": file.name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
