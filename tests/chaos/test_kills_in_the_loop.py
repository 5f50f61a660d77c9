"""Jobs of the plain loop, killed at each failpoint and run again, end the same, to the bit."""

from __future__ import annotations

import pytest
from _pytest.mark import ParameterSet

from tests.chaos.ground import KINDS, Ground, Kind, points

LONG = [pytest.param(store, marks=pytest.mark.long) for store in ("s3", "gs")]


def cases() -> list[ParameterSet]:
    """Return every job with every point. Jobs that share the engine take turns in the default run.

    A folder of files meets each point by itself on disk, and Parquet shards all of them in turn on S3.
    """
    found = []
    for kind in KINDS:
        for number, point in enumerate(points(kind)):
            left_to_the_other = kind in ("pack", "augment") and (number % 2 == 0) is (kind == "augment")
            left_to_the_other |= kind in ("parquet", "webdataset") and point != "after data"
            found.append(pytest.param(kind, point, marks=pytest.mark.long if left_to_the_other else []))
    return found


@pytest.mark.parametrize("ground", ["local", *LONG], indirect=True, scope="module")
@pytest.mark.parametrize(("kind", "point"), cases())
def test_a_killed_run_ends_like_one_that_was_not(ground: Ground, kind: Kind, point: str) -> None:
    output = ground.new_output()
    assert ground.in_the_loop(kind, output, crash=point) == -9, f"{point} was never reached"
    assert ground.in_the_loop(kind, output) == 0
    ground.check(kind, output)


# Each failpoint by itself is an ordinary test on disk.
@pytest.mark.parametrize(
    "ground", [pytest.param("local", marks=pytest.mark.long), "s3", LONG[1]], indirect=True, scope="module"
)
@pytest.mark.parametrize(
    "kind", [kind if kind == "parquet" else pytest.param(kind, marks=pytest.mark.long) for kind in KINDS]
)
def test_killed_at_every_point_in_turn(ground: Ground, kind: Kind) -> None:
    output = ground.new_output()
    for point in points(kind):
        assert ground.in_the_loop(kind, output, crash=point) == -9, f"{point} was never reached"
    assert ground.in_the_loop(kind, output) == 0
    ground.check(kind, output)
