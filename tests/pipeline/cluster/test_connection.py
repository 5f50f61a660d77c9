from __future__ import annotations

import time
from typing import Any

import pytest
import ray
from ray._private import services

from pipeline.cluster import ray_internals
from pipeline.cluster.connection import connect
from pipeline.errors import UserError
from tests.cluster import free_port


def test_a_cluster_that_does_not_answer_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("127.0.0.1", "127.0.0.9"):
        monkeypatch.setenv("RAY_ADDRESS", f"{host}:{free_port()}")
        with pytest.raises(UserError, match=r"RAY_ADDRESS is 127\.0\.0\.\d:\d+: no cluster answers there"), connect():
            pass
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    with pytest.raises(UserError, match="transdomain submit"), connect():
        pass


@pytest.mark.long
def test_an_embedded_ray_may_start_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    get_node, begun = services.get_node, time.monotonic()

    def slow(*arguments: Any) -> Any:
        if time.monotonic() - begun < 33:
            raise RuntimeError("not registered yet")
        return get_node(*arguments)

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(services, "get_node", slow)
    with connect():
        assert ray.is_initialized()
    assert services.get_node is slow


def test_an_embedded_ray_that_never_starts_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise RuntimeError("not registered")

    monkeypatch.setattr(services, "get_node", never)
    with ray_internals.patient(0.3), pytest.raises(RuntimeError, match="not registered"):
        services.get_node("127.0.0.1:1", "node")
