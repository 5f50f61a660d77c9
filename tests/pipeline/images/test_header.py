"""Sizes that the first bytes of a file promise, and decoding into memory that the caller has."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.images import BadImage, decode, size_of
from tests.pipeline.images.files import picture, saved

SAVED = [
    ("PNG", {}, "RGB"),
    ("PNG", {}, "P"),
    ("JPEG", {}, "RGB"),
    ("JPEG", {"progressive": True, "exif": b"Exif\0\0" + b"\0" * 40_000}, "L"),
    ("WEBP", {}, "RGB"),
    ("WEBP", {}, "RGBA"),
    ("WEBP", {"lossless": True}, "RGB"),
    ("WEBP", {"lossless": True}, "RGBA"),
    ("TIFF", {}, "RGB"),
    ("TIFF", {"compression": "tiff_lzw"}, "CMYK"),
    ("BMP", {}, "RGB"),
]


@pytest.mark.parametrize(("kind", "options", "mode"), SAVED)
def test_the_header_says_what_decoding_gives(kind: str, options: dict[str, object], mode: str) -> None:
    data = saved(Image.fromarray(picture()).resize((61, 37)).convert(mode), kind, **options)
    assert size_of(data) == size_of(memoryview(data)) == (61, 37)
    assert decode(data).pixels.shape == (37, 61, 3)


@pytest.mark.parametrize(("kind", "options", "mode"), SAVED)
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_pixels_are_where_the_caller_wants_them(
    kind: str, options: dict[str, object], mode: str, orientation: int
) -> None:
    image = Image.fromarray(picture()).resize((61, 37)).convert(mode)
    if kind in ("PNG", "JPEG", "WEBP") and "exif" not in options:
        exif = Image.Exif()
        exif[274] = orientation
        options = options | {"exif": exif}
    data = saved(image, kind, **options)
    room = np.full(61 * 37 * 3 + 5, 7, np.uint8)
    found = decode(data, room=room)
    assert np.shares_memory(found.pixels, room)
    assert np.array_equal(found.pixels, decode(data).pixels)
    assert found.pixels.ravel().tobytes() == room[:-5].tobytes()
    assert room[-5:].tolist() == [7] * 5
    small = decode(data, room=room[:100])
    assert not np.shares_memory(small.pixels, room)
    assert np.array_equal(small.pixels, found.pixels)


@given(st.binary(max_size=80), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*"]))
def test_no_bytes_are_too_strange_for_a_look_at_the_header(data: bytes, start: bytes) -> None:
    width, height = size_of(start + data)
    assert width >= 0
    assert height >= 0


@given(st.sampled_from(SAVED), st.data())
def test_damaged_files_have_some_size_or_none(how: tuple[str, dict[str, object], str], data: st.DataObject) -> None:
    kind, options, mode = how
    whole = bytearray(saved(Image.fromarray(picture()).convert(mode), kind, **options))
    for _ in range(3):
        whole[data.draw(st.integers(0, min(len(whole) - 1, 200)))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    assert all(side >= 0 for side in size_of(cut))


def test_a_large_picture_with_alpha_is_the_same_in_strips() -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (1200, 1500, 4), np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, exact=True)
    white = Image.new("RGBA", image.size, "white")
    expected = np.asarray(Image.alpha_composite(white, image).convert("RGB"))
    assert np.array_equal(decode(buffer.getvalue()).pixels, expected)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    assert np.array_equal(decode(buffer.getvalue()).pixels, expected)


def test_a_cut_webp_is_corrupt() -> None:
    data = saved(Image.fromarray(picture()), "WEBP")
    with pytest.raises(BadImage) as found:
        decode(data[: len(data) // 2])
    assert found.value.reason == "corrupt"
