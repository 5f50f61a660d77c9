"""Configuration of `jobs.benchmark`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from pipeline.cluster import host
from pipeline.errors import UserError, check_range
from pipeline.translation.options import Compile, Resources

_LEAST = {
    "images": 2, "size": 8, "width": 1, "blocks": 1, "batch": 1, "repeats": 1, "plain_images": 1, "pairs": 1,
    "global_batch": 1, "shuffle_buffer": 1, "step_batch": 1, "epochs": 2, "steps": 1, "source_size": 8, "units_each": 1,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TranslateBenchmarkConfig:
    """Options of `jobs.benchmark translate`, which measures an untrained ResNet generator with instance norm."""

    COMMON = (  # what --help shows
        "images", "plain_images", "size", "device", "precision", "batch", "repeats", "output", "quick",
    )  # fmt: skip

    images: int | None = None
    """Number of images that the pipeline translates in one repetition; by default 8192 on a GPU, on a CPU 8 for each
    core, at least 32."""
    plain_images: int | None = None
    """Number of images in each of the plain loop's three turns per repetition; by default 2 on a CPU, 32 on a GPU."""
    size: int = 256
    """Side of the images in pixels."""
    width: int = 64
    """Number of channels of the generator's first convolution."""
    blocks: int = 9
    """Number of residual blocks of the generator."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the model, also in the plain loop."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of model and pipeline, as in jobs.translate; the plain loop is fp32."""
    compile: Compile = "auto"
    """Compile the generator, as in jobs.translate. auto: where that is faster, as for an archive that is large enough
    to pay for it."""
    batch: int | None = None
    """Batch of the model, as in jobs.translate; by default 32 on a GPU, 1 on a CPU."""
    repeats: int = 3
    """Number of times that everything is measured, in turn; medians are printed."""
    resources: Resources = Resources()
    """Resources of the pipeline's stages, as in jobs.translate."""
    output: str | None = None
    """Folder or URL for the numbers, as benchmark_translate.json."""
    quick: bool = False
    """Run once with a tiny network and a few tiny images: shows that everything runs, and measures nothing."""

    def __post_init__(self) -> None:
        _check(self)

    def resolved(self, device: Literal["cpu", "cuda"]) -> TranslateBenchmarkConfig:
        """Return the options with every default filled in for `device`, and small where `quick` is set."""
        if self.quick:
            return dataclasses.replace(
                self, device=device, images=6, plain_images=2, size=32, width=4, blocks=1, repeats=1
            )
        # Each of four units has two images for each thread.
        images, plain = (8192, 32) if device == "cuda" else (max(32, 8 * host.available_cpus()), 2)
        return dataclasses.replace(
            self, device=device, images=self.images or images, plain_images=self.plain_images or plain
        )


@dataclass(frozen=True, kw_only=True)
class GeneratorBenchmarkConfig:
    """Options of `jobs.benchmark generator`, which measures an untrained ResNet generator in all its forms."""

    images: int | None = None
    """Number of images in one measurement; by default 4 on a CPU, 512 on a GPU."""
    size: int = 256
    """Side of the images in pixels."""
    width: int = 64
    """Number of channels of the generator's first convolution."""
    blocks: int = 9
    """Number of residual blocks of the generator."""
    batch: int | None = None
    """Number of images that go through the generator at once; by default 32 on a GPU, 1 on a CPU."""
    repeats: int = 5
    """Number of times that everything is measured, in turn; medians are printed."""
    output: str | None = None
    """Folder or URL for the numbers, as benchmark_generator.json."""
    quick: bool = False
    """Run once with a tiny network, eager forms only: shows that everything runs, and measures nothing."""

    def __post_init__(self) -> None:
        _check(self)

    def resolved(self, device: Literal["cpu", "cuda"]) -> GeneratorBenchmarkConfig:
        """Return the options with every default filled in for `device`, and small where `quick` is set."""
        if self.quick:
            return dataclasses.replace(self, images=2, size=32, width=4, blocks=1, batch=1, repeats=1)
        images, batch = (512, 32) if device == "cuda" else (4, 1)
        return dataclasses.replace(self, images=self.images or images, batch=self.batch or batch)


@dataclass(frozen=True, kw_only=True)
class StepBenchmarkConfig:
    """Options of `jobs.benchmark step`, which measures one training step of a recipe."""

    recipe: str = "jobs/recipes/cyclegan.yaml"
    """Recipe file, as for jobs.train."""
    global_batch: int | None = None
    """Number of images, or pairs, in one step; by default the recipe's."""
    precision: Literal["all", "fp32"] = "all"
    """Precisions to measure; fp32 leaves bf16 out, as on a machine that has none."""
    compile: bool = True
    """Measure compiled forms, too; each takes a minute or more before the first repetition."""
    repeats: int = 5
    """Number of times that everything is measured, in turn; medians are printed."""
    output: str | None = None
    """Folder or URL for the numbers, as benchmark_step.json."""
    quick: bool = False
    """Run once with tiny networks, eager forms only: shows that everything runs, and measures nothing."""

    def __post_init__(self) -> None:
        _check_least(self)


