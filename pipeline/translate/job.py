"""Job of the engine for a configuration of `jobs.translate`, after checking that everything it needs is there.

One model, or a chain of models, makes the whole output. Several translators over the same images have a part of it
each, with units of its own. The units of one range of the source go through the stages together: it is read and decoded
once, goes through the models one after the other, and comes out as one shard for each translator, with its own account
and commit.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline import images, storage
from pipeline.engine.job import Job
from pipeline.engine.publishing.commit import Sink
from pipeline.engine.publishing.steps import Stage, Workload
from pipeline.engine.records.layout import Output, check_job, load_segments
from pipeline.engine.records.limits import Limits
from pipeline.engine.records.units import part_of_translator
from pipeline.errors import UserError
from pipeline.geometry.kinds import Geometry
from pipeline.models.arithmetic import Figures
from pipeline.models.programs import check_is_file
from pipeline.recipe import fingerprint, models_of
from pipeline.report.cards import store_cards
from pipeline.scores.judges import Judged
from pipeline.stores import Store, open_store
from pipeline.stores.forms.registry import writable_form
from pipeline.translate.config import TranslateConfig
from pipeline.translate.naming import wanted_models
from pipeline.translate.stages import Chain, DecodeOnce, EachPart, InTurn, Link
from pipeline.translation.arithmetic import Compute, here
from pipeline.translation.columns import TRANSLATOR, Label, check_columns, earlier_names, geometry_of
from pipeline.translation.models import (
    Model,
    arithmetic_for,
    check_codec,
    check_pixels,
    choose_column,
    is_cut_by_rate,
    judges_of,
    most_decoded,
    open_model,
    resized_to,
    schema_of_lost,
    stages,
    stall_s,
    versions,
)
from pipeline.translation.sizing import Work, costing_of, fitted_limits
from pipeline.translation.stages import Encode
from pipeline.translation.streaming import Stream
from pipeline.translation.taking_apart import aparts


@dataclass(frozen=True)
class Planned:
    """One model of a translator, and how it is computed."""

    model: Model
    link: Link
    work: Work
    is_cut_by_rate: bool


def translate_job(config: TranslateConfig, compute: Compute = here) -> Job:
    """Return the job that `config` describes; `compute` times the models where the output has not begun.

    Raises UserError where store, column, one of the models or output do not fit.
    """
    options = config.store_options(config.input_column)
    source, output = open_store(config.input, options=options), Output(storage.absolute(config.output))
    models = {
        name: [open_model(each.bundle, each.direction) for each in wanted]
        for name, wanted in wanted_models(config).items()
    }
    column = _column(source, config, models)
    earlier = _earlier_names(source, config, models, column)
    agreement_model = _agreement_url(config)
    scored = {name: judges_of(of[0], config.score, agreement_model) for name, of in models.items()}
    geometry = geometry_of(config, [source], column, source.schema.names)
    _check_geometry(config, models)
    _check_types(config, models)
    check_pixels(source, column, next(iter(models.values()))[0].takes)
    check_job(output, "translate")
    judged = {name: Judged(scores, config.keep_if, agreement_model) for name, scores in scored.items()}
    planned = _planned(config, models, judged, Work(source, column, None, lambda: source.rows), output, compute)
    everything = [each for of in planned.values() for each in of]
    measured = [(each.link.arithmetic, each.link.figures, each.work) for each in everything]
    entries = {name: _entry(of) | ({"score": scored[name]} if scored[name] else {}) for name, of in planned.items()}
    recipe = entries.get("", {"translators": entries}) | _settings(config, column) | geometry.record()
    recipe |= options.recorded() | ({"keep_if": config.keep_if} if config.keep_if else {})
    figures = {
        key: each.link.figures.record()
        for key, each in zip(models_of(recipe), everything, strict=True)
        if each.link.figures.seconds
    }
    config = replace(config, limits=_limits(config.limits, len(models)))
    form, chains = writable_form(config.form), {name: [each.link for each in of] for name, of in planned.items()}
    workload = Workload(
        output=output,
        fingerprint=fingerprint(recipe),
        stages=_stages(config, source, column, earlier, geometry, chains, output),
        sink=Sink(form, images.CODECS[config.encoding.codec].extension if form.names_are_keys else ""),
        parts=tuple(map(_part, models)),
    )
    return Job(
        kind="translate",
        output=output,
        sources={"": source},
        recipe=recipe,
        measured=figures.get("", figures),
        cut_by_rate=any(each.is_cut_by_rate for each in everything),
        limits=functools.partial(fitted_limits, config, measured, in_one_pass=len(models)),
        workloads=[workload],
        moved=config.moved,
        skipped_are_judged=True,  # no other rows are skipped here
        set_aside_changed=config.on_changed == "set_aside",
        cards=store_cards(f"Translated {_in_words(models)}", [source], output, input_column=column),
        costing=costing_of(
            config, column, measured, [1.0], compute, in_one_pass=len(models), scored=any(scored.values())
        ),
    )


def _stages(
    config: TranslateConfig,
    source: Store,
    column: str,
    earlier: Mapping[str, str],
    geometry: Geometry,
    chains: Mapping[str, Sequence[Link]],
    output: Output,
) -> tuple[Stage, ...]:
    """Return the three stages through which the units of one range of the source go together."""
    everything = [link for links in chains.values() for link in links]
    device = everything[0].arithmetic.device
    pixel_bytes = max(max(link.takes.bytes, link.gives.bytes) for link in everything)
    decode = DecodeOnce(
        column,
        _decoded_side(chains, config),
        without_changed=schema_of_lost(config, source),
        renames=earlier,
        keep_source=config.keep_source,
        geometry=geometry,
        takes=everything[0].takes,
        reading=config.reading,
        pixel_bytes=pixel_bytes,
        most=most_decoded(config.limits, device) // len(chains),
        later=max((link.side or 0) ** 2 for link in everything) * pixel_bytes,
    )
    longest = storage.room_for_names(output.at("data")) if writable_form(config.form).names_are_keys else None
    encodes = {
        name: Encode(
            config.encoding, column, config.keep_source, config.size, _fingerprints(links), links[-1].gives, longest
        )
        for name, links in chains.items()
    }
    encode = next(iter(encodes.values()))  # they differ in how they lay out the rows, and not in how they encode
    lay_out = EachPart({_part(name): Label(each, name) if name else each for name, each in encodes.items()})
    load = _translating(config, chains, decode, encode)
    return stages(
        config,
        decode=lambda: decode,
        translate=load,
        encode=lambda: lay_out,
        device=device,
        translate_stall_s=max(stall_s(config, link.arithmetic, link.figures) for link in everything),
        apart=aparts(decode, load, encode, lay_out),
    )


def _agreement_url(config: TranslateConfig) -> str:
    """Return the URL of the model that gives the score agreement; empty where there is none. Raises UserError."""
    check_is_file(config.agreement_model)
    return storage.absolute(config.agreement_model) if config.agreement_model else ""


def _settings(config: TranslateConfig, column: str) -> dict[str, Any]:
    """Return the settings beside the model's that change a byte of a translation of `column`."""
    return {
        "input_column": column,
        "keep_source": config.keep_source,
        "size": config.size,
        "form": config.form,
        "encoding": vars(config.encoding),
        "versions": versions(),
    } | config.reading.recorded()


