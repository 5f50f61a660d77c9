"""Content says what a file is, whatever it is called; every finding names the format."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.images import FORMATS, BadImage, PixelType, decode, decoded_bytes, format_of, size_of, sniffs, type_of
from tests.pipeline.images.files import drawn, picture, png, saved, tiff

JXL = imagecodecs.jpegxl_encode(picture(), lossless=True, usecontainer=False)
EXAMPLES = {
    **{kind: saved(Image.fromarray(picture()), kind) for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "AVIF", "GIF")},
    "JPEG XL": JXL,
    "HEIF": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40),
}
WIDE = drawn(9, 11, 3, 16)
OTHERS = {
    "PNG of 16 bits": png(11, 16, 2, [row.astype(">u2").tobytes() for row in WIDE]),
    "TIFF of 16 bits": tiff((WIDE, {})),
    "JPEG XL in a container": imagecodecs.jpegxl_encode(picture(), lossless=True, usecontainer=True),
    "AVIF of 10 bits": imagecodecs.avif_encode(WIDE >> 6, bitspersample=10),
}


def test_every_format_has_an_example() -> None:
    assert set(EXAMPLES) == set(FORMATS)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_first_bytes_say_the_format(kind: str) -> None:
    data = EXAMPLES[kind]
    assert sniffs(data[:64])
    assert format_of(data[:64]) == format_of(memoryview(data)) == kind


@pytest.mark.parametrize(
    "data", [b"", b"text", b"\x89PNG", b"RIFF\0\0\0\0WAVEfmt ", b"%PDF-1.4", b"\0\0\0\x18ftypisom\0\0\0\0isommp42"]
)
def test_other_bytes_are_no_image(data: bytes) -> None:
    assert not sniffs(data)
    assert (format_of(data), type_of(data), size_of(data)) == (None, None, (0, 0))


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"%PDF-1.4", "PDF, not PNG"), (b"qoif" + bytes(9), "QOI"), (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "video")],
)
def test_formats_that_are_not_read_are_named(data: bytes, said: str) -> None:
    with pytest.raises(BadImage, match=said) as caught:
        decode(data)
    assert caught.value.reason == "unsupported format"


def test_heif_is_read_or_what_to_install_is_said() -> None:
    try:
        import pillow_heif
    except ImportError:
        with pytest.raises(BadImage, match=r"pip install 'transdomain\[heif\]'") as caught:
            decode(EXAMPLES["HEIF"])
        assert caught.value.reason == "unsupported format"
        pytest.skip("pillow-heif is not installed: only the line that says so was tried")
    rgb = np.repeat(np.repeat(picture(16, 16), 8, 0), 8, 1)
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(rgb)).save(buffer, quality=-1)
    expected = np.asarray(pillow_heif.open_heif(io.BytesIO(buffer.getvalue())).to_pillow().convert("RGB"))
    found = decode(buffer.getvalue())
    assert found.format == "HEIF"
    assert np.array_equal(found.pixels, expected)
    wide = drawn(64, 64, 3, 16)
    buffer = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", (64, 64), wide.tobytes()).save(buffer, quality=-1)
    found = decode(buffer.getvalue(), wanted=None)
    assert PixelType.of(found.pixels) == type_of(buffer.getvalue()) == PixelType(3, 16)


@pytest.mark.parametrize("kind", [*(kind for kind in FORMATS if kind not in ("HEIF", "GIF")), *OTHERS])
def test_every_finding_names_the_format(kind: str) -> None:
    data = (EXAMPLES | OTHERS)[kind]
    name = kind.partition(" of ")[0].partition(" in ")[0].lower()
    width, height = size_of(data)
    findings = []
    for made, options in (
        (data[: len(data) * 2 // 3], {}),
        (data, {"max_pixels": width * height - 1}),
        (data, {"wanted": PixelType(7)}),
    ):
        with pytest.raises(BadImage) as caught:
            decode(made, **({"wanted": None} | options))
        findings.append((caught.value.reason, str(caught.value)))
    assert [reason for reason, _ in findings] == ["corrupt", "too large", "unsupported type"]
    assert [said for _, said in findings if name not in said.lower()] == []


@pytest.mark.parametrize("kind", [*(kind for kind in FORMATS if kind != "HEIF"), *OTHERS])
def test_the_memory_that_decoding_takes_is_known_before(kind: str) -> None:
    data = (EXAMPLES | OTHERS)[kind]
    assert decoded_bytes(data, None) == decode(data, wanted=None, pages="first").pixels.nbytes
    assert decoded_bytes(data) == 3 * np.prod(size_of(data))


@given(st.sampled_from([*EXAMPLES.values(), *OTHERS.values()]), st.data())
def test_no_header_is_too_strange(example: bytes, data: st.DataObject) -> None:
    broken = bytearray(example)
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, min(len(broken), 400) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(broken[: data.draw(st.integers(0, len(broken)))])
    assert min(size_of(cut)) >= 0
    found = type_of(cut)
    assert found is None or found.channels >= 1


@given(st.sampled_from([*EXAMPLES.values(), *OTHERS.values()]), st.data())
def test_damage_is_found_or_harmless_and_never_another_error(example: bytes, data: st.DataObject) -> None:
    broken = bytearray(example)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(broken) - 1))
        run = data.draw(st.binary(min_size=1, max_size=8))
        broken[at : at + len(run)] = run
    pages = data.draw(st.sampled_from(["one", "first"]))
    icc = data.draw(st.sampled_from(["ignore", "to_srgb"]))
    try:
        found = decode(bytes(broken), max_pixels=2_000_000, wanted=None, pages=pages, icc=icc)
    except BadImage as bad:
        assert bad.reason  # noqa: PT017
    else:
        promised = type_of(bytes(broken))
        assert promised is None or PixelType.of(found.pixels) == promised
