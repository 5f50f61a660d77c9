from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pipeline import images
from pipeline.images import BadImage, Encoding, decode, encode
from tests.pipeline.images.files import picture, saved


@pytest.mark.parametrize("codec", ["png", "webp", "tiff"])
def test_lossless_codecs_give_back_the_pixels(codec: images.CodecName) -> None:
    assert np.array_equal(decode(encode(picture(), Encoding(codec=codec))).pixels, picture())


def test_jpeg_is_close() -> None:
    smooth = np.broadcast_to(np.linspace(20, 220, 64, dtype=np.uint8)[None, :, None], (48, 64, 3))
    assert np.abs(decode(encode(smooth, Encoding())).pixels.astype(int) - smooth).max() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied_as_pillow_does(orientation: int, format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}}.get(format, {})
    data = saved(Image.fromarray(picture(24, 40)), format, exif=exif, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    decoded = decode(data)
    assert decoded.orientation == orientation
    assert np.abs(decoded.pixels.astype(int) - expected.astype(int)).max() <= (3 if format == "JPEG" else 0)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "RGBA", "LA"])
def test_other_modes_become_rgb(mode: str) -> None:
    image = Image.new(mode, (8, 6))
    format = "TIFF" if mode == "CMYK" else "PNG"
    assert decode(saved(image, format)).pixels.shape == (6, 8, 3)


def test_alpha_is_composited_over_white() -> None:
    assert decode(saved(Image.new("RGBA", (2, 2), (0, 0, 0, 0)), "PNG")).pixels.min() == 255


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"this is no picture", "not an image"),
        (saved(Image.fromarray(picture()), "JPEG")[:-100], "corrupt"),
        (saved(Image.fromarray(picture()), "PNG")[:-60], "corrupt"),
        (saved(Image.new("I;16", (4, 4)), "PNG"), "unsupported type"),
        (saved(Image.new("F", (4, 4)), "TIFF"), "unsupported mode"),
        (b"GIF89a" + bytes(20), "unsupported format"),
    ],
)
def test_a_bad_image_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage) as caught:
        decode(data)
    assert caught.value.reason == reason
    assert "0x7" not in str(caught.value)


def test_too_large_is_seen_in_the_header() -> None:
    data = saved(Image.new("RGB", (100, 100)), "PNG")
    with pytest.raises(BadImage, match=r"^PNG: 100 × 100 pixels are more than 5000$"):
        decode(data, max_pixels=5000)


REASONS = {
    "empty", "not an image", "too large", "corrupt", "unsupported format", "unsupported mode", "unsupported type",
    "several pictures",
}  # fmt: skip


@given(st.binary(max_size=200), st.integers(0, 5000), st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "TIFF"]))
def test_damage_is_found_or_harmless_never_another_error(noise: bytes, at: int, format: str) -> None:
    data = bytearray(saved(Image.fromarray(picture()), format))
    at %= len(data)
    data[at : at + len(noise)] = noise
    try:
        assert decode(bytes(data)).pixels.dtype == np.uint8
    except BadImage as bad:
        assert bad.reason in REASONS  # noqa: PT017


def test_encode_refuses_what_is_no_picture() -> None:
    with pytest.raises(ValueError, match="no pixels of 8 or 16 bits"):
        encode(np.zeros((4, 4, 3), np.float32), Encoding())
