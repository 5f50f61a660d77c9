from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.executors.placement import (
    Demand,
    advise,
    check_placement,
    demand_of,
    sized,
    waiting_line,
    without_place,
)
from pipeline.engine.publishing.steps import Stage
from pipeline.errors import UserError


def demands(decode: float, actor: float, encode: float, *, actors: int = 1, gpus: float = 0.0) -> list[Demand]:
    return [
        Demand(name="decode", cpus=decode, cpus_option="--decode"),
        Demand(name="translate", cpus=actor, gpus=gpus, actors=actors, cpus_option="--actor", actors_option="--actors"),
        Demand(name="encode", cpus=encode, cpus_option="--encode"),
    ]


def test_stages_that_fit_side_by_side_are_accepted() -> None:
    check_placement(demands(1, 1, 1, gpus=1), [{"CPU": 3.0, "GPU": 1.0}])
    check_placement(demands(1, 1, 1, gpus=1), [{"CPU": 1.0, "GPU": 1.0}, {"CPU": 2.0}])
    check_placement(demands(0.5, 1, 0.5, actors=4), [{"CPU": 5.0}])


@pytest.mark.parametrize(
    "nodes",
    [
        [{"CPU": 2.0, "GPU": 1.0}],
        [{"CPU": 8.0}],
        [{"CPU": 0.5, "GPU": 1.0}, {"CPU": 16.0}],  # there is enough of everything, but never on one node
        [],
    ],
)
def test_a_stage_without_a_place_is_named(nodes: list[dict[str, float]]) -> None:
    with pytest.raises(UserError, match=r"stage \w+ .* cannot be placed"):
        check_placement(demands(1, 1, 1, gpus=1), nodes)


def test_the_whole_pool_is_counted() -> None:
    with pytest.raises(UserError, match=r"2 actor\(s\) of 1 CPU.*the cluster has 2 CPU.*this fits: --actors 1$"):
        check_placement(demands(0.5, 1, 0.5, actors=2), [{"CPU": 2.0}])


def test_the_advice_for_one_cpu_names_all_that_is_to_be_lowered() -> None:
    with pytest.raises(UserError, match=r"this fits: --decode 0\.25 --actor 0\.5 --encode 0\.25$"):
        check_placement(demands(0.5, 1, 0.5), [{"CPU": 1.0}])


def test_a_gpu_that_no_node_has_is_no_matter_of_cpus() -> None:
    with pytest.raises(UserError, match="no node has 1 GPU: use --device cpu"):
        check_placement(demands(0.5, 1, 0.5, gpus=1), [{"CPU": 64.0}])


def test_actors_may_be_put_where_they_are_in_the_way() -> None:
    """Packed tightly, everything would fit; spread over both nodes, the actors leave half a CPU on each."""
    spread = [Demand(name="large", cpus=1.0), Demand(name="pool", cpus=0.5, actors=2)]
    nodes = [{"CPU": 1.0}, {"CPU": 1.0}]
    homeless = without_place(spread, nodes)
    assert homeless is not None
    assert homeless.name == "large"
    assert without_place(spread, [*nodes, {"CPU": 1.0}]) is None


_cpus = st.integers(1, 16).map(lambda quarters: quarters / 4)
_stages = st.builds(demands, _cpus, _cpus, _cpus, actors=st.integers(1, 5), gpus=st.sampled_from([0.0, 0.0, 0.5, 1.0]))
_nodes = st.lists(st.builds(lambda c, g: {"CPU": c, "GPU": g}, _cpus, st.sampled_from([0.0, 1.0, 2.0])), max_size=4)


@given(stages=_stages, nodes=_nodes, seed=st.integers(0, 2**32))
def test_wherever_the_actors_are_put_each_stage_finds_a_place(
    stages: list[Demand], nodes: list[dict[str, float]], seed: int
) -> None:
    if without_place(stages, nodes) is not None:
        return
    draw, left = random.Random(seed), [dict(node) for node in nodes]

    def fitting(need: dict[str, float]) -> list[dict[str, float]]:
        return [node for node in left if all(node.get(r, 0.0) >= amount for r, amount in need.items())]

    for demand in stages:
        for _ in range(demand.actors):
            room = fitting(demand.each)
            assert room, "an actor finds none"
            node = draw.choice(room)
            for resource, amount in demand.each.items():
                node[resource] -= amount
    for demand in stages:
        assert demand.actors or fitting(demand.each), f"{demand.name} finds none"