def _part(name: str) -> str:
    return part_of_translator(name) if name else ""


def _fingerprints(links: Sequence[Link]) -> str:
    """Return what the column `model` holds: the fingerprints of the models, in their order."""
    return "+".join(link.sha256 for link in links)


def _in_words(models: Mapping[str, Sequence[Model]]) -> str:
    chains = {name: ", then ".join(model.direction for model in of) for name, of in models.items()}
    if "" in chains:
        return f"from {chains[''].replace('_to_', ' to ')}"
    return "by " + ", ".join(f"{name} ({how})" for name, how in chains.items())


def _column(source: Store, config: TranslateConfig, models: Mapping[str, Sequence[Model]]) -> str:
    """Return the one column that all translators begin with. Raises UserError where they begin with different ones."""
    columns = {choose_column(source, config.input_column, of[0].direction) for of in models.values()}
    if len(columns) > 1:
        raise UserError(
            f"{source.url}: columns {', '.join(sorted(columns))} could be translated, and one pass translates one; "
            "choose with --input_column"
        )
    return columns.pop()


def _earlier_names(
    source: Store, config: TranslateConfig, models: Mapping[str, Sequence[Model]], column: str
) -> Mapping[str, str]:
    """Return new names for columns of earlier translations. Raises UserError where others would be overwritten."""
    own = "" if "" in models else TRANSLATOR
    earlier = earlier_names(source.schema, column, also=own)
    kept = set(source.schema.names) - earlier.keys()
    check_columns(source, kept, column, config.score)
    if own in kept:
        raise UserError(f"{source.url}: column {own} would be overwritten; rename or drop it first")
    return earlier


