"""Read an output again and prove it whole: every input accounted for, every checksum right, every key once.

What is compared comes from independent places: the plan says what should be there, the listing what is, the commits
what was written, the objects what they hold now, and the source which keys there were.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.engine import finish
from pipeline.engine.account import CHANGED, FOOTER_KEY, counts, decode_account
from pipeline.engine.plan import Unit, segment_of
from pipeline.engine.record import Output, load_segments, load_units
from pipeline.errors import DamagedError, StorageError, UserError
from pipeline.recipe import fingerprint
from pipeline.stores import SourceChangedError, parquet, read_what_is_left

_THREADS = 8


@dataclass(frozen=True)
class Verdict:
    """What was read and what is wrong with it."""

    units: int
    inputs: int
    ok: int
    quarantined: int
    skipped: int
    faults: Sequence[str]
    """One line each; empty where the output is whole."""
    leftovers: Sequence[storage.Entry]
    """Temporary files of processes that were killed. In nobody's way."""


def verify(url: str, *, source: bool = True) -> Verdict:
    """Read everything below `url` again and compare it.

    Raises UserError where `url` is not an output of a job.
    """
    output = Output(storage.absolute(url))
    if storage.read_if_there(output.job) is None:
        raise UserError(
            f"{url}: not the output of a job (no _transdomain/job.json); verify what pack or translate wrote"
        )
    segments = load_segments(output)
    entries = storage.list_files(output.url)
    units = [unit for segment in segments for unit in load_units(output, segment.number)]
    prints = {segment.number: fingerprint(segment.recipe) for segment in segments}
    committed = output.committed()
    faults = [f"unit {unit.id} was planned and has no commit" for unit in units if unit.id not in committed]
    faults += [f"commit {name} is of no planned unit" for name in sorted(committed - {u.id for u in units})]
    present = [unit for unit in units if unit.id in committed]
    commits = list(finish.read_commits(output, [unit.id for unit in present]))
    retired = output.retired_segments()
    with ThreadPoolExecutor(_THREADS) as threads:
        checks = threads.map(
            lambda unit, commit: list(_check_unit(output, unit, commit, prints, source, retired)), present, commits
        )
        faults += [fault for found in checks for fault in found]
    faults += _strangers(output, entries, commits)
    manifest = finish.manifest_table(commits)
    total = finish.totals(manifest)
    if not faults:
        doubled = finish.duplicate_keys(lambda: finish.keys_of(output, finish.with_data(output, manifest)))
        faults += [f"key {key} occurs more than once" for key in doubled]
        faults += _check_mark(output, len(segments), total)
    leftovers = [entry for entry in entries if storage.is_leftover(entry.name)]
    return Verdict(total.units, total.inputs, total.ok, total.quarantined, total.skipped, faults, leftovers)


def clean(verdict: Verdict, now: float, older_than_s: float = 86_400) -> int:
    """Remove leftovers that are older than a day; returns how many. `now` is seconds of time.time()."""
    removed = 0
    for entry in verdict.leftovers:
        age = storage.age_s(entry.url, now)
        if age is not None and age > older_than_s:
            storage.delete(entry.url)
            removed += 1
    return removed


def _check_unit(
    output: Output, unit: Unit, commit: dict[str, Any], prints: dict[int, str], source: bool, retired: set[int]
) -> Iterator[str]:
    counted = commit["counts"]
    if (
        counted["ok"] + counted["quarantined"] + counted["skipped"] != counted["inputs"]
        or counted["inputs"] != unit.rows
    ):
        yield f"unit {unit.id} does not add up: {unit.rows} rows planned, {counted}"
    if commit["fingerprint"] != prints[segment_of(unit.id)]:
        yield f"unit {unit.id} was made by another recipe than its plan's"
    # The data of a retired segment was given up; what was set aside of its inputs stays.
    given_up = segment_of(unit.id) in retired
    objects = {}
    for kind in ("quarantine",) if given_up else ("data", "quarantine"):
        if commit[kind] is not None:
            data = storage.read_if_there(output.at(commit[kind]["name"]))
            if data is None:
                yield f"{commit[kind]['name']} is missing"
            elif hashlib.sha256(data).hexdigest() != commit[kind]["sha256"]:
                yield f"{commit[kind]['name']} is harmed: its sha256 is not the one of its commit"
            else:
                objects[kind] = data
    if "data" not in objects or (commit["quarantine"] is not None and "quarantine" not in objects):
        return
    rows, account_text = _open(objects["data"])
    account = decode_account(account_text)
    if account.unit != unit.id or counts(account) != counted or len(rows) != counted["ok"]:
        yield f"{commit['data']['name']} holds {len(rows)} rows and the account {counts(account)}, its commit {counted}"
    if "sha256" in rows.column_names and "file_name" in rows.column_names:
        yield from _check_files(output, rows)
    if source:
        aside = _open(objects["quarantine"])[0].to_pylist() if "quarantine" in objects else []
        yield from _check_source(unit, rows, aside, counted["skipped"])


