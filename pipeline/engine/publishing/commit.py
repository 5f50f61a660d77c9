"""Publishing of one unit: data, quarantine, commit record, in this order, each created exclusively.

Each name has one content, whatever two attempts at a unit do. An attempt that finds a name taken reads the object,
checks that it is of this unit and this recipe, and goes on with it. The data object carries the unit's account, from
which quarantine and commit are derived. So the next attempt repairs a crash between any two writes.

A folder of images has no single object. There the *verdict* stands in for it: a shard without images (keys, columns and
the sha256 of every file to come) with the account in its footer, created exclusively before the first image. An attempt
that finds a verdict publishes exactly the files that it names, or fails the unit. The store form says which is which.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline import failpoints, storage
from pipeline.cluster.watchdog import made_progress
from pipeline.engine.records.account import (
    COUNTS,
    FOOTER_KEY,
    FURTHER,
    Account,
    Batch,
    account_of,
    counts,
    decode_account,
    encode_account,
    quarantine_rows,
)
from pipeline.engine.records.layout import Output
from pipeline.errors import one_line
from pipeline.stores.forms.form import WritableForm
from pipeline.stores.forms.parquet import Parquet
from pipeline.stores.forms.shard import encode_shard
from pipeline.stores.mark import FORMAT_VERSION
from pipeline.usage import NOTHING, Usage

QUARANTINE = Parquet()
"""Form of the objects with quarantined rows, whatever that of the others."""
REMEDY = "`jobs.verify --repair` removes what is not of this output's making, and the same command then goes on"


class ConflictError(Exception):
    """Content under a name of this unit that this unit, made by this recipe, cannot have written."""


class Published(NamedTuple):
    """Object of the output, as it was published."""

    name: str
    size: int
    sha256: str


class Span(NamedTuple):
    """Time that a unit was in one stage, in seconds of time.time() on the machine that worked on it."""

    name: str
    started: float
    ended: float


@dataclass(frozen=True)
class Sink:
    """Form in which a job's rows are published."""

    form: WritableForm = Parquet()
    extension: str = ""
    """Ending of the files, without a dot, where each row is a file; empty where keys and contents have their own, and
    naming.OF_CONTENT where contents have it whatever the keys."""
    column: str = "image"
    """Column whose images these files hold."""


def publish(
    output: Output,
    sink: Sink,
    batch: Batch,
    fingerprint: str,
    started: float,
    used: Usage = NOTHING,
    spans: Sequence[Span] = (),
) -> Account:
    """Publish a finished batch; return the unit's account: the batch's own, or the one that was there first.

    `started` is when work on the unit began (seconds of time.time()), `used` what was used for it, and `spans` when it
    was in each stage; the last one ends with the commit. Raises
    ConflictError where a name is taken by something else, StorageError where the store fails.
    """
    mine = account_of(batch, fingerprint)
    failpoints.point("before data")
    account, data = _publish_data(output, sink, batch, mine)
    failpoints.point("after data")
    quarantine = _publish_quarantine(output, account)
    failpoints.point("after quarantine")
    _publish_commit(output, account, data, quarantine, started, used, spans)
    failpoints.point("after commit")
    return account


def _publish_data(output: Output, sink: Sink, batch: Batch, mine: Account) -> tuple[Account, Published]:
    """Create the object that stands for the unit, or adopt the one that is there, and then the files that it lists."""
    data, files = sink.form.encode(batch.rows, {FOOTER_KEY: encode_account(mine)}, sink.column, sink.extension)
    listed = sink.form.files(data)
    for file in listed:
        output.file(file.name)  # refuse keys that could leave the prefix before anything is written
    url, account = output.data(batch.unit, sink.form), mine
    if not storage.create(url, data):
        account, data = _adopt(url, sink.form, mine)
        listed = sink.form.files(data)
    for key, name, sha256 in listed:
        if key in files:
            _publish_file(output.file(name), files[key].to_pybytes(), sha256)
            made_progress(0)  # the row was counted when it was encoded
        elif hashlib.sha256(storage.read_if_there(output.file(name)) or b"").hexdigest() != sha256:
            raise ConflictError(
                f"{url} says that {key} is fine, but it could not be made this time; put it back, or use another output"
            )
    return account, _published(output, url, data)


def _publish_file(url: str, data: bytes, sha256: str) -> None:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ConflictError(f"{url} came out differently from what the unit's verdict recorded")
    if not storage.create(url, data) and hashlib.sha256(storage.read(url)).hexdigest() != sha256:
        raise ConflictError(f"{url} holds another picture; {REMEDY}")
    failpoints.point("after image")


