"""Bytes become arrays and arrays become bytes; what is wrong with an image is found here, and named.

Policy, where a file holds more than an 8-bit RGB picture: palettes are expanded; CMYK, YCbCr and Lab are converted;
grey is repeated into three channels; alpha, and the transparent colour or palette entries of a PNG, are composited over
white; an ICC profile is ignored (values are taken as sRGB); orientation is applied, once, and reported.

Nothing is cut down in silence. Samples of more than 8 bits, signed or floating-point ones, and channels that are
neither colour nor alpha are refused as an unsupported mode; an animation of several frames and a TIFF of several pages
are refused as several pictures. No picture of its own, and passed over: what stands beside the first picture of a JPEG
(the second view, the depth or gain map of a camera or phone), and the reduced versions and masks in a TIFF.

Limits are checked against the header, before a pixel is decoded. What is no part of the picture (texts, profiles,
EXIF of an odd type, stray bytes between segments or behind the end) never condemns it.
"""

from pipeline.images.blame import BadImage
from pipeline.images.decoding import EXTENSIONS, FORMATS, MAX_PIXELS, Decoded, decode, encoded_in
from pipeline.images.encoding import CODEC_EXTENSION, Codec, Encoding, codec_versions, encode, misfit, resize

__all__ = [
    "CODEC_EXTENSION",
    "EXTENSIONS",
    "FORMATS",
    "MAX_PIXELS",
    "BadImage",
    "Codec",
    "Decoded",
    "Encoding",
    "codec_versions",
    "decode",
    "encode",
    "encoded_in",
    "misfit",
    "resize",
]
