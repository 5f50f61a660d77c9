"""Decoding of bytes into arrays and encoding of arrays into bytes; faults of an image are found and named here.

Policy for files that hold more than an 8-bit RGB image: palettes are expanded; CMYK, YCbCr and Lab are converted; grey
is repeated into three channels; alpha, and the transparent colour or palette entries of a PNG, are composited over
white; an ICC profile is ignored (values are taken as sRGB); orientation is applied once and reported.

Nothing is dropped silently. Samples of more than 8 bits, signed or floating-point samples, and channels that are
neither colour nor alpha are refused as an unsupported mode. An animation of several frames and a TIFF of several pages
are refused with `several pictures`. Passed over, since they are not images of their own: whatever accompanies the first
image of a JPEG (the second view, the depth or gain map of a camera or phone), and the reduced versions and masks in a
TIFF.

Limits are checked against the header, before any pixel is decoded. Data outside the image itself (texts, profiles, EXIF
of an odd type, stray bytes between segments or after the end) never condemns it.

Names are imported when they are first used, so that options are read without numpy and Pillow.
"""

from typing import TYPE_CHECKING

from pipeline import lazy
from pipeline.images.options import CodecName, Encoding

if TYPE_CHECKING:
    from pipeline.images.blame import BadImage
    from pipeline.images.decoding import (
        EXTENSIONS,
        FORMATS,
        MAX_PIXELS,
        Decoded,
        decode,
        decoded_bytes,
        encoded_in,
        format_of,
    )
    from pipeline.images.encoding import CODECS, Codec, codec_versions, encode, misfit, resize
    from pipeline.images.header import size_of
    from pipeline.images.pixel_type import RGB, PixelType
    from pipeline.images.room import Room

__all__ = [
    "CODECS",
    "EXTENSIONS",
    "FORMATS",
    "MAX_PIXELS",
    "RGB",
    "BadImage",
    "Codec",
    "CodecName",
    "Decoded",
    "Encoding",
    "PixelType",
    "Room",
    "codec_versions",
    "decode",
    "decoded_bytes",
    "encode",
    "encoded_in",
    "format_of",
    "misfit",
    "resize",
    "size_of",
]

__getattr__ = lazy.names_of(
    __name__,
    {
        "blame": ("BadImage",),
        "decoding": (
            "EXTENSIONS",
            "FORMATS",
            "MAX_PIXELS",
            "Decoded",
            "decode",
            "decoded_bytes",
            "encoded_in",
            "format_of",
        ),
        "encoding": ("CODECS", "Codec", "codec_versions", "encode", "misfit", "resize"),
        "header": ("size_of",),
        "pixel_type": ("RGB", "PixelType"),
        "room": ("Room",),
    },
)
