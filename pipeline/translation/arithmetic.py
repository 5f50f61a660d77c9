"""Arithmetic of a translation: what the output began with or the user asks for, else what is fastest where it runs."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from pipeline.cluster import host, memory
from pipeline.errors import UserError, one_line
from pipeline.models.arithmetic import THREAD_PIXELS, Arithmetic, Figures, Form, Size, Trunk, fastest
from pipeline.models.bundles import Architecture, pixel_types
from pipeline.models.programs import Program
from pipeline.translation.options import Compile, TranslationOptions
from pipeline.translation.sizing import GIVEN, Planned, ordinary_pixels

log = logging.getLogger("transdomain")

T = TypeVar("T")

BATCHES: Mapping[str, tuple[int, int | None]] = {"cuda": (512, 1 << 21), "cpu": (1, None)}
"""Images at once, and pixels of them, where nothing else is asked for. On an H200, 32 images of 256² at once were 1.15
times as fast as 16, and 128 were 1.03 times as fast as 32."""

NETWORK_BYTES = 2_560_000_000
"""Memory for a network's values on a CPU: with 64 channels, a picture of 1920 × 1080 goes whole."""

_SMALL_FLOP = 2e11
"""Multiplications and additions that a slow CPU makes in the seconds that a measurement takes."""


class Compute(Protocol):
    """Function that calls another one in a process like those that will compute, and returns its result.

    It gives it the number of processes that will compute where the user does not say.
    """

    def __call__(self, function: Callable[[int], T], *, device: str, cpus: float | None, gpus: float | None) -> T: ...


def here(function: Callable[[int], T], *, device: str, cpus: float | None, gpus: float | None) -> T:
    """Call `function` in this process, the only one that will compute."""
    return function(1)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Settings that are recorded or asked for; `auto` and None are left to the machine."""

    device: str
    precision: str
    trunk: Literal["auto"] | Trunk
    compile: Compile
    compiled: Sequence[Size]
    batch: int | None
    batch_pixels: int | None
    thread_pixels: int | None
    tile_pixels: Literal["auto"] | int | None
    threads: int | None
    actors: int | None
    network: Architecture


class Generator(NamedTuple):
    """Generator to choose for, in a bundle."""

    url: str
    direction: str
    config: Architecture
    training_size: int
    """Side of the square training images, in pixels."""


def choose_arithmetic(
    generator: Generator,
    options: TranslationOptions,
    recorded: Mapping[str, Any],
    compute: Compute,
    planned: Callable[[], Planned],
) -> tuple[Arithmetic, Figures]:
    """Return the arithmetic for a generator, and the figures by which it was chosen.

    `recorded` is the arithmetic that the output, or the slot, began with; its settings are kept, and nothing is
    measured. Otherwise the forms that are not excluded by what the user asks for are timed by `compute`; a single one,
    too, unless the user gives the rows of a unit, which would else be cut by its rate. The fastest is then compiled for
    the sizes where that pays for the images that are planned. Nothing is measured for a few small images, which take
    less time than that, and in a dry run that translates no sample. A rate that the user gives is taken for figures.

    Raises UserError where the device that is to compute lacks what is recorded or asked for.
    """
    made, figures = _chosen(generator, options, recorded, compute, planned)
    if options.images_per_s is not None:
        actors = options.resources.max_actors or options.resources.actors or 1
        figures = _given(options.images_per_s, made, generator, planned().sizes, actors)
    return made, figures


def _chosen(
    generator: Generator,
    options: TranslationOptions,
    recorded: Mapping[str, Any],
    compute: Compute,
    planned: Callable[[], Planned],
) -> tuple[Arithmetic, Figures]:
    """Return arithmetic and figures as `choose_arithmetic` does, whatever rate is given."""
    if options.compile == "always" and recorded and not recorded.get("compiled"):
        raise UserError("it began without compiled code; leave out --compile always, or give another output")
    if isinstance(generator.config, Program):
        _check_program(generator.config, options)
    wanted, elsewhere = _wanted(generator, options, recorded), _elsewhere(options)
    if recorded and elsewhere:
        # Only the cluster's own machines can tell whether they have it, and they do when they load the model.
        return _settled(wanted, wanted.device, Form(precision=wanted.precision, trunk=recorded["trunk"])), Figures()
    if not recorded and options.dry_run and not options.sample:
        return _provisional(wanted), Figures()
    if wanted.device == "cuda" and not elsewhere:
        _device(wanted)  # refused before anything is started
    if not recorded and is_small(generator, options, planned):
        return _settled(wanted, "cpu", Form(precision="fp32")), Figures()
    if recorded or (not elsewhere and _asks_for_all(options)):
        candidates = _candidates(wanted, generator.config.kind)
        if recorded or len(candidates) == 1:
            return next(iter(candidates.values())), Figures()
    arithmetic, figures = compute(
        functools.partial(_measured, generator, wanted, planned()),
        device=options.device,
        cpus=options.resources.actor_cpus,
        gpus=options.resources.actor_gpus,
    )
    if len(figures.seconds) > 1:
        log.info("%s is the fastest here: %s", arithmetic.form, figures)
    else:
        log.info("measured: %s", figures)
    return arithmetic, figures


def _check_program(program: Program, options: TranslationOptions) -> None:
    """Raise UserError for options that a program cannot follow."""
    if options.compile == "always" or options.tile_megapixels is not None or options.precision not in ("auto", "fp32"):
        raise UserError(
            f"{program.source}: a program runs as it was made; leave out --compile always, --tile_megapixels and "
            "--precision"
        )
    if program.fixed_batch is not None and options.batch not in (None, program.fixed_batch):
        raise UserError(f"{program.source}: takes {program.fixed_batch} images at once; leave out --batch")


def is_small(generator: Generator, options: TranslationOptions, planned: Callable[[], Planned]) -> bool:
    """Return True where all images are translated, on a CPU, before the forms are measured; none is then chosen."""
    if (options.precision, options.trunk, options.compile) != ("auto", "auto", "auto") or _elsewhere(options):
        return False
    if options.device == "cuda" or (options.device == "auto" and host.may_have_gpu()):
        return False
    images, sizes = planned()
    pixels = max((height * width for height, width in sizes), default=generator.training_size**2)
    return images * generator.config.flop(pixels) < _SMALL_FLOP


def _elsewhere(options: TranslationOptions) -> bool:
    """Return True where the machines of a cluster compute."""
    return bool(os.environ.get("RAY_ADDRESS")) and not options.local


def _provisional(wanted: Wanted) -> Arithmetic:
    """Return an arithmetic for a dry run, which makes nothing, without torch."""
    form = Form(
        precision="fp32" if wanted.precision == "auto" else wanted.precision,
        trunk="direct" if wanted.trunk == "auto" else wanted.trunk,
    )
    if wanted.device == "cuda":  # whose memory is not known
        wanted = replace(wanted, tile_pixels=None)
    return _settled(wanted, "cpu" if wanted.device == "auto" else wanted.device, form)


def _given(images_per_s: float, made: Arithmetic, generator: Generator, sizes: Sequence[Size], actors: int) -> Figures:
    """Return figures by which images of these sizes, or of the training's, go through each device at this rate."""
    side = generator.training_size
    scale = side**2 / (ordinary_pixels(sizes) or side**2)
    return Figures(machine=GIVEN, side=side, seconds={str(made.form): scale / images_per_s}, actors=actors)


