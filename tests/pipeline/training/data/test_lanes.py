from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.data import lanes as laning
from pipeline.training.data import order as ordering
from pipeline.training.data.lanes import Lanes
from pipeline.training.data.order import Order, Side

row_counts = st.lists(st.integers(1, 9), min_size=1, max_size=9)


def lanes_of(rows_a: list[int], rows_b: list[int] | None = None, *, batch: int, buffer: int, seed: int = 0) -> Lanes:
    """Return lanes over row groups of these sizes; paired where only those of A are given."""
    sides = [np.concatenate([[0], np.cumsum(rows)]) for rows in (rows_a, rows_b or rows_a)]
    order = Order(
        seed=seed,
        images_a=int(sides[0][-1]),
        images_b=int(sides[1][-1]),
        paired=rows_b is None,
        global_batch=batch,
    )
    return Lanes(order=order, edges_a=sides[0], edges_b=sides[1], buffer=buffer)


@st.composite
def any_lanes(draw: st.DrawFn) -> Lanes:
    """Draw row groups of all sizes, with batches and buffers larger and smaller than the set."""
    return lanes_of(
        draw(row_counts),
        draw(st.none() | row_counts),
        batch=draw(st.integers(1, 40)),
        buffer=draw(st.integers(1, 12)),
        seed=draw(st.integers(0, 2**31)),
    )


def epoch_batches(lanes: Lanes, epoch: int) -> list[ordering.Samples]:
    first = epoch * lanes.order.steps_per_epoch
    return [laning.global_batch(lanes, step) for step in range(first, first + lanes.order.steps_per_epoch)]


@given(any_lanes(), st.integers(0, 1000))
def test_every_sample_comes_once_an_epoch_and_only_the_last_batch_is_short(lanes: Lanes, epoch: int) -> None:
    order, batches = lanes.order, epoch_batches(lanes, epoch)
    numbers = np.concatenate([batch.number for batch in batches])
    assert sorted(numbers) == list(range(order.samples_per_epoch))
    assert [len(batch) for batch in batches[:-1]] == [order.global_batch] * (len(batches) - 1)
    assert 1 <= len(batches[-1]) <= order.global_batch
    assert {batch.epoch for batch in batches} == {epoch}


