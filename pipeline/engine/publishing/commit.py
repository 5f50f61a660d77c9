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
import io
import json
import os
import socket
import time
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import failpoints, storage
from pipeline.cluster.watchdog import got_on
from pipeline.engine.records.account import (
    COUNTS,
    FOOTER_KEY,
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
from pipeline.stores import naming, parquet
from pipeline.stores.mark import FORMAT_VERSION

REMEDY = "`jobs.verify --repair` removes what is not of this output's making, and the same command then goes on"


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
    failpoints.point("before data")
    if sink.form == "parquet":
        account, data = _publish_shard(output, batch, mine)
    else:
        account, data = _publish_folder(output, sink, batch, mine)
    failpoints.point("after data")
    quarantine = _publish_quarantine(output, account)
    failpoints.point("after quarantine")
    _publish_commit(output, account, data, quarantine, started)
    failpoints.point("after commit")
    return account


def _publish_shard(output: Output, batch: Batch, mine: Account) -> tuple[Account, Published]:
    url = output.shard(batch.unit)
    data = parquet.encode_shard(batch.rows, {FOOTER_KEY: encode_account(mine)})
    if storage.create(url, data):
        return mine, _published(output, url, data)
    account, data = _adopt(url, mine)
    return account, _published(output, url, data)


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
        account, verdict = _adopt(url, mine)
        columns = pq.read_table(
            io.BytesIO(verdict), columns=["key", "file_name", "sha256"], page_checksum_verification=True
        )
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
        raise ConflictError(f"{url} holds another picture; {REMEDY}")
    failpoints.point("after image")


def _adopt(url: str, mine: Account) -> tuple[Account, bytes]:
    """The account of the shard that was there first, and the shard, after all of it was read."""
    data = storage.read(url)
    theirs, rows = read_account(url, data)
    if (theirs.unit, theirs.fingerprint, theirs.inputs) != (mine.unit, mine.fingerprint, mine.inputs):
        raise ConflictError(f"{url} belongs to unit {theirs.unit} of another recipe; {REMEDY}")
    if rows != theirs.ok:
        raise ConflictError(f"{url} holds {rows} rows, its account says {theirs.ok}; {REMEDY}")
    return theirs, data


def read_account(url: str, data: bytes) -> tuple[Account, int]:
    """The account that the shard `data` carries, and its number of rows, after all of it was read.

    Raises ConflictError naming `url` where it is damaged, or no shard that a job wrote.
    """
    try:
        shard = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
        rows = sum(len(batch) for batch in shard.iter_batches(batch_size=256))
        text = (shard.metadata.metadata or {}).get(FOOTER_KEY.encode())
        if text is None:
            raise ConflictError(f"{url} is taken by a file that no job wrote; {REMEDY}")
        return decode_account(text.decode()), rows
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise ConflictError(f"{url} is damaged ({one_line(error)}); {REMEDY}") from error


def _publish_quarantine(output: Output, account: Account) -> Published | None:
    if not account.rejected:
        return None
    url = output.quarantine(account.unit)
    data = parquet.encode_shard(quarantine_rows(account), {FOOTER_KEY: encode_account(account)})
    if not storage.create(url, data):
        data = storage.read(url)
        theirs, rows = read_account(url, data)
        if theirs != account or rows != len(account.rejected):
            raise ConflictError(f"{url} is not the quarantine of unit {account.unit} as it is here; {REMEDY}")
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
    url = output.commit(account.unit)
    if not storage.create(url, json.dumps(record, indent=1, sort_keys=True).encode()):
        theirs = decode_commit(url, storage.read(url))
        if theirs | {"attempt": None} != record | {"attempt": None}:
            raise ConflictError(f"{url} is not the commit of unit {account.unit} as it is here; {REMEDY}")


def decode_commit(url: str, data: bytes) -> dict[str, Any]:
    """A commit record. Raises ConflictError naming `url` where it is none of this format, or is damaged."""
    try:
        record = json.loads(data)
        if record["format"] != FORMAT_VERSION:
            raise ConflictError(f"{url} has format {record['format']}; this version reads format {FORMAT_VERSION}")
        counted, attempt = record["counts"], record["attempt"]
        whole = (
            all(isinstance(record[name], str) for name in ("unit", "fingerprint"))
            and all(isinstance(counted[name], int) and counted[name] >= 0 for name in COUNTS)
            and counted["ok"] + counted["quarantined"] + counted["skipped"] == counted["inputs"]
            and all(_is_published(record[kind]) for kind in ("data", "quarantine"))
            and record["data"] is not None
            and (record["quarantine"] is None) == (counted["quarantined"] == 0)
            and all(isinstance(attempt[name], float | int) for name in ("started", "ended"))
            and isinstance(attempt["host"], str)
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