@given(stages=_stages, nodes=_nodes)
def test_what_is_advised_fits(stages: list[Demand], nodes: list[dict[str, float]]) -> None:
    try:
        check_placement(stages, nodes)
    except UserError as error:
        said = dict(re.findall(r"--(\w+) (\S+)", str(error).partition("this fits: ")[2]))
        if said:
            actors = int(said.get("actors", stages[1].actors))
            cpus = [float(said.get(each.cpus_option[2:], each.cpus)) for each in stages]
            assert without_place(demands(*cpus, actors=actors, gpus=stages[1].gpus), nodes) is None
        else:
            assert advise(stages, nodes) is None


@given(stages=_stages)
def test_a_node_of_one_cpu_is_enough_for_what_is_advised_for_it(stages: list[Demand]) -> None:
    advised = advise([replace(each, gpus=0.0) for each in stages], [{"CPU": 1.0}])
    assert advised is not None
    assert sum(each.cpus * (each.actors or 1) for each in advised) <= 1


def test_places_that_others_hold_are_told() -> None:
    nodes = [{"CPU": 2.0}, {"CPU": 2.0}]
    stages = demands(0.5, 1, 0.5)
    assert waiting_line(stages, nodes, [{"CPU": 0.0}, {"CPU": 1.0}]) is None
    line = waiting_line(stages, nodes, [{}, {"CPU": 0.75}])
    assert line is not None
    assert "stage translate (1 CPU): of 4 CPU on 2 node(s) 0.75 CPU is free now" in line


def pool(actors: tuple[int | None, int | None] = (None, None), gpus: float = 0.0, cpus: float | None = None) -> Stage:
    return Stage(name="translate", make=lambda: lambda unit: unit, stall_s=1, cpus=cpus, gpus=gpus, actors=actors)


@pytest.mark.parametrize(
    ("stage", "nodes", "actors", "cpus"),
    [
        (pool(), [{"CPU": 2.0}], (1, 1), 1.0),
        (pool(), [{"CPU": 16.0}], (1, 1), 8.0),
        (pool(), [{"CPU": 1.0}], (1, 1), 0.0),  # decode and encode take all of it
        (pool(), [{"CPU": 8.0}, {"CPU": 16.0}, {"memory": 1e9}], (2, 2), 4.0),
        (pool(gpus=1.0), [{"CPU": 16.0, "GPU": 8.0}, {"CPU": 4.0}], (8, 8), 1.0),
        (pool(gpus=0.5), [{"CPU": 16.0, "GPU": 2.0}], (4, 4), 1.0),
        (pool(gpus=1.0), [{"CPU": 16.0}], (1, 1), 1.0),  # which the placement then refuses, with the reason
        (pool((3, None)), [{"CPU": 2.0}], (3, 3), 1.0),
        (pool((None, 8)), [{"CPU": 2.0}] * 4, (1, 8), 1.0),  # the pool grows with the cluster
        (pool((2, 8), cpus=6.0), [{"CPU": 8.0}], (2, 8), 6.0),
    ],
)
def test_a_pool_takes_what_the_cluster_has(
    stage: Stage, nodes: list[dict[str, float]], actors: tuple[int, int], cpus: float
) -> None:
    found = sized(stage, nodes)
    assert (found.actors, found.cpus) == (actors, cpus)


@pytest.mark.parametrize("cores", range(1, 65))
def test_the_default_pool_always_finds_its_place(cores: int) -> None:
    tasks = [Demand(name=name, cpus=0.5) for name in ("decode", "encode")]
    assert without_place([*tasks, demand_of(sized(pool(), [{"CPU": float(cores)}]))], [{"CPU": float(cores)}]) is None


def test_memory_that_is_missing_is_advised_on() -> None:
    gb = 10**9
    demands = [
        Demand(name="decode", cpus=0.5, memory=2 * gb),
        Demand(name="translate", cpus=1.0, memory=2 * gb, actors=1),
        Demand(name="encode", cpus=0.5, memory=2 * gb),
    ]
    check_placement(demands, [{"CPU": 2.0, "memory": 6.0 * gb}])
    with pytest.raises(UserError, match=r"3\.0 GB of memory.*this fits: --limits\.decoded_mb 333"):
        check_placement(demands, [{"CPU": 2.0, "memory": 3.0 * gb}])
    assert waiting_line(demands, [{"CPU": 2.0, "memory": 6.0 * gb}], [{"CPU": 2.0, "memory": 1.0 * gb}])