@given(any_lanes(), st.integers(0, 50))
def test_images_of_the_smaller_side_come_equally_often_and_pairs_stay_together(lanes: Lanes, epoch: int) -> None:
    order, batches = lanes.order, epoch_batches(lanes, epoch)
    for side, images in (("a", order.images_a), ("b", order.images_b)):
        often = np.bincount(np.concatenate([getattr(batch, side) for batch in batches]), minlength=images)
        assert len(often) == images
        assert often.min() == order.samples_per_epoch // images
        assert often.max() == -(-order.samples_per_epoch // images)
    if order.paired:
        assert all((batch.a == batch.b).all() for batch in batches)


@given(any_lanes(), st.integers(0, 500))
def test_a_step_does_not_depend_on_the_steps_before_it(lanes: Lanes, step: int) -> None:
    straight = laning.global_batch(lanes, step)
    alone = laning.global_batch(
        Lanes(order=lanes.order, edges_a=lanes.edges_a, edges_b=lanes.edges_b, buffer=lanes.buffer), step
    )
    for name in ("number", "a", "b"):
        assert getattr(alone, name).tolist() == getattr(straight, name).tolist()


@given(any_lanes(), st.integers(0, 500))
def test_the_rows_of_two_buffers_are_known_ahead(lanes: Lanes, step: int) -> None:
    def buffer_of(step: int) -> tuple[int, int]:
        epoch, index = divmod(step, lanes.order.steps_per_epoch)
        return epoch, index // lanes.buffer

    until = laning.buffered_until(lanes, step)
    assert len({buffer_of(known) for known in range(step, until)}) == 2
    assert buffer_of(until) != buffer_of(until - 1)


def own_groups(lanes: Lanes, side: Side, lane: int, epoch: int) -> set[int]:
    batches = [batch for batch in epoch_batches(lanes, epoch) if len(batch) > lane]
    return set(laning.row_groups(lanes, side, np.array([getattr(batch, side)[lane] for batch in batches])).tolist())


@given(any_lanes(), st.integers(0, 20))
def test_lanes_share_row_groups_with_their_neighbours_only(lanes: Lanes, epoch: int) -> None:
    """The lanes own as many row groups in total as there are, plus one for each cut."""
    side: Side = "a" if lanes.order.images_a >= lanes.order.images_b else "b"
    count = min(lanes.order.global_batch, lanes.order.samples_per_epoch)
    owned = [own_groups(lanes, side, lane, epoch) for lane in range(count)]
    assert sum(map(len, owned)) <= len(lanes.edges(side)) - 1 + count - 1


@given(any_lanes(), st.integers(0, 20), st.integers(1, 16))
def test_a_rank_needs_each_row_group_in_one_go(lanes: Lanes, epoch: int, workers: int) -> None:
    """A rank needs a row group in consecutive buffers, from the first that holds its rows to the last, so it fetches it
    once.

    Tested for sides of equal size only, since a smaller side repeats.
    """
    order = lanes.order
    if order.images_a != order.images_b or order.samples_per_epoch % order.global_batch:
        return
    batches = epoch_batches(lanes, epoch)
    for share in ordering.shares(order.global_batch, workers):
        blocks: dict[int, set[int]] = {}
        for index, batch in enumerate(batches):
            for group in laning.row_groups(lanes, "a", batch.a[share]):
                blocks.setdefault(int(group), set()).add(index // lanes.buffer)
        for held in blocks.values():
            assert max(held) - min(held) == len(held) - 1


def test_a_lane_of_one_row_group_and_batches_larger_than_the_set() -> None:
    lanes = lanes_of([5], batch=8, buffer=3)
    assert sorted(laning.global_batch(lanes, 0).a) == [0, 1, 2, 3, 4]
    assert lanes.order.steps_per_epoch == 1
    lanes = lanes_of([3], batch=1, buffer=128)
    assert sorted(int(laning.global_batch(lanes, step).a[0]) for step in range(3)) == [0, 1, 2]


def test_a_buffer_mixes_the_rows_of_its_lane() -> None:
    """A buffer mixes only these: with a buffer of one, the rows of a row group follow on one another."""
    plain, mixed = (lanes_of([50] * 8, batch=2, buffer=size) for size in (1, 100))
    steps = [np.array([batch.a for batch in epoch_batches(lanes, 0)]) for lanes in (plain, mixed)]
    jumps = [np.abs(np.diff(rows, axis=0)) == 1 for rows in steps]
    assert jumps[0].mean() > 0.9
    assert jumps[1].mean() < 0.05
    assert (plain.window, mixed.window) == (2, 200)


def test_epochs_seeds_and_sides_have_an_order_of_their_own() -> None:
    lanes, other = (lanes_of([20] * 5, [20] * 5, batch=100, buffer=1, seed=seed) for seed in (0, 1))
    batches = [laning.global_batch(*which) for which in ((lanes, 0), (lanes, 1), (other, 0))]
    found = [batch.a.tolist() for batch in batches] + [batches[0].b.tolist()]
    assert all(left != right for left, right in itertools.combinations(found, 2))


def test_the_order_is_fixed_for_ever() -> None:
    """A run that is resumed under a later version must see what it would have seen."""
    lanes = lanes_of([3, 4, 5], [2, 3], batch=4, buffer=2, seed=7)
    found = [laning.global_batch(lanes, step) for step in (0, 4)]
    assert [(batch.a.tolist(), batch.b.tolist()) for batch in found] == [
        ([5, 7, 10, 0], [3, 1, 4, 0]),
        ([4, 0, 7, 9], [1, 3, 4, 0]),
    ]
