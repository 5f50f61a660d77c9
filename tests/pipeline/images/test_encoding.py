"""Every codec and every type: there and back, and the same bytes wherever they are made."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline import images
from pipeline.images import RGB, Encoding, PixelType, decode, encode, misfit, size_of, type_of
from pipeline.images.encoding import CODECS
from tests.pipeline.images.files import drawn

LOSSLESS = {"png", "webp", "tiff"}
TYPES = [PixelType(channels, bits) for channels in (1, 2, 3, 4, 5, 40) for bits in (8, 16)]
HELD = [(codec, each) for codec in CODECS for each in TYPES if misfit(9, 9, codec, each) is None]


def test_the_codecs_hold_what_is_said() -> None:
    assert {codec: {str(each) for name, each in HELD if name == codec} for codec in CODECS} == {
        "jpeg": {"grey of 8 bits", "RGB of 8 bits"},
        "png": {"grey of 8 bits", "RGB of 8 bits", "grey of 16 bits", "RGB of 16 bits"},
        "webp": {"RGB of 8 bits"},
        "webp_lossy": {"RGB of 8 bits"},
        "tiff": {str(each) for each in TYPES},
        "avif": {"grey of 8 bits", "RGB of 8 bits"},
    }


def smooth(pixel_type: PixelType, height: int, width: int) -> np.ndarray:
    ramp = np.linspace(0.1, 0.8, height)[:, None, None] + np.linspace(0, 0.15, width)[None, :, None]
    return np.broadcast_to(ramp * pixel_type.peak, pixel_type.shape(height, width)).astype(pixel_type.dtype)


@pytest.mark.parametrize(("codec", "pixel_type"), HELD, ids=str)
def test_what_is_written_is_read(codec: images.CodecName, pixel_type: PixelType) -> None:
    lossless = codec in LOSSLESS
    for height, width in ((1, 1), (37, 50), (1, 300), (300, 1)):
        made = drawn if lossless else None
        pixels = (
            made(height, width, pixel_type.channels, pixel_type.bits) if made else smooth(pixel_type, height, width)
        )
        data = encode(pixels, Encoding(codec=codec))
        assert type_of(data) == pixel_type
        assert size_of(data) == (width, height)
        found = decode(data, wanted=None)
        assert found.pixels.dtype == pixels.dtype
        assert found.pixels.shape == pixels.shape
        assert np.abs(found.pixels.astype(int) - pixels).max() <= (0 if lossless else 6)
        assert found.notes == ()


@given(st.integers(1, 9), st.sampled_from([8, 16]), st.integers(1, 40), st.integers(1, 40), st.randoms())
def test_a_tiff_of_any_size_and_type(channels: int, bits: int, height: int, width: int, chance: object) -> None:
    pixels = drawn(height, width, channels, bits)
    assert np.array_equal(decode(encode(pixels, Encoding(codec="tiff")), wanted=None).pixels, pixels)


def test_a_tiff_of_many_strips() -> None:
    pixels = drawn(700, 300, 5, 16)
    assert np.array_equal(decode(encode(pixels, Encoding(codec="tiff")), wanted=None).pixels, pixels)


@pytest.mark.parametrize("pixel_type", [RGB, PixelType(1), PixelType(1, 16)], ids=str)
def test_pillow_reads_the_tiff(pixel_type: PixelType) -> None:
    pixels = drawn(37, 50, pixel_type.channels, pixel_type.bits)
    with Image.open(io.BytesIO(encode(pixels, Encoding(codec="tiff")))) as image:
        assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


SUMS = """
import hashlib, sys
from pipeline import images
from tests.pipeline.images.test_encoding import sums
print(*sums(), sep="\\n")
"""


def sums() -> list[str]:
    found = []
    for codec, pixel_type in HELD:
        pixels = drawn(61, 45, pixel_type.channels, pixel_type.bits)
        data = encode(pixels, Encoding(codec=codec, quality=80))  # type: ignore[arg-type]
        found.append(f"{codec} {pixel_type} {hashlib.sha256(data).hexdigest()}")
    return found


def test_the_same_pixels_give_the_same_bytes_in_every_process() -> None:
    path = os.pathsep.join(["tests/../", *sys.path])
    ended = subprocess.run(
        [sys.executable, "-c", SUMS], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, check=True
    )
    assert ended.stdout.splitlines() == sums()


def test_bytes_do_not_depend_on_where_the_pixels_lie() -> None:
    for codec, pixel_type in HELD:
        wide = drawn(30, 80, pixel_type.channels, pixel_type.bits)
        view, copy = wide[:, 10:50], wide[:, 10:50].copy()
        encoding = Encoding(codec=codec)  # type: ignore[arg-type]
        assert encode(view, encoding) == encode(copy, encoding), codec


def test_quality_is_that_of_the_lossy_codecs_alone() -> None:
    pixels = drawn(40, 40, 3, 8)
    for codec in ("jpeg", "webp_lossy", "avif", "png", "webp", "tiff"):
        low, high = (encode(pixels, Encoding(codec=codec, quality=quality)) for quality in (30, 90))
        assert (len(low) < len(high)) == (codec not in LOSSLESS)
        assert (low == high) == (codec in LOSSLESS)


@pytest.mark.parametrize(
    ("size", "codec", "pixel_type", "said"),
    [
        ((70_000, 1), "jpeg", RGB, "jpeg holds at most 65500 pixels a side, this picture has 70000 × 1"),
        ((9, 9), "webp", PixelType(1), "webp holds 3 channels of 8 bits, this picture has 1 channel of 8 bits"),
        ((9, 9), "tiff", PixelType(257), "tiff holds 1 to 256 channels of 8 or 16 bits, this picture has 257 channels"),
        ((9, 9), "jpeg", PixelType(5, 16), "this picture has 5 channels of 16 bits"),
        ((1_000_001, 1), "png", PixelType(3, 16), "png holds at most 1000000 pixels a side"),
        ((40_000, 40_000), "tiff", PixelType(3, 16), "tiff holds at most 4261412864 bytes"),
    ],
)
def test_a_misfit_says_why(size: tuple[int, int], codec: str, pixel_type: PixelType, said: str) -> None:
    assert said in str(misfit(*size, codec, pixel_type))
    assert misfit(9, 9, codec) is None


def test_the_largest_side_can_be_written_and_read() -> None:
    for codec, pixel_type in (("webp", RGB), ("webp_lossy", RGB), ("jpeg", RGB), ("png", PixelType(1, 16))):
        side = min(CODECS[codec].most_a_side, 1_000_000)
        data = encode(np.zeros(pixel_type.shape(1, side), pixel_type.dtype), Encoding(codec=codec))  # type: ignore[arg-type]
        assert decode(data, wanted=None).pixels.shape == (1, side, pixel_type.channels)


@pytest.mark.parametrize("size", [(20, 31), (90, 120), (37, 50)])
def test_every_type_is_resized_alike(size: tuple[int, int]) -> None:
    pixels = drawn(37, 50, 3, 8) // 4 + 90  # nothing overshoots, which integers would cut off between two passes
    expected = images.resize(pixels, size[1], size[0])
    grey = images.resize(pixels[..., 1:2], size[1], size[0])
    assert np.array_equal(grey, expected[..., 1:2])
    five = images.resize(np.concatenate([pixels, pixels[..., :2]], -1), size[1], size[0])
    assert np.array_equal(five, np.concatenate([expected, expected[..., :2]], -1))
    wide = images.resize(pixels.astype(np.uint16) * 257, size[1], size[0])
    assert wide.dtype == np.uint16
    assert np.abs(wide / 257 - expected).max() <= 1.5  # integers are rounded after each of two passes
    out = np.zeros((*size, 3), np.uint16)
    assert images.resize(pixels.astype(np.uint16) * 257, size[1], size[0], out) is out
    assert np.array_equal(out, wide)


def test_sums_differ() -> None:
    assert len({line.split()[-1] for line in sums()}) == len(HELD)
    assert all(len(line.split()[-1]) == len(hashlib.sha256().hexdigest()) for line in sums())