@dataclass(frozen=True, kw_only=True)
class EngineBenchmarkConfig:
    """Options of `jobs.benchmark engine`, which measures how busy the engine keeps actors that only wait."""

    actors: tuple[int, ...] = (1, 2, 4, 8)
    """Sizes of the pool, one after the other."""
    unit_s: float = 2.0
    """Seconds that an actor takes for a unit."""
    units_each: int = 12
    """Units for each actor."""
    output: str | None = None
    """Folder or URL for the numbers, as benchmark_engine.json."""
    quick: bool = False
    """Run once with a few short units: shows that everything runs, and measures nothing."""

    def __post_init__(self) -> None:
        _check_least(self)
        check_range("unit_s", self.unit_s, above=0)
        if not self.actors or min(self.actors) < 1:
            raise UserError(f"actors is {self.actors}: give sizes of a pool, of 1 or more")


IngestPart = Literal["forms", "packing", "loader"]


@dataclass(frozen=True, kw_only=True)
class IngestBenchmarkConfig:
    """Options of `jobs.benchmark ingest`, which measures images on their way in."""

    parts: tuple[IngestPart, ...] = ("forms", "packing", "loader")
    """Parts to measure. forms: reading and decoding from each form of a store. packing: pictures as they are, into
    shards. loader: that of a training run, beside the demonstration's step."""
    images: int | None = None
    """Number of images that are read from each form, and packed; by default 8192."""
    pairs: int | None = None
    """Number of image pairs in the store; by default 256 on a CPU, 8192 on a GPU."""
    source_size: int = 256
    """Side of the stored JPEG images in pixels."""
    size: int = 128
    """Side of the training crops in pixels, a power of two; images are loaded at 286/256 of it."""
    global_batch: int = 4
    """Number of pairs in one step."""
    steps: int | None = None
    """Number of steps in one measurement of training; by default 8 on a CPU, 200 on a GPU."""
    shuffle_buffer: int = 128
    """Size of the shuffle buffer, as in jobs.train."""
    repeats: int = 3
    """Number of times that everything is measured, in turn; medians are printed."""
    output: str | None = None
    """Folder or URL for the numbers, as benchmark_ingest.json."""
    quick: bool = False
    """Run once with a few tiny images: shows that everything runs, and measures nothing."""

    def __post_init__(self) -> None:
        _check(self)
        if self.size < 16 or self.size & (self.size - 1):
            raise UserError(f"size is {self.size}: the demonstration's network takes powers of two from 16 on")

    def resolved(self, device: Literal["cpu", "cuda"]) -> IngestBenchmarkConfig:
        """Return the options with every default filled in for `device`, and small where `quick` is set."""
        if self.quick:
            return dataclasses.replace(self, images=24, pairs=8, source_size=40, size=32, steps=2, repeats=1)
        pairs, steps = (8192, 200) if device == "cuda" else (256, 8)
        return dataclasses.replace(
            self, images=self.images or 8192, pairs=self.pairs or pairs, steps=self.steps or steps
        )


@dataclass(frozen=True, kw_only=True)
class StartBenchmarkConfig:
    """Options of `jobs.benchmark start`, which measures how long a command takes to begin."""

    repeats: int = 3
    """Number of times that everything is measured, in turn; medians are printed."""
    output: str | None = None
    """Folder or URL for the numbers, as benchmark_start.json."""
    quick: bool = False
    """Run once with a tiny network: shows that everything runs, and measures nothing."""

    def __post_init__(self) -> None:
        _check_least(self)


@dataclass(frozen=True, kw_only=True)
class WorkersBenchmarkConfig:
    """Options of `jobs.benchmark workers`, which trains with one worker and with several on the same cores."""

    steps: int = 8
    """Steps of each training; the first one is left out."""
    repeats: int = 3
    """Number of times that everything is measured, in turn; medians are printed."""
    output: str | None = None
    """Folder or URL for the numbers, as benchmark_workers.json."""
    quick: bool = False
    """Run once with tiny networks: shows that everything runs, and measures nothing."""

    def __post_init__(self) -> None:
        _check_least(self)
        if self.steps < 3:
            raise UserError(f"steps is {self.steps}: the first one is left out; give 3 or more")


GoalsBenchmark = Literal["start", "engine", "translate", "step", "workers"]


