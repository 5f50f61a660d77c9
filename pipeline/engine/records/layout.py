"""Names of the objects of an output, and the two objects that are written before any work: job record and plan."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.engine.records.units import (
    PLAN_SCHEMA,
    Segment,
    Unit,
    decode_segment,
    decode_units,
    segment_of,
    unit_id,
    with_head,
)
from pipeline.errors import DamagedError, UserError, one_line
from pipeline.storage.retry import retrying
from pipeline.stores.forms.form import File, WritableForm
from pipeline.stores.forms.registry import form_of, writable_forms
from pipeline.stores.mark import FORMAT_VERSION

T = TypeVar("T")

CARD = "README.md"
"""File name of the dataset card, whose head tells `datasets` what is data."""

VERDICTS = "_transdomain/verdicts/"
"""Folder of the objects that stand for units whose rows are files."""

_THREADS = 16
_BYTES_A_READ = 2_000_000


@dataclass(frozen=True)
class Output:
    """Names of the objects below one output prefix."""

    url: str

    def at(self, name: str) -> str:
        return storage.join(self.url, name)

    @property
    def job(self) -> str:
        return self.at("_transdomain/job.json")

    @property
    def success(self) -> str:
        return self.at("_SUCCESS")

    @property
    def manifest(self) -> str:
        return self.at("_transdomain/manifest.parquet")

    def plan(self, segment: int) -> str:
        return self.at(f"_transdomain/plan/{segment:06d}.parquet")

    def data(self, unit: Unit, form: WritableForm) -> str:
        """Return the object that stands for a unit: below data/ where it holds the unit's rows."""
        if form.names_are_keys:
            return self.at(f"{VERDICTS}{unit.id}{form.ending}")
        return self.at("/".join(filter(None, ("data", unit.part, f"{unit.id}{form.ending}"))))

    def file(self, name: str) -> str:
        return self.at(f"data/{name}")

    def quarantine(self, unit: str) -> str:
        return self.at(f"_quarantine/{unit}.parquet")

    def commit(self, unit: str) -> str:
        return self.at(f"_transdomain/commits/{unit}.json")

    def retired(self, segment: int) -> str:
        return self.at(f"_transdomain/retired/{segment:06d}.json")

    def files_size(self) -> int:
        """Return the bytes of all files below data/, from one listing."""
        return int(storage.list_files(self.at("data")).sizes.sum())

    def retired_segments(self) -> set[int]:
        """Return the numbers of the segments whose data was deleted, from one listing."""
        entries = storage.list_files(self.at("_transdomain/retired"), ".json")
        numbers = (re.fullmatch(r"(\d{6})\.json", entry.name) for entry in entries)
        return {int(number[1]) for number in numbers if number}

    def committed(self) -> set[str]:
        """Return the units with a commit record, from one listing."""
        entries = storage.list_files(self.at("_transdomain/commits"), ".json")
        return {e.name.removesuffix(".json") for e in entries if not storage.is_hidden(e.name)}


def form_of_data(name: str) -> WritableForm:
    """Return the form of the object of this name that stands for a unit; the usual one where the name is of none."""
    forms = writable_forms()
    if name.startswith(VERDICTS):
        return next(form for form in forms if form.names_are_keys)
    return next((form for form in forms if form is form_of(name)), forms[0])


def listed_files(output: Output, name: str) -> Sequence[File]:
    """Return the files that the data object of this name lists.

    Raises FileNotFoundError where it is missing, DamagedError, naming it, where it is damaged.
    """
    data = storage.read(output.at(name))
    try:
        return form_of_data(name).files(data)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise DamagedError(f"{output.at(name)} is damaged ({one_line(error)})") from error


def ensure_job(output: Output, kind: str) -> None:
    """Claim `output` for jobs of one kind. Raises UserError where it belongs to another kind, or another format."""
    storage.create(output.job, encode_job(kind))
    check_job(output, kind)


def check_job(output: Output, kind: str) -> None:
    """Raise UserError where `output` belongs to something else: unknown files, another kind of job, or another format.

    Writes nothing.
    """
    data = storage.read_if_there(output.job)
    if data == encode_job(kind):
        return
    if data is None:
        # Our files without a record belong to a run that began just now, or that has lost its record.
        storage.require_empty(output.url, unless=("_transdomain/",))
        return
    try:
        found = json.loads(data)
        what = f"jobs.{found['job']} (format {found['format']})"
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{output.job} is damaged; `jobs.verify --input {output.url} --repair` removes it, and this command then "
            "writes it anew"
        ) from None
    raise UserError(
        f"{output.url} is the output of {what}, not of jobs.{kind} (format {FORMAT_VERSION}); give another output"
    )


def encode_job(kind: str) -> bytes:
    """Encode the record that claims an output for one kind of job."""
    return json.dumps({"format": FORMAT_VERSION, "job": kind}, sort_keys=True, indent=1).encode()


def load_segments(output: Output) -> list[Segment]:
    """Read every plan segment, in order: one listing, and each footer that this process has not read yet.

    Raises ValueError where a segment is missing.
    """
    segments = list(storage.ahead(lambda e: _segment(e.url, e.version), plan_files(output), _THREADS))
    if [s.number for s in segments] != list(range(len(segments))):
        raise ValueError(f"{output.url}: plan segments {[s.number for s in segments]} are not 0 to {len(segments) - 1}")
    return segments


