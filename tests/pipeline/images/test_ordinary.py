"""Ordinary JPEGs are decoded and proved by a single look, and come out as by the long one."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image, ImageCms

from pipeline import images
from pipeline.images import decoding
from pipeline.images.options import AS_STORED
from tests import corpus


def jpeg(mode: str = "RGB", size: tuple[int, int] = (75, 50), **options: object) -> bytes:
    height, width = size[1], size[0]
    pixels = np.asarray(Image.fromarray(corpus.picture(3)).resize((width, height)))
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    found = Image.Exif()
    found[274] = orientation
    return found.tobytes()


def files() -> Iterator[bytes]:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for mode in ("RGB", "L"):
        for size in ((1, 1), (7, 3), (75, 50)):
            for progressive in (False, True):
                yield jpeg(mode, size, progressive=progressive)
    for orientation in range(1, 9):
        yield jpeg(exif=exif(orientation))
    yield jpeg(exif=b"Exif\0\0nonsense")
    yield jpeg(icc_profile=profile)
    yield jpeg(icc_profile=profile.replace(b"sRGB", b"mine"))
    yield jpeg(subsampling=0, quality=30)


def by_the_long_way(data: bytes, monkeypatch: pytest.MonkeyPatch) -> images.Decoded:
    with monkeypatch.context() as patched:
        patched.setattr(decoding, "ordinary_jpeg", lambda *_: None)
        return images.decode(data)


def test_they_come_out_as_by_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    for data in files():
        assert decoding.ordinary_jpeg(data, images.RGB, images.MAX_PIXELS) is not None
        short, long = images.decode(data), by_the_long_way(data, monkeypatch)
        assert np.array_equal(short.pixels, long.pixels)
        assert short[1:] == long[1:]
        assert images.prove_by(AS_STORED, data) == (short.pixels.shape, short.notes)


def test_what_is_unusual_takes_the_long_way() -> None:
    unusual = [jpeg("CMYK"), jpeg()[:200], jpeg().replace(b"\xff\xdb", b"\0\xff\xdb", 1), b"\xff\xd8\xff", jpeg()[:2]]
    assert [decoding.ordinary_jpeg(data, images.RGB, images.MAX_PIXELS) for data in unusual] == [None] * len(unusual)
    assert decoding.ordinary_jpeg(jpeg(), images.RGB, 75 * 50 - 1) is None
    assert decoding.ordinary_jpeg(jpeg(), images.PixelType(1), images.MAX_PIXELS) is None


@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.long)])
def test_a_proof_finds_the_faults_that_decoding_finds(count: int) -> None:
    """Bytes are changed, dropped and added anywhere; the proof says what decoding says, in the same words."""
    rng = np.random.default_rng(0)
    whole = [jpeg(), jpeg(progressive=True), jpeg("L"), jpeg(size=(300, 200), quality=60)]
    refused = 0
    for i in range(count):
        data = bytearray(whole[i % len(whole)])
        at = int(rng.integers(2, len(data)))
        match rng.integers(3):
            case 0:
                data[at] = int(rng.integers(256))
            case 1:
                del data[at : at + int(rng.integers(1, 50))]
            case 2:
                data[at:at] = rng.bytes(int(rng.integers(1, 20)))
        try:
            found: object = images.decode(bytes(data)).pixels.shape
        except images.BadImage as bad:
            found, refused = (bad.reason, str(bad)), refused + 1
        try:
            proved: object = images.prove_by(AS_STORED, bytes(data))[0]
        except images.BadImage as bad:
            proved = (bad.reason, str(bad))
        assert proved == found
    assert 0 < refused < count
