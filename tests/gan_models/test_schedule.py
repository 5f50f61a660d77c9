"""The learning rate's table."""

import pytest

from gan_models import learning_rate_factor


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(1, 2.0e-4), (100, 2.0e-4), (101, 1.980198e-4), (150, 1.00990099e-4), (200, 1.980198e-6), (201, 0), (300, 0)],
)
def test_constant_then_linear_to_zero(epoch: int, rate: float) -> None:
    factor = learning_rate_factor(epoch, constant_epochs=100, decay_epochs=100)

    assert 2e-4 * factor == pytest.approx(rate, rel=1e-6)


def test_without_decay_it_is_constant_to_the_last_epoch() -> None:
    assert [learning_rate_factor(epoch, constant_epochs=3, decay_epochs=0) for epoch in (1, 2, 3)] == [1, 1, 1]


def test_epochs_count_from_one() -> None:
    with pytest.raises(ValueError, match="counted from 1"):
        learning_rate_factor(0, constant_epochs=1, decay_epochs=1)
