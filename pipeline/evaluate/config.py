"""Configuration of `jobs.evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.engine.completion.budget import Budget
from pipeline.engine.records.limits import Limits
from pipeline.errors import UserError, check_range
from pipeline.images import Reading, require_single_rows
from pipeline.stores.tables.options import Extensions, KeyRule, MissingColumns, StoreOptions, check_pair_by

Resize = Literal["clean", "pytorch_fid"]


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Inputs, reference, extractor and output of `jobs.evaluate`."""

    COMMON = (  # what --help shows
        "input", "inputs", "output", "targets", "pair_by", "reference", "target_column", "bundle", "train", "extractor",
        "extractor_weights", "lpips", "structure", "local", "dry_run",
    )  # fmt: skip

    output: str
    """Prefix for report.html, scores.json, scores.md and _transdomain/scores.csv, and for scores and features of all
    images; the same command goes on from there."""
    input: str = ""
    """Translated store, or a folder of images. With a target in its rows, each image is compared with its own, too."""
    inputs: tuple[str, ...] = ()
    """Several translated stores in place of --input, to be compared: one table, and differences within noise marked."""
    input_column: str = ""
    """Column of the translation; by default `image`, else the only image column."""
    targets: str = ""
    """Folder of target images, where --input is a folder: files with the same relative name, whatever its ending, are
    a pair, and each is compared with its own. Files without a partner are counted and not scored."""
    pair_by: str = ""
    """Regular expression whose first group is the key of a pair with --targets, searched in the relative name of each
    file of both folders, as `(\\d+)_(fake|real)_B`."""
    target_column: str = ""
    """Column of the target image; by default `image_b`, else `image_a`, where there is one and it is no translation."""
    reference: str = ""
    """Real images that FID, KID, precision and recall compare with: a store, or a reference.npz that an evaluation
    wrote. A store may be a folder of images. By default the targets."""
    reference_column: str = ""
    """Image column of the reference; by default `image`, else `image_b`, else `image_a`, else the only one."""
    reference_cache: str = ""
    """Prefix for features and statistics of references, by what they are of, so that evaluations share them; by
    default OUTPUT/reference."""
    bundle: str = ""
    """Model bundle that made the translations, for cycle consistency, identity error and the untrained generator; the
    rows need source_image (translate with --keep_source)."""
    direction: Literal["", "a_to_b", "b_to_a"] = ""
    """Direction of the translations; by default the one that the bundle was trained for."""
    train: str = ""
    """Training store whose mean image is a baseline."""
    extractor: str = ""
    """Extractor of features: inception, efficientnet_lite0 (no download), a program (.pt2, .onnx, .yaml), or none; by
    default inception with --extractor_weights, else efficientnet_lite0 where it is installed."""
    extractor_weights: str = ""
    """File or URL of Inception's weights, such as pt_inception-2015-12-05-6726825d.pth, whose sha256 is checked."""
    extractor_sha256: str = ""
    """Checksum that weights or program must have; needed for weights of Inception that are not the standard ones."""
    resize: Resize = "clean"
    """Resizing and value range for Inception: as clean-fid, or as pytorch-fid. Their scores do not compare."""
    lpips: str = ""
    """File or URL of AlexNet's ImageNet weights (alexnet-owt-7be5be79.pth), for LPIPS."""
    lpips_sha256: str = ""
    """Checksum that the file of --lpips must have."""
    structure: str = "gradient"
    """Structure distance: gradient (no weights needed), none, or a program that gives tokens [1, N, D], such as DINO's
    keys. It needs source_image."""
    kid_subset: int | None = None
    """Images of one subset of KID; by default 1000, or half of the smaller set, so that KID has an interval."""
    kid_subsets: int = 100
    """Number of KID's subsets."""
    sample: int = 10_000
    """Images of each set, drawn by a hash of their keys, for KID, the scores of neighbours (precision, recall,
    density, coverage) and the interval of FID."""
    seed: int = 0
    """Seed of all draws."""
    split: str = ""
    """Name of the split that the images are of, for the record."""
    steps: tuple[int, ...] = ()
    """Training steps of --inputs, one each; by default the number that each name ends in."""
    rows: int = 6
    """Best, and worst, images by each score that the report shows; of several --inputs two each at most."""
    reading: Reading = Reading()
    """How files are read, those of --reference and --train too."""
    extensions: Extensions = "known"
    """Files of folders that are images. known: by the ending of their names. any: those whose first bytes are of an
    image, too; a request for each file of another ending, whenever the folder is listed."""
    keys: KeyRule = "own"
    """Names of rows, where stores are Parquet. own: the column key, else SHARD#ROW. by_shard: SHARD#KEY, for keys that
    begin anew in each shard."""
    missing_columns: MissingColumns = "fail"
    """Treatment of columns that some Parquet shards lack. null: their rows have nulls there, and are quarantined."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the networks. Each image goes through them by itself, on a CPU with one thread an actor."""
    actors: int | None = None
    """Processes that score; by default as many as find a free CPU, 64 at most, and at most eight a GPU."""
    limits: Limits = Limits()
    """Bounds of one unit."""
    budget: Budget = Budget(share=1.0)
    """Number and share of bad images that are acceptable; by default they are counted, and never end the job."""
    local: bool = False
    """Run in this process, without Ray: a plain loop, for debugging."""
    shared_disk: bool = False
    """Local paths are the same disk on every node, such as NFS; else a cluster of several nodes refuses them."""
    dry_run: bool = False
    """Print the plan and write nothing."""

    def __post_init__(self) -> None:
        if bool(self.input) == bool(self.inputs):
            raise UserError("give --input, one translated store, or --inputs, several to be compared")
        if self.steps and len(self.steps) != len(self.inputs):
            raise UserError(f"--steps has {len(self.steps)} numbers for {len(self.inputs)} --inputs; give one for each")
        if self.lpips_sha256 and not self.lpips:
            raise UserError("--lpips_sha256 is of --lpips, which is not given")
        if self.extractor_weights and self.extractor not in ("", "inception"):
            raise UserError(f"--extractor_weights are of inception, and --extractor is {self.extractor}; leave one out")
        require_single_rows(self.reading)
        self._check_targets()
        for name, least in (("kid_subset", 2), ("kid_subsets", 2), ("sample", 2), ("rows", 0), ("actors", 1)):
            check_range(name, getattr(self, name), least=least)

    def _check_targets(self) -> None:
        if self.pair_by and not self.targets:
            raise UserError("--pair_by pairs the files of --input with those of --targets, which is not given")
        if self.pair_by:
            check_pair_by(self.pair_by)
        if self.targets and (self.target_column or self.input_column):
            raise UserError("--targets pairs image files, which have no columns; leave out the names of columns")
        if self.targets and self.bundle:
            raise UserError("--bundle needs source_image, a column, and --targets pairs files; leave one of them out")

    def store_options(self, *pictures: str) -> StoreOptions:
        """Return how to open a store of which these image columns are scored, where they are named."""
        return StoreOptions(
            pictures=tuple(filter(None, pictures)),
            keys=self.keys,
            missing_columns=self.missing_columns,
            extensions=self.extensions,
            gifs=self.reading.gif != "none",
        )

    @property
    def stores(self) -> tuple[str, ...]:
        """Return the translated stores."""
        return self.inputs or (self.input,)


