"""Units that are to be made, added up, and some of them drawn: whatever the corpus, a few are looked at."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.engine.records.layout import Output, plan_tables
from pipeline.engine.records.units import Segment, Unit, Units, decode_units
from pipeline.stores.tables.ranges import Range

SEED = 0
"""Seed of all draws, so that the same command says the same."""
MOST_UNITS = 64
"""Units that are drawn, of which rows are then drawn."""


@dataclass(frozen=True, kw_only=True)
class Pile:
    """Units of one part that are to be made."""

    part: str
    units: int
    rows: int
    size: int
    """Encoded bytes of their rows."""
    shards: int
    """Shards whose footers and keys are still to be read for the plan."""
    endings: Mapping[str, tuple[int, int]]
    """Ranges and encoded bytes by the ending of their shard's name, in small letters."""
    drawn: Sequence[Unit]
    """Some of the units."""


_NAMES = 1 << 20
"""Names that are looked at together."""


def pile_of(units: Units, *, endings: bool = True) -> Pile:
    """Return the pile of units that are planned just now; without `endings`, names are not looked at."""
    ranges, found = units.ranges, dict[str, tuple[int, int]]()
    for start in range(0, len(ranges) if endings else 0, _NAMES):
        some = ranges[start : start + _NAMES]
        found = merged([found, _endings(some.shards.names.take(pa.array(some.shard)), some.size)])
    which = random.Random(SEED).sample(range(len(units)), min(MOST_UNITS, len(units)))
    return Pile(
        part=units.part,
        units=len(units),
        rows=units.rows,
        size=int(ranges.size.sum(dtype=np.int64)),
        shards=len(ranges.shards_with_rows),
        endings=found,
        drawn=[units[i] for i in sorted(which)],
    )


def piles_left(output: Output, segments: Sequence[Segment], committed: Collection[str]) -> list[Pile]:
    """Return a pile for each part of the planned units that have no commit yet; the plan is read for it."""
    found = dict[str, Pile]()
    ranks, keys, numbers = random.Random(SEED), dict[str, list[tuple[float, int, Unit]]](), itertools.count()
    done = pa.array(sorted(committed), pa.string())
    for _, whole in plan_tables([output.plan(segment.number) for segment in segments]):
        table = whole.filter(pc.invert(pc.is_in(whole["unit"], done)))
        for part in pc.unique(table["part"]).to_pylist():
            some = table.filter(pc.equal(table["part"], part))
            ranges = pa.concat_arrays([chunk.flatten() for chunk in some["ranges"].chunks])
            sizes = ranges.field("size").to_numpy()
            more = Pile(
                part=part,
                units=len(some),
                rows=pc.sum(some["rows"]).as_py(),
                size=int(sizes.sum()),
                shards=0,
                endings=_endings(ranges.field("shard"), sizes),
                drawn=(),
            )
            found[part] = _joined(found[part], more) if part in found else more
            # The units with the least random numbers are a draw from all, of which few are held at a time.
            held, marks = keys.setdefault(part, []), [ranks.random() for _ in range(len(some))]
            for at in np.argsort(marks)[:MOST_UNITS].tolist():
                if len(held) == MOST_UNITS and marks[at] >= -held[0][0]:
                    break
                (unit,) = decode_units(some.slice(at, 1))
                push = heapq.heappushpop if len(held) == MOST_UNITS else heapq.heappush
                push(held, (-marks[at], next(numbers), unit))
    return [
        Pile(**(vars(pile) | {"drawn": sorted((unit for *_, unit in keys[part]), key=lambda unit: unit.id)}))
        for part, pile in found.items()
    ]


def _joined(one: Pile, two: Pile) -> Pile:
    return Pile(
        part=one.part,
        units=one.units + two.units,
        rows=one.rows + two.rows,
        size=one.size + two.size,
        shards=one.shards + two.shards,
        endings=merged([one.endings, two.endings]),
        drawn=(*one.drawn, *two.drawn),
    )


def merged(endings: Iterable[Mapping[str, tuple[int, int]]]) -> dict[str, tuple[int, int]]:
    """Return the sums of numbers and bytes by ending."""
    found = dict[str, tuple[int, int]]()
    for each in endings:
        for name, (count, size) in each.items():
            before = found.get(name, (0, 0))
            found[name] = (before[0] + count, before[1] + size)
    return found


def _endings(names: pa.Array, sizes: np.ndarray) -> dict[str, tuple[int, int]]:
    """Return how many of these names, and how many bytes, there are by the ending of the name."""
    ending = pc.utf8_lower(pc.extract_regex(names, r"(?P<ending>\.[^./]*)$").field("ending"))
    table = pa.table({"ending": pc.fill_null(ending, ""), "size": pa.array(np.asarray(sizes, np.int64))})
    counted = table.group_by("ending").aggregate([("size", "count"), ("size", "sum")])
    return {row["ending"]: (row["size_count"], row["size_sum"]) for row in counted.to_pylist()}


def draw_rows(units: Sequence[Unit], count: int, *, run: int = 1, most_bytes: int | None = None) -> list[Range]:
    """Return ranges of about `count` rows of these units, drawn by SEED, in order; all where there are no more.

    Up to `run` neighbours are drawn together, since they are read together. Ranges of more than `most_bytes` are
    passed over, as far as that is given.
    """
    ranges = [each for unit in units for each in unit.ranges if most_bytes is None or each.size <= most_bytes]
    return [piece for piece, _ in draw_from(ranges, np.array([each.rows for each in ranges], np.int64), count, run=run)]


def draw_from(ranges: Sequence[Range], rows: np.ndarray, count: int, *, run: int = 1) -> Iterator[tuple[Range, int]]:
    """Yield ranges of about `count` rows of these, drawn by SEED, in order; all where there are no more.

    Each comes with the number that its first row has among all. `rows` has the number of rows of each of `ranges`, and
    up to `run` neighbours are drawn together.
    """
    edges = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
    total = int(edges[-1])
    if total <= count:
        return _numbered(ranges)
    begins = random.Random(SEED).sample(range(total), -(-count // run))
    return _runs(ranges, edges, sorted(begins), run)


def _numbered(ranges: Iterable[Range]) -> Iterator[tuple[Range, int]]:
    first = 0
    for each in ranges:
        yield each, first
        first += each.rows


def _runs(ranges: Sequence[Range], edges: np.ndarray, begins: Sequence[int], run: int) -> Iterator[tuple[Range, int]]:
    """Yield a range of up to `run` rows for each beginning, and the number of its first row; none has a row twice."""
    until = 0
    for begin in begins:
        at = int(np.searchsorted(edges, begin, "right")) - 1
        whole, first = ranges[at], int(edges[at])
        begin = max(until, min(begin, max(first, int(edges[at + 1]) - run)))
        until = min(begin + run, int(edges[at + 1]))
        if until > begin:
            start, stop = whole.start + begin - first, whole.start + until - first
            yield whole._replace(start=start, stop=stop, size=whole.size * (stop - start) // whole.rows), begin
