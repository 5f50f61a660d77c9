"""What a training run is: data, model, order, length, arithmetic, and how it is spread and kept.

The defaults are the recipe of pix2pix to the constant (Isola et al. 2017); `jobs/recipes/cyclegan.yaml` holds that of
CycleGAN (Zhu et al. 2017).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from gan_models import OBJECTIVES, DiscriminatorConfig, GeneratorConfig, Objective
from gan_models.bundle import Direction
from gan_models.losses import GanLoss
from pipeline.errors import UserError
from pipeline.training.config.monitor import WatchConfig
from pipeline.training.config.schedule import LearningRateSchedule
from pipeline.training.config.validation import Validation

_IMAGE_CHANNELS = 3
_AT_LEAST_ONE = (
    "global_batch", "accumulate", "workers", "crop_size", "checkpoint_every", "keep_checkpoints", "log_every",
    "shuffle_buffer",
)  # fmt: skip
_OF_STREAMING = ("streaming", "shuffle_buffer")
_TRANSIENT = (
    "input", "input_b", "output", "start_from", "accumulate", "workers", "min_workers", "cpus_per_worker",
    "gpus_per_worker", "memory_gb", "checkpoint_every", "checkpoint_minutes", "keep_checkpoints", "log_every",
    "validation", "watch", "epochs", "decay_epochs", "steps", "shared_disk", "dry_run",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run."""

    input: str
    """Store to learn from: a paired store, or for cyclegan also a prefix that holds one store as `a`, one as `b`."""

    input_b: str = ""
    """cyclegan: the store of domain B, where `input` is that of domain A alone. A `*` in either stands for any part of
    a name: 'augmented/data/slot=2026-11-*/translator=night'."""

    output: str
    """Folder of the run, on any filesystem: checkpoints, metrics and, at the end, the model bundle."""

    objective: Literal["pix2pix", "cyclegan"] = "pix2pix"
    """pix2pix learns from pairs, cyclegan from two sets of images that need not belong together."""

    direction: Direction = "a_to_b"
    """Which side is translated into which; A is the left half of an A|B picture."""

    generator: GeneratorConfig = field(default_factory=lambda: GeneratorConfig(dropout=True))
    """Translates; cyclegan has two of it."""

    discriminator: DiscriminatorConfig = field(default_factory=lambda: DiscriminatorConfig(in_channels=6, norm="batch"))
    """Judges; in pix2pix it sees source and target together, so in_channels is 6 there and 3 in cyclegan."""

    gan_loss: GanLoss = "vanilla"
    """How generator and discriminator compete; pix2pix is published with vanilla, cyclegan with lsgan."""

    lambda_l1: float = 100.0
    """pix2pix: weight of the L1 distance to the target."""

    lambda_a: float = 10.0
    """cyclegan: weight of the cycle that begins and ends in the source domain."""

    lambda_b: float = 10.0
    """cyclegan: weight of the cycle that begins and ends in the target domain."""

    lambda_identity: float = 0.5
    """cyclegan: weight of the identity loss, as a share of the cycle weight; 0 leaves its passes out."""

    pool_size: int = 0
    """Earlier translations kept for the discriminator; published as 0 for pix2pix, 50 for cyclegan."""

    gradient_penalty: float = 10.0
    """Weight of the gradient penalty, under wgangp only."""

    global_batch: int = 1
    """Images, or pairs, in one step, over all workers together."""

    load_size: int = 286
    """Images are resized to this many pixels square, bicubic, whatever their aspect."""

    crop_size: int = 256
    """Side of the random crop that is trained on, in pixels."""

    flip: bool = True
    """Mirror half of the images."""

    epochs: int = 100
    """Passes over the data with the learning rate as given."""

    decay_epochs: int = 100
    """Passes after those, in which the learning rate falls in a straight line to zero."""

    steps: int | None = None
    """Stop after this many steps, even if epochs are left; the learning rate follows the epochs all the same."""

    learning_rate: float = 2e-4
    """Of Adam, for generators and discriminators; what `schedule` multiplies."""

    schedule: LearningRateSchedule = field(default_factory=LearningRateSchedule)
    """How the learning rate changes over the run, and with the batch."""

    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's decay rates of the moments."""

    ema: float = 0.0
    """Decay, in a step, of a moving average of the generators' weights, which the bundle then offers first: 0.999 is
    an average over about the last thousand steps. 0 leaves it out, as the published recipes do."""

    accumulate: int = 1
    """Micro-batches that a worker's share of a global batch is computed in, one after another: memory for one, the
    result that of the whole, but for batch norm and dropout. pix2pix then translates twice."""

    start_from: str = ""
    """Model bundle whose networks a new run begins with, instead of random ones. One that goes on needs it no more,
    but where it is still there it must be the same. Generators by their direction, and discriminators where the bundle
    has some of the same objective."""

    freeze: tuple[str, ...] = ()
    """Networks (g, d; g_AB, g_BA, d_A, d_B) or parts of them (g.model.1) that do not learn."""

    seed: int = 0
    """Decides initial weights, order, crops, flips, dropout and pools."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the forward passes; auto is bf16 where the hardware has it, else fp32. Weights are fp32 always. fp16, with
    scaled losses, is for GPUs without bf16."""

    trunk: Literal["auto", "direct", "winograd"] = "direct"
    """How a ResNet's residual blocks convolve. winograd needs a quarter of the multiplications, in fp32 on a CPU, and
    rounds otherwise; weights and checkpoints are the same. auto is winograd there and direct elsewhere. A step of the
    published CycleGAN takes 4.0 GB with it and 3.3 GB without."""

    compile: bool = False
    """Compile the networks: half a minute at the start, faster steps on hardware with bf16."""

    channels_last: bool = False
    """Memory format of images and weights: NHWC, which tensor cores prefer."""

    workers: int = 1
    """Processes that share each global batch, one a GPU where there are GPUs."""

    min_workers: int | None = None
    """Go on with as few as this many where nodes are lost, and with up to `workers` again once there is room.
    Another number of workers sees the same samples in the same batches, and rounds otherwise. By default `workers`."""

    cpus_per_worker: float | None = None
    """CPU cores, and torch's threads, of a worker; by default an equal share of what there is. May be a fraction."""

    gpus_per_worker: Literal[0, 1] | None = None
    """By default 1 where the cluster has a GPU, else 0."""

    memory_gb: float = 4.0
    """The decoded set may take this much of a node's memory (10^9 bytes); its workers share it."""

    streaming: Literal["auto", "memory", "stream"] = "auto"
    """memory decodes the set once a node, stream reads it anew in each epoch, in an order of its own; auto streams
    what memory_gb does not hold, and goes on as a run began."""

    shuffle_buffer: int = 128
    """Encoded images that each position of the global batch shuffles, on each side, where the set is streamed."""

    checkpoint_every: int = 1000
    """Steps from one checkpoint to the next; a kill costs no more than this."""

    checkpoint_minutes: float = 15.0
    """Minutes after which a checkpoint is written, even if those steps are not done."""

    keep_checkpoints: int = 3
    """The newest this many are kept."""

    log_every: int = 50
    """Steps from one line of metrics to the next."""

    validation: Validation = field(default_factory=Validation)
    """Measuring on held-out images, the best checkpoint, and stopping early."""

    watch: WatchConfig = field(default_factory=WatchConfig)
    """Dashboards and sample grids."""

    shared_disk: bool = False
    """Local paths are the same disk on every node, such as NFS; else a cluster of several nodes refuses them."""

    dry_run: bool = False
    """Print the plan and touch nothing."""

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            _check_at_least(name, getattr(self, name), 1)
        for name in ("epochs", "decay_epochs", "seed"):
            _check_at_least(name, getattr(self, name), 0)
        if self.steps is not None:
            _check_at_least("steps", self.steps, 1)
        if not self.epochs + self.decay_epochs:
            raise UserError("epochs and decay_epochs are both 0: there is nothing to train; set epochs to 1 or more")
        if self.min_workers is not None and not 1 <= self.min_workers <= self.workers:
            raise UserError(
                f"min_workers is {self.min_workers} and workers {self.workers}: it must lie between 1 and that"
            )
        for name in ("learning_rate", "memory_gb", "cpus_per_worker", "checkpoint_minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{name} is {value}: it must be more than 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"betas are {self.betas}: each must be at least 0 and less than 1")
        if not 0 <= self.ema < 1:
            raise UserError(f"ema is {self.ema}: a decay must be at least 0 (no average) and less than 1")
        self._check_shapes()
        self._check_losses()
        try:
            self.model()
        except ValueError as error:
            raise UserError(str(error)) from error

    @property
    def objective_type(self) -> type[Objective]:
        """Class of the objective."""
        return OBJECTIVES[self.objective]

    def model(self) -> Any:
        """Networks and losses, as the objective's `config_type`. Raises ValueError where they do not fit together."""
        kind = self.objective_type.config_type
        return kind(**{option.name: getattr(self, option.name) for option in dataclasses.fields(kind)})

    def recipe(self) -> dict[str, Any]:
        """All that decides what is learnt, as plain data: what must not change when a run goes on.

        Where data and first weights lie is no part of it (which images they are is checked by themselves, and so are
        the weights), nor are workers, micro-batches, cadence, logging and the total length. Streaming, which has an
        order of its own, is there where it is decided.
        """
        left_out = _TRANSIENT if self.streaming == "stream" else _TRANSIENT + _OF_STREAMING
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in left_out}

    def total_steps(self, steps_per_epoch: int) -> int:
        """The steps of the whole run."""
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
        for side, channels in (("in", self.generator.in_channels), ("out", self.generator.out_channels)):
            if channels != _IMAGE_CHANNELS:
                raise UserError(
                    f"generator.{side}_channels is {channels}: images are read as RGB; leave it at {_IMAGE_CHANNELS}"
                )

    def _check_losses(self) -> None:
        if self.precision == "fp16" and self.gan_loss == "wgangp":
            raise UserError(
                "precision is fp16 and gan_loss wgangp: gradients inside the penalty are not scaled and would vanish; "
                "set precision to bf16 or fp32"
            )
        useless = _options_of(*OBJECTIVES.values()) - _options_of(self.objective_type)
        for item in dataclasses.fields(self):
            if item.name in useless and getattr(self, item.name) != item.default:
                raise UserError(
                    f"{item.name} is {getattr(self, item.name)}: {self.objective} has no use for it; leave it out"
                )


def _options_of(*objectives: type[Objective]) -> set[str]:
    """Return the names of the options that any of these objectives uses."""
    found = {option.name for each in objectives for option in dataclasses.fields(each.config_type)}
    return found if all(each.paired for each in objectives) else found | {"input_b"}


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise UserError(f"{name} is {value}: it must be at least {least}")
