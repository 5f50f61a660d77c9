"""Access to model bundles, and to programs in their place, at any URL."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gan_models import Description, GeneratorConfig, describe_bundle
from pipeline import storage
from pipeline.errors import UserError
from pipeline.images import PixelType
from pipeline.models.cache import read_weights
from pipeline.models.programs import Program, ProgramDescription, describe_program, is_program

if TYPE_CHECKING:
    from gan_models import Bundle
    from pipeline.models.runners import LoadedProgram

Architecture = GeneratorConfig | Program
"""Generator of a bundle, or a program, before it is loaded."""


def open_bundle(url: str, *, direction: str | None = None, ema: bool = True, discriminators: bool = False) -> Bundle:
    """Load the bundle at `url`, with the generator of one direction or of all.

    `ema` and `discriminators` are those of load_bundle. Raises UserError where nothing is there, or no bundle.
    """
    from gan_models import load_bundle  # imported here, since it needs torch

    if is_program(url):
        raise UserError(f"{url}: is a program, which translates only; give a model bundle here")
    with _as_user_error(url):
        return load_bundle(_reader(url), generator=direction, ema=ema, discriminators=discriminators)


def open_generator(url: str, direction: str | None, *, discriminators: bool = False) -> Bundle | LoadedProgram:
    """Load the bundle at `url` with the generator of one direction, or the program. Raises UserError."""
    if not is_program(url):
        return open_bundle(url, direction=direction, discriminators=discriminators)
    from pipeline.models.runners import open_program

    with _as_user_error(url):
        return open_program(url, direction)


def describe(url: str, *, discriminators: bool = False) -> Description | ProgramDescription:
    """Return what the bundle or the program at `url` says of itself, without torch; of `discriminators` where asked.

    Raises UserError like `open_bundle`.
    """
    with _as_user_error(url):
        if is_program(url):
            return describe_program(url)
        return describe_bundle(_reader(url), discriminators=discriminators)


def describe_judge(url: str) -> ProgramDescription:
    """Return what a program that reads something from images, and gives none, says of itself, without torch.

    Raises UserError where it is none, or takes no RGB images one by one.
    """
    if not is_program(url):
        raise UserError(f"{url}: is no program: give a .pt2 or .onnx file, or a YAML file that names one or a factory")
    with _as_user_error(url):
        described = describe_program(url, gives_images=False)
    program = described.program
    if program.in_channels != 3 or program.fixed_batch not in (None, 1):
        raise UserError(
            f"{url}: takes {program.fixed_batch or 'any number of'} images of {program.in_channels} channels; it must "
            "take RGB images one by one, [1, 3, H, W]"
        )
    return described


def check_weights(url: str, described: Description | ProgramDescription, direction: str) -> None:
    """Raise UserError where the weights of one direction are missing, or are not those that the bundle describes."""
    with _as_user_error(url):
        described.check(direction)


def pixel_types(config: Architecture) -> tuple[PixelType, PixelType]:
    """Return the types of the pixels that a generator of this architecture takes and gives."""
    if isinstance(config, Program):
        return PixelType(config.in_channels), PixelType(config.out_channels)
    return PixelType(config.in_channels, config.in_bits), PixelType(config.out_channels, config.out_bits)


def _reader(url: str) -> Callable[[str], bytes]:
    if storage.stat_file(storage.join(url, "config.json")) is None:
        raise UserError(
            f"{url}: no model bundle there; it is the folder `bundle` of a training run, what jobs.import wrote, or a "
            "program (.pt2, .onnx, or a YAML file that names one)"
        )
    return lambda name: read_weights(storage.join(url, name))


@contextlib.contextmanager
def _as_user_error(url: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UserError(str(error) if str(error).startswith(url) else f"{url}: {error}") from error