def _check_files(output: Output, rows: pa.Table) -> Iterator[str]:
    for name, expected in zip(rows["file_name"].to_pylist(), rows["sha256"].to_pylist(), strict=True):
        data = storage.read_if_there(output.file(name))
        if data is None:
            yield f"data/{name} is missing"
        elif hashlib.sha256(data).hexdigest() != expected:
            yield f"data/{name} is harmed: its sha256 is not the one of its unit"


def _check_source(unit: Unit, rows: pa.Table, aside: Sequence[dict[str, Any]], skipped: int) -> Iterator[str]:
    """`aside` are the rows of the unit's quarantine.

    Inputs that were set aside because they had changed are not there to compare with; files that have changed and that
    this output did not want do not matter.
    """
    gone = {row["source_shard"] for row in aside if row["reason"] == CHANGED}
    ranges = [planned for planned in unit.ranges if planned.shard not in gone]
    try:
        left, changed = read_what_is_left(ranges, pa.schema([]), [])
    except (SourceChangedError, StorageError, FileNotFoundError) as error:
        yield f"unit {unit.id} cannot be compared with its source: {error}"
        return
    expected = sorted(left["key"].to_pylist())
    column = "source_key" if "source_key" in rows.column_names else "key"
    accounted = sorted(rows[column].to_pylist() + [row["key"] for row in aside if row["reason"] != CHANGED])
    wanted = set(accounted)
    for key, planned, why in changed:
        if key in wanted or planned.shard.endswith(".parquet"):
            yield f"unit {unit.id} cannot be compared with its source: {why}"
            return
    lost = len(expected) - len(accounted) - (skipped - len(changed))
    strange = sorted(set(accounted) - set(expected))
    if lost or strange or len(set(accounted)) != len(accounted):
        missing = sorted(set(expected) - set(accounted))
        yield (
            f"unit {unit.id} does not hold its inputs: {lost} lost, {len(strange)} strange"
            + (f"; not accounted for are {', '.join(missing[:3])} …" if missing and not skipped else "")
        )


def _strangers(output: Output, entries: Sequence[storage.Entry], commits: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Objects that a reader of data/ would take for data, and no commit knows."""
    known = {commit["data"]["name"] for commit in commits}
    for name in [name for name in known if name.startswith("_transdomain/verdicts/")]:
        try:
            table = parquet.read_columns(output.at(name), ["file_name"])
        except (FileNotFoundError, DamagedError):
            return  # a fault of its own, already named; without its list, files of that unit would look strange
        known.update(f"data/{file}" for file in table["file_name"].to_pylist())
    for entry in entries:
        if entry.name.startswith("data/") and not storage.is_leftover(entry.name) and entry.name not in known:
            yield f"{entry.name} belongs to no committed unit"


def _check_mark(output: Output, segments: int, total: finish.Totals) -> Iterator[str]:
    mark = storage.read_if_there(output.success)
    if mark is None:
        yield "_SUCCESS is missing: the job has not finished; run its command again"
        return
    said = json.loads(mark)
    actual = {"segments": segments, **total._asdict()}
    if any(said[name] != value for name, value in actual.items()):
        yield f"_SUCCESS says {said}, found {actual}"


def _open(data: bytes) -> tuple[pa.Table, str]:
    """A shard's rows without its pictures, and the account in its footer."""
    shard = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
    names = [
        n
        for n in ("key", "source_key", "source_shard", "reason", "file_name", "sha256")
        if n in shard.schema_arrow.names
    ]
    return shard.read(columns=names), shard.metadata.metadata[FOOTER_KEY.encode()].decode()
