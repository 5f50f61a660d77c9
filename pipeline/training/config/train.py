"""Configuration of `jobs.train`: all options of a run, and checks that they fit together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gan_models import DiscriminatorConfig
from pipeline.errors import UserError, check_range
from pipeline.images import require_single_rows
from pipeline.training.config.sections import Cadence, Files, Length, Paths, Recipe, Resources, Streaming

if TYPE_CHECKING:
    from gan_models import Objective

_AT_LEAST_ONE = (
    "global_batch", "accumulate", "workers", "crop_size", "checkpoint_every", "keep_checkpoints", "log_every",
    "shuffle_buffer",
)  # fmt: skip


# Options of the last base come first.
@dataclass(frozen=True, kw_only=True)
class TrainConfig(Cadence, Resources, Length, Streaming, Files, Recipe, Paths):
    """Options of a training run. Raises UserError, saying what to change, where they do not fit together."""

    COMMON = (  # what --help shows
        "input", "input_b", "output", "objective", "direction", "global_batch", "epochs", "steps", "start_from",
        "precision", "workers", "validation", "dry_run",
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            check_range(name, getattr(self, name), least=1)
        for name in ("epochs", "decay_epochs", "seed"):
            check_range(name, getattr(self, name), least=0)
        for name in ("steps", "min_workers"):
            check_range(name, getattr(self, name), least=1)
        if not self.epochs + self.decay_epochs:
            raise UserError("epochs and decay_epochs are both 0: there is nothing to train; set epochs to 1 or more")
        if self.min_workers is not None and self.min_workers > self.workers:
            raise UserError(f"min_workers is {self.min_workers} and workers {self.workers}: raise workers, or lower it")
        for name in ("learning_rate", "memory_gb", "cpus_per_worker", "checkpoint_minutes"):
            check_range(name, getattr(self, name), above=0)
        for name, decay in (("betas[0]", self.betas[0]), ("betas[1]", self.betas[1]), ("ema", self.ema)):
            check_range(name, decay, least=0, below=1)
        require_single_rows(self.reading)
        self._check_shapes()
        self._check_losses()
        try:
            self.model()
        except ValueError as error:
            raise UserError(str(error)) from error

    @property
    def objective_type(self) -> type[Objective]:
        """Return the class of the objective."""
        return _objectives()[self.objective]

    def model(self) -> Any:
        """Return networks and losses as the objective's `config_type`. Raises ValueError where they do not fit."""
        kind = self.objective_type.config_type
        return kind(**{option.name: getattr(self, option.name) for option in dataclasses.fields(kind)})

    def recipe(self) -> dict[str, Any]:
        """Return the options that decide what is learnt, as plain data. They must not change when a run goes on.

        Streaming, which has an order of its own, is among them where the set is streamed.
        """
        sections = (Recipe, Streaming) if self.streaming == "stream" else (Recipe,)
        names = [option.name for section in sections for option in dataclasses.fields(section)]
        kept = {name: value for name, value in dataclasses.asdict(self).items() if name in names}
        kept |= self.store_options.recorded() | ({"reading": said} if (said := self.reading.recorded()) else {})
        return kept | {"generator": self.generator.record()}

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the number of steps of the whole run."""
        whole = (self.epochs + self.decay_epochs) * steps_per_epoch
        return whole if self.steps is None else min(self.steps, whole)

    def _check_shapes(self) -> None:
        if self.workers > self.global_batch:
            raise UserError(
                f"workers is {self.workers} and global_batch {self.global_batch}: each worker needs a sample of each "
                f"step; lower workers to {self.global_batch} or raise global_batch to {self.workers}"
            )
        most = -(-self.global_batch // self.workers)
        if self.accumulate > most:
            raise UserError(
                f"accumulate is {self.accumulate}: a worker has {most} of the {self.global_batch} samples of a global "
                f"batch, and each micro-batch needs one; lower accumulate to {most} or raise global_batch"
            )
        if self.trunk == "winograd" and self.generator.kind != "resnet":
            raise UserError(
                f"trunk is winograd and generator.kind {self.generator.kind}: only a resnet has residual blocks; "
                "set trunk to direct"
            )
        if self.load_size < self.crop_size:
            raise UserError(
                f"load_size is {self.load_size} and crop_size {self.crop_size}: a crop must fit into the image; "
                f"raise load_size to {self.crop_size} or more"
            )
        multiple = self.generator.size_multiple
        if self.crop_size % multiple:
            near = max(multiple, round(self.crop_size / multiple) * multiple)
            shallower = " or lower generator.depth" if self.generator.kind == "unet" else ""
            raise UserError(
                f"crop_size is {self.crop_size}: a {self.generator.kind} of depth {self.generator.depth} needs a "
                f"multiple of {multiple}; set it to {near}{shallower}"
            )
        for name, network in (("generator", self.generator), ("discriminator", self.discriminator)):
            if self.crop_size < network.least_size:
                fewer = " or lower discriminator.layers" if isinstance(network, DiscriminatorConfig) else ""
                raise UserError(
                    f"crop_size is {self.crop_size}: this {name} needs {network.least_size} pixels at least; "
                    f"raise crop_size{fewer}"
                )

    def _check_losses(self) -> None:
        if self.precision == "fp16" and self.gan_loss == "wgangp":
            raise UserError(
                "precision is fp16 and gan_loss wgangp: gradients inside the penalty are not scaled and would vanish; "
                "set precision to bf16 or fp32"
            )
        useless = _options_of(*_objectives().values()) - _options_of(self.objective_type)
        for item in dataclasses.fields(self):
            if item.name in useless and getattr(self, item.name) != item.default:
                raise UserError(
                    f"{item.name} is {getattr(self, item.name)}: {self.objective} has no use for it; leave it out"
                )


def _options_of(*objectives: type[Objective]) -> set[str]:
    """Return the names of the options that any of these objectives uses."""
    found = {option.name for each in objectives for option in dataclasses.fields(each.config_type)}
    return found if all(each.paired for each in objectives) else found | {"input_b"}


def _objectives() -> Mapping[str, type[Objective]]:
    from gan_models import OBJECTIVES  # imported here, since it needs torch, and --help does not

    return OBJECTIVES
