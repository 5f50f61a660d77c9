"""Compare the objects of one unit with its commit, with the manifest, and with the source it was made from."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline import storage
from pipeline.engine.publishing.commit import QUARANTINE, REMEDY, ConflictError, read_account
from pipeline.engine.records.account import CHANGED, COUNTS, FURTHER, counts
from pipeline.engine.records.layout import Output, form_of_data
from pipeline.engine.records.units import Unit, segment_of
from pipeline.errors import StorageError
from pipeline.recipe import PAGE_OF
from pipeline.stores import SourceChangedError, read_unchanged_rows
from pipeline.stores.forms.form import File, WritableForm
from pipeline.stores.forms.registry import form_of_ranges, writable_forms
from pipeline.verify.fault import Fault

_OF_QUARANTINE = ("key", "source_shard", "reason")


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Statements about one unit: by the plan, by its commit and by the manifest."""

    unit: Unit
    commit: Mapping[str, Any]
    """What its commit says, as a row of a manifest."""
    fingerprint: str
    """Fingerprint of the recipe, which is that of the commit, too."""
    manifest: Callable[[], Mapping[str, Any] | None]
    """Function that looks up the unit's row in the manifest; None where there is none."""
    key_column: str
    """Column of the unit's rows that holds the keys of the source."""
    again: Mapping[str, int]
    """Last segment, by key, of those inputs that were run again."""
    given_up: bool
    """True where the data of the unit's segment was given up; its quarantine stays."""

    def said(self, kind: str) -> Mapping[str, Any] | None:
        """Return name, size and sha256 of `data` or `quarantine` as the commit states them, or None."""
        if self.commit[kind] is None:
            return None
        return {"name": self.commit[kind], **{name: self.commit[f"{kind}_{name}"] for name in ("size", "sha256")}}

    def manifest_says(self, kind: str, data: bytes) -> bool:
        """Return True where `data` is the object that the manifest describes: the commit is then wrong."""
        row = self.manifest() or {}
        return (row.get(f"{kind}_size"), row.get(f"{kind}_sha256")) == (len(data), hashlib.sha256(data).hexdigest())


def check_unit(output: Output, claims: Claims, *, source: bool) -> Iterator[Fault]:
    """Yield whatever is wrong with the objects of a unit; every object is read whole."""
    unit, commit = claims.unit, claims.commit
    own = tuple(claims.said(kind)["name"] for kind in ("data", "quarantine") if claims.said(kind))  # type: ignore[index]
    record = f"_transdomain/commits/{unit.id}.json"
    form = form_of_data(commit["data"])
    if output.at(commit["data"]) != output.data(unit, form):
        yield Fault(name=record, what=f"names {commit['data']} for its data", remove=(record,), unit=unit.id)
        return
    objects: dict[str, bytes] = {}
    for kind in ("quarantine",) if claims.given_up else ("data", "quarantine"):
        said = claims.said(kind)
        if said is None:
            continue
        data = storage.read_if_there(output.at(said["name"]))
        if data is None:
            yield Fault(name=said["name"], what="is missing", remove=(record,), unit=unit.id)
        elif (len(data), hashlib.sha256(data).hexdigest()) == (said["size"], said["sha256"]):
            objects[kind] = data
        elif claims.manifest_says(kind, data):
            what = f"does not say size and sha256 of {said['name']} as the manifest does"
            yield Fault(name=record, what=what, remove=(record,), unit=unit.id)
        else:
            what = "is harmed: its sha256 is not the one of its commit"
            remove = (record, *own) if kind == "data" else (record, said["name"])
            yield Fault(name=said["name"], what=what, remove=remove, unit=unit.id)
    if "data" not in objects or (commit["quarantine"] is not None and "quarantine" not in objects):
        return
    yield from _check_contents(output, claims, form, objects, record, own, source)


def check_waiting(output: Output, unit: Unit, made_by: str, entries: storage.Entries) -> Iterator[Fault]:
    """Yield what is wrong with objects that a killed run left of an uncommitted unit: the next run would adopt them."""
    quarantined = output.quarantine(unit.id).removeprefix(f"{output.url}/")
    accounts = set()
    for form in writable_forms():
        name = output.data(unit, form).removeprefix(f"{output.url}/")
        if entries.has(name):
            try:
                data = storage.read(output.at(name))
                account, rows = read_account(name, data, form)
            except (ConflictError, FileNotFoundError) as error:
                what = f"is harmed: {_without_remedy(error)}"
                yield Fault(name=name, what=what, remove=(name, quarantined), unit=unit.id)
                return
            accounts.add(account.of_quarantine)
            if (account.unit, account.fingerprint, account.inputs, account.ok) != (unit.id, made_by, unit.rows, rows):
                what = f"is not of unit {unit.id} as it was planned"
                yield Fault(name=name, what=what, remove=(name, quarantined), unit=unit.id)
                return
            yield from _check_waiting_files(output, unit, form.files(data))
    if entries.has(quarantined):
        try:
            account, rows = read_account(quarantined, storage.read(output.at(quarantined)), QUARANTINE)
            derived = account in accounts and rows == len(account.quarantined)
        except (ConflictError, FileNotFoundError):
            derived = False
        if not derived:
            what = "is not derived from the account of its unit"
            yield Fault(name=quarantined, what=what, remove=(quarantined,), unit=unit.id)


