"""Options of the encoding, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import check_range

CodecName = Literal["jpeg", "png", "webp"]


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Encoding of pixels into bytes. Part of a job's fingerprint, since it determines the bytes."""

    codec: CodecName = "jpeg"
    quality: int = 95
    """JPEG quality, 1 to 100; PNG and WebP are written without loss."""

    def __post_init__(self) -> None:
        check_range("quality", self.quality, least=1, most=100)
