"""Image pool: it follows its decisions, which depend on seed, step and position alone."""

import pytest
import torch
from torch import Tensor

from gan_models import ImagePool, PoolDecision, pool_decisions

KEEP = PoolDecision(keep_new=True)


def images(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 2, 2).contiguous()


def seen(pool: ImagePool, new: Tensor, *decisions: PoolDecision) -> list[float]:
    return pool.query(new, decisions)[:, 0, 0, 0].tolist()


def held(pool: ImagePool) -> list[float]:
    return [] if pool.images is None else pool.images[:, 0, 0, 0].tolist()


def test_while_it_fills_an_image_comes_back_whatever_the_decision() -> None:
    pool = ImagePool(3)

    assert seen(pool, images(1), PoolDecision(False, 2)) == [1]
    assert seen(pool, images(2, 3), KEEP, PoolDecision(False, 0)) == [2, 3]
    assert held(pool) == [1, 2, 3]


def test_a_full_pool_keeps_or_swaps() -> None:
    pool = ImagePool(2)
    pool.query(images(1, 2), [KEEP, KEEP])

    assert seen(pool, images(3), KEEP) == [3]
    assert held(pool) == [1, 2]
    assert seen(pool, images(4), PoolDecision(False, 1)) == [2]
    assert held(pool) == [1, 4]


def test_images_of_one_batch_meet_in_order() -> None:
    pool = ImagePool(1)

    assert seen(pool, images(1, 2, 3), KEEP, PoolDecision(False, 0), PoolDecision(False, 0)) == [1, 1, 2]
    assert held(pool) == [3]


def test_a_pool_of_nothing_gives_back_what_it_gets() -> None:
    pool = ImagePool(0)

    assert seen(pool, images(1, 2), *pool_decisions(0, 0, "A", 2, 0)) == [1, 2]
    assert pool.images is None


def test_what_is_held_and_returned_is_apart_from_what_was_given() -> None:
    pool = ImagePool(1)
    given = images(1).requires_grad_()
    returned = pool.query(given, [KEEP])
    with torch.no_grad():
        given.zero_()

    assert not returned.requires_grad
    assert held(pool) == [1]
    old = pool.query(images(2), [PoolDecision(False, 0)])
    pool.query(images(3), [PoolDecision(False, 0)])
    assert old[0, 0, 0, 0] == 1


def test_a_resumed_pool_goes_on_the_same() -> None:
    whole, half = ImagePool(3), ImagePool(3)
    for step in range(5):
        whole.query(images(step), pool_decisions(1, step, "A", 1, 3))
    half.load_state_dict(whole.state_dict())
    for step in range(5, 20):
        decisions = pool_decisions(1, step, "A", 1, 3)
        assert torch.equal(whole.query(images(step), decisions), half.query(images(step), decisions))


def test_a_saved_pool_does_not_change_with_the_pool() -> None:
    pool = ImagePool(1)
    pool.query(images(1), [KEEP])
    state = pool.state_dict()
    pool.query(images(2), [PoolDecision(False, 0)])

    assert state["images"][0, 0, 0, 0] == 1


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="size is -1"):
        ImagePool(-1)
    with pytest.raises(ValueError, match="2 images came with 1 decisions"):
        ImagePool(3).query(images(1, 2), [KEEP])
    with pytest.raises(ValueError, match="keep pool_size"):
        ImagePool(3).load_state_dict(ImagePool(4).state_dict())
    pool = ImagePool(3)
    pool.query(images(1), [KEEP])
    with pytest.raises(ValueError, match=r"holds images of shape \[3, 2, 2\] and got \[3, 4, 4\]"):
        pool.query(torch.zeros(1, 3, 4, 4), [KEEP])


def test_decisions_are_a_function_of_seed_step_direction_and_position() -> None:
    decisions = pool_decisions(7, 3, "A", 40, 50)

    assert decisions == pool_decisions(7, 3, "A", 40, 50)
    assert decisions[:10] == pool_decisions(7, 3, "A", 10, 50)
    assert decisions != pool_decisions(8, 3, "A", 40, 50)
    assert decisions != pool_decisions(7, 4, "A", 40, 50)
    assert decisions != pool_decisions(7, 3, "B", 40, 50)


def test_decisions_do_not_change_between_versions() -> None:
    """A resumed run must decide as the run that it continues."""
    swapped = [PoolDecision(False, slot) for slot in (29, 18, 49)]

    assert pool_decisions(1, 2, "A", 4, 50) == [*swapped[:2], KEEP, swapped[2]]


def test_decisions_are_fair() -> None:
    decisions = [decision for step in range(200) for decision in pool_decisions(0, step, "B", 20, 4)]
    slots = [decision.slot for decision in decisions if not decision.keep_new]

    assert len(slots) / len(decisions) == pytest.approx(0.5, abs=0.03)
    for slot in range(4):
        assert slots.count(slot) / len(slots) == pytest.approx(0.25, abs=0.04)


def test_decisions_on_the_device_do_what_those_on_the_host_do() -> None:
    ours, theirs = ImagePool(5), ImagePool(5)
    for pool in (ours, theirs):
        pool.query(images(1, 2, 3, 4, 5), [KEEP] * 5)
    for step in range(20):
        new = images(*range(10 * step + 10, 10 * step + 14))
        decisions = pool_decisions(3, step, "A", 4, 5)
        keep_new = torch.tensor([decision.keep_new for decision in decisions])
        slots = torch.tensor([decision.slot for decision in decisions])
        assert torch.equal(ours.exchange(new, keep_new, slots), theirs.query(new, decisions))
        assert torch.equal(ours.images, theirs.images)


def test_a_pool_that_fills_takes_decisions_on_the_host_only() -> None:
    pool = ImagePool(2)
    pool.query(images(1), [KEEP])
    with pytest.raises(ValueError, match="not full yet"):
        pool.exchange(images(2), torch.tensor([True]), torch.tensor([0]))
