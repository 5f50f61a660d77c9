"""Completion of an output once all units have a commit: totals, the manifest, and the mark that says complete."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import failpoints, storage
from pipeline.engine.completion.metadata import METADATA, encode_metadata, folders_of
from pipeline.engine.publishing.commit import REMEDY, ConflictError, decode_commit
from pipeline.engine.records.account import FURTHER, Notes, noted, notes_together
from pipeline.engine.records.card import is_current, plain
from pipeline.engine.records.layout import CARD, VERDICTS, Output, count_segments, form_of_data, listed_files, unit_ids
from pipeline.engine.records.units import Segment, segment_of
from pipeline.errors import one_line
from pipeline.recipe import fingerprint
from pipeline.stores.keys import duplicate_keys
from pipeline.stores.mark import Totals, decode_mark, encode_mark

log = logging.getLogger("transdomain")

_THREADS = 16
_ROWS = 4096
"""Units whose records are Python objects at a time."""
_HIDDEN = r"(^|/)\."
"""Expression for names that readers ignore, as `storage.is_hidden` says."""

DETERMINISTIC_COLUMNS = (
    "unit", "inputs", "ok", "quarantined", "skipped",
    "data", "data_size", "data_sha256", "quarantine", "quarantine_size", "quarantine_sha256",
)  # fmt: skip
"""Columns of the manifest that are the same however often the job was killed."""

_USED = ("device_s", "flop")
"""Columns with what a unit took of a device; null where none computed, and for units of earlier versions."""
_TEXT_COLUMNS = {"unit", "data", "data_sha256", "quarantine", "quarantine_sha256"}
_STAGES = "stages"
_TIMES = pa.list_(pa.struct([("name", pa.string()), ("started", pa.float64()), ("ended", pa.float64())]))
_LATER = [
    *((name, pa.float64()) for name in _USED), (FURTHER, pa.int64()), ("notes", pa.string()), (_STAGES, _TIMES),
]  # fmt: skip
"""Columns that manifests of earlier versions lack, some or all; `notes` is JSON. Null where there is nothing to say."""
_MANIFEST = pa.schema(
    [(name, pa.string() if name in _TEXT_COLUMNS else pa.int64()) for name in DETERMINISTIC_COLUMNS]
    + [("host", pa.string()), ("started", pa.float64()), ("ended", pa.float64())]
    + _LATER
)


def read_commits(output: Output, segments: Sequence[Segment], units: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the commit records of `units`, in order; a few are held at a time.

    Raises ConflictError where one is not that of its unit.
    """
    made_by = {segment.number: fingerprint(segment.recipe) for segment in segments}

    def read(unit: str) -> dict[str, Any]:
        record = decode_commit(output.commit(unit), storage.read(output.commit(unit)))
        require_commit_of(output, unit, made_by[segment_of(unit)], record)
        return record

    return storage.ahead(read, units, _THREADS)


def require_commit_of(output: Output, unit: str, made_by: str, record: Mapping[str, Any]) -> None:
    """Raise ConflictError where a commit belongs to another unit or recipe than its name and its plan say."""
    why = [f"it is of unit {record['unit']}"] if record["unit"] != unit else []
    why += ["it was made by another recipe than its plan's"] if record["fingerprint"] != made_by else []
    data, quarantine = str(record["data"]["name"]), record["quarantine"]
    file = f"{unit}{form_of_data(data).ending}"
    if data != f"{VERDICTS}{file}" and not (data.startswith("data/") and data.endswith(f"/{file}")):
        why.append(f"its data is {data}")
    if quarantine is not None and f"{output.url}/{quarantine['name']}" != output.quarantine(unit):
        why.append(f"its quarantine is {quarantine['name']}")
    if why:
        raise ConflictError(f"{output.commit(unit)} is not the commit of unit {unit}: {', '.join(why)}; {REMEDY}")


def manifest_of(output: Output, segments: Sequence[Segment], known: pa.Table) -> pa.Table:
    """Return the manifest of these segments; commits of units with a row in `known` are not read.

    Raises FileNotFoundError where a unit has no commit.
    """
    units = pa.array([unit for segment in segments for unit in unit_ids(segment)], pa.string())
    fresh = units.filter(pc.invert(pc.is_in(units, known["unit"].combine_chunks())))
    rows = pa.concat_tables([known, manifest_table(read_commits(output, segments, fresh.to_pylist()))])
    return rows.take(pc.index_in(units, rows["unit"].combine_chunks()))


def with_data(output: Output, manifest: pa.Table) -> pa.Table:
    """Return the rows of a manifest whose units' data was not deleted."""
    return manifest.filter(pc.invert(_is_given_up(output, manifest)))


def given_up(output: Output, manifest: pa.Table) -> pa.Table:
    """Return the rows of a manifest whose units' data was deleted, or is to be."""
    return manifest.filter(_is_given_up(output, manifest))


