"""Configuration of `jobs.augment`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import UserError, check_range
from pipeline.translation.options import NAME, Direction, TranslationOptions

ORIGINAL = "original"
"""Name under which images are kept that were not translated."""

Schedule = Literal["hour", "day", "week", "month"]


@dataclass(frozen=True, kw_only=True)
class Translator:
    """One model, and its share of the images."""

    bundle: str
    """Model bundle: the folder that training wrote; or a program, as in jobs.translate."""
    direction: Direction | None = None
    """Direction whose generator to use; by default the one that the bundle was trained for."""
    probability: float = 1.0
    """Share of the images that it translates, in (0, 1]. Each image is drawn for each translator independently."""

    def __post_init__(self) -> None:
        check_range("probability", self.probability, above=0, most=1)


@dataclass(frozen=True, kw_only=True)
class _Augment:
    """Options of this job alone, in a class of their own so that they come before the shared ones."""

    sources: dict[str, str]
    """Names and stores, such as `cameras s3://BUCKET/cameras`. The name decides whether a shard is new: keep it when
    the store moves."""
    output: str
    """Prefix of the dataset; its data is in data/slot=SLOT/translator=NAME/."""
    translators: dict[str, Translator] = dataclasses.field(default_factory=dict)
    """Translators by name: bundle, direction, probability. List them in a file; flags such as
    --translators.NAME.probability 0.2 change its values."""
    keep_originals: bool = True
    """Keep each image unchanged, too, as translator=original."""
    labels: tuple[str, ...] | None = None
    """Columns to carry along; none where the list is empty. By default all, which the sources must then have in
    common."""
    input_column: str = ""
    """Image column to translate; by default `image`, else `image_a` or `image_b` to match the direction."""
    seed: int = 0
    """Seed of the draw, which depends on nothing but the seed, the translator's name and the image's key."""
    schedule: Schedule = "day"
    """Length of a slot. Slots are named in UTC: 2026-11-23T05, 2026-11-23, 2026-W48 or 2026-11."""
    slot: str = ""
    """Slot to run; by default the current one."""
    keep_slots: int | None = None
    """Number of newest finished slots to keep; the data of older ones is deleted. Their plans and records stay, so
    nothing is augmented twice."""
    redo: tuple[str, ...] = ()
    """Slots to make anew with these settings, from the same inputs: a new version beside the old one, which is read in
    its place once it is whole. Old data stays until jobs.verify --keep_versions."""
    status: bool = False
    """Print the last slots and write nothing."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(TranslationOptions, _Augment):
    """Sources, translators and slot of `jobs.augment`, which translates new images into one growing dataset."""

    COMMON = (  # what --help shows
        "sources", "output", "translators", "keep_originals", "labels", "schedule", "slot", "keep_slots",
        "redo", "status", "size", "device", "batch", "local", "dry_run",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.translators and not self.keep_originals:
            raise UserError("there is nothing to make: name translators in a --config file, or --keep_originals")
        for kind, names in (("source", self.sources), ("translator", self.translators)):
            for name in names:
                if not NAME.fullmatch(name):
                    raise UserError(f"{kind} {name!r}: a name has letters, digits, - and _ only")
        if ORIGINAL in self.translators:
            raise UserError(f"translator {ORIGINAL!r}: images that are not translated have this name; take another")
        if self.labels is not None and self.missing_columns == "null":
            raise UserError(
                "--labels names columns that all shards have; leave out --missing_columns null, or --labels"
            )
        if self.redo and (self.slot or self.status):
            raise UserError("--redo names the slots to make anew; leave out --slot and --status")
        check_range("keep_slots", self.keep_slots, least=1)
