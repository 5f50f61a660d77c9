"""What is derived from the commits once all units have one: totals, the manifest, and the mark that says complete."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.engine import crash
from pipeline.engine.plan import FORMAT_VERSION, Segment, segment_of
from pipeline.engine.record import Output, count_segments, unit_ids
from pipeline.stores import parquet

_THREADS = 16
_PARTITIONS = 64

DETERMINISTIC_COLUMNS = (
    "unit", "inputs", "ok", "quarantined", "skipped",
    "data", "data_size", "data_sha256", "quarantine", "quarantine_size", "quarantine_sha256",
)  # fmt: skip
"""Columns of the manifest that are the same however often the job was killed."""

_TEXT_COLUMNS = {"unit", "data", "data_sha256", "quarantine", "quarantine_sha256"}
_MANIFEST = pa.schema(
    [(name, pa.string() if name in _TEXT_COLUMNS else pa.int64()) for name in DETERMINISTIC_COLUMNS]
    + [("host", pa.string()), ("started", pa.float64()), ("ended", pa.float64())]
)


class Totals(NamedTuple):
    """Counts over all units; inputs = ok + quarantined + skipped."""

    units: int
    inputs: int
    ok: int
    quarantined: int
    skipped: int


def read_commits(output: Output, units: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The commit records of `units`, in order. Raises ValueError for a format that this version does not know."""

    def read(unit: str) -> dict[str, Any]:
        record = json.loads(storage.read(output.commit(unit)))
        if record["format"] != FORMAT_VERSION:
            raise ValueError(
                f"{output.commit(unit)} has format {record['format']}; this version reads {FORMAT_VERSION}"
            )
        return record

    with ThreadPoolExecutor(_THREADS) as threads:
        yield from threads.map(read, units)


def manifest_of(output: Output, segments: Sequence[Segment], known: pa.Table | None = None) -> pa.Table:
    """The manifest of these segments; rows that the last one, or `known`, has are not read again: no commit changes.

    Raises FileNotFoundError where a unit has no commit.
    """
    units = [unit for segment in segments for unit in unit_ids(segment)]
    rows = _last_manifest(output) | {row["unit"]: row for row in (known.to_pylist() if known is not None else [])}
    fresh = manifest_table(read_commits(output, [unit for unit in units if unit not in rows]))
    rows |= {row["unit"]: row for row in fresh.to_pylist()}
    return pa.Table.from_pylist([rows[unit] for unit in units], schema=_MANIFEST)


def with_data(output: Output, manifest: pa.Table) -> pa.Table:
    """The units of a manifest whose data was not given up."""
    retired = output.retired_segments()
    kept = [segment_of(unit) not in retired for unit in manifest["unit"].to_pylist()]
    return manifest.filter(pa.array(kept, pa.bool_()))


def _last_manifest(output: Output) -> dict[str, dict[str, Any]]:
    data = storage.read_if_there(output.manifest)
    if data is None:
        return {}
    table = pq.read_table(io.BytesIO(data), page_checksum_verification=True)
    return {row["unit"]: row for row in table.to_pylist()} if table.schema.equals(_MANIFEST) else {}


def manifest_table(commits: Iterable[Mapping[str, Any]]) -> pa.Table:
    """A row a unit: what became of its rows, where they are, and how to tell that they are unharmed."""
    rows = []
    for record in commits:
        row = {"unit": record["unit"], **record["counts"]}
        for name in ("data", "quarantine"):
            published = record[name] or {}
            row |= {name: published.get("name"), f"{name}_size": published.get("size")}
            row[f"{name}_sha256"] = published.get("sha256")
        rows.append(row | {k: record["attempt"][k] for k in ("host", "started", "ended")})
    return pa.Table.from_pylist(rows, schema=_MANIFEST)


def totals(manifest: pa.Table) -> Totals:
    """Sums over a manifest."""
    return Totals(len(manifest), *(sum(manifest[c].to_pylist()) for c in Totals._fields[1:]))