def _is_given_up(output: Output, manifest: pa.Table) -> pa.ChunkedArray:
    retired = pa.array([f"{segment:06d}" for segment in output.retired_segments()], pa.string())
    return pc.is_in(pc.list_element(pc.split_pattern(manifest["unit"], "-"), 0), retired)


def _with_last_manifest(output: Output, known: pa.Table) -> pa.Table:
    """Return `known`, and the last manifest's rows for all other units: commits never change."""
    data = storage.read_if_there(output.manifest)
    last = read_manifest(data) if data is not None else None
    if last is None:
        return known
    others = pc.invert(pc.is_in(last["unit"], known["unit"].combine_chunks()))
    return pa.concat_tables([known, last.filter(others)])


def read_manifest(data: bytes) -> pa.Table | None:
    """Read a manifest from its file; None where it is damaged, or not of this version."""
    try:
        table = pq.read_table(io.BytesIO(data), page_checksum_verification=True)
    except (pa.ArrowException, OSError):
        return None
    for name, kind in _LATER:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), kind))
    table = table.select(_MANIFEST.names) if set(_MANIFEST.names) == set(table.column_names) else table
    return table if table.schema.equals(_MANIFEST) else None


def manifest_table(commits: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return one row per unit: counts of its rows, names of its objects, and their sizes and hashes."""
    rows, batches = map(_manifest_row, commits), list[pa.RecordBatch]()
    while some := list(itertools.islice(rows, _ROWS)):
        batches.append(pa.RecordBatch.from_pylist(some, schema=_MANIFEST))
    return pa.Table.from_batches(batches, _MANIFEST)


def _manifest_row(record: Mapping[str, Any]) -> dict[str, Any]:
    row = {"unit": record["unit"], **record["counts"]}
    for name in ("data", "quarantine"):
        published = record[name] or {}
        row |= {name: published.get("name"), f"{name}_size": published.get("size")}
        row[f"{name}_sha256"] = published.get("sha256")
    attempt, notes = record["attempt"], record.get("notes")
    row["notes"] = json.dumps(notes, sort_keys=True) if notes else None
    return row | {k: attempt[k] for k in ("host", "started", "ended")} | {k: attempt.get(k) for k in (*_USED, _STAGES)}


def totals(manifest: pa.Table, segments: Sequence[Segment]) -> Totals:
    """Return the sums over a manifest, of which each input counts once.

    An input that was run again has a row in two units: quarantined in the first, and what it is now in the other.
    """
    total = Totals(len(manifest), *(pc.sum(manifest[c], min_count=0).as_py() for c in Totals._fields[1:]))
    numbers = pa.array([f"{segment.number:06d}" for segment in segments if segment.again], pa.string())
    if not len(numbers):
        return total
    of_again = pc.is_in(pc.list_element(pc.split_pattern(manifest["unit"], "-"), 0), numbers)
    twice = pc.sum(manifest.filter(of_again)["inputs"], min_count=0).as_py()
    return total._replace(inputs=total.inputs - twice, quarantined=total.quarantined - twice)


def notes_of(manifest: pa.Table) -> Notes:
    """Return what was noted of images while they were decoded, with the number of images, over a manifest."""
    return notes_together(noted(json.loads(each)) for each in pc.drop_null(manifest["notes"]).to_pylist())


Derived = Mapping[str, Callable[[], bytes]]
"""Names below an output, each with a function that makes that file from what is there."""


def complete(
    output: Output,
    segments: Sequence[Segment],
    known: pa.Table,
    derived: Callable[[pa.Table], Derived],
    *,
    unique: bool = False,
) -> bool:
    """Write the files that are derived from the commits of all segments, and `_SUCCESS` last.

    `known` is the manifest of some of the segments, whose commits are not read again. `derived` returns report and
    cards by name, from the whole manifest. `unique` says that the keys of a segment cannot be equal, so that they are
    compared only where there are several segments.

    Returns False where a segment was added since `segments` were read: the output is then not complete, and the files
    must be written again. So must they where a version was marked, or the card written, at the same time.

    Raises ValueError where counts do not add up to the plan, where a key occurs twice, or where data/ holds files of no
    unit; the output is then not marked complete.
    """
    manifest = manifest_of(output, segments, _with_last_manifest(output, known))
    total = totals(manifest, segments)
    planned = sum(segment.rows for segment in segments if not segment.again)
    if total.inputs != planned or total.ok + total.quarantined + total.skipped != planned + total.further:
        raise ValueError(f"{output.url} does not add up: {planned} rows were planned, the units account for {total}")
    kept = with_data(output, manifest)
    if (not unique or len(segments) > 1) and (doubled := duplicate_keys(lambda: keys_of(output, kept))):
        raise ValueError(f"{output.url} is not complete: keys that occur more than once: {', '.join(doubled)}")
    if strange := strangers(output, manifest):
        raise ValueError(
            f"{output.url} is not called complete: {len(strange)} files in data/ are of no unit, such as {strange[0]}, "
            "and readers would take them for data; move them away and run the same command again"
        )
    buffer = io.BytesIO()
    pq.write_table(manifest, buffer, compression="zstd", write_page_checksum=True)
    failpoints.point("before manifest")
    storage.replace(output.manifest, buffer.getvalue())
    failpoints.point("after manifest")
    made = derived(manifest)
    if len(folders_of(kept)):
        made = {METADATA: lambda: encode_metadata(output, kept), **made}
    card = _write_derived(output, made).get(CARD)
    sha256 = hashlib.sha256(plain(card)).hexdigest() if card is not None else None
    if count_segments(output) != len(segments):
        return False
    failpoints.point("before success")
    storage.replace(output.success, encode_mark(len(segments), total, sha256))
    failpoints.point("after success")
    # A kill at this point, or a plan that is added just now, leaves a mark that names fewer segments than there are.
    # Readers of the output compare the two numbers, and the next run removes the mark.
    if count_segments(output) != len(segments):
        storage.delete(output.success)
        return False
    # Whoever makes a version of the output, or of its slots, writes the card, too.
    return card is None or is_current(output, card)


def _write_derived(output: Output, derived: Derived) -> dict[str, bytes]:
    """Write each file that can be made; return the contents of each. None of them may prevent completion."""
    written = {}
    for name, make in derived.items():
        try:
            data = make()
        except Exception as error:  # logged; the output is complete without it
            log.warning("%s was not written: %s", output.at(name), one_line(error))
            log.debug("", exc_info=error)
            continue
        storage.replace(output.at(name), data)
        written[name] = data
    return written


def strangers(output: Output, manifest: pa.Table) -> list[str]:
    """Return the names below data/ that readers would take for data and that no unit has made, sorted.

    Where units are shards, a listing is enough. Files of a folder are counted, and compared by name only where the
    count differs from that of the rows.
    """
    listed = storage.list_files(output.at("data")).names.cast(pa.string())
    listed = listed.filter(pc.invert(pc.match_substring_regex(listed, _HIDDEN)))
    shown = pc.binary_join_element_wise("data", listed, "/")
    if len(folders_of(manifest)):
        shown = shown.filter(pc.not_equal(shown, METADATA))
    shards = manifest["data"].filter(pc.starts_with(manifest["data"], "data/"))
    folders = manifest.filter(pc.starts_with(manifest["data"], VERDICTS))
    if len(folders) and len(shown) == len(shards) + pc.sum(folders["ok"]).as_py():
        return []
    strange = shown.filter(pc.invert(pc.is_in(shown, shards.combine_chunks()))).to_pylist()
    left = dict.fromkeys(strange)
    for data in folders["data"].to_pylist() if left else ():
        for file in listed_files(output, data):
            left.pop(f"data/{file.name}", None)
    return list(left)


def marked_totals(output: Output, segments: Sequence[Segment]) -> Totals | None:
    """Return the counts in the output's mark; None where no mark covers all of these segments.

    A mark that covers fewer segments, left by a run that was killed, is removed, and so is a damaged one. Raises
    ValueError where the mark covers more segments than there are.
    """
    mark = storage.read_if_there(output.success)
    if mark is None:
        return None
    said = decode_mark(mark)
    if said is not None and said["segments"] > len(segments) and said["segments"] > count_segments(output):
        raise ValueError(
            f"{output.plan(said['segments'] - 1)} is missing, and {output.success} speaks of it; put it back from a "
            "copy, or give another output"
        )
    if said is None or said["segments"] < len(segments):
        storage.delete(output.success)
        return None
    return Totals(*(said[name] for name in Totals._fields)) if said["segments"] == len(segments) else None


def keys_of(output: Output, manifest: pa.Table, column: str = "key") -> Iterator[list[str]]:
    """Yield the keys of every unit, unit by unit, or another `column` of text; no other one is fetched."""
    rows = (row for batch in manifest.select(["unit", "data"]).to_batches(_ROWS) for row in batch.to_pylist())
    for table in storage.ahead(lambda row: read_made(output, row, [column]), rows, _THREADS):
        yield table[column].to_pylist() if table is not None else []


def read_made(
    output: Output, row: Mapping[str, Any], columns: Sequence[str], *, first: int | None = None
) -> pa.Table | None:
    """Read columns of a unit's data, by its row of the manifest; None where the data was deleted in the meantime.

    Raises FileNotFoundError where it is missing for another reason.
    """
    try:
        return form_of_data(row["data"]).read_columns(output.at(row["data"]), columns, first=first)
    except FileNotFoundError:
        if segment_of(row["unit"]) in output.retired_segments():
            return None
        raise
