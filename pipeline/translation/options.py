"""Options that all jobs share which translate."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from pipeline.engine.completion.budget import Budget
from pipeline.engine.estimate.prices import Prices
from pipeline.engine.records.limits import Limits, OnChanged
from pipeline.errors import UserError, check_range
from pipeline.geometry.kinds import Frame, Kind
from pipeline.images import Encoding, Reading, require_single_rows
from pipeline.models.arithmetic import Trunk
from pipeline.stores.tables.options import Extensions, KeyRule, MissingColumns, StoreOptions

Compile = Literal["auto", "always", "never"]
SizePolicy = Literal["native", "original", "training"]
Direction = Literal["a_to_b", "b_to_a"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""Name of a translator, which becomes the name of a folder."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Resources that one task of each stage takes, and the number of actors that hold the model."""

    decode_cpus: float = 0.5
    """CPUs of one task that reads and decodes."""
    encode_cpus: float = 0.5
    """CPUs of one task that encodes and writes."""
    actor_cpus: float | None = None
    """CPUs that one actor books; by default 1 beside a GPU, else half a node's, which leaves the other half to decode
    and encode. On a CPU it computes with `threads` threads, whatever it books."""
    actor_gpus: float | None = None
    """GPUs of one actor; by default 1 where the device is a GPU, else 0."""
    actors: int | None = None
    """Smallest number of actors; by default one for each GPU of the cluster, on CPUs one a node, and 1 where max_actors
    says how many there may be."""
    max_actors: int | None = None
    """Largest number of actors; by default as many as the smallest."""
    threads: int | None = None
    """Threads of one actor's arithmetic on a CPU; by default the number that the output began with, else all cores. The
    number decides a last bit of some pixels, so it is part of the record."""


@dataclass(frozen=True, kw_only=True)
class TranslationOptions:
    """Options for translating and writing images, shared by all jobs that translate."""

    size: SizePolicy = "native"
    """Size of the image that is translated. native: the image's own size (padded, then cropped). training: resized to
    the size of the training. original: resized to the training size and back."""
    geometry: dict[str, Kind] = field(default_factory=dict)
    """Columns with boxes, points and masks, each with its kind, such as `boxes xyxy mask image`: they follow their
    picture where --size or its EXIF orientation changes its frame. objects.bbox is a field of a struct."""
    geometry_frame: Frame = "stored"
    """Frame of their coordinates: that of the stored pixels, or that which viewers show, after the EXIF orientation."""
    reading: Reading = Reading()
    """How files are read."""
    encoding: Encoding = Encoding()
    """Encoding of the translations."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that the model runs on."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the model. auto: the fastest here, by a measurement of a few seconds before the first unit."""
    trunk: Literal["auto"] | Trunk = "auto"
    """Convolution in a ResNet's residual blocks: direct, or winograd, with a quarter of the multiplications, in fp32 on
    a CPU; winograd_c is the same in C, which is faster and needs a C compiler. auto: the fastest here, by the same
    measurement."""
    compile: Compile = "auto"
    """Compile the generator ahead of time for the most common image sizes, which takes about a minute for each and is
    kept in ~/.cache. auto: where that saves more than it costs, and it has proved faster here."""
    batch: int | None = None
    """Images of one size that the model takes at once, padded to this number. By default, as many as have two million
    pixels on a GPU (32 of 256²), and 1 on a CPU."""
    tile_megapixels: float | None = None
    """Megapixels above which a picture goes through the model in tiles, normalised with the statistics of the whole:
    the same picture in less memory and about the same time. By default, what needs more than half of a GPU's memory,
    or 2.5 GB on a CPU: with 64 channels, above 1920 × 1080."""
    resources: Resources = Resources()
    """Resources that the stages take on the cluster."""
    limits: Limits = Limits()
    """Bounds of one unit, and so of one shard."""
    budget: Budget = Budget()
    """Number and share of bad images that are acceptable."""
    extensions: Extensions = "known"
    """Files of folders that are images. known: by the ending of their names. any: those whose first bytes are of an
    image, too; a request for each file of another ending, whenever the folder is listed."""
    keys: KeyRule = "own"
    """Names of rows, where the input is Parquet. own: the column key, else SHARD#ROW. by_shard: SHARD#KEY, for keys
    that begin anew in each shard."""
    missing_columns: MissingColumns = "fail"
    """Treatment of columns that some Parquet shards lack. null: their rows have nulls there."""
    on_changed: OnChanged = "fail"
    """Treatment of inputs that are gone, or have changed, since they were planned. fail: their unit fails until they
    are back. set_aside: they are quarantined for good."""
    local: bool = False
    """Run in this process, without Ray: a plain loop, for debugging."""
    shared_disk: bool = False
    """Local paths are the same disk on every node, such as NFS; else a cluster of several nodes refuses them."""
    dry_run: bool = False
    """Print the plan, and what it will take, and write nothing."""
    sample: int | None = None
    """Images that are translated before anything is planned, drawn at random, so that the plan knows bytes and time."""
    images_per_s: float | None = None
    """Translations of this input's images that one device makes in a second, for a dry run of what another machine is
    to compute."""
    prices: Prices = Prices()
    """Prices by which plan and report give the cost."""

    def store_options(self, input_column: str) -> StoreOptions:
        """Return how to open a store of which `input_column` is translated, where it is named."""
        pictures = (input_column,) if input_column else ()
        return StoreOptions(
            pictures=pictures,
            keys=self.keys,
            missing_columns=self.missing_columns,
            extensions=self.extensions,
            gifs=self.reading.gif != "none",
        )

    def __post_init__(self) -> None:
        check_range("batch", self.batch, least=1)
        check_range("tile_megapixels", self.tile_megapixels, above=0)
        check_range("sample", self.sample, least=1)
        check_range("images_per_s", self.images_per_s, above=0)
        require_single_rows(self.reading)
        if self.images_per_s is not None and (self.sample is not None or not self.dry_run):
            raise UserError(
                "--images_per_s is for --dry_run without --sample: a run, and a sample, measure the rate; leave it out"
            )


C = TypeVar("C", bound=TranslationOptions)


def of_version(config: C, output: str, recipe_only: bool) -> C:
    """Return a configuration with another output; one for the recipe alone leaves nothing to be measured or counted."""
    changed: dict[str, Any] = {"output": output}
    if recipe_only:
        changed |= {"dry_run": True, "sample": None, "limits": replace(config.limits, rows=1)}
    return replace(config, **changed)
