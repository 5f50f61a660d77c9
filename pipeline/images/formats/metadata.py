"""Orientation and colour profile, wherever a file keeps them: they advise, and never cost an image that decodes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pipeline.images.formats import boxes, jpeg, jxl, png, tiff

_XMP_ORIENTATION = re.compile(r'tiff:Orientation(?:="|>)([1-8])')

_NOT_CONVERTED = "its colours are not those of sRGB, and are not converted"


class Advice(NamedTuple):
    """What a file says about its image besides pixels."""

    orientation: int
    """EXIF orientation, 1 (none) to 8."""
    profile: bytes | None
    """ICC profile."""
    notes: tuple[str, ...] = ()
    """What could not be read, in words."""


def advice(data: bytes, kind: str, info: Mapping[Any, Any], *, profile: bool) -> Advice:
    """Return what the file says; `info` is what Pillow has read of it, where that has opened it.

    A profile is read where one is asked for; one that is broken is empty.

    EXIF goes before XMP. What is broken counts as missing, and is noted. Never raises.
    """
    if kind in ("AVIF", "HEIF"):
        described = boxes.primary(data)
        notes = (_NOT_CONVERTED,) if profile and described.other_colours else ()
        return Advice(described.orientation, described.profile, notes)
    if kind == "JPEG XL":
        header = jxl.header(data)
        notes = (_NOT_CONVERTED,) if profile and header and not header.srgb else ()
        return Advice(header.orientation if header else 1, None, notes)
    said = advised(_exif(data, kind, info), lambda: _xmp(data, kind, info), is_tiff=kind == "TIFF")
    read = {"PNG": png.profile, "TIFF": tiff.profile}.get(kind, lambda _: info.get("icc_profile"))
    found = read(data) if profile else None
    return said._replace(profile=found if isinstance(found, bytes) else None)


def advised(exif: bytes | None, xmp: Callable[[], str], *, is_tiff: bool = False) -> Advice:
    """Return what EXIF says, or XMP where that says nothing; `is_tiff` says that the EXIF is the file itself."""
    notes: tuple[str, ...] = ()
    if exif:
        body = exif[exif.startswith(b"Exif\0\0") * 6 :]
        orientation = tiff.orientation(body)
        if orientation is not None:
            return Advice(orientation, None)
        if not is_tiff and not tiff.readable(body):
            notes = ("its EXIF cannot be read",)
    match = _XMP_ORIENTATION.search(xmp())
    return Advice(int(match[1]) if match else 1, None, notes)


def _exif(data: bytes, kind: str, info: Mapping[Any, Any]) -> bytes | None:
    own = {"TIFF": lambda: data, "PNG": lambda: png.exif(data), "JPEG": lambda: info.get("exif") or jpeg.exif(data)}
    found = own.get(kind, lambda: None)() or info.get("exif")
    return found if isinstance(found, bytes) else None


def _xmp(data: bytes, kind: str, info: Mapping[Any, Any]) -> str:
    found = info.get("XML:com.adobe.xmp") or info.get("xmp")
    if not found and not info:
        found = {"TIFF": tiff.xmp, "PNG": png.xmp}.get(kind, lambda _: None)(data)
    return found.decode("latin-1") if isinstance(found, bytes) else found if isinstance(found, str) else ""