def _planned(
    config: TranslateConfig,
    models: Mapping[str, Sequence[Model]],
    judged: Mapping[str, Judged],
    work: Work,
    output: Output,
    compute: Compute,
) -> Mapping[str, Sequence[Planned]]:
    """Return the models of each translator with their arithmetic: the output's own, else measured."""
    segments = load_segments(output)
    recipe, measured = (segments[-1].recipe, segments[-1].measured) if segments else ({}, {})
    before = {key: made.get("arithmetic", {}) for key, made in models_of(recipe).items()}
    measured = {"": measured} if "" in before else measured
    found = dict[str, list[Planned]]()
    for name, of in models.items():
        for i, model in enumerate(of):
            key = _key(name, i, of)
            begun, side = before.get(key, {}), resized_to(config.size, model)
            of_model = replace(work, side=side, pixel_bytes=model.pixel_bytes)
            recorded = (begun, Figures(**measured.get(key, {})) if begun else Figures())
            arithmetic, figures = arithmetic_for(model, config, recorded, output, compute, of_model)
            link = Link(
                url=model.url,
                direction=model.direction,
                sha256=model.bundle.sha256,
                arithmetic=arithmetic,
                figures=figures,
                side=side,
                judged=judged[name],
                takes=model.takes,
                gives=model.gives,
            )
            cut = is_cut_by_rate(config, model, begun, of_model)
            found.setdefault(name, []).append(Planned(model, link, of_model, cut))
    return found


def _check_types(config: TranslateConfig, models: Mapping[str, Sequence[Model]]) -> None:
    """Raise UserError where one pass cannot decode or encode for all models, or a chain's models do not fit."""
    for of in models.values():
        for one, other in itertools.pairwise(of):
            if one.gives != other.takes:
                raise UserError(
                    f"--chain: {one.url} gives {one.gives}, and {other.url} takes {other.takes}; they do not fit"
                )
        check_codec(of[-1], config.encoding)
    for what, types in (
        ("take", {of[0].takes for of in models.values()}),
        ("give", {of[-1].gives for of in models.values()}),
    ):
        if len(types) > 1:
            raise UserError(
                f"the translators {what} {' and '.join(sorted(map(str, types)))}, and one pass decodes and encodes one "
                "type of pixels; use a run for each"
            )


def _check_geometry(config: TranslateConfig, models: Mapping[str, Sequence[Model]]) -> None:
    """Raise UserError where columns of geometry would have to follow images to several sizes."""
    sides = {model.bundle.training_size for of in models.values() for model in of}
    if config.geometry and config.size == "training" and len(sides) > 1:
        raise UserError(
            f"--geometry follows images to one size, and by --size training the models have several "
            f"({', '.join(map(str, sorted(sides)))}); use another --size, or a run for each"
        )


def _entry(of: Sequence[Planned]) -> dict[str, Any]:
    """Return what the recipe says of a translator: that of its model, or of each model of its chain."""
    made = [each.model.recipe(each.link.arithmetic) for each in of]
    return made[0] if len(made) == 1 else {"chain": {str(i): each for i, each in enumerate(made, 1)}}


def _key(name: str, place: int, of: Sequence[Model]) -> str:
    """Return the key under which `models_of` has this model."""
    return " ".join(filter(None, (name, str(place + 1) if len(of) > 1 else "")))


def _decoded_side(chains: Mapping[str, Sequence[Link]], config: TranslateConfig) -> int | None:
    """Return the side that images are resized to as they are decoded; None where not all translators want the same, or
    a chain needs their own size later."""
    sides = {links[0].side for links in chains.values()}
    needs_own_size = config.size == "original" and any(len(links) > 1 for links in chains.values())
    return None if len(sides) > 1 or needs_own_size else sides.pop()


def _limits(limits: Limits, translators: int) -> Limits:
    """Return limits with which all encoded translations of a unit may be held as its decoded images may."""
    if translators == 1:
        return limits
    return replace(limits, size_mb=min(limits.size_mb, limits.decoded_mb / translators))


def _translating(
    config: TranslateConfig, chains: Mapping[str, Sequence[Link]], decode: DecodeOnce, encode: Encode
) -> Callable[[], Stream]:
    """Return a function that loads all models in the process that is to translate."""
    by_part = {_part(name): links for name, links in chains.items()}
    size, most = config.size, config.limits.decoded_bytes

    def load() -> Stream:
        translators = {part: Chain(links, size, decode.size) for part, links in by_part.items()}
        return Stream(InTurn(translators), decode, encode, most, translations=len(translators))

    return load
