"""Configuration of `jobs.pack`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from pipeline.engine.completion.budget import Budget
from pipeline.engine.records.limits import Limits, OnChanged
from pipeline.errors import UserError, check_range
from pipeline.images import Encoding
from pipeline.stores.forms import FormName
from pipeline.stores.tables.options import KeyRule, MissingColumns

Layout = Literal["images", "pairs", "unpaired"]


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """Input of `jobs.pack`, how to cut it, and the store to write."""

    COMMON = (  # what --help shows
        "input", "output", "layout", "input_b", "form", "split", "seed", "on_changed", "moved", "local", "dry_run",
        "budget",
    )  # fmt: skip

    input: str
    """Folder of images (recursive) or Parquet store: a path, or a URL such as s3://BUCKET/PREFIX."""
    output: str
    """Prefix of the store to write; with --split, of all stores."""
    layout: Layout = "images"
    """Layout of the input. images: each file is one image. pairs: each file is an A|B image, cut into image_a (left)
    and image_b. unpaired: --input holds domain A and --input_b domain B; the outputs are the stores OUTPUT/a and
    OUTPUT/b."""
    form: FormName = "parquet"
    """Write Parquet shards, WebDataset tars, or a folder of image files with a metadata.parquet."""
    input_b: str = ""
    """Second folder, for layout unpaired."""
    keys: KeyRule = "own"
    """Names of rows, where the input is Parquet. own: the column key, else SHARD#ROW. by_shard: SHARD#KEY, for keys
    that begin anew in each shard."""
    missing_columns: MissingColumns = "fail"
    """Treatment of columns that some Parquet shards lack. null: their rows have nulls there."""
    split: dict[str, float] = dataclasses.field(default_factory=dict)
    """Names and shares, such as `train 0.8 test 0.2`: one store each, drawn by a seeded hash of the key."""
    seed: int = 0
    """Seed of the split."""
    on_changed: OnChanged = "fail"
    """Treatment of inputs that are gone, or have changed, since they were planned. fail: their unit fails until they
    are back. set_aside: they are quarantined for good."""
    moved: bool = False
    """Input is the store that the output was begun from, at another place."""
    pair_encoding: Encoding = Encoding(codec="png")
    """Encoding of the two halves of an A|B image. All other images keep their bytes."""
    limits: Limits = Limits()
    """Bounds of one unit, and so of one shard."""
    budget: Budget = Budget()
    """Number and share of bad images that are acceptable."""
    cpus: float = 1.0
    """CPUs of one task."""
    local: bool = False
    """Run in this process, without Ray: a plain loop, for debugging."""
    shared_disk: bool = False
    """Local paths are the same disk on every node, such as NFS; else a cluster of several nodes refuses them."""
    dry_run: bool = False
    """Print the plan and write nothing."""

    def __post_init__(self) -> None:
        if (self.layout == "unpaired") != bool(self.input_b):
            raise UserError("layout unpaired takes --input and --input_b, the other layouts --input alone")
        if self.layout == "pairs" and self.form == "folder":
            raise UserError("a folder has one image a row, and layout pairs makes two; use another --form")
        for name, share in self.split.items():
            check_range(f"split.{name}", share, above=0)
        if self.split and abs(sum(self.split.values()) - 1) > 1e-6:
            raise UserError(f"split {self.split}: the shares add up to {sum(self.split.values()):g}, not to 1")
        for name in self.split:
            if not name.isidentifier():
                raise UserError(f"split: {name!r} is not a plain word")
