"""Configuration of `jobs.translate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.errors import UserError
from pipeline.scores.names import ScoreName
from pipeline.stores.forms import FormName
from pipeline.translation.options import NAME, Direction, TranslationOptions


@dataclass(frozen=True, kw_only=True)
class Named:
    """One of several translators: a bundle, or a chain of bundles."""

    bundle: str = ""
    """Model bundle, or a program."""
    chain: tuple[str, ...] = ()
    """Bundles or programs that images go through one after the other, in place of one bundle."""
    direction: tuple[Direction, ...] = ()
    """Direction whose generator to use, one for all models of a chain or one for each; by default the one that a bundle
    was trained for."""


@dataclass(frozen=True, kw_only=True)
class _Translate:
    """Options of this job alone, in a class of their own so that they come before the shared ones."""

    input: str
    """Store to translate: Parquet shards, WebDataset tars or a folder of images; a path, or a URL such as s3://BUCKET/PREFIX."""
    output: str
    """Prefix of the translated dataset."""
    bundle: tuple[str, ...] = ()
    """Model bundle: the folder that training wrote; or a program in its place: a .pt2, a .onnx, or a YAML file that
    names one or a Python factory. Several translate the same images in one pass, which decodes each image once; their
    translations are in data/translator=NAME/, named after their folders."""
    direction: tuple[Literal[Direction, "both"], ...] = ()
    """Direction whose generator to use, one for all bundles or one for each; by default the one that a bundle was
    trained for. both: the two of a CycleGAN, in one pass."""
    chain: tuple[str, ...] = ()
    """Bundles in place of --bundle that images go through one after the other: as if each translated what the one
    before wrote without loss."""
    translators: dict[str, Named] = field(default_factory=dict)
    """Translators by name, in place of --bundle: bundle or chain, direction. List them in a --config file."""
    input_column: str = ""
    """Image column to translate; by default `image`, else `image_a` or `image_b` to match the direction."""
    keep_source: bool = False
    """Keep the column that was read, as source_image."""
    form: FormName = "parquet"
    """Write Parquet shards, a folder of image files, or WebDataset tars."""
    score: tuple[ScoreName, ...] = ()
    """Scores of each translation, as columns, by the networks of its own bundle. realism: the discriminator's mean
    verdict, about 1 for real and 0 for not (with the losses hinge and wgangp: the larger, the more real). cycle_l1: the
    mean difference, 0 to 1, between the input and its translation back. agreement: how alike --agreement_model finds
    the input and its translation, so whether labels stay true. The report ranks by the first of them."""
    keep_if: str = ""
    """Condition on the scores, such as "cycle_l1 < 0.1 and realism > 0.3". Images for which it is not true, or that
    lack a score that it names, are skipped, and the account of their unit has their scores."""
    agreement_model: str = ""
    """Model for --score agreement, a program like those that --bundle takes. It is run on the input and on the
    translation, and what it gives for both is compared: mean IoU of classes [1, K, h, w], recall of boxes
    [1, M, x1 y1 x2 y2 score class] at an IoU of 0.5, or cosine of embeddings [1, D]."""
    new_version: bool = False
    """Make the whole output anew with this model and these settings, from the same inputs: a new version beside the old
    one, which is read in its place once it is whole. Old data stays until jobs.verify --keep_versions."""
    moved: bool = False
    """Input is the store that the output was begun from, at another place."""


@dataclass(frozen=True, kw_only=True)
class TranslateConfig(TranslationOptions, _Translate):
    """Input of `jobs.translate`, the model, and the dataset to write."""

    COMMON = (  # what --help shows
        "input", "output", "bundle", "direction", "chain", "translators", "input_column", "keep_source", "form", "size",
        "encoding", "device", "batch", "local", "dry_run",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        from pipeline.stores.forms.registry import writable_form  # imported here, since it needs pyarrow

        self._check_models()
        if writable_form(self.form).names_are_keys:
            if self.keep_source or self.score or self.geometry:
                option = "--keep_source" if self.keep_source else "--score" if self.score else "--geometry"
                raise UserError(f"a folder holds the translations alone; use --form parquet with {option}")
            if self.translators or len(self.bundle) > 1 or "both" in self.direction:
                raise UserError("a folder holds the translations of one translator; use --form parquet with several")
        if self.score and (self.chain or any(named.chain for named in self.translators.values())):
            raise UserError("--score judges the translation of one model, and a chain has several; leave out --score")
        if ("agreement" in self.score) != bool(self.agreement_model):
            raise UserError("--score agreement and --agreement_model need each other: give both, or neither")
        if self.keep_if:
            from pipeline.scores.keep import check_condition

            check_condition(self.keep_if, self.score)

    def _check_models(self) -> None:
        """Raise UserError unless the models are named in one of the ways, each with at most one direction."""
        ways = {"--bundle": self.bundle, "--chain": self.chain, "translators": self.translators}
        given = [name for name, value in ways.items() if value]
        if not given:
            raise UserError("there is no model: give --bundle, --chain, or translators in a --config file")
        if len(given) > 1:
            raise UserError(
                f"{' and '.join(given)} exclude each other; name all of them as translators in a --config file"
            )
        if self.translators and self.direction:
            raise UserError("--direction is for --bundle and --chain; say that of a translator below its name")
        if self.chain:
            check_chain("--chain", self.chain)
        check_directions("--direction", self.direction, len(self.bundle or self.chain))
        if "both" in self.direction and (self.chain or len(self.direction) > 1):
            raise UserError("--direction both is for bundles, and for all of them; name others as translators")
        for name, named in self.translators.items():
            if not NAME.fullmatch(name) or name.isdigit():
                raise UserError(
                    f"translator {name!r}: a name has letters, digits, - and _ only, and not digits alone, since "
                    "readers would take the name of its folder for a number"
                )
            if bool(named.bundle) == bool(named.chain):
                raise UserError(f"translators.{name}: give either a bundle or a chain")
            if named.chain:
                check_chain(f"translators.{name}.chain", named.chain)
            check_directions(f"translators.{name}.direction", named.direction, len(named.chain) or 1)


def check_chain(option: str, models: Sequence[str]) -> None:
    """Raise UserError for a chain of a single model."""
    if len(models) == 1:
        raise UserError(f"{option} has one model, and a chain has two or more; give a single one as a bundle")


def check_directions(option: str, directions: Sequence[str], models: int) -> None:
    """Raise UserError unless there is no direction, one for all models, or one for each."""
    if len(directions) > 1 and len(directions) != models:
        raise UserError(f"{option} has {len(directions)} values for {models} models; give one for all, or one for each")
