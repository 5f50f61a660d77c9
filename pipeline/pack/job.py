"""Packing of images from folders and stores into Parquet shards; unusable ones are quarantined with their reason."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv

from pipeline import images, storage
from pipeline.cluster import host
from pipeline.engine.completion.finish import Derived
from pipeline.engine.estimate.outcome import Count
from pipeline.engine.job import Job
from pipeline.engine.publishing.apart import Apart, with_good_picture
from pipeline.engine.publishing.commit import Sink
from pipeline.engine.publishing.reading import read_unit
from pipeline.engine.publishing.steps import Stage, Workload
from pipeline.engine.records.account import Batch, joined
from pipeline.engine.records.layout import Output, load_segments
from pipeline.engine.records.units import Segment, Unit
from pipeline.errors import UserError
from pipeline.geometry.kinds import likely
from pipeline.pack import splits
from pipeline.pack.config import PackConfig
from pipeline.pack.joining import FOLDER, Lookup, all_keys, encoded, known_keys, with_labels
from pipeline.pack.joining import joined as joined_labels
from pipeline.pack.labels import Labels, read_labels
from pipeline.pack.pages import COLUMNS as PAGE_COLUMNS
from pipeline.pack.rows import STAGE, AtOnce, Shape, Taken, pack_rows, with_names
from pipeline.pack.splits import ByHash, Part
from pipeline.recipe import fingerprint
from pipeline.report.cards import Cards, store_cards
from pipeline.stores import Store, image_columns, is_listed, open_store
from pipeline.stores.forms import naming, trees
from pipeline.stores.forms.metadata.joining import files_of
from pipeline.stores.forms.registry import writable_form
from pipeline.stores.selection import splits as hash_splits
from pipeline.stores.tables.options import StoreOptions

log = logging.getLogger("transdomain")

WITHOUT_PARTNER = "_transdomain/without_partner.csv"
"""List of the files of no pair, in each output of layout trees."""


def pack_jobs(config: PackConfig) -> list[Job]:
    """Return one job for each store that `config` describes: each split, and within it each domain.

    Raises ValueError where an input is not a store, UserError where it lacks the columns of its layout, or labels or
    lists do not fit it.
    """
    url = storage.absolute(config.output)
    options = _options(config)
    if config.layout == "trees":
        source, paired = _open_trees(config, url)
        extra: Derived = {WITHOUT_PARTNER: lambda: _csv(paired.alone)}
        sources = {"": source}
    else:
        extra, sources = {}, {"": open_store(config.input, options=options)}
    if config.layout == "unpaired":
        sources = {"a": sources[""], "b": open_store(config.input_b, options=options)}
    joining = None
    if config.labels:
        joining, sources[""] = _joining(config, sources[""], url)
    parts = [(domain, part) for domain, source in sources.items() for part in _parts(config, source, joining)]
    folders = list(dict.fromkeys(part.folder for _, part in parts))
    parts.sort(key=lambda each: (folders.index(each[1].folder), each[0]))
    if len(parts) > 1 and (config.split_by or config.split_file):
        log.info("%s: a store for each of %d values: %s", url, len(folders), ", ".join(folders))
    return [
        _pack_job(
            config, part, "/".join(filter(None, (url, part.folder, domain, side.removeprefix("image_")))), side,
            joining, extra,
        )
        for domain, part in parts
        for side in _sides(config, part.source)
    ]  # fmt: skip


def _sides(config: PackConfig, source: Store) -> tuple[str, ...]:
    """Return the columns of pairs where each becomes a folder of its own, since one holds an image a row; else none."""
    pictures = trees.COLUMNS if config.layout == "pairs" else tuple(image_columns(source.schema))
    return trees.COLUMNS if config.form == "folder" and sorted(pictures) == [*trees.COLUMNS] else ("",)


def _options(config: PackConfig) -> StoreOptions:
    return StoreOptions(
        pictures=config.input_column,
        keys=config.keys,
        missing_columns=config.missing_columns,
        extensions=config.extensions,
        gifs=config.reading.gif != "none",
    )


def _open_trees(config: PackConfig, output: str) -> tuple[Store, trees.Paired]:
    """Return the store of pairs of files in two folders, and what is in no pair."""
    stores = open_store(config.input, options=_options(config)), open_store(config.input_b, options=_options(config))
    for store in stores:
        if is_listed(f"{output}/data/000000-000000.parquet", store):
            raise UserError(f"{output} is inside of {store.url}; give an output beside it")
    source, paired = trees.open_paired(*stores, config.pair_by)
    return replace(source, passed_over=(*source.passed_over, *filter(None, map(_not_joined, stores)))), paired


def _not_joined(store: Store) -> storage.PassedOver | None:
    """Return the metadata files of a folder, which describe one side of pairs and not the pairs; None without any."""
    row_schema = store.ranges_of(np.array([0])).row_schema
    if row_schema is None:
        return None
    names = files_of(row_schema)
    reason = f"metadata files in {store.url} (give the columns of one to pairs by --labels and --labels_match stem)"
    return storage.PassedOver(reason, len(names), names[0])


def _csv(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pcsv.write_csv(table, buffer)
    return buffer.getvalue()


@dataclass(frozen=True)
class _Joining:
    """Labels that go with the rows of a store."""

    labels: Labels
    said: str
    """How rows and images met, in words; empty where nobody has counted it this time."""


def _joining(config: PackConfig, source: Store, url: str) -> tuple[_Joining, Store]:
    """Read the labels, and count how their rows meet the images, in words and in what the source passes over."""
    labels = read_labels(config.labels, config.labels_key, by_stem=config.labels_match == "stem")
    schema, own = labels.columns.schema, {"key", *trees.COLUMNS, *config.columns}
    taken = {*source.schema.names, *own} - {"width", "height"}
    clashes = [field.name for field in schema if field.name in taken or _is_no_size(field)]
    if clashes:
        raise UserError(f"{labels.url}: columns {', '.join(clashes)} would clash with those of images; rename them")
    if labels.without_key:
        log.warning("%s: %d rows have no key, and are of no image", labels.url, labels.without_key)
    if known_keys(source) is None and storage.stat_file(Output(url).plan(0)) is not None:
        return _Joining(labels, ""), source  # counted when it was begun: all shards would have to be read
    met = joined_labels(all_keys(source), labels, config.labels_match, source.url)
    said = f"{met.both:,} images have a row in {labels.name}"
    if len(met.images):
        said += f"; {len(met.images):,} have none, such as {met.images[0]}, and their labels are null"
    (log.warning if len(met.images) else log.info)("%s: %s", source.url, said)
    log.info("%s: columns %s", labels.url, ", ".join(f"{name} ({kind})" for name, kind in labels.types().items()))
    if len(met.rows):
        left = storage.PassedOver(f"rows of {labels.name} without an image", len(met.rows), met.rows[0].as_py())
        source = replace(source, passed_over=(*source.passed_over, left))
    return _Joining(labels, said), source


def _parts(config: PackConfig, source: Store, joining: _Joining | None) -> list[Part]:
    if config.split_file:
        return splits.by_list(source, config.split_file)
    if config.split_by and joining and config.split_by in joining.labels.columns.column_names:
        return splits.by_labels(source, joining.labels, config.split_by, config.labels_match)
    if config.split_by:
        return splits.by_column(source, config.split_by)
    drawn = hash_splits(config.split, config.seed).items()
    return [Part(name, source, ByHash(s), [s.seed, s.low, s.high]) for name, s in drawn] or [Part("", source)]


def _pack_job(config: PackConfig, part: Part, url: str, side: str, joining: _Joining | None, extra: Derived) -> Job:
    source, output = part.source, Output(url)
    _check_columns(config, source, image_columns(source.schema))
    pictures, renames = list(config.columns) or image_columns(source.schema), config.renames
    labels = joining.labels if joining else None
    shape = Shape(config.resize, config.crop, config.encoding) if config.resize else None
    if shape and (places := likely([*source.schema.names, *(labels.columns.column_names if labels else ())])):
        log.warning(
            "%s: columns %s seem to be of places in the pictures, and do not follow them when they are resized",
            source.url, ", ".join(places),
        )  # fmt: skip
    recipe = _recipe(config, part, labels, shape) | ({"side": side} if side else {})
    form = writable_form(config.form)
    if form.names_are_keys and len(pictures) > 1 and not side:
        raise UserError(
            f"{source.url}: a folder has one image a row, and this store {', '.join(pictures)}; name one with "
            "--input_column, or use another --form (image_a and image_b alone become two folders)"
        )
    longest = storage.room_for_names(output.at("data")) if form.names_are_keys else None
    if labels:
        _say_changed(output, labels)
    held = [each for each in (labels, splits.list_of(part.wants)) if each]
    lookup = Lookup(output.at(_held_at(labels)), labels.columns.schema, config.labels_match) if labels else None
    listed = splits.list_of(part.wants)
    wants = splits.resolved(part.wants, output.at(_held_at(listed)) if listed else "")
    schema, bears_changes = source.schema, config.on_changed == "set_aside"
    taken = Taken(
        config.layout, config.pair_encoding, config.reading, config.pixels == "any", longest,
        side=side, pictures=config.columns,
    )  # fmt: skip

    threads = host.available_cpus() if config.local else max(1, int(config.cpus))
    at_once = AtOnce(threads, config.limits.decoded_bytes)

    # Workers get what these two functions hold: never the source, with all its names.
    def read(unit: Unit) -> Batch:
        wanted = wants.of_unit(unit, schema, bears_changes) if wants else None
        without_changed = schema if bears_changes else None
        rows, quarantined, skipped = read_unit(unit, wants=wanted, without_changed=without_changed)
        rows = with_names(rows, renames)
        return Batch(unit, with_labels(rows, lookup) if lookup else rows, tuple(quarantined), skipped)

    def pack(batch: Batch) -> Batch:
        return pack_rows(batch, taken, shape, at_once)

    stage = Stage(
        name=STAGE, make=lambda: lambda unit: pack(read(unit)), cpus=config.cpus, memory=config.limits.process_bytes,
        stall_s=config.limits.stall_s, cpus_option="--cpus",
        apart=Apart(
            make=lambda: pack, control=lambda batch: with_good_picture(batch, pictures), join=joined, read=read
        ),
    )  # fmt: skip
    sink = Sink(form, naming.OF_CONTENT if side else "", side or pictures[0]) if form.names_are_keys else Sink(form)
    work = Workload(output=output, fingerprint=fingerprint(recipe), stages=(stage,), sink=sink)
    said = [("labels", joining.said)] if joining and joining.said else []
    return Job(
        kind="pack",
        output=output,
        sources={"": source},
        recipe=recipe,
        limits=lambda rows: config.limits,
        workloads=[work],
        moved=config.moved,
        set_aside_changed=bears_changes,
        names_rows=config.reading.rows_of_pages,
        again_option="--from_quarantine",
        again=config.from_quarantine,
        cards=_cards(store_cards("Packed image store", [source], output, said=said), output, held, extra),
    )


def _check_columns(config: PackConfig, source: Store, pictures: Sequence[str]) -> None:
    """Raise UserError where a source lacks the columns of its layout, or has some that would be overwritten."""
    if not pictures:
        raise UserError(f"{source.url}: no column holds images (found {', '.join(source.schema.names)})")
    if missing := [name for name in config.input_column if name not in pictures]:
        raise UserError(
            f"{source.url}: no column {missing[0]} holds images, the store has {', '.join(pictures)}; name one of these"
        )
    if config.layout == "pairs" and not config.input_column and "image" not in pictures:
        raise UserError(
            f"{source.url}: layout pairs cuts the column `image`, the store has {', '.join(pictures)}; name the one "
            "with --input_column"
        )
    if other := [field.name for field in source.schema if _is_no_size(field)]:
        raise UserError(
            f"{source.url}: columns {', '.join(other)} would be overwritten by the size of the image; rename them first"
        )
    if config.reading.rows_of_pages and len(config.input_column or pictures) > 1:
        raise UserError(
            f"{source.url}: a row of each picture in a file needs one image column, and this store has several "
            f"({', '.join(pictures)}); name the one with --input_column"
        )
    own = set(trees.COLUMNS) if config.layout == "pairs" else set(config.columns)
    own |= set(PAGE_COLUMNS) if config.reading.rows_of_pages else set()
    if clashes := own & (set(source.schema.names) - set(config.input_column)):
        raise UserError(f"{source.url}: columns {', '.join(sorted(clashes))} would be overwritten; rename them first")


def _is_no_size(field: pa.Field) -> bool:
    """Return True for a column that is called like the size of an image, and cannot be it."""
    return field.name in ("width", "height") and not pa.types.is_integer(field.type)


def _recipe(config: PackConfig, part: Part, labels: Labels | None, shape: Shape | None) -> dict[str, Any]:
    """Return all settings that change a byte of an output; those that are not used are not named."""
    versions = images.codec_versions() | {"pyarrow": pa.__version__} | ({"labels": labels.version} if labels else {})
    recipe: dict[str, Any] = {
        "layout": config.layout,
        "split": part.record,
        "pair_encoding": vars(config.pair_encoding) if config.layout == "pairs" else None,
        "versions": versions,
    }
    recipe |= _options(config).recorded()
    recipe |= {"input_column": list(config.input_column)} if config.input_column else {}
    recipe |= {"form": config.form} if config.form != "parquet" else {}  # as the recipes of outputs that exist are
    recipe |= config.reading.recorded() | ({"pixels": config.pixels} if config.pixels != "rgb" else {})
    recipe |= {"pair_by": config.pair_by} if config.layout == "trees" else {}
    recipe |= {"shape": shape.record()} if shape else {}
    recipe |= {"labels": {"columns": labels.types(), "match": config.labels_match}} if labels else {}
    return recipe


def _say_changed(output: Output, labels: Labels) -> None:
    """Say that labels are others than those of the images that were packed before, which keep theirs."""
    before = {segment.recipe.get("versions", {}).get("labels", labels.version) for segment in load_segments(output)}
    if before - {labels.version}:
        log.warning("%s: %s has changed; images that are packed already keep their labels", output.url, labels.name)


def _held_at(labels: Labels) -> str:
    """Return the name of the object in an output that holds these rows, for its workers."""
    kind = "-".join(labels.columns.column_names) if labels.columns.column_names == [splits.SPLIT] else "labels"
    return f"{FOLDER}{kind}-{labels.version}.parquet"


def _cards(cards: Cards, output: Output, held: Sequence[Labels], extra: Derived) -> Cards:
    """Return cards with what else is in an output: before the run the rows that workers read, after it the lists."""

    def more(segments: Sequence[Segment], manifest: pa.Table | None, ran: Count | None) -> Derived:
        made: dict[str, Callable[[], bytes]] = dict(cards(segments, manifest, ran))
        if manifest is not None:
            return {**made, **extra}
        for labels in held:
            if storage.stat_file(output.at(_held_at(labels))) is None:
                made[_held_at(labels)] = lambda labels=labels: encoded(labels)  # type: ignore[misc]
        return made

    return more
