"""Configuration of `jobs.pack`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from pipeline.engine.completion.budget import Budget
from pipeline.engine.records.units import Limits, OnChanged
from pipeline.errors import UserError, check_range
from pipeline.images import Encoding

Layout = Literal["images", "pairs", "unpaired"]


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """What `jobs.pack` reads, how it cuts it, and what it writes."""

    COMMON = (  # what --help shows
        "input", "output", "layout", "input_b", "split", "seed", "on_changed", "moved", "local", "dry_run",
        "budget",
    )  # fmt: skip

    input: str
    """Folder of images (recursive) or Parquet store: a path, or a URL such as s3://BUCKET/PREFIX."""
    output: str
    """Prefix of the store to write; with --split, of the stores."""
    layout: Layout = "images"
    """images: each file is one image. pairs: each file is an A|B picture, cut into image_a (left) and image_b.
    unpaired: --input holds domain A and --input_b domain B; they become the stores OUTPUT/a and OUTPUT/b."""
    input_b: str = ""
    """Second folder, for layout unpaired."""
    split: dict[str, float] = dataclasses.field(default_factory=dict)
    """Names and shares, such as `train 0.8 test 0.2`: a store each, drawn by a seeded hash of the key."""
    seed: int = 0
    """Seed of the split."""
    on_changed: OnChanged = "fail"
    """What becomes of inputs that are gone, or have changed, since they were planned: their unit fails until they are
    back, or they are set aside for good."""
    moved: bool = False
    """The input is the store that the output was begun from, at another place."""
    pair_encoding: Encoding = Encoding(codec="png")
    """How the two halves of an A|B picture are written. All other images keep their bytes."""
    limits: Limits = Limits()
    """Bounds of one unit, and so of one shard."""
    budget: Budget = Budget()
    """How many bad images the job bears."""
    cpus: float = 1.0
    """CPUs of one task."""
    local: bool = False
    """Run in this process, without Ray: a plain loop, for debugging."""
    shared_disk: bool = False
    """Local paths are the same disk on every node, such as NFS; else a cluster of several nodes refuses them."""
    dry_run: bool = False
    """Print the plan and touch nothing."""

    def __post_init__(self) -> None:
        if (self.layout == "unpaired") != bool(self.input_b):
            raise UserError("layout unpaired takes --input and --input_b, the other layouts --input alone")
        for name, share in self.split.items():
            check_range(f"split.{name}", share, above=0)
        if self.split and abs(sum(self.split.values()) - 1) > 1e-6:
            raise UserError(f"split {self.split}: the shares add up to {sum(self.split.values()):g}, not to 1")
        for name in self.split:
            if not name.isidentifier():
                raise UserError(f"split: {name!r} is not a plain word")
