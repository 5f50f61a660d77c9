from __future__ import annotations

import pytest

from pipeline.cluster import check_placement, connect
from pipeline.errors import UserError
from tests.cluster import free_port

STAGES = {"decode": {"CPU": 1.0}, "translate": {"CPU": 1.0, "GPU": 1.0}, "encode": {"CPU": 1.0}}


def test_stages_that_fit_side_by_side_are_accepted() -> None:
    check_placement(STAGES, [{"CPU": 3.0, "GPU": 1.0}])
    check_placement(STAGES, [{"CPU": 1.0, "GPU": 1.0}, {"CPU": 2.0}])


@pytest.mark.parametrize(
    "nodes",
    [
        [{"CPU": 2.0, "GPU": 1.0}],
        [{"CPU": 8.0}],
        [{"CPU": 0.5, "GPU": 1.0}, {"CPU": 16.0}],  # enough of everything, but never on one node
        [],
    ],
)
def test_a_stage_without_a_place_is_named(nodes: list[dict[str, float]]) -> None:
    with pytest.raises(UserError, match=r"stage \w+ .* cannot be placed"):
        check_placement(STAGES, nodes)


def test_a_cluster_that_does_not_answer_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("127.0.0.1", "127.0.0.9"):
        monkeypatch.setenv("RAY_ADDRESS", f"{host}:{free_port()}")
        with pytest.raises(UserError, match=r"RAY_ADDRESS is 127\.0\.0\.\d:\d+: no cluster answers there"), connect():
            pass
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    with pytest.raises(UserError, match="transdomain submit"), connect():
        pass
