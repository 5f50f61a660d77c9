"""Decoding of bytes into arrays and encoding of arrays into bytes; faults of an image are found and named here.

Pixels have the type that the file says: 1, 3 or more channels of 8 or 16 bits. Palettes are expanded; CMYK, YCbCr and
Lab of 8 bits are converted to RGB; alpha, and the transparent colour or palette entries of a PNG, are composited over
white; channels of a TIFF that are neither colour nor alpha stay channels; samples of 10 and 12 bits in AVIF, HEIF and
JPEG XL become samples of 16 bits, full intensity full intensity. Where a caller wants a type, grey is repeated into RGB
of its depth, and anything else that is not of it is refused as `unsupported type`, with both types. An ICC profile is
ignored (values are taken as sRGB), or converted to sRGB where that is asked for; orientation is applied once and
reported. What is passed over or converted so is noted, in words that can be counted.

Nothing is dropped silently. Signed or floating-point samples, depths that none of these types holds, and colour models
that are not known are refused as an `unsupported mode`. An animation of several frames and a TIFF of several pages are
refused with `several pictures`, unless the first one is asked for. Passed over, since they are not images of their own:
whatever accompanies the first image of a JPEG (the second view, the depth or gain map of a camera or phone), and the
reduced versions and masks in a TIFF.

Limits are checked against the header, before any pixel is decoded. Data outside the image itself (texts, profiles, EXIF
of an odd type, stray bytes between segments or after the end) never condemns it.

Names are imported when they are first used, so that options are read without numpy and Pillow.
"""

from typing import TYPE_CHECKING

from pipeline import lazy
from pipeline.images.options import AS_STORED, CodecName, Encoding, Gifs, Pages, Profiles, Reading, require_single_rows

if TYPE_CHECKING:
    from pipeline.images.basis.blame import MAX_PIXELS, BadImage
    from pipeline.images.basis.cells import encoded_in
    from pipeline.images.basis.pixel_type import RGB, PixelType
    from pipeline.images.decoding import (
        EXTENSIONS,
        Decoded,
        decode,
        decode_by,
        prove_by,
    )
    from pipeline.images.encoding import CODECS, Codec, codec_versions, encode, misfit, resize
    from pipeline.images.formats.signatures import ENDINGS, FORMATS, ending_of, format_of, sniffs
    from pipeline.images.header import decoded_bytes, size_of, type_of
    from pipeline.images.pages import pictures_in
    from pipeline.images.room import Room

__all__ = [
    "AS_STORED",
    "CODECS",
    "ENDINGS",
    "EXTENSIONS",
    "FORMATS",
    "MAX_PIXELS",
    "RGB",
    "BadImage",
    "Codec",
    "CodecName",
    "Decoded",
    "Encoding",
    "Gifs",
    "Pages",
    "PixelType",
    "Profiles",
    "Reading",
    "Room",
    "codec_versions",
    "decode",
    "decode_by",
    "decoded_bytes",
    "encode",
    "encoded_in",
    "ending_of",
    "format_of",
    "misfit",
    "pictures_in",
    "prove_by",
    "require_single_rows",
    "resize",
    "size_of",
    "sniffs",
    "type_of",
]

__getattr__ = lazy.names_of(
    __name__,
    {
        "basis.blame": ("MAX_PIXELS", "BadImage"),
        "basis.cells": ("encoded_in",),
        "basis.pixel_type": ("RGB", "PixelType"),
        "decoding": ("EXTENSIONS", "Decoded", "decode", "decode_by", "prove_by"),
        "encoding": ("CODECS", "Codec", "codec_versions", "encode", "misfit", "resize"),
        "formats.signatures": ("ENDINGS", "FORMATS", "ending_of", "format_of", "sniffs"),
        "header": ("decoded_bytes", "size_of", "type_of"),
        "pages": ("pictures_in",),
        "room": ("Room",),
    },
)
