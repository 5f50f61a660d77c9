from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.images import BadImage, decode
from tests.pipeline.images.files import exif, picture, png, png_chunk, saved

PLAIN = saved(Image.fromarray(picture()), "PNG")
BEHIND_HEADER, BEFORE_END = 33, len(PLAIN) - 12
PALETTE = bytes(range(48))


@pytest.mark.parametrize("colour_type", [0, 2, 4, 6])
def test_16_bits_are_set_aside_where_8_are_wanted(colour_type: int) -> None:
    channels = {0: "1 channel", 2: "3 channels", 4: "1 channel", 6: "3 channels"}[colour_type]
    with pytest.raises(
        BadImage, match=f"^PNG has {channels} of 16 bits, and 3 channels of 8 bits are wanted$"
    ) as caught:
        decode(png(1, 16, colour_type, [bytes(8)[: 2 * {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]]]))
    assert caught.value.reason == "unsupported type"


def test_the_depth_is_that_of_the_header_wherever_it_stands() -> None:
    wide = png(1, 16, 2, [bytes(6)])
    moved = wide[:8] + png_chunk(b"pHYs", bytes(9)) + wide[8:]
    with pytest.raises(BadImage, match="16 bits a sample"):
        decode(moved)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(2, 8, 2, [bytes([1, 2, 3, 4, 5, 6])], (b"tRNS", struct.pack(">HHH", 1, 2, 3))), [[255] * 3, [4, 5, 6]]),
        (png(2, 8, 2, [bytes([1, 2, 3, 4, 5, 6])], (b"tRNS", struct.pack(">HHH", 257, 2, 3))), [[255] * 3, [4, 5, 6]]),
        (png(2, 8, 0, [bytes([7, 8])], (b"tRNS", b"\0\7")), [[255] * 3, [8] * 3]),
        (png(4, 2, 0, [b"\x1b"], (b"tRNS", b"\0\2")), [[0] * 3, [85] * 3, [255] * 3, [255] * 3]),
        (png(2, 4, 0, [b"\x56"], (b"tRNS", b"\0\5")), [[255] * 3, [102] * 3]),
        (png(2, 1, 0, [b"\x40"], (b"tRNS", b"\0\0")), [[255] * 3, [255] * 3]),
        (png(2, 8, 3, [bytes([1, 2])], (b"PLTE", PALETTE), (b"tRNS", b"\xff\0")), [[255] * 3, [6, 7, 8]]),
        (png(2, 4, 3, [b"\x12"], (b"PLTE", PALETTE), (b"tRNS", b"\xff\x80")), [[129, 130, 130], [6, 7, 8]]),
        (png(1, 8, 4, [bytes([10, 0])]), [[255] * 3]),
    ],
)
def test_what_is_transparent_shows_white(data: bytes, expected: list[list[int]]) -> None:
    assert np.abs(decode(data).pixels[0].astype(int) - expected).max() <= 1


@pytest.mark.parametrize("at", [BEHIND_HEADER, BEFORE_END])
@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"tEXt", b"Comment\0" + b"a" * 5_000_000),
        png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20_000_000))),
        png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_000_000))) * 70,
        png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(20_000_000))),
        png_chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(20_000_000))),
        png_chunk(b"iCCP", b"profile\0\0broken"),
        png_chunk(b"pHYs", b"x"),
        png_chunk(b"tEXt", b"a\0b")[:-1] + b"!",
        png_chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
    ],
    ids=["text", "compressed", "many", "international", "profile", "broken profile", "density", "checksum", "exif"],
)
def test_what_is_no_part_of_the_picture_does_not_condemn_it(chunk: bytes, at: int) -> None:
    assert np.array_equal(decode(PLAIN[:at] + chunk + PLAIN[at:]).pixels, picture())


def test_the_orientation_is_read_where_texts_have_to_be_left_out() -> None:
    more = png_chunk(b"eXIf", exif({274: ("H", [6])})) + png_chunk(b"tEXt", b"C\0" + b"a" * 5_000_000)
    decoded = decode(PLAIN[:BEHIND_HEADER] + more + PLAIN[BEHIND_HEADER:])
    assert decoded.orientation == 6
    assert np.array_equal(decoded.pixels, np.rot90(picture(), -1))


def test_damaged_pixels_are_found() -> None:
    damaged = bytearray(PLAIN)
    damaged[len(PLAIN) // 2] ^= 0x55
    for data in (bytes(damaged), PLAIN[: len(PLAIN) // 2]):
        with pytest.raises(BadImage) as caught:
            decode(data)
        assert caught.value.reason == "corrupt"


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_an_animation_is_several_pictures(format: str) -> None:
    frames = [Image.fromarray(picture()), Image.fromarray(picture()[::-1].copy())]
    with pytest.raises(BadImage, match="2 frames") as caught:
        decode(saved(frames[0], format, save_all=True, append_images=frames[1:]))
    assert caught.value.reason == "several pictures"
