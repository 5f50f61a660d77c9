"""Files that hold several pictures: set aside, or their first one where it is asked for."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from pipeline.images import BadImage, PixelType, decode, type_of
from tests.pipeline.images.files import drawn, picture, png, png_chunk, saved, tiff

FRAMES = [picture(), picture()[::-1].copy(), picture()[:, ::-1].copy()]


def animated(kind: str, mode: str = "RGB", **options: object) -> bytes:
    first, *others = (Image.fromarray(frame).convert(mode) for frame in FRAMES)
    return saved(first, kind, save_all=True, append_images=others, **options)


SEVERAL = {
    "PNG": animated("PNG"),
    "WEBP": animated("WEBP", lossless=True),
    "TIFF": animated("TIFF"),
    "TIFF of 16 bits": tiff(*((frame.astype(np.uint16) * 257, {}) for frame in FRAMES)),
    "AVIF": animated("AVIF", quality=100, subsampling="4:4:4"),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_the_first_is_taken_on_request_alone(kind: str) -> None:
    data, wide = SEVERAL[kind], kind.endswith("16 bits")
    with pytest.raises(BadImage) as caught:
        decode(data, wanted=None)
    assert caught.value.reason == "several pictures"
    assert kind.split()[0].lower() in str(caught.value).lower()
    found = decode(data, wanted=None, pages="first").pixels
    expected = FRAMES[0].astype(found.dtype) * (257 if wide else 1)
    assert PixelType.of(found) == type_of(data) == PixelType(3, 16 if wide else 8)
    assert np.abs(found.astype(int) - expected).max() <= (3 if kind == "AVIF" else 0)


def test_an_animation_of_16_bits_shows_its_still_picture() -> None:
    pixels = drawn(9, 11, 3, 16)
    still = png(11, 16, 2, [row.astype(">u2").tobytes() for row in pixels])
    data = still[:33] + png_chunk(b"acTL", b"\0\0\0\2\0\0\0\0") + still[33:]
    with pytest.raises(BadImage, match="2 frames"):
        decode(data, wanted=None)
    assert np.array_equal(decode(data, wanted=None, pages="first").pixels, pixels)


@pytest.mark.parametrize("frames", [1, 3])
def test_a_gif_is_read_on_request_alone(frames: int) -> None:
    few = [Image.fromarray(frame // 64 * 64) for frame in FRAMES[:frames]]
    data = saved(few[0], "GIF", save_all=True, append_images=few[1:])
    with pytest.raises(BadImage, match="GIF, whose first frame is read only where it is asked for") as caught:
        decode(data)
    assert caught.value.reason == "unsupported format"
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB"))
    found = decode(data, pages="first")
    assert found.format == "GIF"
    assert np.array_equal(found.pixels, expected)
    assert np.array_equal(imagecodecs.gif_decode(data, index=0)[..., :3], expected)


def test_what_is_transparent_in_a_gif_shows_white() -> None:
    rgba = np.concatenate([picture() // 64 * 64, np.full((24, 40, 1), 255, np.uint8)], -1)
    rgba[:5, :, 3] = 0
    found = decode(saved(Image.fromarray(rgba), "GIF"), pages="first").pixels
    assert (found[:5] == 255).all()
    assert (found[5:, :20] != 255).any()


def test_depth_is_no_pages() -> None:
    with pytest.raises(BadImage, match="8 planes in depth"):
        decode(tiff((picture()[..., :1], {32997: ("I", [8])})), pages="first")


def test_one_picture_is_not_several() -> None:
    for kind in ("PNG", "WEBP", "TIFF", "AVIF"):
        data = saved(Image.fromarray(picture()), kind, save_all=True)
        assert np.array_equal(decode(data).pixels, decode(data, pages="first").pixels)