def count_segments(output: Output) -> int:
    """Return the number of plan segments, from one listing."""
    return len(plan_files(output))


def plan_tables(urls: Iterable[str], columns: Sequence[str] | None = None) -> Iterator[tuple[str, pa.Table]]:
    """Yield the rows of plan files, in order, some row groups at a time, each time with the URL of the file.

    A row is a unit. Raises ValueError, naming the file, where one is not whole.
    """

    def read(task: tuple[str, pq.FileMetaData, list[int]]) -> tuple[str, pa.Table]:
        url, footer, groups = task
        return url, _read_groups(url, footer, groups, columns)

    footers = storage.ahead(lambda url: (url, read_plan(url, pq.read_metadata)), urls, _THREADS)
    tasks = ((url, footer, groups) for url, footer in footers for groups in _batches(footer))
    yield from storage.ahead(read, tasks, _THREADS)


def _batches(footer: pq.FileMetaData) -> Iterator[list[int]]:
    """Yield the numbers of the row groups, as many at a time as are worth a request."""
    groups, size = list[int](), 0
    for group in range(footer.num_row_groups):
        groups.append(group)
        size += footer.row_group(group).total_byte_size
        if size >= _BYTES_A_READ:
            yield groups
            groups, size = [], 0
    if groups:
        yield groups


def _read_groups(
    url: str, footer: pq.FileMetaData, groups: Sequence[int], columns: Sequence[str] | None = None
) -> pa.Table:
    def decode(file: Any) -> pa.Table:
        plan = pq.ParquetFile(file, metadata=footer, page_checksum_verification=True)
        return with_head(plan.read_row_groups(groups, columns), footer)

    return read_plan(url, decode)


def load_units(output: Output, segment: int) -> Iterator[Unit]:
    """Yield all units of a segment, in order; a few are held at a time."""
    for _, table in plan_tables([output.plan(segment)]):
        yield from decode_units(table)


def unit_heads(output: Output, segment: int) -> pa.Table:
    """Return unit, part and rows of all units of a segment, without their ranges."""
    columns = ["unit", "part", "rows"]
    tables = [table for _, table in plan_tables([output.plan(segment)], columns)]
    return (
        pa.concat_tables(tables) if tables else pa.schema([PLAN_SCHEMA.field(name) for name in columns]).empty_table()
    )


def unit_ids(segment: Segment) -> list[str]:
    """Return the names of a segment's units; they follow from their number."""
    return [unit_id(segment.number, i) for i in range(segment.units)]


def is_finished(segment: Segment, committed: Collection[str]) -> bool:
    """Return True where each of a segment's units is among those with a commit."""
    return all(unit in committed for unit in unit_ids(segment))


def load_unit(output: Output, unit: str) -> Unit:
    """Read one unit, by reading the row group of its plan that holds it. Raises ValueError where it is in no plan."""
    url, number = output.plan(segment_of(unit)), int(unit.split("-")[1])
    footer, ends = _footer(url)
    group = int(np.searchsorted(ends, number, "right"))
    row = number - int(ends[group - 1] if group else 0)
    table = _unit_group(url, group).slice(row, 1) if group < footer.num_row_groups else pa.table({"unit": []})
    if table["unit"].to_pylist() != [unit]:
        raise ValueError(f"{url} has no unit {unit}; put it back from a copy, or give another output")
    return decode_units(table)[0]


def siblings(output: Output, unit: str, parts: int) -> list[str]:
    """Return the units of all `parts` that are made of the rows of `unit`, which is one of the first part.

    The parts of a segment follow each other, and all are cut alike.
    """
    segment, number = segment_of(unit), int(unit.split("-")[1])
    if parts == 1:
        return [unit]
    each = int(_footer(output.plan(segment))[1][-1]) // parts
    return [unit_id(segment, number + part * each) for part in range(parts)]


def read_plan(url: str, decode: Callable[[Any], T]) -> T:
    """Return what `decode` makes of a plan file. Raises ValueError, naming the file, where it is not whole."""

    def fetch() -> T:
        with storage.open_read(url) as file:
            return decode(file)

    try:
        return retrying(fetch, url)
    except (DamagedError, pa.ArrowException, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{url} is not a whole plan ({one_line(error)}); put it back from a copy, or give another output"
        ) from error


def plan_files(output: Output) -> list[storage.Entry]:
    """Return the files of the plan, from one listing."""
    entries = storage.list_files(output.at("_transdomain/plan"), ".parquet")
    return [entry for entry in entries if not storage.is_hidden(entry.name)]


@functools.lru_cache(maxsize=100_000)
def _segment(url: str, version: str) -> Segment:
    """Read a plan file, once per process. `version` would change with the file, which nothing changes."""
    return read_plan(url, lambda file: decode_segment(file, url))


@functools.lru_cache(maxsize=2)
def _footer(url: str) -> tuple[pq.FileMetaData, np.ndarray]:
    """Return the footer of a plan file, and how many units there are up to the end of each row group."""
    footer: pq.FileMetaData = read_plan(url, pq.read_metadata)
    return footer, np.cumsum([footer.row_group(i).num_rows for i in range(footer.num_row_groups)], dtype=np.int64)


@functools.lru_cache(maxsize=4)
def _unit_group(url: str, group: int) -> pa.Table:
    return _read_groups(url, _footer(url)[0], [group])
