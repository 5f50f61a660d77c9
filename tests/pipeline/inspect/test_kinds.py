"""Channels and depth of files, before anything is converted."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from pipeline.inspect.kinds import UNKNOWN, kind_of


def file(mode: str, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (5, 4)).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (file("L", "PNG"), "grey of 8 bits"),
        (file("1", "PNG"), "grey of 1 bit"),
        (file("P", "PNG"), "palette of 1 bit"),
        (file("RGBA", "PNG"), "RGBA of 8 bits"),
        (imagecodecs.png_encode(np.zeros((4, 5, 3), np.uint16)), "RGB of 16 bits"),
        (imagecodecs.png_encode(np.zeros((4, 5), np.uint16)), "grey of 16 bits"),
        (file("RGB", "JPEG"), "RGB of 8 bits"),
        (file("L", "JPEG", comment=b"x" * 9000), "grey of 8 bits"),
        (file("CMYK", "JPEG"), "CMYK of 8 bits"),
        (file("RGB", "WEBP"), "RGB of 8 bits"),
        (file("RGBA", "WEBP", lossless=True), "RGBA of 8 bits"),
        (file("RGB", "TIFF"), "RGB of 8 bits"),
        (file("I;16", "TIFF"), "grey of 16 bits"),
        (file("CMYK", "TIFF"), "CMYK of 8 bits"),
        (file("RGB", "BMP"), "RGB of 8 bits"),
        (file("P", "BMP"), "palette of 8 bits"),
        (file("1", "BMP"), "palette of 1 bit"),
        (file("P", "TIFF"), "palette of 8 bits"),
        (file("RGBA", "TIFF"), "RGBA of 8 bits"),
        (file("LAB", "TIFF"), "Lab of 8 bits"),
        (file("1", "TIFF"), "grey of 1 bit"),
        (file("F", "TIFF"), "grey of 32 bits"),
        (file("P", "GIF"), "palette of 1 bit"),
        (file("RGB", "AVIF"), "RGB of 8 bits"),
        (imagecodecs.jpegxl_encode(np.zeros((4, 5), np.uint16), lossless=True), "grey of 16 bits"),
        (b"no picture", f"{UNKNOWN}: no image"),
        (b"", f"{UNKNOWN}: no image"),
        (b"\xff\xd8\xff\xff", f"{UNKNOWN}: the JPEG header does not say it"),
        (b"II*\0\xff\xff\xff\xff", f"{UNKNOWN}: the TIFF header does not say it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_what_the_header_says(data: bytes, expected: str) -> None:
    assert kind_of(data) == expected
