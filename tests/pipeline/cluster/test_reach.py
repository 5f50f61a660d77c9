from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import storage
from pipeline.cluster.reach import check_reach, refuse_paths
from pipeline.errors import UserError


def test_a_path_on_several_nodes_is_refused_and_says_what_to_do() -> None:
    refuse_paths(["/data/in"], 1)
    refuse_paths([], 2)
    with pytest.raises(UserError, match=r"^/data/in: .* 2 nodes, .* s3://BUCKET/PREFIX, or add --shared_disk"):
        refuse_paths(["/data/in", "/data/out"], 2)


def test_what_needs_no_cluster_asks_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    check_reach(["s3://bucket/in", ""], shared_disk=False)
    check_reach(["/data/in"], shared_disk=True)
    monkeypatch.delenv("RAY_ADDRESS")
    check_reach(["/data/in"], shared_disk=False)


def test_a_submitted_job_takes_no_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    for path in ("data", "./data", "../data"):
        with pytest.raises(UserError, match="a relative path, and a submitted job runs in a copy"):
            storage.absolute(path)
    assert storage.absolute(f"{tmp_path}/data/") == f"{tmp_path}/data"
    assert storage.absolute(f"file://{tmp_path}/data") == f"{tmp_path}/data"
    assert storage.absolute("s3://bucket/data/") == "s3://bucket/data"
    assert Path(storage.absolute("~/data")).is_absolute()
