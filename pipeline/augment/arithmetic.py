"""Arithmetic of a slot's models: what its own plan has, else what the last slot's had, else measured."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from pipeline.augment.config import AugmentConfig
from pipeline.engine.records.layout import Output, load_segments
from pipeline.errors import UserError
from pipeline.models.arithmetic import Arithmetic, Figures
from pipeline.translation.arithmetic import Compute
from pipeline.translation.models import Model, arithmetic_for
from pipeline.translation.sizing import Work

log = logging.getLogger("transdomain")


def choose_arithmetic(
    config: AugmentConfig,
    models: Mapping[str, Model],
    output: Output,
    slot: str,
    compute: Compute,
    work: Mapping[str, Work],
) -> dict[str, tuple[Arithmetic, Figures]]:
    """Return the arithmetic of each model, and its figures: the slot's own, else the last slot's, else measured."""
    begun, before = _recorded(output, slot)
    chosen = {}
    for name, model in models.items():
        found = before.get(name)
        kept = found and (begun or _goes_on(model, found, config))
        recorded = (found.arithmetic, found.figures) if found and kept else ({}, Figures())
        try:
            chosen[name] = arithmetic_for(model, config, recorded, output, compute, work[name])
        except UserError:
            if begun or not kept:
                raise
            log.info("%s: translator %s: this machine lacks what the last slot computed in", output.url, name)
            chosen[name] = arithmetic_for(model, config, ({}, Figures()), output, compute, work[name])
    return chosen


class Recorded(NamedTuple):
    """What a slot's plan says of one translator."""

    model: str
    direction: str
    arithmetic: Mapping[str, Any]
    figures: Figures


def _recorded(output: Output, slot: str) -> tuple[bool, Mapping[str, Recorded]]:
    """Return whether the slot has begun, and the translators of its plan, or else of the newest plan before."""
    segments = load_segments(output)
    own = [segment for segment in segments if segment.label == slot]
    for segment in own or segments[-1:]:
        return bool(own), {
            name: Recorded(
                made["model"], made["direction"], made["arithmetic"], Figures(**segment.measured.get(name, {}))
            )
            for name, made in segment.recipe["translators"].items()
        }
    return False, {}


def _goes_on(model: Model, before: Recorded, config: AugmentConfig) -> bool:
    """Return True where a new slot translates as the last one did: by the same model, on the same kind of device.

    So it can finish what that one has left, and its arithmetic is not the chance of one night's measurement.
    """
    same = (model.bundle.sha256, model.direction) == (before.model, before.direction)
    return same and config.device in ("auto", before.arithmetic["device"])