def check_kid_subset(config: EvaluateConfig, real: int, translated: int, most: int) -> None:
    """Check that so many images give subsets of KID as large as asked for, of `most` images. Raises UserError."""
    if config.kid_subset is not None and config.kid_subset > most:
        raise UserError(
            f"--kid_subset is {config.kid_subset}, and {real} real and {translated} translated images give subsets of "
            f"at most {most} (an image and its translation are never in one subset, and --sample is {config.sample}); "
            f"give --kid_subset {most} or less, or more images"
        )


def names_of(urls: Sequence[str]) -> list[str]:
    """Return names that tell inputs apart: the last parts of their URLs. Raises UserError where two are the same."""
    parts = [url.rstrip("/").split("/") for url in urls]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["-".join(filter(None, each[-depth:])) for each in parts]
        if len(set(names)) == len(urls):
            return ["".join(c if c.isalnum() or c in "-_." else "_" for c in name) for name in names]
    raise UserError(f"--inputs {' '.join(urls)}: one of them is there twice; name each once")


def steps_of(config: EvaluateConfig) -> list[float | None]:
    """Return the training step of each input: as given, else the number that its name ends in, where all have one."""
    if config.steps:
        return [float(each) for each in config.steps]
    found = []
    for name in config.stores:
        stem = name.rstrip("/").rpartition("/")[2]
        digits = stem[len(stem.rstrip("0123456789")) :]
        found.append(float(digits) if digits else None)
    return found if len(found) > 1 and None not in found else [None] * len(found)
