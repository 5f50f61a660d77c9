"""Find everything that is wrong with an output, in one pass over its objects."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import images, storage
from pipeline.engine.again import keys_run_again
from pipeline.engine.completion import finish
from pipeline.engine.completion.metadata import METADATA, folders_of
from pipeline.engine.publishing.commit import ConflictError
from pipeline.engine.records.layout import CARD, VERDICTS, Output, listed_files, load_units
from pipeline.engine.records.units import Unit, passed_over, segment_of
from pipeline.errors import DamagedError, StorageError, UserError, one_line
from pipeline.recipe import PAGE_OF, fingerprint, has_rows_of_pages
from pipeline.stores import versions
from pipeline.stores.forms.registry import form_of, writable_forms
from pipeline.stores.keys import duplicate_keys
from pipeline.stores.mark import Totals
from pipeline.verify.fault import Fault
from pipeline.verify.records import Records, check_derived, check_versions, read_records
from pipeline.verify.units import Claims, check_unit, check_waiting

log = logging.getLogger("transdomain")

_THREADS = 8
_ROWS = 4096
"""Units whose records are Python objects at a time."""
_OWN = (
    "_transdomain/job.json", "_transdomain/manifest.parquet", "_transdomain/report.html",
    "_transdomain/without_partner.csv", "_transdomain/scores.csv", CARD, "_SUCCESS",
)  # fmt: skip
_OWN_FOLDERS = (
    "_transdomain/plan/", "_transdomain/commits/", "_transdomain/retired/", "_transdomain/labels/",
    "_transdomain/baselines/", versions.RECORDS, versions.MARKS,
)  # fmt: skip
_DATA_ENDINGS = (".parquet", ".arrow", ".tar", ".csv", ".jsonl", *images.EXTENSIONS)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Result of a verification: the records that were read, and the faults."""

    url: str
    total: Totals
    """Totals of the counts in the commits."""
    faults: Sequence[Fault]
    """Faults found; empty where the output is whole."""
    leftovers: Sequence[storage.Entry]
    """Temporary files of killed processes. They are harmless."""
    uploads: Sequence[storage.Upload]
    """Incomplete multipart uploads, of processes that were killed or still run. They are harmless, but cost money."""
    passed_over: Sequence[str]
    """Lines about what lies below a source but is no input, one line for each kind."""
    records: Records


def verify(url: str, *, source: bool = True) -> Verdict:
    """Read everything below `url` again and compare it, with the keys of its source, too, where `source` is true.

    Raises UserError where `url` is not an output of a job.
    """
    output = Output(storage.absolute(url))
    entries = storage.list_files(output.url)
    if len(below := entries[entries.below(versions.FOLDER)]):
        below = below.take(~_of_versions(output, below))
        entries = storage.Entries.joined(
            [entries[: entries.below(versions.FOLDER).start], below, entries[entries.below(versions.FOLDER).stop :]]
        )
    if not entries.has("_transdomain/job.json") and not len(entries[entries.below("_transdomain/plan/")]):
        raise UserError(
            f"{url}: not the output of a job (no _transdomain/job.json); verify what pack, translate or augment wrote"
        )
    records, faults = read_records(output, entries)
    faults += check_versions(output, entries)
    sound, wrong = _check_units(output, records, entries, source)
    faults += wrong
    if records.plan_is_whole:
        faults += _strangers(output, entries, records)
    doubled = duplicate_keys(lambda: finish.keys_of(output, sound))
    faults += [
        Fault(name=f"key {key}", what="occurs more than once", remedy="make the output anew from unique keys")
        for key in doubled
    ]
    total = finish.totals(records.commits, records.segments)
    if records.plan_is_whole and len(records.commits) == len(records.units):
        faults += check_derived(output, records, total)
    return Verdict(
        url=output.url,
        total=total,
        faults=faults,
        leftovers=[entry for entry in entries if storage.is_leftover(entry.name)],
        uploads=storage.list_unfinished_uploads(output.url),
        passed_over=passed_over(records.segments),
        records=records,
    )


def _of_versions(output: Output, entries: storage.Entries) -> np.ndarray:
    """Return, for each entry below _versions/, whether it belongs to a version with a record, bool."""
    folders = [f"{versions.FOLDER}{number:06d}/" for number in versions.numbers(output.url)]
    found = np.zeros(len(entries), bool)
    for folder in folders:
        found[entries.below(folder)] = True
    return found