def _asks_for_all(options: TranslationOptions) -> bool:
    """Return True where the user leaves nothing to be measured: no form, and no rows of a unit."""
    return options.limits.rows is not None and options.precision != "auto" and options.compile != "always"


def _wanted(generator: Generator, options: TranslationOptions, recorded: Mapping[str, Any]) -> Wanted:
    """Return what the record or the user asks for. Raises UserError for a precision that loses bits of the pixels."""
    network = generator.config
    precision = options.precision if options.precision != "auto" else recorded.get("precision", "auto")
    if max(each.bits for each in pixel_types(network)) > 8:
        if precision not in ("auto", "fp32"):
            raise UserError(f"{generator.url}: translates pixels of 16 bits, and {precision} has fewer; use fp32")
        precision = "fp32"
    return Wanted(
        device=options.device if options.device != "auto" else recorded.get("device", "auto"),
        precision=precision,
        trunk=options.trunk if options.trunk != "auto" else recorded.get("trunk", "auto"),
        compile=options.compile,
        compiled=() if options.compile == "never" else recorded.get("compiled", ()),
        batch=options.batch or recorded.get("batch"),
        batch_pixels=None if options.batch else recorded.get("batch_pixels"),
        thread_pixels=recorded.get("thread_pixels") if recorded else THREAD_PIXELS,
        tile_pixels=_recorded_or_wanted(options.tile_megapixels, recorded),
        threads=options.resources.threads or recorded.get("threads"),
        actors=options.resources.max_actors or options.resources.actors,
        network=network,
    )


def _recorded_or_wanted(megapixels: float | None, recorded: Mapping[str, Any]) -> Literal["auto"] | int | None:
    if megapixels is not None:
        return int(megapixels * 1e6)
    return recorded.get("tile_pixels") if recorded else "auto"