def _check_waiting_files(output: Output, unit: Unit, files: Sequence[File]) -> Iterator[Fault]:
    """Yield the files that exist but differ; those that are missing are still to come."""
    for _, name, expected in files:
        data = storage.read_if_there(output.file(name))
        if data is not None and hashlib.sha256(data).hexdigest() != expected:
            what = "is harmed: its sha256 is not the one of its unit"
            yield Fault(name=f"data/{name}", what=what, remove=(f"data/{name}",), unit=unit.id)


def _without_remedy(error: Exception) -> str:
    """Return the message of a conflict without its remedy, which a repair carries out."""
    return str(error).removesuffix(f"; {REMEDY}")


def _check_contents(
    output: Output,
    claims: Claims,
    form: WritableForm,
    objects: Mapping[str, bytes],
    record: str,
    own: tuple[str, ...],
    source: bool,
) -> Iterator[Fault]:
    unit, commit, name = claims.unit, claims.commit, claims.commit["data"]
    counted = {kind: commit[kind] for kind in COUNTS} | ({FURTHER: commit[FURTHER]} if commit[FURTHER] else {})
    try:
        account, rows = read_account(name, objects["data"], form)
        quarantined_rows = read_account(name, objects["quarantine"], QUARANTINE)[1] if "quarantine" in objects else 0
    except ConflictError as error:
        what = f"is harmed: {_without_remedy(error)}"
        yield Fault(name=name, what=what, remove=(record, *own), unit=unit.id)
        return
    found = (account.unit, account.fingerprint, counts(account), rows, quarantined_rows)
    if found != (unit.id, claims.fingerprint, counted, account.ok, len(account.quarantined)):
        what = f"holds {rows} rows and the account {counts(account)} of unit {account.unit}; its commit says otherwise"
        yield Fault(name=name, what=what, remove=(record, *own), unit=unit.id)
        return
    yield from _check_files(output, unit, form.files(objects["data"]), record)
    if source:
        quarantined = list[dict[str, Any]]()
        if "quarantine" in objects:
            quarantined = QUARANTINE.columns(objects["quarantine"], _OF_QUARANTINE).to_pylist()
        keys = form.columns(objects["data"], [claims.key_column])[claims.key_column]
        if claims.key_column == PAGE_OF:
            keys = pa.chunked_array([keys.unique()])
        filtered = [row.key for row in account.filtered]
        compared, left = _without_run_again(unit, quarantined, claims.again)
        for why in compare_with_source(compared, keys, left, filtered, commit["skipped"]):
            yield Fault(
                name=f"unit {unit.id}",
                what=why,
                of_source=True,
                remedy="put the source back as it was, or add --no_source, which looks at the output alone",
            )


def _without_run_again(
    unit: Unit, quarantined: Sequence[Mapping[str, Any]], again: Mapping[str, int]
) -> tuple[Unit, Sequence[Mapping[str, Any]]]:
    """Return a unit and its quarantined rows without the files that a later segment has run again."""
    if not again or not form_of_ranges(unit.ranges).names_are_keys:
        return unit, quarantined
    left = [row for row in quarantined if again.get(row["key"], -1) <= segment_of(unit.id)]
    gone = {row["source_shard"] for row in quarantined} - {row["source_shard"] for row in left}
    return unit._replace(ranges=tuple(piece for piece in unit.ranges if piece.shard not in gone)), left


def _check_files(output: Output, unit: Unit, files: Sequence[File], record: str) -> Iterator[Fault]:
    for _, name, expected in files:
        data = storage.read_if_there(output.file(name))
        if data is None:
            yield Fault(name=f"data/{name}", what="is missing", remove=(record,), unit=unit.id)
        elif hashlib.sha256(data).hexdigest() != expected:
            what, remove = "is harmed: its sha256 is not the one of its unit", (record, f"data/{name}")
            yield Fault(name=f"data/{name}", what=what, remove=remove, unit=unit.id)


def compare_with_source(
    unit: Unit,
    keys: pa.ChunkedArray,
    quarantined: Sequence[Mapping[str, Any]],
    filtered: Sequence[str],
    skipped: int,
) -> Iterator[str]:
    """Yield why the source keys of a unit's rows and quarantined rows are not the inputs that its source has.

    `filtered` are the keys of those of the skipped rows that the account names. Inputs quarantined because they had
    changed are left out of the comparison; changed files that this output did not want do not matter.
    """
    gone = {row["source_shard"] for row in quarantined if row["reason"] == CHANGED}
    ranges = [planned for planned in unit.ranges if planned.shard not in gone]
    try:
        left, changed = read_unchanged_rows(ranges, pa.schema([]), [])
    except (SourceChangedError, StorageError, OSError) as error:
        yield f"cannot be compared with its source: {error}"
        return
    aside = [row["key"] for row in quarantined if row["reason"] != CHANGED]
    accounted = Counter([*keys.to_pylist(), *aside, *filtered])
    skipped -= len(filtered)
    for key, planned, why in changed:
        if key in accounted or not form_of_ranges([planned]).names_are_keys:
            yield f"cannot be compared with its source: {why}"
            return
    expected = Counter(left["key"].to_pylist())
    missing, strange = expected - accounted, accounted - expected
    lost = missing.total() - (skipped - len(changed))
    if lost or strange:
        yield (
            f"does not hold its inputs: {lost} lost, {strange.total()} strange"
            + (f"; not accounted for are {', '.join(map(str, list(missing)[:3]))} …" if missing and not skipped else "")
        )
