"""First bytes of files, which say of what format they are, whatever their names."""

from __future__ import annotations

from pipeline.images.basis.blame import BadImage
from pipeline.images.formats import png, tiff

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "AVIF", "JPEG XL", "HEIF", "GIF")
"""Formats that are read: HEIF where pillow-heif is installed, GIF where its first picture is asked for."""

ENDINGS = {
    ".png": "PNG", ".apng": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".jif": "JPEG",
    ".jfi": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP", ".avif": "AVIF", ".jxl": "JPEG XL",
}  # fmt: skip
"""File name endings of the formats that are always read, with the format that such files have as a rule."""

_OTHERS = {
    b"8BPS": "PSD", b"\0\0\0\x0cjP  ": "JPEG 2000", b"\xff\x4f\xff\x51": "JPEG 2000", b"\x76\x2f\x31\x01": "OpenEXR",
    b"%PDF-": "PDF", b"DDS ": "DDS", b"qoif": "QOI", b"\0\0\1\0": "ICO", b"II\xbc\x01": "JPEG XR",
}  # fmt: skip
_BITMAP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}
_AVIF, _HEIF = (b"avif", b"avis"), (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")


def sniffs(data: bytes | memoryview) -> bool:
    """Return True where the data begin as a file of one of FORMATS. Never raises; some 64 bytes suffice."""
    return format_of(data) is not None


def format_of(data: bytes | memoryview) -> str | None:
    """Return which of FORMATS the data begin as; None for any other. Never raises; some 64 bytes suffice."""
    data = bytes(data[:64])
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
    if data.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return "JPEG XL"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    return _container(data)


def ending_of(data: bytes | memoryview) -> str:
    """Return the usual ending, without a dot, of a file that begins like this; empty where it is none of FORMATS."""
    found = format_of(data) or ""
    return {"JPEG": "jpg", "TIFF": "tif", "JPEG XL": "jxl"}.get(found, found.lower())


def format_named(data: bytes) -> str:
    """Return which of FORMATS the data begin as. Raises BadImage for any other, with its name where it has one."""
    if found := format_of(data):
        return found
    supported = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
    other = next((name for magic, name in _OTHERS.items() if data.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        other = "video"
    if other:
        raise BadImage("unsupported format", f"{other}, not {supported}")
    raise BadImage("not an image", f"no {supported} header in {len(data)} bytes")


def _container(data: bytes) -> str | None:
    """Return the format of an ISO base media file (ISO/IEC 14496-12) that holds pictures, by its brands."""
    if data[4:8] != b"ftyp":
        return None
    major, end = data[8:12], min(int.from_bytes(data[:4], "big"), len(data))
    brands = [major, *(data[i : i + 4] for i in range(16, end - 3, 4))]
    if any(brand in _AVIF for brand in brands):
        return "AVIF"
    if major in (b"mif1", b"msf1") or any(brand in _HEIF for brand in brands):
        return "HEIF"
    return None
