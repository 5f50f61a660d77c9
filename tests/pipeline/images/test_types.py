"""Every format, type and orientation, as it is read and as an independent reader reads it."""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Callable

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline import images
from pipeline.images import RGB, BadImage, PixelType, decode, size_of, type_of
from pipeline.images.formats.tiff import samples
from tests.pipeline.images.files import drawn, over_white, picture, png, png_chunk, saved, tiff, tiff_of_parts, upright

HEIGHT, WIDTH = 19, 26
Case = tuple[bytes, np.ndarray, float]
"""A file, its pixels as another reader has them before any turn, and the largest difference that is due."""


def with_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def source(mode: str) -> Image.Image:
    rgba = Image.fromarray(drawn(HEIGHT, WIDTH, 4, 8))
    smooth = Image.fromarray(picture(HEIGHT, WIDTH))
    return rgba.convert(mode) if mode.endswith("A") else smooth.convert(mode)


def by_pillow(data: bytes) -> np.ndarray:
    """Return what Pillow reads of a file, upright, alpha over white, grey as one channel."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    grey = image.mode in ("1", "L", "LA")
    if "transparency" in image.info or image.mode in ("LA", "RGBA"):
        found = over_white(np.asarray(image.convert("RGBA")))
    else:
        found = np.asarray(image.convert("RGB")).astype(float)
    return found[..., :1] if grey else found


PILLOW = [
    *(("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
    *(("JPEG", mode, {}) for mode in ("L", "RGB", "CMYK")),
    *(("WEBP", mode, {"lossless": True}) for mode in ("RGB", "RGBA")),
    ("WEBP", "RGBA", {}),
    *(("TIFF", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")),
    *(("TIFF", mode, {"compression": "tiff_lzw"}) for mode in ("L", "RGB", "RGBA")),
    *(("AVIF", mode, {}) for mode in ("L", "RGB", "RGBA")),
]
NEAR = {"JPEG": 3, "WEBP": 1, "AVIF": 1, "PNG": 0.6, "TIFF": 0.6}
"""Largest difference: fast decoders of JPEG round otherwise, and alpha is rounded."""


@pytest.mark.parametrize(("kind", "mode", "options"), PILLOW, ids=lambda each: str(each))
def test_what_pillow_reads_is_read_alike_in_all_orientations(kind: str, mode: str, options: dict) -> None:
    for orientation in range(1, 9):
        data = saved(source(mode), kind, exif=with_exif(orientation), **options)
        found, expected = decode(data, wanted=None), by_pillow(data)
        assert found.orientation == orientation
        assert found.format == kind
        assert PixelType.of(found.pixels) == type_of(data) == PixelType(expected.shape[2])
        assert size_of(data) == (WIDTH, HEIGHT)
        assert found.pixels.shape == expected.shape
        assert np.abs(found.pixels - expected).max() <= NEAR[kind]
        colours = decode(data).pixels
        assert colours.shape[2] == 3
        assert np.array_equal(np.broadcast_to(found.pixels, colours.shape), colours)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.parametrize("kind", ["BMP", "GIF"])
def test_formats_without_orientation(kind: str, mode: str) -> None:
    data = saved(source(mode), kind)
    found, expected = decode(data, wanted=None, pages="first"), by_pillow(data)
    assert PixelType.of(found.pixels) == type_of(data) == PixelType(expected.shape[2])
    assert np.array_equal(found.pixels, expected)


def wide_png(pixels: np.ndarray, *extra: tuple[bytes, bytes]) -> bytes:
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[pixels.shape[2]]
    return png(pixels.shape[1], 16, colour_type, [row.astype(">u2").tobytes() for row in pixels], *extra)


def exif_chunk(orientation: int) -> tuple[bytes, bytes]:
    return b"eXIf", with_exif(orientation).tobytes().removeprefix(b"Exif\0\0")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits(channels: int) -> None:
    pixels = drawn(HEIGHT, WIDTH, channels, 16)
    for orientation in range(1, 9):
        data = wide_png(pixels, exif_chunk(orientation))
        assert np.array_equal(imagecodecs.png_decode(data).reshape(pixels.shape), pixels)
        expected = upright(over_white(pixels) if channels in (2, 4) else pixels.astype(float), orientation)
        found = decode(data, wanted=None)
        assert found.orientation == orientation
        assert PixelType.of(found.pixels) == type_of(data) == PixelType(1 if channels < 3 else 3, 16)
        assert np.abs(found.pixels - expected).max() <= 0.5


def test_a_transparent_colour_of_16_bits_shows_white() -> None:
    pixels = drawn(HEIGHT, WIDTH, 3, 16)
    pixels[3:5] = (300, 44, 65000)  # the low bytes of the first alone are those of the second
    pixels[6:8] = (44, 44, 65000)
    found = decode(wide_png(pixels, (b"tRNS", struct.pack(">HHH", 300, 44, 65000))), wanted=None).pixels
    expected = pixels.copy()
    expected[3:5] = 65535
    assert np.array_equal(found, expected)
    grey = pixels[..., :1]
    found = decode(wide_png(grey, (b"tRNS", struct.pack(">H", 300))), wanted=None).pixels
    assert np.array_equal(found, np.where(grey == 300, 65535, grey))


def test_an_interlaced_png_of_16_bits() -> None:
    pixels = drawn(HEIGHT, WIDTH, 3, 16)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [row.astype(">u2").tobytes() for y, x, down, right in passes for row in pixels[y::down, x::right]]
    data = bytearray(png(WIDTH, 16, 2, rows))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 1)
    data[8:33] = png_chunk(b"IHDR", header)
    assert np.array_equal(decode(bytes(data), wanted=None).pixels, pixels)


def hand_made(channels: int, bits: int, orientation: int, order: str, planar: bool, tiled: bool, packed: str) -> Case:
    """Return a TIFF of plain channels in one of the many layouts."""
    pixels = drawn(HEIGHT, WIDTH, channels, bits)
    stored = pixels.astype(pixels.dtype.newbyteorder(order))
    planes = [stored[..., i : i + 1] for i in range(channels)] if planar else [stored]
    rows, columns = (16, 16) if tiled else (7, WIDTH)
    parts = []
    for plane in planes:
        for top, left in itertools.product(range(0, HEIGHT, rows), range(0, WIDTH, columns)):
            part = plane[top : top + rows, left : left + columns]
            if tiled:
                part = np.pad(part, ((0, rows - part.shape[0]), (0, columns - part.shape[1]), (0, 0)))
            if packed == "deflate+differences":
                part = imagecodecs.delta_encode(np.ascontiguousarray(part.astype(pixels.dtype)), axis=1)
                part = part.astype(pixels.dtype.newbyteorder(order))
            parts.append(compressed(packed, np.ascontiguousarray(part)))
    tags = {
        256: ("I", [WIDTH]), 257: ("I", [HEIGHT]), 258: ("H", [bits] * channels), 259: ("H", [CODES[packed]]),
        262: ("H", [2 if channels == 3 else 1]), 274: ("H", [orientation]), 277: ("H", [channels]),
        284: ("H", [2 if planar else 1]), 317: ("H", [2 if packed == "deflate+differences" else 1]),
    }  # fmt: skip
    tags |= {322: ("I", [columns]), 323: ("I", [rows])} if tiled else {278: ("I", [rows])}
    if channels not in (1, 3):
        tags[338] = ("H", [0] * (channels - 1))
    return tiff_of_parts(parts, tags, tiled=tiled, order=order), pixels, 0


CODES = {
    "none": 1,
    "lzw": 5,
    "deflate": 8,
    "deflate+differences": 8,
    "packbits": 32773,
    "zstd": 50000,
    "jpeg2000": 34712,
}


def compressed(packed: str, part: np.ndarray) -> bytes:
    if packed == "jpeg2000":
        native = part.astype(part.dtype.newbyteorder("="))
        native = native[..., 0] if native.shape[2] == 1 else native
        return imagecodecs.jpeg2k_encode(native, level=0, codecformat="j2k", reversible=True)
    encode: dict[str, Callable[[bytes], bytes]] = {
        "none": bytes,
        "lzw": imagecodecs.lzw_encode,
        "packbits": imagecodecs.packbits_encode,
        "zstd": imagecodecs.zstd_encode,
    }
    return encode.get(packed, imagecodecs.zlib_encode)(part.tobytes())


LAYOUTS = [
    each
    for each in itertools.product((1, 2, 3, 5), (8, 16), ("<", ">"), (False, True), (False, True), CODES)
    if not (each[5] == "jpeg2000" and each[0] > 3 and not each[3])
]


def misread(channels: int, bits: int, order: str, planar: bool, tiled: bool, packed: str, orientation: int) -> str:
    """Return what is wrong with a TIFF of this layout as it is read, or nothing."""
    data, pixels, _ = hand_made(channels, bits, orientation, order, planar, tiled, packed)
    try:
        found = decode(data, wanted=None)
    except BadImage as error:
        return str(error)
    if found.orientation != orientation:
        return f"orientation {found.orientation}"
    if not PixelType.of(found.pixels) == type_of(data) == PixelType(channels, bits):
        return f"{PixelType.of(found.pixels)} of {type_of(data)}"
    return "" if np.array_equal(found.pixels, upright(pixels, orientation)) else "other pixels"


# One test for the layouts of a type: pytest would hold each of the hundreds of them, in every run that asks for none.
@pytest.mark.parametrize("packed", CODES)
def test_a_tiff_of_any_layout(packed: str) -> None:
    cases = [(*each, turn) for each in LAYOUTS[::9] for turn in (1, 6) if each[5] == packed]  # 7 would be one packing
    assert len(cases) > 10
    assert {case: wrong for case in cases if (wrong := misread(*case))} == {}


@pytest.mark.long
@pytest.mark.parametrize(("channels", "bits"), list(itertools.product((1, 2, 3, 5), (8, 16))))
def test_a_tiff_of_every_layout(channels: int, bits: int) -> None:
    cases = [(*each, turn) for each in LAYOUTS for turn in range(1, 9) if each[:2] == (channels, bits)]
    assert len(cases) > 350
    assert {case: wrong for case in cases if (wrong := misread(*case))} == {}


TIFFFILE = [
    (channels, bits, planar, tile, compression)
    for channels, bits in itertools.product((1, 3, 5), (8, 16))
    for planar, tile in ((False, None), (True, None), (False, (16, 16)), (True, (16, 32)))
    for compression in (None, "lzw", "zlib", "jpeg2000")
    if not (planar and channels == 1)
]


@pytest.mark.parametrize(("channels", "bits", "planar", "tile", "compression"), TIFFFILE[::5])
def test_files_of_tifffile(channels: int, bits: int, planar: bool, tile: tuple | None, compression: str | None) -> None:
    tifffile = pytest.importorskip("tifffile", reason="tifffile, an independent reader and writer, is not installed")
    pixels = drawn(HEIGHT * 3, WIDTH * 3, channels, bits)
    buffer = io.BytesIO()
    options = {"compressionargs": {"reversible": True, "level": 0}} if compression == "jpeg2000" else {}
    tifffile.imwrite(
        buffer,
        pixels.transpose(2, 0, 1) if planar else pixels if channels > 1 else pixels[..., 0],
        photometric="rgb" if channels == 3 else "minisblack",
        planarconfig="separate" if planar else "contig" if channels > 1 else None,
        tile=tile,
        compression=compression,
        predictor=compression in ("lzw", "zlib"),
        rowsperstrip=None if tile else 16,
        metadata=None,
        **options,
    )
    data = buffer.getvalue()
    again = tifffile.imread(io.BytesIO(data))
    again = again.transpose(1, 2, 0) if planar else again.reshape(pixels.shape)
    assert np.array_equal(again, pixels)
    assert np.array_equal(decode(data, wanted=None).pixels, pixels)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("channels", "bits"), [(1, 8), (3, 8), (3, 16), (5, 16)])
def test_large_files_of_tifffile(order: str, channels: int, bits: int) -> None:
    tifffile = pytest.importorskip("tifffile", reason="tifffile, an independent reader and writer, is not installed")
    pixels = drawn(HEIGHT, WIDTH, channels, bits)
    options = {"photometric": "rgb" if channels == 3 else "minisblack", "metadata": None}
    stored, together = (pixels, "contig") if channels > 1 else (pixels[..., 0], None)
    tifffile.imwrite(buffer := io.BytesIO(), stored, bigtiff=True, byteorder=order, planarconfig=together, **options)
    assert np.array_equal(decode(buffer.getvalue(), wanted=None).pixels, pixels)
    few = io.BytesIO()
    tifffile.imwrite(few, pixels[..., 0] > 9, bigtiff=True, byteorder=order, **options | {"photometric": "minisblack"})
    if order == ">":
        with pytest.raises(BadImage, match="BigTIFF of big-endian numbers"):
            decode(few.getvalue())


def test_tifffile_reads_what_is_written() -> None:
    tifffile = pytest.importorskip("tifffile", reason="tifffile, an independent reader and writer, is not installed")
    for channels, bits in itertools.product((1, 2, 3, 4, 5), (8, 16)):
        pixels = drawn(HEIGHT, WIDTH, channels, bits)
        data = images.encode(pixels, images.Encoding(codec="tiff"))
        assert np.array_equal(tifffile.imread(io.BytesIO(data)).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("packed", CODES)
def test_a_part_that_is_missing_is_found(packed: str, tiled: bool) -> None:
    data, pixels, _ = hand_made(3, 16, 1, "<", False, tiled, packed)
    assert np.array_equal(decode(data, wanted=None).pixels, pixels)
    found = samples(data)
    assert found is not None
    *before, last = found.sizes
    for harmed in (0, last // 2, last - 4, 2**31):
        made = data.replace(pack_longs(*found.sizes), pack_longs(*before, harmed))
        assert made != data
        with pytest.raises(BadImage) as caught:
            decode(made, wanted=None)
        assert caught.value.reason == "corrupt"


def pack_longs(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def test_alpha_goes_and_other_channels_stay_wherever_they_stand() -> None:
    for bits in (8, 16):
        pixels = drawn(HEIGHT, WIDTH, 6, bits)
        colours = over_white(pixels[..., [0, 1, 2, 4]])
        found = decode(tiff((pixels, {338: ("H", [0, 2, 0])})), wanted=None).pixels
        assert np.array_equal(found[..., 3:], pixels[..., [3, 5]])
        assert np.abs(found[..., :3] - colours).max() <= 0.5
        grey = decode(tiff((pixels[..., :2], {262: ("H", [1]), 338: ("H", [2])})), wanted=None).pixels
        assert np.abs(grey - over_white(pixels[..., :2])).max() <= (1 if bits == 8 else 0.5)
    peak = 65535
    alpha = pixels[..., 4:5].astype(np.uint32)
    multiplied = (pixels[..., :3].astype(np.uint32) * alpha // peak).astype(np.uint16)
    whole = np.concatenate([multiplied, alpha.astype(np.uint16)], -1)
    found = decode(tiff((whole, {338: ("H", [1])})), wanted=None).pixels
    assert np.array_equal(found, multiplied + (peak - alpha))


def test_where_white_is_zero_white_is_the_largest_number() -> None:
    for bits in (8, 16):
        pixels = drawn(HEIGHT, WIDTH, 1, bits)
        found = decode(tiff((pixels, {262: ("H", [0])})), wanted=None).pixels
        assert np.array_equal(found, 2**bits - 1 - pixels)


def test_a_wanted_type_is_given_or_both_are_named() -> None:
    grey, five = drawn(HEIGHT, WIDTH, 1, 16), drawn(HEIGHT, WIDTH, 5, 16)
    data = images.encode(grey, images.Encoding(codec="png"))
    assert np.array_equal(decode(data, wanted=PixelType(3, 16)).pixels, np.repeat(grey, 3, -1))
    assert np.array_equal(decode(data, wanted=PixelType(1, 16)).pixels, grey)
    said = "^PNG has 1 channel of 16 bits, and 1 channel of 8 bits are wanted$"
    with pytest.raises(BadImage, match=said) as caught:
        decode(data, wanted=PixelType(1))
    assert caught.value.reason == "unsupported type"
    with pytest.raises(BadImage, match=r"^TIFF has 5 channels of 16 bits, and 3 channels of 8 bits are wanted$"):
        decode(images.encode(five, images.Encoding(codec="tiff")), wanted=RGB)
    for kind in ("JPEG", "PNG", "BMP", "WEBP", "TIFF"):
        with pytest.raises(BadImage, match=f"^{kind} has 3 channels of 8 bits, and 1 channel of 8 bits are wanted$"):
            decode(saved(source("RGB"), kind), wanted=PixelType(1))


@pytest.mark.parametrize("wanted", [None, PixelType(3, 16)])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("codec", ["png", "tiff"])
def test_wide_pixels_are_where_the_caller_wants_them(codec: str, orientation: int, wanted: PixelType | None) -> None:
    pixels = drawn(HEIGHT, WIDTH, 3, 16)
    made = {"png": wide_png(pixels, exif_chunk(orientation)), "tiff": tiff((pixels, {274: ("H", [orientation])}))}
    memory = np.full(pixels.nbytes + 6, 7, np.uint8)
    found = decode(made[codec], room=memory, wanted=wanted).pixels
    assert found.ctypes.data == memory.ctypes.data
    assert np.array_equal(found, upright(pixels, orientation))
    assert memory[-6:].tolist() == [7] * 6
    odd = decode(made[codec], room=memory[1:], wanted=wanted).pixels  # numbers of two bytes stand at even addresses
    assert np.array_equal(odd, found)
    assert odd.flags.aligned


def test_samples_of_10_bits_become_samples_of_16() -> None:
    pixels = drawn(HEIGHT, WIDTH, 3, 16) >> 6
    data = imagecodecs.avif_encode(pixels, level=100, bitspersample=10)
    assert np.array_equal(imagecodecs.avif_decode(data), pixels)
    found = decode(data, wanted=None)
    assert type_of(data) == PixelType.of(found.pixels) == PixelType(3, 16)
    assert np.abs(found.pixels - pixels * (65535 / 1023)).max() <= 0.5
    with pytest.raises(BadImage, match=r"^AVIF has 3 channels of 16 bits, and 3 channels of 8 bits are wanted$"):
        decode(data)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("container", [False, True])
def test_jpeg_xl(channels: int, bits: int, container: bool) -> None:
    pixels = drawn(HEIGHT, WIDTH, channels, bits)
    data = imagecodecs.jpegxl_encode(pixels if channels > 1 else pixels[..., 0], lossless=True, usecontainer=container)
    found = decode(data, wanted=None)
    expected = over_white(pixels) if channels in (2, 4) else pixels
    assert found.format == "JPEG XL"
    assert size_of(data) == (WIDTH, HEIGHT)
    assert type_of(data) == PixelType.of(found.pixels) == PixelType(1 if channels < 3 else 3, bits)
    assert np.abs(found.pixels - expected.astype(float)).max() <= 0.5
