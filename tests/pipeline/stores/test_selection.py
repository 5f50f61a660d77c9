"""Selection of keys: shares, independence and repeatability."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stores.selection import Selection, splits

KEYS = [f"images/{i:05d}.jpg" for i in range(20_000)]


@given(st.text(), st.integers(0, 2**31), st.lists(st.floats(0.01, 1), min_size=1, max_size=5))
def test_each_key_is_in_exactly_one_split(key: str, seed: int, weights: list[float]) -> None:
    shares = {str(i): weight / sum(weights) for i, weight in enumerate(weights)}
    assert sum(split.wants(key) for split in splits(shares, seed).values()) == 1


@pytest.mark.parametrize("probability", [0.02, 0.5, 0.97])
def test_about_its_share_is_wanted(probability: float) -> None:
    found = sum(map(Selection(3, 0.0, probability, "night").wants, KEYS)) / len(KEYS)
    assert found == pytest.approx(probability, abs=0.015)  # four standard deviations at one half


def test_another_salt_or_seed_draws_anew() -> None:
    one, salted, seeded = (Selection(seed, 0.0, 0.5, salt) for seed, salt in ((0, "night"), (0, "rain"), (1, "night")))
    for other in (salted, seeded):
        both = sum(one.wants(key) and other.wants(key) for key in KEYS) / len(KEYS)
        assert both == pytest.approx(0.25, abs=0.015)
