from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.images import BadImage, PixelType, decode, type_of
from tests.pipeline.images.files import exif, picture, saved, tiff

WITH_ALPHA = np.concatenate([picture(), picture()[..., :1]], -1)


def over_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    alpha = alpha.astype(int)
    return (colours.astype(int) * alpha + 255 * (255 - alpha) + 127) // 255


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_once(orientation: int, compression: str | None) -> None:
    data = saved(Image.fromarray(picture()), "TIFF", tiffinfo={274: orientation}, compression=compression)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    decoded = decode(data)
    assert decoded.orientation == orientation
    assert np.array_equal(decoded.pixels, expected)
    upright = {1: picture(), 3: picture()[::-1, ::-1], 6: np.rot90(picture(), -1), 8: np.rot90(picture())}
    assert np.array_equal(decoded.pixels, upright.get(orientation, expected))


@pytest.mark.parametrize(
    "tag", [("s", b"6\0"), ("f", [6.0]), ("H", [6, 6]), ("H", [0]), ("H", [9]), ("B", [6]), ("H", [6] * 9), ("s", b"")]
)
def test_an_odd_orientation_is_none(tag: tuple[str, list[int]]) -> None:
    decoded = decode(tiff((picture(), {274: tag})))
    assert decoded.orientation == 1
    assert np.array_equal(decoded.pixels, picture())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("pages", "message"),
    [
        ([(picture().astype(np.uint32), {})], "32 bits a sample"),
        ([(picture(), {339: ("H", [2, 2, 2])})], "signed integers"),
        ([(picture()[..., :1], {339: ("H", [2])})], "signed integers"),
        ([(np.concatenate([WITH_ALPHA, WITH_ALPHA[..., :1]], -1), {338: ("H", [2, 1])})], "several alpha channels"),
        ([(WITH_ALPHA.astype(np.uint16), {262: ("H", [5])})], "4 channels of 16 bits, of colour model CMYK"),
        ([(picture(), {258: ("H", [12, 12, 12])})], "12 bits a sample"),
        ([(picture()[..., :1], {262: ("H", [32803])})], "colour filter array"),
        ([(WITH_ALPHA, {262: ("H", [5]), 332: ("H", [2])})], "inks other than CMYK"),
        ([(picture(), {262: ("H", [6])})], "subsampling"),
        ([(picture(), {259: ("H", [34892])})], "compression 34892"),
        ([(picture(), {254: ("I", [1])}), (picture(), {})], "reduced one of another"),
    ],
)
def test_what_would_be_cut_down_is_an_unsupported_mode(order: str, pages: list, message: str) -> None:
    with pytest.raises(BadImage, match=message) as caught:
        decode(tiff(*pages, order=order))
    assert caught.value.reason == "unsupported mode"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("page", "found"),
    [
        ((picture().astype(np.uint16), {}), "3 channels of 16 bits"),
        ((picture()[..., :1].astype(np.uint16), {}), "1 channel of 16 bits"),
        ((WITH_ALPHA.astype(np.uint16), {338: ("H", [2])}), "3 channels of 16 bits"),
        ((WITH_ALPHA[..., :2].astype(np.uint16), {338: ("H", [2]), 262: ("H", [1])}), "1 channel of 16 bits"),
        ((np.concatenate([picture(), picture()], -1), {}), "6 channels of 8 bits"),
        ((WITH_ALPHA, {338: ("H", [0])}), "4 channels of 8 bits"),
        ((WITH_ALPHA, {}), "4 channels of 8 bits"),
        ((WITH_ALPHA[..., :2], {262: ("H", [1]), 338: ("H", [0])}), "2 channels of 8 bits"),
        ((np.concatenate([WITH_ALPHA, WITH_ALPHA[..., :1]], -1), {338: ("H", [2, 0])}), "4 channels of 8 bits"),
    ],
)
def test_another_type_than_is_wanted_is_named(order: str, page: tuple, found: str) -> None:
    data = tiff(page, order=order)
    with pytest.raises(BadImage, match=f"^TIFF has {found}, and 3 channels of 8 bits are wanted$") as caught:
        decode(data)
    assert caught.value.reason == "unsupported type"
    taken = PixelType.of(decode(data, wanted=None).pixels)
    assert taken == type_of(data)
    assert taken.numbers == found


