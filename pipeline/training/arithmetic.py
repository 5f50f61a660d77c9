"""Arithmetic of a run: what it began with, else what the recipe says, else what is fastest on its slowest rank.

It is chosen before the first step, and the same on every rank and after every restart.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from gan_models import build_generator, train_winograd_trunk
from pipeline.cluster import hardware
from pipeline.errors import StorageError
from pipeline.models import measuring
from pipeline.models.arithmetic import Form, fastest, slowest_rank
from pipeline.training import record
from pipeline.training.checkpoints.checkpoint import Record
from pipeline.training.config.execution import memory_format_of
from pipeline.training.data.context import Context
from pipeline.training.distributed.group import RunError
from pipeline.training.model.replica import autocast

log = logging.getLogger("transdomain")


def choose(context: Context, newest: Record | None) -> Form:
    """Return the form that all ranks train in; `newest` is the checkpoint that they go on from.

    A run that has begun keeps its form. A new one measures a generator's forward and backward on every rank, where the
    recipe leaves a choice, and records the form with all figures before its first step. Raises RunError, on every
    rank, where a rank's device lacks the form.
    """
    group, config = context.group, context.config
    with group.raise_on_all_ranks(ValueError, StorageError):
        begun = _begun(context, newest) if group.leads else None
    begun = group.from_leader(begun)
    with group.raise_on_all_ranks(ValueError):
        candidates = _candidates(context, begun)
    common = [form for form in candidates if all(form in other for other in group.gather(candidates))]
    if begun or len(common) == 1:
        return common[0]
    if not common:
        raise RunError(
            f"{config.output}: its workers have no precision in common; choose one with precision, or give the run "
            "machines of one kind"
        )
    sides = measuring.sides(config.crop_size, config.generator.size_multiple, config.generator.least_size)
    samples = -(-config.global_batch // group.workers)
    seconds = measuring.measure(
        common,
        lambda form, side, _: measuring.Pass(_pass(context, form, side, samples), samples),
        sides,
        measuring.clocks_of(context.device.type, context.threads),
    )
    found = slowest_rank(group.gather(seconds))
    chosen, figures = fastest(found), measuring.figures(found, sides[0], context.device.type)
    kept: Mapping[str, Any] = {"precision": chosen.precision, "trunk": chosen.trunk, "figures": figures.record()}
    with group.raise_on_all_ranks(ValueError, StorageError):
        if group.leads:
            log.info(f"{chosen} is the fastest here, forward and backward: {figures}")
            kept = record.keep_arithmetic(config, kept)
    return _form(group.from_leader(kept))


def described(context: Context, form: Form) -> dict[str, Any]:
    """Return what decides the last bits of the weights, apart from recipe and data."""
    device = context.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else hardware.cpu_capability(),
        "precision": form.precision,
        "trunk": form.trunk,
        "threads": context.threads,
        "workers": context.group.workers,
        "accumulate": context.config.accumulate,
        "torch": torch.__version__,
    }


def _begun(context: Context, newest: Record | None) -> Form | None:
    """Return the form that the run began with; None where it has not begun, or began before this was recorded."""
    if (kept := record.kept_arithmetic(context.config)) is not None:
        return _form(kept)
    before = newest.about.get("arithmetic", {}) if newest else {}
    return _form(before) if {"precision", "trunk"} <= before.keys() else None


def _candidates(context: Context, begun: Form | None) -> list[Form]:
    config = context.config
    try:
        return measuring.forms(
            context.device.type,
            kind=config.generator.kind,
            precision=begun.precision if begun else config.precision,
            trunk=begun.trunk if begun else config.trunk,
            with_c=False,
        )
    except ValueError as error:
        if not begun:
            raise
        raise ValueError(
            f"{config.output}: this run began in {begun}, and {error}; go on with it on machines that have it, or "
            "begin another run"
        ) from error


def _form(document: Mapping[str, Any]) -> Form:
    return Form(precision=document["precision"], trunk=document["trunk"])


def _pass(context: Context, form: Form, side: int, samples: int) -> Callable[[], None]:
    """Return a forward and backward of the recipe's generator, of new weights, on a batch of noise."""
    config, device = context.config, context.device
    random = torch.Generator().manual_seed(0)
    generator = build_generator(config.generator, generator=random)
    memory_format = memory_format_of(config, device)
    generator.to(device=device, memory_format=memory_format)  # type: ignore[call-overload]
    if form.trunk == "winograd":
        train_winograd_trunk(generator)
    images_NCHW = torch.rand(samples, config.generator.in_channels, side, side, generator=random) * 2 - 1
    images_NCHW = images_NCHW.to(device, memory_format=memory_format)
    cast = autocast(device, form.precision)

    def run() -> None:
        generator.zero_grad(set_to_none=True)
        with cast():
            loss = generator(images_NCHW).float().square().mean()
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def opening_lines(context: Context, form: Form) -> Iterator[str]:
    """Yield lines for the start: what is trained on what, and which results depend on the number of workers."""
    config, order, group = context.config, context.order, context.group
    yield (
        f"{config.objective}, {config.direction.replace('_', ' ')}: {order.samples_per_epoch} samples in "
        f"{order.steps_per_epoch} steps an epoch, {context.total_steps} steps in all; "
        f"{group.workers} worker(s) with {context.threads} thread(s), {form.precision} on "
        f"{hardware.describe(context.device.type)}"
    )
    if form.trunk == "winograd":
        yield "trunk winograd: residual blocks convolve with a quarter of the multiplications, and round otherwise"
    if group.workers > 1 and "batch" in (config.generator.norm, config.discriminator.norm):
        yield "batch norm: each worker normalises with its own samples, so the number of workers changes the result"
    if config.accumulate > 1 and "batch" in (config.generator.norm, config.discriminator.norm):
        yield "batch norm: each micro-batch is normalised by itself, so their number changes the result"
    if group.workers > 1 and config.generator.dropout:
        yield "dropout: its masks depend on the number of workers, and so does the result"
    if group.workers > 1 and config.gan_loss == "wgangp":
        yield "gradient penalty: its points are drawn by each worker, so the number of workers changes the result"
