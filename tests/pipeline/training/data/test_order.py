import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.data import order as ordering
from pipeline.training.data.order import Order

sizes = st.integers(1, 60)


@st.composite
def orders(draw: st.DrawFn) -> Order:
    paired = draw(st.booleans())
    images_a = draw(sizes)
    return Order(
        seed=draw(st.integers(0, 2**31)),
        images_a=images_a,
        images_b=images_a if paired else draw(sizes),
        paired=paired,
        global_batch=draw(st.integers(1, 20)),
    )


def epoch_batches(order: Order, epoch: int) -> list[ordering.Samples]:
    first = epoch * order.steps_per_epoch
    return [ordering.global_batch(order, step) for step in range(first, first + order.steps_per_epoch)]


@given(orders(), st.integers(0, 1000))
def test_every_sample_comes_once_an_epoch_and_the_short_batch_is_kept(order: Order, epoch: int) -> None:
    batches = epoch_batches(order, epoch)
    numbers = np.concatenate([batch.number for batch in batches])
    assert sorted(numbers) == list(range(order.samples_per_epoch))
    assert {batch.epoch for batch in batches} == {epoch}
    assert [len(batch) for batch in batches[:-1]] == [order.global_batch] * (len(batches) - 1)
    assert 1 <= len(batches[-1]) <= order.global_batch


@given(orders(), st.integers(0, 50))
def test_every_image_of_a_is_used_in_each_epoch_and_pairs_stay_together(order: Order, epoch: int) -> None:
    batches = epoch_batches(order, epoch)
    assert {int(i) for batch in batches for i in batch.a} == set(range(order.images_a))
    for batch in batches:
        assert ((batch.b >= 0) & (batch.b < order.images_b)).all()
        if order.paired:
            assert (batch.a == batch.b).all()


@given(orders(), st.integers(0, 500), st.integers(1, 16))
def test_any_number_of_workers_computes_the_same_global_batch(order: Order, step: int, workers: int) -> None:
    whole = ordering.global_batch(order, step)
    parts = [whole.part(share) for share in ordering.shares(len(whole), workers)]
    for name in ("number", "a", "b"):
        assert np.concatenate([getattr(part, name) for part in parts]).tolist() == getattr(whole, name).tolist()
    counts = [len(part) for part in parts]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] - counts[-1] <= 1
    assert counts[0] >= 1


@given(orders(), st.integers(0, 500), st.integers(1, 16), st.integers(0, 40))
def test_crops_and_flips_do_not_depend_on_who_computes_them(order: Order, step: int, workers: int, room: int) -> None:
    whole = ordering.global_batch(order, step)
    for side in ("a", "b"):
        together = ordering.augmentation(order, whole, side, room=room, flip=True)
        assert ((together.top >= 0) & (together.top <= room) & (together.left >= 0) & (together.left <= room)).all()
        for share in ordering.shares(len(whole), workers):
            alone = ordering.augmentation(order, whole.part(share), side, room=room, flip=True)
            for name in ("top", "left", "flip"):
                assert getattr(alone, name).tolist() == getattr(together, name)[share].tolist()


@given(orders(), st.integers(0, 500))
def test_a_step_does_not_depend_on_the_steps_before_it(order: Order, step: int) -> None:
    straight = ordering.global_batch(order, step)
    ordering._permutation.cache_clear()
    assert ordering.global_batch(order, step).number.tolist() == straight.number.tolist()


def unpaired(**changes: int) -> Order:
    return Order(**({"seed": 3, "images_a": 400, "images_b": 300, "global_batch": 400} | changes), paired=False)


def test_epochs_seeds_and_purposes_have_numbers_of_their_own() -> None:
    order = unpaired()
    batch, other_epoch = ordering.global_batch(order, 0), ordering.global_batch(order, 1)
    other_seed = ordering.global_batch(unpaired(seed=4), 0)
    assert batch.number.tolist() != other_epoch.number.tolist() != other_seed.number.tolist()
    assert batch.b.tolist() != other_epoch.b.tolist()
    of_a = ordering.augmentation(order, batch, "a", room=30, flip=True)
    of_b = ordering.augmentation(order, batch, "b", room=30, flip=True)
    assert of_a.top.tolist() != of_b.top.tolist()
    assert of_a.top.tolist() != of_a.left.tolist()


def test_both_halves_of_a_pair_are_cropped_and_flipped_alike() -> None:
    order = Order(seed=0, images_a=50, images_b=50, paired=True, global_batch=50)
    batch = ordering.global_batch(order, 0)
    of_a, of_b = (ordering.augmentation(order, batch, side, room=30, flip=True) for side in ("a", "b"))
    assert all(getattr(of_a, name).tolist() == getattr(of_b, name).tolist() for name in ("top", "left", "flip"))


def test_draws_are_uniform() -> None:
    """Each of 31 offsets is within five standard deviations of its share over 40,000 samples; half are flipped."""
    order = unpaired(images_a=40_000, images_b=31, global_batch=40_000)
    batch = ordering.global_batch(order, 0)
    drawn = ordering.augmentation(order, batch, "a", room=30, flip=True)
    expected = 40_000 / 31
    for values in (drawn.top, drawn.left, batch.b):
        assert np.abs(np.bincount(values, minlength=31) - expected).max() < 5 * expected**0.5
    assert drawn.flip.mean() == pytest.approx(0.5, abs=0.0125)
    assert abs(np.corrcoef(drawn.top, drawn.left)[0, 1]) < 0.025


def test_the_order_is_fixed_for_ever() -> None:
    """A run that is resumed under a later version must see what it would have seen."""
    order = Order(seed=7, images_a=10, images_b=4, paired=False, global_batch=5)
    batch = ordering.global_batch(order, 3)
    found = [batch.number.tolist(), batch.b.tolist(), ordering.step_seed(7, 3, 1)]
    assert found == [[8, 9, 2, 4, 1], [2, 0, 0, 0, 3], 4068408819787575112]


def test_no_flips_where_none_are_wanted() -> None:
    order = unpaired()
    assert not ordering.augmentation(order, ordering.global_batch(order, 0), "a", room=0, flip=False).flip.any()