@pytest.mark.parametrize(
    "pages",
    [
        [(picture(), {}), (picture(), {})],
        [(picture(), {}), (picture(), {254: ("I", [2])})],
        [(picture()[..., :1], {270: ("s", b"ImageJ=1.53\nimages=4\nslices=4\n\0")})],
        [(picture()[..., :1], {32997: ("I", [8])})],
    ],
)
def test_pages_are_several_pictures(pages: list) -> None:
    with pytest.raises(BadImage) as caught:
        decode(tiff(*pages))
    assert caught.value.reason == "several pictures"


@pytest.mark.parametrize("second", [{254: ("I", [1])}, {254: ("I", [4])}, {255: ("H", [2])}])
def test_a_reduced_version_or_a_mask_is_no_further_picture(second: dict) -> None:
    assert np.array_equal(decode(tiff((picture(), {}), (picture(8, 8), second))).pixels, picture())


def test_alpha_is_composited_over_white_whichever_way_it_is_stored() -> None:
    colours, alpha = WITH_ALPHA[..., :3], WITH_ALPHA[..., 3:]
    assert np.array_equal(decode(tiff((WITH_ALPHA, {338: ("H", [2])}))).pixels, over_white(colours, alpha))
    multiplied = np.concatenate([(colours.astype(int) * alpha // 255).astype(np.uint8), alpha], -1)
    got = decode(tiff((multiplied, {338: ("H", [1])}))).pixels.astype(int)
    assert np.abs(got - (multiplied[..., :3].astype(int) + 255 - alpha)).max() <= 1
    grey = np.concatenate([multiplied[..., :1], alpha], -1)
    got = decode(tiff((grey, {262: ("H", [1]), 338: ("H", [1])}))).pixels.astype(int)
    assert np.abs(got - (grey[..., :1].astype(int) + 255 - alpha)).max() <= 1


def test_lab_becomes_the_colour_that_it_names() -> None:
    lab = np.array([[[136, 208, 195], [255, 0, 0], [0, 0, 0], [207, 20, 35]]], np.uint8)  # red, white, black, orange
    red, white, black, _ = decode(tiff((lab, {262: ("H", [8])}))).pixels[0].astype(int)
    assert white.min() > 250 and black.max() < 5  # noqa: PT018
    a_negative = decode(tiff((np.array([[[200, 200, 60]]], np.uint8), {262: ("H", [8])}))).pixels[0, 0].astype(int)
    assert a_negative[1] > a_negative[0]  # green: its a is below zero
    assert red.shape == (3,)


def test_tags_that_lie_over_each_other_do_not_fill_the_memory() -> None:
    bomb = bytearray(tiff((np.zeros((600, 600, 3), np.uint8), {})))
    entries = b"".join(struct.pack("<HHII", 40000 + i, 1, 1_000_000, 8) for i in range(2000))
    where = struct.unpack_from("<I", bomb, 4)[0]
    plain = bytes(bomb[where + 2 : where + 2 + 9 * 12])
    bomb[4:8] = struct.pack("<I", len(bomb))
    bomb += struct.pack("<H", 2009) + plain + entries + bytes(4)
    with pytest.raises(BadImage, match="over each other"):
        decode(bytes(bomb))


def test_a_directory_that_points_at_itself_ends() -> None:
    data = bytearray(tiff((picture(), {})))
    data[-4:] = data[4:8]
    assert np.array_equal(decode(bytes(data)).pixels, picture())


def test_the_orientation_in_exif_of_another_format_may_be_broken() -> None:
    for body in (b"", b"garbage", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", exif({274: ("s", b"6\0")})):
        for format in ("JPEG", "WEBP"):
            assert decode(saved(Image.fromarray(picture()), format, exif=b"Exif\0\0" + body)).orientation == 1
