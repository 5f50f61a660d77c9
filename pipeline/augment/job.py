"""Job of the engine for a configuration of `jobs.augment`: several translators over new images of the sources.

Each translator is a part of the output. It has its own units over all new images, of which it takes those that are
drawn for it. The original images are one more part, where they are kept.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline import storage
from pipeline.augment.arithmetic import choose_arithmetic
from pipeline.augment.config import ORIGINAL, AugmentConfig
from pipeline.augment.stages import Check, Keep
from pipeline.engine.job import Job
from pipeline.engine.publishing.commit import Sink
from pipeline.engine.publishing.steps import Stage, Workload
from pipeline.engine.records.account import Batch
from pipeline.engine.records.layout import Output, check_job
from pipeline.engine.records.units import part_of_translator
from pipeline.errors import UserError
from pipeline.images import RGB
from pipeline.models.arithmetic import Arithmetic, Figures
from pipeline.recipe import fingerprint
from pipeline.report.cards import store_cards
from pipeline.stores import ShardsDifferError, Store, open_store
from pipeline.stores.selection import Selection
from pipeline.stores.tables.features import differing_classes, features_of
from pipeline.stores.tables.ranges import Ranges
from pipeline.translation.arithmetic import Compute, here
from pipeline.translation.columns import Label, check_columns, geometry_of
from pipeline.translation.models import (
    Model,
    check_codec,
    check_pixels,
    choose_column,
    is_cut_by_rate,
    most_decoded,
    open_model,
    resized_to,
    schema_of_lost,
    stages,
    stall_s,
    translating,
    versions,
)
from pipeline.translation.sizing import Work, costing_of, fitted_limits
from pipeline.translation.stages import Decode, Encode
from pipeline.translation.taking_apart import aparts, check_apart

log = logging.getLogger("transdomain")

OWN_COLUMNS = ("source", "translator")
"""Names of the columns that this job adds to those of a translation."""


def augment_job(config: AugmentConfig, slot: str, compute: Compute = here) -> Job:
    """Return the job of one slot; `compute` times the models where the slot has not begun.

    Raises UserError that names what does not fit: a source that is not there, sources whose columns differ, a model
    that is missing or takes other channels.
    """
    output = Output(storage.absolute(config.output))
    models = {name: open_model(wanted.bundle, wanted.direction) for name, wanted in config.translators.items()}
    sources = {name: _open_source(name, url, config) for name, url in config.sources.items()}
    column = _column(config, sources, models)
    labels = _labels(config, sources, column)
    geometry = geometry_of(config, list(sources.values()), column, labels)
    check_job(output, "augment")
    rows = sum(source.rows for source in sources.values())
    first = next(iter(sources.values()))
    work = {
        name: Work(
            first,
            column,
            resized_to(config.size, model),
            functools.partial(_share_of, rows, config.translators[name].probability),
            model.pixel_bytes,
        )
        for name, model in models.items()
    }
    chosen = choose_arithmetic(config, models, output, slot, compute, work)
    recipe = _recipe(config, models, chosen, column, labels) | {**geometry.record()}
    decode = functools.partial(
        Decode,
        column,
        columns=labels,
        without_changed=schema_of_lost(config, first),
        reading=config.reading,
        geometry=geometry,
    )
    workloads = _workloads(config, output, fingerprint(recipe), models, chosen, decode, column)
    parts = [(*chosen[name], work[name]) for name in models]
    return Job(
        kind="augment",
        output=output,
        sources=sources,
        recipe=recipe,
        measured={name: figures.record() for name, (_, figures) in chosen.items() if figures.seconds},
        cut_by_rate=any(
            is_cut_by_rate(config, model, chosen[name][1].seconds, work[name]) for name, model in models.items()
        ),
        limits=functools.partial(fitted_limits, config, parts),
        workloads=workloads,
        label=slot,
        set_aside_changed=config.on_changed == "set_aside",
        cards=store_cards("Augmented images", list(sources.values()), output, input_column=column),
        costing=costing_of(config, column, parts, [work.share for work in workloads], compute),
    )


def _share_of(rows: int, probability: float) -> int:
    return round(rows * probability)


def _column(config: AugmentConfig, sources: Mapping[str, Store], models: Mapping[str, Model]) -> str:
    """Return the column that all models translate. Raises UserError where a source or a model does not fit it."""
    directions = {model.direction for model in models.values()} or {"a_to_b"}
    columns = {choose_column(s, config.input_column, d) for s in sources.values() for d in directions}
    if len(columns) > 1:
        raise UserError(f"columns {', '.join(sorted(columns))} could be translated; choose with --input_column")
    column = columns.pop()
    for model in models.values():
        check_codec(model, config.encoding)
        for source in sources.values():
            check_pixels(source, column, model.takes)
    return column


def _recipe(
    config: AugmentConfig,
    models: Mapping[str, Model],
    chosen: Mapping[str, tuple[Arithmetic, Figures]],
    column: str,
    labels: Sequence[str],
) -> dict[str, Any]:
    """Return all that changes a row, besides the geometry of its labels."""
    return {
        "translators": {
            name: model.recipe(chosen[name][0]) | {"probability": config.translators[name].probability}
            for name, model in models.items()
        },
        "keep_originals": config.keep_originals,
        "labels": list(labels),
        "input_column": column,
        "seed": config.seed,
        "size": config.size,
        "encoding": vars(config.encoding),
        "versions": versions(),
        **config.reading.recorded(),
        **config.store_options(config.input_column).recorded(),
    }


def _workloads(
    config: AugmentConfig,
    output: Output,
    made_by: str,
    models: Mapping[str, Model],
    chosen: Mapping[str, tuple[Arithmetic, Figures]],
    decode: Callable[..., Decode],
    column: str,
) -> list[Workload]:
    """Return the work of each translator, then that of the original images, where they are kept."""
    make = functools.partial(_work, output, made_by)
    found = [
        make(name, _stages(config, name, model, chosen[name], decode), config.translators[name].probability)
        for name, model in models.items()
    ]
    if config.keep_originals:
        device = next((arithmetic.device for arithmetic, _ in chosen.values()), "cpu")
        takes = next((model.takes for model in models.values()), RGB)
        found.append(make(ORIGINAL, _untouched(config, column, decode(None, takes=takes), device), 1.0))
    return found


def draw(seed: int, translator: str, probability: float) -> Selection | None:
    """Return which images a translator gets, by seed, translator name and image key; None where it gets all."""
    return Selection(seed, 0.0, probability, salt=translator) if probability < 1 else None


def _work(output: Output, made_by: str, name: str, of: tuple[Stage, ...], share: float) -> Workload:
    return Workload(
        output=output, fingerprint=made_by, stages=of, sink=Sink(), parts=(part_of_translator(name),), share=share
    )


def _stages(
    config: AugmentConfig, name: str, model: Model, chosen: tuple[Arithmetic, Figures], read: Callable[..., Decode]
) -> tuple[Stage, ...]:
    """Return a translator's stages; `read` makes the first one from a size and a selection."""
    selection = draw(config.seed, name, config.translators[name].probability)
    most = most_decoded(config.limits, chosen[0].device)
    decode = read(
        resized_to(config.size, model),
        selection=selection,
        takes=model.takes,
        pixel_bytes=model.pixel_bytes,
        most=most,
    )
    encode = Encode(config.encoding, decode.column, False, config.size, model.bundle.sha256, model.gives)
    label = Label(encode, name)
    translate = translating(model, *chosen, decode, encode, config.limits)
    return stages(
        config,
        decode=lambda: decode,
        translate=translate,
        encode=lambda: label,
        device=chosen[0].device,
        translate_stall_s=stall_s(config, *chosen),
        apart=aparts(decode, translate, encode, label),
    )


