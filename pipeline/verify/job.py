"""Find everything that is wrong with an output, in one pass over its objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline import images, storage
from pipeline.engine.completion import finish
from pipeline.engine.records.layout import CARD, VERDICTS, Output, listed_files
from pipeline.engine.records.units import passed_over, segment_of
from pipeline.errors import DamagedError, StorageError, UserError, one_line
from pipeline.recipe import fingerprint
from pipeline.stores.forms.registry import form_of, writable_forms
from pipeline.stores.keys import duplicate_keys
from pipeline.stores.mark import Totals
from pipeline.verify.fault import Fault
from pipeline.verify.records import Records, check_derived, read_records
from pipeline.verify.units import Claims, check_unit, check_waiting

_THREADS = 8
_OWN = ("_transdomain/job.json", "_transdomain/manifest.parquet", "_transdomain/report.html", CARD, "_SUCCESS")
_OWN_FOLDERS = ("_transdomain/plan/", "_transdomain/commits/", "_transdomain/retired/")
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
    names = [entry.name for entry in entries]
    if not any(name == "_transdomain/job.json" or name.startswith("_transdomain/plan/") for name in names):
        raise UserError(
            f"{url}: not the output of a job (no _transdomain/job.json); verify what pack, translate or augment wrote"
        )
    records, faults = read_records(output, names)
    retired = output.retired_segments()
    # pack keeps its keys in `key`; the columns that it carries over may have any other name, even `source_key`.
    key_columns = {s.number: "key" if s.job == "pack" else "source_key" for s in records.segments}
    claims = [
        Claims(
            unit=unit,
            commit=records.commits[unit.id],
            manifest=records.manifest.get(unit.id),
            key_column=key_columns[segment_of(unit.id)],
            given_up=segment_of(unit.id) in retired,
        )
        for unit in records.units
        if unit.id in records.commits
    ]
    with ThreadPoolExecutor(_THREADS) as threads:
        found = list(threads.map(lambda claim: _check(output, claim, source), claims))
        waiting = [unit for unit in records.units if unit.id not in records.commits]
        made_by = {segment.number: fingerprint(segment.recipe) for segment in records.segments}
        present = set(names)
        found_waiting = threads.map(
            lambda unit: list(check_waiting(output, unit, made_by[segment_of(unit.id)], present)), waiting
        )
        faults += [fault for wrong in found_waiting for fault in wrong]
    sound = [
        claim.commit
        for claim, wrong in zip(claims, found, strict=True)
        if all(fault.name == f"unit {claim.unit.id}" and fault.of_source for fault in wrong) and not claim.given_up
    ]
    faults += [fault for wrong in found for fault in wrong]
    if records.plan_is_whole:
        faults += _strangers(output, names, records, claims)
    doubled = duplicate_keys(lambda: finish.keys_of(output, finish.manifest_table(sound)))
    faults += [
        Fault(name=f"key {key}", what="occurs more than once", remedy="make the output anew from unique keys")
        for key in doubled
    ]
    total = finish.totals(finish.manifest_table([claim.commit for claim in claims]))
    if records.plan_is_whole and len(claims) == len(records.units):
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


def _check(output: Output, claim: Claims, source: bool) -> list[Fault]:
    """Return the faults of a unit; a unit that cannot be read hides no others."""
    try:
        return list(check_unit(output, claim, source=source))
    except (StorageError, OSError) as error:
        what = f"cannot be read: {one_line(error)}"
        return [Fault(name=f"unit {claim.unit.id}", what=what, remedy="make it readable, or repair its storage")]


def _strangers(output: Output, names: Sequence[str], records: Records, claims: Sequence[Claims]) -> Iterator[Fault]:
    """Yield objects of no planned unit, in the output's folders or where readers would take them for data."""
    known = {said["name"] for claim in claims for kind in ("data", "quarantine") if (said := claim.said(kind))}
    for unit in records.units:
        if unit.id not in records.commits:  # what a killed run left there still waits for its commit
            waiting = [output.data(unit, form) for form in writable_forms()] + [output.quarantine(unit.id)]
            known.update(url.removeprefix(f"{output.url}/") for url in waiting)
    files_known = True
    for name in [name for name in names if name in known and name.startswith(VERDICTS)]:
        try:
            known.update(f"data/{file.name}" for file in listed_files(output, name))
        except (FileNotFoundError, DamagedError):
            files_known = False  # already reported as a fault; without its list, its files would look like strangers
    given_up = {claim.commit["data"]["name"] for claim in claims if claim.given_up}
    for name in names:
        if name in given_up:
            what = "is data that was given up, and is still there for readers"
            yield Fault(name=name, what=what, remove=(name,), remedy="--repair removes it")
        if name in known or name in _OWN or name.startswith(_OWN_FOLDERS) or storage.is_hidden(name):
            continue
        if name.startswith(("_quarantine/", VERDICTS)):
            yield Fault(name=name, what="belongs to no committed unit", remove=(name,))
        elif name.startswith("_transdomain/"):
            yield Fault(name=name, what="is nothing that a job wrote", remedy="move it away")
        elif name.startswith("data/"):
            if files_known or ((form := form_of(name)) and not form.names_are_keys):
                yield Fault(name=name, what="belongs to no committed unit", remedy="move it away")
        elif name.lower().endswith(_DATA_ENDINGS):
            yield Fault(name=name, what="stands beside data/, where readers could take it for data", remedy="move it")
