"""Arithmetic of a translation: what the output began with or the user asks for, else what is fastest where it runs."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeVar

from pipeline.cluster import host
from pipeline.errors import UserError
from pipeline.models.arithmetic import Arithmetic, Figures, Form, Trunk, fastest
from pipeline.translate.config import TranslationOptions

log = logging.getLogger("transdomain")

T = TypeVar("T")

BATCHES = {"cuda": 16, "cpu": 1}
"""Images at once where nothing else is asked for."""


class Compute(Protocol):
    """Function that calls another one in a process like those that will compute.

    It returns that one's result, and the number of processes that will compute where the user does not say.
    """

    def __call__(
        self, function: Callable[[], T], *, device: str, cpus: float | None, gpus: float | None
    ) -> tuple[T, int]: ...


def here(function: Callable[[], T], *, device: str, cpus: float | None, gpus: float | None) -> tuple[T, int]:
    """Call `function` in this process, the only one that will compute."""
    return function(), 1


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Settings that are recorded or asked for; `auto` and None are left to the machine."""

    device: str
    precision: str
    trunk: Literal["auto"] | Trunk
    compile: bool
    batch: int | None
    threads: int | None


def choose_arithmetic(
    url: str,
    direction: str,
    kind: str,
    options: TranslationOptions,
    recorded: Mapping[str, Any],
    compute: Compute,
) -> tuple[Arithmetic, Figures]:
    """Return the arithmetic for a bundle's generator, of this `kind`, and the figures by which it was chosen.

    `recorded` is the arithmetic that the output, or the slot, began with; its settings are kept, and nothing is
    measured. Otherwise the forms that are not excluded by what the user asks for are timed by `compute`; a single one,
    too, unless the user gives the rows of a unit, which would else be cut by its rate. A dry run, which makes nothing,
    measures nothing.

    Raises UserError where the device that is to compute lacks what is recorded or asked for.
    """
    wanted = _wanted(options, recorded)
    elsewhere = bool(os.environ.get("RAY_ADDRESS")) and not options.local
    if recorded and elsewhere:
        # Only the cluster's own machines can tell whether they have it, and they do when they load the model.
        return _settled(wanted, wanted.device, Form(precision=wanted.precision, trunk=recorded["trunk"])), Figures()
    if not recorded and options.dry_run:
        return _provisional(wanted), Figures()
    if wanted.device == "cuda" and not elsewhere:
        _device(wanted)  # refused before anything is started
    if recorded or (not elsewhere and _asks_for_all(options)):
        candidates = _candidates(wanted, kind)
        if recorded or len(candidates) == 1:
            return next(iter(candidates.values())), Figures()
    resources = options.resources
    (arithmetic, figures), actors = compute(
        functools.partial(_measured, url, direction, wanted),
        device=options.device,
        cpus=resources.actor_cpus,
        gpus=resources.actor_gpus,
    )
    figures = replace(figures, actors=resources.max_actors or resources.actors or actors)
    if len(figures.seconds) > 1:
        log.info("%s is the fastest here: %s", arithmetic.form, figures)
    else:
        log.info("measured: %s", figures)
    return arithmetic, figures


def _provisional(wanted: Wanted) -> Arithmetic:
    """Return an arithmetic for a dry run, which makes nothing, without torch."""
    form = Form(
        precision="fp32" if wanted.precision == "auto" else wanted.precision,
        trunk="direct" if wanted.trunk == "auto" else wanted.trunk,
    )
    return _settled(wanted, "cpu" if wanted.device == "auto" else wanted.device, form)


def _asks_for_all(options: TranslationOptions) -> bool:
    """Return True where the user leaves nothing to be measured: no form, and no rows of a unit."""
    return options.limits.rows is not None and options.precision != "auto"


def _wanted(options: TranslationOptions, recorded: Mapping[str, Any]) -> Wanted:
    return Wanted(
        device=options.device if options.device != "auto" else recorded.get("device", "auto"),
        precision=options.precision if options.precision != "auto" else recorded.get("precision", "auto"),
        trunk=options.trunk if options.trunk != "auto" else recorded.get("trunk", "auto"),
        compile=options.compile,
        batch=options.batch or recorded.get("batch"),
        threads=options.resources.threads or recorded.get("threads"),
    )


def _settled(wanted: Wanted, device: str, form: Form) -> Arithmetic:
    return Arithmetic(
        device=device,
        precision=form.precision,
        threads=None if device == "cuda" else wanted.threads or host.available_cpus(),
        compile=wanted.compile,
        trunk=form.trunk,
        batch=wanted.batch or BATCHES[device],
    )


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
        found = measuring.forms(device, kind=kind, precision=wanted.precision, trunk=wanted.trunk)
    except ValueError as error:
        raise UserError(str(error)) from error
    return {form: _settled(wanted, device, form) for form in found}


def _measured(url: str, direction: str, wanted: Wanted) -> tuple[Arithmetic, Figures]:
    """Return the fastest arithmetic of this process's device, and the figures. Loads the bundle by itself."""
    from pipeline.models import measuring
    from pipeline.models.bundles import open_bundle
    from pipeline.models.translator import noise_pass

    bundle = open_bundle(url, direction=direction)
    network, config = bundle.generator(direction), bundle.generator_configs[direction]
    candidates = _candidates(wanted, config.kind)
    simplest = next(iter(candidates.values()))
    sides = measuring.sides(bundle.training_size, config.size_multiple, config.least_size)
    seconds = measuring.measure(
        list(candidates),
        # Eager, even where it will be compiled: each form at each side would take half a minute to compile.
        lambda form, side: noise_pass(network, config, replace(candidates[form], compile=False), side),
        sides,
        images=simplest.batch,
        clocks=measuring.clocks_of(simplest.device, simplest.threads),
    )
    return candidates[fastest(seconds)], measuring.figures(seconds, sides[0], simplest.device)
