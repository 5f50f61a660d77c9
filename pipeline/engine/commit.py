"""Publish one unit: data, quarantine, commit record, in this order, each created exclusively.

Whatever two attempts at a unit do, each name has one content: who finds a name taken reads what is there, checks that
it is of this unit and this recipe, and goes on with that. The data object carries the unit's account, from which
quarantine and commit are derived, so that a crash between any two writes is mended by whoever comes next.

A folder of images has no single object. There the *verdict* stands for it: a shard without pictures (keys, columns and
the sha256 of every file to come) with the account in its footer, created exclusively before the first picture. Who
finds a verdict publishes exactly the files that it names, or fails the unit.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from pipeline import storage
from pipeline.engine import crash
from pipeline.engine.account import (
    FOOTER_KEY,
    Account,
    Batch,
    account_of,
    counts,
    decode_account,
    encode_account,
    quarantine_rows,
)
from pipeline.engine.plan import FORMAT_VERSION
from pipeline.engine.record import Output
from pipeline.engine.watchdog import got_on
from pipeline.stores import naming, parquet


class ConflictError(Exception):
    """A name of this unit holds something that this unit, made under this recipe, cannot have written."""


class Published(NamedTuple):
    """An object as it stands in the output."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Sink:
    """Where the rows of a job go: Parquet shards, or a folder of files with this extension."""

    form: Literal["parquet", "folder"] = "parquet"
    extension: str = ""
    column: str = "image"
    """The column whose bytes become the files of a folder."""


def publish(output: Output, sink: Sink, batch: Batch, fingerprint: str, started: float) -> Account:
    """Publish a finished batch and return the unit's account: the batch's own, or the one that was there first.

    `started` is when work on the unit began (seconds of time.time()). Raises ConflictError where a name is taken by
    something else, StorageError where the store fails.
    """
    mine = account_of(batch, fingerprint)
    crash.point("before data")
    if sink.form == "parquet":
        account, data = _publish_shard(output, batch, mine)
    else:
        account, data = _publish_folder(output, sink, batch, mine)
    crash.point("after data")
    quarantine = _publish_quarantine(output, account)
    crash.point("after quarantine")
    _publish_commit(output, account, data, quarantine, started)
    crash.point("after commit")
    return account


def _publish_shard(output: Output, batch: Batch, mine: Account) -> tuple[Account, Published]:
    url = output.shard(batch.unit)
    data = parquet.encode_shard(batch.rows, {FOOTER_KEY: encode_account(mine)})
    if storage.create(url, data):
        return mine, _published(output, url, data)
    return _adopt(url, mine), _published(output, url, storage.read(url))


def _publish_folder(output: Output, sink: Sink, batch: Batch, mine: Account) -> tuple[Account, Published]:
    files = dict(
        zip(batch.rows["key"].to_pylist(), batch.rows[sink.column].combine_chunks().field("bytes"), strict=True)
    )
    hashes = [hashlib.sha256(files[key].as_buffer()).hexdigest() for key in files]
    names = [naming.file_name(key, sink.extension) for key in files]
    for name in names:
        output.file(name)  # a key that could leave the prefix is refused before anything is written
    columns = batch.rows.drop_columns(sink.column)
    columns = columns.append_column("file_name", pa.array(names, pa.string()))
    columns = columns.append_column("sha256", pa.array(hashes, pa.string()))
    url = output.verdict(batch.unit.id)
    verdict = parquet.encode_shard(columns, {FOOTER_KEY: encode_account(mine)})
    account = mine
    if not storage.create(url, verdict):
        account, verdict = _adopt(url, mine), storage.read(url)
        columns = parquet.read_columns(url, ["key", "file_name", "sha256"])
    for key, name, sha256 in zip(*(columns[c].to_pylist() for c in ("key", "file_name", "sha256")), strict=True):
        if key in files:
            _publish_file(output.file(name), files[key].as_py(), sha256)
            got_on()
        elif hashlib.sha256(storage.read_if_there(output.file(name)) or b"").hexdigest() != sha256:
            raise ConflictError(
                f"{url} says that {key} is fine, but it could not be made this time; put it back, or use another output"
            )
    return account, _published(output, url, verdict)


def _publish_file(url: str, data: bytes, sha256: str) -> None:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ConflictError(f"{url} came out differently from what the unit's verdict recorded")
    if not storage.create(url, data) and hashlib.sha256(storage.read(url)).hexdigest() != sha256:
        raise ConflictError(f"{url} holds another picture")
    crash.point("after image")


def _adopt(url: str, mine: Account) -> Account:
    """The account of the object that was there first."""
    text, rows = parquet.read_footer(url, FOOTER_KEY)
    if text is None:
        raise ConflictError(f"{url} is taken by a file that no job wrote; move it away")
    theirs = decode_account(text)
    if (theirs.unit, theirs.fingerprint, theirs.inputs) != (mine.unit, mine.fingerprint, mine.inputs):
        raise ConflictError(
            f"{url} belongs to unit {theirs.unit} of another recipe; move it away or use another output"
        )
    if rows != theirs.ok:
        raise ConflictError(f"{url} holds {rows} rows, its account says {theirs.ok}; move it away")
    return theirs


def _publish_quarantine(output: Output, account: Account) -> Published | None:
    if not account.rejected:
        return None
    url = output.quarantine(account.unit)
    data = parquet.encode_shard(quarantine_rows(account), {FOOTER_KEY: encode_account(account)})
    if not storage.create(url, data):
        data = storage.read(url)
    return _published(output, url, data)


def _publish_commit(
    output: Output, account: Account, data: Published, quarantine: Published | None, started: float
) -> None:
    record: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "unit": account.unit,
        "fingerprint": account.fingerprint,
        "counts": counts(account),
        "data": data._asdict(),
        "quarantine": quarantine._asdict() if quarantine else None,
        # what may differ between attempts stands here and nowhere else
        "attempt": {"host": socket.gethostname(), "pid": os.getpid(), "started": started, "ended": time.time()},
    }
    storage.create(output.commit(account.unit), json.dumps(record, indent=1, sort_keys=True).encode())


def _published(output: Output, url: str, data: bytes) -> Published:
    return Published(url[len(output.url) :].lstrip("/"), len(data), hashlib.sha256(data).hexdigest())