def _untouched(config: AugmentConfig, column: str, read: Decode, device: str) -> tuple[Stage, ...]:
    """Return the stages of a translation that translates nothing."""
    decode, encode = Check(read), Label(Keep(column), ORIGINAL)
    return stages(
        config,
        decode=lambda: decode,
        translate=lambda: _as_it_is,
        encode=lambda: encode,
        device=device,
        translate_stall_s=config.limits.stall_s,
        apart=(check_apart(read), None, None),
    )


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _open_source(name: str, url: str, config: AugmentConfig) -> Store:
    """Open a source; where the labels are named, its shards may differ in other columns."""
    with _named(name):
        store = open_store(url, alike=config.labels is None, options=config.store_options(config.input_column))

    def look(which: np.ndarray) -> Ranges:
        with _named(name):
            return store.look(which)

    return replace(store, source=name, look=look)


@contextlib.contextmanager
def _named(source: str) -> Iterator[None]:
    """Name the source in errors about it."""
    try:
        yield
    except ShardsDifferError as error:
        raise UserError(f"source {source}: {error}; name those to keep with --labels") from error
    except UserError as error:
        raise UserError(f"source {source}: {error}") from error


def _labels(config: AugmentConfig, sources: Mapping[str, Store], column: str) -> tuple[str, ...]:
    """Return the columns to carry along. Raises UserError where a source lacks one of them, or has another type."""
    replaced = {"key", column, "width", "height"}
    types = {
        name: {field.name: field.type for field in store.schema if field.name not in replaced}
        for name, store in sources.items()
    }
    first, expected = next(iter(types.items()))
    labels = tuple(expected) if config.labels is None else config.labels
    for name, found in types.items():
        for label in labels:
            if label not in found:
                raise UserError(_differ(f"{name} has no column {label}", config, sources))
            if found[label] != expected[label]:
                how = f"{first} has {label} as {expected[label]}, {name} as {found[label]}"
                raise UserError(_differ(how, config, sources))
        classes = differing_classes(features_of(sources[first].schema), features_of(sources[name].schema))
        if clashing := [f"column {label}: {how}" for label, how in classes.items() if label in labels]:
            raise UserError(
                f"source {name}: its names of classes are not those of {first} ({'; '.join(clashing)}), so that "
                "numbers would change their meaning; make them alike, or name other columns with --labels"
            )
        if config.labels is None and (more := set(found) - set(expected)):
            raise UserError(_differ(f"{first} has no column {min(more)}", config, sources))
    for store in sources.values():
        check_columns(store, labels, column)
    if clashes := {*OWN_COLUMNS, "slot"} & set(labels):
        raise UserError(
            f"columns {', '.join(sorted(clashes))} would be overwritten; rename them, or name others with --labels"
        )
    return labels


def _differ(how: str, config: AugmentConfig, sources: Mapping[str, Store]) -> str:
    if config.labels is not None:
        return f"source {how}, or not in all its shards; leave it out of --labels"
    return f"sources {', '.join(sources)} have different columns ({how}); name those to keep with --labels"
