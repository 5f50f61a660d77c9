"""FID and KID: closed forms, the arithmetic of others, and independence of order and batches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline.cluster import hardware
from pipeline.scores.sets import distances, intervals
from pipeline.scores.sets.distances import Gaussian, Kernel, KernelSums, frechet, largest_subset
from pipeline.scores.sets.pairs import add_all_pairs, all_pairs
from pipeline.scores.sets.sampling import Sample, Sampler, places
from pipeline.scores.sets.sums import Mean, Moments, Scale, moments

SIZE = 12


def kernel_distance(real: Sample, other: Sample, **options: int) -> Kernel:
    sums = KernelSums(real, other, **options)  # type: ignore[arg-type]
    add_all_pairs(real, other, sums)
    return sums.distance()


def drawn(count: int, seed: int, mean: float = 0.0, spread: float = 1.0) -> np.ndarray:
    """Return features of a Gaussian, float32."""
    return (np.random.default_rng(seed).normal(size=(count, SIZE)) * spread + mean).astype(np.float32)


def of(features: np.ndarray) -> Moments:
    return moments([features], Scale.of(float(np.abs(features).max()), len(features)))


def gaussian(features: np.ndarray) -> Gaussian:
    return Gaussian.of(of(features), sample(features))


def sample(features: np.ndarray, keys: str = "key") -> Sample:
    sampler = Sampler(len(features))
    sampler.add(places([f"{keys}{i}" for i in range(len(features))], 0), features)
    return sampler.sample()


def whitened(count: int, seed: int) -> np.ndarray:
    """Return features whose mean is exactly 0 and whose covariance is exactly 1, but for rounding."""
    x = np.random.default_rng(seed).normal(size=(count, SIZE))
    x -= x.mean(0)
    return x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T


@pytest.mark.parametrize("count", [8 * SIZE, SIZE // 2 + 1])
def test_fid_of_gaussians_is_the_closed_form(count: int) -> None:
    x, shift = (whitened(count, 0) if count > SIZE else drawn(count, 0)), 0.7
    covariance = np.cov(x.T)
    assert frechet(gaussian(x), of(x + shift)) == pytest.approx(SIZE * shift**2, abs=1e-4)
    # Spread by 3: tr S + 9 tr S - 2 · 3 tr S = 4 tr S.
    about = x - x.mean(0)
    assert frechet(gaussian(about), of(3 * about)) == pytest.approx(4 * np.trace(covariance), rel=1e-4)


def test_fid_is_that_of_torchmetrics_and_zero_for_equal_sets() -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Given(nn.Identity):
        num_features = SIZE

    real, other = drawn(300, 0), drawn(200, 1, 0.3, 1.5)
    metric = FrechetInceptionDistance(feature=Given()).set_dtype(torch.float64)
    metric.update(torch.from_numpy(real).double(), real=True)
    metric.update(torch.from_numpy(other).double(), real=False)
    assert frechet(gaussian(real), of(other)) == pytest.approx(float(metric.compute()), abs=1e-4)
    assert frechet(gaussian(real), of(real)) == pytest.approx(0, abs=1e-6)


def test_kid_of_identical_sets_is_zero_within_its_error() -> None:
    for seed in range(5):
        features = drawn(400, seed)
        same = sample(features)
        kid = kernel_distance(same, same, size=150, subsets=50)
        assert abs(kid.mean) <= 2 * kid.standard_error
        assert kid.standard_error > 0


def test_kid_of_gaussians_is_the_closed_form() -> None:
    # E (x·y / d + 1)³ for independent x ~ N(a, 1) and y ~ N(b, 1) in d dimensions, all entries of a, and of b, alike:
    # x·y / d has the mean m = ab, the variance v = (1 + a² + b²) / d and the third central moment 6ab / d².
    shift, count, d = 0.8, 1500, SIZE
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(count, d)), rng.normal(size=(count, d)) + shift

    def expected(one: float, other: float) -> float:
        m = one * other
        variance = (1 + one**2 + other**2) / d
        third = 6 * one * other / d**2  # third central moment of the mean of d products of independent normals
        return (m + 1) ** 3 + 3 * (m + 1) * variance + third

    closed = expected(0, 0) + expected(shift, shift) - 2 * expected(0, shift)
    kid = kernel_distance(sample(a), sample(b, "other"), size=400, subsets=20)
    assert kid.mean == pytest.approx(closed, abs=4 * kid.standard_error)
    assert kid.standard_error < 0.2 * closed


def test_a_subset_never_has_an_image_in_both_sets() -> None:
    one, other = places([f"k{i}" for i in range(50)], 0), places([f"k{i}" for i in range(20, 60)], 0)
    one, other = np.sort(one), np.sort(other)
    most = largest_subset(Sample(one, one), Sample(other, other))
    assert most == min(50, 40) - 15
    for draw in range(20):
        rows = distances._drawn(one, other, most, draw)
        assert [len(each) for each in rows] == [most, most]
        assert not set(one[rows[0]].tolist()) & set(other[rows[1]].tolist())


def test_kid_is_that_of_torchmetrics_subset_by_subset_on_any_number_of_threads() -> None:
    from torchmetrics.image.kid import poly_mmd

    real, other = sample(drawn(700, 0)), sample(drawn(600, 1, 0.3), "other")
    kid = kernel_distance(real, other, size=90, subsets=7, seed=2)
    for subset, found in enumerate(kid.values):
        rows = distances._drawn(real.places, other.places, 90, 14 + subset)
        pair = (torch.from_numpy(s.values[r].astype(np.float64)) for s, r in zip((real, other), rows, strict=True))
        assert found == pytest.approx(float(poly_mmd(*pair)), rel=1e-4, abs=1e-5)
    with hardware.torch_threads(2):
        again = all_pairs(real, other)
        products = [block.products for block in again]
    for block, expected in zip(all_pairs(real, other), products, strict=True):
        assert torch.equal(block.products, expected)
        assert torch.equal(block.products, block.products.round())


def test_kid_of_whole_sets_does_not_say_how_sure_it_is() -> None:
    real, other = sample(drawn(40, 0)), sample(drawn(40, 1), "other")
    assert math.isnan(kernel_distance(real, other, size=40, subsets=5).standard_error)


def test_the_error_of_kid_is_that_of_other_images_of_the_same_kind() -> None:
    def kid(seed: int) -> distances.Kernel:
        one, other = sample(drawn(200, seed)), sample(drawn(200, 1000 + seed, 0.5), "other")
        return kernel_distance(one, other, size=100, subsets=20)

    found = [kid(seed) for seed in range(30)]
    spread = np.std([each.mean for each in found])
    assert 0.7 < np.mean([each.standard_error for each in found]) / spread < 1.5


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(1e-6, 1e6))
@settings(max_examples=30)
def test_no_digit_depends_on_order_or_batches(seed: int, batch: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    features, keys = drawn(60, seed, spread=spread), [f"k{i}" for i in range(60)]
    order = rng.permutation(60)
    scale = Scale.of(float(np.abs(features).max()), 60)
    whole = moments([features], scale)
    mixed = features[order]
    parts = moments((mixed[i : i + batch] for i in range(0, 60, batch)), scale)
    np.testing.assert_array_equal(parts.products, whole.products)
    np.testing.assert_array_equal(parts.total, whole.total)
    assert np.abs(whole.mean - features.mean(0, dtype=np.float64)).max() <= 1e-5 * spread * 10
    one, other = Sampler(25), Sampler(25)
    one.add(places(keys, 1), features)
    for i in range(0, 60, batch):
        other.add(places([keys[k] for k in order[i : i + batch]], 1), mixed[i : i + batch])
    np.testing.assert_array_equal(one.sample().values, other.sample().values)
    values = features[:, 0].astype(np.float64)
    first, last = Mean(), Mean()
    first.add(values)
    for value in values[order]:
        last.add(np.array([value]))
    assert first.value == last.value == pytest.approx(math.fsum(values) / 60, rel=1e-12, abs=1e-20)


def test_a_mean_counts_what_is_missing_and_infinite() -> None:
    mean = Mean()
    mean.add(np.array([1.0, math.nan, math.inf, 4.0]))
    assert (mean.value, mean.missing, mean.infinite, mean.count) == (2.5, 1, 1, 2)
    assert math.isnan(Mean().value)


def test_features_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="no finite numbers"):
        Scale.of(math.nan, 3)


def test_the_bootstrap_has_the_error_of_a_mean_and_of_fid() -> None:
    values = np.random.default_rng(0).normal(size=2500)
    assert intervals.mean_replicates(values, 2500).standard_error == pytest.approx(1 / 50, rel=0.1)
    assert intervals.mean_replicates(values, 250_000).standard_error == pytest.approx(1 / 500, rel=0.1)
    real = gaussian(drawn(2000, 9))
    spread = np.std([frechet(real, of(drawn(200, seed, 0.3))) for seed in range(60)])
    found = intervals.frechet_replicates(real, drawn(200, 77, 0.3), 200).standard_error
    assert 0.5 < found / spread < 2