@dataclass(frozen=True, kw_only=True)
class GoalsBenchmarkConfig:
    """Options of `jobs.benchmark goals`, which runs the benchmarks that have goals, one after the other."""

    benchmarks: tuple[GoalsBenchmark, ...] = ("start", "engine", "translate", "step", "workers")
    """Benchmarks to run, in this order, each with its own default options."""
    minutes: float = 90.0
    """Minutes in which to end. A benchmark that is not done by then is ended, the others are left out, and both are
    shown."""
    output: str | None = None
    """Folder or URL for the numbers, as benchmark_goals.json."""
    quick: bool = False
    """Run each with tiny inputs: shows that everything runs, and measures nothing."""

    def __post_init__(self) -> None:
        check_range("minutes", self.minutes, above=0)


@dataclass(frozen=True, kw_only=True)
class ScaleBenchmarkConfig:
    """Options of `jobs.benchmark scale`, which plans, resumes, finishes and verifies large corpora.

    The parts of a corpus are hard links to a few tiny shards or files, below TMPDIR; they are removed afterwards.
    """

    rows: tuple[int, ...] = (1_000_000, 100_000_000)
    """Rows of the corpora that go through every step."""
    planned_rows: tuple[int, ...] = ()
    """Rows of corpora that are planned and resumed only, such as 1000000000, which takes a quarter of an hour."""
    files: tuple[int, ...] = (1_000_000,)
    """Files of the folders that are planned and resumed; ten million of them take a quarter of an hour."""
    minutes: float = 30.0
    """Minutes in which to end. A size that is not done by then is ended, the others are left out, and both shown."""
    output: str | None = None
    """Folder or URL for the numbers, as benchmark_scale.json."""
    quick: bool = False
    """Run with tiny corpora: shows that everything runs, and measures nothing."""

    def __post_init__(self) -> None:
        check_range("minutes", self.minutes, above=0)
        for name in ("rows", "planned_rows", "files"):
            for count in getattr(self, name):
                check_range(name, count, least=1)

    def resolved(self) -> ScaleBenchmarkConfig:
        """Return the options, small where `quick` is set."""
        return dataclasses.replace(self, rows=(6000,), planned_rows=(4000,), files=(300,)) if self.quick else self


TiledPicture = Literal["resnet", "unet", "narrow", "large"]


@dataclass(frozen=True, kw_only=True)
class TilesBenchmarkConfig:
    """Options of `jobs.benchmark tiles`, which translates pictures in tiles and whole."""

    pictures: tuple[TiledPicture, ...] = ("resnet", "unet", "narrow", "large")
    """Pictures and networks: 1024² by a ResNet of 9 blocks; 1024² by a U-Net; 4096² by a ResNet of width 4 with one
    block; 16,384² by the same, in tiles alone, since its layers would take more memory than most machines have."""
    minutes: float = 20.0
    """Minutes in which to end. A picture that is not done by then is ended, the others are left out, and both shown."""
    output: str | None = None
    """Folder or URL for the numbers, as benchmark_tiles.json."""
    quick: bool = False
    """Take small pictures: shows that everything runs, and measures nothing."""

    def __post_init__(self) -> None:
        check_range("minutes", self.minutes, above=0)


GpuCheck = Literal["goldens", "translate", "step", "gradients", "facades"]


@dataclass(frozen=True, kw_only=True)
class GpuBenchmarkConfig:
    """Options of `jobs.benchmark gpu`, which makes all checks that need a GPU, one after the other."""

    checks: tuple[GpuCheck, ...] = ("goldens", "translate", "step", "gradients", "facades")
    """Checks to make, in this order."""
    minutes: float = 9.0
    """Minutes in which to end. A check that is not done by then is ended, the others are left out, and both are
    shown."""
    images: int = 16384
    """Number of images that the pipeline translates in one repetition."""
    step_batch: int = 16
    """Batch of the second training step, besides 1."""
    repeats: int = 2
    """Number of times that rates are measured; medians are printed."""
    facades: str = ""
    """Folder with train/ and test/, both of A|B pictures, to train pix2pix on; without it that is left out."""
    epochs: int = 20
    """Epochs of that training, the second half of them with a falling rate."""
    output: str | None = None
    """Folder for the numbers, as benchmark_gpu.json, and for the translations of the test pairs and their scores."""

    def __post_init__(self) -> None:
        _check_least(self)
        check_range("minutes", self.minutes, above=0)


def _check(config: TranslateBenchmarkConfig | GeneratorBenchmarkConfig | IngestBenchmarkConfig) -> None:
    _check_least(config)
    if config.size % 4:
        raise UserError(f"size is {config.size}: the generator takes multiples of 4")


def _check_least(config: object) -> None:
    for name, least in _LEAST.items():
        check_range(name, getattr(config, name, None), least=least)
