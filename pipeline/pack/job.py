"""Packing of images from folders and stores into Parquet shards; unusable ones are quarantined with their reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import images, storage
from pipeline.cluster.watchdog import made_progress
from pipeline.engine.job import Job
from pipeline.engine.publishing.apart import Apart, with_good_picture
from pipeline.engine.publishing.commit import Sink
from pipeline.engine.publishing.reading import read_unit
from pipeline.engine.publishing.steps import Stage, Workload
from pipeline.engine.records.account import Batch, Quarantined, joined
from pipeline.engine.records.layout import Output
from pipeline.engine.records.units import Unit
from pipeline.errors import UserError
from pipeline.pack.config import Layout, PackConfig
from pipeline.recipe import fingerprint
from pipeline.report.cards import store_cards
from pipeline.stores import SHARD, Store, image_columns, open_store
from pipeline.stores.context import with_contexts
from pipeline.stores.forms import naming
from pipeline.stores.forms.registry import writable_form
from pipeline.stores.selection import Selection, splits
from pipeline.stores.tables.features import without_features
from pipeline.stores.tables.options import StoreOptions
from pipeline.stores.tables.schema import image_column

_STAGE = "pack"


def pack_jobs(config: PackConfig) -> list[Job]:
    """Return one job for each store that `config` describes: each split, and within it each domain.

    Raises ValueError where an input is not a store, UserError where it lacks the columns of its layout.
    """
    options = StoreOptions(keys=config.keys, missing_columns=config.missing_columns)
    sources = {"": open_store(config.input, options=options)}
    if config.layout == "unpaired":
        sources = {"a": sources[""], "b": open_store(config.input_b, options=options)}
    parts: dict[str, Selection | None] = {**splits(config.split, config.seed)} or {"": None}
    url = storage.absolute(config.output)
    return [
        _pack_job(config, source, "/".join(filter(None, (url, name, domain))), split, options)
        for name, split in parts.items()
        for domain, source in sources.items()
    ]


def _pack_job(config: PackConfig, source: Store, url: str, split: Selection | None, options: StoreOptions) -> Job:
    pictures = image_columns(source.schema)
    if not pictures:
        raise UserError(f"{source.url}: no column holds images (found {', '.join(source.schema.names)})")
    if config.layout == "pairs" and "image" not in pictures:
        raise UserError(f"{source.url}: layout pairs cuts the column `image`, the store has {', '.join(pictures)}")
    sizes = [name for name in ("width", "height") if name in source.schema.names]
    if other := [name for name in sizes if not pa.types.is_integer(source.schema.field(name).type)]:
        raise UserError(
            f"{source.url}: columns {', '.join(other)} would be overwritten by the size of the image; rename them first"
        )
    if config.layout == "pairs" and (clashes := {"image_a", "image_b"} & set(source.schema.names)):
        raise UserError(f"{source.url}: columns {', '.join(sorted(clashes))} would be overwritten; rename them first")
    recipe: dict[str, Any] = {
        "layout": config.layout,
        "split": [split.seed, split.low, split.high] if split else None,
        "pair_encoding": vars(config.pair_encoding) if config.layout == "pairs" else None,
        "versions": images.codec_versions() | {"pyarrow": pa.__version__},
    }
    recipe |= options.recorded()
    recipe |= {"form": config.form} if config.form != "parquet" else {}  # as the recipes of outputs that exist are
    recipe = with_contexts(recipe, {"": source})

    without_changed = source.schema if config.on_changed == "set_aside" else None

    def read(unit: Unit) -> Batch:
        rows, quarantined, skipped = read_unit(
            unit,
            wants=split.wants if split else None,
            without_changed=without_changed,
            context=source.context,
        )
        return Batch(unit, rows, tuple(quarantined), skipped)

    def pack(batch: Batch) -> Batch:
        return pack_rows(batch, config.layout, config.pair_encoding, longest)

    form = writable_form(config.form)
    if form.names_are_keys and len(pictures) > 1:
        raise UserError(
            f"{source.url}: a folder has one image a row, and this store {', '.join(pictures)}; use another --form"
        )
    sink = Sink(form, column=pictures[0]) if form.names_are_keys else Sink(form)
    output = Output(url)
    longest = storage.room_for_names(output.at("data")) if form.names_are_keys else None
    stage = Stage(
        name=_STAGE, make=lambda: lambda unit: pack(read(unit)), cpus=config.cpus, memory=config.limits.process_bytes,
        stall_s=config.limits.stall_s, cpus_option="--cpus",
        apart=Apart(
            make=lambda: pack, control=lambda batch: with_good_picture(batch, pictures), join=joined, read=read
        ),
    )  # fmt: skip
    work = Workload(output=output, fingerprint=fingerprint(recipe), stages=(stage,), sink=sink)
    return Job(
        kind="pack",
        output=output,
        sources={"": source},
        recipe=recipe,
        limits=lambda rows: config.limits,
        workloads=[work],
        moved=config.moved,
        set_aside_changed=config.on_changed == "set_aside",
        cards=store_cards("Packed image store", [source], output),
    )


def pack_rows(batch: Batch, layout: Layout, encoding: images.Encoding, longest: int | None = None) -> Batch:
    """Decode every image of a unit once to prove that it can be decoded, and lay its rows out as a store.

    `longest` is the number of bytes that a file's name below data/ may have, where each row becomes a file.
    """
    rows, quarantined = batch.rows, list(batch.quarantined)
    good, made = list[bool](), list[dict[str, Any]]()
    pictures = image_columns(rows.schema)
    for i in range(len(rows)):
        cells = {name: rows[name][i] for name in pictures}
        try:
            if longest is not None and (fault := naming.kept_name_fault(rows["key"][i].as_py(), longest)):
                raise images.BadImage("unsupported name", fault)
            made.append(_cut_pair(cells["image"], encoding) if layout == "pairs" else _measured(cells.values()))
        except images.BadImage as bad:
            key, shard = rows["key"][i].as_py(), rows[SHARD][i].as_py()
            quarantined.append(Quarantined(key, shard, _STAGE, bad.reason, str(bad)))
            good.append(False)
        else:
            good.append(True)
        made_progress()
    rows = rows if all(good) else rows.filter(pa.array(good, pa.bool_()))
    replaced = [c for c in (SHARD, "width", "height") if c in rows.column_names]
    rows = without_features(rows.drop_columns(replaced), replaced)
    if layout == "pairs":
        rows = rows.drop_columns("image")
        names = [key.rsplit("/", 1)[-1] for key in rows["key"].to_pylist()]
        for half in ("image_a", "image_b"):
            rows = rows.append_column(half, image_column([m[half] for m in made], names))
    for name in ("width", "height"):
        rows = rows.append_column(name, pa.array([m[name] for m in made], pa.int32()))
    return replace(batch, rows=rows, quarantined=tuple(quarantined))


def _measured(cells: Iterable[pa.Scalar]) -> dict[str, Any]:
    """Decode the images in all cells of a row; return width and height of the first."""
    sizes = [_decoded(cell).shape for cell in cells]
    return {"height": sizes[0][0], "width": sizes[0][1]}


def _cut_pair(cell: pa.Scalar, encoding: images.Encoding) -> dict[str, Any]:
    pixels = _decoded(cell)
    height, width = pixels.shape[:2]
    if width % 2:
        raise images.BadImage("not a pair", f"an A|B picture has an even width, this one {width} pixels")
    if fault := images.misfit(width // 2, height, encoding.codec):
        raise images.BadImage("too large", fault)
    halves = {"image_a": pixels[:, : width // 2], "image_b": pixels[:, width // 2 :]}
    encoded = {name: images.encode(half, encoding) for name, half in halves.items()}
    return encoded | {"height": height, "width": width // 2}


def _decoded(cell: pa.Scalar) -> np.ndarray:
    return images.decode(images.encoded_in(cell.as_py())).pixels
