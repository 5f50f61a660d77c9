from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.training.config.train import TrainConfig
from pipeline.training.distributed.placement import Nodes, Placement, place, waiting_line


def config(workers: int, **changes: object) -> TrainConfig:
    return TrainConfig(input="in", output="out", workers=workers, global_batch=64, **changes)  # type: ignore[arg-type]


LAPTOP = [{"CPU": 2.0}]
GPU_NODES = [{"CPU": 16.0, "GPU": 4.0}, {"CPU": 16.0, "GPU": 4.0}, {"CPU": 4.0}]


@pytest.mark.parametrize(
    ("workers", "nodes", "expected"),
    [
        (1, LAPTOP, Placement(workers=1, least=1, cpus=2, gpus=0)),
        (2, LAPTOP, Placement(workers=2, least=2, cpus=1, gpus=0)),
        (3, [{"CPU": 8.0}, {"CPU": 8.0}], Placement(workers=3, least=3, cpus=4, gpus=0)),
        (8, GPU_NODES, Placement(workers=8, least=8, cpus=4, gpus=1)),
    ],
)
def test_workers_share_what_there_is(workers: int, nodes: Nodes, expected: Placement) -> None:
    assert place(config(workers), nodes) == expected


def test_what_is_asked_for_is_taken() -> None:
    placement = place(config(4, cpus_per_worker=0.5, gpus_per_worker=0), LAPTOP)
    assert (placement.cpus, placement.threads, placement.demand) == (0.5, 1, {"CPU": 0.5})
    assert place(config(1, cpus_per_worker=3.0, gpus_per_worker=0), GPU_NODES).threads == 3


@pytest.mark.parametrize(
    ("workers", "changes", "nodes", "message"),
    [
        (3, {}, LAPTOP, "workers is 3, each takes 1 CPU: the cluster .2 CPU, 0 GPU on 1 node.* has room for 2"),
        (1, {"cpus_per_worker": 4.0}, LAPTOP, "each takes 4 CPU.*room for 0"),
        (1, {"gpus_per_worker": 1}, LAPTOP, "1 GPU: .*room for 0"),
        (9, {}, GPU_NODES, "workers is 9, each takes 1 CPU, 1 GPU.*room for 8"),
        # 24 CPUs in all, but no node has 16 for two workers of 12.
        (2, {"cpus_per_worker": 12.0}, [{"CPU": 12.0}, {"CPU": 8.0}, {"CPU": 4.0}], "room for 1"),
        (1, {}, [], "0 CPU"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_hangs(
    workers: int, changes: dict[str, object], nodes: Nodes, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        place(config(workers, **changes), nodes)


@given(st.integers(1, 8), st.lists(st.integers(1, 16), min_size=1, max_size=4))
def test_a_chosen_share_is_the_largest_that_fits(workers: int, cpus: list[int]) -> None:
    nodes = [{"CPU": float(c)} for c in cpus]
    if sum(cpus) < workers:
        with pytest.raises(UserError):
            place(config(workers), nodes)
        return
    share = int(place(config(workers), nodes).cpus)
    assert sum(c // share for c in cpus) >= workers
    assert sum(c // (share + 1) for c in cpus) < workers


def test_places_that_others_hold_are_told() -> None:
    placement = Placement(workers=3, least=2, cpus=1.0, gpus=0)
    nodes = [{"CPU": 2.0}, {"CPU": 2.0}]
    assert waiting_line(placement, nodes, [{"CPU": 1.0}, {"CPU": 1.0}]) is None
    line = waiting_line(placement, nodes, [{"CPU": 1.5}, {}])
    assert line is not None
    assert "2 worker(s), each takes 1 CPU: of 4 CPU, 0 GPU on 2 node(s) there is room for 1 now" in line
