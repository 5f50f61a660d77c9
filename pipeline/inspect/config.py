"""Configuration of `jobs.inspect`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import UserError, check_range
from pipeline.images import Reading, require_single_rows
from pipeline.stores.tables.options import Extensions, StoreOptions

Count = int | Literal["all"]


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Options of `jobs.inspect`."""

    input: tuple[str, ...]
    """Store, output, or folder of images. With several, or where it holds several, they are taken for splits: images
    that are in two of them are counted, too."""
    sample: Count = 10_000
    """Number of images whose header is read, drawn at random in each store, or `all`."""
    decode: Count = 256
    """Number of images that are decoded, drawn at random in each store, or `all`."""
    duplicates: bool = False
    """Compare all images by the sha256 of their bytes, also between splits. Reads every byte."""
    json: str = ""
    """File to write all of it to, as JSON."""
    report: str = ""
    """File to write a page with a contact sheet to, as HTML."""
    extensions: Extensions = "known"
    """Files of folders that are images. known: by the ending of their names. any: those whose first bytes are of an
    image, too; a request for each file of another ending, whenever the folder is listed."""
    reading: Reading = Reading()
    """How files are read that are decoded."""
    threads: int = 16
    """Number of reads at once."""

    def __post_init__(self) -> None:
        if not self.input:
            raise UserError("input: give the URL of a store")
        if len(set(self.input)) < len(self.input):
            raise UserError("input: one URL is given twice; give each store once")
        for name in ("sample", "decode"):
            if (value := getattr(self, name)) != "all":
                check_range(name, value, least=0)
        check_range("threads", self.threads, least=1, most=256)
        require_single_rows(self.reading)

    @property
    def store_options(self) -> StoreOptions:
        """Return how to open the stores."""
        return StoreOptions(extensions=self.extensions, gifs=self.reading.gif != "none")
