"""Options of the encoding, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import check_range

CodecName = Literal["jpeg", "png", "webp", "webp_lossy", "tiff", "avif"]
Pages = Literal["one", "first"]
"""What is decoded of a file that may hold several pictures: the one that it holds, else none; or the first one."""
Profiles = Literal["ignore", "to_srgb"]
"""What is done with the ICC profile of a file: nothing, or its colours are converted to sRGB."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Encoding of pixels into bytes. Part of a job's fingerprint, since it determines the bytes."""

    codec: CodecName = "jpeg"
    quality: int = 95
    """Quality of jpeg, webp_lossy and avif, 1 to 100; png, webp and tiff are written without loss."""

    def __post_init__(self) -> None:
        check_range("quality", self.quality, least=1, most=100)
