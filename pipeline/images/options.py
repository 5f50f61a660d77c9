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
class Reading:
    """Choices where a file may be read in several ways. Part of a job's fingerprint where they are not the default."""

    icc: Profiles = "ignore"
    """Treatment of ICC profiles. to_srgb: colours are converted to sRGB; ignore: values are taken as they are."""
    pages: Pages = "one"
    """Treatment of files that hold several pictures. one: they are quarantined. first: the first one is taken, of
    animations, of TIFFs of several pages, and of GIFs in Parquet."""

    def recorded(self) -> dict[str, str]:
        """Return what a recipe says: only what is not the default, so that older outputs go on."""
        said = {"icc": (self.icc, "ignore"), "pages": (self.pages, "one")}
        return {name: value for name, (value, default) in said.items() if value != default}


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Encoding of pixels into bytes. Part of a job's fingerprint, since it determines the bytes."""

    codec: CodecName = "jpeg"
    quality: int = 95
    """Quality of jpeg, webp_lossy and avif, 1 to 100; png, webp and tiff are written without loss."""

    def __post_init__(self) -> None:
        check_range("quality", self.quality, least=1, most=100)
