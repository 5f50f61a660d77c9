from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.images import BadImage, decode
from tests.pipeline.images.files import picture, saved

PLAIN = saved(Image.fromarray(picture(200, 300)), "JPEG", quality=90)
PIXELS = np.asarray(Image.open(io.BytesIO(PLAIN)))
TABLES = PLAIN.index(b"\xff\xdb")
PROGRESSIVE = saved(Image.fromarray(picture(200, 300)), "JPEG", quality=90, progressive=True)


def with_sampling(*factors: int) -> bytes:
    """Return the file with other sampling factors in its header: an image of noise, but a whole one."""
    data, frame = bytearray(PLAIN), PLAIN.index(b"\xff\xc0")
    for i, factor in enumerate(factors):
        data[frame + 11 + 3 * i] = factor
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        PLAIN + b"trailing bytes" * 100,
        PLAIN[:TABLES] + b"\0" * 5 + PLAIN[TABLES:],
        PLAIN[:-2] + b"\x12\x34\x56" + PLAIN[-2:],
        PLAIN[:TABLES] + b"\0" * 5 + PLAIN[TABLES:-2] + b"\x12\x34\x56" + PLAIN[-2:],
        PLAIN[:2] + b"\xff\xe2\x00\x14ICC_PROFILE\0\x05\x01broke" + PLAIN[2:],
        PLAIN[:2] + b"\xff\xe2\x00\x10MPF\0II*\0\xff\xff\xff\xff\0\0" + PLAIN[2:],
    ],
    ids=["trailing", "in the header", "before the end", "both", "profile", "further views"],
)
def test_stray_bytes_are_left_out(data: bytes) -> None:
    assert np.abs(decode(data).pixels.astype(int) - PIXELS).max() <= 1


@pytest.mark.parametrize("factors", [(0x31, 0x11, 0x11), (0x22, 0x12, 0x21), (0x11, 0x22, 0x11), (0x24, 0x11, 0x11)])
def test_samplings_that_the_fast_decoder_refuses_are_read(factors: tuple[int, ...]) -> None:
    data = with_sampling(*factors)
    assert np.array_equal(decode(data).pixels, np.asarray(Image.open(io.BytesIO(data))))
    with pytest.raises(BadImage) as caught:
        decode(data[:-1000])
    assert caught.value.reason == "corrupt"


@pytest.mark.parametrize(
    "data",
    [
        PLAIN[:-2],
        PLAIN[: len(PLAIN) // 2],
        PLAIN[: len(PLAIN) // 2] + b"\xff\xd9",
        PLAIN[:3000] + PLAIN[4000:],
        PLAIN[:TABLES] + b"\0" * 5 + PLAIN[TABLES:-900],
        PLAIN[:TABLES] + b"\0" * 5 + PLAIN[TABLES:-900] + b"\xff\xd9",
        PLAIN[:-2] + b"\x12" * 3000 + PLAIN[-2:],
        PROGRESSIVE[: len(PROGRESSIVE) // 2],
    ],
)
def test_missing_parts_are_found(data: bytes) -> None:
    with pytest.raises(BadImage) as caught:
        decode(data)
    assert caught.value.reason == "corrupt"


@pytest.mark.parametrize(
    ("marker", "bits", "channels", "message"),
    [(0xC1, 12, 3, "12 bits"), (0xC3, 8, 3, "lossless"), (0xC3, 16, 1, "16 bits"), (0xC0, 8, 2, "2 channels")],
)
def test_kinds_that_are_no_8_bit_pictures_are_named(marker: int, bits: int, channels: int, message: str) -> None:
    data, frame = bytearray(PLAIN), PLAIN.index(b"\xff\xc0")
    data[frame + 1], data[frame + 4], data[frame + 9] = marker, bits, channels
    with pytest.raises(BadImage, match=message) as caught:
        decode(bytes(data))
    assert caught.value.reason == "unsupported mode"


def test_the_first_view_of_a_phone_or_stereo_camera_is_the_picture() -> None:
    views = [Image.fromarray(picture()), Image.fromarray(picture()[::-1].copy())]
    data = saved(views[0], "MPO", save_all=True, append_images=views[1:])
    assert np.abs(decode(data).pixels.astype(int) - picture()).mean() < 3


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colour_models_come_out_as_they_look(mode: str) -> None:
    red = Image.new("RGB", (16, 16), (200, 30, 30)).convert(mode)
    expected = np.asarray(red.convert("RGB")).astype(int)
    assert np.abs(decode(saved(red, "JPEG", quality=95)).pixels - expected).max() < 8
