"""Read the records of an output one by one: job, plan, commits, manifest, card, mark. A damaged one hides no other."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from pipeline import storage
from pipeline.engine.completion import finish
from pipeline.engine.completion.metadata import METADATA, check_metadata, folders_of
from pipeline.engine.publishing.commit import REMEDY, ConflictError, decode_commit
from pipeline.engine.records.card import plain, with_versions
from pipeline.engine.records.layout import CARD, Output, encode_job, plan_tables, read_plan, unit_ids
from pipeline.engine.records.units import PLAN_SCHEMA, Segment, decode_segment, segment_of
from pipeline.errors import DamagedError
from pipeline.recipe import fingerprint
from pipeline.report.dataset.croissant import CROISSANT, check_croissant
from pipeline.stores import versions
from pipeline.stores.mark import Totals, decode_mark, marked_segments
from pipeline.verify.fault import Fault, rerun

_THREADS = 16
_PLAN, _COMMITS, _RETIRED = "_transdomain/plan/", "_transdomain/commits/", "_transdomain/retired/"
_MARK, _MANIFEST = "_SUCCESS", "_transdomain/manifest.parquet"
_JOBS = ("pack", "translate", "augment")
_BACKUP = "put it back from a copy, or make the output anew under another name"


class Records(NamedTuple):
    """Records that can be read, in columns: there may be hundreds of thousands of units."""

    segments: list[Segment]
    plan_is_whole: bool
    """True where the whole plan can be read: without it, nobody can say what belongs to the output."""
    units: pa.Table
    """Name, part and rows of the planned units, in the order of the plan."""
    commits: pa.Table
    """What the sound commits of planned units say, as rows of a manifest, in the order of the plan."""
    manifest: pa.Table | None
    """Manifest as it is there; None where it is missing or harmed."""

    def manifest_row(self, unit: str) -> dict[str, Any] | None:
        """Return what the manifest says of a unit; None where that is nothing."""
        if self.manifest is None:
            return None
        rows: list[dict[str, Any]] = self.manifest.filter(pc.equal(self.manifest["unit"], unit)).to_pylist()
        return rows[0] if rows else None


def read_records(output: Output, entries: storage.Entries) -> tuple[Records, list[Fault]]:
    """Read the records among the objects of an output; return them and their faults."""
    segments, units, faults = _read_plan(output, _below(entries, _PLAN), _least_segments(output, entries))
    whole = not faults
    faults += _check_job(output, segments)
    faults += _check_retired(output, _below(entries, _RETIRED))
    commits, wrong = _read_commits(output, segments, units, _below(entries, _COMMITS), whole, entries.has(_MARK))
    data = storage.read_if_there(output.manifest)
    table = finish.read_manifest(data) if data is not None else None
    return Records(segments, whole, units, commits, table), faults + wrong


def _least_segments(output: Output, entries: storage.Entries) -> int:
    """Return the least number of segments that mark and commits prove: a plan may have lost its end."""
    commits = (re.fullmatch(r"(\d{6})-\d{6}\.json", name.removeprefix(_COMMITS)) for name in _below(entries, _COMMITS))
    mark = storage.read_if_there(output.success) if entries.has(_MARK) else None
    marked = marked_segments(mark) if mark is not None else None
    return max([marked or 0, *(int(commit[1]) + 1 for commit in commits if commit)])


def _below(entries: storage.Entries, prefix: str) -> list[str]:
    names: list[str] = entries[entries.below(prefix)].names.to_pylist()
    return [name for name in names if not storage.is_hidden(name)]


def _check_job(output: Output, segments: Sequence[Segment]) -> list[Fault]:
    kinds = sorted({segment.job for segment in segments})
    if len(kinds) > 1:
        return [Fault(name=_PLAN, what=f"is of several jobs: {', '.join(kinds)}", remedy=_BACKUP)]
    data = storage.read_if_there(output.job)
    name = "_transdomain/job.json"
    if data is None:
        return [rerun(name, "is missing")]
    if data not in map(encode_job, kinds or _JOBS):
        whose = f"jobs.{kinds[0]}" if kinds else "any job of this version"
        return [Fault(name=name, what=f"is harmed: it is not that of {whose}", remove=(name,))]
    return []


def _read_plan(output: Output, names: Sequence[str], least: int) -> tuple[list[Segment], pa.Table, list[Fault]]:
    segments, found, faults = list[Segment](), [_heads(PLAN_SCHEMA.empty_table())], list[Fault]()
    for name in names:
        number = re.fullmatch(r"(\d{6})\.parquet", name.removeprefix(_PLAN))
        if number is None:
            faults.append(Fault(name=name, what="is no segment of a plan", remedy="move it away"))
            continue
        url = output.at(name)
        try:
            segment = read_plan(url, functools.partial(decode_segment, source=url))
            of_segment = pa.concat_tables([found[0], *(_heads(table) for _, table in plan_tables([url]))])
        except (ValueError, KeyError) as error:
            faults.append(Fault(name=name, what=f"is harmed: {error}", remedy=_BACKUP))
            continue
        rows = sum(of_segment["rows"].to_pylist())
        if (segment.number, of_segment["unit"].to_pylist(), segment.rows) != (int(number[1]), unit_ids(segment), rows):
            faults.append(Fault(name=name, what="is not the segment that its name says", remedy=_BACKUP))
            continue
        segments.append(segment)
        found.append(of_segment)
    units = pa.concat_tables(found)
    there = {int(name[len(_PLAN) :][:6]) for name in names if re.fullmatch(r"\d{6}\.parquet", name[len(_PLAN) :])}
    if not there and not least:
        return segments, units, [*faults, rerun(_PLAN, "is empty: nothing was planned yet")]
    for lost in sorted(set(range(max(least, *(number + 1 for number in there), 1))) - there):
        faults.append(Fault(name=f"{_PLAN}{lost:06d}.parquet", what="is missing", remedy=_BACKUP))
    return segments, units, faults


def _heads(table: pa.Table) -> pa.Table:
    """Return name and part of the units that these rows of a plan are, and the rows that their ranges have."""
    ranges = table["ranges"].combine_chunks()
    rows = pc.subtract(ranges.flatten().field("stop"), ranges.flatten().field("start"))
    edges = np.concatenate([[0], np.cumsum(pc.fill_null(ranges.value_lengths(), 0))])
    totals = np.concatenate([[0], np.cumsum(rows)])
    return pa.table([table["unit"], table["part"], np.diff(totals[edges])], ["unit", "part", "rows"])


def _check_retired(output: Output, names: Sequence[str]) -> list[Fault]:
    faults = []
    for name in names:
        if not re.fullmatch(r"\d{6}\.json", name.removeprefix(_RETIRED)):
            faults.append(Fault(name=name, what="is no record of a segment", remedy="move it away"))
            continue
        try:
            whole = f"{json.loads(storage.read(output.at(name)))['segment']:06d}.json" == name.removeprefix(_RETIRED)
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            faults.append(Fault(name=name, what="is harmed", remedy=_BACKUP))
    return faults


def _read_commits(
    output: Output,
    segments: Sequence[Segment],
    units: pa.Table,
    names: Sequence[str],
    plan_is_whole: bool,
    marked: bool,
) -> tuple[pa.Table, list[Fault]]:
    made_by = {segment.number: fingerprint(segment.recipe) for segment in segments}
    planned = dict(zip(units["unit"].to_pylist(), units["rows"].to_pylist(), strict=True))

    def read(name: str) -> dict[str, Any] | Fault:
        unit = _unit_of(name)
        try:
            record = decode_commit(output.at(name), storage.read(output.at(name)))
            finish.require_commit_of(output, unit, made_by[segment_of(unit)], record)
        except (ConflictError, FileNotFoundError) as error:
            why = str(error).removeprefix(output.at(name)).removesuffix(f"; {REMEDY}").strip()
            return Fault(name=name, what=why or "is gone", remove=(name,), unit=unit)
        if record["counts"]["inputs"] != planned[unit]:
            what = f"does not add up: unit {unit} has {planned[unit]} rows, the commit {record['counts']}"
            return Fault(name=name, what=what, remove=(name,), unit=unit)
        return record

    def sound() -> Iterator[dict[str, Any]]:
        for each in storage.ahead(read, known, _THREADS):
            if isinstance(each, Fault):
                faults.append(each)
            else:
                yield each

    known = [name for name in names if _unit_of(name) in planned]
    faults = [
        Fault(name=name, what=f"is of no planned unit: commit {name[len(_COMMITS) :]}", remove=(name,))
        for name in names
        if _unit_of(name) not in planned and plan_is_whole
    ]
    commits = finish.manifest_table(sound())
    # A mark, where there is one, would keep the next run from looking at the commits.
    remove = (_MARK, _MANIFEST) if marked else ()
    there = set(map(_unit_of, known))
    for unit in (unit for unit in planned if unit not in there):
        what = "was planned and has no commit"
        faults.append(Fault(name=f"unit {unit}", what=what, remove=remove, remedy="run the job's command again"))
    return commits, faults


def _unit_of(commit: str) -> str:
    """Return the unit that a commit of this name is of."""
    return commit.removeprefix(_COMMITS).removesuffix(".json")


def check_derived(output: Output, records: Records, total: Totals) -> list[Fault]:
    """Return the faults of manifest, card and mark where each unit has a sound commit; `total` sums up their counts."""
    mark = storage.read_if_there(output.success)
    if mark is None:
        return [rerun(_MARK, "is missing: the job has not finished; run its command again")]
    said = decode_mark(mark)
    if said is None:
        return [Fault(name=_MARK, what="is harmed", remove=(_MARK,))]
    faults = []
    actual = {"segments": len(records.segments), **total._asdict()}
    if any(said[name] != value for name, value in actual.items()):
        faults.append(Fault(name=_MARK, what=f"says {_part(said, actual)}, found {actual}", remove=(_MARK,)))
    if records.manifest is None or not records.manifest.equals(records.commits):
        harmed = "is harmed" if records.manifest is None else "is not what the commits say"
        what = harmed if storage.stat_file(output.manifest) else "is missing"
        faults.append(Fault(name=_MANIFEST, what=what, remove=(_MANIFEST, _MARK)))
    kept = finish.with_data(output, records.commits)
    with contextlib.suppress(DamagedError, FileNotFoundError):  # verdicts that are at fault are named as that
        if len(folders_of(kept)) and (what := check_metadata(output, kept)):
            faults.append(Fault(name=METADATA, what=what, remove=(METADATA, _MARK)))
    with contextlib.suppress(DamagedError, FileNotFoundError):  # the records of the versions have that fault
        if what := check_croissant(output, records.segments, records.commits):
            faults.append(Fault(name=CROISSANT, what=what, remove=(CROISSANT, _MARK)))
    return faults + _check_card(output, said["card_sha256"])


def check_versions(output: Output, entries: storage.Entries) -> Iterator[Fault]:
    """Yield the faults of the records and marks of later versions: each mark is a copy of its record."""
    for name in [*_below(entries, versions.RECORDS), *_below(entries, versions.MARKS)]:
        number = re.fullmatch(r"(\d{6})\.json", name.rpartition("/")[2])
        if number is None:
            yield Fault(name=name, what="is no record of a version", remedy="move it away")
            continue
        record = versions.record_url(output.url, int(number[1]))
        data = storage.read_if_there(record)
        if data != storage.read_if_there(output.at(name)):
            yield Fault(name=name, what=f"is not what {record} says", remedy="put back the one that is harmed")
        elif data is not None:
            try:
                versions.decode_version(data, record)
            except DamagedError:
                yield Fault(name=name, what="is harmed", remedy="put it back from a copy")


def _part(said: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    return {name: said[name] for name in names}


def _check_card(output: Output, sha256: str | None) -> list[Fault]:
    """Check the card, whose head keeps `datasets` from reading the quarantine as data."""
    data = storage.read_if_there(output.at(CARD))
    if data is None:
        return [Fault(name=CARD, what="is missing", remove=(_MARK,))]
    try:
        head = yaml.safe_load(data.decode().split("---")[1])
        found = head["configs"][0]["data_files"][0]["path"]
        names_data = all(path.startswith(("data/", versions.FOLDER)) for path in ([found], found)[type(found) is list])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, yaml.YAMLError):
        names_data = False
    if not names_data:
        return [Fault(name=CARD, what="is harmed: its head does not name data/ for readers", remove=(CARD, _MARK))]
    if sha256 is not None and hashlib.sha256(plain(data)).hexdigest() != sha256:
        return [Fault(name=CARD, what="is not as the job wrote it", remove=(CARD, _MARK))]
    with contextlib.suppress(DamagedError, FileNotFoundError):  # the records of the versions have that fault
        if data != with_versions(output, data):
            what = "does not name the versions that are marked, so `datasets` reads others"
            return [Fault(name=CARD, what=what, remedy="--repair writes it anew")]
    return []
