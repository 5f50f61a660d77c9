"""Metadata advises: orientation and profiles wherever they are kept, and images whose metadata are broken."""

from __future__ import annotations

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from pipeline.images import PixelType, decode, size_of
from pipeline.images.basis import notes
from tests.pipeline.images.files import drawn, exif, picture, png, png_chunk, saved, tiff, upright

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
XMP_CHUNK = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
PACKED_XMP_CHUNK = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))
RAW = b"\nexif\n      26\n" + exif({274: ("H", [6])}).hex().encode() + b"\n"
RAW_CHUNKS = [
    png_chunk(b"tEXt", b"Raw profile type exif\0" + RAW),
    png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(RAW)),
]
SMALL = png(40, 8, 2, [row.tobytes() for row in picture()])
WIDE_PIXELS = drawn(24, 40, 3, 16)
WIDE = png(40, 16, 2, [row.astype(">u2").tobytes() for row in WIDE_PIXELS])


@pytest.mark.parametrize("chunk", [XMP_CHUNK, PACKED_XMP_CHUNK, *RAW_CHUNKS], ids=["xmp", "packed", "raw", "zraw"])
def test_orientation_in_the_texts_of_a_png(chunk: bytes) -> None:
    small, wide = (data[:33] + chunk + data[33:] for data in (SMALL, WIDE))
    with Image.open(io.BytesIO(small)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    found = decode(small)
    assert found.orientation == 6
    assert np.array_equal(found.pixels, expected)
    found = decode(wide, wanted=None)
    assert found.orientation == 6
    assert np.array_equal(found.pixels, upright(WIDE_PIXELS, 6))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF", "PNG"])
def test_orientation_in_xmp(kind: str) -> None:
    options = {"tiffinfo": {700: XMP}} if kind == "TIFF" else {"xmp": XMP}
    data = SMALL[:33] + XMP_CHUNK + SMALL[33:]
    if kind != "PNG":
        data = saved(Image.fromarray(picture()), kind, **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    found = decode(data)
    assert found.orientation == 6
    assert np.abs(found.pixels - expected).max() <= 3


def test_orientation_in_the_xmp_of_a_tiff_of_16_bits() -> None:
    data = tiff((WIDE_PIXELS, {700: ("s", XMP)}))
    assert np.array_equal(decode(data, wanted=None).pixels, upright(WIDE_PIXELS, 6))


BROKEN = [b"II*\0\xff\xff\xff\xff", b"garbage", b"MM\0*\0\0\0\x08\xff\xff"]


@pytest.mark.parametrize("body", BROKEN)
def test_a_broken_exif_is_noted_and_costs_nothing(body: bytes) -> None:
    small, wide = (data[:33] + png_chunk(b"eXIf", body) + data[33:] for data in (SMALL, WIDE))
    jpeg = saved(Image.fromarray(picture()), "JPEG", exif=b"Exif\0\0" + body)
    for data, pixels in ((small, picture()), (wide, WIDE_PIXELS), (jpeg, decode(jpeg).pixels)):
        found = decode(data, wanted=None)
        assert np.array_equal(found.pixels, pixels)
        assert found.orientation == 1
        assert found.notes == ("its EXIF cannot be read",)


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"tEXt", b"Comment\0" + b"a" * 5_000_000),
        png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20_000_000))),
        png_chunk(b"iCCP", b"profile\0\0broken"),
        png_chunk(b"tEXt", b"a\0b")[:-1] + b"!",
    ],
    ids=["text", "bomb", "profile", "checksum"],
)
def test_chunks_that_are_no_part_of_a_picture_of_16_bits(chunk: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    assert np.array_equal(decode(WIDE[:33] + chunk + WIDE[33:], wanted=None).pixels, WIDE_PIXELS)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("tag", [270, 305, 700, 33723, 34377, 34665, 34675, 34853, 42112, 65000])
@pytest.mark.parametrize("pixels", [picture(), WIDE_PIXELS], ids=["8", "16"])
def test_tags_that_point_out_of_a_tiff_cost_nothing(pixels: np.ndarray, tag: int) -> None:
    data = bytearray(tiff((pixels, {tag: ("B", [0] * 500)})))
    entry = data.index(struct.pack("<HHI", tag, 1, 500))
    data[entry + 8 : entry + 12] = struct.pack("<I", 2**31)
    found = decode(bytes(data), wanted=None, icc="to_srgb")
    assert np.array_equal(found.pixels, pixels)
    assert found.orientation == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_profiles_and_xmp_that_are_none_cost_nothing(kind: str) -> None:
    plain = saved(Image.fromarray(picture()), kind)
    options = {"icc_profile": b"broken" * 50} | ({"xmp": b"<broken\xff\0"} if kind in ("JPEG", "WEBP", "AVIF") else {})
    found = decode(saved(Image.fromarray(picture()), kind, **options))
    assert np.array_equal(found.pixels, decode(plain).pixels)
    assert found.orientation == 1


def test_colours_that_are_not_converted_are_noted() -> None:
    jxl = imagecodecs.jpegxl_encode(WIDE_PIXELS, lossless=True)  # said to be linear
    wide = imagecodecs.avif_encode(picture(), primaries=9, transfer=13)  # BT.2020
    for data in (jxl, wide):
        found = decode(data, wanted=None, icc="to_srgb")
        assert found.notes == decode(data, wanted=None).notes == (notes.OTHER_COLOURS,)
        assert np.array_equal(found.pixels, decode(data, wanted=None).pixels)
    for data in (imagecodecs.jpegxl_encode(picture(), lossless=True), saved(Image.fromarray(picture()), "AVIF")):
        assert decode(data, icc="to_srgb").notes == ()


def test_what_had_to_be_left_out_is_noted() -> None:
    data = SMALL[:33] + png_chunk(b"zTXt", b"C\0\0" + zlib.compress(bytes(20_000_000))) + SMALL[33:]
    assert decode(data).notes == ("PNG read without what is no part of its image",)
    assert decode(SMALL).notes == ()


def profile_of(gamma: float) -> bytes:
    """Return a profile of RGB whose colours are much stronger than those of sRGB."""
    return bytes(
        imagecodecs.cms_profile(
            "rgb",
            whitepoint=[0.3127, 0.329, 1.0],
            primaries=[0.7347, 0.2653, 1.0, 0.1596, 0.8404, 1.0, 0.0366, 0.0001, 1.0],
            transferfunction=None,
            gamma=gamma,
        )
    )


PROFILE = profile_of(1.8)
SRGB = ImageCms.createProfile("sRGB")


def expected_srgb(pixels: np.ndarray) -> np.ndarray:
    source = ImageCms.ImageCmsProfile(io.BytesIO(PROFILE))
    return np.asarray(ImageCms.profileToProfile(Image.fromarray(pixels), source, SRGB)).astype(int)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_colours_are_converted_on_request_alone(kind: str) -> None:
    options = {"WEBP": {"lossless": True}}.get(kind, {})
    data = saved(Image.fromarray(picture()), kind, icc_profile=PROFILE, **options)
    plain, found = decode(data), decode(data, icc="to_srgb")
    assert np.array_equal(plain.pixels, decode(data, icc="ignore").pixels)
    assert np.array_equal(found.pixels, expected_srgb(plain.pixels))
    assert np.abs(found.pixels.astype(int) - plain.pixels).mean() > 5
    assert found.notes == ()


def test_alpha_is_kept_from_the_conversion() -> None:
    rgba = np.concatenate([picture(), picture()[..., :1]], -1)
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        data = saved(Image.fromarray(rgba), kind, icc_profile=PROFILE, **options)
        alpha = rgba[..., 3:] / 255
        expected = expected_srgb(picture()) * alpha + 255 * (1 - alpha)
        assert np.abs(decode(data, icc="to_srgb").pixels - expected).max() <= 1


def test_16_bits_are_converted_alike() -> None:
    wide = picture().astype(np.uint16) * 257
    chunk = png_chunk(b"iCCP", b"p\0\0" + zlib.compress(PROFILE))
    data = png(40, 16, 2, [row.astype(">u2").tobytes() for row in wide])
    for made in (data[:33] + chunk + data[33:], tiff((wide, {34675: ("s", PROFILE)}))):
        found = decode(made, wanted=None, icc="to_srgb")
        assert found.pixels.dtype == np.uint16
        assert np.abs(found.pixels / 257 - expected_srgb(picture())).max() <= 1
        assert np.array_equal(decode(made, wanted=None).pixels, wide)


def test_grey_stays_grey() -> None:
    profile = bytes(imagecodecs.cms_profile("gray", gamma=1.4))
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    grey = Image.fromarray(picture()).convert("L")
    expected = np.asarray(ImageCms.profileToProfile(grey, source, SRGB, outputMode="RGB")).astype(int)[..., :1]
    small = decode(saved(grey, "PNG", icc_profile=profile), wanted=None, icc="to_srgb").pixels
    assert np.array_equal(small, expected)
    wide = np.asarray(grey)[..., None].astype(np.uint16) * 257
    data = tiff((wide, {34675: ("s", profile)}))
    assert np.abs(decode(data, wanted=None, icc="to_srgb").pixels / 257 - expected).max() <= 2


def test_a_profile_that_is_none_on_a_print_is_ignored() -> None:
    with Image.new("CMYK", (8, 8), (10, 200, 90, 30)) as image:
        data = saved(image, "JPEG", icc_profile=b"no profile", quality=95)
    found = decode(data, icc="to_srgb")
    assert np.array_equal(found.pixels, decode(data).pixels)
    assert found.notes == ("its ICC profile cannot be used for mode CMYK", notes.OF_INK)
    assert decode(data).notes == (notes.IGNORED_PROFILE, notes.OF_INK)


def test_a_profile_that_is_ignored_is_noted_unless_it_names_srgb() -> None:
    for profile, expected in ((PROFILE, (notes.IGNORED_PROFILE,)), (ImageCms.ImageCmsProfile(SRGB).tobytes(), ())):
        for kind in ("PNG", "JPEG", "TIFF", "WEBP"):
            assert decode(saved(Image.fromarray(picture()), kind, icc_profile=profile)).notes == expected
        assert decode(tiff((WIDE_PIXELS, {34675: ("s", profile)})), wanted=None).notes == expected


@pytest.mark.parametrize("profile", [b"broken", PROFILE[:200], PROFILE[:60] + b"\xff" * 400])
def test_a_broken_profile_is_noted_and_ignored(profile: bytes) -> None:
    data = saved(Image.fromarray(picture()), "TIFF", icc_profile=profile)
    wide = tiff((WIDE_PIXELS, {34675: ("s", profile)}))
    for made in (data, wide):
        found = decode(made, wanted=None, icc="to_srgb")
        assert np.array_equal(found.pixels, decode(made, wanted=None).pixels)
        assert "its ICC profile cannot be used" in found.notes[0]


def test_a_profile_of_colours_on_grey_is_ignored() -> None:
    data = saved(Image.fromarray(picture()).convert("L"), "PNG", icc_profile=PROFILE)
    found = decode(data, wanted=None, icc="to_srgb")
    assert PixelType.of(found.pixels) == PixelType(1)
    assert np.array_equal(found.pixels, decode(data, wanted=None).pixels)
    assert len(found.notes) == 1


class Bits:
    """Numbers behind each other, the lowest bit of each first."""

    def __init__(self, data: bytes) -> None:
        self.bits = [byte >> i & 1 for byte in data for i in range(8)]

    def insert(self, at: int, *values: int) -> None:
        self.bits[at:at] = values

    def to_bytes(self) -> bytes:
        padded = self.bits + [0] * (-len(self.bits) % 8)
        return bytes(sum(bit << i for i, bit in enumerate(padded[at : at + 8])) for at in range(0, len(padded), 8))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_a_jpeg_xl(orientation: int) -> None:
    """The encoder writes none, so bits are set in its header, and libjxl must turn the picture alike."""
    pixels = drawn(24, 40, 3, 8)
    data = imagecodecs.jpegxl_encode(pixels, lossless=True, usecontainer=False)
    head = Bits(data[2:])
    # Sizes that are multiples of 8 up to 256: a bit, 5 of the height, 3 of the ratio, 5 of the width; then two flags.
    assert head.bits[0] == 1
    flags = 1 + 5 + 3 + 5
    assert head.bits[flags : flags + 2] == [0, 0]
    length = header_bits(head.bits, flags)
    rest = head.bits[length + (-length) % 8 :]
    turn = [orientation - 1 >> i & 1 for i in range(3)]
    before, after = head.bits[flags + 2 : length - 3], head.bits[length - 3 : length]
    # Further fields: orientation, no intended size, no preview, no animation; and, later, plain tone mapping.
    made = [*head.bits[:flags], 0, 1, *turn, 0, 0, 0, *before, 1, *after]
    made += [0] * (-len(made) % 8) + rest
    head.bits = made
    turned = data[:2] + head.to_bytes()
    found = decode(turned)
    assert found.orientation == orientation
    assert size_of(turned) == (40, 24)
    assert np.array_equal(found.pixels, imagecodecs.jpegxl_decode(turned, keeporientation=False))
    assert np.array_equal(found.pixels, upright(pixels, orientation))


def header_bits(bits: list[int], flags: int) -> int:
    """Return where the header of a lossless RGB picture of 8 bits ends: after no extensions and default transforms."""
    at = flags + 2 + 1 + 2  # floating-point or not, and which depth
    at += 1 + 2  # whether 16 bits suffice, and no further channels
    at += 1  # whether colours are XYB
    assert bits[at] == 1, "colours are not plain sRGB"
    at += 1
    assert bits[at : at + 2] == [0, 0], "there are extensions"
    at += 2
    assert bits[at] == 1
    return at + 1


def test_exif_of_an_avif_does_not_turn_it_twice() -> None:
    exif_body = Image.Exif()
    exif_body[0x0112] = 6
    data = saved(Image.fromarray(picture()), "AVIF", exif=exif_body, quality=100, subsampling="4:4:4")
    found = decode(data)
    assert found.orientation == 6
    assert np.abs(found.pixels.astype(int) - upright(picture(), 6)).max() <= 3
    assert struct.unpack(">I", data[:4])[0] < 64
