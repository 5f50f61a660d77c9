from __future__ import annotations

import pytest

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
