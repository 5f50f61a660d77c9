"""Fixtures that several tests share: servers of S3 and of Google's storage, and a prefix on each kind of store."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import gcs, seaweed

# A slow example is no failure, since the machine may be busy. Fixed examples make a failed run repeatable.
settings.register_profile("transdomain", deadline=None, derandomize=True)
settings.register_profile("default-run", settings.get_profile("transdomain"), max_examples=40)
settings.load_profile("transdomain")

# Threads of torch that wait for work wait asleep: several tests at once on few cores would spend them on waiting.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="device of the tests of the models: cpu or cuda")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Search no garbage while collecting, nor later in what it leaves: modules and thousands of tests stay anyway."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # libraries say at the exit what is left
        gc.enable()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Start the server and set the environment for the whole session, so that every process of the tests finds it."""
    with seaweed.serve() as endpoint:
        previous = {name: os.environ.get(name) for name in seaweed.environment(endpoint)}
        os.environ.update(seaweed.environment(endpoint))
        try:
            yield endpoint
        finally:
            for name, value in previous.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


@pytest.fixture(scope="session")
def gs_server() -> Iterator[str]:
    """Start the server and set the environment for the whole session, so that every process of the tests finds it."""
    with gcs.serve() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in gcs.environment(server.endpoint).items():
            patch.setenv(name, value)
        yield server.endpoint


def new_prefix(kind: str, request: pytest.FixtureRequest) -> str:
    """Return a prefix that nobody has used, on a `local` disk, in `memory`, on `s3` or on `gs`."""
    name = uuid.uuid4().hex[:12]
    if kind == "gs":
        request.getfixturevalue("gs_server")
        return f"gs://{gcs.BUCKET}/{name}"
    if kind == "s3":
        request.getfixturevalue("s3_server")
        return f"s3://{seaweed.BUCKET}/{name}"
    if kind == "memory":
        return f"memory://{name}"
    path: Path = request.getfixturevalue("tmp_path")
    return str(path / name)


@pytest.fixture(params=["local", "memory", "s3", pytest.param("gs", marks=pytest.mark.long)])
def any_prefix(request: pytest.FixtureRequest) -> str:
    return new_prefix(request.param, request)


@pytest.fixture(params=["local", "s3", pytest.param("gs", marks=pytest.mark.long)])
def shared_prefix(request: pytest.FixtureRequest) -> str:
    """Return a prefix on a store that other processes see, too."""
    return new_prefix(request.param, request)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let an interrupt raise KeyboardInterrupt, as in a terminal: what a shell runs in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