def _check_units(
    output: Output, records: Records, entries: storage.Entries, source: bool
) -> tuple[pa.Table, list[Fault]]:
    """Return the rows of `records.commits` whose units' data is sound and there for readers, and the faults of all.

    Units are read from the plan and checked some at a time.
    """
    retired, again = output.retired_segments(), _run_again(output, records)
    made_by = {segment.number: fingerprint(segment.recipe) for segment in records.segments}
    # pack keeps its keys in `key`; the columns that it carries over may have any other name, even `source_key`.
    key_columns = {s.number: "key" if s.job == "pack" else "source_key" for s in records.segments}
    key_columns |= {s.number: PAGE_OF for s in records.segments if has_rows_of_pages(s.recipe)}

    def claims() -> Iterator[Claims | Unit]:
        """Yield every unit of the plan, in order: with what is said of it where it has a sound commit, else alone."""
        commits = (row for batch in records.commits.to_batches(_ROWS) for row in batch.to_pylist())
        commit = next(commits, None)
        for segment in records.segments:
            for unit in load_units(output, segment.number):
                if commit is None or commit["unit"] != unit.id:
                    yield unit
                    continue
                yield Claims(
                    unit=unit,
                    commit=commit,
                    fingerprint=made_by[segment.number],
                    manifest=functools.partial(records.manifest_row, unit.id),
                    key_column=key_columns[segment.number],
                    again=again,
                    given_up=segment.number in retired,
                )
                commit = next(commits, None)

    def check(claim: Claims | Unit) -> tuple[bool, bool, list[Fault]]:
        """Return whether a unit has a sound commit, whether its data is sound and there, and its faults."""
        if isinstance(claim, Unit):
            return False, False, list(check_waiting(output, claim, made_by[segment_of(claim.id)], entries))
        wrong = _check(output, claim, source)
        of_source = all(fault.name == f"unit {claim.unit.id}" and fault.of_source for fault in wrong)
        return True, of_source and not claim.given_up, wrong

    sound, faults = list[bool](), list[Fault]()
    for committed, good, wrong in storage.ahead(check, claims(), _THREADS):
        faults += wrong
        if committed:
            sound.append(good)
    return records.commits.filter(pa.array(sound, pa.bool_())), faults


def _run_again(output: Output, records: Records) -> Mapping[str, int]:
    """Return the last segment, by key, of the inputs that were run again; none where their records are harmed."""
    try:
        return keys_run_again(output, records.segments)
    except (ConflictError, StorageError, OSError, pa.ArrowException, ValueError) as error:
        log.debug("%s: %s", output.url, one_line(error))  # the records have that fault themselves
        return {}


def _check(output: Output, claim: Claims, source: bool) -> list[Fault]:
    """Return the faults of a unit; a unit that cannot be read hides no others."""
    try:
        return list(check_unit(output, claim, source=source))
    except (StorageError, OSError) as error:
        what = f"cannot be read: {one_line(error)}"
        return [Fault(name=f"unit {claim.unit.id}", what=what, remedy="make it readable, or repair its storage")]


def _names_of_waiting(output: Output, units: pa.Table) -> Iterator[str]:
    """Yield the names of what a killed run may have left of units without a commit, which wait for one."""
    for row in units.to_pylist():
        unit = Unit(row["unit"], (), row["part"])
        for url in (*(output.data(unit, form) for form in writable_forms()), output.quarantine(unit.id)):
            yield url.removeprefix(f"{output.url}/")


def _strangers(output: Output, entries: storage.Entries, records: Records) -> Iterator[Fault]:
    """Yield objects of no planned unit, in the output's folders or where readers would take them for data."""
    known = [records.commits["data"], pc.drop_null(records.commits["quarantine"])]
    waiting = records.units.filter(pc.invert(pc.is_in(records.units["unit"], records.commits["unit"].combine_chunks())))
    known.append(pa.chunked_array([pa.array(_names_of_waiting(output, waiting), pa.string())]))
    verdicts = [name for names in known for name in names.filter(pc.starts_with(names, VERDICTS)).to_pylist()]
    files_known = True
    for name in verdicts:
        try:
            files = [f"data/{file.name}" for file in listed_files(output, name)] if entries.has(name) else []
            known.append(pa.chunked_array([pa.array(files, pa.string())]))
        except (FileNotFoundError, DamagedError):
            files_known = False  # already reported as a fault; without its list, its files would look like strangers
    for name in finish.given_up(output, records.commits)["data"].to_pylist():
        if entries.has(name):
            what = "is data that was given up, and is still there for readers"
            yield Fault(name=name, what=what, remove=(name,), remedy="--repair removes it")
    ours = pa.chunked_array([array for names in known for array in names.chunks], pa.string()).combine_chunks()
    others = entries.names.cast(pa.string())
    own = (*_OWN, METADATA) if len(folders_of(records.commits)) else _OWN
    for name in others.filter(pc.invert(pc.is_in(others, ours))).to_pylist():
        if name in own or name.startswith(_OWN_FOLDERS) or storage.is_hidden(name):
            continue
        if name.startswith(("_quarantine/", VERDICTS)):
            yield Fault(name=name, what="belongs to no committed unit", remove=(name,))
        elif name.startswith(versions.FOLDER):
            yield Fault(name=name, what="belongs to no version", remedy="move it away")
        elif name.startswith("_transdomain/"):
            yield Fault(name=name, what="is nothing that a job wrote", remedy="move it away")
        elif name.startswith("data/"):
            if files_known or ((form := form_of(name)) and not form.names_are_keys):
                yield Fault(name=name, what="belongs to no committed unit", remedy="move it away")
        elif name.lower().endswith(_DATA_ENDINGS):
            yield Fault(name=name, what="stands beside data/, where readers could take it for data", remedy="move it")