def _adopt(url: str, form: WritableForm, mine: Account) -> tuple[Account, bytes]:
    """Read the whole object that was there first; return its account and its bytes."""
    data = storage.read(url)
    theirs, rows = read_account(url, data, form)
    if (theirs.unit, theirs.fingerprint, theirs.inputs) != (mine.unit, mine.fingerprint, mine.inputs):
        raise ConflictError(f"{url} belongs to unit {theirs.unit} of another recipe; {REMEDY}")
    if rows != theirs.ok:
        raise ConflictError(f"{url} holds {rows} rows, its account says {theirs.ok}; {REMEDY}")
    return theirs, data


def read_account(url: str, data: bytes, form: WritableForm) -> tuple[Account, int]:
    """Read the whole object `data`; return the account that it carries, and its number of rows.

    Raises ConflictError, naming `url`, where it is damaged, or is not an object that a job wrote.
    """
    try:
        notes, rows = form.check(data)
        if FOOTER_KEY not in notes:
            raise ConflictError(f"{url} is taken by a file that no job wrote; {REMEDY}")
        return decode_account(notes[FOOTER_KEY]), rows
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise ConflictError(f"{url} is damaged ({one_line(error)}); {REMEDY}") from error


def _publish_quarantine(output: Output, account: Account) -> Published | None:
    if not account.quarantined:
        return None
    url = output.quarantine(account.unit)
    data = encode_shard(quarantine_rows(account), {FOOTER_KEY: encode_account(account.of_quarantine)})
    if not storage.create(url, data):
        data = storage.read(url)
        theirs, rows = read_account(url, data, QUARANTINE)
        if theirs != account.of_quarantine or rows != len(account.quarantined):
            raise ConflictError(f"{url} is not the quarantine of unit {account.unit} as it is here; {REMEDY}")
    return _published(output, url, data)


def _publish_commit(
    output: Output,
    account: Account,
    data: Published,
    quarantine: Published | None,
    started: float,
    used: Usage,
    spans: Sequence[Span],
) -> None:
    ended = time.time()
    stages = [each._asdict() | {"ended": ended if each is spans[-1] else each.ended} for each in spans]
    computed = {"device_s": used.device_s, "flop": used.flop} if used.device_s else {}
    record: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "unit": account.unit,
        "fingerprint": account.fingerprint,
        "counts": counts(account),
        "data": data._asdict(),
        "quarantine": quarantine._asdict() if quarantine else None,
        **({"notes": dict(account.notes)} if account.notes else {}),
        # all that may differ between attempts is here and nowhere else
        "attempt": {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": started,
            "ended": ended,
            **computed,
            **({"stages": stages} if stages else {}),
        },
    }
    url = output.commit(account.unit)
    if not storage.create(url, json.dumps(record, indent=1, sort_keys=True).encode()):
        theirs = decode_commit(url, storage.read(url))
        if theirs | {"attempt": None} != record | {"attempt": None}:
            raise ConflictError(f"{url} is not the commit of unit {account.unit} as it is here; {REMEDY}")


def decode_commit(url: str, data: bytes) -> dict[str, Any]:
    """Decode a commit record. Raises ConflictError, naming `url`, where it is damaged, or not of this format."""
    try:
        record = json.loads(data)
        if record["format"] != FORMAT_VERSION:
            raise ConflictError(f"{url} has format {record['format']}; this version reads format {FORMAT_VERSION}")
        counted, attempt = record["counts"], record["attempt"]
        whole = (
            all(isinstance(record[name], str) for name in ("unit", "fingerprint"))
            and all(isinstance(counted[name], int) and counted[name] >= 0 for name in COUNTS)
            and sum(counted[name] for name in COUNTS[1:]) == counted["inputs"] + counted.get(FURTHER, 0)
            and all(isinstance(count, int) for count in record.get("notes", {}).values())
            and all(_is_published(record[kind]) for kind in ("data", "quarantine"))
            and record["data"] is not None
            and (record["quarantine"] is None) == (counted["quarantined"] == 0)
            and all(isinstance(attempt[name], float | int) for name in ("started", "ended"))
            and isinstance(attempt["host"], str)
            and all(
                isinstance(each["name"], str)
                and all(isinstance(each[name], float | int) for name in ("started", "ended"))
                for each in attempt.get("stages", ())
            )
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConflictError(f"{url} is no commit record ({one_line(error)}); {REMEDY}") from error
    if not whole:
        raise ConflictError(f"{url} is no whole commit record; {REMEDY}")
    return record


def _is_published(fields: Any) -> bool:
    return fields is None or (
        [type(fields[name]) for name in Published._fields] == [str, int, str] and len(fields["sha256"]) == 64
    )


def _published(output: Output, url: str, data: bytes) -> Published:
    return Published(url[len(output.url) :].lstrip("/"), len(data), hashlib.sha256(data).hexdigest())
