"""Decoding of bytes into arrays; faults of an image are found and named here."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from pipeline.images import jpeg, png, raster, tiff
from pipeline.images.blame import BadImage, finding, prove_room
from pipeline.images.header import size_of, webp_size
from pipeline.images.pixel_type import RGB

T = TypeVar("T")

EXTENSIONS = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".webp", ".tif", ".tiff", ".bmp",
)  # fmt: skip
"""File name endings of the formats that `decode` knows."""
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
MAX_PIXELS = 178_956_970
"""Limit of pixels, checked in the header: 512 MB at 3 bytes a pixel. Pillow has the same limit."""

_OPEN: Mapping[str, Callable[..., ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,  # not its factory, which reacts to the segment of further views
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}
_OTHER_FORMATS = {
    b"GIF8": "GIF", b"8BPS": "PSD", b"\xff\x0a": "JPEG XL", b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000", b"\x76\x2f\x31\x01": "OpenEXR", b"%PDF-": "PDF", b"DDS ": "DDS", b"qoif": "QOI",
    b"\0\0\1\0": "ICO", b"II\xbc\x01": "JPEG XR",
}  # fmt: skip
_BITMAP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}
_EIGHT_BIT_MODES = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", *raster.ALPHA_MODES)
_XMP_ORIENTATION = re.compile(r'tiff:Orientation(?:="|>)([1-8])')


class Decoded(NamedTuple):
    """Decoded image, with what its file said about it."""

    pixels: np.ndarray
    """Pixels [height, width, 3] of the type RGB, after orientation."""
    orientation: int
    """EXIF orientation that was applied, 1 (none) to 8."""


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


def decoded_bytes(data: bytes | memoryview) -> int:
    """Return the bytes of the decoded image, by its header; of the largest one that is decoded, where it promises more.

    Zero where the header promises nothing. Never raises.
    """
    width, height = size_of(data)
    return RGB.bytes * min(width * height, MAX_PIXELS)


def decode(data: bytes | memoryview, *, max_pixels: int = MAX_PIXELS, room: np.ndarray | None = None) -> Decoded:
    """Decode the image in `data`.

    Its pixels are at the beginning of `room`, a flat array of uint8, where that is given and large enough; else in
    memory of their own.

    Raises BadImage where the bytes are at fault, with one of these reasons: empty, not an image, unsupported format,
    unsupported mode, several pictures, too large, corrupt. Any other error is the machine's: MemoryError, or an OSError
    with its number. So that a passing fault is not blamed on the image, it counts as corrupt only if decoding fails
    twice, the second time with proof that there is enough memory.
    """
    if len(data) == 0:
        raise BadImage("empty", "the file has no bytes")
    data = bytes(data)
    _silence_pillow()
    kind = _format(data)
    try:
        return _decoded(data, kind, max_pixels, room)
    except BadImage as bad:
        if bad.reason != "corrupt":
            raise
        prove_room(len(data), bad.pixels)
    return _decoded(data, kind, max_pixels, room)


def format_of(data: bytes) -> str | None:
    """Return which of FORMATS the data begin as; None for any other."""
    try:
        return _format(data)
    except BadImage:
        return None


def _format(data: bytes) -> str:
    """Return which of FORMATS the data begin as. Raises BadImage for any other."""
    if data.startswith(png.SIGNATURE):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:4] in tiff.SIGNATURES:
        return "TIFF"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BITMAP_HEADERS:
        return "BMP"
    supported = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
    other = next((name for magic, name in _OTHER_FORMATS.items() if data.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        other = (
            "AVIF" if data[8:11] == b"avi" else "HEIF" if data[8:11] in (b"hei", b"hev", b"mif", b"msf") else "video"
        )
    if other:
        raise BadImage("unsupported format", f"{other}, not {supported}")
    raise BadImage("not an image", f"no {supported} header in {len(data)} bytes")


def _decoded(data: bytes, kind: str, max_pixels: int, room: np.ndarray | None) -> Decoded:
    _check_header(data, kind)
    try:
        return _decoded_by_library(data, data, kind, max_pixels, room)
    except BadImage as bad:
        bare = {"PNG": png.bare, "JPEG": jpeg.bare}.get(kind)
        if bad.reason != "corrupt" or bare is None or (rest := bare(data)) == data:
            raise
    return _decoded_by_library(rest, data, kind, max_pixels, room)


def _check_header(data: bytes, kind: str) -> None:
    """Raise BadImage for data of which a decoder would silently drop a part."""
    checks: dict[str, Callable[[bytes], None]] = {"PNG": png.check, "JPEG": jpeg.check, "TIFF": tiff.check}
    if kind in checks:
        checks[kind](data)


def _decoded_by_library(data: bytes, whole: bytes, kind: str, max_pixels: int, room: np.ndarray | None) -> Decoded:
    """Decode the image in `data`, oriented as the `whole` file says; `data` may be the file without its extras."""
    canvas = webp_size(data[:30]) if kind == "WEBP" else (0, 0)
    _check_size(canvas, max_pixels)  # opening a WebP allocates memory for the canvas
    try:
        image = _OPEN[kind](io.BytesIO(tiff.unturned(data) if kind == "TIFF" else data))
    except Exception as error:  # a header that a plugin chokes on
        raise finding(error, f"{kind} header", canvas[0] * canvas[1]) from error
    with image:
        _check_size(image.size, max_pixels)
        if kind == "WEBP" and (frames := getattr(image, "n_frames", 1)) > 1:
            raise BadImage("several pictures", f"animated WebP of {frames} frames; give each a file of its own")
        if image.mode not in _EIGHT_BIT_MODES:
            raise BadImage("unsupported mode", f"{kind} of mode {image.mode} (8-bit pictures are supported)")
        orientation = _orientation(image, whole, kind)
        shape = (image.height, image.width, 3)
        try:
            pixels = _pixels(image, data, kind, _placed(room if orientation == 1 else None, shape))
        except Exception as error:  # every decoder has its own errors
            raise finding(error, kind, image.width * image.height) from error
    if orientation == 1:
        return Decoded(pixels, orientation)
    turned = _turned(pixels, orientation)
    place = _placed(room, turned.shape)
    place[...] = turned
    return Decoded(place, orientation)


def _placed(room: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """Return an array of this shape: the beginning of `room` where it suffices, else memory of its own."""
    size = int(np.prod(shape))
    if room is None or len(room) < size:
        return raster.empty(shape)
    return room[:size].reshape(shape)


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise BadImage("too large", f"{width} × {height} pixels are more than {max_pixels}")


def _orientation(image: Image.Image, data: bytes, kind: str) -> int:
    """Return the orientation given in EXIF or, failing that, in XMP; 1 where neither gives one."""
    info: Mapping[Any, Any] = image.info
    own = {"TIFF": lambda: data, "PNG": lambda: png.exif(data), "JPEG": lambda: info.get("exif") or jpeg.exif(data)}
    exif = own.get(kind, lambda: None)() or info.get("exif")
    if isinstance(exif, bytes):
        found = tiff.orientation(exif[exif.startswith(b"Exif\0\0") * 6 :])
        if found is not None:
            return found
    xmp = info.get("XML:com.adobe.xmp") or info.get("xmp") or ""
    if isinstance(xmp, bytes):
        xmp = xmp.decode("latin-1")
    match = _XMP_ORIENTATION.search(xmp) if isinstance(xmp, str) else None
    return int(match[1]) if match else 1


def _pixels(image: ImageFile.ImageFile, data: bytes, kind: str, out: np.ndarray) -> np.ndarray:
    """Return pixels of the type RGB as stored, before orientation, in `out`."""
    if kind == "JPEG" and image.mode in ("L", "RGB"):
        pixels = jpeg.decode(data, out)
        if pixels is not None:
            return pixels
    if kind == "WEBP":
        return _webp(data, out, alpha=raster.has_alpha(image))
    if kind == "TIFF":
        image.load_end = lambda: None  # type: ignore[method-assign] # Pillow's would turn it as XMP says
    image.load()
    if kind == "PNG":
        png.set_transparency(image, data)
    return raster.rgb_array(image, out)


def _webp(data: bytes, out: np.ndarray, *, alpha: bool) -> np.ndarray:
    """Decode a still WebP to RGB, alpha over white, in `out`: Pillow's decoder is that of animations, and holds the
    image five times.
    """
    import imagecodecs  # imported here: it takes a moment, and few stores hold WebP

    if not alpha:
        return imagecodecs.webp_decode(data, out=out)
    return raster.over_white(imagecodecs.webp_decode(data), out)


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return a view of the stored rows and columns, turned and mirrored as the camera says (EXIF 2.3, tag 274)."""
    match orientation:
        case 2:
            return pixels[:, ::-1]
        case 3:
            return pixels[::-1, ::-1]
        case 4:
            return pixels[::-1]
        case 5:
            return pixels.transpose(1, 0, 2)
        case 6:
            return np.rot90(pixels, -1)
        case 7:
            return pixels.transpose(1, 0, 2)[::-1, ::-1]
        case 8:
            return np.rot90(pixels)
    return pixels


def _silence_pillow() -> None:
    """Keep Pillow's warnings about harmless oddities from being shown, or raised where warnings are errors.

    The change is permanent and for the whole process, since all threads share one list of filters.
    """
    ours = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
    if not warnings.filters or warnings.filters[0] != ours:
        warnings.filterwarnings("ignore", module=r"PIL\.")
