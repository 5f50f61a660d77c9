"""Decoding of bytes into arrays; faults of an image are found and named here."""

from __future__ import annotations

import importlib.util
import io
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from pipeline.images.basis import colour, raster
from pipeline.images.basis.blame import BadImage, check_size, finding, mismatch, prove_room
from pipeline.images.basis.pixel_type import RGB, PixelType
from pipeline.images.formats import avif, jpeg, jxl, png, tiff, webp, wide_tiff
from pipeline.images.formats.metadata import Advice, advice, advised
from pipeline.images.formats.signatures import ENDINGS, format_named
from pipeline.images.header import size_of, type_of
from pipeline.images.options import Pages, Profiles

EXTENSIONS = (*ENDINGS, *((".heic", ".heif") if importlib.util.find_spec("pillow_heif") else ()))
"""File name endings of the formats that `decode` knows."""
MAX_PIXELS = 178_956_970
"""Limit of pixels, checked in the header: 512 MB at 3 bytes a pixel. Pillow has the same limit."""

_OPEN: Mapping[str, Callable[..., ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,  # not its factory, which reacts to the segment of further views
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
}
_CHECKS: Mapping[str, Callable[..., None]] = {
    "PNG": png.check,
    "JPEG": lambda data, first: jpeg.check(data),
    "TIFF": tiff.check,
    "AVIF": avif.check,
    "HEIF": avif.check_heif,
    "JPEG XL": jxl.check,
}
"""Refusals of data of which a decoder would silently drop a part."""
_WIDE: Mapping[str, Callable[[bytes, raster.Place], np.ndarray]] = {
    "PNG": png.wide,
    "TIFF": wide_tiff.pixels,
    "AVIF": avif.pixels,
    "HEIF": avif.heif_pixels,
    "JPEG XL": jxl.pixels,
}
"""Pixels of what Pillow does not read, or not with all of its bits."""
_EIGHT_BIT_MODES = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", *raster.ALPHA_MODES)


class Decoded(NamedTuple):
    """Decoded image, with what its file said about it."""

    pixels: np.ndarray
    """Pixels [height, width, channels], after orientation: uint8 or uint16."""
    orientation: int
    """EXIF orientation that was applied, 1 (none) to 8."""
    format: str = ""
    """Format of the file, one of FORMATS."""
    notes: tuple[str, ...] = ()
    """What was passed over, since it advises only: an EXIF or a profile that is broken, texts that are too large."""


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What is asked of a decoder."""

    max_pixels: int
    room: np.ndarray | None
    wanted: PixelType | None
    first: bool
    to_srgb: bool


def encoded_in(cell: Mapping[str, Any] | None) -> bytes:
    """Return the encoded image in a cell of an image column. Raises BadImage where the cell has none."""
    found = (cell or {}).get("bytes")
    if found is None and (cell or {}).get("path"):
        raise BadImage(
            "empty",
            "the cell has only the path of an image, and a path is never opened; put the bytes into the column first "
            "(datasets: cast it to Image, then save_to_disk or push_to_hub embeds them), or give the folder as input",
        )
    if found is None:
        raise BadImage("empty", "the cell has no image")
    return found


def decoded_bytes(data: bytes | memoryview, wanted: PixelType | None = RGB) -> int:
    """Return the bytes of the decoded image, by its header; of the largest one that is decoded, where it promises more.

    Zero where the header promises nothing. Never raises.
    """
    width, height = size_of(data)
    pixel_type = wanted or type_of(data) or RGB
    return min(pixel_type.bytes * min(width * height, MAX_PIXELS), 6 * MAX_PIXELS)


def decode(
    data: bytes | memoryview,
    *,
    max_pixels: int = MAX_PIXELS,
    room: np.ndarray | None = None,
    wanted: PixelType | None = RGB,
    pages: Pages = "one",
    icc: Profiles = "ignore",
) -> Decoded:
    """Decode the image in `data` to pixels of the type `wanted`; to those of the file's own type where it is None.

    Grey becomes RGB of its depth where that is wanted. Its pixels are at the beginning of `room`, a flat array of
    uint8, where that is given and large enough; else in memory of their own. `pages="first"` takes the first picture
    of a file that holds several, and of a GIF. `icc="to_srgb"` converts colours by the file's own profile.

    Raises BadImage where the bytes are at fault, with one of these reasons: empty, not an image, unsupported format,
    unsupported mode, unsupported type, several pictures, too large, corrupt. Any other error is the machine's:
    MemoryError, or an OSError with its number. So that a passing fault is not blamed on the image, it counts as
    corrupt only if decoding fails twice, the second time with proof that there is enough memory.
    """
    if len(data) == 0:
        raise BadImage("empty", "the file has no bytes")
    data = bytes(data)
    _silence_pillow()
    kind = format_named(data)
    if kind == "GIF" and pages != "first":
        raise BadImage("unsupported format", "GIF, whose first frame is read only where it is asked for")
    asked = _Asked(max_pixels=max_pixels, room=room, wanted=wanted, first=pages == "first", to_srgb=icc == "to_srgb")
    try:
        return _decoded(data, kind, asked)
    except BadImage as bad:
        if bad.reason != "corrupt":
            raise
        prove_room(len(data), bad.pixels)
    return _decoded(data, kind, asked)


def _decoded(data: bytes, kind: str, asked: _Asked) -> Decoded:
    if kind == "JPEG" and not asked.to_srgb and (decoded := _plain_jpeg(data, asked)):
        return decoded
    _check_header(data, kind, asked.first)
    found, wide = _described(data, kind)
    if found and asked.wanted and not found.becomes(asked.wanted):
        raise mismatch(kind, found, asked.wanted)
    if wide:
        return _by_library(data, kind, asked, found)
    try:
        return _by_pillow(data, data, kind, asked)
    except BadImage as bad:
        if found and kind == "TIFF" and wide_tiff.reads(data):
            try:
                return _by_library(data, kind, asked, found)
            except BadImage:
                raise bad from None  # the words of the first decoder
        if bad.reason != "corrupt":
            raise
        bare = {"PNG": png.bare, "JPEG": jpeg.bare}.get(kind, lambda whole: whole)(data)
        if bare == data:
            raise
    decoded = _by_pillow(bare, data, kind, asked)
    return decoded._replace(notes=(*decoded.notes, f"{kind} read without what is no part of its image"))


def _plain_jpeg(data: bytes, asked: _Asked) -> Decoded | None:
    """Decode a JPEG with nothing unusual in it; None where it takes a longer look, which also says what is at fault."""
    header = jpeg.plain(data)
    if header is None or header.width * header.height > asked.max_pixels:
        return None
    own = RGB if header.channels == 3 else PixelType(header.channels)
    target = asked.wanted or own
    if not own.becomes(target):
        return None
    said = advised(header.exif, lambda: header.xmp.decode("latin-1"))
    room = asked.room if said.orientation == 1 else None
    out = raster.placed(room, target.shape(header.height, header.width))
    if not jpeg.decode_plain(data, out):
        return None
    return Decoded(_finished(out, said.orientation, target, asked.room), said.orientation, "JPEG", said.notes)


def _check_header(data: bytes, kind: str, first: bool) -> None:
    """Raise BadImage for data of which a decoder would silently drop a part."""
    if kind not in _CHECKS:
        return
    try:
        _CHECKS[kind](data, first=first)
    except BadImage:
        raise
    except Exception as error:  # a library that chokes on the header
        raise finding(error, f"{kind} header") from error


def _described(data: bytes, kind: str) -> tuple[PixelType | None, bool]:
    """Return the type that the header says, and True for what Pillow does not read, or not with all of its bits."""
    if kind == "TIFF":
        samples = tiff.samples(data)
        return (samples.type if samples and samples.sound else None), samples is not None and not samples.plain
    found = type_of(data)
    return found, kind in ("AVIF", "HEIF", "JPEG XL") or (kind == "PNG" and found is not None and found.bits > 8)


def _by_library(data: bytes, kind: str, asked: _Asked, found: PixelType | None) -> Decoded:
    """Decode what Pillow does not read."""
    check_size(kind, *size_of(data), asked.max_pixels, found)
    said = advice(data, kind, {}, profile=asked.to_srgb)
    target = asked.wanted or found
    turn = 1 if kind == "HEIF" else said.orientation  # its library turns

    def place(shape: tuple[int, int, int], dtype: np.dtype) -> np.ndarray:
        check_size(kind, shape[1], shape[0], asked.max_pixels, PixelType(shape[2], 8 * dtype.itemsize))
        return raster.placed(asked.room if turn == 1 and found == target and found else None, shape, dtype)

    try:
        pixels = _WIDE[kind](data, place)
        said = _with_profile(pixels, said, asked.to_srgb)
    except BadImage:
        raise
    except Exception as error:  # every decoder has its own errors
        width, height = size_of(data)
        share = max(1, found.bytes // RGB.bytes) if found else 1
        raise finding(error, kind, min(width * height, asked.max_pixels) * share) from error
    target = asked.wanted or PixelType.of(pixels)
    return Decoded(_finished(pixels, turn, target, asked.room), said.orientation, kind, said.notes)


def _with_profile(pixels: np.ndarray, said: Advice, to_srgb: bool) -> Advice:
    """Convert pixels to sRGB in place where that is asked for and can be done; note where it cannot."""
    if not to_srgb or said.profile is None:
        return said
    found = PixelType.of(pixels)
    mode = {1: "L", 3: "RGB"}.get(found.channels, "")
    if found.bits == 8 and (convert := colour.to_srgb(said.profile, mode)):
        raster.converted(pixels, convert)
    elif found.bits == 16 and (wide := colour.wide_to_srgb(said.profile, found.channels)):
        wide(pixels)
    else:
        return said._replace(notes=(*said.notes, f"its ICC profile cannot be used for {found.numbers}"))
    return said


def _by_pillow(data: bytes, whole: bytes, kind: str, asked: _Asked) -> Decoded:
    """Decode the image in `data`, oriented as the `whole` file says; `data` may be the file without its extras."""
    canvas = webp.size_of(data) if kind == "WEBP" else (0, 0)
    check_size(kind, *canvas, asked.max_pixels)  # opening a WebP allocates memory for the canvas
    try:
        image = _OPEN[kind](io.BytesIO(tiff.unturned(data) if kind == "TIFF" else data))
    except Exception as error:  # a header that a plugin chokes on
        raise finding(error, f"{kind} header", canvas[0] * canvas[1]) from error
    with image:
        check_size(kind, *image.size, asked.max_pixels)
        frames = getattr(image, "n_frames", 1) if kind == "WEBP" else 1
        if frames > 1 and not asked.first:
            raise BadImage("several pictures", f"animated WebP of {frames} frames; give each a file of its own")
        if image.mode not in _EIGHT_BIT_MODES:
            raise BadImage("unsupported mode", f"{kind} of mode {image.mode} (8-bit pictures are supported)")
        said = advice(whole, kind, image.info, profile=asked.to_srgb)
        convert, said = _conversion(image, said, asked.to_srgb)
        own = PixelType(1 if image.mode in raster.GREY_MODES else 3)
        target = asked.wanted or own
        if not own.becomes(target):
            raise mismatch(kind, own, target)
        room = asked.room if said.orientation == 1 else None
        try:
            out = raster.placed(room, target.shape(image.height, image.width))
            pixels = _pixels(image, data, kind, out, convert, animated=frames > 1)
        except Exception as error:  # every decoder has its own errors
            raise finding(error, kind, image.width * image.height) from error
    return Decoded(_finished(pixels, said.orientation, target, asked.room), said.orientation, kind, said.notes)


def _conversion(image: Image.Image, said: Advice, to_srgb: bool) -> tuple[raster.Convert | None, Advice]:
    """Return the conversion of colours that is asked for, if any, and what is said, with a note where there is none."""
    if not to_srgb or said.profile is None:
        return None, said
    mode = {"P": "RGB", "RGBX": "RGB", "YCbCr": "RGB", "1": "L", "La": "LA", "RGBa": "RGBA", "PA": "RGBA"}.get(
        image.mode, image.mode
    )
    convert = colour.to_srgb(said.profile, mode)
    if convert is None:
        said = said._replace(notes=(*said.notes, f"its ICC profile cannot be used for mode {image.mode}"))
    return convert, said


def _pixels(
    image: ImageFile.ImageFile,
    data: bytes,
    kind: str,
    out: np.ndarray,
    convert: raster.Convert | None,
    *,
    animated: bool,
) -> np.ndarray:
    """Return pixels as stored, before orientation, in `out`, which has one or three channels."""
    if kind == "JPEG" and image.mode in ("L", "RGB"):
        pixels = jpeg.decode(data, out)
        if pixels is not None:
            if convert:
                raster.converted(pixels, convert)
            return pixels
    if kind == "WEBP" and not animated:
        return webp.pixels(data, out, convert, alpha=raster.has_alpha(image))
    if kind == "TIFF":
        image.load_end = lambda: None  # type: ignore[method-assign] # Pillow's would turn it as XMP says
    image.load()
    if kind == "PNG":
        png.set_transparency(image, data)
    return raster.array_of(image, out, convert)


def _finished(pixels: np.ndarray, orientation: int, target: PixelType, room: np.ndarray | None) -> np.ndarray:
    """Return pixels turned upright, with grey repeated where colours are wanted, in `room` where it suffices."""
    if orientation == 1 and pixels.shape[2] == target.channels:
        return pixels
    turned = raster.turned(pixels, orientation)
    place = raster.placed(room, target.shape(*turned.shape[:2]), pixels.dtype)
    place[...] = turned
    return place


def _silence_pillow() -> None:
    """Keep Pillow's warnings about harmless oddities from being shown, or raised where warnings are errors.

    The change is permanent and for the whole process, since all threads share one list of filters.
    """
    ours = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
    if not warnings.filters or warnings.filters[0] != ours:
        warnings.filterwarnings("ignore", module=r"PIL\.")
