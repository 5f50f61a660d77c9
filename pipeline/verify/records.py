"""Read the records of an output one by one: job, plan, commits, manifest, card, mark. A damaged one hides no other."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import yaml

from pipeline import storage
from pipeline.engine.completion import finish
from pipeline.engine.publishing.commit import REMEDY, ConflictError, decode_commit
from pipeline.engine.records.layout import CARD, Output, encode_job, read_plan, unit_ids
from pipeline.engine.records.units import Segment, Unit, decode_segment, decode_units, segment_of
from pipeline.recipe import fingerprint
from pipeline.stores.mark import Totals, decode_mark, marked_segments
from pipeline.verify.fault import Fault, rerun

_THREADS = 16
_PLAN, _COMMITS, _RETIRED = "_transdomain/plan/", "_transdomain/commits/", "_transdomain/retired/"
_MARK, _MANIFEST = "_SUCCESS", "_transdomain/manifest.parquet"
_JOBS = ("pack", "translate", "augment")
_BACKUP = "put it back from a copy, or make the output anew under another name"


class Records(NamedTuple):
    """Records that can be read."""

    segments: list[Segment]
    plan_is_whole: bool
    """True where the whole plan can be read: without it, nobody can say what belongs to the output."""
    units: list[Unit]
    """Planned units, in the order of the plan."""
    commits: dict[str, dict[str, Any]]
    """Commits of planned units, by unit."""
    manifest: dict[str, dict[str, Any]]
    """Rows of the manifest by unit; empty where there is none."""


def read_records(output: Output, names: Sequence[str]) -> tuple[Records, list[Fault]]:
    """Read the records among the objects `names` of an output; return them and their faults."""
    segments, units, faults = _read_plan(output, _below(names, _PLAN), _least_segments(output, names))
    whole = not faults
    faults += _check_job(output, segments)
    faults += _check_retired(output, _below(names, _RETIRED))
    commits, wrong = _read_commits(output, segments, units, _below(names, _COMMITS), whole, _MARK in names)
    data = storage.read_if_there(output.manifest)
    table = finish.read_manifest(data) if data is not None else None
    manifest = {row["unit"]: row for row in table.to_pylist()} if table is not None else {}
    return Records(segments, whole, units, commits, manifest), faults + wrong


def _least_segments(output: Output, names: Sequence[str]) -> int:
    """Return the least number of segments that mark and commits prove: a plan may have lost its end."""
    commits = (re.fullmatch(r"(\d{6})-\d{6}\.json", name.removeprefix(_COMMITS)) for name in _below(names, _COMMITS))
    mark = storage.read_if_there(output.success) if _MARK in names else None
    marked = marked_segments(mark) if mark is not None else None
    return max([marked or 0, *(int(commit[1]) + 1 for commit in commits if commit)])


def _below(names: Sequence[str], prefix: str) -> list[str]:
    return [name for name in names if name.startswith(prefix) and not storage.is_hidden(name)]


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


def _read_plan(output: Output, names: Sequence[str], least: int) -> tuple[list[Segment], list[Unit], list[Fault]]:
    segments, units, faults = list[Segment](), list[Unit](), list[Fault]()
    for name in names:
        number = re.fullmatch(r"(\d{6})\.parquet", name.removeprefix(_PLAN))
        if number is None:
            faults.append(Fault(name=name, what="is no segment of a plan", remedy="move it away"))
            continue
        url = output.at(name)
        try:
            segment = read_plan(url, functools.partial(decode_segment, source=url))
            of_segment = read_plan(url, decode_units)
        except ValueError as error:
            faults.append(Fault(name=name, what=f"is harmed: {error}", remedy=_BACKUP))
            continue
        rows = sum(unit.rows for unit in of_segment)
        if segment.number != int(number[1]) or [u.id for u in of_segment] != unit_ids(segment) or rows != segment.rows:
            faults.append(Fault(name=name, what="is not the segment that its name says", remedy=_BACKUP))
            continue
        segments.append(segment)
        units += of_segment
    there = {int(name[len(_PLAN) :][:6]) for name in names if re.fullmatch(r"\d{6}\.parquet", name[len(_PLAN) :])}
    if not there and not least:
        return segments, units, [*faults, rerun(_PLAN, "is empty: nothing was planned yet")]
    for lost in sorted(set(range(max(least, *(number + 1 for number in there), 1))) - there):
        faults.append(Fault(name=f"{_PLAN}{lost:06d}.parquet", what="is missing", remedy=_BACKUP))
    return segments, units, faults


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
    units: Sequence[Unit],
    names: Sequence[str],
    plan_is_whole: bool,
    marked: bool,
) -> tuple[dict[str, dict[str, Any]], list[Fault]]:
    made_by = {segment.number: fingerprint(segment.recipe) for segment in segments}
    planned = {f"{_COMMITS}{unit.id}.json": unit for unit in units}

    def read(name: str) -> dict[str, Any] | Fault:
        unit = planned[name]
        try:
            record = decode_commit(output.at(name), storage.read(output.at(name)))
            finish.require_commit_of(output, unit.id, made_by[segment_of(unit.id)], record)
        except (ConflictError, FileNotFoundError) as error:
            why = str(error).removeprefix(output.at(name)).removesuffix(f"; {REMEDY}").strip()
            return Fault(name=name, what=why or "is gone", remove=(name,), unit=unit.id)
        if record["counts"]["inputs"] != unit.rows:
            what = f"does not add up: unit {unit.id} has {unit.rows} rows, the commit {record['counts']}"
            return Fault(name=name, what=what, remove=(name,), unit=unit.id)
        return record

    known = [name for name in names if name in planned]
    faults = [
        Fault(name=name, what=f"is of no planned unit: commit {name[len(_COMMITS) :]}", remove=(name,))
        for name in names
        if name not in planned and plan_is_whole
    ]
    with ThreadPoolExecutor(_THREADS) as threads:
        found = dict(zip(known, threads.map(read, known), strict=True))
    faults += [each for each in found.values() if isinstance(each, Fault)]
    # A mark, where there is one, would keep the next run from looking at the commits.
    remove = (_MARK, _MANIFEST) if marked else ()
    for name, unit in planned.items():
        if name not in found:
            what = "was planned and has no commit"
            faults.append(Fault(name=f"unit {unit.id}", what=what, remove=remove, remedy="run the job's command again"))
    return {planned[name].id: each for name, each in found.items() if not isinstance(each, Fault)}, faults


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
    commits = [records.commits[unit.id] for unit in records.units]
    data = storage.read_if_there(output.manifest)
    table = finish.read_manifest(data) if data is not None else None
    if table is None or not table.equals(finish.manifest_table(commits)):
        what = "is missing" if data is None else "is harmed" if table is None else "is not what the commits say"
        faults.append(Fault(name=_MANIFEST, what=what, remove=(_MANIFEST, _MARK)))
    return faults + _check_card(output, said["card_sha256"])


def _part(said: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    return {name: said[name] for name in names}


def _check_card(output: Output, sha256: str | None) -> list[Fault]:
    """Check the card, whose head keeps `datasets` from reading the quarantine as data."""
    data = storage.read_if_there(output.at(CARD))
    if data is None:
        return [Fault(name=CARD, what="is missing", remove=(_MARK,))]
    try:
        head = yaml.safe_load(data.decode().split("---")[1])
        names_data = head["configs"][0]["data_files"][0]["path"].startswith("data/")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, yaml.YAMLError):
        names_data = False
    if not names_data:
        return [Fault(name=CARD, what="is harmed: its head does not name data/ for readers", remove=(CARD, _MARK))]
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        return [Fault(name=CARD, what="is not as the job wrote it", remove=(CARD, _MARK))]
    return []
