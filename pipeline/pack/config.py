"""Configuration of `jobs.pack`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from pipeline.engine.completion.budget import Budget
from pipeline.engine.records.limits import Limits, OnChanged
from pipeline.errors import UserError, check_range
from pipeline.images import Encoding, Reading
from pipeline.stores.forms import FormName
from pipeline.stores.tables.options import Extensions, KeyRule, MissingColumns, check_pair_by

Layout = Literal["images", "pairs", "trees", "unpaired"]
Match = Literal["key", "stem"]
Crop = Literal["none", "centre"]
Pixels = Literal["rgb", "any"]


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """Input of `jobs.pack`, how to cut it, and the store to write."""

    COMMON = (  # what --help shows
        "input", "output", "layout", "input_b", "labels", "form", "split", "split_by", "resize", "local", "dry_run",
        "budget",
    )  # fmt: skip

    input: str
    """Folder of images (recursive) or Parquet store: a path, or a URL such as s3://BUCKET/PREFIX."""
    output: str
    """Prefix of the store to write; with a split, of all stores."""
    layout: Layout = "images"
    """Layout of the input: single images, A|B pictures (pairs), or two folders with the same names (trees) or without
    partners (unpaired). Pairs are cut into image_a (left) and image_b. Trees have domain A in --input and B in
    --input_b, which become image_a and image_b of a row. Unpaired folders become the stores OUTPUT/a and OUTPUT/b."""
    form: FormName = "parquet"
    """Write Parquet shards, WebDataset tars, or a folder of image files with a metadata.parquet. Pairs become two
    folders, OUTPUT/a and OUTPUT/b, which --layout trees reads."""
    input_b: str = ""
    """Second folder, for the layouts trees and unpaired."""
    pair_by: str = ""
    """Regular expression whose first group is the key of a pair, as `(\\d+)_[a-z]+.png`. It is searched in the
    relative name of each file of both folders. By default the key is the relative name without its ending. Files
    without a partner are counted, and named in OUTPUT/_transdomain/without_partner.csv."""
    input_column: tuple[str, ...] = ()
    """Image column that is packed, and becomes `image` (or is cut, in layout pairs), where the input is Parquet or
    tars; or the two of a pair, which become image_a and image_b. Other image columns ride along as they are, unseen. By
    default all image columns are packed under their own names."""
    pixels: Pixels = "rgb"
    """Pictures that are taken. rgb: colour or grey of 8 bits; others are quarantined. any: of all channels, and of 16
    bits, as they are."""
    reading: Reading = Reading()
    """How files are read; images that are not cut or resized, and no pages of a file, keep their bytes in any case."""
    labels: str = ""
    """File with a row of labels for each image: .csv, .tsv, .parquet or .jsonl. Its columns keep their types,
    and an image without a row gets nulls. In CSV, a column of whole numbers, numbers, or true and false is read
    as that, and any other as text."""
    labels_key: str = ""
    """Column of the labels that holds the key of the image; by default `key` or `file_name`. The key of a file is its
    path relative to the input, that of a pair of files the path without its ending."""
    labels_match: Match = "key"
    """What a key of the labels has to be: the key of the image, or its stem, which is the key without its ending; that
    of an image file in the labels is left out then, too."""
    extensions: Extensions = "known"
    """Files of folders that are images. known: by the ending of their names. any: those whose first bytes are of an
    image, too; a request for each file of another ending, whenever the folder is listed."""
    keys: KeyRule = "own"
    """Names of rows, where the input is Parquet. own: the column key, else SHARD#ROW. by_shard: SHARD#KEY, for keys
    that begin anew in each shard."""
    missing_columns: MissingColumns = "fail"
    """Treatment of columns that some Parquet shards lack. null: their rows have nulls there."""
    split: dict[str, float] = dataclasses.field(default_factory=dict)
    """Names and shares, such as `train 0.8 test 0.2`: one store each, drawn by a seeded hash of the key."""
    split_by: str = ""
    """Column of labels or input: one store for each value. Images without a value are in none of them, and are
    counted."""
    split_file: str = ""
    """File with columns `key` and `split`: one store for each split. It has one of the formats of --labels. Images that
    it does not name are in none of them, and are counted."""
    resize: tuple[int, ...] = ()
    """Size in pixels that images get: N for the shorter side, or W H, which changes the aspect ratio without --crop
    centre. By default images keep their bytes. All image columns are resized, label maps too, by bicubic
    interpolation."""
    crop: Crop = "none"
    """Treatment of other proportions than those of --resize. centre: the picture is resized to cover W × H, or N × N,
    and its centre is cut out."""
    encoding: Encoding = Encoding(codec="png")
    """Encoding of resized images; those of layout pairs have --pair_encoding."""
    from_quarantine: bool = False
    """Run again what OUTPUT has quarantined, once its cause is mended, and nothing new. What is good then is added,
    what is not stays quarantined, and each input counts once. Files are taken as they are now, rows of Parquet shards
    where the shard has not changed."""
    seed: int = 0
    """Seed of the split."""
    on_changed: OnChanged = "fail"
    """Treatment of inputs that are gone, or have changed, since they were planned: fail their unit until they are back,
    or quarantine them for good."""
    moved: bool = False
    """Input is the store that the output was begun from, at another place."""
    pair_encoding: Encoding = Encoding(codec="png")
    """Encoding of the two halves of an A|B image."""
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

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names that the columns of --input_column get; none where there are none."""
        return ((), ("image",), ("image_a", "image_b"))[len(self.input_column)]

    @property
    def renames(self) -> dict[str, str]:
        """Return the new name of each column of --input_column."""
        return dict(zip(self.input_column, self.columns, strict=True))

    def __post_init__(self) -> None:
        self._check_columns()
        if (self.layout in ("trees", "unpaired")) != bool(self.input_b):
            raise UserError("layouts trees and unpaired take --input and --input_b, the other layouts --input alone")
        if self.reading.rows_of_pages and self.layout in ("pairs", "trees"):
            raise UserError(
                f"--reading.pages all and --reading.gif all make rows of single images, and layout {self.layout} pairs "
                "them; use --layout images, or first in place of all"
            )
        self._check_splits()
        self._check_labels()
        self._check_size()

    def _check_columns(self) -> None:
        given = len(self.input_column)
        if given > 2 or len(set(self.input_column)) < given:
            raise UserError(
                f"input_column {' '.join(self.input_column)}: give one image column, or the two of a pair, A and B"
            )
        if given and self.layout == "trees":
            raise UserError("layout trees pairs files, which have no columns; leave out --input_column")
        if given == 2 and self.layout != "images":
            raise UserError(f"two columns are a pair already, which layout {self.layout} does not take; leave it out")
        if given == 2 and self.form == "folder":
            raise UserError("a folder has one image a row, and two columns are a pair; use another --form")

    def _check_splits(self) -> None:
        for name, share in self.split.items():
            check_range(f"split.{name}", share, above=0)
        if self.split and abs(sum(self.split.values()) - 1) > 1e-6:
            raise UserError(f"split {self.split}: the shares add up to {sum(self.split.values()):g}, not to 1")
        for name in self.split:
            if not name.isidentifier():
                raise UserError(f"split: {name!r} is not a plain word")
        if len(given := [f"--{n}" for n in ("split", "split_by", "split_file") if getattr(self, n)]) > 1:
            raise UserError(f"{' and '.join(given)} are several ways to split; give one of them")
        if self.layout == "unpaired" and (self.split_by or self.split_file or self.labels):
            raise UserError(
                "layout unpaired has two stores of keys, which --labels, --split_by and --split_file do not tell "
                "apart; pack each domain by itself, with layout images"
            )

    def _check_labels(self) -> None:
        if not self.labels and (self.labels_key or self.labels_match != "key"):
            raise UserError("--labels_key and --labels_match say how to join --labels, which is not given")
        if not self.pair_by:
            return
        if self.layout != "trees":
            raise UserError("--pair_by pairs files of two folders: it belongs to --layout trees")
        check_pair_by(self.pair_by)

    def _check_size(self) -> None:
        if len(self.resize) > 2:
            raise UserError(f"resize {' '.join(map(str, self.resize))}: give one length, N, or width and height, W H")
        for side in self.resize:
            check_range("resize", side, least=1, most=65_500)
        if self.resize:
            if self.layout == "pairs" and self.encoding != Encoding(codec="png"):
                raise UserError("--encoding has no effect on the halves of layout pairs; give --pair_encoding")
        elif self.crop != "none" or self.encoding != Encoding(codec="png"):
            raise UserError("--crop and --encoding are of resized images, and others keep their bytes; add --resize")
