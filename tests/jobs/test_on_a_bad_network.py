"""Whole jobs on real servers behind a network that loses answers, damages bodies and refuses at random."""

from __future__ import annotations

import os
import random
import threading
import uuid
from collections.abc import Iterator

import pytest

from jobs import pack, verify
from pipeline import storage
from pipeline.storage import retry
from tests import corpus, seaweed
from tests import proxy as faults
from tests.proxy import Answer, Proxy, Request, Server


@pytest.fixture(params=["s3", pytest.param("gs", marks=pytest.mark.long)])
def proxy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(retry, "MAX_WAIT_S", 0.05)
    between = faults.between if request.param == "s3" else faults.between_gs
    with between(request.getfixturevalue(f"{request.param}_server"), monkeypatch) as proxy:
        proxy.store = request.param
        yield proxy


class _Weather:
    """Weather in which one request in `one_in` meets a fault that fits it, the same for the same seed and order.

    With `gently`, no answer loses its checksums and keeps a length: nothing else would tell that its body is damaged.
    """

    def __init__(self, seed: int, one_in: int, *, gently: bool) -> None:
        self._random, self._one_in, self._lock = random.Random(seed), one_in, threading.Lock()
        self._gently = gently

    def __call__(self, request: Request, server: Server) -> Answer | None:
        with self._lock:
            if self._random.randrange(self._one_in):
                return server(request)
            any_of = [
                faults.drop_answer,
                faults.refuse(503, "SlowDown"),
                faults.refuse(429, "TooManyRequests"),
                faults.refuse(403, "RequestTimeTooSkewed"),
            ]
            if request.method == "GET" and request.key:
                at = self._random.random()
                any_of += [] if self._gently else [faults.flip(at), faults.shorten(at)]
                any_of += [faults.flip(at, strip=False), faults.cut(at)]
            fault = self._random.choice(any_of)
        return fault(request, server)


def test_nothing_is_lost_blamed_or_changed(proxy: Proxy) -> None:
    prefix = f"{proxy.store}://{seaweed.BUCKET}/{uuid.uuid4().hex[:12]}"
    source = corpus.write_folder(f"{prefix}/in", 5)
    images = {e.name: storage.read(e.url) for e in storage.list_files(source)}
    weather = _Weather(int(os.environ.get("SEED", "0")), 4, gently=proxy.store == "gs")
    proxy.when("GET PUT POST HEAD DELETE", "", weather, times=1e9)
    packed, again = f"{prefix}/packed", f"{prefix}/again"
    for read, made in ((source, packed), (packed, again)):
        assert pack.main(["--input", read, "--output", made, "--local", "--limits.rows", "4"]) == 0
        assert {row["key"]: row["image"]["bytes"] for row in corpus.rows(made)} == {
            name: data for name, data in images.items() if name not in corpus.BROKEN
        }
    assert len(proxy.requests) > 150
    assert verify.main(["--input", packed]) == 0
    assert len(storage.list_files(f"{packed}/_quarantine")) > 0
