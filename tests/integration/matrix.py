"""Pictures of every format, mode, depth and orientation, each with its pixels as an independent reader has them.

The rule of what a decoded picture is, whatever its file:

1. Samples are those that the file stores, of 8 or 16 bits; one bit becomes 0 and 255.
2. Palettes and CMYK become colours; grey stays one channel, and channels that are no colours stay channels.
3. What is transparent (alpha, a colour or entries of a palette) lies over white.
4. The picture is turned as its EXIF orientation says, once.
5. Of several pages or frames it is the first, since that is asked for.

Pillow reads what has 8 bits and at most four channels; tifffile and imagecodecs read the rest.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import NamedTuple

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from tests.pipeline.images import test_types as made
from tests.pipeline.images.files import drawn, over_white, saved, upright

ORIENTATIONS = range(1, 9)


class Case(NamedTuple):
    """One kind of file."""

    name: str
    """Name without a dot, of which keys are made."""
    ending: str
    file: Callable[[int], bytes]
    """Bytes of a file of this EXIF orientation."""
    expected: Callable[[bytes, int], np.ndarray]
    """Pixels [height, width, channels] by the rule, from such a file and its orientation."""
    near: float = 0
    """Largest difference that is due: decoders of lossy formats round otherwise, and alpha is rounded."""
    turns: bool = True
    """False for a format that has no orientation, or none that can be written here."""


ENDINGS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "TIFF": "tif", "AVIF": "avif", "BMP": "bmp", "GIF": "gif"}


def cases() -> Iterator[Case]:
    for kind, mode, options in made.PILLOW:
        yield _by_pillow(kind, mode, made.source(mode), **options)
    for kind in ("PNG", "GIF"):
        palette = made.source("RGB").quantize(16)
        yield _by_pillow(kind, "P transparent", palette, transparency=3)
    for kind, modes in (("BMP", ("1", "L", "P", "RGB")), ("GIF", ("L", "P"))):
        for mode in modes:
            yield _by_pillow(kind, mode, made.source(mode))
    pages = made.source("RGB"), made.source("L").convert("RGB")
    yield _by_pillow("TIFF", "several pages", pages[0], save_all=True, append_images=[pages[1]])
    yield _by_pillow("GIF", "several frames", made.source("P"), save_all=True, append_images=[made.source("L")])
    for channels in (1, 2, 3, 4):
        yield _wide_png(channels)
        for bits in (8, 16):
            yield _jpeg_xl(channels, bits)
    for bits in (8, 16):
        for channels, planar, tiled, packed in (
            (1, False, False, "lzw"), (2, False, True, "deflate+differences"), (3, True, False, "deflate"),
            (3, False, True, "jpeg2000"), (3, True, True, "lzw"), (5, False, False, "lzw"), (5, True, True, "deflate"),
        ):  # fmt: skip
            yield _tiff(channels, bits, planar, tiled, packed)


def _name(*parts: object) -> str:
    return "-".join(str(part).lower().replace(" ", "-") for part in parts if part not in ("", False))


def _by_pillow(kind: str, mode: str, image: Image.Image, **options: object) -> Case:
    said = [value if isinstance(value, str) else name for name, value in options.items() if name != "append_images"]
    turns = kind not in ("BMP", "GIF")

    def file(orientation: int) -> bytes:
        return saved(image, kind, **options, **({"exif": made.with_exif(orientation)} if turns else {}))

    return Case(
        _name(kind, mode, *said), ENDINGS[kind], file, lambda data, _: made.by_pillow(data), made.NEAR.get(kind, 0.6),
        turns,
    )  # fmt: skip


def _shown(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Apply what is left of the rule to samples [height, width, channels], of which 2 and 4 channels have an alpha."""
    return upright(over_white(samples) if samples.shape[2] in (2, 4) else samples, orientation)


def _stored(samples: np.ndarray) -> np.ndarray:
    return samples.reshape(*samples.shape[:2], -1)


def _wide_png(channels: int) -> Case:
    pixels = drawn(made.HEIGHT, made.WIDTH, channels, 16)
    return Case(
        _name("png", channels, "channels", 16), "png",
        lambda orientation: made.wide_png(pixels, made.exif_chunk(orientation)),
        lambda data, orientation: _shown(_stored(imagecodecs.png_decode(data)), orientation), near=0.5,
    )  # fmt: skip


def _jpeg_xl(channels: int, bits: int) -> Case:
    pixels = drawn(made.HEIGHT, made.WIDTH, channels, bits)
    stored = pixels if channels > 1 else pixels[..., 0]
    return Case(
        _name("jpeg xl", channels, "channels", bits), "jxl",
        lambda _: imagecodecs.jpegxl_encode(stored, lossless=True),
        lambda data, _: _shown(_stored(imagecodecs.jpegxl_decode(data)), 1), near=0.5, turns=False,
    )  # fmt: skip


def _tiff(channels: int, bits: int, planar: bool, tiled: bool, packed: str) -> Case:
    def expected(data: bytes, orientation: int) -> np.ndarray:
        samples = tifffile.imread(io.BytesIO(data))
        return upright(_stored(samples.transpose(1, 2, 0) if planar else samples), orientation)

    return Case(
        _name("tiff", channels, "channels", bits, planar and "planar", tiled and "tiled", packed.replace("+", "-")),
        "tif", lambda orientation: made.hand_made(channels, bits, orientation, "<", planar, tiled, packed)[0], expected,
    )  # fmt: skip
