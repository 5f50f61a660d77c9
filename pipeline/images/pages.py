"""Pictures of a file that holds several: pages of a TIFF, frames of a GIF, one after the other."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator

import numpy as np
from PIL import GifImagePlugin

from pipeline.images.basis import notes, raster
from pipeline.images.basis.blame import MAX_PIXELS, BadImage, check_size, finding, mismatch
from pipeline.images.basis.pixel_type import RGB, PixelType
from pipeline.images.decoding import Decoded, decode
from pipeline.images.formats import tiff
from pipeline.images.formats.signatures import format_of
from pipeline.images.options import Reading

_MOST_PAGES = 10_000


def pictures_in(data: bytes, reading: Reading, wanted: PixelType | None = RGB) -> Iterator[Decoded] | None:
    """Return the pictures of a file of which each is asked for, in their order, as they are taken.

    None where it is to be decoded as one picture: it holds one, each is not asked for, or its pictures cannot be told
    apart (then decoding refuses it). Masks and reduced versions of other pages are no pictures. Raises BadImage, here
    or at the picture that is at fault, named by its number from 1 on.
    """
    kind = format_of(data)
    if kind == "TIFF" and reading.pages == "all":
        places = _pages(data)
        if len(places) < 2 or tiff.stacked(next(tiff.directories(data))[2]) > len(places):
            return None

        def page(i: int) -> Decoded:
            # "first", since the description of a stack still says how many pages there were.
            found = decode(_alone(data, *places[i]), wanted=wanted, icc=reading.icc, pages="first")
            return found._replace(notes=tuple(note for note in found.notes if note != notes.FIRST))

        return _told_apart(page, len(places), "page")
    return _frames(data, wanted) if kind == "GIF" and reading.gif == "all" else None


def _told_apart(decoded: Callable[[int], Decoded], count: int, name: str) -> Iterator[Decoded]:
    for i in range(count):
        try:
            yield decoded(i)
        except BadImage as bad:
            raise BadImage(bad.reason, f"{name} {i + 1} of {count}: {bad}", bad.pixels) from None


def _pages(data: bytes) -> list[tuple[int, int]]:
    """Return the position of each page's directory, and that of its number that says where the next one is."""
    found, link = list[tuple[int, int]](), None
    for at, link, directory in tiff.directories(data):
        if not tiff.is_reduced(directory):
            found.append((at, link))
    order, pointer, _ = _layout(data)
    if link is not None and any(data[link : link + struct.calcsize(order + pointer)]):
        raise BadImage("corrupt", f"TIFF: what follows its directory {len(found)} is none, or there is no end")
    return found


def _alone(data: bytes, at: int, link: int) -> bytes:
    """Return the file with one of its pages alone, as its first and last."""
    order, pointer, head = _layout(data)
    made = bytearray(data)
    struct.pack_into(order + pointer, made, head, at)
    struct.pack_into(order + pointer, made, link, 0)
    return bytes(made)


def _layout(data: bytes) -> tuple[str, str, int]:
    """Return byte order and code of the numbers that say where a directory is, and the position of the first one."""
    big = 43 in data[2:4]
    return "<" if data[:2] == b"II" else ">", "Q" if big else "I", 8 if big else 4


def _frames(data: bytes, wanted: PixelType | None) -> Iterator[Decoded] | None:
    """Return the frames of a GIF as viewers show them, in RGB over white; None for a single one."""
    try:
        image = GifImagePlugin.GifImageFile(io.BytesIO(data))
        check_size("GIF", *image.size, MAX_PIXELS)
        count = image.n_frames
    except BadImage:
        raise
    except Exception as error:  # a header that the plugin chokes on
        raise finding(error, "GIF header") from error
    if count < 2:
        return None
    if count > _MOST_PAGES:
        raise BadImage("too large", f"GIF of {count} frames, more than {_MOST_PAGES}")
    if wanted and not RGB.becomes(wanted):
        raise mismatch("GIF", RGB, wanted)

    def frame(i: int) -> Decoded:
        try:
            image.seek(i)
            image.load()
            pixels: np.ndarray = raster.array_of(image)
        except Exception as error:  # every decoder has its own errors
            raise finding(error, "GIF", image.width * image.height) from error
        return Decoded(pixels, 1, "GIF")

    return _told_apart(frame, count, "frame")
