"""Options of a training run, in sections: a section says what may change when a run goes on.

The defaults are the recipe of pix2pix to the constant (Isola et al. 2017); `jobs/recipes/cyclegan.yaml` holds that of
CycleGAN (Zhu et al. 2017).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gan_models import DiscriminatorConfig, GeneratorConfig
from gan_models.config import Direction, GanLoss
from pipeline.images import Reading
from pipeline.models.arithmetic import TrainedTrunk
from pipeline.stores.tables.options import Extensions, StoreOptions
from pipeline.training.config.monitor import WatchConfig
from pipeline.training.config.schedule import LearningRateSchedule
from pipeline.training.config.validation import Validation

When = Literal["auto", "always", "never"]


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Paths that a run reads and writes. Images and first weights are known by their content, not by their path."""

    input: str
    """Store to learn from: a paired store, or for cyclegan also a prefix that holds one store as `a`, one as `b`."""

    input_b: str = ""
    """cyclegan: the store of domain B, where `input` is that of domain A alone. A `*` in either stands for any part of
    a name: 'augmented/data/slot=2026-11-*/translator=night'."""

    output: str
    """Folder of the run, on any filesystem: checkpoints, metrics and, at the end, the model bundle."""

    start_from: str = ""
    """Model bundle whose networks a new run begins with, instead of random ones. One that goes on needs it no more,
    but where it is still there it must be the same. Generators by their direction, and discriminators where the bundle
    has some of the same objective."""

    shared_disk: bool = False
    """Local paths are the same disk on every node, such as NFS; else a cluster of several nodes refuses them."""

    dry_run: bool = False
    """Print the plan and touch nothing."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Options that decide what is learnt. They must not change when a run goes on."""

    objective: Literal["pix2pix", "cyclegan"] = "pix2pix"
    """pix2pix learns from pairs, cyclegan from two sets of images that need not belong together."""

    direction: Direction = "a_to_b"
    """Which side is translated into which; A is the left half of an A|B picture."""

    generator: GeneratorConfig = field(default_factory=lambda: GeneratorConfig(dropout=True))
    """Translates; cyclegan has two of it."""

    discriminator: DiscriminatorConfig = field(default_factory=lambda: DiscriminatorConfig(in_channels=6, norm="batch"))
    """Judges; in pix2pix it sees source and target together, so in_channels is 6 there and 3 in cyclegan."""

    gan_loss: GanLoss = "vanilla"
    """Loss by which generator and discriminator compete; pix2pix is published with vanilla, cyclegan with lsgan."""

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

    learning_rate: float = 2e-4
    """Learning rate of Adam, for generators and discriminators; `schedule` multiplies it."""

    schedule: LearningRateSchedule = field(default_factory=LearningRateSchedule)
    """Changes of the learning rate over the run, and with the batch."""

    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's decay rates of the moments."""

    ema: float = 0.0
    """Decay, in a step, of a moving average of the generators' weights, which the bundle then offers first: 0.999 is
    an average over about the last thousand steps. 0 leaves it out, as the published recipes do."""

    freeze: tuple[str, ...] = ()
    """Networks (g, d; g_AB, g_BA, d_A, d_B) or parts of them (g.model.1) that do not learn."""

    seed: int = 0
    """Decides initial weights, order, crops, flips, dropout and pools."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of the forward passes; auto is the fastest of those in the hardware, measured before the first step.
    Weights are fp32 always. fp16, with scaled losses, is for GPUs without bf16."""

    trunk: Literal["auto"] | TrainedTrunk = "auto"
    """Convolution in a ResNet's residual blocks. winograd needs a quarter of the multiplications, in fp32 on a CPU, and
    rounds otherwise; weights and checkpoints are the same. auto is the faster one, measured before the first step. A
    step of the published CycleGAN takes 4.0 GB with winograd and 3.3 GB with direct."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """Options that decide which files are images, and how they are read. Where they are not the default, they belong
    to the recipe."""

    extensions: Extensions = "known"
    """Files of folders that are images. known: by the ending of their names. any: those whose first bytes are of an
    image, too; a request for each file of another ending, whenever the folder is listed."""

    reading: Reading = Reading()
    """How files are read, those of the validation too."""

    @property
    def store_options(self) -> StoreOptions:
        """Return how to open the stores."""
        return StoreOptions(extensions=self.extensions, gifs=self.reading.gif != "none")


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """Options that decide the order of a set that is streamed, and there belong to the recipe."""

    streaming: Literal["auto", "memory", "stream"] = "auto"
    """memory decodes the set once a node, stream reads it anew in each epoch, in an order of its own; auto streams
    what memory_gb does not hold, and goes on as a run began."""

    shuffle_buffer: int = 128
    """Encoded images that each position of the global batch shuffles, on each side, where the set is streamed."""


@dataclass(frozen=True, kw_only=True)
class Length:
    """Length of a run. It may be made longer or shorter."""

    epochs: int = 100
    """Passes over the data with the learning rate as given."""

    decay_epochs: int = 100
    """Passes after those, in which the learning rate falls in a straight line to zero."""

    steps: int | None = None
    """Stop after this many steps, even if epochs are left; the learning rate follows the epochs all the same."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Resources of a run. Others give the same samples in the same batches, and round differently."""

    accumulate: int = 1
    """Micro-batches that a worker's share of a global batch is computed in, one after another: memory for one, the
    result that of the whole, but for batch norm and dropout. pix2pix then translates twice."""

    workers: int = 1
    """Processes that share each global batch, one a GPU where there are GPUs."""

    min_workers: int | None = None
    """Go on with as few as this many where nodes are lost, and with up to `workers` again once there is room.
    Another number of workers sees the same samples in the same batches, and rounds otherwise. By default `workers`."""

    cpus_per_worker: float | None = None
    """CPU cores, and torch's threads, of a worker; by default an equal share of what there is. May be a fraction."""

    gpus_per_worker: Literal[0, 1] | None = None
    """By default 1 where the cluster has a GPU, else 0."""

    compile: When = "auto"
    """Compile the networks, which takes a minute at the start. auto: on a GPU, in a run of 2,000 steps or more."""

    channels_last: When = "auto"
    """Keep images and weights as NHWC in memory, which tensor cores prefer. auto: on a GPU."""

    cuda_graphs: When = "auto"
    """Capture the step as a CUDA graph and replay it, on a GPU with one worker and not in fp16. auto: where that is so,
    in a run of 500 steps or more."""

    memory_gb: float = 4.0
    """The decoded set may take this much of a node's memory (10^9 bytes); its workers share it."""


@dataclass(frozen=True, kw_only=True)
class Cadence:
    """When checkpoints and lines of metrics are written, and what else is measured."""

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
