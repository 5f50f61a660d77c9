"""Decoding of bytes into arrays; faults of an image are found and named here."""

from __future__ import annotations

import importlib.util
import io
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

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

from pipeline.images.basis import colour, notes, raster
from pipeline.images.basis.blame import MAX_PIXELS, BadImage, check_size, finding, mismatch, prove_room
from pipeline.images.basis.pixel_type import RGB, PixelType
from pipeline.images.formats import avif, jpeg, jxl, png, tiff, webp, wide_tiff
from pipeline.images.formats.metadata import Advice, advice
from pipeline.images.formats.signatures import ENDINGS, format_named
from pipeline.images.header import has_alpha, size_of, type_of
from pipeline.images.options import Gifs, Pages, Profiles, Reading
from pipeline.images.ordinary import ordinary_jpeg

EXTENSIONS = (*ENDINGS, *((".heic", ".heif") if importlib.util.find_spec("pillow_heif") else ()))
"""File name endings of the formats that `decode` knows."""

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
    """What was passed over or converted, in words of `basis/notes.py`: a broken EXIF, a profile, CMYK, alpha, pages."""


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What is asked of a decoder."""

    max_pixels: int
    room: np.ndarray | None
    wanted: PixelType | None
    first: bool
    to_srgb: bool


def decode(
    data: bytes | memoryview,
    *,
    max_pixels: int = MAX_PIXELS,
    room: np.ndarray | None = None,
    wanted: PixelType | None = RGB,
    pages: Pages = "one",
    icc: Profiles = "ignore",
    gif: Gifs = "none",
) -> Decoded:
    """Decode the image in `data` to pixels of the type `wanted`; to those of the file's own type where it is None.

    Grey becomes RGB of its depth where that is wanted. Its pixels are at the beginning of `room`, a flat array of
    uint8, where that is given and large enough; else in memory of their own. `pages="first"` takes the first picture
    of a file that holds several, and of a GIF, `gif="first"` that of a GIF alone. `icc="to_srgb"` converts colours by
    the file's own profile.

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
    if kind == "GIF" and pages != "first" and gif == "none":
        how = "GIF, whose first frame is read only where it is asked for: --reading.gif first"
        raise BadImage("unsupported format", how)
    asked = _Asked(max_pixels=max_pixels, room=room, wanted=wanted, first=pages == "first", to_srgb=icc == "to_srgb")
    try:
        return _decoded(data, kind, asked)
    except BadImage as bad:
        if bad.reason != "corrupt":
            raise
        prove_room(len(data), bad.pixels)
    return _decoded(data, kind, asked)


def decode_by(
    reading: Reading, data: bytes | memoryview, *, room: np.ndarray | None = None, wanted: PixelType | None = RGB
) -> Decoded:
    """Decode the one image in `data`, or the first one, as `decode` does, by the user's choices."""
    return decode(data, room=room, wanted=wanted, pages=reading.pages, icc=reading.icc, gif=reading.gif)


def prove_by(
    reading: Reading, data: bytes | memoryview, *, wanted: PixelType | None = RGB
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Prove that `decode_by` gives pixels; return their shape, [height, width, channels], and the notes.

    A JPEG takes less time: all of its data are gone through, and an eighth of its rows and columns are made of them.
    Raises what `decode` raises.
    """
    if reading.icc == "ignore" and (found := ordinary_jpeg(bytes(data), wanted, MAX_PIXELS)) and jpeg.is_sound(data):
        height, width, channels = found.shape
        return (height, width, channels) if found.orientation < 5 else (width, height, channels), found.notes
    decoded = decode_by(reading, data, wanted=wanted)
    return decoded.pixels.shape, decoded.notes


def _decoded(data: bytes, kind: str, asked: _Asked) -> Decoded:
    if kind == "JPEG" and not asked.to_srgb and (decoded := _ordinary_jpeg(data, asked)):
        return decoded
    several = _check_header(data, kind, asked.first)
    decoded = _by_some_decoder(data, kind, asked)
    return decoded._replace(notes=(*decoded.notes, *several))


def _by_some_decoder(data: bytes, kind: str, asked: _Asked) -> Decoded:
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


def _ordinary_jpeg(data: bytes, asked: _Asked) -> Decoded | None:
    """Decode a JPEG with nothing unusual in it; None where it takes a longer look, which also says what is at fault."""
    found = ordinary_jpeg(data, asked.wanted, asked.max_pixels)
    if found is None:
        return None
    out = raster.placed(asked.room if found.orientation == 1 else None, found.shape)
    if not jpeg.decode_plain(data, out):
        return None
    pixels = _finished(out, found.orientation, PixelType(found.shape[2]), asked.room)
    return Decoded(pixels, found.orientation, "JPEG", found.notes)


def _check_header(data: bytes, kind: str, first: bool) -> tuple[str, ...]:
    """Raise BadImage for data of which a decoder would silently drop a part; return a note where that is asked for."""
    if kind not in _CHECKS:
        return ()
    try:
        _CHECKS[kind](data, first=first)
    except BadImage:
        raise
    except Exception as error:  # a library that chokes on the header
        raise finding(error, f"{kind} header") from error
    try:
        if first:
            _CHECKS[kind](data, first=False)
    except BadImage:  # which can only be about what comes after the first
        return (notes.FIRST,)
    return ()


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
    said_of = (*said.notes, *notes.of_mode("", alpha=has_alpha(data, kind)))
    return Decoded(_finished(pixels, turn, target, asked.room), said.orientation, kind, said_of)


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
        converted = notes.of_mode(image.mode, alpha=raster.has_alpha(image))
        try:
            out = raster.placed(room, target.shape(image.height, image.width))
            pixels = _pixels(image, data, kind, out, convert, animated=frames > 1)
        except Exception as error:  # every decoder has its own errors
            raise finding(error, kind, image.width * image.height) from error
        said_of = (*said.notes, *converted, *(notes.of_frames(image) if kind in ("GIF", "WEBP") else ()))
    return Decoded(_finished(pixels, said.orientation, target, asked.room), said.orientation, kind, said_of)


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
