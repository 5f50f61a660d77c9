from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.recipe import Change, differences, fingerprint

# Names have no dot, since a dot separates the levels.
recipes = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["x", "y"]),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
).map(lambda value: value if isinstance(value, dict) else {"a": value})


@given(recipes, recipes)
def test_recipes_differ_in_something_exactly_where_their_fingerprints_do(one: Any, other: Any) -> None:
    assert (differences(one, other) == []) == (fingerprint(one) == fingerprint(other))


def test_a_change_has_the_name_of_its_level_and_a_tuple_is_a_list() -> None:
    before = {"model": {"width": 4, "betas": (0.5, 0.9)}, "seed": 1}
    now = {"model": {"width": 8, "betas": [0.5, 0.9]}, "limit": None}
    assert differences(before, now) == [
        Change("limit", "absent", None),
        Change("model.width", 4, 8),
        Change("seed", 1, "absent"),
    ]
