"""Inputs of a new version: those that the old one was made of, as its plan names them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage
from pipeline.engine.comparison import compare
from pipeline.engine.records.layout import Output, plan_tables
from pipeline.engine.records.units import Segment, settled_row_schema
from pipeline.errors import UserError
from pipeline.stores import Store
from pipeline.stores.tables.ranges import Ranges
from pipeline.stores.tables.row_schema import RowSchema

log = logging.getLogger("transdomain")

_COLUMNS = ("shard", "url", "version", "start", "stop", "size", "source")


def members_of(
    output: Output, segments: Sequence[Segment], sources: Mapping[str, Store], *, set_aside_changed: bool
) -> dict[str, Store]:
    """Return each source with the inputs alone that these segments were planned of, in their planned versions.

    Raises UserError where an input was planned at another place, or of a source that is not given, and, unless
    `set_aside_changed`, where one is gone or has changed.
    """
    planned = pa.concat_tables(_planned(output, segment) for segment in segments)
    named = set(pc.unique(planned["source"]).to_pylist())
    if missing := named - sources.keys():
        raise UserError(f"{output.url}: has inputs of the source {min(missing)}, which is not among --sources; add it")
    sources = {name: store for name, store in sources.items() if name in named}
    found, gone = compare({name: store.shards for name, store in sources.items()}, [planned])
    for name, store in sources.items():
        if len(moved := found[name].elsewhere):
            raise UserError(
                f"{store.shards[int(moved[0])].url}: its like was planned for {output.url} at another place, and a new "
                "version is made of the same inputs; give them there, or another output"
            )
    changed = [store.shards[int(at)].url for name, store in sources.items() for at in found[name].changed]
    if lost := [*gone, *changed]:
        what = f"{output.url}: {len(lost)} of its inputs are gone, or have changed, such as {lost[0]}"
        if not set_aside_changed:
            raise UserError(
                f"{what}, and a new version would lack them; put them back as they were, or add --on_changed set_aside "
                "to make it without them"
            )
        log.warning("%s; the new version is made without them", what)
    return {
        name: store.only(replace(_ranges(planned, name), row_schema=_row_schema(store, segments, name)))
        for name, store in sources.items()
    }


def _row_schema(store: Store, segments: Sequence[Segment], name: str) -> RowSchema | None:
    """Return how the rows of a source came when they were planned, by what describes them beside its objects now."""
    settled = settled_row_schema(segments, name)
    now = store.ranges_of(np.array([0])).row_schema if len(store.shards) else None
    if settled is None or now is None or now.basis == settled.basis:
        return settled
    log.warning(
        "%s: what describes its rows has changed since they were planned; the new version has that of now", store.url
    )
    return replace(settled, basis=now.basis)


def _planned(output: Output, segment: Segment) -> pa.Table:
    """Return the ranges of a segment, each once; every part of it covers all its inputs."""
    names = [f"ranges.list.element.{name}" for name in _COLUMNS]
    tables = [table for _, table in plan_tables([output.plan(segment.number)], ["part", *names])]
    if not tables:
        return pa.table({name: pa.array([], pa.string()) for name in _COLUMNS})
    table = pa.concat_tables(tables)
    ranges = table.filter(pc.equal(table["part"], table["part"][0]))["ranges"].combine_chunks().flatten()
    return pa.table([ranges.field(name) for name in _COLUMNS], _COLUMNS)


def _ranges(planned: pa.Table, source: str) -> Ranges:
    """Return the planned ranges of one source, in the order of its shards."""
    own = planned.filter(pc.equal(planned["source"], source)).sort_by([("shard", "ascending"), ("start", "ascending")])
    own = own.combine_chunks()
    names = own["shard"].to_numpy(zero_copy_only=False)
    begins = np.append(True, names[1:] != names[:-1])
    text = pa.large_string()
    shard, url, version = (own[name].combine_chunks().cast(text) for name in ("shard", "url", "version"))
    first = pa.array(np.flatnonzero(begins))
    names_of_shards, urls = shard.take(first), url.take(first)
    base = urls[0].as_py().removesuffix(f"/{names_of_shards[0].as_py()}")
    shards = storage.Entries(base, names_of_shards, np.zeros(len(first), np.int64), version.take(first), elsewhere=urls)
    start, stop, size = (own[name].to_numpy() for name in ("start", "stop", "size"))
    return Ranges(shards, np.cumsum(begins) - 1, start, stop, size, source)