def _settled(wanted: Wanted, device: str, form: Form) -> Arithmetic:
    batch, batch_pixels = (wanted.batch, wanted.batch_pixels) if wanted.batch else BATCHES[device]
    program = wanted.network if isinstance(wanted.network, Program) else None
    if program and not wanted.batch:  # nobody has proved that its images do not depend on each other
        batch, batch_pixels = program.fixed_batch or 1, None
    return Arithmetic(
        device=device,
        precision=form.precision,
        threads=None if device == "cuda" else wanted.threads or host.available_cpus(),
        trunk=form.trunk,
        batch=batch,
        batch_pixels=batch_pixels,
        thread_pixels=None if device == "cuda" or program else wanted.thread_pixels,
        tile_pixels=_tile_pixels(wanted, device, form) if wanted.tile_pixels == "auto" else wanted.tile_pixels,
        compiled=wanted.compiled,
    )


def _tile_pixels(wanted: Wanted, device: str, form: Form) -> int | None:
    """Return the pixels of the largest picture that goes through the network whole.

    It is one whose values in the network fit into half of a GPU's memory, or into `NETWORK_BYTES` on a CPU. A program
    cannot be cut.
    """
    if isinstance(wanted.network, Program):
        return None
    room = NETWORK_BYTES
    if device == "cuda":
        import torch

        room = torch.cuda.get_device_properties(0).total_memory // 2
    held = wanted.network.values_held * (2 if form.precision == "bf16" else 4)
    return max(THREAD_PIXELS, room // held)


def _device(wanted: Wanted) -> str:
    """Return the device of this process. Raises UserError where a GPU is wanted and there is none."""
    from pipeline.cluster import hardware

    there = hardware.default_device()
    if wanted.device == "cuda" and there != "cuda":
        raise UserError("device cuda needs a GPU, and this machine has none; run it where there is one")
    return there if wanted.device == "auto" else wanted.device


def _candidates(wanted: Wanted, kind: str) -> dict[Form, Arithmetic]:
    """Return the arithmetics that this process's device has in hardware, the simplest first."""
    from pipeline.models import measuring

    device = _device(wanted)
    try:
        found = measuring.forms(
            device,
            kind=kind,
            precision=wanted.precision,
            trunk=wanted.trunk,
            with_c=wanted.compile != "always",  # it is compiled as it is, and by no other compiler
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    return {form: _settled(wanted, device, form) for form in found}


def _measured(generator: Generator, wanted: Wanted, planned: Planned, actors: int) -> tuple[Arithmetic, Figures]:
    """Return the fastest arithmetic of this process's device, and the figures. Loads the bundle by itself."""
    from pipeline.models import measuring
    from pipeline.models.bundles import open_generator
    from pipeline.translation.compiling import planned_sizes, with_compiled

    memory.keep_freed()  # as the process that translates does
    bundle, config = open_generator(generator.url, generator.direction), generator.config
    network = bundle.generator(generator.direction)
    candidates, actors = _candidates(wanted, config.kind), wanted.actors or actors
    simplest = next(iter(candidates.values()))
    sides = measuring.sides(generator.training_size, config.size_multiple, config.least_size)
    wanted_size = (sides[0], sides[0])

    def make(form: Form, side: int, threads: int | None) -> measuring.Pass:
        arithmetic = replace(candidates[form], threads=threads).at(wanted_size)
        images = arithmetic.at_once(wanted_size)
        return measuring.Pass(measuring.noise_pass(network, config, arithmetic, (side, side), images), images)

    try:
        clocks = measuring.clocks_of(simplest.device, simplest.threads)
        seconds = measuring.measure(list(candidates), make, sides, clocks)
    except (ValueError, ImportError) as error:
        if isinstance(config, Program):  # which came from somebody else
            raise UserError(f"{generator.url}: {one_line(error)}") from error
        raise
    form = fastest(seconds)
    chosen = candidates[form]
    if wanted.compile != "never" and not isinstance(config, Program):
        chosen, gain = with_compiled(
            network,
            config,
            chosen,
            wanted.compile,
            planned_sizes(planned, config, generator.training_size),
            lambda size: planned.images / actors * seconds[form] * size[0] * size[1] / sides[0] ** 2,
        )
        if gain:
            seconds[chosen.form] = seconds[form] / gain.ratio
    dense = measuring.dense_rate(chosen.device, chosen.precision, chosen.threads)
    return chosen, replace(measuring.figures(seconds, sides[0], simplest.device), actors=actors, dense_rate=dense)
