from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.scores import metrics
from pipeline.scores.metrics import alike, l1, mean_image, ms_ssim, psnr, ssim
from pipeline.scores.table import metric_named

pictures = arrays(np.uint8, (4, 5, 3))
black = np.zeros((4, 5, 3), np.uint8)
white = np.full((4, 5, 3), 255, np.uint8)


def noisy(size: tuple[int, int], dtype: type[np.unsignedinteger]) -> tuple[np.ndarray, np.ndarray]:
    """Return a random image and the same with noise."""
    random, peak = np.random.default_rng(0), np.iinfo(dtype).max
    a = random.integers(0, peak, (*size, 3)).astype(dtype)
    return a, np.clip(a.astype(int) + random.integers(-peak // 9, peak // 9, a.shape), 0, peak).astype(dtype)


def test_black_against_white_is_the_worst_score() -> None:
    assert l1(black, white) == 1
    assert psnr(black, white) == 0


def test_scores_of_a_known_difference() -> None:
    picture = black.copy()
    picture[:2] = 51  # a fifth of the range in half of the rows
    assert l1(picture, black) == pytest.approx(0.1)
    assert psnr(picture, black) == pytest.approx(10 * np.log10(1 / (0.5 * 0.2**2)))


def test_equal_pictures_have_no_error_and_infinite_psnr() -> None:
    large = np.full((16, 16, 3), 255, np.uint8)
    assert (l1(large, large), psnr(large, large), ssim(large, large)) == (0, inf, pytest.approx(1))


def test_structural_similarity_needs_a_window() -> None:
    assert np.isnan(ssim(white, white))
    noise = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    assert -1 <= ssim(*noise) < 0.5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(11, 40), (64, 11), (90, 53)])
def test_structural_similarity_is_that_of_torchmetrics(
    size: tuple[int, int], dtype: type[np.unsignedinteger], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    random, peak = np.random.default_rng(0), np.iinfo(dtype).max
    a = random.integers(0, peak, (*size, 3)).astype(dtype)
    b = np.clip(a.astype(int) + random.integers(-peak // 9, peak // 9, a.shape), 0, peak).astype(dtype)
    b[:20, :20] = a[:20, :20] = 7  # even, where the variance is a small difference of large numbers
    tensors = (torch.tensor(each.astype(np.float64)).permute(2, 0, 1)[None] for each in (a, b))
    expected = float(structural_similarity_index_measure(*tensors, data_range=float(peak)))  # type: ignore[arg-type]
    assert ssim(a, b) == pytest.approx(expected, abs=1e-12)
    whole = l1(a, b), psnr(a, b)
    monkeypatch.setattr(metrics, "_STRIP_VALUES", 1)
    assert ssim(a, b) == pytest.approx(expected, abs=1e-12)
    assert (l1(a, b), psnr(a, b)) == whole


def test_a_score_is_of_its_metric_whatever_its_direction_or_features() -> None:
    found = {name: metric_named(name) for name in ("l1", "kid_lite", "kid_lite_back", "cycle_l1_back", "loss")}
    assert {name: metric and metric.name for name, metric in found.items()} == {
        "l1": "l1", "kid_lite": "kid", "kid_lite_back": "kid", "cycle_l1_back": "cycle_l1", "loss": None,
    }  # fmt: skip


@given(pictures, pictures)
@settings(max_examples=50)
def test_scores_are_symmetric_and_bounded(a: np.ndarray, b: np.ndarray) -> None:
    assert l1(a, b) == l1(b, a)
    assert psnr(a, b) == psnr(b, a)
    assert 0 <= l1(a, b) <= 1
    assert psnr(a, b) >= 0


@pytest.mark.parametrize("metric", [l1, psnr])
def test_what_cannot_be_compared_is_refused(metric) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"\(4, 5, 3\) and \(4, 5, 1\)"):
        metric(black, black[..., :1])
    with pytest.raises(ValueError, match=r"no pixels of 8 or 16 bits .*float64"):
        metric(black, black.astype(float))
    with pytest.raises(ValueError, match="have no pixels"):
        metric(black[:0], black[:0])


def test_mean_image_streams_and_rounds() -> None:
    levels = (value for value in (0, 1, 3, 3))
    mean = mean_image(np.full((2, 2, 3), level, np.uint8) for level in levels)
    np.testing.assert_array_equal(mean, np.full((2, 2, 3), 2, np.uint8))
    assert mean.dtype == np.uint8


@given(st.lists(pictures, min_size=1, max_size=6))
@settings(max_examples=30)
def test_mean_image_is_the_mean(images: list[np.ndarray]) -> None:
    assert np.abs(mean_image(images) - np.mean(images, axis=0)).max() <= 0.5 + 1e-9


def test_mean_image_needs_pictures_of_one_shape() -> None:
    with pytest.raises(ValueError, match=r"\(2, 5, 3\).*\(4, 5, 3\)"):
        mean_image([black, black[:2]])
    with pytest.raises(ValueError, match="no pictures"):
        mean_image([])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(176, 181), (203, 260)])
def test_multi_scale_similarity_is_that_of_torchmetrics(size: tuple[int, int], dtype: type[np.unsignedinteger]) -> None:
    import torch
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    a, b = noisy(size, dtype)
    tensors = (torch.tensor(each.astype(np.float64)).permute(2, 0, 1)[None] for each in (a, b))
    peak = float(np.iinfo(dtype).max)
    expected = float(multiscale_structural_similarity_index_measure(*tensors, data_range=peak))  # type: ignore[arg-type]
    assert ms_ssim(a, b) == pytest.approx(expected, abs=1e-7)
    assert ms_ssim(a, a) == pytest.approx(1)
    assert np.isnan(ms_ssim(a[:175], b[:175]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_scores_are_those_of_scikit_image(dtype: type[np.unsignedinteger]) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    a, b = noisy((90, 75), dtype)
    peak = int(np.iinfo(dtype).max)
    assert psnr(a, b) == pytest.approx(metrics.peak_signal_noise_ratio(a, b, data_range=peak), abs=1e-9)
    # At the border it mirrors with the edge twice, and we, like torchmetrics, without: compared are means inside of it,
    # of which ours is got from images that are equal in a frame around them.
    frame = np.ones(a.shape, bool)
    frame[15:-15, 15:-15] = False
    b[frame] = a[frame]
    _, values = metrics.structural_similarity(
        a, b, data_range=peak, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        win_size=11, full=True,
    )  # fmt: skip
    assert ssim(a, b) == pytest.approx(values.mean(), abs=1e-9)


def test_images_of_two_types_become_one() -> None:
    grey = np.full((4, 4, 1), 51, np.uint8)
    deep = np.full((4, 4, 3), 51 * 257, np.uint16)
    one, other = alike(grey, deep)
    assert (one.shape, one.dtype) == (other.shape, other.dtype) == ((4, 4, 3), np.uint16)
    assert l1(one, other) == 0
    with pytest.raises(ValueError, match="4 and 3 channels"):
        alike(np.zeros((4, 4, 4), np.uint8), deep)