def complete(
    output: Output,
    segments: Sequence[Segment],
    known: pa.Table,
    derived: Callable[[pa.Table], Mapping[str, bytes]],
) -> bool:
    """Write what is derived from the commits of all segments, and `_SUCCESS` last.

    `known` is the manifest of some of them, whose commits are not read again; `derived` gives report and cards by
    name, from the whole one. False where a segment was added since `segments` were read: the output is then not
    complete, and what was written is to be written again. Raises ValueError where counts do not add up to the plan,
    or a key occurs twice; the output is then not called complete.
    """
    manifest = manifest_of(output, segments, known)
    total = totals(manifest)
    planned = sum(segment.rows for segment in segments)
    if total.inputs != planned or total.ok + total.quarantined + total.skipped != planned:
        raise ValueError(f"{output.url} does not add up: {planned} rows were planned, the units account for {total}")
    kept = with_data(output, manifest)
    doubled = duplicate_keys(lambda: keys_of(output, kept))
    if doubled:
        raise ValueError(f"{output.url} is not complete: keys that occur more than once: {', '.join(doubled)}")
    buffer = io.BytesIO()
    pq.write_table(manifest, buffer, compression="zstd", write_page_checksum=True)
    crash.point("before manifest")
    storage.replace(output.manifest, buffer.getvalue())
    crash.point("after manifest")
    for name, data in derived(manifest).items():
        storage.replace(output.at(name), data)
    if count_segments(output) != len(segments):
        return False
    mark = {"format": FORMAT_VERSION, "segments": len(segments), **total._asdict()}
    crash.point("before success")
    storage.replace(output.success, json.dumps(mark, indent=1, sort_keys=True).encode())
    crash.point("after success")
    if count_segments(output) != len(segments):
        storage.delete(output.success)
        return False
    return True


def marked_totals(output: Output, segments: Sequence[Segment]) -> Totals | None:
    """The counts in the output's mark, or None where it carries none that covers all of these segments."""
    mark = storage.read_if_there(output.success)
    if mark is None:
        return None
    said = json.loads(mark)
    return Totals(*(said[name] for name in Totals._fields)) if said["segments"] == len(segments) else None


def duplicate_keys(batches: Callable[[], Iterable[Sequence[str]]], most: int = 10) -> list[str]:
    """Some keys that occur more than once in all batches together; at most `most`, sorted.

    Memory is bounded however many keys there are: 64-bit hashes are spread over files and compared file by file; only
    keys whose hashes meet are looked at again, in a second pass (so `batches` is called again).
    """
    suspects: set[int] = set()
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(_PARTITIONS)]
        for keys in batches():
            hashes = np.fromiter(map(hash, keys), np.int64, len(keys))
            for i in np.unique(hashes % _PARTITIONS):
                files[i].write(hashes[hashes % _PARTITIONS == i].tobytes())
        for file in files:
            file.seek(0)
            ordered = np.sort(np.frombuffer(file.read(), np.int64))
            suspects.update(ordered[1:][ordered[1:] == ordered[:-1]][:1000].tolist())
    if not suspects:
        return []
    seen = Counter(key for keys in batches() for key in keys if hash(key) in suspects)
    return sorted(key for key, times in seen.items() if times > 1)[:most]


def keys_of(output: Output, manifest: pa.Table) -> Iterator[list[str]]:
    """The keys of every unit, unit by unit; no other column is fetched."""
    with ThreadPoolExecutor(_THREADS) as threads:
        for table in threads.map(lambda row: read_made(output, row, ["key"]), manifest.to_pylist()):
            yield table["key"].to_pylist() if table is not None else []


def read_made(
    output: Output, row: Mapping[str, Any], columns: Sequence[str], *, first: int | None = None
) -> pa.Table | None:
    """Columns of the data of a unit, by its row of the manifest; None where it was given up in the meantime.

    Raises FileNotFoundError where it is missing for no such reason.
    """
    try:
        return parquet.read_columns(output.at(row["data"]), columns, first=first)
    except FileNotFoundError:
        if segment_of(row["unit"]) in output.retired_segments():
            return None
        raise
