from __future__ import annotations

import pytest

from pipeline.cluster import check_placement
from pipeline.errors import UserError

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
