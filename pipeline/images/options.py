"""Options of the encoding, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import UserError, check_range

CodecName = Literal["jpeg", "png", "webp", "webp_lossy", "tiff", "avif"]
Pages = Literal["one", "first", "all"]
"""What is decoded of a file that may hold several pictures: the one that it holds, or none; the first one; or each."""
Gifs = Literal["none", "first", "all"]
"""What is decoded of a GIF: nothing, its first frame, or each."""
Profiles = Literal["ignore", "to_srgb"]
"""What is done with the ICC profile of a file: nothing, or its colours are converted to sRGB."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Choices where a file may be read in several ways. Part of a job's fingerprint where they are not the default."""

    icc: Profiles = "ignore"
    """Treatment of ICC profiles. to_srgb: colours are converted to sRGB; ignore: values are taken as they are."""
    pages: Pages = "one"
    """Treatment of files that hold several pictures. one: they are quarantined. first: the first one is taken, of
    animations, of TIFFs of several pages, and of GIFs in Parquet. all, in jobs.pack: each page of a TIFF is a row."""
    gif: Gifs = "none"
    """Treatment of GIFs. none: passed over in folders, quarantined elsewhere. first: their first frame is taken. all,
    in jobs.pack: each frame is a row."""

    @property
    def rows_of_pages(self) -> bool:
        """Return True where a file may become several rows."""
        return "all" in (self.pages, self.gif)

    def recorded(self) -> dict[str, str]:
        """Return what a recipe says: only what is not the default, so that older outputs go on."""
        said = {"icc": (self.icc, "ignore"), "pages": (self.pages, "one"), "gif": (self.gif, "none")}
        return {name: value for name, (value, default) in said.items() if value != default}


AS_STORED = Reading()
"""Reading by the defaults."""


def require_single_rows(reading: Reading) -> None:
    """Raise UserError where a file would become several rows, which jobs.pack alone makes."""
    if reading.rows_of_pages:
        option = "pages" if reading.pages == "all" else "gif"
        raise UserError(
            f"--reading.{option} all makes a row of each picture in a file, and jobs.pack does that: pack the files "
            "first, and give its output"
        )


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Encoding of pixels into bytes. Part of a job's fingerprint, since it determines the bytes."""

    codec: CodecName = "jpeg"
    quality: int = 95
    """Quality of jpeg, webp_lossy and avif, 1 to 100; png, webp and tiff are written without loss."""

    def __post_init__(self) -> None:
        check_range("quality", self.quality, least=1, most=100)
