"""Another type of pixels goes through whatever asks for the type: 16 bits and another number of channels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline import images
from pipeline.images import RGB, PixelType
from pipeline.images.encoding import CODECS, Codec
from pipeline.models.arithmetic import exact
from pipeline.models.translator import Translator
from pipeline.scores.metrics import l1, mean_image, psnr, ssim
from pipeline.stores.tables.ranges import Range, Ranges
from pipeline.training.data.loader import Source, Sources
from pipeline.translation.frames import frames_of
from tests.frames import batch_of

GREY = PixelType(1, bits=16)


def drawn(pixel_type: PixelType, height: int, width: int) -> np.ndarray:
    shape = pixel_type.shape(height, width)
    return np.random.default_rng(height).integers(0, pixel_type.peak, shape, pixel_type.dtype, endpoint=True)


def test_a_type_says_what_an_array_of_it_is() -> None:
    assert PixelType.of(drawn(RGB, 2, 3)) == RGB
    assert (RGB.dtype, RGB.peak, RGB.bytes, RGB.shape(2, 3), str(RGB)) == (np.uint8, 255, 3, (2, 3, 3), "RGB of 8 bits")
    assert (GREY.dtype, GREY.peak, GREY.bytes, str(GREY)) == (np.uint16, 65535, 2, "grey of 16 bits")
    for array in (np.zeros((2, 3), np.uint8), np.zeros((2, 3, 3)), np.zeros((2, 3, 3), np.int16)):
        with pytest.raises(ValueError, match="no pixels of 8 or 16 bits"):
            PixelType.of(array)


@pytest.mark.parametrize("pixel_type", [RGB, GREY, PixelType(5)])
def test_frames_travel_as_they_are(pixel_type: PixelType) -> None:
    frames = [drawn(pixel_type, height, 3) for height in (1, 4)]
    batch = batch_of(pa.table({"key": ["a", "b"]}), frames)
    assert all(map(np.array_equal, frames_of(batch, pixel_type), frames))


@pytest.mark.parametrize("pixel_type", [RGB, GREY, PixelType(5)])
def test_a_network_that_changes_nothing_gives_the_pixels_back(pixel_type: PixelType) -> None:
    translator = Translator(torch.nn.Identity(), exact("cpu", batch=2), takes=pixel_type, gives=pixel_type)
    frames = [drawn(pixel_type, height, 7) for height in (3, 3, 5)]
    translated, faults = translator(frames)
    assert not faults
    for i, frame in enumerate(frames):
        # Truncation, as in the published scripts, may cost one step.
        assert set(np.unique(frame.astype(int) - translated[i])) <= {0, 1}
        assert PixelType.of(translated[i]) == pixel_type


def test_a_network_refuses_pixels_of_another_type() -> None:
    translator = Translator(torch.nn.Identity(), exact("cpu", batch=1))
    with pytest.raises(TypeError, match=r"^the network takes RGB of 8 bits, not grey of 16 bits$"):
        translator([drawn(GREY, 3, 3)])


def test_scores_are_on_one_scale_for_all_types() -> None:
    eight, other = drawn(RGB, 16, 16), drawn(RGB, 17, 16)[:16]
    wide, also = (each.astype(np.uint16) * 257 for each in (eight, other))
    for score in (l1, psnr, ssim):
        assert score(wide, also) == pytest.approx(score(eight, other), rel=1e-6)
    assert mean_image([wide, wide]).dtype == np.uint16
    with pytest.raises(ValueError, match="RGB of 8 bits and RGB of 16 bits cannot be compared"):
        l1(eight, also)


def test_a_decoded_set_takes_what_its_two_types_take() -> None:
    ranges = Ranges.of([Range("s", "u/s", "v", 0, 2, 9)])
    a, b = (Source(url="s", column="image", ranges=ranges, pixel_type=each) for each in (GREY, RGB))
    assert (a.shape(8), b.shape(8)) == ((2, 8, 8, 1), (2, 8, 8, 3))
    assert Sources(a=a, b=b).decoded_bytes(8) == 2 * 64 * (2 + 3)


def test_a_codec_writes_the_types_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Codec(extension="raw", most_a_side=9, write=lambda pixels, _: pixels.tobytes(), pixel_types=(GREY,))
    monkeypatch.setitem(CODECS, "raw", raw)
    encoding = images.Encoding(codec="raw")  # type: ignore[arg-type]
    assert images.encode(drawn(GREY, 2, 2), encoding) == drawn(GREY, 2, 2).tobytes()
    with pytest.raises(ValueError, match="raw takes 1 channel of 16 bits, not 3 channels of 8 bits"):
        images.encode(drawn(RGB, 2, 2), encoding)
