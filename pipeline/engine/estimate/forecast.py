"""Forecast of a run: what its units will take, by what is known, looked at and tried out before."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline import storage
from pipeline.engine.estimate.amounts import Expected, Share, expected
from pipeline.engine.estimate.drawing import Pile, draw_rows, merged
from pipeline.engine.estimate.looking import Inputs, Looked, inputs_by_format, look
from pipeline.engine.estimate.prices import Prices
from pipeline.engine.estimate.requests import Requests, expected_requests
from pipeline.engine.estimate.sampling import Sampled, try_out
from pipeline.engine.publishing.steps import Workload
from pipeline.stores import Store
from pipeline.stores.forms.registry import form_named

_RUN = 4
"""Neighbours in a Parquet shard that are tried out together."""


def _here(function: Callable[[int], Any], **_: Any) -> Any:
    return function(1)


@dataclass(frozen=True, kw_only=True)
class Costing:
    """What a job knows of the cost of its units."""

    column: str
    """Image column that is read."""
    image_s: Sequence[Callable[[float], float | None]]
    """For each work, a function from an image's pixels to the seconds that a device takes for a row; None where nobody
    has measured it."""
    basis: str
    """Where these seconds come from, in words."""
    pixels: Callable[[], float | None]
    """Function that returns the pixels of an ordinary image, as far as they are known without a look at the images."""
    devices: int | None
    """Devices that compute at once; None where it is for `compute` to say."""
    cores: int | None
    """Cores of each device that decode and encode while it waits; None where others do that beside it."""
    prices: Prices = field(default_factory=Prices)
    sample: int | None = None
    """Images that are tried out; None for none."""
    compute: Callable[..., Any] = _here
    """Function that calls another one where the devices are, with the number of devices; it is given `where`."""
    where: Mapping[str, Any] = field(default_factory=dict)


class Forecast(NamedTuple):
    """What a run is expected to take, and what says so."""

    expected: Expected
    inputs: Sequence[Inputs]
    """Inputs by format; empty where nobody looked."""
    looked: Looked | None
    sampled: Sequence[Sampled]
    """What was tried out, of each work; empty where nothing was."""
    basis: str
    """Where the seconds of devices come from, in words."""
    reads_s3: bool
    writes_s3: bool


class Stores(NamedTuple):
    """Inputs and outputs of a job, as far as requests depend on them."""

    sources: Sequence[Store]
    output: str
    """URL of the output."""
    keys: bool
    """True where keys are compared."""


def forecast(
    costing: Costing, workloads: Sequence[Workload], piles: Sequence[Pile], stores: Stores, *, looks: bool
) -> Forecast:
    """Return what the units of these piles will take.

    With `looks`, the headers of some images are read for their formats and sizes. Images are tried out where
    `costing.sample` says so, which takes as long as they take. Raises what a stage raises for them.
    """
    of_work = [[pile for pile in piles if pile.part.rpartition("/")[2] in work.parts] for work in workloads]
    first = [[pile for pile in each if pile.part == each[0].part] for each in of_work]  # each part has all inputs
    inputs = max(first, key=lambda each: sum(pile.rows for pile in each))
    images, files = sum(pile.rows for pile in inputs), form_named(stores.sources[0].form).names_are_keys
    looked = look([unit for pile in inputs for unit in pile.drawn], costing.column, images) if looks else None
    devices, sampled = costing.devices or 1, list[Sampled]()
    if costing.sample and images:
        run = 1 if files else _RUN
        drawn = [draw_rows([u for pile in each for u in pile.drawn], costing.sample, run=run) for each in first]
        function = functools.partial(try_out, workloads, drawn)
        there, sampled = costing.compute(function, **costing.where)
        devices = costing.devices or there
    pixels = (looked.pixels if looked else None) or costing.pixels()
    shares = list[Share]()
    for number, each in enumerate(of_work):
        device_s = costing.image_s[number](pixels) if pixels else None
        taken: dict[str, Any] = {"device_s": device_s}
        if sampled:
            names = ("device_s", "beside_s", "row_bytes", "unit_bytes", "error")
            taken = {name: getattr(sampled[number], name) for name in names}
        shares += [Share(rows=pile.rows, units=pile.units, bytes_in=pile.size, **taken) for pile in each]
    reads_s3, writes_s3 = _is_on_s3(stores.sources[0].url), _is_on_s3(stores.output)
    requests = Requests(0, 0)
    if reads_s3 or writes_s3:
        requests = expected_requests(
            units=sum(share.units for share in shares),
            images=sum(pile.rows for pile in piles),
            shards=sum(pile.shards for pile in inputs),
            files=files,
            files_written=workloads[0].sink.form.names_are_keys,
            keys=stores.keys,
            reads_s3=reads_s3,
            writes_s3=writes_s3,
            first_bytes=sum(store.first_bytes for store in stores.sources),
        )
    found = expected(shares, images=images, devices=devices, cores=costing.cores, requests=requests)
    by_format = list[Inputs]()
    if looked:
        endings = merged(pile.endings for pile in inputs) if files else {}
        by_format = inputs_by_format(endings, images, sum(pile.size for pile in inputs), looked)
    basis = f"{sampled[0].rows} images translated" if sampled else costing.basis
    return Forecast(found, by_format, looked, sampled, basis, reads_s3, writes_s3)


def _is_on_s3(url: str) -> bool:
    return storage.absolute(url).split("://")[0] in ("s3", "s3a")
