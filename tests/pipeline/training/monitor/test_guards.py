from __future__ import annotations

import math

from pipeline.training.monitor.guards import exploded, idle_discriminators, not_finite

STEADY = [{"g_l1": 10.0 + i % 3, "d_real": 0.5, "d_fake": 0.4} for i in range(30)]


def line(**changes: float) -> dict[str, float]:
    return STEADY[0] | changes


def test_what_is_no_number_is_named() -> None:
    assert not_finite(line(g_l1=math.nan, d_fake=-math.inf)) == ["g_l1 is nan", "d_fake is -inf"]
    assert not_finite(line()) == []


def test_a_loss_far_above_its_recent_median_is_named() -> None:
    assert exploded(STEADY, line(g_l1=1.2e4), 1000) == ["g_l1 is 1.2e+04, more than 1000 times its recent median of 11"]
    assert exploded(STEADY, line(g_l1=-1.2e4), 1000)
    assert exploded(STEADY, line(g_l1=1e4), 1000) == []


def test_a_discriminator_that_comes_back_from_zero_is_no_explosion() -> None:
    assert exploded([line(d_real=1e-6)] * 30, line(d_real=5.0), 1000) == []


def test_nothing_explodes_before_there_is_a_history_or_where_it_is_switched_off() -> None:
    assert exploded(STEADY[:9], line(g_l1=1e9), 1000) == []
    assert exploded(STEADY, line(g_l1=1e9), 0) == []


def test_only_the_recent_losses_count() -> None:
    assert exploded([line(g_l1=1e6)] * 500 + [line(g_l1=1.0)] * 100, line(g_l1=2000.0), 1000)


def test_a_discriminator_is_idle_after_twenty_lines_about_zero() -> None:
    idle = [line(d_real=4e-4, d_fake=4e-4)] * 20
    assert idle_discriminators(STEADY + idle) == {"the discriminator": 20}
    assert idle_discriminators(STEADY + idle[1:]) == {}
    assert idle_discriminators([*idle, line(), *idle[1:]]) == {}
    assert idle_discriminators([line(d_real=4e-4, d_fake=0.5)] * 20) == {}  # one part alone says nothing
    assert idle_discriminators([]) == {}


def test_each_discriminator_of_cyclegan_is_looked_at_by_itself() -> None:
    assert idle_discriminators([{"d_A": 1e-5, "d_B": 0.2, "g_AB": 1e-9}] * 25) == {"d_A": 25}


def test_a_critic_that_is_below_zero_is_not_idle() -> None:
    assert idle_discriminators([{"d_A": -5.0}] * 25) == {}
